//! Owns proof of leadership for reads: one quorum round serves every read that waits. Does not read.
//! Invariant: a barrier that was asked for during a round waits for the next one.

use crate::raft::Group;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};
use tokio_util::task::TaskTracker;

pub struct Reads {
    waiting: Mutex<Vec<oneshot::Sender<bool>>>,
    wake: Notify,
}

impl Reads {
    pub(super) fn start(group: Arc<Group>, tasks: &TaskTracker) -> Arc<Self> {
        let reads = Arc::new(Reads { waiting: Mutex::default(), wake: Notify::new() });
        tasks.spawn(run(reads.clone(), group));
        reads
    }

    /// True once everything acknowledged before this call is applied here and this replica still leads.
    pub async fn barrier(&self) -> bool {
        let (tx, rx) = oneshot::channel();
        self.waiting.lock().push(tx);
        self.wake.notify_one();
        rx.await.unwrap_or(false)
    }
}

async fn run(reads: Arc<Reads>, group: Arc<Group>) {
    loop {
        reads.wake.notified().await;
        let waiting = std::mem::take(&mut *reads.waiting.lock());
        if waiting.is_empty() {
            continue;
        }
        let passed = match group.read_barrier().await {
            Ok(()) => true,
            Err(reason) => {
                tracing::debug!(shard = %group.shard, reason, "read barrier failed");
                false
            }
        };
        for waiter in waiting {
            // A caller that gave up needs no answer.
            let _ = waiter.send(passed);
        }
    }
}
