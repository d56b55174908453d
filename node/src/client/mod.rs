//! Owns the client side of the browser protocol: outbox, cursors, reconnects; used by `everdesk chat`, the tests and the bench.
//! Does not know anything of a node's inside. Invariant: per session every event is handed out once, in seq order; what breaks that is reported.

mod asks;
mod cursors;
mod driver;
mod handle;
pub mod http;
mod link;
mod outbox;
pub mod terminal;

pub use cursors::Violation;
pub use handle::{ChatClient, ClientError, Config, Item, PendingAck, ResumePoint, Stats};

/// Longest wait that a node can ask of a client.
const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(3600);

/// The wait that a node asks for. A number that no node means must not overflow the clock.
fn asked_wait(wait_ms: u64) -> std::time::Duration {
    std::time::Duration::from_millis(wait_ms).min(WAIT_MAX)
}

#[doc(hidden)]
pub(crate) use driver::fuzzing;

#[cfg(test)]
mod driver_tests;
