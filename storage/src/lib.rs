//! Owns every byte a node keeps on its disk: logs, votes, state rows and the watermarks that guard them.
//! Does not know openraft, tokio or what a row means. Invariant: a `Done` that was given `Ok` survives a power cut,
//! and a replica that lost such a row never opens as if it were whole.
//!
//! The way of a write: a replica's [`RaftLog`] hashes entries and hands them to the one [`LogWriter`] of the node, which
//! merges the writes of all replicas into one batch and one sync of the [`Engine`], then raises the [`Watermarks`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
mod engine;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod keys;
mod mem;
mod mem_disk;
mod raft_log;
mod raft_log_open;
mod rocks;
mod rocks_view;
mod snapshot;
mod state_table;
mod survey;
mod tables;
mod tail;
mod watermark;
mod watermark_file;
mod worker;
mod writer;

pub use batch::{Batch, Op};
pub use engine::{Durability, Engine, Family, View, Visit};
pub use error::StorageError;
pub use mem::MemEngine;
pub use raft_log::{BODY_BYTES_MAX, LogOptions, LogState, Opened, RaftLog};
pub use raft_log_open::RETIRED_TEXT;
pub use rocks::{RocksEngine, RocksOptions};
pub use snapshot::{CHUNK_BYTES_MAX, StateSnapshot, decode_chunk};
pub use state_table::{Installer, ROW_KEY_BYTES_MAX, ROW_VALUE_BYTES_MAX, StateTable};
pub use survey::{StoppedNode, Survey};
pub use tail::LogEntry;
pub use watermark::Watermarks;
pub use worker::DrivenWriter;
pub use writer::{Done, LogWriter, OnFatal, WriterOptions, exit_on_fatal};
