//! Owns the one thread of a node that writes and syncs logs, and the thread that lets the watermarks follow. Does not know Raft.
//! Invariant: writes of a replica reach the disk and are answered in the order in which they were sent, every one is answered exactly
//! once, and after the first error nothing is written any more.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::Sender;
use parking_lot::Mutex;
use proto::ids::ReplicaId;

use crate::engine::Engine;
use crate::error::StorageError;
use crate::tables::Point;
use crate::tail::LogEntry;
use crate::watermark::Watermarks;
use crate::worker::{DrivenWriter, Worker};

/// Called once, when a write is durable or has failed, on the log writer's thread: it must be quick, must not block and must not panic.
/// A call that is refused at once (`Invalid`, `Stopped`) runs it on the caller's thread before the call returns.
pub type Done = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// Called once with the first error, on the thread that met it.
pub type OnFatal = Arc<dyn Fn(&StorageError) + Send + Sync>;

/// Exit code of a process whose disk failed: `EX_TEMPFAIL` of sysexits.h.
const EXIT_DISK: i32 = 75;

/// Settings of the log writer.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// Writes of all replicas that may wait; a sender blocks while the queue is full. Default 4,096. Raft's limit on entries in flight
    /// keeps the queue far shorter unless the disk hangs.
    pub queue_len_max: usize,
    /// Bytes of bodies after which a round takes no further write. Default 4 MiB.
    pub batch_bytes_max: usize,
    /// Longest time a round waits for more writes. It waits only when the round before had several, and never longer than a sync takes:
    /// a lone client pays nothing. Default 0: off.
    pub linger: Duration,
    /// Shortest time between two writes of the watermark file that nobody waits for. Default 5 ms.
    pub watermark_pace: Duration,
}

impl Default for WriterOptions {
    fn default() -> WriterOptions {
        WriterOptions {
            queue_len_max: 4096,
            batch_bytes_max: 4 << 20,
            linger: Duration::ZERO,
            watermark_pace: Duration::from_millis(5),
        }
    }
}

/// What one write does to a replica's rows.
pub(crate) enum Change {
    /// Entries with the running hash after each, and the committed position that goes along.
    Append {
        entries: Vec<(LogEntry, u64)>,
        committed: Option<Bytes>,
    },
    Vote {
        counter: u64,
        vote: Bytes,
    },
    /// Deletes the indexes of `rows`, the end of the log; `kept` is the last entry that stays.
    Cut {
        rows: Range<u64>,
        kept: Option<Point>,
    },
    /// Deletes the indexes of `rows`, the start of the log.
    Purge {
        rows: Range<u64>,
        point: Point,
    },
}

/// One write in the queue. Dropped unanswered, it answers `Stopped`.
pub(crate) struct Job {
    pub(crate) replica: ReplicaId,
    pub(crate) change: Change,
    pub(crate) number: u64,
    pub(crate) written: Arc<AtomicU64>,
    done: Option<Done>,
}

impl Job {
    /// `written` is raised to `number` once the change is in the database.
    pub(crate) fn new(replica: ReplicaId, change: Change, number: u64, written: Arc<AtomicU64>, done: Done) -> Job {
        Job { replica, change, number, written, done: Some(done) }
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.change {
            Change::Append { entries, .. } => entries.iter().map(|(entry, _)| entry.body.len()).sum(),
            Change::Vote { .. } | Change::Cut { .. } | Change::Purge { .. } => 0,
        }
    }

    pub(crate) fn answer(mut self, result: Result<(), StorageError>) {
        if let Some(done) = self.done.take() {
            done(result);
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(StorageError::Stopped));
        }
    }
}

pub(crate) enum Message {
    Job(Job),
    Stop,
}

