//! Owns where work that waits for the disk runs: on threads of its own, and in a simulation, which has one thread, in its turn.
//! Does not know what the work is. Invariant: no task of the runtime waits for the disk.

use tokio::task::JoinError;

/// Runs `work` beside the runtime's tasks.
/// # Errors
/// It panicked, or the runtime is ending.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    #[cfg(feature = "sim")]
    if turmoil::in_simulation() {
        let pause = crate::sim::disk_pause();
        // Like work on a thread, it is not undone when nobody waits for it any more.
        #[expect(clippy::disallowed_methods, reason = "stands for the thread, which nobody owns either")]
        return tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            work()
        })
        .await;
    }
    tokio::task::spawn_blocking(work).await
}

/// Runs short work of this task that may wait for the disk; the runtime moves its other tasks away meanwhile.
pub fn in_place<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(feature = "sim")]
    if turmoil::in_simulation() {
        return work();
    }
    tokio::task::block_in_place(work)
}
