//! Owns the writing of a data directory that holds a cluster of one node. Does not know where the rows come from.
//! Invariant: `identity` is written last and everything before it is on the disk by then; without it no node starts.

use super::OfflineError;
use super::shard_draft::{NOWHERE, ShardDraft};
use crate::meta::{Fresh, MetaState};
use crate::node::{Identity, put_mark};
use crate::shard::TableRows;
use chat::{Reconciled, Reconciliation};
use proto::audit::{AuditAct, AuditPhase, OPERATORS};
use proto::codec;
use proto::command::Target;
use proto::ids::{AgentId, ClusterId, META_SHARD, NodeId, ReplicaId, ShardId};
use proto::peer::{AppliedRow, LogPoint, MembershipRow, VoteRow};
use proto::version::VERSION_MIN;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use storage::{
    Done, Engine, LogOptions, LogWriter, Opened, RaftLog, RocksEngine, RocksOptions, StateTable, StorageError,
    Watermarks, WriterOptions,
};

/// Changed rows that are written at once while shards are reconciled.
const ROWS_AT_ONCE: usize = 10_000;

/// A cluster that is being made.
pub struct Draft {
    dir: PathBuf,
    engine: Arc<dyn Engine>,
    writer: Arc<LogWriter>,
    meta: MetaState,
    meta_at: LogPoint,
    cluster: u128,
    /// What is done here, as the audit log says it.
    act: AuditAct,
    at_ms: u64,
    shards: u32,
    node: NodeId,
    replicas: BTreeMap<ShardId, ReplicaId>,
    filled: BTreeMap<ShardId, (Arc<StateTable>, LogPoint)>,
}

/// What was made.
#[derive(Debug, Clone)]
pub struct Drafted {
    pub cluster: ClusterId,
    /// What operators call it.
    pub name: ClusterId,
    pub node: NodeId,
    pub told: Reconciled,
    /// Agents that have rows and no account: meta was older than a shard. Nobody can log in as them.
    pub unknown_agents: Vec<AgentId>,
}

impl Draft {
    /// Begins a cluster in `dir`, which is new or empty. `meta` is the state of the cluster before, as of `meta_at`.
    /// # Errors
    /// `Refused`: the directory holds something, or `meta` holds no cluster. `Storage`.
    pub fn begin(dir: &Path, mut meta: MetaState, meta_at: LogPoint, fresh: &Fresh) -> Result<Draft, OfflineError> {
        check_empty(dir)?;
        let (node, replicas) = meta.start_over(fresh).map_err(OfflineError::Refused)?;
        let shards = replicas.len() as u32 - 1;
        let watermarks = Watermarks::open(dir)?;
        let engine = RocksEngine::open(&dir.join("db"), RocksOptions::default())?;
        // Every write here is waited for, and its error ends the work.
        let fatal: Arc<dyn Fn(&StorageError) + Send + Sync> = Arc::new(|_| ());
        let writer = LogWriter::start(engine.clone(), watermarks, WriterOptions::default(), fatal);
        Ok(Draft {
            dir: dir.to_owned(),
            engine,
            writer,
            meta,
            meta_at,
            cluster: fresh.cluster,
            act: act_of(fresh),
            at_ms: fresh.at_ms,
            shards,
            node,
            replicas,
            filled: BTreeMap::new(),
        })
    }

