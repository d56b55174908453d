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

#[cfg(test)]
mod driver_tests;
