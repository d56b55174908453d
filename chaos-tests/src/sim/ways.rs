//! Owns the way into simulated nodes: a line of JSON each way. Does not know nodes' insides.
//! Invariant: every call ends, answered or not.

use std::time::Duration;

use anyhow::Context;
use node::sim::Call;
use proto::client::http::{LoggedIn, VisitorCreated};
use proto::ids::{AgentId, SessionId, VisitorId};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use turmoil::net::TcpStream;

use super::node::{CALLS_PORT, CLIENTS_PORT, host};
use crate::cluster::SITE;
use crate::history::NodeId;
use crate::talk::{Answer, Ways};

const WITHIN: Duration = Duration::from_secs(8);

/// The ways to nodes 1 to `nodes`.
#[derive(Debug, Clone, Copy)]
pub struct SimWays {
    pub nodes: u64,
}

/// Asks a node.
/// # Errors
/// No answer; whether it was done is open.
pub async fn call(node: u64, call: &Call) -> anyhow::Result<Value> {
    let ask = async {
        let stream = TcpStream::connect(format!("{}:{CALLS_PORT}", host(node))).await?;
        let mut stream = BufReader::new(stream);
        stream.write_all(format!("{}\n", serde_json::to_string(call)?).as_bytes()).await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        anyhow::Ok(serde_json::from_str(&line)?)
    };
    tokio::time::timeout(WITHIN, ask).await.context("no answer")?
}

async fn answer<T: DeserializeOwned>(node: NodeId, ask: Call) -> Answer<T> {
    let answer = match call(node.0, &ask).await {
        Ok(answer) => answer,
        Err(error) => return Answer::Unknown(format!("{error:#}")),
    };
    if let Some(code) = answer.get("refused") {
        return Answer::Refused(code.as_str().unwrap_or_default().to_owned());
    }
    match answer.get("ok").cloned().map(serde_json::from_value) {
        Some(Ok(body)) => Answer::Ok(body),
        _ => Answer::Unknown(answer.to_string()),
    }
}

impl Ways for SimWays {
    fn nodes(&self) -> Vec<(NodeId, String)> {
        (1..=self.nodes).map(|node| (NodeId(node), format!("{}:{CLIENTS_PORT}", host(node)))).collect()
    }

    async fn create_visitor(&self, node: NodeId) -> Answer<VisitorCreated> {
        answer(node, Call::Visitor { site: SITE.to_owned() }).await
    }

    async fn add_agent(&self, node: NodeId, name: &str) -> Answer<()> {
        answer(node, Call::AddAgent { site: SITE.to_owned(), name: name.to_owned() }).await
    }

    async fn log_in(&self, node: NodeId, name: &str) -> Answer<LoggedIn> {
        answer(node, Call::Login { site: SITE.to_owned(), name: name.to_owned() }).await
    }

    async fn set_team(&self, node: NodeId, accept_within: Duration) -> Answer<()> {
        let accept_ms = accept_within.as_millis() as u32;
        answer(node, Call::SetTeam { site: SITE.to_owned(), accept_ms }).await
    }

    async fn set_seat(&self, node: NodeId, agent: AgentId, capacity: u32) -> Answer<()> {
        answer(node, Call::SetSeat { site: SITE.to_owned(), agent: agent.to_string(), capacity }).await
    }

    async fn erase(&self, node: NodeId, session: SessionId, _: VisitorId) -> Answer<()> {
        answer(node, Call::Erase { session: session.to_string() }).await
    }

    async fn move_session(&self, node: NodeId, session: SessionId, agent: AgentId) -> Answer<()> {
        answer(node, Call::Move { session: session.to_string(), agent: agent.to_string() }).await
    }
}
