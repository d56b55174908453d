//! Owns one round of the log writer: what it takes, one batch, one sync, the answers. Does not own threads or the queue's other end.
//! Invariant: marks go down before the batch and up after its sync; see `watermark.rs` for why.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, TryRecvError};
use proto::failpoints::FailPoint;
use proto::ids::ReplicaId;
use proto::mutants::Mutant;

use crate::batch::Batch;
use crate::engine::{Durability, Engine, Family};
use crate::error::StorageError;
use crate::keys::{Tag, log_key, meta_key};
use crate::tables::{Point, encode_committed, encode_purge_point, encode_vote, log_row_head};
use crate::watermark::{Mark, Watermarks};
use crate::writer::{Change, Job, Message, Poison, SlowDisk, WriterOptions};

pub(crate) struct Worker {
    engine: Arc<dyn Engine>,
    watermarks: Watermarks,
    options: WriterOptions,
    queue: Receiver<Message>,
    poison: Arc<Poison>,
    fsyncs: Arc<AtomicU64>,
    pub(crate) slow: Arc<SlowDisk>,
    meters: Meters,
    batch: Batch,
    jobs: Vec<Job>,
    cuts: Vec<(ReplicaId, Option<Point>)>,
    marks: Vec<(ReplicaId, Mark)>,
    has_vote: bool,
    last_sync: Duration,
    /// Of a mutant: votes that wait until entries of their replica have been stored.
    late: Vec<LateVote>,
}

struct LateVote {
    replica: ReplicaId,
    counter: u64,
    vote: Bytes,
    is_due: bool,
}

/// The work of a log writer in steps, for a simulation: one round is `gather`, `store`, `answer`, with time between them as the
/// caller likes. Dropped in the middle of a round, it is the writer of a machine that crashed there.
pub struct DrivenWriter {
    worker: Worker,
    result: Result<(), StorageError>,
}

impl DrivenWriter {
    pub(crate) fn new(worker: Worker) -> DrivenWriter {
        DrivenWriter { worker, result: Ok(()) }
    }

    /// Takes what waits. False: nothing does.
    pub fn gather(&mut self) -> bool {
        match self.worker.queue.try_recv() {
            Ok(Message::Job(first)) => {
                self.worker.gather(first, 0);
                true
            }
            Ok(Message::Stop) | Err(_) => false,
        }
    }

    /// Writes and syncs what was gathered.
    pub fn store(&mut self) {
        self.result = self.worker.store();
    }

    /// Tells those who wait for what was stored.
    pub fn answer(&mut self) {
        let result = std::mem::replace(&mut self.result, Ok(()));
        self.worker.answer(&result);
    }

    /// Lets the watermark file follow.
    pub fn follow(&mut self) {
        if self.worker.poison.check().is_ok()
            && let Err(error) = self.worker.watermarks.persist()
        {
            self.worker.poison.fire(&error);
        }
    }
}

struct Meters {
    fsync_seconds: metrics::Histogram,
    fsyncs: metrics::Counter,
    batch_appends: metrics::Histogram,
}

