//! Owns the tests of what a log answers, on both engines. Does not crash anything.

use bytes::Bytes;
use storage::{LogState, Opened, StorageError};

use crate::support::{LogExt, REPLICA, both, entries, entry, intact, ticket};

fn invalid(result: Result<(), StorageError>) -> bool {
    matches!(result, Err(StorageError::Invalid { .. }))
}

#[test]
fn entries_can_be_read_when_append_returns() {
    for (name, node, _dir) in both() {
        let log = node.log();
        let (done, ticket) = ticket();
        log.append(entries(0..5, 1), done);
        assert_eq!(log.all().len(), 5, "{name}");
        assert_eq!(log.state(), LogState { purged: None, last: Some((4, 1)) });
        ticket.wait().unwrap();
    }
}

#[test]
fn a_new_log_is_empty_and_may_start_anywhere() {
    for (name, node, _dir) in both() {
        let log = node.log();
        assert_eq!(log.state(), LogState { purged: None, last: None }, "{name}");
        assert_eq!((log.vote(), log.committed(), log.all().len()), (None, None, 0));
        assert_eq!(log.term_at(0), Ok(None));
        log.append_wait(entries(2..4, 1)).unwrap();
        log.purge_wait((1, 1)).unwrap();
        assert_eq!(log.state(), LogState { purged: Some((1, 1)), last: Some((3, 1)) });
        node.log();
    }
}

#[test]
fn a_gap_is_refused_and_changes_nothing() {
    for (name, node, _dir) in both() {
        let log = node.log();
        log.append_wait(entries(0..3, 1)).unwrap();
        assert!(invalid(log.append_wait(entries(4..5, 1))), "{name}");
        assert!(invalid(log.append_wait(entries(2..4, 1))));
        assert!(invalid(log.append_wait(vec![entry(3, 1), entry(5, 1)])));
        assert_eq!(log.state().last, Some((2, 1)));
        log.append_wait(entries(3..5, 2)).unwrap();
        assert_eq!(log.all(), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2)]);
    }
}

#[test]
fn old_entries_come_from_the_disk_and_new_ones_from_the_tail() {
    for (name, node, _dir) in both() {
        let log = node.small_tail();
        for index in 0..20 {
            log.append_wait(entries(index..index + 1, 1)).unwrap();
        }
        assert!(!log.is_in_tail(&(0..20)), "{name}");
        assert!(log.is_in_tail(&(19..20)) && log.is_in_tail(&(20..30)));
        assert_eq!(log.all(), (0..20).map(|index| (index, 1)).collect::<Vec<_>>());
        let body_len = entry(0, 1).body.len();
        assert_eq!(log.read(3..20, 2 * body_len).unwrap(), entries(3..5, 1));
        assert_eq!(log.read(3..20, 0).unwrap(), entries(3..4, 1));
        assert_eq!(log.read(18..40, usize::MAX).unwrap(), entries(18..20, 1));
        assert_eq!(log.term_at(3), Ok(Some(1)));
        assert!(log.read(20..40, 0).unwrap().is_empty());
    }
}

#[test]
fn truncation_removes_exactly_what_follows() {
    for (name, node, _dir) in both() {
        for log in [node.small_tail(), node.log()] {
            log.append_wait(entries(0..10, 1)).unwrap();
            log.truncate_wait(Some(11)).unwrap();
            assert_eq!(log.all().len(), 10, "{name}");
            log.truncate_wait(Some(5)).unwrap();
            assert_eq!(log.state().last, Some((5, 1)));
            log.append_wait(entries(6..8, 2)).unwrap();
            assert_eq!(log.all()[5..], [(5, 1), (6, 2), (7, 2)]);
            log.truncate_wait(None).unwrap();
            assert_eq!((log.state(), log.all().len()), (LogState { purged: None, last: None }, 0));
        }
        assert_eq!(node.log().state().last, None);
    }
}

#[test]
fn truncation_into_purged_entries_is_refused() {
    for (name, node, _dir) in both() {
        let log = node.log();
        log.append_wait(entries(0..10, 1)).unwrap();
        log.purge_wait((4, 1)).unwrap();
        assert!(invalid(log.truncate_wait(Some(3))), "{name}");
        assert!(invalid(log.truncate_wait(None)));
        log.truncate_wait(Some(4)).unwrap();
        assert_eq!(log.state(), LogState { purged: Some((4, 1)), last: Some((4, 1)) });
        log.append_wait(entries(5..6, 2)).unwrap();
        assert_eq!(node.log().all(), [(5, 2)]);
    }
}

#[test]
fn purge_keeps_the_rest_and_a_log_goes_on_after_its_purge_point() {
    for (name, node, _dir) in both() {
        let log = node.small_tail();
        log.append_wait(entries(0..10, 1)).unwrap();
        log.purge_wait((3, 1)).unwrap();
        assert_eq!(log.all().first(), Some(&(4, 1)), "{name}");
        assert_eq!((log.term_at(3), log.term_at(2)), (Ok(Some(1)), Ok(None)));
        log.purge_wait((2, 1)).unwrap();
        assert_eq!(log.state().purged, Some((3, 1)), "a lower purge does nothing");
        assert!(invalid(log.purge_wait((6, 9))), "another term is stored there");
        log.purge_wait((20, 3)).unwrap();
        assert_eq!(log.state(), LogState { purged: Some((20, 3)), last: Some((20, 3)) });
        assert!(log.all().is_empty() && invalid(log.append_wait(entries(10..11, 3))));
        log.append_wait(entries(21..23, 4)).unwrap();
        let log = node.log();
        assert_eq!((log.state().purged, log.all()), (Some((20, 3)), vec![(21, 4), (22, 4)]));
    }
}

#[test]
fn vote_and_committed_come_back_after_a_restart() {
    for (name, node, _dir) in both() {
        let log = node.log();
        log.vote_wait(b"first").unwrap();
        log.vote_wait(b"second").unwrap();
        log.save_committed(Bytes::from_static(b"position"));
        assert_eq!(log.committed().as_deref(), Some(&b"position"[..]), "{name}");
        assert_eq!(node.log().committed(), None, "it goes along with the next append");
        log.append_wait(entries(0..1, 1)).unwrap();
        let log = node.log();
        assert_eq!(log.vote().as_deref(), Some(&b"second"[..]));
        assert_eq!(log.committed().as_deref(), Some(&b"position"[..]));
    }
}

#[test]
fn a_destroyed_replica_never_lives_again_and_leaves_its_neighbours_alone() {
    for (name, node, _dir) in both() {
        let neighbour = intact(node.open(proto::ids::ReplicaId(REPLICA.0 + 1)));
        neighbour.append_wait(entries(0..3, 1)).unwrap();
        let log = node.log();
        log.append_wait(entries(0..3, 1)).unwrap();
        log.vote_wait(b"vote").unwrap();
        drop(log);
        storage::RaftLog::destroy(&*node.engine, REPLICA).unwrap();
        node.writer.watermarks().retire(REPLICA).unwrap();
        let again = node.open(REPLICA);
        assert!(matches!(again, Opened::Amnesia { .. }), "{name}: what it promised is forgotten");
        assert_eq!(intact(node.open(proto::ids::ReplicaId(REPLICA.0 + 1))).all().len(), 3);
    }
}
