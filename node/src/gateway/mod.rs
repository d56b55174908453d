//! Owns the HTTP side for clients: visitors, logins, the page, the upgrade. Does not own sockets.
//! Invariant: every refusal is `{"error":{"code","message"}}` with the status of its code.

mod login;
mod visitors;

use crate::{connection, health};
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use proto::client::limits::HTTP_BODY_BYTES_MAX;
use proto::client::{ErrorCode, ErrorInfo};

/// An error as its answer.
pub fn refuse_with(info: &ErrorInfo<'_>) -> HttpResponse {
    let status = StatusCode::from_u16(info.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status).json(serde_json::json!({ "error": info }))
}

pub fn refuse(code: ErrorCode, message: &'static str) -> HttpResponse {
    refuse_with(&ErrorInfo::new(code, message))
}

/// The routes of the client listener.
pub fn routes(config: &mut ServiceConfig) {
    let json = web::JsonConfig::default().limit(HTTP_BODY_BYTES_MAX).error_handler(|error, _| json_error(&error));
    config
        .app_data(json)
        .app_data(web::PayloadConfig::new(HTTP_BODY_BYTES_MAX))
        .service(
            web::resource("/v1/sites/{site}/visitors")
                .route(web::post().to(visitors::create))
                .default_service(only("use POST")),
        )
        .service(
            web::resource("/v1/agents/login").route(web::post().to(login::login)).default_service(only("use POST")),
        )
        .service(web::resource("/v1/ws").route(web::get().to(connection::upgrade)).default_service(only("use GET")))
        .route("/health/live", web::get().to(health::live))
        .route("/health/ready", web::get().to(health::ready))
        .route("/metrics", web::get().to(health::metrics))
        .route("/", web::get().to(home))
        .route("/demo", web::get().to(page))
        .route("/demo/{file}", web::get().to(page))
        .default_service(web::to(|| async { refuse(ErrorCode::NotFound, "no such path") }));
}

fn only(message: &'static str) -> actix_web::Route {
    web::to(move || async move { refuse(ErrorCode::MethodNotAllowed, message) })
}

fn json_error(error: &actix_web::error::JsonPayloadError) -> actix_web::Error {
    use actix_web::error::JsonPayloadError as E;
    let response = match error {
        E::ContentType => refuse(ErrorCode::UnsupportedMedia, "the body must be application/json"),
        E::Overflow { .. } | E::OverflowKnownLength { .. } => refuse(ErrorCode::TooLarge, "the body is too large"),
        E::Deserialize(error) if error.is_data() => {
            refuse(ErrorCode::BadRequest, "a field is missing or of the wrong type")
        }
        _ => refuse(ErrorCode::Malformed, "the body is not JSON"),
    };
    actix_web::error::InternalError::from_response("refused", response).into()
}

async fn home() -> HttpResponse {
    HttpResponse::Found().insert_header((header::LOCATION, "/demo")).finish()
}

async fn page(request: HttpRequest) -> HttpResponse {
    match web_assets(request.path()) {
        Some(asset) => HttpResponse::Ok()
            .content_type(asset.content_type)
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((header::REFERRER_POLICY, "no-referrer"))
            .insert_header((header::CONTENT_SECURITY_POLICY, "default-src 'self'; connect-src 'self' ws: wss:"))
            .body(asset.bytes),
        None => refuse(ErrorCode::NotFound, "no such path"),
    }
}

fn web_assets(path: &str) -> Option<::web::Asset> {
    ::web::asset(path)
}
