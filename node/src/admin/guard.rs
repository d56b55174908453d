//! Owns who may do what: it stands before every route. Does not do anything for them.
//! Invariant: who has no token does not learn which paths there are; the document alone is open, as it tells nothing of the cluster.

use super::problem::Problem;
use super::route::{Route, of_request, role_name};
use super::table;
use crate::audit::{self, Actor};
use crate::auth;
use crate::run::App;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;
use actix_web::web::{self, Data};
use actix_web::{HttpRequest, ResponseError};
use base64ct::{Base64, Encoding};
use proto::audit::OPERATORS;
use proto::command::{Role, TokenHash};
use std::sync::LazyLock;
use std::time::Instant;

static TABLE: LazyLock<Vec<Route>> = LazyLock::new(table);

/// Who asks.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// As the audit log says it.
    pub who: String,
    pub role: Role,
    /// Tells one token from another.
    pub hash: TokenHash,
}

/// Stands before every route.
/// # Errors
/// Those of the routes.
pub async fn guard<B: MessageBody + 'static>(
    app: Data<App>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if is_open(request.path()) {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    }
    let bearer = match bearer(&app, request.request()) {
        Some(bearer) => Some(bearer),
        None => with_password(&app, request.request()).await,
    };
    let Some(bearer) = bearer else {
        if let Some(route) = of_request(&TABLE, &request) {
            audit::refused(&app, route, &Actor::unknown(), &request, 401);
        }
        let denied = Problem::new(StatusCode::UNAUTHORIZED, "a valid bearer token is needed");
        return Ok(request.into_response(denied.error_response()));
    };
    // Another path or method is answered behind.
    let Some(route) = of_request(&TABLE, &request) else {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    };
    let actor = Actor { chain: OPERATORS, who: bearer.who, role: role_name(bearer.role) };
    if bearer.role < route.access {
        audit::refused(&app, route, &actor, &request, 403);
        let detail =
            format!("this needs the role {}; the token has {}", role_name(route.access), role_name(bearer.role));
        let denied = Problem::new(StatusCode::FORBIDDEN, detail);
        return Ok(request.into_response(denied.error_response()));
    }
    Box::pin(audit::pass_on(&app, route, actor, &bearer.hash, request, next)).await
}

fn is_open(path: &str) -> bool {
    path == "/openapi.json" || path == "/docs" || path.starts_with("/docs/")
}

fn header<'a>(request: &'a HttpRequest, scheme: &str) -> Option<&'a str> {
    request.headers().get("authorization")?.to_str().ok()?.strip_prefix(scheme)
}

/// Whose token it is: this node's own, the founder's, or one that somebody made.
fn bearer(app: &App, request: &HttpRequest) -> Option<Bearer> {
    let hash = auth::hash_token(header(request, "Bearer ")?);
    let found = app.cluster.with_meta(|state| {
        let founder = state.cluster.as_ref().map(|row| row.admin_token);
        let made = state.api_tokens.get(&hash).map(|row| (row.name.clone(), row.role, row.expires_ms));
        (founder, made)
    });
    let (founder, made) = found.unwrap_or_default();
    let is_founders = founder.is_some_and(|known| auth::same_hash(&hash, &known));
    if auth::same_hash(&hash, &app.local_token) | is_founders {
        let who = if is_founders { "founder".to_owned() } else { format!("node:{}", app.cluster.me) };
        return Some(Bearer { who, role: Role::Admin, hash });
    }
    let (name, role, expires_ms) = made?;
    let is_good = expires_ms.is_none_or(|expires_ms| cluster::shard::now_ms() < expires_ms);
    is_good.then(|| Bearer { who: format!("token:{name}"), role, hash })
}

/// The password that the first start printed, as `Authorization: Basic` of the user `admin`: for browsers and curl.
async fn with_password(app: &Data<App>, request: &HttpRequest) -> Option<Bearer> {
    let encoded = header(request, "Basic ")?;
    let hash = auth::hash_token(encoded);
    let bearer = Bearer { who: "password:admin".into(), role: Role::Admin, hash };
    if app.password_seen.lock().is_some_and(|seen| auth::same_hash(&seen, &hash)) {
        return Some(bearer);
    }
    let password = password_of(encoded)?;
    let attempt = app.logins.admit("", "admin", Instant::now()).ok()?;
    let stored = app.cluster.with_meta(|state| state.cluster.as_ref().map(|row| row.admin_password.clone())).flatten();
    let verified = web::block(move || auth::verify_password(&password, stored.as_deref())).await;
    if !matches!(verified, Ok(Ok(true))) {
        return None;
    }
    app.logins.clear(&attempt);
    *app.password_seen.lock() = Some(hash);
    Some(bearer)
}

/// The password that the user `admin` sends.
pub(crate) fn password_of(encoded: &str) -> Option<String> {
    let text = Base64::decode_vec(encoded).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).ok()?;
    text.strip_prefix("admin:").map(str::to_owned)
}
