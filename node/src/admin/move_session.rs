//! Owns giving a session to another agent. Does not decide who has it: the session's own rules do.
//! Invariant: nobody is given a conversation who does not see it.

use super::accounts::id_of;
use super::ask::{Ask, ask, leader_of};
use super::problem::Problem;
use super::sessions::{SessionState, SessionView, change, closed, known, led, of, read_led};
use super::{Answer, read_meta};
use crate::run::App;
use actix_web::web::{Data, Json, Path};
use cluster::node::ClusterNode;
use proto::command::{Command, Target};
use proto::ids::AgentId;
use serde::{Deserialize, Serialize};
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
/// This node does not lead. An agent who never logged in has an empty seat.
pub async fn seat(node: &ClusterNode, agent: AgentId) -> Result<Seat, Problem> {
    let shard = led(node, Target::Agent(agent), "agent")?;
    let view = read_led(&shard, "agent", |state, rows| state.agent(rows, agent)).await?;
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
    has_room(&app, agent).await?;
    change(&app, session, Command::ReassignSeen { session, agent, seen: view.head }).await
}

/// Whether an agent would see one more conversation.
/// # Errors
/// They are not online, or have as many as there may be.
pub async fn has_room(app: &App, agent: AgentId) -> Result<(), Problem> {
    let seat: Seat =
        ask(app, leader_of(app, app.cluster.router.shard_of(Target::Agent(agent)))?, &Ask::Seat { agent }).await?;
    if !seat.online {
        return Err(Problem::refused(format!("{agent} is not online: nobody would see the conversation")));
    }
    if seat.open >= chat::limits::OPEN_MAX_PER_AGENT as usize {
        return Err(Problem::refused(format!("{agent} has {} open conversations, as many as there may be", seat.open)));
    }
    Ok(())
}
