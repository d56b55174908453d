//! Owns agents' logins. Does not own accounts: meta does. Invariant: an unknown name costs as much as a wrong password.

use super::{refuse, refuse_with};
use crate::audit;
use crate::auth::{self, Bearer};
use crate::connection::error_of;
use crate::run::App;
use actix_web::web::{Data, Json};
use actix_web::{HttpRequest, HttpResponse};
use cluster::node::ClusterNode;
use proto::audit::{AuditAct, AuditPhase};
use proto::client::{ErrorCode, ErrorInfo};
use proto::command::{AgentRole, Command, Target};
use proto::ids::{AgentId, SiteId};
use proto::peer::{ShardCall, ShardReply};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Password checks at once: each takes 19 MiB and 30 ms of a core.
static CHECKS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(4));

/// Where agents log in.
pub const PATH: &str = "/v1/agents/login";
/// When to try again while a login cannot be told of.
const AUDIT_RETRY: Duration = Duration::from_millis(500);

#[derive(serde::Deserialize)]
pub struct Login {
    site: String,
    name: String,
    password: String,
}

/// `POST /v1/agents/login`
pub async fn login(app: Data<App>, request: HttpRequest, login: Json<Login>) -> HttpResponse {
    let Ok(_place) = CHECKS.try_acquire() else {
        return refuse(ErrorCode::Overloaded, "too many logins at once");
    };
    let login = login.into_inner();
    let attempt = match app.logins.admit(&login.site, &login.name, Instant::now()) {
        Ok(attempt) => attempt,
        Err(wait) => return refuse_with(ErrorInfo::retry(ErrorCode::RateLimited, "too many failed logins", wait)),
    };
    let cluster = app.cluster.clone();
    let address = audit::address_text(request.peer_addr().map(|address| address.ip()));
    let done = app.on_raft(async move {
        cluster.meta_catch_up(Duration::from_secs(3)).await;
        let found = cluster
            .with_meta(|state| {
                let (site, _) = state.site_by_name(&login.site)?;
                state.agent_by_name(site, &login.name).map(|(id, row)| (id, site, row.role, row.password.clone()))
            })
            .flatten();
        let stored = found.as_ref().map(|(.., stored)| stored.clone());
        let password = login.password;
        let checked = tokio::task::spawn_blocking(move || auth::verify_password(&password, stored.as_deref())).await;
        let (Ok(Ok(true)), Some((agent, site, role, _))) = (checked, found) else {
            return Err(ErrorInfo::new(ErrorCode::Unauthorized, "name or password is wrong"));
        };
        tell_of(&cluster, agent, site, role, address).await?;
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

/// Whoever sets the rules of a site gets no token before its audit log tells of it.
async fn tell_of(
    cluster: &ClusterNode,
    agent: AgentId,
    site: SiteId,
    role: AgentRole,
    address: String,
) -> Result<(), ErrorInfo<'static>> {
    if role < AgentRole::Admin {
        return Ok(());
    }
    let act = audit::draw_act().map_err(|_| ErrorInfo::new(ErrorCode::Internal, "a fault of the node"))?;
    let told = AuditAct {
        act,
        phase: AuditPhase::Told { status: 200 },
        who: format!("agent:{agent}"),
        role: crate::api::role_name(role).to_owned(),
        address,
        node: cluster.me.to_string(),
        method: "POST".into(),
        route: PATH.into(),
        target: PATH.into(),
        body: None,
    };
    let unwritten =
        |_| ErrorInfo::retry(ErrorCode::Unavailable, "the audit log cannot be written just now", AUDIT_RETRY);
    audit::write(cluster, site, told).await.map(drop).map_err(unwritten)
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
