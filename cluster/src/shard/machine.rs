//! Owns the chat rules of one replica between raft and the rows. Does not know the rules themselves.
//! Invariant: effects leave only from a replica that leads, after apply, in the order of the log.

use super::Shard;
use crate::raft::machine::RowChanges;
use crate::raft::types::Applied;
use crate::raft::{Halt, Machine};
use bytes::Bytes;
use chat::Effect;
use parking_lot::Mutex;
use proto::codec;
use proto::command::Batch;
use proto::ids::ShardId;
use proto::mutants::Mutant;
use proto::peer::LogPoint;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use storage::StateTable;

/// Clean bytes of sessions that stay in memory per shard.
const CACHE_BYTES_MAX: usize = 48 << 20;
/// What no command has used for so long leaves memory, however little it is: it costs a read when it is wanted again.
const UNUSED_MAX: Duration = Duration::from_secs(60);
/// How often that is looked at: it is a look at everything in memory.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The chat state machine of one shard.
pub struct ShardMachine {
    id: ShardId,
    shards: u32,
    table: Arc<StateTable>,
    state: Mutex<chat::Shard>,
    /// When a tick was seen, the oldest first.
    ticks: Mutex<VecDeque<(Instant, u64)>>,
    effects: Mutex<Vec<Effect>>,
    leading: AtomicBool,
    shard: OnceLock<Weak<Shard>>,
}

/// Rows of the state table, as the rules read them.
pub(crate) struct TableRows<'a>(pub &'a StateTable);

impl chat::Rows for TableRows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, chat::RowsError> {
        self.0.get(key).map_err(|error| chat::RowsError(error.to_string()))
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), chat::RowsError> {
        let mut step = |key: &[u8], value: &[u8]| {
            if visit(key, value) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let scanned = if reverse {
            self.0.scan_back_prefix(prefix, from, usize::MAX, &mut step)
        } else {
            self.0.scan_prefix(prefix, from, usize::MAX, &mut step)
        };
        scanned.map_err(|error| chat::RowsError(error.to_string()))
    }
}

impl ShardMachine {
    /// # Errors
    /// `Halt` when the header row cannot be understood.
    pub fn open(id: ShardId, shards: u32, table: Arc<StateTable>) -> Result<Arc<Self>, Halt> {
        let state = open_state(id, shards, &table)?;
        Ok(Arc::new(ShardMachine {
            id,
            shards,
            table,
            state: Mutex::new(state),
            ticks: Mutex::default(),
            effects: Mutex::default(),
            leading: AtomicBool::new(false),
            shard: OnceLock::new(),
        }))
    }

    pub(super) fn attach(&self, shard: Weak<Shard>) {
        // A machine belongs to one shard; the first to attach is it.
        let _ = self.shard.set(shard);
    }

    /// Data shards of the cluster.
    pub(super) fn shards(&self) -> u32 {
        self.shards
    }

    pub(super) fn set_leading(&self, leading: bool) {
        self.leading.store(leading, Ordering::Release);
        if leading && Mutant::DedupeForgotten.is_on() {
            self.state.lock().evict(0);
        }
        if !leading {
            self.effects.lock().clear();
        }
    }

    pub(super) fn with_state<T>(&self, read: impl FnOnce(&mut chat::Shard, &dyn chat::Rows) -> T) -> T {
        read(&mut self.state.lock(), &TableRows(&self.table))
    }

    /// Outcomes of an entry that was proposed here go back to the proposer, effects included; those of an entry of an
    /// earlier leader leave from here.
    fn apply_batch(&self, batch: Batch, proposed_here: bool) -> Result<Applied, Halt> {
        let started = Instant::now();
        let mut state = self.state.lock();
        let rows = TableRows(&self.table);
        let leading = self.leading.load(Ordering::Acquire);
        let mut outcomes = Vec::with_capacity(if proposed_here { batch.commands.len() } else { 0 });
        for command in batch.commands {
            let outcome = state.apply(&rows, batch.now_ms, command).map_err(|error| Halt(error.to_string()))?;
            if proposed_here {
                outcomes.push(outcome);
            } else if leading {
                self.effects.lock().extend(outcome.effects);
            }
        }
        drop(state);
        let took = started.elapsed();
        if proposed_here {
            // What earlier entries did must be told first.
            self.round_done();
        }
        Ok(Applied::Shard { outcomes, took })
    }
}

fn open_state(id: ShardId, shards: u32, table: &StateTable) -> Result<chat::Shard, Halt> {
    chat::Shard::open(id, shards, &TableRows(table)).map_err(|error| Halt(error.to_string()))
}

impl Machine for ShardMachine {
    fn apply(&self, at: LogPoint, body: &Bytes, proposed_here: bool) -> Result<Applied, Halt> {
        let batch: Batch =
            codec::decode(body).map_err(|error| Halt(format!("entry {} of {}: {error}", at.index, self.id)))?;
        let warm = {
            let state = self.state.lock();
            batch.commands.iter().all(|command| state.is_warm(command))
        };
        if warm {
            self.apply_batch(batch, proposed_here)
        } else {
            // A cold session's rows come from disk.
            crate::blocking::in_place(|| self.apply_batch(batch, proposed_here))
        }
    }

    fn round_done(&self) {
        let effects = std::mem::take(&mut *self.effects.lock());
        if effects.is_empty() {
            return;
        }
        if let Some(shard) = self.shard.get().and_then(Weak::upgrade) {
            shard.tell_effects(None, effects.into_iter().map(|effect| (None, effect)).collect());
        }
    }

    fn begin_checkpoint(&self) -> RowChanges {
        self.state.lock().begin_checkpoint()
    }

    fn end_checkpoint(&self, written: bool) {
        let mut state = self.state.lock();
        state.end_checkpoint(written);
        state.evict(CACHE_BYTES_MAX);
    }

    fn reload(&self) -> Result<(), Halt> {
        self.ticks.lock().clear();
        *self.state.lock() = open_state(self.id, self.shards, &self.table)?;
        Ok(())
    }

    fn dirty_bytes(&self) -> usize {
        self.state.lock().dirty_bytes()
    }

    fn drop_idle(&self) {
        let mut ticks = self.ticks.lock();
        let now = Instant::now();
        if ticks.back().is_some_and(|(at, _)| now.duration_since(*at) < LOOK_EVERY) {
            return;
        }
        let mut state = self.state.lock();
        ticks.push_back((now, state.tick()));
        if now.duration_since(ticks[0].0) >= UNUSED_MAX {
            state.evict_unused(ticks[0].1);
            ticks.pop_front();
        }
    }
}
