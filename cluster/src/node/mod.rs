//! Owns this node's part of the cluster: storage, links, replicas, and the tasks that keep them as meta wants them.
//! Does not know browsers or actors. Invariant: a replica runs here only under the id that meta allotted to this node.

mod certificates;
mod cuts;
mod groups;
mod handover;
mod identity;
mod inbound;
mod janitor;
pub(crate) mod join;
mod members;
mod meta_calls;
mod start;
mod status;
pub(crate) mod versions;

pub use cuts::{CutError, OpenCut};
pub use handover::{HandedOver, TransferError};
pub use identity::{Identity, IdentityError};
pub use members::DEAD_AFTER;
pub use start::{Join, NodeConfig, StartError, Storage};
pub use status::{ClusterStatus, NodeStatus, ReplicaStatus, ShardStatus};
pub(crate) use versions::put_mark;
pub use versions::{FINALIZE_AFTER, UpgradeStatus};

use crate::checked_file::FileError;
use crate::config::{Compaction, RaftTimings};
use crate::hooks::Hooks;
use crate::meta::{MetaMachine, MetaState};
use crate::raft::Group;
use crate::router::Router;
use crate::shard::Shard;
use crate::tls::{Credentials, Identities};
use crate::transport::{CallError, Lane, MessageKind, Transport};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use proto::command::NodeState;
use proto::ids::{ClusterId, META_SHARD, NodeId, ReplicaId, ShardId};
use proto::peer::Pushes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};
use storage::{Engine, LogWriter};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// One replica that runs here.
#[derive(Clone)]
pub struct Running {
    pub group: Arc<Group>,
    /// `None` for the meta group.
    pub shard: Option<Arc<Shard>>,
}

