//! Owns the promise that a replica which lost acknowledged rows is recognised. Does not know entries or their bodies.
//! Invariant: a mark on the disk never claims more than the database holds on the disk, through any sequence of crashes.
//!
//! RocksDB opens an emptied or shortened write-ahead log as if all were well. A replica that forgot entries or a vote and goes on can
//! elect a leader without them, so the cluster loses acknowledged messages or has two leaders. The `watermarks` file, which RocksDB
//! knows nothing of, says what each replica once had. [`crate::RaftLog::open`] compares.
//!
//! Why no sequence of writes and crashes gives a false alarm, and what is covered:
//! - **Append.** The mark rises to the last entry after the database sync. A crash between leaves the mark low: no alarm. Marks are
//!   written at most once in [`crate::WriterOptions::watermark_pace`], so a loss that takes only the entries of the last such moment passes
//!   unseen; a loss that takes more is seen.
//! - **Truncate after k.** A mark above k would be a false alarm once the rows are gone, so it is lowered to k, on the disk, *before*
//!   the database sync. It claims less than before and entry k was durable, so it is true whether or not the rows go.
//!   A mark at or below k stays: the entries up to k do not change.
//! - **Truncate, then append a shorter log.** The mark is at or below k when the new entries are synced, then follows them. The old, higher
//!   mark is in the other slot only, with a lower sequence; it comes back only if the newer slot is damaged later, and then alarms: safe.
//! - **Append, truncate and append of one replica in one batch.** The batch is one atomic write. Every lowering of the batch is done
//!   before it, then the marks are replayed in order in memory under one lock; nobody sees a state between.
//! - **Purge up to p.** The purge point is stored with the running hash at p, in the same batch as the deletion. A mark below p is behind a
//!   purge point that proves the log once reached p: no alarm. A mark at p must have the purge point's hash, above p the rows are there.
//!   After the sync the mark rises to p if it was lower, so losing the purge (with a snapshot that was installed before it) is seen.
//! - **Vote.** Every vote row carries a counter. `Done` of a vote waits until the mark with that counter is synced, so no vote that was
//!   answered can be lost unseen. A crash between leaves a lower counter in the mark: no alarm.
//! - **Birth.** A replica's birth row is synced before its first mark. A birth row alone, without mark, vote or entries, is a crash
//!   in between and is completed; anything else without a mark is an alarm, and so is a mark without its birth row or with another
//!   incarnation (files of two replicas or backups mixed).
//! - **Watermarks file gone or damaged in both slots.** Every replica with rows alarms. A new directory has no rows and no marks.
//! - **Whole data directory gone.** Cannot be seen from here; the node has then lost its identity too.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use proto::failpoints::FailPoint;
use proto::ids::ReplicaId;

use crate::error::StorageError;
use crate::mem::MemEngine;
use crate::tables::Point;
pub(crate) use crate::watermark_file::Record;
use crate::watermark_file::{REPLICAS_MAX, Records, SlotFile};

/// What a write that has just been synced means for its replica's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The log now ends here.
    Last(Point),
    /// The log was cut; nothing above the point is left. `None`: nothing at all is left.
    Cut(Option<Point>),
    /// The log reaches at least to this purge point.
    AtLeast(Point),
    /// This many votes have been saved.
    Votes(u64),
}

/// The marks of all replicas of a node, in memory and in the `watermarks` file. Cloning gives another handle to the same marks.
#[derive(Clone)]
pub struct Watermarks {
    shared: Arc<Shared>,
}

struct Shared {
    /// Locked before `table`, and held over a write, so that slots alternate and never go back in time.
    file: Mutex<File>,
    table: Mutex<Table>,
    dirty: Condvar,
}

struct File {
    slots: SlotFile,
    version: u64,
}

struct Table {
    records: Records,
    /// Counts changes; the file is behind while its version is lower.
    version: u64,
    written: u64,
    stopped: bool,
}

impl Watermarks {
    /// Opens `dir/watermarks`, or makes it: 32 KiB, never grows.
    /// # Errors
    /// `Io` or `NoSpace` when the file cannot be read or made.
    pub fn open(dir: &Path) -> Result<Watermarks, StorageError> {
        Ok(Watermarks::with(SlotFile::open(dir)?))
    }

    /// Marks on the simulated disk of `engine`, which loses power and fails together with it.
    #[must_use]
    pub fn in_memory(engine: &MemEngine) -> Watermarks {
        Watermarks::with(SlotFile::in_memory(engine.file()))
    }

