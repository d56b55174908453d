//! Owns the API of a site, for its people and for other systems: one table of routes, and what each does. Does not own the state that it
//! shows. Invariant: the site is that of the credential, and a route does no more than the credential allows.

/// Who asks, and what they may do.
mod access;
mod guard;

/// Texts and actions that a site keeps.
mod canned;
mod conversations;
mod deeds;
mod keys;
mod macros;
mod people;
mod shelf;
mod table;
mod transcript;
mod variables;

pub use access::{Access, Caller, SCOPES, Scope, Who};
pub use table::table;

use crate::admin::only;
use crate::admin::openapi::of_table;
use crate::admin::problem::{self, Problem};
use actix_web::HttpResponse;
use actix_web::middleware::from_fn;
use actix_web::web::{self, JsonConfig, PathConfig, PayloadConfig, QueryConfig, ServiceConfig};
use utoipa::openapi::OpenApi;

/// Longest body, in bytes: the rules of a site with all its routes.
const BODY_BYTES_MAX: usize = crate::admin::BODY_BYTES_MAX;

/// The whole document.
pub fn document() -> OpenApi {
    let about = "The site is that of the token: of an agent who logged in (POST /v1/agents/login), or of a key. See docs/REST.md.";
    of_table("Everdesk API", about, &table(), |route| route.access.sentence())
}

/// Puts the routes of the table and the document on the clients' listener.
pub fn configure(config: &mut ServiceConfig) {
    let table = table();
    let mut paths: Vec<&'static str> = Vec::new();
    for route in &table {
        if !paths.contains(&route.path) {
            paths.push(route.path);
        }
    }
    for path in paths {
        let mut resource = web::resource(path)
            .app_data(
                JsonConfig::default().limit(BODY_BYTES_MAX).error_handler(|error, _| problem::of_body(&error).into()),
            )
            .app_data(PayloadConfig::new(BODY_BYTES_MAX))
            .app_data(QueryConfig::default().error_handler(|error, _| Problem::bad_request(error.to_string()).into()))
            .app_data(PathConfig::default().error_handler(|_, _| Problem::not_found("no such path").into()));
        let mut methods = Vec::new();
        for route in table.iter().filter(|route| route.path == path) {
            resource = resource.route((route.handler)());
            methods.push(route.method.name());
        }
        config.service(resource.default_service(only(methods)).wrap(from_fn(guard::guard)));
    }
    let text = document().to_json().expect("the document is plain data");
    let document = move || {
        let text = text.clone();
        async move { HttpResponse::Ok().content_type("application/json").body(text) }
    };
    config.route("/v1/openapi.json", web::get().to(document));
}
