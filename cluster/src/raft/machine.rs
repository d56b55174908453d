//! Owns the adapter between openraft and a replica's rules: apply, checkpoints, snapshots.
//! Does not know the rules. Invariant: a checkpoint holds exactly the state at its applied index, and the log is
//! purged only below what a flushed checkpoint holds.

use super::types::{Applied, Entry, SnapshotMeta, StoredMembership, TypeConfig, applied_row, applied_state, point};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::type_config::alias::SnapshotOf;
use parking_lot::Mutex;
use proto::codec;
use proto::failpoints::FailPoint;
use proto::mutants::Mutant;
use proto::peer::{AppliedRow, LogPoint};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use storage::{Engine, Installer, StateSnapshot, StateTable};
use tokio::sync::watch;

/// Row changes of one checkpoint; `None` deletes.
pub type RowChanges = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Why a replica must halt: it could not apply, and it never skips.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot apply: {0}")]
pub struct Halt(pub String);

/// The rules of one group: a data shard or meta. Two implementations: `shard::ShardMachine`, `meta::MetaMachine`.
pub trait Machine: Send + Sync + 'static {
    /// Applies one normal entry. `proposed_here`: somebody on this node waits for the reply.
    /// # Errors
    /// `Halt` when the entry or a row cannot be understood.
    fn apply(&self, at: LogPoint, body: &Bytes, proposed_here: bool) -> Result<Applied, Halt>;
    /// Everything that openraft handed over in one go has been applied.
    fn round_done(&self);
    /// Changes since the last checkpoint. One checkpoint at a time.
    fn begin_checkpoint(&self) -> RowChanges;
    /// The changes are in the table (`true`) or must be offered again.
    fn end_checkpoint(&self, written: bool);
    /// Forgets everything and reads the table again: a snapshot was installed.
    /// # Errors
    /// `Halt` when the installed rows cannot be understood.
    fn reload(&self) -> Result<(), Halt>;
    /// Bytes that a checkpoint would write now.
    fn dirty_bytes(&self) -> usize;
    /// Called after every round of checkpoints: what nobody has used for long may leave memory.
    fn drop_idle(&self) {}
}

/// What apply and the checkpointer share.
pub struct Core {
    pub machine: Arc<dyn Machine>,
    pub table: Arc<StateTable>,
    engine: Arc<dyn Engine>,
    /// Held while an entry is applied and while a checkpoint collects its rows: both see one state.
    applied: Mutex<(Option<super::types::LogId>, StoredMembership)>,
    /// Index of the last applied entry, readable without the lock.
    applied_index: AtomicU64,
    /// Index after the last one that the last written checkpoint holds; 0 before the first, as index 0 is an entry too.
    checkpointed: AtomicU64,
    checkpointing: Mutex<()>,
    /// Term of the newest blank entry applied: a leader serves once its own is through.
    pub blank_term: watch::Sender<u64>,
}

impl Core {
    /// # Errors
    /// A header row that cannot be understood.
    pub fn new(
        machine: Arc<dyn Machine>,
        engine: Arc<dyn Engine>,
        table: Arc<StateTable>,
        header: Option<&[u8]>,
    ) -> Result<Arc<Core>, Halt> {
        let applied = decode_header(header)?;
        let index = applied.0.as_ref().map_or(0, |id| id.index);
        let checkpointed = next_index(applied.0.as_ref());
        Ok(Arc::new(Core {
            machine,
            engine,
            table,
            applied: Mutex::new(applied),
            applied_index: AtomicU64::new(index),
            checkpointed: AtomicU64::new(checkpointed),
            checkpointing: Mutex::new(()),
            blank_term: watch::channel(0).0,
        }))
    }

    /// Index of the last applied entry.
    pub fn applied_index(&self) -> u64 {
        self.applied_index.load(Ordering::Acquire)
    }

    /// True when the state holds every entry up to and including `purged`, which the log no longer has.
    pub fn reaches(&self, purged: Option<u64>) -> bool {
        next_index(self.applied.lock().0.as_ref()) >= purged.map_or(0, |index| index + 1)
    }

    /// Runs `read` while nothing is applied; the index that it sees.
    pub fn at_rest<T>(&self, read: impl FnOnce() -> T) -> (u64, T) {
        let applied = self.applied.lock();
        (applied.0.as_ref().map_or(0, |id| id.index), read())
    }

    /// Writes what changed since the last checkpoint. Blocks on disk: never call it on an async thread.
    /// # Errors
    /// `StorageError` from the table; the changes stay dirty.
    pub fn checkpoint(&self) -> Result<(), storage::StorageError> {
        let _one_at_a_time = self.checkpointing.lock();
        let (rows, row, next) = {
            let applied = self.applied.lock();
            let next = next_index(applied.0.as_ref());
            if next == self.checkpointed.load(Ordering::Acquire) {
                return Ok(());
            }
            (self.machine.begin_checkpoint(), applied_row(applied.0.as_ref(), &applied.1), next)
        };
        FailPoint::BeforeCheckpoint.pass();
        let written = self.table.checkpoint(rows, codec::encode(&row));
        FailPoint::AfterCheckpoint.pass();
        self.machine.end_checkpoint(written.is_ok());
        if written.is_ok() {
            self.checkpointed.store(next, Ordering::Release);
        }
        written
    }
}

