//! Owns the wish of a person to end a run early. Does not end it. Invariant: the first Ctrl-C cleans up, it never just kills.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// Whether somebody wants the run to end.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// It is wanted.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.is_wanted(), "interrupted");
        Ok(())
    }

    /// Watches for SIGINT and SIGTERM until dropped.
    pub async fn watch(self) -> std::io::Result<()> {
        let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        eprintln!("interrupted: cleaning up");
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Ends once it is wanted.
    pub async fn wanted(&self) {
        while !self.is_wanted() {
            crate::wait::pause(std::time::Duration::from_millis(50)).await;
        }
    }
}
