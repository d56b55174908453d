//! Owns the meta state of this node's replica and who watches it. Does not know the rules.
//! Invariant: watchers see a state only after it is applied.

use super::state::MetaState;
use crate::raft::machine::RowChanges;
use crate::raft::types::Applied;
use crate::raft::{Halt, Machine};
use bytes::Bytes;
use parking_lot::Mutex;
use proto::codec;
use proto::command::MetaBatch;
use proto::peer::LogPoint;
use proto::version::{Versions, version_text};
use std::ops::ControlFlow;
use std::sync::Arc;
use storage::StateTable;
use tokio::sync::watch;

/// The state machine of the meta group.
pub struct MetaMachine {
    table: Arc<StateTable>,
    state: Mutex<MetaState>,
    under_way: Mutex<Vec<Vec<u8>>>,
    changed: watch::Sender<u64>,
}

impl MetaMachine {
    /// # Errors
    /// `Halt` when a row cannot be understood.
    pub fn open(table: Arc<StateTable>) -> Result<Arc<Self>, Halt> {
        let state = load(&table)?;
        Ok(Arc::new(MetaMachine {
            table,
            state: Mutex::new(state),
            under_way: Mutex::default(),
            changed: watch::channel(0).0,
        }))
    }

    /// Reads the state of this replica.
    pub fn with<T>(&self, read: impl FnOnce(&MetaState) -> T) -> T {
        read(&self.state.lock())
    }

    /// Fires after every change.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// A replica whose build does not speak the version in force stops.
fn check_version(state: &MetaState) -> Result<(), Halt> {
    match &state.cluster {
        Some(row) if row.version > Versions::MINE.max => Err(Halt(version_text(row.version))),
        _ => Ok(()),
    }
}

fn load(table: &StateTable) -> Result<MetaState, Halt> {
    let mut state = MetaState::default();
    let mut failed = None;
    table
        .scan_prefix(&[], None, usize::MAX, &mut |key, value| match state.load(key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(halt) => {
                failed = Some(halt);
                ControlFlow::Break(())
            }
        })
        .map_err(|error| Halt(error.to_string()))?;
    check_version(&state)?;
    failed.map_or(Ok(state), Err)
}

impl Machine for MetaMachine {
    fn apply(&self, at: LogPoint, body: &Bytes, _proposed_here: bool) -> Result<Applied, Halt> {
        let batch: MetaBatch =
            codec::decode(body).map_err(|error| Halt(format!("entry {} of meta: {error}", at.index)))?;
        let mut state = self.state.lock();
        let replies = batch.commands.into_iter().map(|command| state.apply(batch.now_ms, command)).collect();
        check_version(&state)?;
        Ok(Applied::Meta(replies))
    }

    fn round_done(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    fn begin_checkpoint(&self) -> RowChanges {
        let changes = self.state.lock().take_changes();
        *self.under_way.lock() = changes.iter().map(|(key, _)| key.clone()).collect();
        changes
    }

    fn end_checkpoint(&self, written: bool) {
        let keys = std::mem::take(&mut *self.under_way.lock());
        if !written {
            self.state.lock().mark_dirty(keys.into_iter());
        }
    }

    fn reload(&self) -> Result<(), Halt> {
        *self.state.lock() = load(&self.table)?;
        self.round_done();
        Ok(())
    }

    fn dirty_bytes(&self) -> usize {
        self.state.lock().dirty_bytes()
    }
}
