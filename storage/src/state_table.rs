//! Owns the state rows of one replica and the change from one generation of them to the next. Does not know what a row means.
//! Invariant: rows and header are of one moment, before and after a crash: they change in one batch of one family, and a snapshot is
//! installed beside them, made durable, and then swapped in by one synced write.
//!
//! A crash takes what was buffered since the last flush; the caller replays it from the Raft log after the header's applied index. So the
//! log may be purged only up to the applied index of a header that was written before [`crate::Engine::flush_state`].

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use proto::failpoints::FailPoint;
use proto::ids::ReplicaId;
use proto::mutants::Mutant;

use crate::batch::Batch;
use crate::engine::{Durability, Engine, Family, View, Visit};
use crate::error::StorageError;
use crate::keys::{STATE_PREFIX_LEN, Tag, meta_key, prefix_end, state_end, state_generation, state_prefix};
use crate::snapshot::{StateSnapshot, decode_chunk};
use crate::tables::{decode_state_pointer, encode_state_pointer};

/// Longest row key, in bytes; the shortest is one byte.
pub const ROW_KEY_BYTES_MAX: usize = 1024;

/// Longest row value and longest header, in bytes.
pub const ROW_VALUE_BYTES_MAX: usize = 16 << 20;

/// The state rows of one replica.
pub struct StateTable {
    engine: Arc<dyn Engine>,
    replica: ReplicaId,
    /// Locked for writing only while a snapshot is swapped in.
    generation: RwLock<u32>,
    installing: AtomicBool,
}

impl StateTable {
    /// Opens the rows of `replica` and returns them with the last header, `None` for a new replica. Deletes what an interrupted
    /// installation left. The caller checks that the header's applied index is not below the log's purge point.
    /// # Errors
    /// `Io`; `Corrupt` when the pointer row is not what was written: rebuild the replica.
    pub fn open(
        engine: Arc<dyn Engine>,
        replica: ReplicaId,
    ) -> Result<(Arc<StateTable>, Option<Vec<u8>>), StorageError> {
        let pointer = engine.get(Family::Meta, &meta_key(replica, Tag::StatePointer))?;
        let generation = pointer.map_or(Ok(0), |row| decode_state_pointer(&row))?;
        delete_others(&*engine, replica, generation)?;
        let header = engine.get(Family::State, &state_prefix(replica, generation))?;
        let table =
            StateTable { engine, replica, generation: RwLock::new(generation), installing: AtomicBool::new(false) };
        Ok((Arc::new(table), header))
    }

    /// About how many bytes on the disk the rows take.
    pub fn bytes(&self) -> u64 {
        self.engine.bytes_of(Family::State, &state_prefix(self.replica, 0), &state_end(self.replica))
    }

    /// Removes every row of a replica; on the disk when the call returns. No [`StateTable`] of the replica may be in use.
    /// # Errors
    /// `Io`, `NoSpace`.
    pub fn destroy(engine: &dyn Engine, replica: ReplicaId) -> Result<(), StorageError> {
        let mut batch = Batch::new();
        batch.delete_range(Family::State, &state_prefix(replica, 0), &state_end(replica));
        batch.delete(Family::Meta, &meta_key(replica, Tag::StatePointer));
        engine.write(batch, Durability::Synced)
    }