/// The log writer of a node: every vote, append, truncation and purge of every replica goes through its one queue.
pub struct LogWriter {
    queue: Sender<Message>,
    watermarks: Watermarks,
    poison: Arc<Poison>,
    fsyncs: Arc<AtomicU64>,
    slow: Arc<SlowDisk>,
    threads: Mutex<Option<Threads>>,
    /// Tells a [`DrivenWriter`] that something waits.
    on_queued: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// A drill: every sync takes longer, for a while.
#[derive(Default)]
pub(crate) struct SlowDisk {
    is_on: AtomicBool,
    /// What each sync takes longer, and until when.
    delay: Mutex<Option<(Duration, Instant)>>,
}

impl SlowDisk {
    pub(crate) fn delay(&self) -> Option<Duration> {
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        let mut delay = self.delay.lock();
        let now = Instant::now();
        let left = delay.filter(|(_, until)| now < *until).map(|(delay, until)| delay.min(until - now));
        if left.is_none() {
            *delay = None;
            self.is_on.store(false, Ordering::Relaxed);
        }
        left
    }
}

struct Threads {
    writer: JoinHandle<()>,
    pacer: JoinHandle<()>,
}

impl LogWriter {
    /// Starts the two threads, `log-writer` and `watermarks`. `on_fatal` is called once, with the first error.
    /// # Panics
    /// When the operating system refuses a thread.
    #[must_use]
    pub fn start(
        engine: Arc<dyn Engine>,
        watermarks: Watermarks,
        options: WriterOptions,
        on_fatal: OnFatal,
    ) -> Arc<LogWriter> {
        let (queue, receiver) = crossbeam_channel::bounded(options.queue_len_max.max(1));
        let poison = Arc::new(Poison { cause: OnceLock::new(), on_fatal });
        let fsyncs = Arc::new(AtomicU64::new(0));
        let pace = options.watermark_pace;
        let slow = Arc::new(SlowDisk::default());
        let mut worker = Worker::new(engine, watermarks.clone(), options, receiver, poison.clone(), fsyncs.clone());
        worker.slow = slow.clone();
        watermarks.arm();
        let writer = spawn("log-writer", &poison, move || worker.run());
        let (marks, fatal) = (watermarks.clone(), poison.clone());
        let pacer = spawn("watermarks", &poison, move || follow(&marks, &fatal, pace));
        Arc::new(LogWriter {
            queue,
            watermarks,
            poison,
            fsyncs,
            slow,
            threads: Mutex::new(Some(Threads { writer, pacer })),
            on_queued: None,
        })
    }

    /// A log writer without threads: the caller drives it. `on_queued` is called whenever there is something to do.
    #[must_use]
    pub fn driven(
        engine: Arc<dyn Engine>,
        watermarks: Watermarks,
        options: WriterOptions,
        on_fatal: OnFatal,
        on_queued: Arc<dyn Fn() + Send + Sync>,
    ) -> (Arc<LogWriter>, DrivenWriter) {
        let (queue, receiver) = crossbeam_channel::bounded(options.queue_len_max.max(1));
        let poison = Arc::new(Poison { cause: OnceLock::new(), on_fatal });
        let fsyncs = Arc::new(AtomicU64::new(0));
        watermarks.arm();
        let worker = Worker::new(engine, watermarks.clone(), options, receiver, poison.clone(), fsyncs.clone());
        let (slow, threads) = (worker.slow.clone(), Mutex::new(None));
        let on_queued = Some(on_queued);
        let writer = Arc::new(LogWriter { queue, watermarks, poison, fsyncs, slow, threads, on_queued });
        (writer, DrivenWriter::new(worker))
    }

    /// Successful syncs of the database since the start.
    #[must_use]
    pub fn fsyncs(&self) -> u64 {
        self.fsyncs.load(Ordering::Relaxed)
    }

    /// A drill: until `for_how_long` has passed each sync takes `delay` longer.
    pub fn slow_down(&self, delay: Duration, for_how_long: Duration) {
        *self.slow.delay.lock() = Some((delay, Instant::now() + for_how_long));
        self.slow.is_on.store(true, Ordering::Relaxed);
    }