/// This node in its cluster.
pub struct ClusterNode {
    pub me: NodeId,
    pub cluster: ClusterId,
    pub shards: u32,
    pub router: Arc<Router>,
    pub transport: Arc<Transport>,
    pub(crate) data_dir: PathBuf,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) writer: Arc<LogWriter>,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) timings: RaftTimings,
    pub(crate) compaction: Compaction,
    pub(crate) identity: Mutex<Identity>,
    pub(crate) credentials: Mutex<Credentials>,
    pub(crate) tls: Arc<Identities>,
    /// The version that the data directory is marked with.
    pub(crate) marked: AtomicU16,
    /// Why this node must end.
    pub(crate) ended: watch::Sender<Option<String>>,
    /// Since when this node knows of a node's removal.
    pub(crate) removals: Mutex<BTreeMap<NodeId, Instant>>,
    pub(crate) running: RwLock<BTreeMap<ReplicaId, Running>>,
    pub(crate) meta: RwLock<Option<Arc<MetaMachine>>>,
    /// Replicas whose log was lost: they never run again and are reported to meta.
    pub(crate) amnesiac: Mutex<Vec<(ReplicaId, ShardId, String)>>,
    /// Peers that have been silent for an election time-out, and were acted on.
    pub(crate) suspects: Mutex<BTreeSet<NodeId>>,
    /// A node that meta's leader has not reached for so long counts as dead: its replicas are replaced.
    pub(crate) dead_after: Duration,
    /// What meta says that this node ought to be.
    pub(crate) wanted: watch::Sender<NodeState>,
    /// Whether this start founded the cluster.
    pub(crate) founded: AtomicBool,
    /// Rows that backups are reading.
    pub(crate) cuts: cuts::Cuts,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl ClusterNode {
    /// Reads this node's replica of the meta state; `None` until it has one.
    pub fn with_meta<T>(&self, read: impl FnOnce(&MetaState) -> T) -> Option<T> {
        self.meta.read().as_ref().map(|machine| machine.with(read))
    }

    /// Sends pushes to a node; to this node without a detour. What is lost with the link, subscribers repair by cursor.
    /// # Errors
    /// The pushes, when too much waits for that node already.
    pub fn push(&self, to: NodeId, pushes: Pushes) -> Result<(), Pushes> {
        if to == self.me {
            self.hooks.pushes(self.me, pushes);
            return Ok(());
        }
        let Some(peer) = self.transport.peer(to) else { return Ok(()) };
        let encode = |out: &mut Vec<u8>| proto::codec::encode_into(&pushes, out);
        match peer.send(Lane::App, MessageKind::Pushes, pushes.shard.0, 0, encode) {
            Err(CallError::Full) => {
                metrics::counter!("chat_push_dropped_total").increment(1);
                Err(pushes)
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Asks another node, or this one, what only that node knows.
    /// # Errors
    /// It is not linked, or does not answer in time.
    pub async fn ask_node(&self, to: NodeId, question: Vec<u8>, within: Duration) -> Result<Bytes, CallError> {
        if to == self.me {
            return Ok(self.hooks.asked(question.into()).await.into());
        }
        let peer = self.transport.peer(to).ok_or(CallError::Down)?;
        let pending = peer.start_call(Lane::App, MessageKind::NodeCall, META_SHARD.0, |out| {
            out.extend_from_slice(&question);
        });
        pending.wait(within).await
    }

    /// Fires after every change of the meta state; `None` while there is none here.
    pub fn watch_meta(&self) -> Option<watch::Receiver<u64>> {
        self.meta.read().as_ref().map(|machine| machine.watch())
    }

    /// Follows whether this node must end, and why.
    pub fn watch_end(&self) -> watch::Receiver<Option<String>> {
        self.ended.subscribe()
    }

    pub(crate) fn end(&self, reason: &str) {
        let is_news = self.ended.send_if_modified(|known| {
            let is_news = known.is_none();
            known.get_or_insert_with(|| reason.to_owned());
            is_news
        });
        if is_news {
            tracing::error!(reason, "this node must end");
        }
    }

    pub fn running(&self) -> Vec<Running> {
        self.running.read().values().cloned().collect()
    }

    /// Runs work that ends with this node.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled(work).await });
    }

    /// Puts a new identity on the disk.
    pub(crate) async fn save_identity(&self, identity: Identity) -> Result<(), StartError> {
        let dir = self.data_dir.clone();
        on_disk(move || identity.save(&dir)).await
    }

    /// This node's replica of a group.
    pub(crate) fn running_of(&self, shard: ShardId) -> Option<Running> {
        self.running.read().values().find(|running| running.group.shard == shard).cloned()
    }

    /// The node that leads a group, as far as this one knows.
    pub fn leader_of(&self, shard: ShardId) -> Option<NodeId> {
        if shard == META_SHARD { self.meta_leader() } else { self.router.leader(shard) }
    }

    pub(crate) fn meta_group(&self) -> Option<Arc<Group>> {
        self.running.read().values().find(|running| running.shard.is_none()).map(|running| running.group.clone())
    }

    /// Whether this start founded the cluster: what was given for the founding counts now.
    pub fn founded(&self) -> bool {
        self.founded.load(Ordering::Acquire)
    }

    /// A drill: every sync of this node's log takes `delay` longer, for a while.
    pub fn slow_disk(&self, delay: Duration, for_how_long: Duration) {
        self.writer.slow_down(delay, for_how_long);
    }

    /// fsyncs of the log writer since the start.
    pub fn fsyncs(&self) -> u64 {
        self.writer.fsyncs()
    }

    /// Stops replicas, links and storage; what was acknowledged is on disk before and after.
    pub async fn stop(&self) {
        self.stop.cancel();
        let running: Vec<Running> = std::mem::take(&mut *self.running.write()).into_values().collect();
        for replica in running {
            // A raft that has stopped already is as good.
            let _ = replica.group.raft.shutdown().await;
            let core = replica.group.core.clone();
            let written = crate::blocking(move || core.checkpoint()).await;
            if let Ok(Err(error)) = written {
                tracing::warn!(%error, "last checkpoint failed, the log will be replayed");
            }
        }
        let engine = self.engine.clone();
        let writer = self.writer.clone();
        let closed = crate::blocking(move || {
            let flushed = engine.flush_state();
            writer.stop();
            flushed
        });
        if let Ok(Err(error)) = closed.await {
            tracing::warn!(%error, "last flush failed, the log will be replayed");
        }
    }
}

/// Writes a small file without holding up the runtime.
pub(crate) async fn on_disk(write: impl FnOnce() -> Result<(), FileError> + Send + 'static) -> Result<(), StartError> {
    let written = crate::blocking(write).await;
    Ok(written.map_err(|error| StartError::Invalid(error.to_string()))??)
}
