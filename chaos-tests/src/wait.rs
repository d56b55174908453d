//! Owns waiting for a condition. Does not know what is waited for. Invariant: every wait has a deadline and says what it missed.

use std::time::{Duration, Instant};

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` gives something.
/// # Errors
/// Nothing came within `within`; the text names `what`.
pub async fn until<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        anyhow::ensure!(Instant::now() < deadline, "not within {within:?}: {what}");
        pause(LOOK_EVERY).await;
    }
}

/// A pause that is part of a load or a fault, never a stand-in for a condition.
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
