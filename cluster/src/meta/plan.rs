//! Owns what a group's members ought to be. Pure. Does not change anything.
//! Invariant: with three nodes or more a group has an odd number of voters, on different nodes.

use super::rows::NodeRow;
use super::state::MetaState;
use proto::command::{MetaCommand, NodeState};
use proto::ids::{META_SHARD, NodeId, ReplicaId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

/// Replicas of a data shard.
pub const REPLICATION: usize = 3;

/// What a group's leader works towards.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupPlan {
    /// Every live replica and its node.
    pub members: BTreeMap<u64, NodeId>,
    /// `None`: too few replicas are alive for the plan; the voters stay as they are, so that no acknowledged entry rests on
    /// fewer disks than before.
    pub voters: Option<BTreeSet<u64>>,
    /// The voters that may lead.
    pub leaders: Vec<u64>,
    /// Replicas to retire once the voters are as planned: others hold the group on good nodes.
    pub excess: Vec<ReplicaId>,
}

/// The better a node, the earlier its replica votes.
fn rank(row: Option<&NodeRow>) -> u8 {
    match row {
        Some(row) if row.is_placeable() => 0,
        Some(row) if row.is_good() => 1,
        // Its replica may come back; the next one's will not.
        Some(row) if row.state != NodeState::Leaving => 2,
        _ => 3,
    }
}

impl GroupPlan {
    /// The plan for one group.
    pub fn of(state: &MetaState, shard: ShardId) -> Self {
        let members: BTreeMap<u64, NodeId> = state.live(shard).map(|(id, row)| (u64::from(id.0), row.node)).collect();
        let staying = state.members().filter(|(_, row)| row.state != NodeState::Leaving).count();
        let voters_max = match (shard == META_SHARD, staying) {
            (true, 5..) => 5,
            (_, 3..) => REPLICATION,
            // Two voters survive no more failures than one, and stop at the first: the second node only follows.
            _ => 1,
        };
        let row_of = |replica: &u64| members.get(replica).and_then(|node| state.nodes.get(node));
        let mut best: Vec<u64> = members.keys().copied().collect();
        best.sort_by_key(|replica| rank(row_of(replica)));
        let voters: Option<BTreeSet<u64>> =
            (best.len() >= voters_max).then(|| best.iter().copied().take(voters_max).collect());
        let leaders =
            voters.iter().flatten().copied().filter(|id| row_of(id).is_some_and(NodeRow::is_placeable)).collect();
        let is_whole = voters.as_ref().is_some_and(|voters| {
            voters.len() == REPLICATION && voters.iter().all(|id| row_of(id).is_some_and(NodeRow::is_good))
        });
        let excess = match &voters {
            Some(voters) if is_whole && shard != META_SHARD => {
                members.keys().filter(|id| !voters.contains(id)).map(|id| ReplicaId(*id as u32)).collect()
            }
            _ => Vec::new(),
        };
        GroupPlan { members, voters, leaders, excess }
    }
}

/// The replica that ought to lead a data shard, so that leaders spread evenly.
pub fn preferred_leader(plan: &GroupPlan, shard: ShardId) -> Option<u64> {
    let place = (shard.0 as usize).checked_sub(1)? % plan.leaders.len().max(1);
    plan.leaders.get(place).copied()
}

/// The next replicas to allot: every node that stays follows meta; data shards want three replicas on good nodes, in zones
/// that the group is not in yet where there are any, on the emptiest nodes there.
pub fn missing_replicas(state: &MetaState) -> Vec<MetaCommand> {
    let Some(cluster) = &state.cluster else { return Vec::new() };
    let mut load: BTreeMap<NodeId, usize> = BTreeMap::new();
    for row in state.replicas.values().filter(|row| !row.retired) {
        *load.entry(row.node).or_default() += 1;
    }
    let mut wanted = Vec::new();
    for shard in (0..=cluster.shards).map(ShardId) {
        let on: BTreeSet<NodeId> = state.live(shard).map(|(_, row)| row.node).collect();
        let free = state.members().filter(|(node, _)| !on.contains(node));
        if shard == META_SHARD {
            let all = free.filter(|(_, row)| row.state != NodeState::Leaving);
            wanted.extend(all.map(|(node, _)| MetaCommand::AddReplica { shard, node }));
            continue;
        }
        let mut free: Vec<(NodeId, &NodeRow)> = free.filter(|(_, row)| row.is_placeable()).collect();
        let good: Vec<&NodeRow> =
            on.iter().filter_map(|node| state.nodes.get(node)).filter(|row| row.is_good()).collect();
        let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
        for row in &good {
            *zones.entry(&row.zone).or_default() += 1;
        }
        for _ in good.len()..REPLICATION {
            let key = |(node, row): &(NodeId, &NodeRow)| {
                (zones.get(row.zone.as_str()).copied().unwrap_or(0), load.get(node).copied().unwrap_or(0), *node)
            };
            let Some(best) = (0..free.len()).min_by_key(|at| key(&free[*at])) else { break };
            let (node, row) = free.swap_remove(best);
            *zones.entry(&row.zone).or_default() += 1;
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

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
