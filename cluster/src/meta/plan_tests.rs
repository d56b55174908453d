//! Tests of where replicas go.

use super::*;
use crate::meta::rows::ReplicaRow;
use crate::meta::state::tests::{address, cluster};
use proto::peer::MetaReply;

/// A cluster that settled after each of so many nodes had joined; they stand in turn in each of the zones.
fn nodes(count: u32, zones: &[&str]) -> MetaState {
    let mut state = cluster();
    for number in 1..=count {
        if number > 1 {
            let token = [number as u8; 32];
            state.apply(1, MetaCommand::CreateJoinToken { token, expires_ms: 100 });
            state.apply(2, MetaCommand::Join { token, request: u128::from(number), address: address() });
        }
        let zone = zones[(number as usize - 1) % zones.len()].to_owned();
        state.apply(3, MetaCommand::SetNodeZone { node: NodeId(number), zone });
        settle(&mut state);
    }
    state
}

/// Data replicas on each node.
fn loads(state: &MetaState) -> BTreeMap<u32, usize> {
    let mut loads: BTreeMap<u32, usize> = state.members().map(|(node, _)| (node.0, 0)).collect();
    for node in (1..=6).flat_map(|shard| data_nodes(state, shard)) {
        *loads.entry(node).or_default() += 1;
    }
    loads
}

/// Allots what is missing, retires what is too much and moves what is uneven, as the leaders do.
fn settle(state: &mut MetaState) {
    loop {
        let mut wanted = missing_replicas(state);
        for shard in (0..=6).map(ShardId) {
            let excess = GroupPlan::of(state, shard).excess;
            wanted.extend(excess.into_iter().map(|replica| MetaCommand::RetireExcess { replica }));
        }
        if wanted.is_empty() {
            wanted.extend(next_move(state));
        }
        if wanted.is_empty() {
            return;
        }
        for command in wanted {
            assert!(!matches!(state.apply(4, command), MetaReply::Refused { .. }));
        }
    }
}

fn data_nodes(state: &MetaState, shard: u32) -> BTreeSet<u32> {
    state.live(ShardId(shard)).map(|(_, row)| row.node.0).collect()
}

fn set(state: &mut MetaState, node: u32, to: NodeState) -> MetaReply {
    state.apply(5, MetaCommand::SetNodeState { node: NodeId(node), state: to })
}

#[test]
fn data_shards_have_three_replicas_and_every_node_follows_meta() {
    let state = nodes(5, &[""]);
    assert!((1..=6).all(|shard| data_nodes(&state, shard).len() == 3));
    assert_eq!(data_nodes(&state, 0).len(), 5);
    assert_eq!(GroupPlan::of(&state, META_SHARD).voters.map(|voters| voters.len()), Some(5));
}

#[test]
fn a_node_that_leaves_is_replaced_and_only_then_removed() {
    let mut state = nodes(4, &[""]);
    assert!(matches!(set(&mut state, 2, NodeState::Removed), MetaReply::Refused { .. }), "it has not left");
    assert_eq!(set(&mut state, 2, NodeState::Leaving), MetaReply::Done);
    assert!(matches!(set(&mut state, 2, NodeState::Removed), MetaReply::Refused { .. }), "it holds replicas");
    let holds = |(_, row): &(&ReplicaId, &ReplicaRow)| row.node == NodeId(2) && row.shard != META_SHARD && !row.retired;
    let (held, shard) = state.replicas.iter().find(holds).map(|(id, row)| (*id, row.shard)).expect("it holds some");
    assert!(GroupPlan::of(&state, shard).excess.is_empty(), "nobody has taken its place yet");
    let too_early = state.apply(5, MetaCommand::RetireExcess { replica: held });
    assert!(matches!(too_early, MetaReply::Refused { .. }));
    for command in missing_replicas(&state) {
        state.apply(6, command);
    }
    let plan = GroupPlan::of(&state, shard);
    assert_eq!(plan.excess, [held]);
    assert!(!plan.voters.expect("three are good").contains(&u64::from(held.0)));
    settle(&mut state);
    assert!((1..=6).all(|shard| data_nodes(&state, shard) == BTreeSet::from([1, 3, 4])));
    assert_eq!(set(&mut state, 2, NodeState::Removed), MetaReply::Done);
    assert_eq!(data_nodes(&state, 0), BTreeSet::from([1, 3, 4]));
    assert!(matches!(set(&mut state, 2, NodeState::Active), MetaReply::Refused { .. }), "removed is for ever");
    assert!(missing_replicas(&state).is_empty());
}

#[test]
fn the_third_node_can_be_drained_but_not_removed() {
    let mut state = nodes(3, &[""]);
    assert!(matches!(set(&mut state, 3, NodeState::Leaving), MetaReply::Refused { .. }));
    assert_eq!(set(&mut state, 3, NodeState::Draining), MetaReply::Done);
    let plan = GroupPlan::of(&state, ShardId(3));
    assert_eq!(plan.voters.as_ref().map(BTreeSet::len), Some(3));
    assert_eq!(plan.leaders.len(), 2, "it keeps its vote and leads nothing");
    assert!(plan.excess.is_empty() && missing_replicas(&state).is_empty());
}

