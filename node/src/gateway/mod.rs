//! Owns the HTTP side for clients: visitors, logins, the page, the upgrade. Does not own sockets.
//! Invariant: every refusal is problem+json, with the `error` of a socket in it, and has the status of its code.

mod login;
mod login_limit;
mod visitors;

pub use login::new_token;
pub use login_limit::LoginLimit;
pub use visitors::{new_visitor, session_of};

use crate::admin::problem::PROBLEM_JSON;
use crate::{connection, health};
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use proto::client::limits::HTTP_BODY_BYTES_MAX;
use proto::client::{ErrorCode, ErrorInfo};
use std::time::Duration;

/// What a client is told to wait when nothing says how long it will take.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// An error as its answer; 429 and 503 always say when to come again.
pub fn refuse_with(mut info: ErrorInfo<'_>) -> HttpResponse {
    let status = StatusCode::from_u16(info.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if info.retry_after_ms.is_none() && matches!(status.as_u16(), 429 | 503) {
        info = ErrorInfo::retry(info.code, info.message, RETRY_AFTER);
    }
    let mut response = HttpResponse::build(status);
    if let Some(wait_ms) = info.retry_after_ms {
        response.insert_header(retry_after(wait_ms));
    }
    response.content_type(PROBLEM_JSON).json(Refusal {
        kind: format!("urn:everdesk:problem:{}", info.code),
        title: status.canonical_reason().unwrap_or("error"),
        status: status.as_u16(),
        detail: &info.message,
        retry_after_ms: info.retry_after_ms,
        error: &info,
    })
}

/// As RFC 9457 has it, and as a socket would say it.
#[derive(serde::Serialize)]
struct Refusal<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    error: &'a ErrorInfo<'a>,
}

pub fn refuse(code: ErrorCode, message: &'static str) -> HttpResponse {
    refuse_with(ErrorInfo::new(code, message))
}

/// The header holds whole seconds; the body has the exact wait.
pub fn retry_after(wait_ms: u64) -> (header::HeaderName, String) {
    (header::RETRY_AFTER, wait_ms.div_ceil(1000).max(1).to_string())
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
                .default_service(only("POST")),
        )
        .service(web::resource("/v1/sites/{site}").route(web::get().to(visitors::site)).default_service(only("GET")))
        .service(
            web::resource("/v1/visitors/logout").route(web::post().to(visitors::logout)).default_service(only("POST")),
        )
        .service(web::resource(login::PATH).route(web::post().to(login::login)).default_service(only("POST")));
    let read = [
        ("/v1/ws", web::get().to(connection::upgrade)),
        ("/health/live", web::get().to(health::live)),
        ("/health/ready", web::get().to(health::ready)),
        ("/metrics", web::get().to(health::metrics)),
        ("/", web::get().to(home)),
        ("/demo", web::get().to(page)),
        ("/demo/{file}", web::get().to(page)),
    ];
    for (path, route) in read {
        config.service(web::resource(path).route(route).default_service(only("GET")));
    }
    crate::attachments::configure(config);
    crate::email::configure(config);
    crate::api::configure(config);
    config.default_service(web::to(|| async { refuse(ErrorCode::NotFound, "no such path") }));
}

fn only(method: &'static str) -> actix_web::Route {
    web::to(move || async move {
        let mut response = refuse_with(ErrorInfo::new(ErrorCode::MethodNotAllowed, format!("use {method}")));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(method));
        response
    })
}

/// Reads a body that may be left out: it is empty or a JSON object, of which a client of a later version may say more.
fn read_body<T: Default + serde::de::DeserializeOwned>(
    request: &HttpRequest,
    body: Result<web::Bytes, actix_web::Error>,
) -> Result<T, ErrorInfo<'static>> {
    let body = body.map_err(|error| match error.as_error::<PayloadError>() {
        Some(PayloadError::Overflow) => ErrorInfo::new(ErrorCode::TooLarge, "the body is too large"),
        _ => ErrorInfo::new(ErrorCode::Malformed, "the body cannot be read"),
    })?;
    if body.is_empty() {
        return Ok(T::default());
    }
    if request.content_type() != "application/json" {
        return Err(ErrorInfo::new(ErrorCode::UnsupportedMedia, "the body must be application/json"));
    }
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&body) {
        Ok(object) => serde_json::from_value(object.into())
            .map_err(|_| ErrorInfo::new(ErrorCode::BadRequest, "a field is missing or of the wrong type")),
        Err(error) if error.is_data() => Err(ErrorInfo::new(ErrorCode::BadRequest, "the body must be an object")),
        Err(_) => Err(ErrorInfo::new(ErrorCode::Malformed, "the body is not JSON")),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(response: &HttpResponse) -> Option<&str> {
        response.headers().get(header::RETRY_AFTER)?.to_str().ok()
    }

    #[test]
    fn a_refusal_that_will_pass_says_when_to_come_again() {
        for code in [ErrorCode::Overloaded, ErrorCode::Unavailable, ErrorCode::RateLimited] {
            assert_eq!(seconds(&refuse(code, "wait")), Some("1"), "{code}");
        }
        let long = ErrorInfo::retry(ErrorCode::RateLimited, "wait", Duration::from_millis(42_001));
        assert_eq!(seconds(&refuse_with(long)), Some("43"), "never too early");
        assert_eq!(seconds(&refuse(ErrorCode::NotFound, "no such path")), None);
    }
}
