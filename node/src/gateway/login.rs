//! Owns agents' logins. Does not own accounts: meta does. Invariant: an unknown name costs as much as a wrong password.

use super::{refuse, refuse_with};
use crate::auth::{self, Bearer};
use crate::connection::error_of;
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::web::{Data, Json};
use cluster::node::ClusterNode;
use proto::client::{ErrorCode, ErrorInfo};
use proto::command::{Command, Target};
use proto::ids::{AgentId, SiteId};
use proto::peer::{ShardCall, ShardReply};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Password checks at once: each takes 19 MiB and 30 ms of a core.
static CHECKS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(4));

#[derive(serde::Deserialize)]
pub struct Login {
    site: String,
    name: String,
    password: String,
}

/// `POST /v1/agents/login`
pub async fn login(app: Data<App>, login: Json<Login>) -> HttpResponse {
    let Ok(_place) = CHECKS.try_acquire() else {
        return refuse(ErrorCode::Overloaded, "too many logins at once");
    };
    let login = login.into_inner();
    let attempt = match app.logins.admit(&login.site, &login.name, Instant::now()) {
        Ok(attempt) => attempt,
        Err(wait) => return refuse_with(ErrorInfo::retry(ErrorCode::RateLimited, "too many failed logins", wait)),
    };
    let cluster = app.cluster.clone();
    let done = app.on_raft(async move {
        cluster.meta_catch_up(Duration::from_secs(3)).await;
        let found = cluster
            .with_meta(|state| {
                let (site, _) = state.site_by_name(&login.site)?;
                state.agent_by_name(site, &login.name).map(|(id, row)| (id, site, row.password.clone()))
            })
            .flatten();
        let stored = found.as_ref().map(|(_, _, stored)| stored.clone());
        let password = login.password;
        let checked = tokio::task::spawn_blocking(move || auth::verify_password(&password, stored.as_deref())).await;
        let (Ok(Ok(true)), Some((agent, site, _))) = (checked, found) else {
            return Err(ErrorInfo::new(ErrorCode::Unauthorized, "name or password is wrong"));
        };
        new_token(&cluster, agent, site, login.name).await
    });
    let done = done.await.unwrap_or_else(|| Err(ErrorInfo::new(ErrorCode::Internal, "a fault of the node")));
    let outcome = done.as_ref().map_or_else(|error| error.code.as_str(), |_| "ok");
    metrics::counter!("chat_gateway_logins_total", "outcome" => outcome).increment(1);
    // Only a wrong name or password stays counted: a cluster that cannot answer says nothing of the client.
    if !matches!(&done, Err(error) if error.code == ErrorCode::Unauthorized) {
        app.logins.clear(&attempt);
    }
    match done {
        Ok(body) => HttpResponse::Ok().json(body),
        Err(error) => refuse_with(error),
    }
}

/// Gives an agent who proved who it is a token.
/// # Errors
/// The cluster cannot answer now.
pub async fn new_token(
    cluster: &ClusterNode,
    agent: AgentId,
    site: SiteId,
    name: String,
) -> Result<serde_json::Value, ErrorInfo<'static>> {
    let fault = || ErrorInfo::new(ErrorCode::Internal, "a fault of the node");
    let token = auth::mint_token(Bearer::Agent { agent }).map_err(|_| fault())?;
    let command = Command::AgentLogin { agent, site, name, token: token.hash() };
    let shard = cluster.router.shard_of(Target::Agent(agent));
    match cluster.router.call(shard, ShardCall::Propose(command)).await {
        ShardReply::Done => Ok(serde_json::json!({ "agent": agent.to_string(), "token": token.expose() })),
        ShardReply::Refused(_) => Err(fault()),
        no_answer => Err(error_of(&no_answer)),
    }
}
