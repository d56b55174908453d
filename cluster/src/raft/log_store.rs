//! Owns openraft's view of one replica's log. Does not know files: `storage::RaftLog` does.
//! Invariant: an entry can be read as soon as `append` returned, and counts as stored only after its fsync.

use super::types::{Entry, LogId, TypeConfig, Vote, from_log, log_id, point, to_log, vote, vote_row};
use bytes::Bytes;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use proto::codec;
use proto::failpoints::FailPoint;
use proto::peer::LogPoint;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use storage::{RaftLog, StorageError};
use tokio::sync::oneshot;

/// Most bytes of entries in one append call to a follower: bounds the frame and the follower's batch.
const READ_BYTES_MAX: usize = 1 << 20;

#[derive(Clone)]
pub struct LogStore {
    log: Arc<RaftLog>,
}

impl LogStore {
    pub fn new(log: Arc<RaftLog>) -> Self {
        LogStore { log }
    }

    async fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let found = if self.log.is_in_tail(&range) {
            self.log.read(range, bytes_max).map_err(io_error)?
        } else {
            let log = self.log.clone();
            crate::blocking(move || log.read(range, bytes_max)).await.map_err(io::Error::other)?.map_err(io_error)?
        };
        found.into_iter().map(|entry| from_log(entry).map_err(io::Error::other)).collect()
    }
}

fn io_error(error: StorageError) -> io::Error {
    io::Error::other(error.to_string())
}

fn bounds(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(at) => *at,
        Bound::Excluded(at) => at + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(at) => at + 1,
        Bound::Excluded(at) => *at,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

/// Waits for the log-writer thread. A lost callback means the writer has stopped: the replica must stop too.
async fn flushed(waiting: oneshot::Receiver<Result<(), StorageError>>) -> io::Result<()> {
    match waiting.await {
        Ok(result) => result.map_err(io_error),
        Err(_) => Err(io::Error::other("the log writer has stopped")),
    }
}

fn signal() -> (storage::Done, oneshot::Receiver<Result<(), StorageError>>) {
    let (tx, rx) = oneshot::channel();
    let done = Box::new(move |result| {
        // The receiver is gone only when raft has shut down; nobody waits then.
        let _ = tx.send(result);
    });
    (done, rx)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.read(bounds(&range), usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        stored_vote(&self.log)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, READ_BYTES_MAX).await
    }
}

/// The vote as last handed to the log writer.
/// # Errors
/// A vote row of an unknown layout.
pub fn stored_vote(log: &RaftLog) -> io::Result<Option<Vote>> {
    match log.vote() {
        None => Ok(None),
        Some(bytes) => codec::decode(&bytes).map(|row| Some(vote(&row))).map_err(io::Error::other),
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.log.state();
        let to_id = |at: (u64, u64)| log_id(LogPoint { index: at.0, term: at.1 });
        Ok(LogState { last_purged_log_id: state.purged.map(to_id), last_log_id: state.last.map(to_id) })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, waiting) = signal();
        self.log.save_vote(codec::encode(&vote_row(vote)).into(), done);
        flushed(waiting).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(id) = committed {
            self.log.save_committed(codec::encode(&point(&id)).into());
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let bytes: Option<Bytes> = self.log.committed();
        match bytes {
            None => Ok(None),
            Some(bytes) => codec::decode(&bytes).map(|at| Some(log_id(at))).map_err(io::Error::other),
        }
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries = entries.into_iter().map(|entry| to_log(&entry)).collect();
        self.log.append(entries, Box::new(move |result| callback.io_completed(result.map_err(io_error))));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let (done, waiting) = signal();
        FailPoint::BeforeTruncate.pass();
        self.log.truncate_after(last.map(|id| id.index), done);
        flushed(waiting).await?;
        FailPoint::AfterTruncate.pass();
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let at = point(&upto);
        let (done, waiting) = signal();
        FailPoint::BeforePurge.pass();
        self.log.purge((at.index, at.term), done);
        flushed(waiting).await?;
        FailPoint::AfterPurge.pass();
        Ok(())
    }
}
