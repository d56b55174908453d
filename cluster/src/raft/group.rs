//! Owns one replica: its raft, log, state table and rules. Does not know the other groups.
//! Invariant: `Leadership::serving` is set only after the leader's own blank entry is applied.

use super::log_store::LogStore;
use super::machine::{Core, StateMachine};
use super::network::Networks;
use super::runtime::GRID;
use super::types::{Applied, Callback, Data, LogId, TypeConfig, Vote};
use crate::config::RaftTimings;
use crate::transport::Transport;
use bytes::Bytes;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::{Config, Raft, SnapshotPolicy};
use proto::ids::{Epoch, NodeId, ReplicaId, ShardId};
use proto::mutants::Mutant;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use storage::RaftLog;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// What a replica needs to start.
pub struct GroupConfig {
    pub shard: ShardId,
    pub replica: ReplicaId,
    pub timings: RaftTimings,
    /// Log entries kept behind a snapshot.
    pub logs_kept: u64,
}

/// Who leads a group, as one replica sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    pub leader: Option<(u64, NodeId)>,
    pub epoch: Epoch,
    /// This replica leads and has applied its own first entry.
    pub serving: bool,
}

/// Why a proposal was not applied here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProposeError {
    /// Nothing was logged.
    NotLeader,
    /// It may or may not have been logged.
    Unknown,
}

/// One replica of one group on this node.
pub struct Group {
    pub shard: ShardId,
    pub replica: ReplicaId,
    pub raft: Raft<TypeConfig, StateMachine>,
    pub core: Arc<Core>,
    pub log: Arc<RaftLog>,
    leadership: watch::Receiver<Leadership>,
}

impl Group {
    /// Starts the replica from what is on its disk.
    /// # Errors
    /// openraft's own reason, e.g. a log and state that contradict each other.
    pub async fn start(
        config: GroupConfig,
        log: Arc<RaftLog>,
        core: Arc<Core>,
        transport: Arc<Transport>,
        tasks: &TaskTracker,
    ) -> Result<Arc<Group>, String> {
        let raft_config = Arc::new(raft_config(&config).validate().map_err(|error| error.to_string())?);
        let networks = Networks { shard: config.shard, transport };
        let store = LogStore::new(log.clone());
        let machine = StateMachine::new(core.clone());
        let raft = Raft::new(u64::from(config.replica.0), raft_config, networks, store, machine)
            .await
            .map_err(|error| error.to_string())?;
        let (tx, leadership) = watch::channel(Leadership::default());
        let group = Arc::new(Group { shard: config.shard, replica: config.replica, raft, core, log, leadership });
        tasks.spawn(follow_leadership(group.raft.clone(), group.core.clone(), u64::from(config.replica.0), tx));
        Ok(group)
    }

    /// Makes this replica the only voter of a new group. Idempotent.
    /// # Errors
    /// The group exists already with other members, or storage failed.
    pub async fn initialize(&self, node: NodeId) -> Result<(), String> {
        let members = BTreeMap::from([(u64::from(self.replica.0), node)]);
        match self.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(_) if self.raft.is_initialized().await.unwrap_or(false) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    pub fn leadership(&self) -> Leadership {
        *self.leadership.borrow()
    }

    pub fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Logs `body` if this replica still leads in `epoch`; `done` is called once, after apply or failure.
    pub async fn propose(
        &self,
        epoch: Epoch,
        body: Bytes,
        done: impl FnOnce(Result<(u64, Applied), ProposeError>) + Send + 'static,
    ) {
        let callback = Callback::new(move |result: Option<ClientWriteResult<TypeConfig>>| {
            done(match result {
                Some(Ok(response)) => {
                    let term = response.log_id.committed_leader_id().term;
                    debug_assert_eq!(term, epoch.0, "an entry was logged in another epoch than it was queued in");
                    Ok((response.log_id.index, response.data))
                }
                Some(Err(ClientWriteError::ForwardToLeader(_))) => Err(ProposeError::NotLeader),
                Some(Err(_)) | None => Err(ProposeError::Unknown),
            });
        });
        // A stopped raft drops the callback, which answers `Unknown`.
        let write = self.raft.write(Data(body));
        let write = if Mutant::NoEpochFence.is_on() { write } else { write.with_leader(epoch.0) };
        let _ = write.responder(callback).await;
    }

    /// Why this replica's raft stopped by itself, e.g. because a checkpoint could not be written; `None`: it runs, or was told to stop.
    pub fn halted(&self) -> Option<String> {
        let metrics = self.raft.metrics();
        let state = metrics.borrow_watched().running_state.clone();
        match state {
            Err(openraft::error::Fatal::Stopped) | Ok(()) => None,
            Err(fatal) => Some(fatal.to_string()),
        }
    }

    /// Waits until a read here sees everything that was acknowledged before the call, by asking a quorum.
    /// # Errors
    /// This replica does not lead, or lost its quorum.
    pub async fn read_barrier(&self) -> Result<(), String> {
        // ReadIndex, never the lease: an election after a broken link may overlap the old leader's lease (ADR 0005).
        let linearizer =
            self.raft.get_read_linearizer(openraft::ReadPolicy::ReadIndex).await.map_err(|error| error.to_string())?;
        linearizer.await_ready(&self.raft).await.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Current voters and all members with their nodes, as committed or under way.
    pub fn members(&self) -> (BTreeSet<u64>, BTreeMap<u64, NodeId>) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        (membership.voter_ids().collect(), membership.nodes().map(|(id, node)| (*id, *node)).collect())
    }

    /// The sets of voters, two while they change; each must have a majority.
    pub fn voter_sets(&self) -> Vec<BTreeSet<u64>> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics
            .membership_config
            .membership()
            .get_joint_config()
            .iter()
            .map(|set| set.iter().copied().collect())
            .collect()
    }

