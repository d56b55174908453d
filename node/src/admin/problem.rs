//! Owns refusals in the form of RFC 9457. Does not decide them. Invariant: a 503 says when to come again.

use crate::gateway::retry_after;
use actix_web::error::JsonPayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// The type of every refusal's body.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// When to ask again after a 503, in milliseconds.
const RETRY_AFTER_MS: u64 = 500;

/// Why something was not done.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `about:blank` where the status says it all, else `urn:everdesk:problem:...`.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// For people.
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_after_ms: Option<u64>,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("error").into(),
            status: status.as_u16(),
            detail: detail.into(),
            retry_after_ms: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_MS),
        }
    }

    /// The same with a type that programs can tell from others of this status.
    pub fn of_kind(self, kind: &str) -> Problem {
        Problem { kind: format!("urn:everdesk:problem:{kind}"), ..self }
    }

    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    pub fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, detail)
    }

    /// What was there once is not kept any more.
    pub fn gone(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::GONE, detail)
    }

    /// The rules say no; the same again gets the same answer.
    pub fn refused(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    pub fn unavailable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    pub fn fault(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(wait_ms) = self.retry_after_ms {
            response.insert_header(retry_after(wait_ms));
        }
        if self.status_code() == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        let body = serde_json::to_string(self).expect("a problem is plain text and numbers");
        response.content_type(PROBLEM_JSON).body(body)
    }
}

/// What is wrong with a body.
pub fn of_body(error: &JsonPayloadError) -> Problem {
    use JsonPayloadError as E;
    match error {
        E::ContentType => Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json"),
        E::Overflow { .. } | E::OverflowKnownLength { .. } => too_large(),
        other => Problem::bad_request(other.to_string()),
    }
}

pub fn too_large() -> Problem {
    let detail = format!("the body is larger than {} bytes", super::BODY_BYTES_MAX);
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}
