//! Owns the helpers of the tests: engines, tickets for callbacks, short ways to write and read. Does not assert anything of a log.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::ids::ReplicaId;
use storage::{
    Done, Engine, LogEntry, LogOptions, LogWriter, MemEngine, Opened, RaftLog, RocksEngine, RocksOptions, StateTable,
    StorageError, Watermarks, WriterOptions,
};

pub const REPLICA: ReplicaId = ReplicaId(3);
/// Far beyond what a loaded machine needs.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub type Fatals = Arc<Mutex<Vec<StorageError>>>;

/// The answer to one write.
pub struct Ticket(Receiver<Result<(), StorageError>>);

impl Ticket {
    pub fn wait(self) -> Result<(), StorageError> {
        self.0.recv_timeout(DEADLINE).expect("every write is answered before the deadline")
    }
}

pub fn ticket() -> (Done, Ticket) {
    let (sender, receiver) = sync_channel(1);
    let done = Box::new(move |result| {
        // The test may have stopped caring.
        let _ = sender.send(result);
    });
    (done, Ticket(receiver))
}

pub fn entry(index: u64, term: u64) -> LogEntry {
    LogEntry { index, term, body: Bytes::from(format!("body of entry {index} in term {term}")) }
}

pub fn entries(range: std::ops::Range<u64>, term: u64) -> Vec<LogEntry> {
    range.map(|index| entry(index, term)).collect()
}

/// A node over some engine.
pub struct Node {
    pub engine: Arc<dyn Engine>,
    pub writer: Arc<LogWriter>,
    pub fatals: Fatals,
}

impl Node {
    pub fn start(engine: Arc<dyn Engine>, watermarks: Watermarks) -> Node {
        Node::with(engine, watermarks, WriterOptions::default())
    }

    pub fn with(engine: Arc<dyn Engine>, watermarks: Watermarks, options: WriterOptions) -> Node {
        let fatals = Fatals::default();
        let seen = fatals.clone();
        let on_fatal = Arc::new(move |error: &StorageError| seen.lock().push(error.clone()));
        let writer = LogWriter::start(engine.clone(), watermarks, options, on_fatal);
        Node { engine, writer, fatals }
    }

    pub fn mem(engine: &Arc<MemEngine>) -> Node {
        Node::start(engine.clone(), Watermarks::in_memory(engine))
    }

    pub fn rocks(dir: &std::path::Path) -> Node {
        let engine = RocksEngine::open(&dir.join("db"), RocksOptions::default()).unwrap();
        Node::start(engine, Watermarks::open(dir).unwrap())
    }

    pub fn open(&self, replica: ReplicaId) -> Opened {
        self.open_with(replica, LogOptions::default())
    }

    pub fn open_with(&self, replica: ReplicaId, options: LogOptions) -> Opened {
        RaftLog::open(self.engine.clone(), self.writer.clone(), replica, options).unwrap()
    }

    pub fn log(&self) -> Arc<RaftLog> {
        intact(self.open(REPLICA))
    }

    pub fn small_tail(&self) -> Arc<RaftLog> {
        intact(self.open_with(REPLICA, LogOptions { tail_bytes_max: 0 }))
    }

    pub fn table(&self) -> (Arc<StateTable>, Option<Vec<u8>>) {
        StateTable::open(self.engine.clone(), REPLICA).unwrap()
    }
}

pub fn intact(opened: Opened) -> Arc<RaftLog> {
    match opened {
        Opened::Intact(log) => log,
        Opened::Amnesia { reason } => panic!("a false alarm: {reason}"),
    }
}

pub fn amnesia(opened: Opened) -> String {
    match opened {
        Opened::Intact(log) => panic!("the loss was not noticed: {:?}", log.state()),
        Opened::Amnesia { reason } => reason,
    }
}

/// Both engines, each with a name for messages and what keeps its directory.
pub fn both() -> Vec<(&'static str, Node, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    let rocks = Node::rocks(dir.path());
    vec![("memory", Node::mem(&MemEngine::new()), None), ("rocksdb", rocks, Some(dir))]
}

pub trait LogExt {
    fn append_wait(&self, entries: Vec<LogEntry>) -> Result<(), StorageError>;
    fn vote_wait(&self, vote: &'static [u8]) -> Result<(), StorageError>;
    fn truncate_wait(&self, last_kept: Option<u64>) -> Result<(), StorageError>;
    fn purge_wait(&self, upto: (u64, u64)) -> Result<(), StorageError>;
    fn all(&self) -> Vec<(u64, u64)>;
}

impl LogExt for RaftLog {
    fn append_wait(&self, entries: Vec<LogEntry>) -> Result<(), StorageError> {
        let (done, ticket) = ticket();
        self.append(entries, done);
        ticket.wait()
    }

    fn vote_wait(&self, vote: &'static [u8]) -> Result<(), StorageError> {
        let (done, ticket) = ticket();
        self.save_vote(Bytes::from_static(vote), done);
        ticket.wait()
    }

    fn truncate_wait(&self, last_kept: Option<u64>) -> Result<(), StorageError> {
        let (done, ticket) = ticket();
        self.truncate_after(last_kept, done);
        ticket.wait()
    }

    fn purge_wait(&self, upto: (u64, u64)) -> Result<(), StorageError> {
        let (done, ticket) = ticket();
        self.purge(upto, done);
        ticket.wait()
    }

    /// Index and term of every entry, whose body must be its own.
    fn all(&self) -> Vec<(u64, u64)> {
        let found = self.read(0..u64::MAX, usize::MAX).unwrap();
        found
            .into_iter()
            .map(|found| {
                assert_eq!(found, entry(found.index, found.term));
                (found.index, found.term)
            })
            .collect()
    }
}

pub fn rows_of(table: &StateTable, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let visit: storage::Visit<'_> = &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    table.scan_prefix(prefix, None, usize::MAX, visit).unwrap();
    rows
}
