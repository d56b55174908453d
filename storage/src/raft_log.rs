//! Owns the log, the vote and the committed position of one replica. Does not know what an entry means or who is leader.
//! Invariant: the log has no gap from its purge point to its last entry, and what a reader sees is what the writer's queue will make of
//! the disk: memory changes and the queue grows under one lock.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use proto::ids::ReplicaId;

use crate::batch::Batch;
use crate::engine::{Durability, Engine, Family};
use crate::error::StorageError;
use crate::keys::{Tag, log_end, log_index, log_key, meta_key};
use crate::tables::{HASH_SEED, Point, chain_hash, decode_log_row, snapshot_hash};
use crate::tail::{Budget, LogEntry, Tail};
use crate::writer::{Change, Done, Job, LogWriter};

/// Largest body of an entry, in bytes.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// Settings of one replica's log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Newest entries kept in memory, in bytes. Entries that wait for the disk are kept beyond it. Default 16 MiB.
    pub tail_bytes_max: usize,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { tail_bytes_max: 16 << 20 }
    }
}

/// What [`RaftLog::open`] found.
pub enum Opened {
    /// Everything that was ever acknowledged is there.
    Intact(Arc<RaftLog>),
    /// The replica forgot something it promised to keep. It must not vote: replace it by a learner under a NEW replica id.
    Amnesia { reason: String },
}

/// Both ends of a log as `(index, term)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// The last purged entry.
    pub purged: Option<(u64, u64)>,
    /// The last entry; the last purged one when no entry is left.
    pub last: Option<(u64, u64)>,
}

/// The log of one replica. All calls are cheap and touch no disk, except where their text says so.
pub struct RaftLog {
    engine: Arc<dyn Engine>,
    writer: Arc<LogWriter>,
    replica: ReplicaId,
    options: LogOptions,
    /// Number of the last write that is in the database.
    written: Arc<AtomicU64>,
    inner: Mutex<Inner>,
}

/// The log as it will be once the queue is written.
#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub purged: Option<Point>,
    /// The lowest index with a row; above `last` when there is none.
    pub first: u64,
    /// Falls back to `purged`.
    pub last: Option<Point>,
    pub tail: Tail,
    pub vote: Option<Bytes>,
    pub vote_counter: u64,
    pub committed: Option<Bytes>,
    /// Goes along with the next append.
    pub committed_unsent: Option<Bytes>,
    /// Writes sent so far.
    pub jobs: u64,
    /// Truncations and purges so far; a disk read that overlaps one starts again.
    pub cuts: u64,
}

impl RaftLog {
    /// Opens the log of `replica`, or makes it when neither the database nor the watermarks have heard of it. Reads all its rows
    /// (about 1 s per GiB) and checks contiguity, the running hash and the watermark.
    /// # Errors
    /// `Io` or `NoSpace` when the disk fails. Lost or damaged rows are not an error but [`Opened::Amnesia`].
    pub fn open(
        engine: Arc<dyn Engine>,
        writer: Arc<LogWriter>,
        replica: ReplicaId,
        options: LogOptions,
    ) -> Result<Opened, StorageError> {
        let found = crate::raft_log_open::load(&*engine, writer.watermarks(), replica, options.tail_bytes_max)?;
        Ok(match found {
            Err(reason) => {
                tracing::error!(%replica, reason, "replica has lost acknowledged rows and must be replaced");
                Opened::Amnesia { reason }
            }
            Ok(inner) => {
                let written = Arc::new(AtomicU64::new(inner.jobs));
                Opened::Intact(Arc::new(RaftLog {
                    engine,
                    writer,
                    replica,
                    options,
                    written,
                    inner: Mutex::new(inner),
                }))
            }
        })
    }

    /// About how many bytes on the disk the entries take.
    pub fn bytes(&self) -> u64 {
        self.engine.bytes_of(Family::Log, &log_key(self.replica, 0), &log_end(self.replica))
    }

    /// Removes every row of a replica but one that says so; on the disk when the call returns. Then call
    /// [`crate::Watermarks::retire`]. No [`RaftLog`] of the replica may be in use, and none is opened again: what the replica promised
    /// is forgotten, while a node that starts from an old state may still believe that the replica lives here.
    /// # Errors
    /// `Io`, `NoSpace`: the process must end.
    pub fn destroy(engine: &dyn Engine, replica: ReplicaId) -> Result<(), StorageError> {
        let mut batch = Batch::new();
        batch.delete_range(Family::Log, &log_key(replica, 0), &log_end(replica));
        for tag in [Tag::Birth, Tag::Vote, Tag::Committed, Tag::PurgePoint] {
            batch.delete(Family::Meta, &meta_key(replica, tag));
        }
        batch.put(Family::Meta, &meta_key(replica, Tag::Retired), &[]);
        engine.write(batch, Durability::Synced)
    }

