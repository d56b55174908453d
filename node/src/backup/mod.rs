//! Owns backups: their form in a directory or store, making, checking, thinning out and restoring them. Does not hold rows:
//! `cluster` cuts shards and writes data directories. Invariant: a manifest is written after every chunk that it names, and a
//! chunk is never changed.
//!
//! In the place of backups: `chunks/ab/abcd….zst`, `manifests/ID.json`, `running/KIND-ID` while something works there.

pub(crate) mod chunk;
mod create;
mod manifest;
mod place;
mod prune;
mod restore;
mod verify;
mod work;

pub use create::{Order, create};
pub use manifest::{Group, Manifest, ids, new_id};
pub use place::Place;
pub use prune::{Pruned, prune};
pub use restore::restore;
pub use verify::{Verified, verify};
pub use work::{Job, JobState, Jobs};

use cluster::node::CutError;
use cluster::offline::OfflineError;

/// Why something with backups was not done.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Name another place.
    #[error("{0}")]
    Invalid(String),
    /// See to the directory or the store.
    #[error("cannot {what} {path}: {cause}")]
    Place { what: &'static str, path: String, cause: Box<opendal::Error> },
    /// Restore another backup, or make a new one.
    #[error("{0}")]
    Damaged(String),
    /// Try again later.
    #[error("{0}")]
    Busy(String),
    /// Try again when every group has a leader.
    #[error("{0}")]
    Cut(#[from] CutError),
    #[error("{0}")]
    Offline(#[from] OfflineError),
}