    fn with((slots, records): (SlotFile, Records)) -> Watermarks {
        let table = Table { records, version: 0, written: 0, stopped: false };
        let shared =
            Shared { file: Mutex::new(File { slots, version: 0 }), table: Mutex::new(table), dirty: Condvar::new() };
        Watermarks { shared: Arc::new(shared) }
    }

    /// Whether no replica has ever lived here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.table.lock().records.is_empty()
    }

    /// Forgets a replica that was removed from this node or replaced under a new replica id. The id must never be opened here again.
    /// # Errors
    /// `Io`, `NoSpace`: the process must end.
    pub fn retire(&self, replica: ReplicaId) -> Result<(), StorageError> {
        self.change(|records| records.remove(&replica).is_some());
        self.persist()
    }

    pub(crate) fn record(&self, replica: ReplicaId) -> Option<Record> {
        self.shared.table.lock().records.get(&replica).copied()
    }

    /// Takes in a newborn replica; on the disk when the call returns.
    pub(crate) fn admit(&self, replica: ReplicaId, incarnation: u64) -> Result<(), StorageError> {
        let mut full = false;
        self.change(|records| {
            full = records.len() >= REPLICAS_MAX;
            if !full {
                records.insert(replica, Record { incarnation, vote_counter: 0, last: None });
            }
            !full
        });
        if full {
            return Err(StorageError::invalid(format!("a node has at most {REPLICAS_MAX} replicas")));
        }
        self.persist()
    }

    /// Lowers the marks of replicas whose logs are about to be cut; on the disk when the call returns.
    pub(crate) fn lower(&self, cuts: &[(ReplicaId, Option<Point>)]) -> Result<(), StorageError> {
        let lowered = self.change(|records| {
            let mut lowered = false;
            for (replica, point) in cuts {
                if let Some(record) = records.get_mut(replica) {
                    lowered |= cut(record, *point);
                }
            }
            lowered
        });
        // Even if the file never had the higher mark: the paced write of it may be under way.
        if lowered { self.persist() } else { Ok(()) }
    }

    /// Takes in what a synced batch means, in the order of its writes. The file follows within the pace.
    pub(crate) fn post(&self, marks: &[(ReplicaId, Mark)]) {
        self.change(|records| {
            for (replica, mark) in marks {
                if let Some(record) = records.get_mut(replica) {
                    apply(record, *mark);
                }
            }
            !marks.is_empty()
        });
    }

    /// Writes and syncs the marks unless the file has them already.
    pub(crate) fn persist(&self) -> Result<(), StorageError> {
        let mut file = self.shared.file.lock();
        let (records, version) = {
            let table = self.shared.table.lock();
            if file.version == table.version {
                return Ok(());
            }
            (table.records.clone(), table.version)
        };
        FailPoint::BeforeMarksWritten.pass();
        file.slots.write(&records)?;
        FailPoint::AfterMarksWritten.pass();
        file.version = version;
        self.shared.table.lock().written = version;
        Ok(())
    }

    /// Waits until a mark is not yet in the file. `false`: [`Watermarks::stop`] was called.
    pub(crate) fn wait_dirty(&self) -> bool {
        let mut table = self.shared.table.lock();
        while !table.stopped && table.version == table.written {
            self.shared.dirty.wait(&mut table);
        }
        !table.stopped
    }

    /// Waits for the pace to pass; ends early when [`Watermarks::stop`] is called.
    pub(crate) fn pause(&self, pace: Duration) {
        let deadline = std::time::Instant::now() + pace;
        let mut table = self.shared.table.lock();
        while !table.stopped && !self.shared.dirty.wait_until(&mut table, deadline).timed_out() {}
    }

    /// Undoes an earlier [`Watermarks::stop`], for a new log writer.
    pub(crate) fn arm(&self) {
        self.shared.table.lock().stopped = false;
    }

    /// Ends [`Watermarks::wait_dirty`] and [`Watermarks::pause`] for good.
    pub(crate) fn stop(&self) {
        self.shared.table.lock().stopped = true;
        self.shared.dirty.notify_all();
    }

    fn change(&self, change: impl FnOnce(&mut Records) -> bool) -> bool {
        let mut table = self.shared.table.lock();
        let changed = change(&mut table.records);
        if changed {
            // The pacing thread is woken by the first change only; it is at work or in its pause during the others.
            if table.version == table.written {
                self.shared.dirty.notify_all();
            }
            table.version += 1;
        }
        changed
    }
}