    /// The value of a row.
    /// # Errors
    /// `Io`, `Corrupt`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let generation = self.generation.read();
        self.engine.get(Family::State, &full_key(self.replica, *generation, key))
    }

    /// Visits up to `limit` rows whose keys start with `prefix`, ascending, from the key `from` on (inclusive; `None`: the first).
    /// Keys are given without the generation. The table cannot be swapped meanwhile, so `visit` must be quick and must not call it.
    /// # Errors
    /// `Io`, `Corrupt`.
    pub fn scan_prefix(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        limit: usize,
        visit: Visit<'_>,
    ) -> Result<(), StorageError> {
        let generation = self.generation.read();
        let start = from.map_or(prefix, |from| from.max(prefix));
        let start = row_start(full_key(self.replica, *generation, start));
        let end = prefix_end(&full_key(self.replica, *generation, prefix));
        if limit == 0 {
            return Ok(());
        }
        self.engine.scan(Family::State, &start, &end, &mut limited(limit, visit))
    }

    /// Visits up to `limit` rows whose keys start with `prefix`, descending, from the key `from` on (inclusive; `None`: the last).
    /// # Errors
    /// `Io`, `Corrupt`.
    pub fn scan_back_prefix(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        limit: usize,
        visit: Visit<'_>,
    ) -> Result<(), StorageError> {
        let generation = self.generation.read();
        let start = row_start(full_key(self.replica, *generation, prefix));
        let mut end = prefix_end(&full_key(self.replica, *generation, prefix));
        if let Some(from) = from {
            // The smallest key after `from`, because the end of a scan is exclusive.
            let after = [&full_key(self.replica, *generation, from)[..], &[0]].concat();
            end = end.min(after);
        }
        if limit == 0 {
            return Ok(());
        }
        self.engine.scan_back(Family::State, &start, &end, &mut limited(limit, visit))
    }

    /// Sets (`Some`) and removes (`None`) rows and replaces the header, all at once; survives a crash after the next
    /// [`crate::Engine::flush_state`].
    /// # Errors
    /// `Invalid` for a key or value beyond its limit; `NoSpace`, `Io`.
    pub fn checkpoint(&self, rows: Vec<(Vec<u8>, Option<Vec<u8>>)>, header: Vec<u8>) -> Result<(), StorageError> {
        let generation = self.generation.read();
        let mut batch = Batch::new();
        let mut key = state_prefix(self.replica, *generation).to_vec();
        batch.put(Family::State, &key, &header);
        if Mutant::IndexApartFromState.is_on() {
            self.engine.write(std::mem::take(&mut batch), Durability::Buffered)?;
        }
        for (row_key, value) in rows {
            check_row(&row_key, value.as_deref().unwrap_or_default())?;
            key.truncate(STATE_PREFIX_LEN);
            key.extend_from_slice(&row_key);
            match value {
                Some(value) => batch.put(Family::State, &key, &value),
                None => batch.delete(Family::State, &key),
            }
        }
        self.engine.write(batch, Durability::Buffered)
    }

    /// A snapshot of rows and header as they are now; later checkpoints and installations do not change it.
    /// # Errors
    /// `Io`, `Corrupt`.
    pub fn snapshot(&self) -> Result<StateSnapshot, StorageError> {
        let generation = self.generation.read();
        let view: Arc<dyn View> = self.engine.view();
        StateSnapshot::new(view, self.replica, *generation)
    }

    /// Starts to receive a snapshot beside the present rows, which stay readable until [`Installer::finish`].
    /// # Errors
    /// `Invalid` while another installer of this replica is alive.
    pub fn install(self: &Arc<Self>) -> Result<Installer, StorageError> {
        if self.installing.swap(true, Ordering::AcqRel) {
            return Err(StorageError::invalid("another snapshot of this replica is being installed"));
        }
        let generation = self.generation.read().checked_add(1);
        let generation = generation.expect("four billion snapshots take longer than a replica lives");
        Ok(Installer { table: self.clone(), generation, finished: false })
    }
}

/// Receives a snapshot chunk by chunk. Dropped without [`Installer::finish`], it deletes what it wrote.
pub struct Installer {
    table: Arc<StateTable>,
    generation: u32,
    finished: bool,
}

impl Installer {
    /// Writes the rows of a chunk that [`StateSnapshot::next_chunk`] made.
    /// # Errors
    /// `Corrupt` when the chunk is damaged or breaks a limit: ask for it again. `NoSpace`, `Io`.
    pub fn put_chunk(&self, chunk: &[u8]) -> Result<(), StorageError> {
        let mut batch = Batch::new();
        let mut full = state_prefix(self.table.replica, self.generation).to_vec();
        decode_chunk(chunk, &mut |key, value| {
            check_row(key, value).map_err(|error| StorageError::corrupt(format!("snapshot chunk: {error}")))?;
            full.truncate(STATE_PREFIX_LEN);
            full.extend_from_slice(key);
            batch.put(Family::State, &full, value);
            Ok(())
        })?;
        self.table.engine.write(batch, Durability::Buffered)?;
        FailPoint::ChunkPut.pass();
        Ok(())
    }

