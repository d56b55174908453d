//! Owns files that go with messages, at the node that a client talks to: how they come in, what they are, and how they go out. Does not
//! keep them: the session's shard does. Invariant: what a browser may show was made anew here, pixel by pixel; everything else is only
//! ever saved.

/// From whoever uploads to the session's shard.
mod name;
mod picture;
mod upload;

/// From there to whoever reads.
mod address;
mod serve;

pub use address::for_client;
pub use upload::{UploadQuery, Uploaded, Uploads, of_agent};

use crate::admin::problem::Problem;
use crate::admin::sessions::call_shard;
use crate::api::conversations::done;
use crate::run::App;
use actix_web::ResponseError;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{self, ServiceConfig};
use proto::attachment::AttachmentState;
use proto::command::{Target, TokenHash};
use proto::ids::{AttachmentId, SessionId};
use proto::peer::{Refused, ShardCall, ShardReply};

/// Puts the routes that visitors and browsers use on the clients' listener; those of a site's people alone are in the table of the API.
pub fn configure(config: &mut ServiceConfig) {
    let refuse = |method: &'static str| move || async move { only(method) };
    let (_, _, query, path) = crate::admin::limits();
    let resource = web::resource("/v1/attachments").app_data(query.clone());
    config.service(resource.route(web::post().to(upload::of_visitor)).default_service(web::to(refuse("POST"))));
    let reads = [
        ("/v1/images/{session}/{attachment}", web::get().to(serve::image)),
        ("/v1/images/{session}/{attachment}/thumbnail", web::get().to(serve::thumbnail)),
        ("/v1/files/{session}/{attachment}", web::get().to(serve::file)),
    ];
    for (at, route) in reads {
        let resource = web::resource(at).app_data(query.clone()).app_data(path.clone());
        config.service(resource.route(route).default_service(web::to(refuse("GET"))));
    }
}

pub(crate) fn only(method: &'static str) -> actix_web::HttpResponse {
    let status = actix_web::http::StatusCode::METHOD_NOT_ALLOWED;
    let mut response = Problem::new(status, format!("use {method}")).error_response();
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(method));
    response
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn unauthorized() -> Problem {
    let detail = "a valid bearer token, or an address that is signed and not too old, is needed";
    Problem::new(actix_web::http::StatusCode::UNAUTHORIZED, detail)
}

fn unknown() -> Problem {
    Problem::not_found("no such attachment")
}

/// What the session's leader knows of a finished attachment; `None`: there is none. `token`: it must be the visitor's.
/// # Errors
/// It is not the visitor's, or the leader cannot be asked.
pub(crate) async fn look(
    app: &App,
    session: SessionId,
    attachment: AttachmentId,
    token: Option<TokenHash>,
) -> Result<Option<AttachmentState>, Problem> {
    let shard = app.cluster.router.shard_of(Target::Session(session));
    match call_shard(app, shard, ShardCall::Attachment { session, attachment, token }).await {
        ShardReply::Attachment(state) => Ok(Some(*state)),
        ShardReply::Refused(Refused::AttachmentInvalid) => Ok(None),
        ShardReply::Refused(Refused::BadToken | Refused::UnknownSession) if token.is_some() => Err(unauthorized()),
        ShardReply::Refused(Refused::UnknownSession) => Ok(None),
        other => done(other).and(Err(crate::admin::unexpected())),
    }
}
