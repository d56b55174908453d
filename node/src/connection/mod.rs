//! Owns one WebSocket: hello, verbs, order of what is written. Does not know shards' replicas.
//! Invariant: per socket and session every seq is written at most once, in order, without gaps.

mod actor;
pub(crate) mod heads;
mod heard;
mod hello;
mod outbox;
mod shown;
mod socket;
#[cfg(test)]
mod socket_tests;
mod supervise;
mod verbs;
mod visited;

pub use actor::upgrade;
pub use heard::is_heard;
pub use outbox::{Pumped, Subscription, WAITING_BYTES_MAX};
pub use shown::{client_event, client_party};
pub use socket::{Socket, Who, error_of};
pub use verbs::take;
pub use visited::{SeenPage, Visited};
