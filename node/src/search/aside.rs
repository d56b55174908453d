//! Owns the thread on which indexes are written. Does not know them. Invariant: it and the threads that it starts have the lowest priority,
//! and it never holds a lock of the state: an index waits for messages, and no message for an index.

use super::pace::Pace;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

/// The lowest priority that there is.
const NICE: i32 = 19;
/// Pieces of work that wait: one task hands them over, and waits for each.
const JOBS_MAX: usize = 1;

type Job = Box<dyn FnOnce() + Send>;

/// The work ended in a fault, or there is no thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fell;

/// Ends when nobody has it any more.
pub struct Aside {
    jobs: SyncSender<Job>,
    /// How much of it may be done.
    pub pace: Pace,
}

impl Aside {
    pub fn start() -> Arc<Aside> {
        let (jobs, queue) = sync_channel::<Job>(JOBS_MAX);
        let run = move || {
            // On Linux a thread has a priority of its own, and those that it starts begin with it.
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                tracing::warn!(%error, "search indexes are written with the priority of everything else");
            }
            queue.iter().for_each(|job| job());
        };
        if let Err(error) = std::thread::Builder::new().name("search".into()).spawn(run) {
            tracing::error!(%error, "no thread for search indexes");
        }
        Arc::new(Aside { jobs, pace: Pace::default() })
    }

    /// Runs `work` there, and waits for it: not for tasks of the runtime.
    /// # Errors
    /// `Fell`.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fell> {
        let (tx, rx) = sync_channel(1);
        let job = move || drop(tx.send(catch_unwind(AssertUnwindSafe(work))));
        self.jobs.send(Box::new(job)).map_err(|_| Fell)?;
        rx.recv().map_err(|_| Fell)?.map_err(|_| Fell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_aside_has_the_lowest_priority_and_a_fault_of_one_piece_does_not_end_the_next() {
        let aside = Aside::start();
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let own = nice();
        assert_eq!(aside.run(nice), Ok(NICE));
        assert_eq!(aside.run(move || std::thread::spawn(nice).join().unwrap()), Ok(NICE), "so have those it starts");
        assert_eq!(aside.run(|| -> u8 { panic!("on purpose") }), Err(Fell));
        assert_eq!(aside.run(|| 7), Ok(7));
        assert_eq!(nice(), own, "nobody else has");
    }
}
