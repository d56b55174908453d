//! Owns how a node comes up: from its disk, by founding a cluster, or by joining one. Does not run it afterwards.
//! Invariant: the identity is on disk before the first message leaves.

use super::identity::{FOUNDING_REPLICA, REMOVED_TEXT, was_removed};
use super::join::join_cluster;
use super::versions::{check_mark, put_mark};
use super::{ClusterNode, Identity, inbound::NodeInbound};
use crate::checked_file::FileError;
use crate::config::{Compaction, RaftTimings};
use crate::hooks::Hooks;
use crate::router::Router;
use crate::tls::{Credentials, Identities, TlsError};
use crate::transport::{Listener, Transport, TransportConfig};
use parking_lot::{Mutex, RwLock};
use proto::command::{MetaCommand, NodeAddress, NodeState, TokenHash};
use proto::failpoints::FailPoint;
use proto::ids::{ClusterId, META_SHARD, NodeId};
use proto::peer::MetaReply;
use proto::version::Versions;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;
use storage::{Engine, LogWriter, RocksEngine, RocksOptions, StorageError, Watermarks, WriterOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Every cluster begins at this version.
const VERSION_FIRST: u16 = 1;

/// How to become part of an existing cluster.
#[derive(Debug, Clone)]
pub struct Join {
    /// `host:port` of any node's peer listener.
    pub address: String,
    /// `join.SECRET.PIN`, as `everdesk token create` prints it; with two pins while the authority is renewed.
    pub token: String,
}

/// What a node needs to start.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    pub data_dir: PathBuf,
    /// How others reach this node.
    pub address: NodeAddress,
    /// Only looked at while the data directory is empty.
    pub join: Option<Join>,
    /// Data shards of a cluster that is founded now; frozen then.
    pub shards: u32,
    pub timings: RaftTimings,
    pub compaction: Compaction,
    /// A node that has not been reached for so long counts as dead.
    pub dead_after: Duration,
    /// Where this machine stands, e.g. its rack; empty: not said.
    pub zone: String,
    /// Of a cluster that is founded now.
    pub admin_token: TokenHash,
}

/// The open disk of a node.
pub struct Storage {
    pub engine: Arc<dyn Engine>,
    pub writer: Arc<LogWriter>,
    /// Whether it has ever held a replica.
    pub holds_replicas: bool,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    File(#[from] FileError),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error(
        "the data directory belongs to a node but holds no file `tls`: restore that file, or join anew with an empty directory"
    )]
    NoCredentials,
    #[error(
        "the data directory holds replicas but no file `identity`: restore that file, or start with an empty directory"
    )]
    NoIdentity,
    #[error("{REMOVED_TEXT}")]
    Removed,
    #[error("the data directory is at version {version}; this build speaks {speaks}: start one that speaks {version}")]
    Version { version: u16, speaks: Versions },
    #[error("join refused: {0}")]
    JoinRefused(String),
    #[error("the data directory lost log entries that it had stored ({0}); no other replica can restore them")]
    Amnesia(String),
}

