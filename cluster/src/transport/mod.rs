//! Owns the links between nodes: one TCP connection per pair, lanes inside it, calls and their answers.
//! Does not know raft or chat. Invariant: messages of one lane arrive in order; a full lane is refused, not awaited.

pub(crate) mod frame;
mod hello;
mod link;
mod peer;
mod socket;

pub use frame::{Lane, Message, MessageKind};
pub use hello::{HandshakeError, read_message, write_message};
pub use link::{Inbound, Transport, TransportConfig, dial_join};
pub use peer::{CallError, Caller, Peer, PendingCall};
pub use socket::{Listener, Socket, end_untaken_after};
