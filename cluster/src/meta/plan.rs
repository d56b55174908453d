//! Owns what a group's members ought to be. Pure. Does not change anything.
//! Invariant: with three nodes or more a group has an odd number of voters, on different nodes.

use super::state::MetaState;
use proto::command::MetaCommand;
use proto::ids::{META_SHARD, NodeId, ReplicaId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

/// Replicas of a data shard.
const REPLICATION: usize = 3;

/// What a group's leader works towards.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupPlan {
    /// Every live replica and its node.
    pub members: BTreeMap<u64, NodeId>,
    /// `None`: too few replicas are alive for the plan; the voters stay as they are, so that no acknowledged entry rests on
    /// fewer disks than before.
    pub voters: Option<BTreeSet<u64>>,
}

impl GroupPlan {
    /// The plan for one group.
    pub fn of(state: &MetaState, shard: ShardId) -> Self {
        let members: BTreeMap<u64, NodeId> = state.live(shard).map(|(id, row)| (u64::from(id.0), row.node)).collect();
        let voters_max = match (shard == META_SHARD, state.nodes.len()) {
            (true, 5..) => 5,
            (_, 3..) => REPLICATION,
            // Two voters survive no more failures than one, and stop at the first: the second node only follows.
            _ => 1,
        };
        let voters = (members.len() >= voters_max).then(|| members.keys().copied().take(voters_max).collect());
        GroupPlan { members, voters }
    }
}

/// The replica that ought to lead a data shard, so that leaders spread evenly.
pub fn preferred_leader(plan: &GroupPlan, shard: ShardId) -> Option<u64> {
    let voters: Vec<u64> = plan.voters.iter().flatten().copied().collect();
    let place = (shard.0 as usize).checked_sub(1)? % voters.len().max(1);
    voters.get(place).copied()
}

/// The next replicas to allot: every node follows meta; data shards want three replicas on the emptiest nodes.
pub fn missing_replicas(state: &MetaState) -> Vec<MetaCommand> {
    let Some(cluster) = &state.cluster else { return Vec::new() };
    let mut load: BTreeMap<NodeId, usize> = state.nodes.keys().map(|node| (*node, 0)).collect();
    for row in state.replicas.values().filter(|row| !row.retired) {
        *load.entry(row.node).or_default() += 1;
    }
    let mut wanted = Vec::new();
    for shard in (0..=cluster.shards).map(ShardId) {
        let on: BTreeSet<NodeId> = state.live(shard).map(|(_, row)| row.node).collect();
        let most = if shard == META_SHARD { usize::MAX } else { REPLICATION };
        let mut free: Vec<(usize, NodeId)> = load
            .iter()
            .filter(|(node, _)| !on.contains(node) && state.nodes.contains_key(node))
            .map(|(node, count)| (*count, *node))
            .collect();
        free.sort_unstable();
        for (_, node) in free.into_iter().take(most.saturating_sub(on.len())) {
            *load.entry(node).or_default() += 1;
            wanted.push(MetaCommand::AddReplica { shard, node });
        }
    }
    wanted
}

/// Replicas that this node must run.
pub fn replicas_on(state: &MetaState, node: NodeId) -> Vec<(ReplicaId, ShardId, bool)> {
    state
        .replicas
        .iter()
        .filter(|(_, row)| row.node == node && !row.retired)
        .map(|(id, row)| (*id, row.shard, row.founder))
        .collect()
}
