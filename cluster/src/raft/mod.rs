//! Owns consensus: openraft, its storage and network adapters, one `Group` per replica on this node.
//! Does not know what entries mean. Invariant: no openraft type leaves this folder except through `types`.

pub mod group;
pub mod inbound;
pub mod log_store;
pub mod machine;
pub mod network;
mod runtime;
pub mod types;
pub mod wire;

pub use group::{Group, GroupConfig, Leadership};
pub use machine::{Core, Halt, Machine};

#[cfg(test)]
mod suite_tests;
