//! Owns the list of a node's sockets for administrators. Does not touch the sockets. Invariant: a page is bounded.

use super::Answer;
use super::accounts::{LIMIT_MAX, limit};
use super::ask::{Ask, ask};
use super::nodes::known;
use super::problem::Problem;
use crate::connection::{Socket, Who};
use crate::hooks::Local;
use crate::run::App;
use actix_web::web::{Data, Json, Path, Query};
use serde::{Deserialize, Serialize};
use std::time::UNIX_EPOCH;
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SocketsQuery {
    /// The `next` of the page before.
    #[param(minimum = 0, nullable = false)]
    after: Option<u64>,
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<u32>,
}

/// Who said hello on a socket.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SocketKind {
    /// Nobody yet.
    New,
    Visitor,
    Agent,
}

/// One socket.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SocketView {
    /// Counts from 1 since the node's start.
    pub socket: u64,
    pub kind: SocketKind,
    /// The visitor's or agent's id.
    pub who: Option<String>,
    /// Milliseconds since 1970.
    pub since_ms: u64,
    /// Sessions that it follows.
    pub sessions: u32,
    /// Requests that have no answer yet.
    pub requests: u32,
    /// Bytes that wait to be written.
    pub waiting_bytes: u64,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Sockets {
    pub sockets: Vec<SocketView>,
    /// How many the node has.
    pub count: u64,
    /// Ask again with this as `after`; null: there are no more.
    pub next: Option<u64>,
}

/// A page of this node's sockets.
pub fn page(local: &Local, after: u64, limit: usize) -> Sockets {
    let limit = limit.min(LIMIT_MAX);
    let (mut found, count) = local.hub.sockets(after, limit + 1);
    let more = found.len() > limit;
    found.truncate(limit);
    let sockets: Vec<SocketView> = found.iter().map(|socket| view(socket)).collect();
    let next = sockets.last().map(|socket| socket.socket).filter(|_| more);
    Sockets { sockets, count: count as u64, next }
}

fn view(socket: &Socket) -> SocketView {
    let (who, sessions, requests, waiting) =
        socket.with(|state| (state.who, state.sessions.len(), state.under_way(), state.frames.bytes()));
    let (kind, who) = match who {
        None => (SocketKind::New, None),
        Some(Who::Visitor { visitor, .. }) => (SocketKind::Visitor, Some(visitor.to_string())),
        Some(Who::Agent { agent, .. }) => (SocketKind::Agent, Some(agent.to_string())),
    };
    SocketView {
        socket: socket.number,
        kind,
        who,
        since_ms: socket.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        sessions: sessions as u32,
        requests: requests as u32,
        waiting_bytes: waiting as u64,
    }
}

pub async fn list(app: Data<App>, node: Path<String>, query: Query<SocketsQuery>) -> Answer<Sockets> {
    let node = known(&app, &node)?;
    let limit = limit(query.limit)?;
    let after = query.after.unwrap_or(0);
    if after > i64::MAX as u64 {
        return Err(Problem::bad_request("after is no number of a socket"));
    }
    Ok(Json(ask(&app, node, &Ask::Sockets { after, limit }).await?))
}
