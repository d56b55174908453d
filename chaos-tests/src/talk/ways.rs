//! Owns the seam between the talk and the cluster: how one gets in. Two exist: real nodes over HTTP, and simulated ones.
//! Does not talk. Invariant: an answer that did not come is `Unknown`, never a refusal.

use std::future::Future;
use std::time::Duration;

use node::client::ChatClient;
use node::client::{Config, Item};
use proto::client::http::{LoggedIn, VisitorCreated};
use proto::ids::{AgentId, SessionId, VisitorId};
use tokio::sync::mpsc;

use crate::history::NodeId;

/// What came back of a call.
#[derive(Debug, Clone)]
pub enum Answer<T> {
    Ok(T),
    /// It was not done, for good; the code.
    Refused(String),
    /// It may have been done.
    Unknown(String),
}

/// The ways into a cluster.
pub trait Ways: Send + Sync + 'static {
    /// `host:port` for clients of every node there is now, with the node's number.
    fn nodes(&self) -> Vec<(NodeId, String)>;
    /// Makes a visitor through a node.
    fn create_visitor(&self, node: NodeId) -> impl Future<Output = Answer<VisitorCreated>> + Send;
    /// Makes an agent's account.
    fn add_agent(&self, node: NodeId, name: &str) -> impl Future<Output = Answer<()>> + Send;
    /// Logs an agent in.
    fn log_in(&self, node: NodeId, name: &str) -> impl Future<Output = Answer<LoggedIn>> + Send;
    /// Gives a conversation to an agent, as an operator.
    fn move_session(&self, node: NodeId, session: SessionId, agent: AgentId)
    -> impl Future<Output = Answer<()>> + Send;

    /// Erases all that was said in a session and is known of its visitor.
    fn erase(&self, node: NodeId, session: SessionId, visitor: VisitorId) -> impl Future<Output = Answer<()>> + Send;

    /// Makes a team that all agents are of, who are asked before they are given anything and must answer within this.
    fn set_team(&self, node: NodeId, accept_within: Duration) -> impl Future<Output = Answer<()>> + Send;
    /// Makes an agent one of that team.
    fn set_seat(&self, node: NodeId, agent: AgentId, capacity: u32) -> impl Future<Output = Answer<()>> + Send;

    /// The number of the node that a client was told this name of.
    fn number_of(&self, name: &str) -> NodeId {
        NodeId(name.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap_or(0))
    }

    /// Starts a client.
    fn connect(&self, config: Config) -> (ChatClient, mpsc::Receiver<Item>) {
        ChatClient::start(config)
    }
}

/// The addresses of all nodes, beginning with the one whose turn it is.
pub(crate) fn addresses(ways: &impl Ways, turn: usize) -> Vec<String> {
    let mut nodes: Vec<String> = ways.nodes().into_iter().map(|(_, address)| address).collect();
    let count = nodes.len().max(1);
    nodes.rotate_left(turn % count);
    nodes
}

/// The node whose turn it is.
pub(crate) fn node(ways: &impl Ways, turn: usize) -> NodeId {
    let nodes = ways.nodes();
    nodes.get(turn % nodes.len().max(1)).map_or(NodeId(1), |(node, _)| *node)
}
