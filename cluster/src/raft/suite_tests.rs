//! Runs openraft's own suite for storage against the log and the state machine of a data shard, on both engines.
//! Leaves no case out.

use super::log_store::LogStore;
use super::machine::{Core, SnapshotBuilder, SnapshotData, StateMachine};
use super::types::{LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::shard::ShardMachine;
use futures_util::Stream;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::SnapshotOf;
use proto::ids::{ReplicaId, ShardId};
use std::io;
use std::sync::Arc;
use storage::{
    CHUNK_BYTES_MAX, Engine, LogOptions, LogWriter, MemEngine, Opened, RaftLog, RocksEngine, RocksOptions, StateTable,
    StorageError, Watermarks, WriterOptions,
};

const REPLICA: ReplicaId = ReplicaId(1);
const SHARD: ShardId = ShardId(1);
const SHARDS: u32 = 6;

/// Keeps the directory of a store, if it has one.
type Guard = Option<tempfile::TempDir>;
/// Where a store's bytes go, and the guard over them.
type Disk = (Guard, Arc<dyn Engine>, Watermarks);

/// A new store per case, as a node opens it.
enum Builder {
    Memory,
    Rocks,
}

impl Builder {
    fn engine(&self) -> Result<Disk, StorageError> {
        match self {
            Builder::Memory => {
                let engine = MemEngine::new();
                let watermarks = Watermarks::in_memory(&engine);
                Ok((None, engine, watermarks))
            }
            Builder::Rocks => {
                let dir = tempfile::tempdir().unwrap();
                let watermarks = Watermarks::open(dir.path())?;
                let engine = RocksEngine::open(&dir.path().join("db"), RocksOptions::default())?;
                Ok((Some(dir), engine, watermarks))
            }
        }
    }

    fn open(&self) -> Result<(Guard, LogStore, Machine), StorageError> {
        let (dir, engine, watermarks) = self.engine()?;
        let fatal = Arc::new(|error: &StorageError| panic!("the suite must not break the log: {error}"));
        let writer = LogWriter::start(engine.clone(), watermarks, WriterOptions::default(), fatal);
        let Opened::Intact(log) = RaftLog::open(engine.clone(), writer, REPLICA, LogOptions::default())? else {
            panic!("a new log has lost nothing");
        };
        let (table, header) = StateTable::open(engine.clone(), REPLICA)?;
        let machine = ShardMachine::open(SHARD, SHARDS, table.clone()).unwrap();
        let core = Core::new(machine, engine, table.clone(), header.as_deref()).unwrap();
        Ok((dir, LogStore::new(log), Machine { inner: StateMachine::new(core), table }))
    }
}

type SuiteError = openraft::StorageError<TypeConfig>;

impl StoreBuilder<TypeConfig, LogStore, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, Machine), SuiteError> {
        Ok(self.open().expect("a new store opens"))
    }
}

/// Our state machine, and the wire: the suite hands the leader's snapshot to the follower as it is, while ours installs
/// only what arrived in chunks.
struct Machine {
    inner: StateMachine,
    table: Arc<StateTable>,
}

impl Machine {
    fn send(&self, snapshot: SnapshotData) -> Result<SnapshotData, StorageError> {
        let SnapshotData::Local(mut local) = snapshot else { return Ok(snapshot) };
        let installer = self.table.install()?;
        while let Some(chunk) = local.next_chunk(CHUNK_BYTES_MAX)? {
            installer.put_chunk(&chunk)?;
        }
        Ok(SnapshotData::Received(installer))
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        self.inner.applied_state().await
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        self.inner.apply(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.inner.get_snapshot_builder().await
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let received = self.send(snapshot).map_err(|error| io::Error::other(error.to_string()))?;
        self.inner.install_snapshot(meta, received).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotData>>> {
        self.inner.get_current_snapshot().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storage_suite_of_openraft_passes_in_memory() {
    Suite::test_all(Builder::Memory).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storage_suite_of_openraft_passes_on_rocksdb() {
    Suite::test_all(Builder::Rocks).await.unwrap();
}