    pub fn data_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (1..=self.shards).map(ShardId)
    }

    /// An empty data shard to be filled.
    /// # Errors
    /// `Refused`: there is no such shard. `Storage`.
    pub fn shard(&self, id: ShardId) -> Result<ShardDraft, OfflineError> {
        let replica = self.replicas.get(&id).filter(|_| id != META_SHARD);
        let replica = replica.ok_or_else(|| OfflineError::Refused(format!("the cluster has no data shard {id}")))?;
        let (table, _) = StateTable::open(self.engine.clone(), *replica)?;
        Ok(ShardDraft::new(id, self.shards, table))
    }

    /// A shard is filled; its rows hold the log up to `at`, `None` when it is empty.
    /// # Errors
    /// `Storage`, `Shard`.
    pub fn filled(&mut self, mut shard: ShardDraft, at: Option<LogPoint>) -> Result<(), OfflineError> {
        shard.settle()?;
        self.filled.insert(shard.id, (shard.table, at.unwrap_or(NOWHERE)));
        Ok(())
    }

    /// Reconciles the shards, and writes what is missing to make a node of the directory. Takes seconds per GiB.
    /// # Errors
    /// `Refused`: a shard was not filled. `Storage`, `Shard`, `Identity`.
    pub fn finish(mut self) -> Result<Drafted, OfflineError> {
        if let Some(missing) = self.data_shards().find(|shard| !self.filled.contains_key(shard)) {
            return Err(OfflineError::of(missing, "it was not filled"));
        }
        let (told, unknown_agents) = self.reconcile()?;
        let meta_replica = self.replicas[&META_SHARD];
        let (table, _) = StateTable::open(self.engine.clone(), meta_replica)?;
        table.checkpoint(self.meta.rows(), Vec::new())?;
        self.filled.insert(META_SHARD, (table, self.meta_at));
        for (shard, (table, at)) in &self.filled {
            table.checkpoint(Vec::new(), self.header(self.replicas[shard], *at))?;
        }
        // State before logs: a log is purged only up to what is on the disk.
        self.engine.flush_state()?;
        for (shard, (_, at)) in &self.filled {
            self.write_log(self.replicas[shard], *at)?;
        }
        self.writer.stop();
        let identity = Identity {
            cluster: self.cluster,
            node: self.node,
            shards: self.shards,
            meta_replica: Some(meta_replica),
            founder: false,
            incarnation: 0,
            peers: Vec::new(),
        };
        // The first start must write what this version writes.
        put_mark(&self.dir, self.meta.version().max(VERSION_MIN))?;
        identity.save(&self.dir)?;
        let name = self.meta.name().expect("start_over() found a cluster");
        Ok(Drafted { cluster: ClusterId(self.cluster), name, node: self.node, told, unknown_agents })
    }

    /// The shards were cut or lost at different moments.
    fn reconcile(&mut self) -> Result<(Reconciled, Vec<AgentId>), OfflineError> {
        let mut all = Reconciliation::new(self.shards);
        for (shard, (table, _)) in &self.filled {
            all.read(&TableRows(table)).map_err(|error| OfflineError::of(*shard, error))?;
        }
        let mut told = Reconciled::default();
        for (shard, (table, _)) in &self.filled {
            let name = |id| self.meta.agents.get(&id).map(|row| row.name.clone());
            let changes = all.changes(*shard, &TableRows(table), &name);
            let (changes, of_shard) = changes.map_err(|error| OfflineError::of(*shard, error))?;
            told.sessions = of_shard.sessions;
            told.assigned += of_shard.assigned;
            told.waiting += of_shard.waiting;
            told.mails += of_shard.mails;
            let mut changes = changes.into_iter().peekable();
            while changes.peek().is_some() {
                table.checkpoint(changes.by_ref().take(ROWS_AT_ONCE).collect(), Vec::new())?;
            }
            if *shard == Target::Desk(OPERATORS).shard(self.shards) {
                let told = chat::audit_offline(&TableRows(table), OPERATORS, self.at_ms, self.act.clone());
                table.checkpoint(told.map_err(|error| OfflineError::of(*shard, error))?, Vec::new())?;
            }
        }
        let ids = all.ids();
        self.meta.count_on_after(ids.agent, ids.site);
        let unknown = all.agents().filter(|agent| !self.meta.agents.contains_key(agent)).collect();
        Ok((told, unknown))
    }

    /// One voter, this node.
    fn header(&self, replica: ReplicaId, at: LogPoint) -> Vec<u8> {
        let id = u64::from(replica.0);
        let membership = MembershipRow { configs: vec![vec![id]], members: vec![(id, self.node)] };
        codec::encode(&AppliedRow { applied: Some(at), membership_at: Some(at), membership })
    }

    /// A log that was purged up to `at`, of a replica that knows that term.
    fn write_log(&self, replica: ReplicaId, at: LogPoint) -> Result<(), OfflineError> {
        let opened = RaftLog::open(self.engine.clone(), self.writer.clone(), replica, LogOptions::default())?;
        let log = match opened {
            Opened::Intact(log) => log,
            Opened::Amnesia { reason } => return Err(OfflineError::Refused(reason)),
        };
        let vote = VoteRow { term: at.term, replica: u64::from(replica.0), committed: false };
        wait(|done| log.save_vote(codec::encode(&vote).into(), done))?;
        wait(|done| log.purge((at.index, at.term), done))
    }
}

/// Whoever may write the directory does it: nobody asks who that is.
fn act_of(fresh: &Fresh) -> AuditAct {
    let words = if fresh.restored { "everdesk backup restore" } else { "everdesk recover" };
    AuditAct {
        act: fresh.cluster,
        phase: AuditPhase::Told { status: 200 },
        who: "command-line".into(),
        role: String::new(),
        address: String::new(),
        node: String::new(),
        method: String::new(),
        route: words.into(),
        target: format!("cluster {}", ClusterId(fresh.cluster)),
        body: None,
    }
}

fn wait(write: impl FnOnce(Done)) -> Result<(), OfflineError> {
    let (tx, rx) = mpsc::sync_channel(1);
    write(Box::new(move |result| {
        // The receiver waits below.
        let _ = tx.send(result);
    }));
    Ok(rx.recv().unwrap_or(Err(StorageError::Stopped))?)
}

/// A new directory, or one that holds nothing but the claim of this process.
fn check_empty(dir: &Path) -> Result<(), OfflineError> {
    let refused = |why: &str| Err(OfflineError::Refused(format!("{} {why}", dir.display())));
    let Ok(entries) = std::fs::read_dir(dir) else {
        return if dir.exists() { refused("is not a directory") } else { Ok(()) };
    };
    for entry in entries.flatten() {
        if entry.file_name() != "everdesk.lock" {
            return refused("is not empty: name a new directory");
        }
    }
    Ok(())
}
