//! Owns what an operator sees of the cluster from this node. Does not format it.
//! Invariant: a figure that this node cannot know is absent, never guessed.

use super::janitor::lags;
use super::{ClusterNode, Running};
use crate::meta::NodeRow;
use crate::raft::Group;
use proto::command::{NodeAddress, NodeState};
use proto::ids::{META_SHARD, NodeId, ReplicaId, ShardId};
use std::time::Duration;

/// One node as this one sees it.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    pub node: NodeId,
    pub address: NodeAddress,
    /// This node, or a link to it is up.
    pub up: bool,
    /// What is wanted of it.
    pub state: NodeState,
    /// The meta leader has not reached it for long.
    pub dead: bool,
    pub zone: String,
}

/// One replica of a group.
#[derive(Debug, Clone)]
pub struct ReplicaStatus {
    pub replica: ReplicaId,
    pub node: NodeId,
    /// `None`: only the nodes that have a replica know.
    pub voter: Option<bool>,
    /// Entries behind the leader; known only at the leader.
    pub lag: Option<u64>,
}

/// One group.
#[derive(Debug, Clone)]
pub struct ShardStatus {
    pub shard: ShardId,
    pub leader: Option<NodeId>,
    pub epoch: u64,
    /// Index applied by this node's replica; `None` without one.
    pub applied: Option<u64>,
    /// Hash over everything that this node's replica applied; equal on replicas at the same index.
    pub state_hash: Option<u64>,
    /// This node leads and serves.
    pub serving: bool,
    pub replicas: Vec<ReplicaStatus>,
}

#[derive(Debug, Clone)]
pub struct ClusterStatus {
    pub node: NodeId,
    pub nodes: Vec<NodeStatus>,
    pub shards: Vec<ShardStatus>,
}

impl ClusterNode {
    /// What this node's own replicas tell, each with about how many bytes its rows and its log take on the disk.
    pub fn own_shards(&self) -> Vec<(ShardStatus, (u64, u64))> {
        let bytes = |group: &Group| (group.core.table.bytes(), group.log.bytes());
        self.running().iter().map(|running| (replica_status(running), bytes(&running.group))).collect()
    }

    pub fn status(&self) -> ClusterStatus {
        let nodes = self
            .with_meta(|state| state.members().map(|(id, row)| (id, row.clone())).collect::<Vec<_>>())
            .unwrap_or_default();
        let nodes = nodes
            .into_iter()
            .map(|(node, row)| {
                let up = node == self.me || self.transport.peer(node).is_some_and(|peer| peer.is_up());
                let NodeRow { address, state, dead, zone } = row;
                NodeStatus { node, address, up, state, dead, zone }
            })
            .collect();
        let shards = (0..=self.shards).map(|shard| self.shard_status(ShardId(shard))).collect();
        ClusterStatus { node: self.me, nodes, shards }
    }

    /// Meta and every data shard have a leader that this node can reach, and those that lead here hear their majority.
    pub fn is_ready(&self) -> bool {
        let meta = self.meta_group().is_some_and(|group| {
            group.leadership().leader.is_some_and(|(_, leader)| self.is_served_by(META_SHARD, leader))
        });
        let served = |shard| self.router.leader(shard).is_some_and(|leader| self.is_served_by(shard, leader));
        meta && (1..=self.shards).all(|shard| served(ShardId(shard)))
    }

    fn is_served_by(&self, shard: ShardId, leader: NodeId) -> bool {
        if leader != self.me {
            return self.transport.peer(leader).is_some_and(|peer| peer.is_up());
        }
        self.running_of(shard).is_some_and(|running| running.group.hears_majority(self.silence_max()))
    }

    /// A leader that no majority has answered for so long serves nobody; another has had the time to stand.
    fn silence_max(&self) -> Duration {
        self.timings.election_max * 3
    }

    fn shard_status(&self, shard: ShardId) -> ShardStatus {
        self.running_of(shard).map_or_else(|| self.shard_elsewhere(shard), |running| replica_status(&running))
    }

    /// What meta and the leader's announcements tell of a shard without a replica here.
    fn shard_elsewhere(&self, shard: ShardId) -> ShardStatus {
        let replicas = self
            .with_meta(|state| {
                let replica = |(id, row): (ReplicaId, &crate::meta::ReplicaRow)| ReplicaStatus {
                    replica: id,
                    node: row.node,
                    voter: None,
                    lag: None,
                };
                state.live(shard).map(replica).collect()
            })
            .unwrap_or_default();
        let (leader, epoch) = match self.router.told_leader(shard) {
            Some((node, epoch)) => (Some(node), epoch.0),
            None => (self.router.leader(shard), 0),
        };
        ShardStatus { shard, leader, epoch, applied: None, state_hash: None, serving: false, replicas }
    }
}

/// What a replica of this node tells of its group.
fn replica_status(running: &Running) -> ShardStatus {
    let group = &running.group;
    let leadership = group.leadership();
    let (voters, members) = group.members();
    let lags = lags(group);
    let lag_of = |id: u64| match id == u64::from(group.replica.0) && leadership.serving {
        true => Some(0),
        false => lags.get(&id).copied(),
    };
    let replica = |(id, node): (u64, NodeId)| ReplicaStatus {
        replica: ReplicaId(id as u32),
        node,
        voter: Some(voters.contains(&id)),
        lag: lag_of(id),
    };
    let hash = || running.shard.as_ref().map(|shard| shard.peek(|state, _| state.state_hash()));
    let (applied, state_hash) = group.core.at_rest(hash);
    ShardStatus {
        shard: group.shard,
        leader: leadership.leader.map(|(_, node)| node),
        epoch: leadership.epoch.0,
        applied: Some(applied),
        state_hash,
        serving: leadership.serving,
        replicas: members.into_iter().map(replica).collect(),
    }
}
