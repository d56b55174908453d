//! Owns finding out who asks: it stands before every route of a site's API. Does not do anything for them. Invariant: a handler runs only
//! behind a caller who may.

use super::access::{Caller, Who};
use super::table;
use super::{Access, access::role_name};
use crate::admin::Route;
use crate::admin::problem::Problem;
use crate::admin::route::of_request;
use crate::admin::sessions::call_shard;
use crate::audit::{self, Actor};
use crate::auth::{self, Bearer};
use crate::run::App;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{HttpMessage, ResponseError};
use cluster::meta::MetaState;
use proto::client::limits::TOKEN_BYTES_MAX;
use proto::command::Target;
use proto::peer::{ShardCall, ShardReply};
use std::sync::LazyLock;
use std::time::Duration;

static TABLE: LazyLock<Vec<Route<Access>>> = LazyLock::new(table);

/// A node has to hear what others know of a credential within this.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(3);

/// What the token of a key begins with.
pub const KEY_PREFIX: &str = "key.";

/// Stands before every route.
/// # Errors
/// Those of the routes.
pub async fn guard<B: MessageBody + 'static>(
    app: Data<App>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let caller = match caller(&app, &request).await {
        Ok(caller) => caller,
        Err(problem) => {
            let route = of_request(&TABLE, &request).filter(|route| route.is_audited());
            if let Some(route) = route.filter(|_| problem.status == 401) {
                audit::refused(&app, route, &Actor::unknown(), &request, problem.status);
            }
            return Ok(request.into_response(problem.error_response()));
        }
    };
    // Another method is answered by the resource itself.
    let Some(route) = of_request(&TABLE, &request) else {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    };
    let actor = caller.actor();
    if !route.access.allows(&caller.who) {
        if route.is_audited() {
            audit::refused(&app, route, &actor, &request, 403);
        }
        let denied = Problem::new(StatusCode::FORBIDDEN, denial(route.access, &caller.who));
        return Ok(request.into_response(denied.error_response()));
    }
    let hash = caller.hash;
    request.extensions_mut().insert(caller);
    Box::pin(audit::pass_on(&app, route, actor, &hash, request, next)).await
}

fn denial(access: Access, who: &Who) -> String {
    match (who, access.role, access.scope.name()) {
        (Who::Agent { role, .. }, Some(least), _) if *role >= least => {
            format!("this is not for the role {}", role_name(*role))
        }
        (Who::Agent { role, .. }, Some(least), _) => {
            format!("this needs the role {}; yours is {}", role_name(least), role_name(*role))
        }
        (Who::Key { .. }, _, Some(scope)) => format!("this needs the scope {scope}, which the key has not"),
        (Who::Agent { .. }, None, _) => "this is for keys only".to_owned(),
        (Who::Key { .. }, _, None) => "this is for people only".to_owned(),
    }
}

fn unknown() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "a valid bearer token of an agent or a key is needed")
}

/// What meta knows of a credential. A node that has just begun, or is behind, has not heard of all: it denies nobody before it has.
async fn in_meta<T>(app: &Data<App>, look: impl Fn(&MetaState) -> Option<T>) -> Result<T, Problem> {
    if let Some(found) = app.cluster.with_meta(&look).flatten() {
        return Ok(found);
    }
    let cluster = app.cluster.clone();
    let is_current = app.on_raft(async move { cluster.meta_catch_up(CATCH_UP_WITHIN).await }).await;
    if is_current != Some(true) {
        return Err(Problem::unavailable("this node cannot tell just now who you are, try again"));
    }
    app.cluster.with_meta(&look).flatten().ok_or_else(unknown)
}

/// Whose credential it is.
async fn caller(app: &Data<App>, request: &ServiceRequest) -> Result<Caller, Problem> {
    let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let token = header.and_then(|text| text.strip_prefix("Bearer ")).ok_or_else(unknown)?;
    caller_of(app, token).await
}

/// Whose token it is: an agent's or a key.
/// # Errors
/// It is nobody's, or that cannot be found out now.
pub async fn caller_of(app: &Data<App>, token: &str) -> Result<Caller, Problem> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(unknown());
    }
    if token.starts_with(KEY_PREFIX) {
        let hash = auth::hash_token(token);
        let row = in_meta(app, |state| state.api_keys.get(&hash).cloned()).await?;
        let now_ms = cluster::shard::now_ms();
        if row.expires_ms.is_some_and(|expires_ms| now_ms >= expires_ms) {
            return Err(unknown());
        }
        return Ok(Caller { site: row.site, who: Who::Key { name: row.name, scopes: row.scopes }, hash });
    }
    let Some((Bearer::Agent { agent }, hash)) = auth::parse_token(token) else { return Err(unknown()) };
    let (site, role) = in_meta(app, |state| state.agents.get(&agent).map(|row| (row.site, row.role))).await?;
    let shard = app.cluster.router.shard_of(Target::Agent(agent));
    match call_shard(app, shard, ShardCall::AgentToken { agent, token: hash }).await {
        ShardReply::Done => Ok(Caller { site, who: Who::Agent { agent, role }, hash }),
        ShardReply::Refused(_) => Err(unknown()),
        _ => Err(Problem::unavailable(format!("{shard} has no leader just now, try again"))),
    }
}
