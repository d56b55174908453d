//! Owns what administrators see and want of shards. Does not elect. Invariant: a figure of one replica names its node.

use super::ask::{Ask, ask, ask_all, leader_of};
use super::problem::Problem;
use super::{Answer, read_meta};
use crate::run::App;
use actix_web::web::{Data, Json, Path};
use cluster::node::ShardStatus;
use proto::ids::{NodeId, ReplicaId, ShardId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One replica of a shard.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplicaView {
    #[schema(value_type = String, example = "r3")]
    pub replica: ReplicaId,
    #[schema(value_type = String, example = "n1")]
    pub node: NodeId,
    /// Null: no node that has a replica was asked.
    pub voter: Option<bool>,
    /// Entries behind the leader; known only where the leader was asked.
    pub lag: Option<u64>,
    /// Index that this replica has applied.
    pub applied: Option<u64>,
    /// Hash over everything that it applied, 16 hex digits: equal on replicas at the same index.
    pub state_hash: Option<String>,
    /// About how many bytes its rows take on the disk; what is still in memory is left out.
    pub state_bytes: Option<u64>,
    /// The same of its log.
    pub log_bytes: Option<u64>,
}

/// One shard. `g0` is the meta group.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShardView {
    #[schema(value_type = String, example = "g1")]
    pub shard: ShardId,
    #[schema(value_type = Option<String>, example = "n1")]
    pub leader: Option<NodeId>,
    /// The term of the leader.
    pub epoch: u64,
    /// Index that the replica of the node that was asked has applied.
    pub applied: Option<u64>,
    /// Of the same replica; text, as JavaScript's numbers hold 53 bits.
    pub state_hash: Option<String>,
    /// The node that was asked leads and serves.
    pub serving: bool,
    pub replicas: Vec<ReplicaView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Shards {
    pub shards: Vec<ShardView>,
}

/// What one node tells of its replica.
#[derive(Debug, Serialize, Deserialize)]
pub struct Held {
    shard: ShardId,
    leader: Option<NodeId>,
    epoch: u64,
    applied: Option<u64>,
    state_hash: Option<u64>,
    serving: bool,
    bytes: (u64, u64),
    lags: Vec<(ReplicaId, Option<u64>, Option<bool>)>,
}

impl Held {
    pub fn of((status, bytes): (ShardStatus, (u64, u64))) -> Held {
        let ShardStatus { shard, leader, epoch, applied, state_hash, serving, replicas } = status;
        let lags = replicas.into_iter().map(|replica| (replica.replica, replica.lag, replica.voter)).collect();
        Held { shard, leader, epoch, applied, state_hash, serving, bytes, lags }
    }
}

fn hash_text(hash: u64) -> String {
    format!("{hash:016x}")
}

/// A shard as this node alone sees it.
pub fn view_of(status: ShardStatus) -> ShardView {
    let ShardStatus { shard, leader, epoch, applied, state_hash, serving, replicas } = status;
    let replicas = replicas.into_iter().map(|replica| ReplicaView {
        replica: replica.replica,
        node: replica.node,
        voter: replica.voter,
        lag: replica.lag,
        applied: None,
        state_hash: None,
        state_bytes: None,
        log_bytes: None,
    });
    let state_hash = state_hash.map(hash_text);
    ShardView { shard, leader, epoch, applied, state_hash, serving, replicas: replicas.collect() }
}

/// Every shard, with what each replica's own node tells of it.
async fn gather(app: &Data<App>) -> Result<Vec<ShardView>, Problem> {
    let node = app.cluster.clone();
    let status = app.on_raft(async move { node.status() }).await;
    let status = status.ok_or_else(|| Problem::unavailable("this node is stopping"))?;
    let mut shards: Vec<ShardView> = status.shards.into_iter().map(view_of).collect();
    for (node, held) in ask_all::<Vec<Held>>(app, || Ask::Held).await {
        for held in held {
            let Some(shard) = shards.iter_mut().find(|shard| shard.shard == held.shard) else { continue };
            if held.serving && held.epoch >= shard.epoch {
                (shard.leader, shard.epoch) = (held.leader, held.epoch);
                for (replica, lag, voter) in held.lags {
                    if let Some(known) = shard.replicas.iter_mut().find(|known| known.replica == replica) {
                        (known.lag, known.voter) = (lag, voter);
                    }
                }
            }
            if let Some(replica) = shard.replicas.iter_mut().find(|replica| replica.node == node) {
                replica.applied = held.applied;
                replica.state_hash = held.state_hash.map(hash_text);
                (replica.state_bytes, replica.log_bytes) = (Some(held.bytes.0), Some(held.bytes.1));
            }
        }
    }
    Ok(shards)
}

pub async fn list(app: Data<App>) -> Answer<Shards> {
    Ok(Json(Shards { shards: gather(&app).await? }))
}

pub async fn one(app: Data<App>, shard: Path<String>) -> Answer<ShardView> {
    let id = known(&app, &shard)?;
    let found = gather(&app).await?.into_iter().find(|view| view.shard == id);
    found.map(Json).ok_or_else(|| Problem::not_found("no such shard"))
}

fn known(app: &App, shard: &str) -> Result<ShardId, Problem> {
    let known = shard.parse::<ShardId>().ok().filter(|shard| shard.0 <= app.cluster.shards);
    known.ok_or_else(|| Problem::not_found("no such shard"))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaderBody {
    /// The node that shall lead; it needs a voting replica that has caught up.
    #[schema(value_type = String, pattern = "^n[1-9][0-9]{0,8}$", example = "n2")]
    pub to: NodeId,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LeaderView {
    #[schema(value_type = String, example = "g1")]
    pub shard: ShardId,
    #[schema(value_type = String, example = "n2")]
    pub leader: NodeId,
}

/// Returns once the new leader is known. The cluster spreads leaders by itself: after some seconds this one may go back.
pub async fn set_leader(app: Data<App>, shard: Path<String>, body: Json<LeaderBody>) -> Answer<LeaderView> {
    let shard = known(&app, &shard)?;
    let to = body.to;
    if !read_meta(&app, |state| state.nodes.contains_key(&to))? {
        return Err(Problem::refused("no such node"));
    }
    let leader = leader_of(&app, shard)?;
    if leader != to {
        ask::<()>(&app, leader, &Ask::Lead { shard, to }).await?;
    }
    Ok(Json(LeaderView { shard, leader: to }))
}