impl Worker {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        watermarks: Watermarks,
        options: WriterOptions,
        queue: Receiver<Message>,
        poison: Arc<Poison>,
        fsyncs: Arc<AtomicU64>,
    ) -> Worker {
        let meters = Meters {
            fsync_seconds: metrics::histogram!("chat_stage_fsync_seconds"),
            fsyncs: metrics::counter!("chat_storage_fsyncs_total"),
            batch_appends: metrics::histogram!("chat_storage_batch_appends_count"),
        };
        let (batch, jobs, cuts, marks) = (Batch::new(), Vec::new(), Vec::new(), Vec::new());
        let (has_vote, last_sync) = (false, Duration::ZERO);
        Worker {
            engine,
            watermarks,
            options,
            queue,
            poison,
            fsyncs,
            slow: Arc::default(),
            meters,
            batch,
            jobs,
            cuts,
            marks,
            has_vote,
            last_sync,
            late: Vec::new(),
        }
    }

    pub(crate) fn run(mut self) {
        let mut last_len = 0;
        while let Ok(Message::Job(first)) = self.queue.recv() {
            let stop = self.gather(first, last_len);
            last_len = self.jobs.len();
            let result = self.store();
            self.answer(&result);
            if stop {
                break;
            }
        }
        // What is still in the queue answers `Stopped` when the receiver is dropped with it.
    }

    fn store(&mut self) -> Result<(), StorageError> {
        let result = self.write();
        if let Err(error) = &result {
            self.poison.fire(error);
        }
        result
    }

    fn answer(&mut self, result: &Result<(), StorageError>) {
        FailPoint::BeforeStoredTold.pass();
        for job in self.jobs.drain(..) {
            job.answer(result.clone());
        }
        FailPoint::AfterStoredTold.pass();
    }

    /// Takes what is waiting, within the bounds of a round. True: the owner asked to stop.
    fn gather(&mut self, first: Job, last_len: usize) -> bool {
        let mut bytes = first.bytes();
        self.jobs.push(first);
        let wait = if last_len > 1 { self.options.linger.min(self.last_sync) } else { Duration::ZERO };
        let deadline = (!wait.is_zero()).then(|| Instant::now() + wait);
        while bytes < self.options.batch_bytes_max {
            let message = match (self.queue.try_recv(), deadline) {
                (Ok(message), _) => message,
                (Err(TryRecvError::Disconnected), _) => return true,
                (Err(TryRecvError::Empty), None) => return false,
                (Err(TryRecvError::Empty), Some(deadline)) => match self.queue.recv_deadline(deadline) {
                    Ok(message) => message,
                    Err(_) => return false,
                },
            };
            match message {
                Message::Stop => return true,
                Message::Job(job) => {
                    bytes += job.bytes();
                    self.jobs.push(job);
                }
            }
        }
        false
    }

    /// One round: marks down, one batch, one sync, marks up. See `watermark.rs` for why in this order.
    fn write(&mut self) -> Result<(), StorageError> {
        self.poison.check()?;
        FailPoint::RoundTaken.pass();
        self.encode();
        if !self.cuts.is_empty() {
            self.watermarks.lower(&self.cuts)?;
            FailPoint::MarksLowered.pass();
        }
        let start = Instant::now();
        if let Some(delay) = self.slow.delay() {
            // Nobody wakes this thread; if somebody did, the drill would only be milder.
            std::thread::park_timeout(delay);
        }
        let durability = if Mutant::NoFsync.is_on() { Durability::Logged } else { Durability::Synced };
        FailPoint::BeforeFsync.pass();
        self.engine.write_ref(&self.batch, durability)?;
        FailPoint::AfterFsync.pass();
        self.last_sync = start.elapsed();
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.meters.fsyncs.increment(1);
        self.meters.fsync_seconds.record(self.last_sync);
        self.meters.batch_appends.record(self.jobs.len() as f64);
        for job in &self.jobs {
            job.written.store(job.number, Ordering::Release);
        }
        self.watermarks.post(&self.marks);
        // A vote that was answered must never be forgotten unseen, so it waits for its mark; votes are rare.
        if self.has_vote {
            FailPoint::BeforeVoteMark.pass();
            self.watermarks.persist()?;
        }
        Ok(())
    }

    fn encode(&mut self) {
        self.batch.clear();
        self.batch.shrink_to(2 * self.options.batch_bytes_max);
        self.cuts.clear();
        self.marks.clear();
        self.has_vote = false;
        for LateVote { replica, counter, vote, .. } in self.late.extract_if(.., |late| late.is_due) {
            self.batch.put(Family::Meta, &meta_key(replica, Tag::Vote), &encode_vote(counter, &vote));
            self.marks.push((replica, Mark::Votes(counter)));
        }
        for job in &self.jobs {
            let replica = job.replica;
            match &job.change {
                Change::Append { entries, committed } => {
                    self.late.iter_mut().for_each(|late| late.is_due |= late.replica == replica);
                    for (entry, hash) in entries {
                        let head = log_row_head(entry.term, *hash);
                        self.batch.put_parts(Family::Log, &log_key(replica, entry.index), &[&head, &entry.body]);
                    }
                    if let Some(committed) = committed {
                        self.batch.put(Family::Meta, &meta_key(replica, Tag::Committed), &encode_committed(committed));
                    }
                    if let Some((entry, hash)) = entries.last() {
                        let point = Point { index: entry.index, term: entry.term, hash: *hash };
                        self.marks.push((replica, Mark::Last(point)));
                    }
                }
                Change::Vote { .. } if Mutant::VoteNotSynced.is_on() => {}
                Change::Vote { counter, vote } if Mutant::VoteBehindLog.is_on() => {
                    self.late.push(LateVote { replica, counter: *counter, vote: vote.clone(), is_due: false });
                }
                Change::Vote { counter, vote } => {
                    self.batch.put(Family::Meta, &meta_key(replica, Tag::Vote), &encode_vote(*counter, vote));
                    self.marks.push((replica, Mark::Votes(*counter)));
                    self.has_vote = true;
                }
                Change::Cut { rows, kept } => {
                    self.batch.delete_range(Family::Log, &log_key(replica, rows.start), &log_key(replica, rows.end));
                    self.cuts.push((replica, *kept));
                    self.marks.push((replica, Mark::Cut(*kept)));
                }
                Change::Purge { rows, point } => {
                    self.batch.delete_range(Family::Log, &log_key(replica, rows.start), &log_key(replica, rows.end));
                    self.batch.put(Family::Meta, &meta_key(replica, Tag::PurgePoint), &encode_purge_point(*point));
                    self.marks.push((replica, Mark::AtLeast(*point)));
                }
            }
        }
    }
}