impl ClusterNode {
    /// Starts the node and returns once its storage is open, its links are served and its replicas run. `storage` is RocksDB in the data
    /// directory if it is `None`. `admin_password` is asked only if a cluster is founded now: argon2id in PHC form, which is slow on purpose.
    /// # Errors
    /// `StartError`; nothing was promised to anyone then.
    pub async fn start(
        config: NodeConfig,
        storage: Option<Storage>,
        listener: Listener,
        make_hooks: impl FnOnce(std::sync::Weak<ClusterNode>) -> Arc<dyn Hooks>,
        admin_password: impl FnOnce() -> Result<String, String>,
    ) -> Result<Arc<ClusterNode>, StartError> {
        config.timings.validate().map_err(StartError::Invalid)?;
        let marked = check_mark(&config.data_dir)?;
        let Storage { engine, writer, holds_replicas } = match storage {
            Some(open) => open,
            None => open_storage(&config).await?,
        };
        if was_removed(&config.data_dir) {
            return Err(StartError::Removed);
        }
        let (identity, credentials, version) = match Identity::load(&config.data_dir)? {
            None if holds_replicas => return Err(StartError::NoIdentity),
            Some(known) => {
                let credentials = known_credentials(&config, &known)?;
                (Identity { incarnation: known.incarnation + 1, ..known }, credentials, VERSION_FIRST)
            }
            None => match &config.join {
                Some(join) => join_cluster(join, &config.address, &config.data_dir).await?,
                None => found(&config)?,
            },
        };
        FailPoint::BeforeIdentitySaved.pass();
        // First what the identity needs: it is what makes this directory a node's.
        let version = marked.unwrap_or(version);
        if marked.is_none() {
            put_mark(&config.data_dir, version)?;
        }
        credentials.save(&config.data_dir)?;
        identity.save(&config.data_dir)?;
        FailPoint::AfterIdentitySaved.pass();
        let node = assemble(&config, (identity.clone(), credentials, version), engine, writer, make_hooks)?;
        for (peer, address) in &identity.peers {
            node.transport.add_peer(*peer, &address.peer);
        }
        node.transport.serve(listener);
        if let Some(replica) = identity.meta_replica {
            node.start_replica(replica, META_SHARD, identity.is_founding()).await?;
            node.refuse_lonely_amnesia()?;
        }
        if identity.is_founding() {
            node.bootstrap(&config, admin_password).await?;
        }
        node.clone().spawn_tasks(config.address.clone(), config.zone.clone());
        Ok(node)
    }

    /// A cluster of one node cannot restore what its own disk lost.
    fn refuse_lonely_amnesia(&self) -> Result<(), StartError> {
        let lost = self.amnesiac.lock();
        match lost.first() {
            Some((_, _, reason)) if self.identity.lock().peers.is_empty() => Err(StartError::Amnesia(reason.clone())),
            _ => Ok(()),
        }
    }

    async fn bootstrap(
        &self,
        config: &NodeConfig,
        admin_password: impl FnOnce() -> Result<String, String>,
    ) -> Result<(), StartError> {
        if self.with_meta(|state| state.cluster.is_some()) == Some(true) {
            return Ok(());
        }
        let command = MetaCommand::Bootstrap {
            cluster: self.cluster.0,
            shards: self.shards,
            address: config.address.clone(),
            admin_token: config.admin_token,
            admin_password: admin_password().map_err(StartError::Invalid)?,
        };
        match self.meta_propose(command, Duration::from_secs(30)).await {
            MetaReply::Done => {
                self.founded.store(true, Ordering::Release);
                self.finalize_alone().await;
                Ok(())
            }
            MetaReply::Refused { reason } if self.identity.lock().incarnation == 1 => Err(StartError::Invalid(reason)),
            // An open outcome, or what an earlier start had logged: the next start looks again.
            _ => Ok(()),
        }
    }

    /// A cluster that is founded now has no node of an older build to wait for.
    async fn finalize_alone(&self) {
        let within = Duration::from_secs(10);
        let said = MetaCommand::SetNodeVersions { node: self.me, versions: Versions::MINE };
        self.meta_propose(said, within).await;
        // Refused when there is nothing newer; an operator can do it at any time.
        self.finalize(within).await;
    }

    fn spawn_tasks(self: Arc<Self>, address: NodeAddress, zone: String) {
        let node = self.clone();
        self.tasks.spawn(async move { node.supervise(address, zone).await });
        let node = self.clone();
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = node.router.next_tick() => {
                        node.router.tick();
                        node.suspect_the_silent();
                    }
                    () = node.stop.cancelled() => return,
                }
            }
        });
        let node = self.clone();
        self.tasks.spawn(async move { node.checkpoint_loop().await });
    }
}

