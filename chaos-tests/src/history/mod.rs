//! Owns the file of a run: what clients asked, were answered and were told, and what befell the cluster. Does not judge it.
//! Invariant: a line's number is its place in time; what is written can be read back unchanged.

pub mod read;
mod record;
mod write;

pub use record::*;
pub use write::{LINES_LEN_MAX, Recorder};