    /// Adds entries after the last one. They can be read when the call returns; `done` runs when they are durable.
    /// Blocks while the writer's queue is full. `done` gets `Invalid` when the entries would leave a gap.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        self.submit(done, |inner| {
            inner.check_append(&entries)?;
            let mut hash = inner.last.map_or(HASH_SEED, |last| last.hash);
            let mut rows = Vec::with_capacity(entries.len());
            for entry in entries {
                hash = chain_hash(hash, entry.index, entry.term, &entry.body);
                if inner.last.is_none() {
                    inner.first = entry.index;
                }
                inner.last = Some(Point { index: entry.index, term: entry.term, hash });
                inner.tail.push(entry.clone(), hash, inner.jobs + 1);
                rows.push((entry, hash));
            }
            inner.tail.evict(self.options.tail_bytes_max, self.written.load(Ordering::Acquire));
            Ok(Change::Append { entries: rows, committed: inner.committed_unsent.take() })
        });
    }

    /// The entries of `range` that exist, ascending, until their bodies exceed `bytes_max`; at least one if any exists.
    /// Entries older than the tail are read from the disk: check [`RaftLog::is_in_tail`] first on an async thread.
    /// # Errors
    /// `Io`; `Corrupt` when a row on the disk is missing or breaks the running hash.
    pub fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<LogEntry>, StorageError> {
        let mut found = Vec::new();
        let mut budget = Budget::new(bytes_max);
        let (mut next, mut cuts) = (range.start, None);
        loop {
            let (rows, verify_from) = {
                let inner = self.inner.lock();
                if cuts.is_some_and(|cuts| cuts != inner.cuts) {
                    // Rows went while we read; nothing of what we have is sure to be of one log.
                    (found, budget, next) = (Vec::new(), Budget::new(bytes_max), range.start);
                }
                cuts = Some(inner.cuts);
                let wanted = inner.clamp(next..range.end);
                let tail_first = inner.tail.first().unwrap_or(wanted.end);
                if wanted.is_empty() || wanted.start >= tail_first {
                    inner.tail.read(wanted, &mut found, &mut budget);
                    return Ok(found);
                }
                let base = (wanted.start == inner.first).then(|| inner.base_hash());
                (wanted.start..wanted.end.min(tail_first), base)
            };
            match self.read_disk(rows.clone(), verify_from, &mut found, &mut budget) {
                Ok(true) => next = rows.end,
                // The rows fit no more, but they count only if no truncation ran meanwhile.
                Ok(false) | Err(_) if cuts != Some(self.inner.lock().cuts) => {}
                Ok(false) => return Ok(found),
                Err(error) => return Err(error),
            }
        }
    }

    /// True when [`RaftLog::read`] of the range needs no disk.
    #[must_use]
    pub fn is_in_tail(&self, range: &Range<u64>) -> bool {
        let inner = self.inner.lock();
        let wanted = inner.clamp(range.clone());
        wanted.is_empty() || inner.tail.first().is_some_and(|first| wanted.start >= first)
    }

    /// Stores the vote; `done` runs when neither a crash nor a lost write-ahead log can make this node vote again unseen.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        self.submit(done, |inner| {
            inner.vote = Some(vote.clone());
            inner.vote_counter += 1;
            Ok(Change::Vote { counter: inner.vote_counter, vote })
        });
    }

    /// The last vote given to [`RaftLog::save_vote`], durable or not.
    #[must_use]
    pub fn vote(&self) -> Option<Bytes> {
        self.inner.lock().vote.clone()
    }

    /// Remembers the committed position; it reaches the disk with the next append and may be older after a crash.
    pub fn save_committed(&self, committed: Bytes) {
        let mut inner = self.inner.lock();
        inner.committed = Some(committed.clone());
        inner.committed_unsent = Some(committed);
    }

    /// The last position given to [`RaftLog::save_committed`], or the one on the disk after a restart.
    #[must_use]
    pub fn committed(&self) -> Option<Bytes> {
        self.inner.lock().committed.clone()
    }

    /// Removes every entry after `last_kept`; `None`: all. Nothing happens when there is none. `done` gets `Invalid` when that reaches
    /// into purged entries. Reads one row from the disk when `last_kept` is older than the tail.
    pub fn truncate_after(&self, last_kept: Option<u64>, done: Done) {
        self.submit(done, |inner| {
            if let Some(purged) = inner.purged
                && last_kept.is_none_or(|kept| kept < purged.index)
            {
                return Err(StorageError::invalid(format!("truncation below the purge point {}", purged.index)));
            }
            let nothing = Change::Append { entries: Vec::new(), committed: None };
            let Some(last) = inner.last.filter(|last| last_kept.is_none_or(|kept| kept < last.index)) else {
                return Ok(nothing);
            };
            let kept = match last_kept {
                Some(kept) if kept >= inner.first => Some(self.point(inner, kept)?),
                // All rows go; what is left is the purge point, if any.
                _ => inner.purged,
            };
            let start = kept.map_or(inner.first, |kept| kept.index + 1).max(inner.first);
            inner.tail.cut_after(kept.map(|kept| kept.index));
            inner.last = kept;
            inner.cuts += 1;
            Ok(Change::Cut { rows: start..last.index + 1, kept })
        });
    }

    /// Removes every entry up to and including `upto`, an `(index, term)`, which may lie beyond the last entry (a snapshot took their
    /// place). The log goes on at the next index. Nothing happens when that much is purged already. `done` gets `Invalid` when another
    /// term is stored at that index. Call it only for what the FLUSHED state covers. May read one row from the disk.
    pub fn purge(&self, upto: (u64, u64), done: Done) {
        self.submit(done, |inner| {
            let (index, term) = upto;
            if index == u64::MAX {
                return Err(StorageError::invalid("purge of every index there is"));
            }
            if inner.purged.is_some_and(|purged| purged.index >= index) {
                return Ok(Change::Append { entries: Vec::new(), committed: None });
            }
            let last = inner.last.map_or(index, |last| last.index);
            let beyond = inner.last.is_none_or(|last| last.index < index);
            let hash = if beyond {
                snapshot_hash(index, term)
            } else if index >= inner.first {
                let point = self.point(inner, index)?;
                if point.term != term {
                    return Err(StorageError::invalid(format!(
                        "purge of entry {index} with term {term}, stored is {}",
                        point.term
                    )));
                }
                point.hash
            } else if index + 1 == inner.first {
                inner.base_hash()
            } else {
                return Err(StorageError::invalid(format!("purge up to {index} leaves a gap before {}", inner.first)));
            };
            let point = Point { index, term, hash };
            let rows = inner.first..index.min(last) + 1;
            inner.purged = Some(point);
            inner.first = index + 1;
            inner.tail.drop_through(index);
            inner.cuts += 1;
            if beyond {
                inner.last = Some(point);
            }
            Ok(Change::Purge { rows, point })
        });
    }

    /// Both ends of the log.
    #[must_use]
    pub fn state(&self) -> LogState {
        let inner = self.inner.lock();
        let pair = |point: Point| (point.index, point.term);
        LogState { purged: inner.purged.map(pair), last: inner.last.map(pair) }
    }

    /// The term of the entry at `index`, also of the last purged one; `None` when it does not exist. May read one row from the disk.
    /// # Errors
    /// `Io`, `Corrupt`.
    pub fn term_at(&self, index: u64) -> Result<Option<u64>, StorageError> {
        let inner = self.inner.lock();
        if let Some(purged) = inner.purged.filter(|purged| purged.index == index) {
            return Ok(Some(purged.term));
        }
        if inner.clamp(index..index.saturating_add(1)).is_empty() {
            return Ok(None);
        }
        Ok(Some(self.point(&inner, index)?.term))
    }

    /// Changes memory and queues the write under one lock, so that the queue has the order of the changes.
    fn submit(&self, done: Done, prepare: impl FnOnce(&mut Inner) -> Result<Change, StorageError>) {
        let mut inner = self.inner.lock();
        let refused = match prepare(&mut inner) {
            Err(error) => {
                drop(inner);
                return done(Err(error));
            }
            Ok(change) => {
                inner.jobs += 1;
                self.writer.send(Job::new(self.replica, change, inner.jobs, self.written.clone(), done))
            }
        };
        drop(inner);
        // Answers `Stopped` outside the lock: the callback may call us.
        drop(refused);
    }

    /// The existing entry at `index`, from memory or else from its row, which is not in the writer's queue any more.
    fn point(&self, inner: &Inner, index: u64) -> Result<Point, StorageError> {
        if let Some(point) = inner.last.filter(|last| last.index == index).or_else(|| inner.tail.point(index)) {
            return Ok(point);
        }
        let row = self.engine.get(Family::Log, &log_key(self.replica, index))?;
        let row = row.ok_or_else(|| StorageError::corrupt(format!("log row {index} is missing")))?;
        let (term, hash, _) = decode_log_row(&row)?;
        Ok(Point { index, term, hash })
    }

    /// Reads `rows` and verifies them against `base`, the hash before them, or else against the row before them. False: the budget ended it.
    fn read_disk(
        &self,
        rows: Range<u64>,
        base: Option<u64>,
        found: &mut Vec<LogEntry>,
        budget: &mut Budget,
    ) -> Result<bool, StorageError> {
        let mut chain = Chain { next: rows.start - u64::from(base.is_none()), hash: base };
        let (mut failed, mut full) = (None, false);
        let from = log_key(self.replica, chain.next);
        self.engine.scan(Family::Log, &from, &log_key(self.replica, rows.end), &mut |key, row| {
            match chain.check(key, row) {
                Err(error) => failed = Some(error),
                Ok(point) if point.index < rows.start => return ControlFlow::Continue(()),
                Ok(point) => {
                    let body = &row[crate::tables::LOG_ROW_HEAD_LEN..];
                    if budget.admits(body.len()) {
                        found.push(LogEntry {
                            index: point.index,
                            term: point.term,
                            body: Bytes::copy_from_slice(body),
                        });
                        return ControlFlow::Continue(());
                    }
                    full = true;
                }
            }
            ControlFlow::Break(())
        })?;
        match failed {
            Some(error) => Err(error),
            None if full => Ok(false),
            None if chain.next == rows.end => Ok(true),
            None => Err(StorageError::corrupt(format!("log row {} is missing", chain.next))),
        }
    }
}

