//! Owns the seam between this crate and a database. Does not know replicas or row formats.
//! Invariant: a batch is all there or not there at all, before and after a crash.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::batch::Batch;
use crate::error::StorageError;

/// A key space of the one database of a node. Keys of all replicas share it; there is never a family per shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Raft log rows.
    Log,
    /// Rows of the state machines.
    State,
    /// Votes, purge points, births, state pointers: few and small.
    Meta,
}

impl Family {
    pub(crate) const ALL: [Family; 3] = [Family::Log, Family::State, Family::Meta];
}

/// What a crash may take of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Not in the write-ahead log: lost at a crash unless [`Engine::flush_state`] ran after it. Only for batches that touch
    /// nothing but the state family, whose rows are rebuilt from the Raft log.
    Buffered,
    /// In the write-ahead log, not synced: lost at a power cut unless a later batch was synced.
    Logged,
    /// On the disk when the call returns, together with every `Logged` batch before it.
    Synced,
}

/// Called for each row of a scan with its key and value; `Break` ends the scan.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Something rows can be read from: the database as it is, or a fixed point in its past.
pub trait View: Send + Sync {
    /// The value under `key`.
    /// # Errors
    /// `Io` or `Corrupt` when the database cannot be read.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Visits the rows with `from <= key < to` in ascending order.
    /// # Errors
    /// `Io` or `Corrupt` when the database cannot be read.
    fn scan(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError>;

    /// Visits the rows with `from <= key < to` in descending order.
    /// # Errors
    /// `Io` or `Corrupt` when the database cannot be read.
    fn scan_back(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError>;
}

/// The one database of a node. Two exist: RocksDB, and a map in memory that can lose, fail and fill up.
pub trait Engine: View + 'static {
    /// Writes the batch; see [`Durability`] for what a crash may take of it.
    /// # Errors
    /// `NoSpace`, `Io`, `Corrupt`: what reached the disk is unknown. `Invalid` for a `Buffered` batch outside the state family.
    fn write_ref(&self, batch: &Batch, durability: Durability) -> Result<(), StorageError>;

    /// Same as [`Engine::write_ref`] for a batch that is used once.
    /// # Errors
    /// As [`Engine::write_ref`].
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), StorageError> {
        self.write_ref(&batch, durability)
    }

    /// Makes every `Buffered` batch so far survive a crash. Takes as long as writing the buffered bytes (up to a second).
    /// # Errors
    /// `NoSpace`, `Io`.
    fn flush_state(&self) -> Result<(), StorageError>;

    /// A read point that later writes do not change. It pins disk space until it is dropped.
    fn view(&self) -> Arc<dyn View>;

    /// About how many bytes on the disk the rows with `from <= key < to` take; what is still in memory may be left out.
    fn bytes_of(&self, family: Family, from: &[u8], to: &[u8]) -> u64;
}