    /// Whether a majority has answered this leader within the time. A leader that is cut off learns of its successor late;
    /// until then it commits nothing. `false` for a replica that does not lead.
    pub fn hears_majority(&self, within: Duration) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != openraft::ServerState::Leader {
            return false;
        }
        // The only voter has nobody to hear.
        let is_alone = metrics.membership_config.membership().voter_ids().all(|id| id == u64::from(self.replica.0));
        let acked = || metrics.last_quorum_acked.is_some_and(|at| at.into_inner().elapsed() <= within);
        is_alone || acked()
    }

    /// The vote of the leader that this replica follows, if it has one.
    pub fn leader_vote(&self) -> Option<Vote> {
        let metrics = self.raft.server_metrics();
        let vote = metrics.borrow_watched().vote;
        vote.is_committed().then_some(vote)
    }

    /// Last log id here, flushed or not.
    pub fn last_log(&self) -> Option<LogId> {
        let state = self.log.state();
        state.last.map(|(index, term)| super::types::log_id(proto::peer::LogPoint { term, index }))
    }
}

fn raft_config(config: &GroupConfig) -> Config {
    let ms = |duration: std::time::Duration| duration.as_millis() as u64;
    Config {
        cluster_name: config.shard.to_string(),
        // Half a step short: a heartbeat that was sent late in one tick is due in the tick a heartbeat later, not after it.
        heartbeat_interval: ms(config.timings.heartbeat.saturating_sub(GRID / 2)),
        election_timeout_min: ms(config.timings.election_min),
        election_timeout_max: ms(config.timings.election_max),
        enable_pre_vote: Some(true),
        max_payload_entries: 256,
        // Snapshots are triggered by the checkpointer, which knows what is flushed.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: config.logs_kept,
        purge_batch_size: 512,
        replication_lag_threshold: u64::MAX / 2,
        install_snapshot_timeout: 300_000,
        // A restarted leader stands for election like everyone: serving always begins with a new term's blank entry.
        enable_leader_restore: Some(false),
        api_channel_size: Some(4096),
        notification_channel_size: Some(4096),
        ..Config::default()
    }
}

/// Publishes who leads whenever raft's view or the applied blank entry changes.
async fn follow_leadership(
    raft: Raft<TypeConfig, StateMachine>,
    core: Arc<Core>,
    me: u64,
    leadership: watch::Sender<Leadership>,
) {
    let mut servers = raft.server_metrics();
    let mut blank = core.blank_term.subscribe();
    loop {
        let next = {
            let metrics = servers.borrow_watched();
            let vote = metrics.vote;
            let leader = metrics
                .current_leader
                .and_then(|id| metrics.membership_config.membership().get_node(&id).map(|node| (id, *node)));
            let term = vote.leader_id().term;
            let leads = metrics.state == openraft::ServerState::Leader && leader.is_some_and(|(id, _)| id == me);
            Leadership { leader, epoch: Epoch(term), serving: leads && *blank.borrow_and_update() == term }
        };
        leadership.send_if_modified(|current| {
            let changed = *current != next;
            *current = next;
            changed
        });
        let is_over = tokio::select! {
            changed = servers.changed() => changed.is_err(),
            changed = blank.changed() => changed.is_err(),
        };
        if is_over {
            // A raft that has stopped leads nothing, whatever it said last.
            leadership.send_replace(Leadership::default());
            return;
        }
    }
}
