//! Owns the admin API of one node: one table of routes, and what each does. Does not own the state that it shows.
//! Invariant: nothing of the cluster is told without a token, and a route does no more than the token's role allows.

mod guard;
mod hours;
pub(crate) mod once;
pub mod openapi;
pub(crate) mod problem;
pub(crate) mod route;
mod table;
mod tenant;

pub(crate) mod accounts;
pub(crate) mod ask;
pub(crate) mod audit;
mod backups;
pub(crate) mod desk;
mod drills;
pub(crate) mod events;
pub(crate) mod fuzzing;
mod log;
mod message_trace;
pub(crate) mod move_session;
mod nodes;
mod profile;
pub(crate) mod sessions;
pub mod settings;
mod shards;
mod sockets;
pub(crate) mod tokens;
mod upgrade;
pub(crate) mod webhooks;

pub use ask::answer;
pub use audit::AuditView;
pub use guard::guard;
pub use route::{Method, Route, role_name};
pub use table::table;
pub(crate) use tenant::Tenant;

use crate::egress::Allowed;
use crate::run::App;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, Json, JsonConfig, PathConfig, PayloadConfig, QueryConfig, ServiceConfig};
use actix_web::{HttpResponse, ResponseError};
use problem::Problem;
use proto::command::MetaCommand;
use proto::peer::MetaReply;
use std::time::Duration;

/// Longest wait for the meta group.
const META_WITHIN: Duration = Duration::from_secs(10);
/// Longest body, in bytes: the rules of a site with all its routes.
pub const BODY_BYTES_MAX: usize = 256 << 10;

/// Streams of events that all sites together read from one node.
const SITE_STREAMS_MAX: usize = 1_000;

/// What the routes of one node share.
pub struct Shared {
    allow_drills: bool,
    profiling: tokio::sync::Mutex<()>,
    drills: drills::Drills,
    watchers: std::sync::Arc<tokio::sync::Semaphore>,
    /// Streams of events that sites read.
    site_streams: std::sync::Arc<tokio::sync::Semaphore>,
    /// Where webhooks may go.
    allowed: std::sync::Arc<Allowed>,
}

impl Shared {
    pub fn new(allow_drills: bool, allowed: std::sync::Arc<Allowed>) -> Shared {
        Shared {
            allow_drills,
            profiling: tokio::sync::Mutex::default(),
            drills: drills::Drills::default(),
            watchers: std::sync::Arc::new(tokio::sync::Semaphore::new(settings::WATCHERS_MAX)),
            site_streams: std::sync::Arc::new(tokio::sync::Semaphore::new(SITE_STREAMS_MAX)),
            allowed,
        }
    }
}

/// What a handler answers.
pub(crate) type Answer<T> = Result<Json<T>, Problem>;

/// Puts the routes of the table, the document and its page on a listener.
pub fn configure(config: &mut ServiceConfig) {
    let (json, payload, query, path) = limits();
    config.app_data(json).app_data(payload).app_data(query).app_data(path);
    for resource in route::resources(&table()) {
        config.service(resource);
    }
    config.route("/docs", web::get().to(|| async { to_docs() }));
    config.service(utoipa_swagger_ui::SwaggerUi::new("/docs/{_:.*}").url("/openapi.json", openapi::document()));
    config.default_service(web::to(|| async { Problem::not_found("no such path").error_response() }));
}

/// How bodies, queries and paths are read, and what is said of those that cannot be.
pub(crate) fn limits() -> (JsonConfig, PayloadConfig, QueryConfig, PathConfig) {
    (
        JsonConfig::default().limit(BODY_BYTES_MAX).error_handler(|error, _| problem::of_body(&error).into()),
        PayloadConfig::new(BODY_BYTES_MAX),
        QueryConfig::default().error_handler(|error, _| Problem::bad_request(error.to_string()).into()),
        PathConfig::default().error_handler(|_, _| Problem::not_found("no such path").into()),
    )
}

fn to_docs() -> HttpResponse {
    HttpResponse::TemporaryRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

fn only(methods: Vec<&'static str>) -> actix_web::Route {
    let methods = methods.join(", ");
    web::to(move || {
        let methods = methods.clone();
        async move {
            let detail = format!("use {}", methods.replace(", ", " or "));
            let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).error_response();
            let allowed = HeaderValue::from_str(&methods).expect("names of methods are plain text");
            response.headers_mut().insert(header::ALLOW, allowed);
            response
        }
    })
}

/// Has the meta group carry out a command.
pub(crate) async fn propose(app: &App, command: MetaCommand) -> Result<MetaReply, Problem> {
    let node = app.cluster.clone();
    match app.on_raft(async move { node.meta_propose(command, META_WITHIN).await }).await {
        Some(MetaReply::Refused { reason }) => Err(Problem::refused(reason)),
        Some(MetaReply::Unknown | MetaReply::NotLeader { .. }) | None => {
            Err(Problem::unavailable("the meta group has no leader just now, try again"))
        }
        Some(reply) => Ok(reply),
    }
}

/// Lets this node's replica of the meta state hear of what was acknowledged elsewhere, where that decides what may be done.
pub(crate) async fn catch_up(app: &App) {
    let node = app.cluster.clone();
    // Without a leader of meta nothing will be decided either.
    let _ = app.on_raft(async move { node.meta_catch_up(META_WITHIN).await }).await;
}

/// Reads this node's replica of the meta state.
pub(crate) fn read_meta<T>(app: &App, read: impl FnOnce(&cluster::meta::MetaState) -> T) -> Result<T, Problem> {
    app.cluster.with_meta(read).ok_or_else(|| Problem::unavailable("this node has no replica of the meta group yet"))
}

pub(crate) fn unexpected() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the meta group gave an unexpected answer")
}
