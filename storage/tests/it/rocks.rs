//! Owns the tests on RocksDB's files: killed, emptied and shortened. Does not repeat what the memory engine shows.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use storage::{Batch, Durability, Family, RocksEngine, RocksOptions, StateTable};

use crate::support::{LogExt, Node, REPLICA, amnesia, entries, intact, rows_of};

fn wal_files(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("db")).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "log")).collect()
}

fn used() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::rocks(dir.path());
    let log = node.log();
    log.vote_wait(b"vote").unwrap();
    for index in 0..50 {
        log.append_wait(entries(index..index + 1, 1)).unwrap();
    }
    node.writer.stop();
    dir
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("db")).unwrap();
    // The marks first: what is written meanwhile may make the database newer than them, as it always is.
    std::fs::copy(from.join("watermarks"), to.join("watermarks")).unwrap();
    for file in std::fs::read_dir(from.join("db")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join("db").join(file.file_name())).unwrap();
    }
}

#[test]
fn a_closed_node_opens_again() {
    let dir = used();
    let log = Node::rocks(dir.path()).log();
    assert_eq!((log.all().len(), log.vote().as_deref()), (50, Some(&b"vote"[..])));
}

#[test]
fn a_killed_node_opens_again_with_all_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::rocks(dir.path());
    let log = node.log();
    log.append_wait(entries(0..30, 1)).unwrap();
    log.truncate_wait(Some(19)).unwrap();
    log.append_wait(entries(20..22, 2)).unwrap();
    log.vote_wait(b"vote").unwrap();
    let copied = tempfile::tempdir().unwrap();
    copy(dir.path(), copied.path());
    let found = Node::rocks(copied.path()).log();
    assert_eq!((found.all(), found.vote()), (log.all(), log.vote()));
}

#[test]
fn an_emptied_write_ahead_log_is_noticed() {
    let dir = used();
    for file in wal_files(dir.path()) {
        std::fs::File::options().write(true).open(file).unwrap().set_len(0).unwrap();
    }
    assert_eq!(amnesia(Node::rocks(dir.path()).open(REPLICA)), "there is a watermark but no row");
}

#[test]
fn a_deleted_write_ahead_log_is_noticed() {
    let dir = used();
    for file in wal_files(dir.path()) {
        std::fs::remove_file(file).unwrap();
    }
    amnesia(Node::rocks(dir.path()).open(REPLICA));
}

#[test]
fn a_shortened_write_ahead_log_is_noticed() {
    let dir = used();
    let longest = wal_files(dir.path()).into_iter().max_by_key(|file| file.metadata().unwrap().len()).unwrap();
    let len = longest.metadata().unwrap().len();
    std::fs::File::options().write(true).open(longest).unwrap().set_len(len * 3 / 4).unwrap();
    let reason = amnesia(Node::rocks(dir.path()).open(REPLICA));
    assert!(reason.starts_with("the log ends at ") && reason.ends_with(", the watermark knows of 49"), "{reason}");
}

#[test]
fn a_deleted_watermark_file_is_noticed() {
    let dir = used();
    std::fs::remove_file(dir.path().join("watermarks")).unwrap();
    assert_eq!(amnesia(Node::rocks(dir.path()).open(REPLICA)), "there are rows but no watermark");
}

#[test]
fn buffered_state_is_lost_unless_flushed_and_the_log_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::rocks(dir.path());
    let log = node.log();
    log.append_wait(entries(0..3, 1)).unwrap();
    let (table, _) = node.table();
    table.checkpoint(vec![(b"flushed".to_vec(), Some(b"1".to_vec()))], b"one".to_vec()).unwrap();
    node.engine.flush_state().unwrap();
    table.checkpoint(vec![(b"buffered".to_vec(), Some(b"2".to_vec()))], b"two".to_vec()).unwrap();
    log.append_wait(entries(3..6, 1)).unwrap();
    let copied = tempfile::tempdir().unwrap();
    copy(dir.path(), copied.path());
    let copy = Node::rocks(copied.path());
    let (table, header) = StateTable::open(copy.engine.clone(), REPLICA).unwrap();
    assert_eq!((rows_of(&table, b"").len(), header), (1, Some(b"one".to_vec())));
    assert_eq!(intact(copy.open(REPLICA)).all().len(), 6);
}

#[test]
fn a_view_outlives_its_engine_and_does_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let engine = RocksEngine::open(dir.path(), RocksOptions::default()).unwrap();
    let put = |key: &[u8]| {
        let mut batch = Batch::new();
        batch.put(Family::State, key, b"v");
        engine.write(batch, Durability::Buffered).unwrap();
    };
    put(b"a");
    put(b"b");
    let view = engine.view();
    put(b"c");
    drop(engine);
    let mut seen = Vec::new();
    view.scan_back(Family::State, b"a", b"z", &mut |key, _| {
        seen.push(key.to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, [b"b", b"a"]);
    assert_eq!(view.get(Family::State, b"c"), Ok(None));
    assert!(
        RocksEngine::open(dir.path(), RocksOptions::default()).is_err(),
        "the view keeps the database open and locked"
    );
    drop(view);
    assert!(RocksEngine::open(dir.path(), RocksOptions::default()).is_ok());
}
