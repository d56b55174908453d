//! Owns the API of a site, for its people and for other systems: one table of routes, and what each does. Does not own the state that it
//! shows. Invariant: the site is that of the credential, and a route does no more than the credential allows.

/// Who asks, and what they may do.
mod access;
mod guard;

/// Texts and actions that a site keeps.
mod attributes;
mod blocklist;
mod canned;
pub(crate) mod conversations;
mod deeds;
mod invitations;
mod keys;
mod macros;
mod mail;
mod online;
mod people;
mod report_rows;
mod reports;
mod search;
mod seat;
mod shelf;
mod site;
mod table;
mod table_of_reports;
mod table_of_seats;
mod table_of_visitors;
pub(crate) mod transcript;
mod triggers;
pub(crate) mod variables;
mod views;
mod visitors;

pub use access::{Access, Caller, SCOPES, Scope, Who, role_name};
pub use guard::caller_of;
pub use online::{OnlineAsk, OnlineFound, on_this_node};
pub use seat::{SeatOfMine, seat_here};
pub use table::table;

use crate::admin::limits;
use crate::admin::openapi::of_table;
use crate::admin::route::resources;
use actix_web::HttpResponse;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use std::sync::LazyLock;
use utoipa::openapi::OpenApi;

/// The whole document.
pub fn document() -> OpenApi {
    let about = "The site is that of the token: of an agent who logged in (POST /v1/agents/login), or of a key. See docs/REST.md.";
    of_table("Everdesk API", about, &table(), |route| route.access.sentence())
}

/// Made when somebody asks for it.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_json().expect("the document is plain data"));

/// Puts the routes of the table and the document on the clients' listener.
pub fn configure(config: &mut ServiceConfig) {
    for resource in resources(&table()) {
        let (json, payload, query, path) = limits();
        let resource = resource.app_data(json).app_data(payload).app_data(query).app_data(path);
        config.service(resource.wrap(from_fn(guard::guard)));
    }
    let document = || async { HttpResponse::Ok().content_type("application/json").body(DOCUMENT.as_str()) };
    config.route("/v1/openapi.json", web::get().to(document));
}
