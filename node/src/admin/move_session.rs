//! Owns giving a session to another agent. Does not decide who has it: the session's own rules do.
//! Invariant: nobody is given a conversation who does not see it.

use super::accounts::id_of;
use super::ask::{Ask, ask, leader_of};
use super::problem::Problem;
use super::sessions::{SessionState, SessionView, call_shard, known, no_session, of};
use super::{Answer, read_meta};
use crate::run::App;
use actix_web::web::{Data, Json, Path};
use cluster::node::ClusterNode;
use proto::command::{Command, Target};
use proto::ids::AgentId;
use proto::peer::{Refused, ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveSession {
    /// Who is to have it: an agent of the session's site who is online.
    #[schema(pattern = "^a(0|[1-9][0-9]{0,18})$", example = "a17")]
    pub agent: String,
}

/// What an agent's shard knows of the agent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seat {
    online: bool,
    /// Open conversations.
    open: usize,
}

/// Reads an agent at the leader of the agent's shard.
/// # Errors
/// This node does not lead, or the agent never logged in.
pub async fn seat(node: &Arc<ClusterNode>, agent: AgentId) -> Result<Seat, Problem> {
    let shard = node.router.local(node.router.shard_of(Target::Agent(agent)));
    let shard = shard.ok_or_else(|| Problem::unavailable("that node does not lead the agent's shard"))?;
    let read = shard.read(|state, rows| state.agent(rows, agent)).await;
    let view = read.map_err(|_| Problem::unavailable("that node does not lead the agent's shard just now"))?;
    let view = view.map_err(|error| Problem::fault(format!("{}: {error}", shard.id)))?;
    Ok(view.map_or(Seat { online: false, open: 0 }, |view| Seat { online: view.online, open: view.open.len() }))
}

/// Also right when the agent has it already.
pub async fn move_session(app: Data<App>, session: Path<String>, body: Json<MoveSession>) -> Answer<SessionView> {
    let session = known(&session)?;
    let agent: AgentId = id_of("agent", Some(&body.agent))?.ok_or_else(|| Problem::bad_request("no agent"))?;
    let site = read_meta(&app, |state| state.agents.get(&agent).map(|row| row.site))?;
    let site = site.ok_or_else(|| Problem::not_found("no such agent"))?;
    let view = of(&app, session).await?;
    if view.site != site {
        return Err(Problem::refused(format!("{agent} is of {site}, and the session is of {}", view.site)));
    }
    if view.state == SessionState::Closed {
        return Err(closed());
    }
    if view.agent == Some(agent) {
        return Ok(Json(view));
    }
    let seat: Seat =
        ask(&app, leader_of(&app, app.cluster.router.shard_of(Target::Agent(agent)))?, &Ask::Seat { agent }).await?;
    if !seat.online {
        return Err(Problem::refused(format!("{agent} is not online: nobody would see the conversation")));
    }
    if seat.open >= chat::limits::OPEN_MAX_PER_AGENT as usize {
        return Err(Problem::refused(format!("{agent} has {} open conversations, as many as there may be", seat.open)));
    }
    let call = ShardCall::Propose(Command::Reassign { session, agent });
    let shard = app.cluster.router.shard_of(Target::Session(session));
    match call_shard(&app, shard, call).await {
        ShardReply::Done => Ok(Json(of(&app, session).await?)),
        ShardReply::Refused(Refused::UnknownSession) => Err(no_session()),
        ShardReply::Refused(Refused::ConversationClosed) => Err(closed()),
        ShardReply::Refused(_) => Err(Problem::refused("the rules do not allow it")),
        _ => Err(Problem::unavailable(format!("{shard} has no leader just now, try again"))),
    }
}

fn closed() -> Problem {
    Problem::refused("no conversation is open")
}