#[test]
fn a_dead_node_is_replaced_where_a_node_is_free_and_else_keeps_its_vote() {
    let dead = MetaCommand::SetNodeDead { node: NodeId(3), dead: true };
    let mut three = nodes(3, &[""]);
    three.apply(7, dead.clone());
    assert!(missing_replicas(&three).is_empty());
    assert_eq!(GroupPlan::of(&three, ShardId(1)).voters.map(|voters| voters.len()), Some(3));

    let mut four = nodes(4, &[""]);
    four.apply(7, dead);
    settle(&mut four);
    assert!((1..=6).all(|shard| data_nodes(&four, shard) == BTreeSet::from([1, 2, 4])));
    assert_eq!(data_nodes(&four, 0).len(), 4, "meta waits for it");
    four.apply(8, MetaCommand::SetNodeDead { node: NodeId(3), dead: false });
    settle(&mut four);
    assert!(loads(&four)[&3] >= 4, "it is filled again");
}

#[test]
fn replicas_are_spread_over_zones() {
    let state = nodes(6, &["a", "b", "c"]);
    for shard in 1..=6 {
        let zones: BTreeSet<String> =
            data_nodes(&state, shard).iter().map(|node| state.nodes[&NodeId(*node)].zone.clone()).collect();
        assert_eq!(zones.len(), 3, "shard {shard}");
    }
}

#[test]
fn replicas_and_leaders_are_even_after_every_join() {
    for count in 3..=7 {
        let state = nodes(count, &[""]);
        let loads = loads(&state);
        assert_eq!(loads.values().sum::<usize>(), 18);
        let (least, most) = (loads.values().min(), loads.values().max());
        assert!(most <= least.map(|least| least + 1).as_ref(), "{count} nodes: {loads:?}");
        let mut led: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (shard, replica) in preferred_leaders(&state) {
            let node = GroupPlan::of(&state, shard).members[&replica];
            *led.entry(node).or_default() += 1;
        }
        assert_eq!(led.values().sum::<usize>(), 6);
        assert!(led.values().max() <= Some(&2), "{count} nodes: {led:?}");
    }
}

#[test]
fn a_moved_replica_goes_once_its_successor_is_there() {
    let mut state = nodes(4, &[""]);
    let free = |state: &MetaState| (1..=4).find(|node| !data_nodes(state, 1).contains(node)).expect("one of four");
    let (replica, to) = (state.live(ShardId(1)).next().map(|(id, _)| id).expect("three"), NodeId(free(&state)));
    let moved = state.apply(9, MetaCommand::MoveReplica { replica, to });
    let MetaReply::Replica { replica: successor } = moved else { panic!("{moved:?}") };
    assert_eq!(state.apply(9, MetaCommand::MoveReplica { replica, to }), moved, "a repeat");
    let plan = GroupPlan::of(&state, ShardId(1));
    assert_eq!(plan.excess, [replica]);
    assert!(plan.voters.expect("four").contains(&u64::from(successor.0)));
    assert!(next_move(&state).is_none() && missing_replicas(&state).is_empty(), "one at a time");
    let busy = state.apply(9, MetaCommand::MoveReplica { replica: successor, to });
    assert!(matches!(busy, MetaReply::Refused { .. }));
}

#[test]
fn nodes_can_be_removed_while_a_replica_moves() {
    for the_target_goes in [false, true] {
        let mut state = nodes(4, &[""]);
        let on = data_nodes(&state, 1);
        let to = (1..=4).find(|node| !on.contains(node)).expect("one of four");
        let replica = state.live(ShardId(1)).next().map(|(id, _)| id).expect("three");
        let stays = state.live(ShardId(1)).nth(1).map(|(_, row)| row.node.0).expect("three");
        let moved = state.apply(9, MetaCommand::MoveReplica { replica, to: NodeId(to) });
        assert!(matches!(moved, MetaReply::Replica { .. }));
        let gone = if the_target_goes { to } else { stays };
        assert_eq!(set(&mut state, gone, NodeState::Leaving), MetaReply::Done);
        settle(&mut state);
        assert_eq!(set(&mut state, gone, NodeState::Removed), MetaReply::Done, "target {the_target_goes}");
        assert!((1..=6).all(|shard| data_nodes(&state, shard).len() == 3));
    }
}

#[test]
fn a_lone_voter_stays_where_it_is() {
    let mut state = nodes(2, &[""]);
    let before = GroupPlan::of(&state, ShardId(1)).voters;
    assert_eq!(set(&mut state, 1, NodeState::Draining), MetaReply::Done);
    let plan = GroupPlan::of(&state, ShardId(1));
    assert_eq!((plan.voters, plan.leaders.len()), (before, 0));
}

#[test]
fn a_leaving_node_that_lives_votes_rather_than_a_dead_one() {
    let mut state = nodes(4, &[""]);
    let both = |shard: &ShardId| data_nodes(&state, shard.0).is_superset(&BTreeSet::from([1, 2]));
    let shard = (1..=6).map(ShardId).find(both).expect("some shard is on both");
    let held = state.live(shard).find(|(_, row)| row.node == NodeId(1)).map(|(id, _)| id).expect("on both");
    assert_eq!(set(&mut state, 1, NodeState::Leaving), MetaReply::Done);
    for command in missing_replicas(&state) {
        state.apply(6, command);
    }
    state.apply(9, MetaCommand::SetNodeDead { node: NodeId(2), dead: true });
    let voters = GroupPlan::of(&state, shard).voters.expect("four are live");
    assert!(voters.contains(&u64::from(held.0)), "{voters:?}");
    let meta = GroupPlan::of(&state, META_SHARD);
    let on_leaving = meta.members.iter().find(|(_, node)| **node == NodeId(1)).map(|(id, _)| *id).expect("it follows");
    assert!(!meta.voters.expect("four are live").contains(&on_leaving), "of meta it must lose its vote");
}
