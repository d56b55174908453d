//! Owns the tests that take rows away from a stopped node, in memory. Does not touch files (see `rocks`).

use storage::{Batch, Durability, Engine, Family, MemEngine, Opened, Watermarks};

use crate::support::{LogExt, Node, REPLICA, amnesia, entries};

fn log_key(index: u64) -> Vec<u8> {
    [&REPLICA.0.to_be_bytes()[..], &index.to_be_bytes()].concat()
}

fn vote_key() -> Vec<u8> {
    [&REPLICA.0.to_be_bytes()[..], &[2]].concat()
}

/// A machine that ran, saved two votes and entries 0..10, purged up to 2 and was stopped.
fn used() -> std::sync::Arc<MemEngine> {
    let engine = MemEngine::new();
    let node = Node::mem(&engine);
    let log = node.log();
    log.vote_wait(b"one").unwrap();
    log.append_wait(entries(0..10, 1)).unwrap();
    log.purge_wait((2, 1)).unwrap();
    log.vote_wait(b"two").unwrap();
    node.writer.stop();
    engine.restart()
}

fn delete(engine: &MemEngine, family: Family, key: &[u8]) {
    let mut batch = Batch::new();
    batch.delete(family, key);
    engine.write(batch, Durability::Synced).unwrap();
}

fn reason(engine: &std::sync::Arc<MemEngine>) -> String {
    amnesia(Node::mem(engine).open(REPLICA))
}

#[test]
fn a_stopped_node_opens_again() {
    assert!(matches!(Node::mem(&used()).open(REPLICA), Opened::Intact(_)));
}

#[test]
fn a_lost_last_entry_is_noticed() {
    let engine = used();
    delete(&engine, Family::Log, &log_key(9));
    assert_eq!(reason(&engine), "the log ends at 8, the watermark knows of 9");
}

#[test]
fn a_lost_middle_entry_is_noticed() {
    for index in [3, 6] {
        let engine = used();
        delete(&engine, Family::Log, &log_key(index));
        assert_eq!(reason(&engine), format!("log row {index} is missing"));
    }
}

#[test]
fn a_lost_first_entry_of_a_log_that_was_never_purged_is_noticed() {
    let engine = MemEngine::new();
    let node = Node::mem(&engine);
    node.log().append_wait(entries(0..3, 1)).unwrap();
    node.writer.stop();
    let engine = engine.restart();
    delete(&engine, Family::Log, &log_key(0));
    assert_eq!(reason(&engine), "log row 1: running hash");
}

#[test]
fn a_flipped_bit_in_a_body_is_noticed_at_open_and_at_a_later_read() {
    let engine = used();
    assert!(engine.flip_bit(Family::Log, &log_key(5)));
    assert_eq!(reason(&engine), "log row 5: running hash");

    let engine = used();
    let log = Node::mem(&engine).small_tail();
    assert!(engine.flip_bit(Family::Log, &log_key(5)));
    assert!(log.read(5..6, usize::MAX).is_err() && log.read(3..10, usize::MAX).is_err());
    assert_eq!(log.read(3..5, usize::MAX).unwrap().len(), 2);
}

#[test]
fn a_lost_vote_is_noticed() {
    let engine = used();
    delete(&engine, Family::Meta, &vote_key());
    assert_eq!(reason(&engine), "0 votes are stored, the watermark knows of 2");
    let engine = used();
    assert!(engine.flip_bit(Family::Meta, &vote_key()));
    assert_eq!(reason(&engine), "vote row: checksum");
}

#[test]
fn an_emptied_database_is_noticed() {
    let engine = used();
    engine.wipe_rows();
    assert_eq!(reason(&engine), "there is a watermark but no row");
}

#[test]
fn a_newborn_replica_that_lost_its_rows_is_noticed_too() {
    let engine = MemEngine::new();
    Node::mem(&engine).log();
    engine.wipe_rows();
    assert_eq!(reason(&engine), "there is a watermark but no row");
}

#[test]
fn rows_without_watermarks_are_noticed() {
    let engine = used();
    let foreign = Watermarks::in_memory(&MemEngine::new());
    let node = Node::start(engine, foreign);
    assert_eq!(amnesia(node.open(REPLICA)), "there are rows but no watermark");
}

#[test]
fn rows_and_watermarks_of_two_lives_are_noticed() {
    let first = used();
    let node = Node::start(first, Watermarks::in_memory(&used()));
    assert_eq!(amnesia(node.open(REPLICA)), "the watermark belongs to another incarnation");
}

#[test]
fn a_lost_purge_point_of_an_installed_snapshot_is_noticed() {
    let engine = MemEngine::new();
    let node = Node::mem(&engine);
    let log = node.log();
    log.append_wait(entries(0..3, 1)).unwrap();
    log.purge_wait((50, 2)).unwrap();
    node.writer.stop();
    let engine = engine.restart();
    delete(&engine, Family::Meta, &[&REPLICA.0.to_be_bytes()[..], &[4]].concat());
    assert_eq!(reason(&engine), "the log ends at nothing, the watermark knows of 50");
}
