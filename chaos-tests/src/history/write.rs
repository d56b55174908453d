//! Owns the book in which a run is written down while it happens. Does not interpret what it is given.
//! Invariant: lines stand in the order in which they were recorded, and their times never fall.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::history::{Body, ClientId, OpId, Record, What};

/// Lines of one run; above it the run is too long to be judged in memory.
pub const LINES_LEN_MAX: usize = 20_000_000;

/// Handle to the book of a run.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    /// Microseconds since the run began.
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    book: Mutex<Book>,
}

struct Book {
    lines: Vec<Record>,
    file: Option<BufWriter<File>>,
    /// The first failure; told by `flush`, because a client that records cannot do anything about it.
    broken: Option<io::Error>,
    last_op: u64,
}

impl Recorder {
    /// Writes to `path` as well as to memory. `clock` gives microseconds since the run began.
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, clock: impl Fn() -> u64 + Send + Sync + 'static) -> io::Result<Recorder> {
        Ok(Recorder::new(Some(BufWriter::new(File::create(path)?)), clock))
    }

    pub fn in_memory(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Recorder {
        Recorder::new(None, clock)
    }

    fn new(file: Option<BufWriter<File>>, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Recorder {
        let book = Book { lines: Vec::new(), file, broken: None, last_op: 0 };
        Recorder { shared: Arc::new(Shared { clock: Box::new(clock), book: Mutex::new(book) }) }
    }

    /// Notes what happens now.
    pub fn record(&self, body: Body) {
        let mut book = self.shared.book.lock();
        // Under the lock: else a line could be older than the one before it.
        let now = (self.shared.clock)();
        book.push(now, body);
    }

    /// Notes what happened at `at_us`; a time before the last line's is raised to it.
    pub fn record_at(&self, at_us: u64, body: Body) {
        self.shared.book.lock().push(at_us, body);
    }

    /// Notes that an operation begins and gives it a number. To be called before the request leaves.
    pub fn invoke(&self, client: ClientId, what: What) -> OpId {
        let mut book = self.shared.book.lock();
        book.last_op += 1;
        let op = OpId(book.last_op);
        let now = (self.shared.clock)();
        book.push(now, Body::Invoke { op, client, what });
        op
    }

    /// How many lines there are so far.
    pub fn len(&self) -> usize {
        self.shared.book.lock().lines.len()
    }

    /// Whether nothing was noted yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Record> {
        self.shared.book.lock().lines.clone()
    }

    /// Brings all lines into the file.
    /// # Errors
    /// A line, this one or an earlier one, could not be written.
    pub fn flush(&self) -> io::Result<()> {
        let mut book = self.shared.book.lock();
        if let Some(broken) = book.broken.take() {
            return Err(broken);
        }
        book.file.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

impl Book {
    fn push(&mut self, at_us: u64, body: Body) {
        let last = self.lines.last().map_or(0, |line| line.t);
        let record = Record { t: at_us.max(last), body };
        if self.lines.len() >= LINES_LEN_MAX {
            self.broken.get_or_insert_with(|| io::Error::other("the run has too many lines"));
            return;
        }
        if let Some(file) = &mut self.file
            && let Err(error) = write_line(file, &record)
        {
            self.broken.get_or_insert(error);
        }
        self.lines.push(record);
    }
}

fn write_line(file: &mut impl Write, record: &Record) -> io::Result<()> {
    serde_json::to_writer(&mut *file, record)?;
    file.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::history::SessionId;
    use crate::history::read;

    fn close() -> What {
        What::Close { session: SessionId::from("s1"), seen: None }
    }

    #[test]
    fn lines_of_many_threads_have_rising_times_and_unique_ops_in_memory_and_in_the_file() {
        let path = std::env::temp_dir().join(format!("history-{}.jsonl", std::process::id()));
        let ticks = AtomicU64::new(0);
        let recorder = Recorder::create(&path, move || ticks.fetch_add(1, Ordering::Relaxed)).unwrap();
        std::thread::scope(|scope| {
            for client in 0..4 {
                let recorder = recorder.clone();
                scope.spawn(move || {
                    for _ in 0..500 {
                        let op = recorder.invoke(ClientId(client), close());
                        recorder.record(Body::Ok { op, result: None });
                    }
                });
            }
        });
        recorder.flush().unwrap();
        let lines = recorder.lines();
        assert_eq!(read::from_path(&path).unwrap(), lines);
        assert!(lines.is_sorted_by_key(|line| line.t));
        let mut ops: Vec<OpId> = lines
            .iter()
            .filter_map(|line| if let Body::Invoke { op, .. } = line.body { Some(op) } else { None })
            .collect();
        ops.sort_unstable();
        ops.dedup();
        assert_eq!(ops.len(), 2000);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_time_that_lies_before_the_last_line_is_raised_to_it() {
        let recorder = Recorder::in_memory(|| 5);
        recorder.record_at(9, Body::Ready { since: 1 });
        recorder.record(Body::Ready { since: 2 });
        assert_eq!(recorder.lines().iter().map(|line| line.t).collect::<Vec<_>>(), [9, 9]);
    }
}
