//! Owns agreement: raft groups, the links between nodes, the meta group's state and the way to a shard's leader.
//! Does not know browsers or actors. Invariant: nothing is answered or pushed before it is applied at a leader.

mod blocking;
pub mod checked_file;
pub mod config;
#[doc(hidden)]
pub mod fuzzing;
pub mod hooks;
pub mod meta;
pub mod node;
pub mod offline;
pub mod raft;
pub mod router;
pub mod shard;
#[cfg(feature = "sim")]
pub mod sim;
pub mod tls;
pub mod transport;

pub use blocking::blocking;

#[cfg(test)]
mod bytes_tests;
