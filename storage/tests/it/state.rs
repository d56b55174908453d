//! Owns the tests of state rows, snapshots and installations. Does not use a log.

use std::ops::ControlFlow;
use std::sync::Arc;

use proto::ids::ReplicaId;
use storage::{Engine, Family, MemEngine, StateTable, StorageError};

use crate::support::{REPLICA, both, rows_of};

type Row = (Vec<u8>, Option<Vec<u8>>);

fn set(key: &str, value: &str) -> Row {
    (key.as_bytes().to_vec(), Some(value.as_bytes().to_vec()))
}

fn open(engine: &Arc<MemEngine>) -> (Arc<StateTable>, Option<Vec<u8>>) {
    StateTable::open(engine.clone(), REPLICA).unwrap()
}

fn keys(scan: impl FnOnce(storage::Visit<'_>) -> Result<(), StorageError>) -> Vec<String> {
    let mut keys = Vec::new();
    scan(&mut |key, _| {
        keys.push(String::from_utf8(key.to_vec()).unwrap());
        ControlFlow::Continue(())
    })
    .unwrap();
    keys
}

/// Rows in the state family of the whole database, headers included.
fn stored(engine: &dyn Engine) -> usize {
    let mut count = 0;
    let visit: storage::Visit<'_> = &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    };
    engine.scan(Family::State, &[], &[0xff; 20], visit).unwrap();
    count
}

#[test]
fn rows_are_found_by_key_and_by_prefix_in_both_directions() {
    for (name, node, _dir) in both() {
        let (neighbour, _) = StateTable::open(node.engine.clone(), ReplicaId(REPLICA.0 + 1)).unwrap();
        neighbour.checkpoint(vec![set("a1", "n")], b"n".to_vec()).unwrap();
        let (table, header) = node.table();
        assert_eq!(header, None, "{name}");
        let rows = vec![set("a1", "1"), set("a2", "2"), set("a3", "3"), set("b1", "4")];
        table.checkpoint(rows, b"header".to_vec()).unwrap();
        assert_eq!(table.get(b"a2").unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(keys(|visit| table.scan_prefix(b"", None, 9, visit)), ["a1", "a2", "a3", "b1"]);
        assert_eq!(keys(|visit| table.scan_prefix(b"a", Some(b"a2"), 9, visit)), ["a2", "a3"]);
        assert_eq!(keys(|visit| table.scan_prefix(b"a", None, 2, visit)), ["a1", "a2"]);
        assert_eq!(keys(|visit| table.scan_back_prefix(b"a", None, 2, visit)), ["a3", "a2"]);
        assert_eq!(keys(|visit| table.scan_back_prefix(b"a", Some(b"a2"), 9, visit)), ["a2", "a1"]);
        assert_eq!(keys(|visit| table.scan_back_prefix(b"", None, 9, visit)).len(), 4);
        assert!(keys(|visit| table.scan_prefix(b"a", None, 0, visit)).is_empty());
        table.checkpoint(vec![(b"a1".to_vec(), None)], b"later".to_vec()).unwrap();
        let (table, header) = node.table();
        assert_eq!((table.get(b"a1"), header), (Ok(None), Some(b"later".to_vec())));
        StateTable::destroy(&*node.engine, REPLICA).unwrap();
        assert_eq!(stored(&*node.engine), 2, "the neighbour's row and header stay");
    }
}

#[test]
fn rows_beyond_the_limits_are_refused() {
    let (table, _) = open(&MemEngine::new());
    for key in [0, storage::ROW_KEY_BYTES_MAX + 1] {
        let refused = table.checkpoint(vec![(vec![1; key], Some(Vec::new()))], Vec::new());
        assert!(matches!(refused, Err(StorageError::Invalid { .. })));
    }
}

#[test]
fn a_crash_takes_rows_and_header_together_back_to_the_flush() {
    let engine = MemEngine::new();
    let (table, _) = open(&engine);
    table.checkpoint(vec![set("k", "old")], b"old".to_vec()).unwrap();
    engine.flush_state().unwrap();
    table.checkpoint(vec![set("k", "new")], b"new".to_vec()).unwrap();
    let (table, header) = open(&engine.restart());
    assert_eq!((table.get(b"k").unwrap(), header), (Some(b"old".to_vec()), Some(b"old".to_vec())));
}

#[test]
fn a_snapshot_travels_to_another_replica() {
    for (name, node, _dir) in both() {
        let (source, _) = node.table();
        let rows: Vec<Row> = (0..100).map(|number| set(&format!("key{number:03}"), &"v".repeat(number))).collect();
        source.checkpoint(rows, b"of the source".to_vec()).unwrap();
        let mut snapshot = source.snapshot().unwrap();
        source.checkpoint(vec![set("late", "row")], b"late".to_vec()).unwrap();
        assert_eq!(snapshot.header(), Some(&b"of the source"[..]), "{name}");

        let (target, _) = StateTable::open(node.engine.clone(), ReplicaId(99)).unwrap();
        target.checkpoint(vec![set("old", "row")], b"old".to_vec()).unwrap();
        let installer = target.install().unwrap();
        assert!(target.install().is_err(), "one at a time");
        let mut chunks = 0;
        while let Some(chunk) = snapshot.next_chunk(500).unwrap() {
            installer.put_chunk(&chunk).unwrap();
            chunks += 1;
        }
        assert!(chunks > 5);
        assert_eq!(target.get(b"old").unwrap().as_deref(), Some(&b"row"[..]), "old rows stay until the swap");
        installer.finish(b"of the source".to_vec()).unwrap();
        assert_eq!((target.get(b"old"), target.get(b"late")), (Ok(None), Ok(None)));
        let (target, header) = StateTable::open(node.engine.clone(), ReplicaId(99)).unwrap();
        assert_eq!((rows_of(&target, b"").len(), header), (100, Some(b"of the source".to_vec())));
        target.install().unwrap();
    }
}

#[test]
fn a_dropped_installation_leaves_nothing() {
    for (name, node, _dir) in both() {
        let (table, _) = node.table();
        table.checkpoint(vec![set("k", "v")], b"h".to_vec()).unwrap();
        let chunk = table.snapshot().unwrap().next_chunk(1000).unwrap().unwrap();
        let installer = table.install().unwrap();
        installer.put_chunk(&chunk).unwrap();
        assert!(matches!(installer.put_chunk(&chunk[1..]), Err(StorageError::Corrupt { .. })), "{name}");
        assert_eq!(stored(&*node.engine), 3);
        drop(installer);
        assert_eq!(stored(&*node.engine), 2);
    }
}

#[test]
fn a_crash_at_every_sync_of_an_installation_leaves_the_old_rows_or_the_new() {
    for syncs in 0..4 {
        let engine = MemEngine::new();
        let (table, _) = open(&engine);
        table.checkpoint(vec![set("k", "old")], b"old".to_vec()).unwrap();
        engine.flush_state().unwrap();
        let (other, _) = StateTable::open(MemEngine::new(), REPLICA).unwrap();
        other.checkpoint(vec![set("k", "new")], b"new".to_vec()).unwrap();
        let chunk = other.snapshot().unwrap().next_chunk(1000).unwrap().unwrap();
        engine.power_off_after(syncs);
        let finished = table.install().and_then(|installer| {
            installer.put_chunk(&chunk)?;
            // Half a snapshot that reaches the disk, as a background flush may do.
            engine.flush_state()?;
            installer.finish(b"new".to_vec())
        });
        let engine = engine.restart();
        let (table, header) = open(&engine);
        let value = table.get(b"k").unwrap();
        assert_eq!(value, header);
        assert!(finished.is_err() || value.as_deref() == Some(b"new"), "{syncs}");
        assert_eq!(stored(&*engine), 2, "the other generation is deleted");
    }
}
