//! Owns what administrators ask a single node, from whichever node: over the peer link, as JSON. Does not act by itself.
//! Invariant: an answer is bounded, and a node that does not know a question says so.

use super::desk::DeskView;
use super::drills::Fault;
use super::move_session::Seat;
use super::problem::Problem;
use super::sessions::{SessionView, SessionsAsk, SessionsFound};
use super::shards::Held;
use super::sockets::Sockets;
use crate::api::{OnlineAsk, OnlineFound, SeatOfMine};
use crate::hooks::Local;
use crate::run::App;
use cluster::node::{ClusterNode, TransferError};
use proto::ids::{AgentId, NodeId, SessionId, ShardId, SiteId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for another node.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A question to one node. JSON, so that a node of another version can say that it does not know it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// What its own replicas tell.
    Held,
    /// Hand a shard that it leads to another node.
    Lead {
        shard: ShardId,
        to: NodeId,
    },
    Sessions(SessionsAsk),
    Session {
        session: SessionId,
    },
    /// Whether an agent is there, and how much they have.
    Seat {
        agent: AgentId,
    },
    /// What is an agent's own.
    Mine {
        agent: AgentId,
    },
    /// A site's desk: who is there, and by which rules.
    Desk {
        site: SiteId,
    },
    Trace {
        session: SessionId,
        seq: u64,
    },
    Sockets {
        after: u64,
        limit: usize,
    },
    /// Visitors of a site with an open page.
    Online(OnlineAsk),
    /// Whether a visitor has a page open at this node.
    Present {
        session: SessionId,
    },
    LogFilter,
    /// `None`: as at the start.
    SetLogFilter {
        filter: Option<String>,
    },
    Fault(Fault),
}

type Told = Result<serde_json::Value, Problem>;

/// Answers a question to this node.
pub async fn answer(local: &Local, question: &[u8]) -> Vec<u8> {
    let told = match serde_json::from_slice::<Ask>(question) {
        Ok(ask) => match local.node.upgrade() {
            Some(node) => look(local, &node, ask).await,
            None => Err(Problem::unavailable("that node is stopping")),
        },
        Err(_) => Err(Problem::unavailable("that node is of a version that does not know this question")),
    };
    serde_json::to_vec(&told).expect("answers are plain data")
}

async fn look(local: &Local, node: &Arc<ClusterNode>, ask: Ask) -> Told {
    match ask {
        Ask::Held => told(&node.own_shards().into_iter().map(Held::of).collect::<Vec<_>>()),
        Ask::Lead { shard, to } => match node.transfer(shard, to).await {
            Ok(()) => told(&()),
            Err(error @ TransferError::NotTaken) => Err(Problem::unavailable(error.to_string())),
            Err(error @ TransferError::NotLeader) => Err(Problem::unavailable(error.to_string())),
            Err(error) => Err(Problem::refused(error.to_string())),
        },
        Ask::Sessions(ask) => told::<SessionsFound>(&super::sessions::find(node, &ask)?),
        Ask::Session { session } => told::<SessionView>(&super::sessions::inspect(local, node, session).await?),
        Ask::Seat { agent } => told::<Seat>(&super::move_session::seat(node, agent).await?),
        Ask::Mine { agent } => told::<SeatOfMine>(&crate::api::seat_here(node, agent).await?),
        Ask::Desk { site } => told::<DeskView>(&super::desk::inspect(node, site).await?),
        Ask::Trace { session, seq } => told(&super::message_trace::steps(local, node.me, session, seq)),
        Ask::Sockets { after, limit } => told::<Sockets>(&super::sockets::page(local, after, limit)),
        Ask::Online(ask) => told::<OnlineFound>(&crate::api::on_this_node(local, &ask)),
        Ask::Present { session } => told(&crate::email::on_this_node(&local.hub, session)),
        Ask::LogFilter => told(&crate::telemetry::filter().unwrap_or_default()),
        Ask::SetLogFilter { filter } => {
            crate::telemetry::set_filter(filter.as_deref()).map_err(Problem::refused)?;
            told(&crate::telemetry::filter().unwrap_or_default())
        }
        Ask::Fault(fault) => {
            super::drills::cause(local, node, &fault)?;
            told(&())
        }
    }
}

fn told<T: Serialize>(value: &T) -> Told {
    serde_json::to_value(value).map_err(|_| Problem::fault("the answer cannot be written"))
}

/// Asks one node.
/// # Errors
/// What it refused, or that it does not answer.
pub async fn ask<T: DeserializeOwned>(app: &App, to: NodeId, ask: &Ask) -> Result<T, Problem> {
    let question = written(ask)?;
    let cluster = app.cluster.clone();
    let answer = app.on_raft(async move { cluster.ask_node(to, question, ANSWER_WITHIN).await }).await;
    let Some(Ok(bytes)) = answer else { return Err(Problem::unavailable(format!("{to} does not answer"))) };
    understood(to, &bytes)
}

/// As `ask`, on the cluster's own runtime.
/// # Errors
/// As for `ask`.
pub async fn ask_from<T: DeserializeOwned>(node: &ClusterNode, to: NodeId, ask: &Ask) -> Result<T, Problem> {
    let Ok(bytes) = node.ask_node(to, written(ask)?, ANSWER_WITHIN).await else {
        return Err(Problem::unavailable(format!("{to} does not answer")));
    };
    understood(to, &bytes)
}

fn written(ask: &Ask) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(ask).map_err(|_| Problem::fault("the question cannot be written"))
}

fn understood<T: DeserializeOwned>(to: NodeId, bytes: &[u8]) -> Result<T, Problem> {
    let told: Told =
        serde_json::from_slice(bytes).map_err(|_| Problem::unavailable(format!("{to} is not understood")))?;
    serde_json::from_value(told?).map_err(|_| Problem::unavailable(format!("{to} is not understood")))
}

/// As `ask`, from within the cluster; `None`: it does not answer, or does not know the question.
pub async fn ask_node<T: DeserializeOwned>(cluster: &ClusterNode, to: NodeId, ask: &Ask) -> Option<T> {
    let question = serde_json::to_vec(ask).ok()?;
    let bytes = cluster.ask_node(to, question, ANSWER_WITHIN).await.ok()?;
    let told: Told = serde_json::from_slice(&bytes).ok()?;
    serde_json::from_value(told.ok()?).ok()
}

/// Asks every node that is up, at once; who does not answer is left out.
pub async fn ask_all<T: DeserializeOwned>(app: &App, question: impl Fn() -> Ask) -> Vec<(NodeId, T)> {
    let nodes =
        app.cluster.with_meta(|state| state.members().map(|(id, _)| id).collect::<Vec<_>>()).unwrap_or_default();
    let asked = nodes.into_iter().map(|node| {
        let question = question();
        async move { ask(app, node, &question).await.ok().map(|told| (node, told)) }
    });
    futures_util::future::join_all(asked).await.into_iter().flatten().collect()
}

/// The node that leads a shard, as far as this one knows.
/// # Errors
/// Nobody leads it just now.
pub fn leader_of(app: &App, shard: ShardId) -> Result<NodeId, Problem> {
    app.cluster
        .leader_of(shard)
        .ok_or_else(|| Problem::unavailable(format!("{shard} has no leader just now, try again")))
}
