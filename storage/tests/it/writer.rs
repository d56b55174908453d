//! Owns the tests of the one log writer: order, merging, faults and its end. Does not look into a log.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::ids::ReplicaId;
use storage::{LogEntry, MemEngine, StorageError, Watermarks, WriterOptions};

use crate::support::{LogExt, Node, REPLICA, entries, entry, intact, ticket};

#[test]
fn writes_of_a_replica_are_answered_in_order_and_share_syncs() {
    for (name, node, _dir) in crate::support::both() {
        let logs: Vec<_> = (1..=7).map(|number| intact(node.open(ReplicaId(number)))).collect();
        let order = Arc::new(Mutex::new(vec![Vec::new(); 7]));
        std::thread::scope(|scope| {
            for (number, log) in logs.iter().enumerate() {
                let order = order.clone();
                scope.spawn(move || {
                    for index in 0..300 {
                        let order = order.clone();
                        log.append(
                            entries(index..index + 1, 1),
                            Box::new(move |result| {
                                result.unwrap();
                                order.lock()[number].push(index);
                            }),
                        );
                    }
                    log.append_wait(entries(300..301, 1)).unwrap();
                });
            }
        });
        for answered in &*order.lock() {
            assert!(answered.iter().copied().eq(0..300), "{name}");
        }
        let fsyncs = node.writer.fsyncs();
        assert!(fsyncs < 7 * 301, "{name}: {fsyncs} syncs for {} appends", 7 * 301);
    }
}

#[test]
fn concurrent_appends_to_one_log_reach_the_disk_in_the_order_of_their_indexes() {
    let engine = MemEngine::new();
    let node = Node::mem(&engine);
    let log = node.log();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut mine = 0;
                while mine < 100 {
                    let next = log.state().last.map_or(0, |(index, _)| index + 1);
                    // Another thread may have been faster: then the append is refused and we try the next index.
                    mine += u64::from(log.append_wait(vec![entry(next, 1)]).is_ok());
                }
            });
        }
    });
    assert_eq!(Node::mem(&engine.restart()).log().all().len(), 400);
}

#[test]
fn a_failed_sync_is_told_once_and_nothing_is_written_after_it() {
    let engine = MemEngine::new();
    let node = Node::mem(&engine);
    let log = node.log();
    log.append_wait(entries(0..3, 1)).unwrap();
    // The paced write of the marks would take the fault otherwise.
    node.writer.stop();
    let node = Node::with(
        engine.clone(),
        Watermarks::in_memory(&engine),
        WriterOptions { watermark_pace: std::time::Duration::from_secs(600), ..WriterOptions::default() },
    );
    let log = node.log();
    engine.fail_next_sync();
    let tickets: Vec<_> = (3..40)
        .map(|index| {
            let (done, ticket) = ticket();
            log.append(entries(index..index + 1, 1), done);
            ticket
        })
        .collect();
    for ticket in tickets {
        assert!(ticket.wait().is_err());
    }
    assert!(matches!(log.vote_wait(b"vote"), Err(StorageError::Poisoned { .. })));
    assert!(matches!(log.truncate_wait(Some(0)), Err(StorageError::Poisoned { .. })));
    let fatals = node.fatals.lock().clone();
    assert!(matches!(fatals[..], [StorageError::Io { what: "sync", .. }]), "{fatals:?}");
    assert_eq!(node.writer.fatal(), fatals.first().cloned());
    let log = Node::mem(&engine.restart()).log();
    assert_eq!((log.all().len(), log.vote()), (3, None));
}

#[test]
fn a_full_disk_is_fatal_and_keeps_what_was_acknowledged() {
    let engine = MemEngine::new();
    let node = Node::mem(&engine);
    let log = node.log();
    log.append_wait(entries(0..3, 1)).unwrap();
    engine.set_capacity(1000);
    let large = LogEntry { index: 3, term: 1, body: Bytes::from(vec![0; 2000]) };
    assert!(matches!(log.append_wait(vec![large]), Err(StorageError::NoSpace { .. })));
    assert!(log.append_wait(vec![entry(4, 1)]).is_err(), "nothing is retried even when it would fit");
    assert_eq!(node.fatals.lock().len(), 1);
    assert_eq!(Node::mem(&engine.restart()).log().all().len(), 3);
}

#[test]
fn a_failed_watermark_is_fatal_before_its_vote_is_answered() {
    for syncs in 0..4 {
        let engine = MemEngine::new();
        let node = Node::mem(&engine);
        let log = node.log();
        engine.power_off_after(syncs);
        let answers = [log.vote_wait(b"one"), log.vote_wait(b"two")];
        assert_eq!(node.fatals.lock().len(), usize::from(answers.iter().any(Result::is_err)), "{syncs}");
        node.writer.stop();
        let engine = engine.restart();
        let votes = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(votes, usize::try_from(syncs).unwrap() / 2, "a vote takes two syncs");
        if votes == 0 {
            continue;
        }
        engine.wipe_rows();
        assert!(matches!(Node::mem(&engine).open(REPLICA), storage::Opened::Amnesia { .. }));
    }
}

#[test]
fn a_stopped_writer_answers_everything() {
    let node = Node::mem(&MemEngine::new());
    let log = node.log();
    let (done, earlier) = ticket();
    log.append(entries(0..3, 1), done);
    node.writer.stop();
    assert_eq!(earlier.wait(), Ok(()));
    assert_eq!(log.append_wait(entries(3..4, 1)), Err(StorageError::Stopped));
    assert!(node.fatals.lock().is_empty());
}

#[test]
fn marks_follow_the_last_append_without_another_write() {
    let engine = MemEngine::new();
    let node = Node::mem(&engine);
    node.log().append_wait(entries(0..3, 1)).unwrap();
    // Birth row, birth mark, append, and then the mark that nobody waits for.
    let deadline = std::time::Instant::now() + crate::support::DEADLINE;
    while engine.syncs() < 4 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    let engine = engine.restart();
    let mut batch = storage::Batch::new();
    batch.delete(storage::Family::Log, &[&REPLICA.0.to_be_bytes()[..], &2u64.to_be_bytes()].concat());
    storage::Engine::write(&*engine, batch, storage::Durability::Synced).unwrap();
    let reason = crate::support::amnesia(Node::mem(&engine).open(REPLICA));
    assert_eq!(reason, "the log ends at 1, the watermark knows of 2");
}

#[test]
fn the_last_words_of_a_process_are_one_line_and_its_code_is_75() {
    const CHILD: &str = "EVERDESK_STORAGE_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        storage::exit_on_fatal(&StorageError::NoSpace { cause: "test".to_owned() });
    }
    let name = "writer::the_last_words_of_a_process_are_one_line_and_its_code_is_75";
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let stderr = String::from_utf8(child.stderr).unwrap();
    assert_eq!(child.status.code(), Some(75));
    assert!(stderr.trim_end().ends_with("no space left: test") && stderr.lines().count() == 1, "{stderr}");
}
