//! Owns what is done to clusters that do not run: reading what nodes left, and writing the data directory of a new cluster of
//! one node. Does not start anything. Invariant: what was there before is never written to.
//!
//! Restoring a backup and recovering without a quorum are one thing: rows come from somewhere, a [`Draft`] makes a cluster of
//! one node of them, and the cluster grows again by ordinary joins.

mod draft;
mod shard_draft;
mod survivors;

pub use draft::{Draft, Drafted};
pub use shard_draft::ShardDraft;
pub use survivors::{Accepted, Choice, Survivors};

use proto::ids::ShardId;
use storage::StorageError;

/// Why nothing was made. What was begun has no `identity`, so that no node starts from it.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error("{0}")]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Identity(#[from] crate::node::IdentityError),
    #[error("{shard}: {reason}")]
    Shard { shard: ShardId, reason: String },
    /// Give other directories or flags.
    #[error("{0}")]
    Refused(String),
}

impl OfflineError {
    fn of(shard: ShardId, reason: impl ToString) -> OfflineError {
        OfflineError::Shard { shard, reason: reason.to_string() }
    }
}