    /// Makes the received rows and the header the table's, durably and in one step, and deletes the old ones.
    /// # Errors
    /// `NoSpace`, `Io`: a restart finds either the old table or the new one.
    pub fn finish(mut self, header: Vec<u8>) -> Result<(), StorageError> {
        let table = self.table.clone();
        let mut rows = Batch::new();
        rows.put(Family::State, &state_prefix(table.replica, self.generation), &header);
        table.engine.write(rows, Durability::Buffered)?;
        FailPoint::BeforeSnapshotFlush.pass();
        // Rows before pointer: a pointer to rows that a crash took would be an empty table.
        table.engine.flush_state()?;
        let mut flip = Batch::new();
        flip.put(Family::Meta, &meta_key(table.replica, Tag::StatePointer), &encode_state_pointer(self.generation));
        let mut generation = table.generation.write();
        // From here on the new rows may be the durable ones, even if the write reports an error: never delete them.
        self.finished = true;
        FailPoint::BeforeFlip.pass();
        table.engine.write(flip, Durability::Synced)?;
        FailPoint::AfterFlip.pass();
        let old = std::mem::replace(&mut *generation, self.generation);
        drop(generation);
        delete_generation(&*table.engine, table.replica, old)
    }
}

impl Drop for Installer {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = delete_generation(&*self.table.engine, self.table.replica, self.generation)
        {
            // The next open deletes them again.
            tracing::warn!(replica = %self.table.replica, %error, "rows of an unfinished snapshot could not be deleted");
        }
        self.table.installing.store(false, Ordering::Release);
    }
}

/// Deletes every generation but `current`.
fn delete_others(engine: &dyn Engine, replica: ReplicaId, current: u32) -> Result<(), StorageError> {
    let above = current.checked_add(1).map_or_else(|| state_end(replica), |next| state_prefix(replica, next).to_vec());
    let ranges =
        [(state_prefix(replica, 0).to_vec(), state_prefix(replica, current).to_vec()), (above, state_end(replica))];
    for (from, to) in ranges {
        let mut leftover = None;
        engine.scan(Family::State, &from, &to, &mut |key, _| {
            leftover = state_generation(key);
            ControlFlow::Break(())
        })?;
        if let Some(generation) = leftover {
            tracing::info!(%replica, generation, "rows of an unfinished or replaced snapshot are deleted");
            let mut batch = Batch::new();
            batch.delete_range(Family::State, &from, &to);
            engine.write(batch, Durability::Buffered)?;
        }
    }
    Ok(())
}

/// Buffered is enough: rows that come back after a crash are deleted by the next open.
fn delete_generation(engine: &dyn Engine, replica: ReplicaId, generation: u32) -> Result<(), StorageError> {
    let prefix = state_prefix(replica, generation);
    let mut batch = Batch::new();
    batch.delete_range(Family::State, &prefix, &prefix_end(&prefix));
    engine.write(batch, Durability::Buffered)
}

fn full_key(replica: ReplicaId, generation: u32, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(STATE_PREFIX_LEN + key.len());
    full.extend_from_slice(&state_prefix(replica, generation));
    full.extend_from_slice(key);
    full
}

/// Skips the header, whose key is the bare prefix.
fn row_start(mut key: Vec<u8>) -> Vec<u8> {
    if key.len() == STATE_PREFIX_LEN {
        key.push(0);
    }
    key
}

fn limited<'a>(limit: usize, visit: Visit<'a>) -> impl FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a {
    let mut left = limit;
    move |key, value| {
        left -= 1;
        visit(&key[STATE_PREFIX_LEN..], value)?;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn check_row(key: &[u8], value: &[u8]) -> Result<(), StorageError> {
    if key.is_empty() || key.len() > ROW_KEY_BYTES_MAX {
        return Err(StorageError::invalid(format!("a row key of {} bytes", key.len())));
    }
    if value.len() > ROW_VALUE_BYTES_MAX {
        return Err(StorageError::invalid(format!("a row value of {} bytes", value.len())));
    }
    Ok(())
}
