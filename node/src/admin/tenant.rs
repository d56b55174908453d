//! Owns whose desk a request is about: the site of a path for operators, the site of the credential for everybody else. Does not know
//! roles. Invariant: what a credential is of, no path can change.

use super::desk::site_of;
use super::problem::Problem;
use crate::api::Caller;
use crate::run::App;
use actix_web::dev::Payload;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use proto::ids::SiteId;
use std::future::{Ready, ready};

/// The site that a handler works on.
#[derive(Debug, Clone, Copy)]
pub struct Tenant(pub SiteId);

impl FromRequest for Tenant {
    type Error = Problem;
    type Future = Ready<Result<Tenant, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        if let Some(caller) = request.extensions().get::<Caller>() {
            return ready(Ok(Tenant(caller.site)));
        }
        let no_site = || Problem::not_found("no such site");
        let app = request.app_data::<Data<App>>();
        let found = request.match_info().get("site").zip(app).ok_or_else(no_site);
        ready(found.and_then(|(name, app)| site_of(app, name)).map(Tenant))
    }
}
