//! Owns the filling of one data shard's table: rows as they were, then the log entries that they lack. Does not reconcile shards.
//! Invariant: entries are applied by the same rules as on a node.

use super::OfflineError;
use crate::raft::machine::RowChanges;
use crate::shard::TableRows;
use proto::codec::{self, Frozen};
use proto::command::Batch;
use proto::ids::ShardId;
use proto::peer::{AppliedRow, LogPoint};
use std::sync::Arc;
use storage::StateTable;

/// Bytes of rows that are written at once.
const WRITE_BYTES: usize = 4 << 20;
/// Bytes of changed state that are not yet rows.
const DIRTY_BYTES_MAX: usize = 16 << 20;

/// A data shard that is being filled.
pub struct ShardDraft {
    pub id: ShardId,
    pub(super) table: Arc<StateTable>,
    shards: u32,
    rows: RowChanges,
    bytes: usize,
    state: Option<chat::Shard>,
}

impl ShardDraft {
    pub(super) fn new(id: ShardId, shards: u32, table: Arc<StateTable>) -> ShardDraft {
        ShardDraft { id, table, shards, rows: Vec::new(), bytes: 0, state: None }
    }

    /// Takes one row as it was.
    /// # Errors
    /// `Storage`: the disk is full, or the row is too large to be one.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), OfflineError> {
        self.bytes += key.len() + value.len();
        self.rows.push((key.to_vec(), Some(value.to_vec())));
        if self.bytes >= WRITE_BYTES { self.write_rows() } else { Ok(()) }
    }

    /// Applies one log entry, after the last row and in the order of the log. Entries that are not batches change no row.
    /// # Errors
    /// `Shard`: the entry or a row cannot be understood.
    pub fn replay(&mut self, body: &[u8]) -> Result<(), OfflineError> {
        if body.first() != Some(&Batch::TAG) {
            return Ok(());
        }
        self.write_rows()?;
        let (id, rows) = (self.id, TableRows(&self.table));
        let failed = |error: chat::ApplyError| OfflineError::of(id, error);
        let batch: Batch = codec::decode(body).map_err(|error| OfflineError::of(id, error))?;
        let state = match &mut self.state {
            Some(state) => state,
            None => self.state.insert(chat::Shard::open(id, self.shards, &rows).map_err(failed)?),
        };
        for command in batch.commands {
            state.apply(&rows, batch.now_ms, command).map_err(failed)?;
        }
        if state.dirty_bytes() >= DIRTY_BYTES_MAX { self.write_state() } else { Ok(()) }
    }

    /// Everything that was put and applied is in the table.
    pub(super) fn settle(&mut self) -> Result<(), OfflineError> {
        self.write_rows()?;
        self.write_state()
    }

    fn write_rows(&mut self) -> Result<(), OfflineError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        Ok(self.table.checkpoint(std::mem::take(&mut self.rows), draft_header())?)
    }

    fn write_state(&mut self) -> Result<(), OfflineError> {
        let Some(state) = &mut self.state else { return Ok(()) };
        let written = self.table.checkpoint(state.begin_checkpoint(), draft_header());
        state.end_checkpoint(written.is_ok());
        state.evict(DIRTY_BYTES_MAX);
        Ok(written?)
    }
}

/// The header until all is known.
fn draft_header() -> Vec<u8> {
    codec::encode(&AppliedRow::default())
}

/// Where a shard stands whose log nobody has.
pub(super) const NOWHERE: LogPoint = LogPoint { term: 1, index: 1 };