    /// The error that stopped all writing, if there was one.
    #[must_use]
    pub fn fatal(&self) -> Option<StorageError> {
        self.poison.cause.get().cloned()
    }

    /// Takes note of an error that came outside of the writer. A disk that failed is not trusted any more: nothing more is written,
    /// as if the writer had met it. Other errors change nothing.
    pub fn heed(&self, error: &StorageError) {
        if matches!(error, StorageError::NoSpace { .. } | StorageError::Io { .. }) {
            self.poison.fire(error);
        }
    }

    /// The marks that this writer raises.
    #[must_use]
    pub fn watermarks(&self) -> &Watermarks {
        &self.watermarks
    }

    /// Writes what was sent before, brings the watermark file up to date and ends both threads. Later writes are answered `Stopped`.
    pub fn stop(&self) {
        let Some(threads) = self.threads.lock().take() else { return };
        // An error means that the thread has gone already, after a panic.
        let _ = self.queue.send(Message::Stop);
        // The last handle may be dropped by a callback, on the writer's own thread, which then ends by itself.
        if threads.writer.thread().id() == std::thread::current().id() {
            self.watermarks.stop();
            return;
        }
        let _ = threads.writer.join();
        self.watermarks.stop();
        let _ = threads.pacer.join();
    }

    /// Queues a write; blocks while the queue is full. A write that cannot be queued comes back, to be dropped when no lock is held.
    pub(crate) fn send(&self, job: Job) -> Option<Job> {
        match self.queue.send(Message::Job(job)) {
            Ok(()) => {
                if let Some(on_queued) = &self.on_queued {
                    on_queued();
                }
                None
            }
            Err(crossbeam_channel::SendError(Message::Job(job))) => Some(job),
            Err(crossbeam_channel::SendError(Message::Stop)) => None,
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ends the process after a failed sync or a full disk: one line on stderr, exit code 75. Pass it as `on_fatal` in production.
pub fn exit_on_fatal(error: &StorageError) -> ! {
    use std::io::Write;
    // Held to the end, so that no other thread's line comes after this one.
    let _silent = std::io::stdout().lock();
    let mut stderr = std::io::stderr().lock();
    let why = match error {
        StorageError::Corrupt { .. } => {
            "the database is damaged, stopping at once; if this is so after a restart, let the node join anew with an empty data directory"
        }
        _ => "the log could not be made durable, stopping at once so that nothing unsafe is acknowledged",
    };
    // If even that cannot be written, the exit code says it.
    let _ = writeln!(stderr, "everdesk: fatal: {why}: {error}");
    std::process::exit(EXIT_DISK)
}

/// The first error, and whom to tell.
pub(crate) struct Poison {
    cause: OnceLock<StorageError>,
    on_fatal: OnFatal,
}

impl Poison {
    pub(crate) fn fire(&self, error: &StorageError) {
        if self.cause.set(error.clone()).is_ok() {
            (self.on_fatal)(error);
        }
    }

    pub(crate) fn check(&self) -> Result<(), StorageError> {
        match self.cause.get() {
            None => Ok(()),
            Some(cause) => Err(StorageError::Poisoned { cause: cause.to_string() }),
        }
    }
}

fn spawn(name: &'static str, poison: &Arc<Poison>, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let poison = poison.clone();
    let guarded = move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
            poison.fire(&StorageError::Poisoned { cause: format!("thread {name} panicked") });
        }
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(guarded)
        .expect("a node that cannot have its log thread cannot start")
}

/// Lets the watermark file follow the marks in memory.
fn follow(watermarks: &Watermarks, poison: &Poison, pace: Duration) {
    while watermarks.wait_dirty() {
        if let Err(error) = watermarks.persist() {
            return poison.fire(&error);
        }
        watermarks.pause(pace);
    }
    if poison.check().is_ok()
        && let Err(error) = watermarks.persist()
    {
        poison.fire(&error);
    }
}
