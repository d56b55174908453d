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

/// The better a replica stands, the earlier it votes. Of meta a leaving node is the last: its vote must go before it can.
fn rank(row: Option<&NodeRow>, is_leaving: bool, is_meta: bool) -> u8 {
    let Some(row) = row.filter(|row| row.state != NodeState::Removed) else { return 4 };
    let leaves = is_leaving || row.state == NodeState::Leaving;
    match (row.dead, leaves) {
        (false, false) => u8::from(!row.is_placeable()),
        // A dead node's replica may come back; a leaving one's will not, but it is alive.
        (true, false) if is_meta => 2,
        (false, true) if !is_meta => 2,
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
        let is_leaving = |replica: &u64| state.replicas.get(&ReplicaId(*replica as u32)).is_some_and(|row| row.leaving);
        let mut best: Vec<u64> = members.keys().copied().collect();
        let rank_of = |replica: &u64| match rank(row_of(replica), is_leaving(replica), shard == META_SHARD) {
            // A lone voter stays where it is: moving it would move the whole quorum.
            1 if voters_max == 1 => 0,
            rank => rank,
        };
        best.sort_by_key(rank_of);
        let voters: Option<BTreeSet<u64>> =
            (best.len() >= voters_max).then(|| best.iter().copied().take(voters_max).collect());
        let leaders =
            voters.iter().flatten().copied().filter(|id| row_of(id).is_some_and(NodeRow::is_placeable)).collect();
        let is_whole = voters.as_ref().is_some_and(|voters| {
            let stays = |id: &u64| row_of(id).is_some_and(NodeRow::is_good) && !is_leaving(id);
            voters.len() == REPLICATION && voters.iter().all(stays)
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

/// The replica that ought to lead each data shard, so that leaders spread evenly.
pub fn preferred_leaders(state: &MetaState) -> BTreeMap<ShardId, u64> {
    let mut led: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut preferred = BTreeMap::new();
    for shard in state.data_shards() {
        let plan = GroupPlan::of(state, shard);
        let load = |id: &u64| plan.members.get(id).and_then(|node| led.get(node)).copied().unwrap_or(0);
        let Some(best) = plan.leaders.iter().copied().min_by_key(|id| (load(id), *id)) else { continue };
        if let Some(node) = plan.members.get(&best) {
            *led.entry(*node).or_default() += 1;
        }
        preferred.insert(shard, best);
    }
    preferred
}

/// The next move of one replica that spreads its shard over more zones, or the replicas more evenly over the nodes. `None`
/// unless all is calm: every node serves, nothing is missing, and nothing is moving.
pub fn next_move(state: &MetaState) -> Option<MetaCommand> {
    let is_calm = state.members().all(|(_, row)| row.is_placeable())
        && state.replicas.values().all(|row| row.retired || !row.leaving)
        && missing_replicas(state).is_empty()
        && state.data_shards().all(|shard| GroupPlan::of(state, shard).excess.is_empty());
    if !is_calm {
        return None;
    }
    let mut load: BTreeMap<NodeId, usize> = state.members().map(|(node, _)| (node, 0)).collect();
    for row in state.replicas.values().filter(|row| !row.retired && row.shard != META_SHARD) {
        *load.entry(row.node).or_default() += 1;
    }
    let zone = |node: NodeId| state.nodes.get(&node).map_or("", |row| row.zone.as_str());
    let mut best: Option<((bool, usize), ReplicaId, NodeId)> = None;
    for shard in state.data_shards() {
        let on: Vec<(ReplicaId, NodeId)> = state.live(shard).map(|(id, row)| (id, row.node)).collect();
        for (replica, from) in on.iter().copied() {
            let crowded = |at: NodeId| on.iter().any(|(id, node)| *id != replica && zone(*node) == zone(at));
            for (to, _) in state.members().filter(|(to, _)| on.iter().all(|(_, node)| node != to)) {
                let spreads = crowded(from) && !crowded(to);
                let is_worse = !crowded(from) && crowded(to);
                let evens = load[&from].saturating_sub(load[&to]);
                let gain = (spreads, evens);
                if (spreads || evens >= 2 && !is_worse) && best.is_none_or(|(most, ..)| gain > most) {
                    best = Some((gain, replica, to));
                }
            }
        }
    }
    best.map(|(_, replica, to)| MetaCommand::MoveReplica { replica, to })
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
        // What leaves is no longer counted: its node may even be needed again.
        let on: BTreeMap<NodeId, Option<&NodeRow>> = state
            .live(shard)
            .filter(|(_, row)| !row.leaving)
            .map(|(_, row)| (row.node, state.nodes.get(&row.node)))
            .collect();
        let free = state.members().filter(|(node, _)| !on.contains_key(node));
        if shard == META_SHARD {
            let all = free.filter(|(_, row)| row.state != NodeState::Leaving);
            wanted.extend(all.map(|(node, _)| MetaCommand::AddReplica { shard, node }));
            continue;
        }
        let mut free: Vec<(NodeId, &NodeRow)> = free.filter(|(_, row)| row.is_placeable()).collect();
        let good: Vec<&NodeRow> = on.into_values().flatten().filter(|row| row.is_good()).collect();
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