impl Inner {
    fn base_hash(&self) -> u64 {
        self.purged.map_or(HASH_SEED, |purged| purged.hash)
    }

    /// The part of the range that has entries.
    fn clamp(&self, range: Range<u64>) -> Range<u64> {
        let end = self.last.map_or(0, |last| last.index.saturating_add(1));
        range.start.max(self.first)..range.end.min(end)
    }

    fn check_append(&self, entries: &[LogEntry]) -> Result<(), StorageError> {
        let mut next = self.last.map(|last| last.index + 1);
        for entry in entries {
            if let Some(next) = next.filter(|next| *next != entry.index) {
                return Err(StorageError::invalid(format!("append of entry {} where {next} is next", entry.index)));
            }
            if entry.body.len() > BODY_BYTES_MAX || entry.index == u64::MAX {
                return Err(StorageError::invalid(format!("entry {} is too large", entry.index)));
            }
            next = Some(entry.index + 1);
        }
        Ok(())
    }
}

/// Follows the running hash along rows that are read in order.
pub(crate) struct Chain {
    pub next: u64,
    /// Hash before `next`; `None`: take the first row's word for it.
    pub hash: Option<u64>,
}

impl Chain {
    pub(crate) fn check(&mut self, key: &[u8], row: &[u8]) -> Result<Point, StorageError> {
        let index = log_index(key).ok_or_else(|| StorageError::corrupt("log key"))?;
        if index != self.next {
            return Err(StorageError::corrupt(format!("log row {} is missing", self.next)));
        }
        let (term, hash, body) = decode_log_row(row)?;
        if self.hash.is_some_and(|previous| chain_hash(previous, index, term, body) != hash) {
            return Err(StorageError::corrupt(format!("log row {index}: running hash")));
        }
        // No append takes this index: there is no next one.
        let next = index.checked_add(1).ok_or_else(|| StorageError::corrupt("log row beyond the last index"))?;
        *self = Chain { next, hash: Some(hash) };
        Ok(Point { index, term, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::log_key;
    use crate::tables::log_row_head;

    /// Found by the fuzz target `raft_log`: the index after it was computed.
    #[test]
    fn a_row_at_the_last_index_is_corrupt_and_no_panic() {
        let row = |index| {
            let hash = chain_hash(HASH_SEED, index, 1, &[]);
            let mut chain = Chain { next: index, hash: Some(HASH_SEED) };
            chain.check(&log_key(ReplicaId(3), index), &log_row_head(1, hash))
        };
        assert!(row(u64::MAX - 1).is_ok());
        assert!(matches!(row(u64::MAX), Err(StorageError::Corrupt { .. })));
    }
}