fn apply(record: &mut Record, mark: Mark) {
    match mark {
        Mark::Last(point) => record.last = Some(point),
        Mark::Cut(point) => {
            cut(record, point);
        }
        Mark::AtLeast(point) => {
            if record.last.is_none_or(|last| last.index < point.index) {
                record.last = Some(point);
            }
        }
        Mark::Votes(counter) => record.vote_counter = record.vote_counter.max(counter),
    }
}

fn cut(record: &mut Record, point: Option<Point>) -> bool {
    let above = match (record.last, point) {
        (Some(last), Some(point)) => last.index > point.index,
        (Some(_), None) => true,
        (None, _) => false,
    };
    if above {
        record.last = point;
    }
    above
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLICA: ReplicaId = ReplicaId(4);

    fn point(index: u64) -> Point {
        Point { index, term: 1, hash: index + 100 }
    }

    fn stored(engine: &MemEngine) -> Option<Record> {
        Watermarks::in_memory(&engine.restart()).record(REPLICA)
    }

    #[test]
    fn marks_rise_in_memory_and_reach_the_disk_when_persisted() {
        let engine = MemEngine::new();
        let marks = Watermarks::in_memory(&engine);
        marks.admit(REPLICA, 9).unwrap();
        marks.post(&[(REPLICA, Mark::Last(point(5))), (REPLICA, Mark::Votes(2))]);
        assert!(marks.wait_dirty());
        let syncs = engine.syncs();
        marks.persist().unwrap();
        marks.persist().unwrap();
        assert_eq!(engine.syncs(), syncs + 1, "nothing new, nothing written");
        assert_eq!(stored(&engine), Some(Record { incarnation: 9, vote_counter: 2, last: Some(point(5)) }));
    }

    #[test]
    fn a_cut_lowers_a_higher_mark_on_the_disk_at_once() {
        let engine = MemEngine::new();
        let marks = Watermarks::in_memory(&engine);
        marks.admit(REPLICA, 9).unwrap();
        marks.post(&[(REPLICA, Mark::Last(point(5)))]);
        marks.persist().unwrap();
        let syncs = engine.syncs();
        marks.lower(&[(REPLICA, Some(point(5)))]).unwrap();
        assert_eq!(engine.syncs(), syncs, "the mark was not above the cut");
        marks.lower(&[(REPLICA, Some(point(3)))]).unwrap();
        assert_eq!(stored(&engine).unwrap().last, Some(point(3)));
    }

    #[test]
    fn marks_of_one_batch_apply_in_order() {
        let engine = MemEngine::new();
        let marks = Watermarks::in_memory(&engine);
        marks.admit(REPLICA, 9).unwrap();
        marks.post(&[
            (REPLICA, Mark::Last(point(9))),
            (REPLICA, Mark::Cut(Some(point(6)))),
            (REPLICA, Mark::Last(point(7))),
        ]);
        marks.post(&[(REPLICA, Mark::AtLeast(point(4)))]);
        assert_eq!(marks.record(REPLICA).unwrap().last, Some(point(7)));
        marks.post(&[(REPLICA, Mark::AtLeast(point(20)))]);
        assert_eq!(marks.record(REPLICA).unwrap().last, Some(point(20)));
        marks.post(&[(REPLICA, Mark::Cut(None))]);
        assert_eq!(marks.record(REPLICA).unwrap().last, None);
    }

    #[test]
    fn a_failed_write_is_never_followed_by_another() {
        let engine = MemEngine::new();
        let marks = Watermarks::in_memory(&engine);
        marks.admit(REPLICA, 9).unwrap();
        marks.post(&[(REPLICA, Mark::Votes(1))]);
        engine.fail_next_sync();
        assert!(matches!(marks.persist(), Err(StorageError::Io { .. })));
        assert!(matches!(marks.persist(), Err(StorageError::Poisoned { .. })));
    }

    #[test]
    fn a_retired_replica_leaves_room() {
        let engine = MemEngine::new();
        let marks = Watermarks::in_memory(&engine);
        for number in 0..REPLICAS_MAX {
            marks.admit(ReplicaId(u32::try_from(number).unwrap()), 1).unwrap();
        }
        assert!(matches!(marks.admit(ReplicaId(9999), 1), Err(StorageError::Invalid { .. })));
        marks.retire(REPLICA).unwrap();
        marks.admit(ReplicaId(9999), 1).unwrap();
        assert_eq!(stored(&engine), None);
    }
}
