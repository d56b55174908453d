//! Owns a thread that does something again and again. Does not know what. Invariant: once it is dropped, nothing is done any more.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Calls a closure with 0, 1, 2 ... until dropped.
pub struct Ticker {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<u64>>,
}

impl Ticker {
    /// Begins at once and goes on every `period`.
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        period: Duration,
        mut tick: impl FnMut(u64) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<Ticker> {
        let (stop, stopped) = sync_channel::<()>(0);
        let body = move || {
            let mut count = 0;
            loop {
                if let Err(error) = tick(count) {
                    eprintln!("a repeated fault was not done: {error:#}");
                }
                count += 1;
                if stopped.recv_timeout(period) != Err(RecvTimeoutError::Timeout) {
                    return count;
                }
            }
        };
        let thread = std::thread::Builder::new().name("lab-ticker".to_owned()).spawn(body)?;
        Ok(Ticker { stop: Some(stop), thread: Some(thread) })
    }

    /// Ends it and returns how often it ticked.
    pub fn stop(&mut self) -> u64 {
        drop(self.stop.take());
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(0)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop();
    }
}