async fn open_storage(config: &NodeConfig) -> Result<Storage, StartError> {
    let dir = config.data_dir.clone();
    let open = move || -> Result<_, StorageError> {
        // The guard first: it must tell a brand new directory from an emptied one.
        let watermarks = Watermarks::open(&dir)?;
        let holds_replicas = !watermarks.is_empty();
        let engine = RocksEngine::open(&dir.join("db"), RocksOptions::default())?;
        let fatal: Arc<dyn Fn(&StorageError) + Send + Sync> = Arc::new(|error| storage::exit_on_fatal(error));
        let writer = LogWriter::start(engine.clone(), watermarks, WriterOptions::default(), fatal);
        Ok(Storage { engine, writer, holds_replicas })
    };
    let opened = crate::blocking(open).await.map_err(|error| StartError::Invalid(error.to_string()))?;
    Ok(opened?)
}

pub(super) fn random_u128() -> Result<u128, StartError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Invalid(format!("no randomness: {error}")))?;
    Ok(u128::from_le_bytes(bytes))
}

fn found(config: &NodeConfig) -> Result<(Identity, Credentials, u16), StartError> {
    let identity = Identity {
        cluster: random_u128()?,
        node: NodeId(1),
        shards: config.shards,
        meta_replica: Some(FOUNDING_REPLICA),
        founder: true,
        incarnation: 1,
        peers: Vec::new(),
    };
    let credentials = Credentials::found(ClusterId(identity.cluster), identity.node)?;
    Ok((identity, credentials, VERSION_FIRST))
}

/// A node that has no others to be known by may start with new ones.
fn known_credentials(config: &NodeConfig, known: &Identity) -> Result<Credentials, StartError> {
    match Credentials::load(&config.data_dir)? {
        Some(credentials) => Ok(credentials),
        None if known.peers.is_empty() => Ok(Credentials::found(ClusterId(known.cluster), known.node)?),
        None => Err(StartError::NoCredentials),
    }
}

fn assemble(
    config: &NodeConfig,
    (identity, credentials, version): (Identity, Credentials, u16),
    engine: Arc<dyn Engine>,
    writer: Arc<LogWriter>,
    make_hooks: impl FnOnce(std::sync::Weak<ClusterNode>) -> Arc<dyn Hooks>,
) -> Result<Arc<ClusterNode>, StartError> {
    let stop = CancellationToken::new();
    let cluster = ClusterId(identity.cluster);
    let tls = Arc::new(Identities::new(cluster, &credentials)?);
    Ok(Arc::new_cyclic(|me: &std::sync::Weak<ClusterNode>| {
        let hooks = make_hooks(me.clone());
        let transport = Transport::new(
            TransportConfig {
                cluster,
                node: identity.node,
                incarnation: identity.incarnation,
                keepalive: config.timings.heartbeat,
                tls: tls.clone(),
            },
            Arc::new(NodeInbound::new(me.clone())),
            stop.clone(),
        );
        let router = Router::new(identity.node, identity.shards, transport.clone(), hooks.clone());
        ClusterNode {
            me: identity.node,
            cluster,
            shards: identity.shards,
            router,
            transport,
            data_dir: config.data_dir.clone(),
            engine,
            writer,
            hooks,
            timings: config.timings.clone(),
            compaction: config.compaction.clone(),
            identity: Mutex::new(identity),
            credentials: Mutex::new(credentials),
            tls,
            marked: AtomicU16::new(version),
            ended: watch::channel(None).0,
            removals: Mutex::default(),
            running: RwLock::default(),
            meta: RwLock::default(),
            amnesiac: Mutex::default(),
            suspects: Mutex::default(),
            dead_after: config.dead_after,
            wanted: watch::channel(NodeState::Active).0,
            founded: AtomicBool::new(false),
            cuts: Default::default(),
            tasks: TaskTracker::new(),
            stop,
        }
    }))
}
