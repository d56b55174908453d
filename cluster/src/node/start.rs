//! Owns how a node comes up: from its disk, by founding a cluster, or by joining one. Does not run it afterwards.
//! Invariant: the identity is on disk before the first message leaves.

use super::identity::{REMOVED_TEXT, was_removed};
use super::{ClusterNode, Identity, IdentityError, inbound::NodeInbound};
use crate::config::RaftTimings;
use crate::hooks::Hooks;
use crate::router::Router;
use crate::transport::{Transport, TransportConfig, dial_join};
use parking_lot::{Mutex, RwLock};
use proto::command::{MetaCommand, NodeAddress, NodeState, TokenHash};
use proto::ids::{ClusterId, META_SHARD, NodeId, ReplicaId};
use proto::peer::{Hello, HelloReply, MetaReply, PROTOCOL_MAX, PROTOCOL_MIN};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use storage::{Engine, LogWriter, RocksEngine, RocksOptions, StorageError, Watermarks, WriterOptions};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How to become part of an existing cluster.
#[derive(Debug, Clone)]
pub struct Join {
    /// `host:port` of any node's peer listener.
    pub address: String,
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
    /// A node that has not been reached for so long counts as dead.
    pub dead_after: Duration,
    /// Where this machine stands, e.g. its rack; empty: not said.
    pub zone: String,
    /// Of a cluster that is founded now.
    pub admin_token: TokenHash,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error(
        "the data directory holds replicas but no file `identity`: restore that file, or start with an empty directory"
    )]
    NoIdentity,
    #[error("{REMOVED_TEXT}")]
    Removed,
    #[error("join refused: {0}")]
    JoinRefused(String),
    #[error("the data directory lost log entries that it had stored ({0}); no other replica can restore them")]
    Amnesia(String),
}

/// Attempts to reach a node that can let this one join, half a second apart.
const JOIN_TRIES: u32 = 60;

impl ClusterNode {
    /// Starts the node and returns once its storage is open, its links are served and its replicas run. `admin_password` is
    /// asked only if a cluster is founded now: argon2id in PHC form, which is slow on purpose.
    /// # Errors
    /// `StartError`; nothing was promised to anyone then.
    pub async fn start(
        config: NodeConfig,
        listener: TcpListener,
        make_hooks: impl FnOnce(std::sync::Weak<ClusterNode>) -> Arc<dyn Hooks>,
        admin_password: impl FnOnce() -> Result<String, String>,
    ) -> Result<Arc<ClusterNode>, StartError> {
        config.timings.validate().map_err(StartError::Invalid)?;
        let (engine, writer, holds_replicas) = open_storage(&config).await?;
        if was_removed(&config.data_dir) {
            return Err(StartError::Removed);
        }
        let identity = match Identity::load(&config.data_dir)? {
            None if holds_replicas => return Err(StartError::NoIdentity),
            Some(known) => Identity { incarnation: known.incarnation + 1, ..known },
            None => match &config.join {
                Some(join) => join_cluster(join, &config.address).await?,
                None => found(&config)?,
            },
        };
        identity.save(&config.data_dir)?;
        let node = assemble(&config, identity.clone(), engine, writer, make_hooks);
        for (peer, address) in &identity.peers {
            node.transport.add_peer(*peer, &address.peer);
        }
        node.transport.serve(listener);
        if let Some(replica) = identity.meta_replica {
            node.start_replica(replica, META_SHARD, identity.founder).await?;
            node.refuse_lonely_amnesia()?;
        }
        if identity.founder {
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
                Ok(())
            }
            MetaReply::Refused { reason } if self.identity.lock().incarnation == 1 => Err(StartError::Invalid(reason)),
            // An older node that waits for its peers finds its cluster in meta when they are there.
            _ => Ok(()),
        }
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

/// Opens the disk; also says whether it has ever held a replica.
async fn open_storage(config: &NodeConfig) -> Result<(Arc<dyn Engine>, Arc<LogWriter>, bool), StartError> {
    let dir = config.data_dir.clone();
    let open = move || -> Result<_, StorageError> {
        // The guard first: it must tell a brand new directory from an emptied one.
        let watermarks = Watermarks::open(&dir)?;
        let holds_replicas = !watermarks.is_empty();
        let engine = RocksEngine::open(&dir.join("db"), RocksOptions::default())?;
        let fatal: Arc<dyn Fn(&StorageError) + Send + Sync> = Arc::new(|error| storage::exit_on_fatal(error));
        let writer = LogWriter::start(engine.clone(), watermarks, WriterOptions::default(), fatal);
        Ok((engine, writer, holds_replicas))
    };
    let opened = tokio::task::spawn_blocking(open).await.map_err(|error| StartError::Invalid(error.to_string()))?;
    Ok(opened?)
}

fn random_u128() -> Result<u128, StartError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Invalid(format!("no randomness: {error}")))?;
    Ok(u128::from_le_bytes(bytes))
}

fn found(config: &NodeConfig) -> Result<Identity, StartError> {
    Ok(Identity {
        cluster: random_u128()?,
        node: NodeId(1),
        shards: config.shards,
        meta_replica: Some(ReplicaId(1)),
        founder: true,
        incarnation: 1,
        peers: Vec::new(),
    })
}

async fn join_cluster(join: &Join, address: &NodeAddress) -> Result<Identity, StartError> {
    let hello = Hello::Join {
        token: join.token.clone(),
        request: random_u128()?,
        address: address.clone(),
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
    };
    let mut target = join.address.clone();
    let mut last = String::from("no answer");
    for _ in 0..JOIN_TRIES {
        match dial_join(&target, &hello).await {
            Ok(HelloReply::Joined { cluster, node, shards, nodes, .. }) => {
                let peers = nodes.into_iter().filter(|(id, _)| *id != node).collect();
                let (meta_replica, founder, incarnation) = (None, false, 1);
                return Ok(Identity { cluster, node, shards, meta_replica, founder, incarnation, peers });
            }
            Ok(HelloReply::Refused { reason }) => return Err(StartError::JoinRefused(reason)),
            Ok(HelloReply::Elsewhere { peer }) => target = peer,
            Ok(HelloReply::Linked { .. }) => return Err(StartError::JoinRefused("unexpected answer".into())),
            Err(error) => {
                last = error.to_string();
                target = join.address.clone();
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Err(StartError::JoinRefused(format!("{} does not answer: {last}", join.address)))
}

fn assemble(
    config: &NodeConfig,
    identity: Identity,
    engine: Arc<dyn Engine>,
    writer: Arc<LogWriter>,
    make_hooks: impl FnOnce(std::sync::Weak<ClusterNode>) -> Arc<dyn Hooks>,
) -> Arc<ClusterNode> {
    let stop = CancellationToken::new();
    let cluster = ClusterId(identity.cluster);
    Arc::new_cyclic(|me: &std::sync::Weak<ClusterNode>| {
        let hooks = make_hooks(me.clone());
        let transport = Transport::new(
            TransportConfig {
                cluster,
                node: identity.node,
                incarnation: identity.incarnation,
                keepalive: config.timings.heartbeat,
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
            identity: Mutex::new(identity),
            running: RwLock::default(),
            meta: RwLock::default(),
            amnesiac: Mutex::default(),
            suspects: Mutex::default(),
            dead_after: config.dead_after,
            wanted: watch::channel(NodeState::Active).0,
            founded: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            stop,
        }
    })
}