/// The index that would be applied next.
fn next_index(applied: Option<&super::types::LogId>) -> u64 {
    applied.map_or(0, |id| id.index + 1)
}

fn decode_header(header: Option<&[u8]>) -> Result<(Option<super::types::LogId>, StoredMembership), Halt> {
    match header {
        None => Ok(Default::default()),
        Some(bytes) => {
            let row: AppliedRow = codec::decode(bytes).map_err(|error| Halt(error.to_string()))?;
            applied_state(&row).map_err(Halt)
        }
    }
}

/// A snapshot to send, or one that has arrived.
pub enum SnapshotData {
    Local(StateSnapshot),
    Received(Installer),
}

/// openraft's state machine of one replica.
pub struct StateMachine {
    core: Arc<Core>,
}

impl StateMachine {
    pub fn new(core: Arc<Core>) -> Self {
        StateMachine { core }
    }

    fn apply_one(&self, entry: Entry, proposed_here: bool) -> io::Result<Applied> {
        let mut applied = self.core.applied.lock();
        let at = point(&entry.log_id);
        let result = match entry.payload {
            openraft::EntryPayload::Blank => {
                self.core.blank_term.send_replace(at.term);
                Applied::Nothing
            }
            openraft::EntryPayload::Membership(membership) => {
                applied.1 = StoredMembership::new(Some(entry.log_id), membership);
                Applied::Nothing
            }
            openraft::EntryPayload::Normal(data) => {
                self.core.machine.apply(at, &data.0, proposed_here).map_err(io::Error::other)?
            }
        };
        applied.0 = Some(entry.log_id);
        self.core.applied_index.store(at.index, Ordering::Release);
        Ok(result)
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<super::types::LogId>, StoredMembership)> {
        Ok(self.core.applied.lock().clone())
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            FailPoint::BeforeApply.pass();
            let result = self.apply_one(entry, responder.is_some())?;
            FailPoint::AfterApply.pass();
            if let Some(responder) = responder {
                responder.send(result);
            }
        }
        self.core.machine.round_done();
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { core: self.core.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let SnapshotData::Received(installer) = snapshot else {
            return Err(io::Error::other("a replica installs only what it received"));
        };
        let header = codec::encode(&applied_row(meta.last_log_id.as_ref(), &meta.last_membership));
        let core = self.core.clone();
        let meta = meta.clone();
        let install = move || -> io::Result<()> {
            let _no_checkpoint = core.checkpointing.lock();
            let mut applied = core.applied.lock();
            installer.finish(header).map_err(|error| io::Error::other(error.to_string()))?;
            core.machine.reload().map_err(io::Error::other)?;
            FailPoint::AfterReload.pass();
            *applied = (meta.last_log_id, meta.last_membership);
            let index = applied.0.as_ref().map_or(0, |id| id.index);
            core.applied_index.store(index, Ordering::Release);
            core.checkpointed.store(next_index(applied.0.as_ref()), Ordering::Release);
            Ok(())
        };
        crate::blocking(install).await.map_err(io::Error::other)?
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotData>>> {
        let core = self.core.clone();
        let snapshot = crate::blocking(move || current_snapshot(&core)).await.map_err(io::Error::other)??;
        Ok(Some(snapshot).filter(|found| found.meta.last_log_id.is_some()))
    }
}

/// The state at the last checkpoint, as a snapshot; before the first it is empty and has no log id.
fn current_snapshot(core: &Core) -> io::Result<SnapshotOf<TypeConfig, SnapshotData>> {
    let data = core.table.snapshot().map_err(|error| io::Error::other(error.to_string()))?;
    let (last_log_id, last_membership) = decode_header(data.header()).map_err(io::Error::other)?;
    let meta = SnapshotMeta { last_log_id, last_membership };
    Ok(Snapshot { meta, snapshot: SnapshotData::Local(data) })
}

/// Builds a snapshot by writing and flushing a checkpoint: nothing is copied until a follower needs it.
pub struct SnapshotBuilder {
    core: Arc<Core>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, SnapshotData>> {
        let core = self.core.clone();
        let build = move || {
            core.checkpoint().map_err(|error| io::Error::other(error.to_string()))?;
            // Flush first: what the snapshot claims must survive a crash before the log below it goes.
            let snapshot = current_snapshot(&core)?;
            if Mutant::PurgePastSnapshot.is_on() {
                return Ok(snapshot);
            }
            FailPoint::BeforeFlush.pass();
            core.engine.flush_state().map_err(|error| io::Error::other(error.to_string()))?;
            FailPoint::AfterFlush.pass();
            Ok(snapshot)
        };
        crate::blocking(build).await.map_err(io::Error::other)?
    }
}
