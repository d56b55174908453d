//! Owns the processes of all machines and restarts those that end, as a service manager does. Does not know why they end.
//! Invariant: one thread starts them all and outlives them, because the guard that ends them with us goes by that thread.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::Mutex;

use crate::cluster::NodeProcess;

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// From an end to the next start; by turns, as machines differ.
const RESTART_AFTER: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(750), Duration::from_millis(1_000)];

/// How to start a machine's process.
#[derive(Debug, Clone)]
pub struct Line {
    /// What is put before the program.
    pub prefix: Vec<String>,
    pub binary: PathBuf,
    pub args: Vec<String>,
    pub log: PathBuf,
}

/// A process that ended by itself.
#[derive(Debug, Clone)]
pub struct End {
    pub machine: u64,
    pub at: Instant,
    pub status: ExitStatus,
}

struct Charge {
    line: Line,
    is_wanted: bool,
    process: Option<NodeProcess>,
    start_at: Instant,
    starts: u64,
}

#[derive(Default)]
struct Shared {
    charges: Mutex<BTreeMap<u64, Charge>>,
    ends: Mutex<Vec<End>>,
    is_over: AtomicBool,
}

/// The supervisor. Ends every process when dropped.
pub struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// # Errors
    /// The system gives no thread.
    pub fn start() -> anyhow::Result<Supervisor> {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("supervisor".to_owned()).spawn(move || watch(&of_thread))?;
        Ok(Supervisor { shared, thread: Some(thread) })
    }

    /// Takes a machine's process into care, or changes how it is started next time. Wants it up.
    pub fn run(&self, machine: u64, line: Line) {
        let mut charges = self.shared.charges.lock();
        let now = Instant::now();
        let charge = charges.entry(machine).or_insert_with(|| Charge {
            line: line.clone(),
            is_wanted: true,
            process: None,
            start_at: now,
            starts: 0,
        });
        (charge.line, charge.is_wanted, charge.start_at) = (line, true, now);
    }

    /// `kill -9` of these, as near to at once as one thread can, and keeps them down.
    pub fn kill(&self, machines: &[u64]) {
        let mut charges = self.shared.charges.lock();
        for (_, charge) in charges.iter_mut().filter(|(machine, _)| machines.contains(machine)) {
            charge.is_wanted = false;
            if let Some(process) = &charge.process {
                // The reaping comes below; the signal must not wait for it. An error means that it has ended.
                let _ = process.signal("KILL");
            }
        }
        for (_, charge) in charges.iter_mut().filter(|(machine, _)| machines.contains(machine)) {
            charge.process = None;
        }
    }

    /// Wants these up again, at once.
    pub fn release(&self, machines: &[u64]) {
        let mut charges = self.shared.charges.lock();
        for (_, charge) in charges.iter_mut().filter(|(machine, _)| machines.contains(machine)) {
            (charge.is_wanted, charge.start_at) = (true, Instant::now());
        }
    }

    /// Does not restart it any more once it ends.
    pub fn let_end(&self, machine: u64) {
        if let Some(charge) = self.shared.charges.lock().get_mut(&machine) {
            charge.is_wanted = false;
        }
    }

    /// Sends a signal by its name.
    /// # Errors
    /// It does not run.
    pub fn signal(&self, machine: u64, name: &str) -> anyhow::Result<()> {
        let charges = self.shared.charges.lock();
        let process = charges.get(&machine).and_then(|charge| charge.process.as_ref());
        process.with_context(|| format!("machine {machine} does not run"))?.signal(name)
    }

    pub fn is_running(&self, machine: u64) -> bool {
        self.shared.charges.lock().get(&machine).is_some_and(|charge| charge.process.is_some())
    }

    /// How often it was started.
    pub fn starts(&self, machine: u64) -> u64 {
        self.shared.charges.lock().get(&machine).map_or(0, |charge| charge.starts)
    }

    /// Processes that ended by themselves, oldest first.
    pub fn ends(&self) -> Vec<End> {
        self.shared.ends.lock().clone()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn watch(shared: &Shared) {
    while !shared.is_over.load(Ordering::Relaxed) {
        for (machine, charge) in shared.charges.lock().iter_mut() {
            charge.look(*machine, shared);
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    // Before this thread ends: each is killed and reaped.
    shared.charges.lock().clear();
}

impl Charge {
    fn look(&mut self, machine: u64, shared: &Shared) {
        if let Some(status) = self.process.as_mut().and_then(NodeProcess::ended) {
            shared.ends.lock().push(End { machine, at: Instant::now(), status });
            self.process = None;
            let after = RESTART_AFTER[(self.starts + machine) as usize % RESTART_AFTER.len()];
            self.start_at = Instant::now() + after;
        }
        if self.is_wanted && self.process.is_none() && Instant::now() >= self.start_at {
            self.starts += 1;
            let line = &self.line;
            match NodeProcess::start_behind(&line.prefix, &line.binary, &line.args, &line.log) {
                Ok(process) => self.process = Some(process),
                Err(error) => {
                    eprintln!("machine {machine} is not started: {error:#}");
                    self.start_at = Instant::now() + RESTART_AFTER[0];
                }
            }
        }
    }
}
