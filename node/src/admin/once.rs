//! Owns writes that a client may repeat under an `Idempotency-Key`, at any node. Does not know what they do.
//! Invariant: under one key and token a write is answered once; a repetition gets the first answer, or learns why not.
//! Source: the IETF draft "The Idempotency-Key HTTP Header Field"; a secret is told once and therefore not kept.

use super::problem::{Problem, too_large};
use super::route::Route;
use super::{propose, unexpected};
use crate::run::App;
use actix_web::body::{BoxBody, MessageBody, to_bytes_limited};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, ResponseError};
use cluster::meta::ONCE_BODY_BYTES_MAX;
use proto::command::{MetaCommand, OnceAnswer, OnceState, TokenHash};
use proto::peer::MetaReply;
use sha2::{Digest, Sha256};

const HEADER: &str = "idempotency-key";
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;
/// An answer that is longer is not looked at: no write has one.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Passes a request on to its route: once, if it is a write with a key. `bearer`: tells one credential from another.
/// # Errors
/// Those of the routes.
pub async fn pass_on<A, B: MessageBody + 'static>(
    app: &Data<App>,
    route: &Route<A>,
    bearer: &TokenHash,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if route.method.is_write() && !route.is_once && request.headers().contains_key(HEADER) {
        return carry_out(app, route.is_secret, bearer, request, next).await;
    }
    next.call(request).await.map(ServiceResponse::map_into_boxed_body)
}

/// Carries out a write that has a key. `is_secret`: its answer is told once. `bearer`: tells one credential from another.
/// # Errors
/// Those of the routes.
async fn carry_out<B: MessageBody + 'static>(
    app: &Data<App>,
    is_secret: bool,
    bearer: &TokenHash,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let started = match begin(app, bearer, &mut request).await {
        Ok(started) => started,
        Err(problem) => return Ok(request.into_response(problem.error_response())),
    };
    let (key, holder) = match started {
        Begun::Go { key, holder } => (key, holder),
        Begun::Answered(answer) => return Ok(request.into_response(again(answer))),
    };
    let (request, response) = match next.call(request).await {
        Ok(response) => response.map_into_boxed_body().into_parts(),
        Err(error) => {
            let end = MetaCommand::EndOnce { key, holder, answer: None };
            // Should this not be logged, the key is free again after a minute.
            let _ = propose(app, end).await;
            return Err(error);
        }
    };
    let status = response.status();
    let (head, body) = response.into_parts();
    let bytes = match to_bytes_limited(body, ANSWER_BYTES_MAX).await {
        Ok(Ok(bytes)) => bytes,
        _ => return Ok(ServiceResponse::new(request, Problem::fault("the answer could not be read").error_response())),
    };
    // What is too long to be kept is answered without a body the next time.
    let text = std::str::from_utf8(&bytes).ok().map(|text| if text.len() <= ONCE_BODY_BYTES_MAX { text } else { "" });
    let is_told_once = is_secret && status.is_success();
    // What failed here may work at the next try.
    let answer = (!status.is_server_error())
        .then(|| OnceAnswer { status: status.as_u16(), body: text.filter(|_| !is_told_once).map(str::to_owned) });
    // The write itself is done: not knowing its answer later must not turn it into a failure now.
    if let Err(error) = propose(app, MetaCommand::EndOnce { key, holder, answer }).await {
        tracing::warn!(%error, "the answer to a write with a key was not kept");
    }
    Ok(ServiceResponse::new(request, head.set_body(BoxBody::new(bytes))))
}

/// The key of a write, if it has one.
/// # Errors
/// It is none.
pub fn key_of(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    let is_key =
        |text: &&str| (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let wrong = || Problem::bad_request("an Idempotency-Key has 1 to 255 printable characters without blanks");
    value.to_str().ok().filter(is_key).map(Some).ok_or_else(wrong)
}

enum Begun {
    Go { key: TokenHash, holder: u128 },
    Answered(OnceAnswer),
}

async fn begin(app: &Data<App>, bearer: &TokenHash, request: &mut ServiceRequest) -> Result<Begun, Problem> {
    let text = key_of(request.headers())?.unwrap_or_default();
    let key = hash(&[bearer, text.as_bytes()]);
    let Ok(body) = request.extract::<Bytes>().await else { return Err(too_large()) };
    let what = request.uri().path_and_query().map_or("", |path| path.as_str());
    let fingerprint = hash(&[request.method().as_str().as_bytes(), b" ", what.as_bytes(), b"\n", &body]);
    let (_, mut payload) = actix_http::h1::Payload::create(true);
    payload.unread_data(body);
    request.set_payload(Payload::from(payload));
    let mut holder = [0; 16];
    getrandom::fill(&mut holder).map_err(|_| Problem::fault("no randomness"))?;
    let holder = u128::from_le_bytes(holder);
    match propose(app, MetaCommand::BeginOnce { key, request: fingerprint, holder }).await? {
        MetaReply::Once(OnceState::Go) => Ok(Begun::Go { key, holder }),
        MetaReply::Once(OnceState::Held) => {
            Err(Problem::conflict("a request with this Idempotency-Key is under way").of_kind("in-progress"))
        }
        MetaReply::Once(OnceState::Other) => {
            Err(Problem::refused("this Idempotency-Key was used for another request").of_kind("key-reused"))
        }
        MetaReply::Once(OnceState::Answered(answer)) => Ok(Begun::Answered(answer)),
        _ => Err(unexpected()),
    }
}

/// The first answer once more.
fn again(answer: OnceAnswer) -> HttpResponse {
    let Some(body) = answer.body else {
        let detail = "this was done already, and its secret is told only once; revoke what it made, and make a new one";
        return Problem::conflict(detail).of_kind("told-once").error_response();
    };
    let status = actix_web::http::StatusCode::from_u16(answer.status).unwrap_or_default();
    let mut response = HttpResponse::build(status);
    response.insert_header(("idempotent-replayed", "true"));
    if body.is_empty() {
        return response.finish();
    }
    let is_problem = status.is_client_error();
    response.content_type(if is_problem { super::problem::PROBLEM_JSON } else { "application/json" }).body(body)
}

fn hash(parts: &[&[u8]]) -> TokenHash {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::same_hash;

    #[test]
    fn a_key_belongs_to_one_token() {
        assert!(!same_hash(&hash(&[&[1; 32], b"k"]), &hash(&[&[2; 32], b"k"])));
    }

    #[test]
    fn a_secret_is_not_told_again() {
        let response = again(OnceAnswer { status: 200, body: None });
        assert_eq!(response.status().as_u16(), 409);
        let response = again(OnceAnswer { status: 422, body: Some("{}".into()) });
        assert_eq!(response.headers().get("content-type").unwrap(), super::super::problem::PROBLEM_JSON);
    }
}
