//! Tests of the meta rules.

use super::super::rows::NodeRowV1;
use super::*;
use proto::codec;

pub(in crate::meta) fn address() -> NodeAddress {
    NodeAddress { peer: "h:1".into(), client: "h:2".into(), admin: "h:3".into() }
}

pub(in crate::meta) fn cluster() -> MetaState {
    let mut state = MetaState::default();
    let bootstrap = MetaCommand::Bootstrap {
        cluster: 5,
        shards: 6,
        address: address(),
        admin_token: [1; 32],
        admin_password: "x".into(),
    };
    assert_eq!(state.apply(1, bootstrap), MetaReply::Done);
    state
}

#[test]
fn a_fresh_cluster_has_one_replica_per_group_and_the_demo_site() {
    let state = cluster();
    assert_eq!(state.replicas.len(), 7);
    assert!(state.replicas.values().all(|row| row.founder && !row.retired));
    assert!(state.site_by_name("demo").is_some());
}

#[test]
fn a_join_token_serves_one_machine_until_it_expires() {
    let mut state = cluster();
    let join = |request| MetaCommand::Join { token: [7; 32], request, address: address() };
    assert!(matches!(state.apply(10, join(1)), MetaReply::Refused { .. }));
    state.apply(10, MetaCommand::CreateJoinToken { token: [7; 32], expires_ms: 100 });
    assert!(matches!(state.apply(100, join(1)), MetaReply::Refused { .. }), "expired");
    assert_eq!(state.apply(50, join(1)), MetaReply::Node { node: NodeId(2), shards: 6 });
    assert_eq!(state.apply(150, join(1)), MetaReply::Node { node: NodeId(2), shards: 6 }, "a retry");
    assert!(matches!(state.apply(50, join(2)), MetaReply::Refused { .. }), "another machine");
}

#[test]
fn replica_ids_are_never_used_twice() {
    let mut state = cluster();
    assert_eq!(
        state.apply(1, MetaCommand::AddReplica { shard: ShardId(1), node: NodeId(1) }),
        MetaReply::Replica { replica: ReplicaId(2) }
    );
    state.apply(1, MetaCommand::RetireReplica { replica: ReplicaId(2) });
    let again = state.apply(1, MetaCommand::AddReplica { shard: ShardId(1), node: NodeId(1) });
    assert_eq!(again, MetaReply::Replica { replica: ReplicaId(8) });
}

#[test]
fn the_state_survives_its_rows() {
    let mut state = cluster();
    state.apply(1, MetaCommand::CreateJoinToken { token: [7; 32], expires_ms: 100 });
    state.apply(1, MetaCommand::AddAgent { site: "demo".into(), name: "li".into(), password: "p".into() });
    let mut copy = MetaState::default();
    for (key, value) in state.take_changes() {
        copy.load(&key, &value.expect("nothing was deleted")).expect("own rows");
    }
    assert_eq!(format!("{state:?}"), format!("{copy:?}"));
}

#[test]
fn a_node_row_of_version_1_is_an_active_node() {
    let mut state = MetaState::default();
    let row = codec::encode(&NodeRowV1 { address: address() });
    state.load(&node_key(NodeId(2)), &row).expect("version 1 is known");
    assert_eq!(state.nodes[&NodeId(2)], NodeRow::new(address()));
}

/// Found by the fuzz target `meta_state`: a cluster of four billion shards was planned one by one, and ids overflowed.
#[test]
fn numbers_that_no_cluster_gets_to_are_refused_and_never_counted_on() {
    let (admin_token, admin_password) = ([1; 32], String::new());
    let mut state = MetaState::default();
    let bootstrap =
        MetaCommand::Bootstrap { cluster: 5, shards: u32::MAX, address: address(), admin_token, admin_password };
    assert!(matches!(state.apply(1, bootstrap), MetaReply::Refused { .. }));
    assert!(state.cluster.is_none());
    let good = cluster().cluster.expect("a cluster");
    assert!(MetaState::default().load(b"C", &codec::encode(&good)).is_ok());
    for bad in [
        ClusterRow { shards: u32::MAX, ..good.clone() },
        ClusterRow { next_node: u32::MAX, ..good.clone() },
        ClusterRow { next_replica: u32::MAX, ..good.clone() },
        ClusterRow { next_site: u32::MAX, ..good.clone() },
        ClusterRow { next_agent: u64::MAX, ..good.clone() },
        ClusterRow { next_webhook: u64::MAX, ..good.clone() },
        ClusterRow { version: u16::MAX, ..good },
    ] {
        assert!(MetaState::default().load(b"C", &codec::encode(&bad)).is_err(), "{bad:?}");
    }
    let authority = AuthorityRow { certificate: vec![1], key: proto::command::SecretBytes(vec![2]) };
    let authority = codec::encode(&authority);
    assert!(MetaState::default().load(b"K\0\0\0\x01", &authority).is_ok());
    assert!(MetaState::default().load(b"K\xff\xff\xff\xff", &authority).is_err());
}

/// Found by the fuzz target `meta_state`: an agent was to be added to a site whose cluster has no row.
#[test]
fn rows_without_the_clusters_own_are_refused_commands_and_no_panic() {
    let mut state = cluster();
    state.nodes.insert(NodeId(2), NodeRow::new(address()));
    state.cluster = None;
    let replica = state.live(ShardId(1)).map(|(id, _)| id).next().expect("a replica of the first node");
    for command in [
        MetaCommand::AddAgent { site: "demo".into(), name: "ada".into(), password: String::new() },
        MetaCommand::AddSite { name: "other".into() },
        MetaCommand::AddReplica { shard: ShardId(1), node: NodeId(2) },
        MetaCommand::MoveReplica { replica, to: NodeId(2) },
    ] {
        assert!(matches!(state.apply(1, command.clone()), MetaReply::Refused { .. }), "{command:?}");
    }
}
