//! Owns the bodies about bytes on a node's disk. Does not touch a disk: rows lie in memory. Invariant: what can be read is written
//! and read again as the same; check sums are also made right, so that what stands behind them is reached.

use super::records::records;
use proto::ids::ReplicaId;
use std::sync::Arc;
use storage::{Batch, Durability, Engine, LogOptions, LogWriter, MemEngine, Opened, RaftLog, StateTable};
use storage::{Watermarks, WriterOptions};

const REPLICA: ReplicaId = ReplicaId(3);

/// Commands, events, mails, and everything that nodes send to each other.
pub fn proto_values(bytes: &[u8]) {
    let _ = proto::fuzzing::value(bytes);
}

/// Rows of a data shard, and the header as a backup looks at it.
pub fn chat_rows(bytes: &[u8]) {
    let _ = chat::fuzzing::row(bytes);
    let _ = chat::read_header(b"H", bytes);
}

/// Rows of the meta group, and rows of files.
pub fn meta_rows(bytes: &[u8]) {
    let _ = cluster::fuzzing::row(bytes);
}

/// Rows of the Raft log and of what belongs to it.
pub fn raft_rows(bytes: &[u8]) {
    storage::fuzzing::rows(bytes);
    storage::fuzzing::rows(&storage::fuzzing::with_vote_sum(bytes.to_vec()));
}

/// One slot of the watermark file.
pub fn watermark_slot(bytes: &[u8]) {
    let _ = storage::fuzzing::slot(bytes);
    let _ = storage::fuzzing::slot(&storage::fuzzing::with_slot_sum(bytes.to_vec()));
}

/// A file of the data directory with a check sum, and the mark with the version.
pub fn checked_file(bytes: &[u8]) {
    cluster::fuzzing::file(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(version) = cluster::fuzzing::version_mark(text)
    {
        assert!(text.contains(&version.to_string()));
    }
}

/// Opens a replica on any rows. A record's kind says which row it is, its key the index and, behind that, the term; a log row of
/// kind 7 has the right running hash.
pub fn raft_log(bytes: &[u8]) {
    let engine = MemEngine::new();
    let mut batch = Batch::new();
    let mut before = 0;
    for record in records(bytes) {
        let index = record.key.iter().take(8).fold(0, |index, byte| index << 8 | u64::from(*byte));
        let term = record.key.get(8).copied().map_or(1, u64::from);
        let (kind, row);
        if record.kind == 7 {
            (row, before) = storage::fuzzing::chained(before, index, term, record.value);
            kind = 5;
        } else {
            (kind, row) = (record.kind, sealed(record.kind, record.value));
        }
        let (family, key) = storage::fuzzing::place(REPLICA, kind, index);
        batch.put(family, &key, &row);
    }
    engine.write(batch, Durability::Synced).expect("memory is never full");
    let options = WriterOptions { queue_len_max: 1, ..WriterOptions::default() };
    let marks = Watermarks::in_memory(&engine);
    let (writer, _driver) = LogWriter::driven(engine.clone(), marks, options, Arc::new(|_| {}), Arc::new(|| {}));
    if let Ok(Opened::Intact(log)) = RaftLog::open(engine.clone(), writer, REPLICA, LogOptions::default()) {
        let state = log.state();
        let _ = (log.vote(), log.committed(), log.bytes(), log.term_at(1), log.read(0..8, 1 << 10), state);
    }
    let _ = StateTable::open(engine, REPLICA);
}

/// A part of a snapshot: read, installed, and read back.
pub fn snapshot_chunk(bytes: &[u8]) {
    install(bytes);
    install(&storage::fuzzing::with_chunk_sum(bytes.to_vec()));
}

fn install(chunk: &[u8]) {
    let mut rows = std::collections::BTreeMap::new();
    let read = storage::decode_chunk(chunk, &mut |key, value| {
        rows.insert(key.to_vec(), value.to_vec());
        Ok(())
    });
    let engine: Arc<dyn Engine> = MemEngine::new();
    let (table, _) = StateTable::open(engine, REPLICA).expect("memory can be read");
    let installer = table.install().expect("nothing else is installed");
    let put = installer.put_chunk(chunk);
    assert!(read.is_ok() || put.is_err(), "what cannot be read is not installed");
    if put.is_err() {
        return;
    }
    installer.finish(b"header".to_vec()).expect("memory is never full");
    let mut snapshot = table.snapshot().expect("memory can be read");
    let mut again = std::collections::BTreeMap::new();
    while let Some(chunk) = snapshot.next_chunk(64).expect("memory can be read") {
        storage::decode_chunk(&chunk, &mut |key, value| {
            again.insert(key.to_vec(), value.to_vec());
            Ok(())
        })
        .expect("read as it was written");
    }
    assert_eq!(again, rows, "read as it was installed");
}

/// Votes have a check sum of their own.
fn sealed(kind: u8, row: &[u8]) -> Vec<u8> {
    if kind == 1 { storage::fuzzing::with_vote_sum(row.to_vec()) } else { row.to_vec() }
}
