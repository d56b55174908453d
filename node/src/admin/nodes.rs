//! Owns what administrators see and want of nodes and of the cluster as a whole. Does not carry it out: the cluster does.
//! Invariant: what is not known is null, never guessed.

use super::problem::Problem;
use super::shards::{ShardView, view_of};
use super::{Answer, propose, unexpected};
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path};
use cluster::node::NodeStatus;
use proto::command::{MetaCommand, NodeState};
use proto::ids::{NodeId, ReplicaId};
use proto::peer::MetaReply;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is wanted of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Active,
    /// Serves no clients and leads nothing, but keeps its replicas.
    Draining,
    /// Drained, and its replicas move elsewhere; then it is removed.
    Leaving,
    Removed,
}

impl From<NodeState> for State {
    fn from(state: NodeState) -> State {
        match state {
            NodeState::Active => State::Active,
            NodeState::Draining => State::Draining,
            NodeState::Leaving => State::Leaving,
            NodeState::Removed => State::Removed,
        }
    }
}

/// One node.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeView {
    #[schema(value_type = String, example = "n1")]
    pub node: NodeId,
    /// `host:port` of the links between nodes.
    pub peer: String,
    /// `host:port` that clients use.
    pub client: String,
    /// `host:port` of this API.
    pub admin: String,
    /// It is the node that was asked, or a link to it is up.
    pub up: bool,
    pub state: State,
    /// The meta group's leader has not reached it for long.
    pub dead: bool,
    pub zone: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Nodes {
    pub nodes: Vec<NodeView>,
}

/// The cluster as one node sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClusterView {
    /// The node that was asked.
    #[schema(value_type = String, example = "n1")]
    pub node: NodeId,
    /// 32 hex digits.
    pub cluster: String,
    /// The id of the cluster that was founded, also after it was recovered or restored; 32 hex digits.
    pub name: Option<String>,
    /// It knows a leader of every shard.
    pub ready: bool,
    pub nodes: Vec<NodeView>,
    pub shards: Vec<ShardView>,
}

fn view(node: NodeStatus) -> NodeView {
    let NodeStatus { node, address, up, state, dead, zone } = node;
    let (peer, client, admin) = (address.peer, address.client, address.admin);
    NodeView { node, peer, client, admin, up, state: state.into(), dead, zone }
}

async fn all(app: &Data<App>) -> Result<(Vec<NodeView>, Vec<ShardView>), Problem> {
    let node = app.cluster.clone();
    let status = app.on_raft(async move { node.status() }).await;
    let status = status.ok_or_else(|| Problem::unavailable("this node is stopping"))?;
    let shards = status.shards.into_iter().map(view_of).collect();
    Ok((status.nodes.into_iter().map(view).collect(), shards))
}

pub async fn cluster(app: Data<App>) -> Answer<ClusterView> {
    let (nodes, shards) = all(&app).await?;
    let (node, cluster) = (app.cluster.me, app.cluster.cluster.to_string());
    let name = app.cluster.with_meta(|state| state.name()).flatten().map(|name| name.to_string());
    Ok(Json(ClusterView { node, cluster, name, ready: app.cluster.is_ready(), nodes, shards }))
}

pub async fn list(app: Data<App>) -> Answer<Nodes> {
    Ok(Json(Nodes { nodes: all(&app).await?.0 }))
}

pub async fn one(app: Data<App>, node: Path<String>) -> Answer<NodeView> {
    let id = known(&app, &node)?;
    let found = all(&app).await?.0.into_iter().find(|view| view.node == id);
    found.map(Json).ok_or_else(|| Problem::not_found("this node was removed"))
}

/// The node of that name, if it is or was one of the cluster.
/// # Errors
/// 404.
pub fn known(app: &App, node: &str) -> Result<NodeId, Problem> {
    let known = node.parse::<NodeId>().ok().filter(|node| app.cluster.wanted_of(*node).is_some());
    known.ok_or_else(|| Problem::not_found("no such node"))
}

/// What an operator can want of a node; it is removed by itself once it has left.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    Active,
    Draining,
    Leaving,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeStateBody {
    pub state: Wanted,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct NodeStateView {
    #[schema(value_type = String, example = "n1")]
    pub node: NodeId,
    pub state: State,
}

pub async fn set_state(app: Data<App>, node: Path<String>, body: Json<NodeStateBody>) -> Answer<NodeStateView> {
    let node = known(&app, &node)?;
    let state = match body.state {
        Wanted::Active => NodeState::Active,
        Wanted::Draining => NodeState::Draining,
        Wanted::Leaving => NodeState::Leaving,
    };
    propose(&app, MetaCommand::SetNodeState { node, state }).await?;
    Ok(Json(NodeStateView { node, state: state.into() }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveBody {
    /// The node that shall have it.
    #[schema(value_type = String, pattern = "^n[1-9][0-9]{0,8}$", example = "n4")]
    pub to: NodeId,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Moved {
    /// The new replica; the old one goes once this one votes.
    #[schema(value_type = String, example = "r12")]
    pub replica: ReplicaId,
    #[schema(value_type = String, example = "n4")]
    pub node: NodeId,
}

pub async fn move_replica(
    app: Data<App>,
    replica: Path<String>,
    body: Json<MoveBody>,
) -> Result<HttpResponse, Problem> {
    let replica = replica.parse::<ReplicaId>().map_err(|_| Problem::not_found("no such replica"))?;
    let node = body.to;
    match propose(&app, MetaCommand::MoveReplica { replica, to: node }).await? {
        MetaReply::Replica { replica } => Ok(HttpResponse::Accepted().json(Moved { replica, node })),
        _ => Err(unexpected()),
    }
}
