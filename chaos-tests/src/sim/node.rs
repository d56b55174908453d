//! Owns one simulated machine: its disk, its directory of small files, the node that runs there. Does not cause faults.
//! Invariant: a crashed node's tasks can no longer touch the disk that its successor starts from.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cluster::config::Compaction;
use cluster::node::{ClusterNode, Join, NodeConfig};
use cluster::transport::Listener;
use node::sim::{Call, SimNode};
use parking_lot::Mutex;
use proto::command::NodeAddress;
use storage::MemEngine;
use tokio::runtime::Handle;
use turmoil::net::TcpListener;

use super::ways::call;

pub const PEERS_PORT: u16 = 7_001;
pub const CLIENTS_PORT: u16 = 7_002;
pub const CALLS_PORT: u16 = 7_003;
/// Pause before another try to get a token for joining.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);

const START_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The machine's name in the simulated network.
pub fn host(number: u64) -> String {
    format!("n{number}")
}

/// One machine.
pub struct Machine {
    pub number: u64,
    dir: PathBuf,
    shards: u32,
    /// Machines in all.
    of: u64,
    /// What it was told to join with, the same after a crash.
    join: Mutex<Option<Join>>,
    /// It lost everything: it joins as a new node.
    is_wiped: AtomicBool,
    /// A fault took rows that were confirmed: replicas that say so are right.
    pub has_lost_rows: AtomicBool,
    engine: Mutex<Arc<MemEngine>>,
    /// The disk failed: the process would have ended here.
    pub has_failed: AtomicBool,
    /// Why the node does not run.
    pub ended: Mutex<Option<String>>,
    runtime: Mutex<Option<Handle>>,
    node: Mutex<Weak<SimNode>>,
}

impl Machine {
    pub fn new(number: u64, of: u64, dir: PathBuf, shards: u32) -> Arc<Machine> {
        Arc::new(Machine {
            number,
            dir,
            shards,
            of,
            join: Mutex::new(None),
            is_wiped: AtomicBool::new(false),
            has_lost_rows: AtomicBool::new(false),
            engine: Mutex::new(MemEngine::new()),
            has_failed: AtomicBool::new(false),
            ended: Mutex::new(None),
            runtime: Mutex::new(None),
            node: Mutex::new(Weak::new()),
        })
    }

    pub fn engine(&self) -> Arc<MemEngine> {
        self.engine.lock().clone()
    }

    /// The disk as the next start finds it.
    pub fn put_engine(&self, engine: Arc<MemEngine>) {
        *self.engine.lock() = engine;
        self.has_failed.store(false, Ordering::Relaxed);
    }

    /// An empty disk.
    pub fn wipe(&self) {
        self.put_engine(MemEngine::new());
        // Not there: nothing was ever on it.
        let _ = std::fs::remove_dir_all(&self.dir);
        *self.join.lock() = None;
        self.is_wiped.store(true, Ordering::Relaxed);
    }

    /// The node, while it runs.
    pub fn node(&self) -> Option<Arc<ClusterNode>> {
        self.node.lock().upgrade().map(|node| node.cluster.clone())
    }

    pub fn runtime(&self) -> Option<Handle> {
        self.runtime.lock().clone()
    }

    /// What the machine does from power-on: it starts the node and serves.
    pub async fn run(self: Arc<Machine>) -> turmoil::Result {
        *self.ended.lock() = None;
        *self.runtime.lock() = Some(Handle::current());
        loop {
            let served = self.serve().await;
            let has_run = served.is_ok();
            let why = served.unwrap_or_else(|error| format!("{error:#}"));
            tracing::warn!(node = self.number, why, "node ended");
            *self.ended.lock() = Some(why);
            if has_run || self.has_failed.load(Ordering::Relaxed) {
                // The process would have ended here. Its tasks are there as long as the machine is on: only a crash ends them.
                self.has_failed.store(true, Ordering::Relaxed);
                std::future::pending::<()>().await;
            }
            // It did not start; whoever supervises it tries again, as systemd would.
            tokio::time::sleep(START_AGAIN_AFTER).await;
        }
    }

    async fn serve(self: &Arc<Machine>) -> anyhow::Result<String> {
        let listen = async |port: u16| TcpListener::bind(("0.0.0.0", port)).await.map(Listener::Simulated);
        let (peers, clients, calls) =
            (listen(PEERS_PORT).await?, listen(CLIENTS_PORT).await?, listen(CALLS_PORT).await?);
        let is_new = !self.dir.join("identity").exists();
        let is_wiped = self.is_wiped.load(Ordering::Relaxed);
        let join = match is_new && (self.number > 1 || is_wiped) {
            true => Some(self.join(is_wiped).await),
            false => None,
        };
        std::fs::create_dir_all(&self.dir)?;
        let me = Arc::downgrade(self);
        let on_fatal = Arc::new(move |error: &storage::StorageError| {
            tracing::warn!(%error, "the disk failed");
            if let Some(machine) = me.upgrade() {
                machine.has_failed.store(true, Ordering::Relaxed);
            }
        });
        let storage = cluster::sim::open_storage(self.engine(), on_fatal);
        let name = host(self.number);
        let config = NodeConfig {
            data_dir: self.dir.clone(),
            address: NodeAddress {
                peer: format!("{name}:{PEERS_PORT}"),
                client: format!("{name}:{CLIENTS_PORT}"),
                admin: format!("{name}:{CALLS_PORT}"),
            },
            join,
            shards: self.shards,
            timings: Default::default(),
            // Often, so that purges and snapshots fall among the faults.
            compaction: Compaction {
                checkpoint_every: Duration::from_millis(500),
                flush_every: Duration::from_secs(2),
                flush_entries_min: 32,
                logs_kept: 40,
            },
            dead_after: Duration::from_secs(600),
            zone: String::new(),
            admin_token: [0; 32],
        };
        let node = SimNode::start(config, storage, peers).await?;
        *self.node.lock() = Arc::downgrade(&node);
        let mut end = node.cluster.watch_end();
        let serving = futures_util::future::join(node.clone().serve_clients(clients), node.clone().serve_calls(calls));
        tokio::select! {
            _ = serving => Ok("its listeners are gone".to_owned()),
            why = end.wait_for(Option::is_some) => Ok(why.ok().and_then(|why| why.clone()).unwrap_or_default()),
        }
    }

    async fn join(&self, from_any: bool) -> Join {
        if let Some(known) = self.join.lock().clone() {
            return known;
        }
        let new = self.token(from_any).await;
        *self.join.lock() = Some(new.clone());
        new
    }

    /// A token, from the founder or, later, from any.
    async fn token(&self, from_any: bool) -> Join {
        let mut via = 1;
        loop {
            if from_any {
                via = via % self.of + 1;
            }
            if via != self.number
                && let Ok(answer) = call(via, &Call::JoinToken).await
                && let Some(token) = answer.get("ok").and_then(|token| token.as_str())
            {
                return Join { address: format!("{}:{PEERS_PORT}", host(via)), token: token.to_owned() };
            }
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
    }
}
