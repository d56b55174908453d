//! Owns every byte that is stored or sent: ids, commands, peer frames, client frames and their encodings.
//! Does not know tokio, RocksDB, openraft or actix. Invariant: bytes once written can be read by every later version.

pub mod act;
pub mod archive;
pub mod attachment;
pub mod audit;
pub mod client;
pub mod codec;
pub mod command;
pub mod cut;
pub mod desk;
pub mod email;
pub mod failpoints;
pub mod feed;
#[doc(hidden)]
pub mod fuzzing;
mod hello;
pub mod ids;
pub mod meta;
pub mod mutants;
pub mod peer;
mod push;
pub mod report;
pub mod search;
pub mod shelf;
pub mod target;
pub mod version;
pub mod webhook;
