//! Owns starting and stopping replicas on this node, and their checkpoints. Does not decide which ones run.
//! Invariant: a replica that lost its log never starts again under its id.

use super::{ClusterNode, Running, StartError};
use crate::meta::MetaMachine;
use crate::raft::{Core, Group, GroupConfig, Machine};
use crate::shard::{Shard, ShardMachine};
use proto::codec;
use proto::failpoints::FailPoint;
use proto::ids::{META_SHARD, ReplicaId, ShardId};
use proto::mutants::Mutant;
use proto::peer::VoteRow;
use std::sync::Arc;
use std::time::Instant;
use storage::{LogOptions, Opened, RaftLog, StateTable, StorageError};

/// Unwritten bytes of one shard that do not wait for the next checkpoint.
const DIRTY_BYTES_MAX: usize = 16 << 20;

impl ClusterNode {
    /// Opens and starts one replica, unless it runs already. Amnesia is noted, not an error.
    pub(crate) async fn start_replica(
        self: &Arc<Self>,
        replica: ReplicaId,
        shard: ShardId,
        founder: bool,
    ) -> Result<(), StartError> {
        let known_lost = self.amnesiac.lock().iter().any(|(lost, _, _)| *lost == replica);
        if known_lost || self.running.read().contains_key(&replica) {
            return Ok(());
        }
        FailPoint::BeforeReplicaStart.pass();
        let (engine, writer) = (self.engine.clone(), self.writer.clone());
        let open = move || -> Result<_, StorageError> {
            let mut log = RaftLog::open(engine.clone(), writer.clone(), replica, LogOptions::default())?;
            if Mutant::ReplicaIdReused.is_on() && matches!(log, Opened::Amnesia { .. }) {
                RaftLog::destroy(engine.as_ref(), replica)?;
                StateTable::destroy(engine.as_ref(), replica)?;
                writer.watermarks().retire(replica)?;
                log = RaftLog::open(engine.clone(), writer, replica, LogOptions::default())?;
            }
            Ok((log, StateTable::open(engine, replica)?))
        };
        let opened = crate::blocking(open).await.map_err(|error| StartError::Invalid(error.to_string()))?;
        let opened = opened.inspect_err(|error| self.writer.heed(error));
        let (log, (table, header)) = opened?;
        let log = match log {
            Opened::Intact(log) => log,
            Opened::Amnesia { reason } => {
                tracing::error!(%shard, %replica, reason, "replica lost its log and will not vote again");
                self.amnesiac.lock().push((replica, shard, reason));
                return Ok(());
            }
        };
        let invalid = |error: crate::raft::Halt| StartError::Invalid(format!("{shard}: {error}"));
        let mut meta = None;
        let mut data = None;
        let machine: Arc<dyn Machine> = if shard == META_SHARD {
            let machine = MetaMachine::open(table.clone()).map_err(invalid)?;
            meta = Some(machine.clone());
            machine
        } else {
            let machine = ShardMachine::open(shard, self.shards, table.clone()).map_err(invalid)?;
            data = Some(machine.clone());
            machine
        };
        let core = Core::new(machine, self.engine.clone(), table, header.as_deref()).map_err(invalid)?;
        if let Err(reason) = check_whole(&log, &core) {
            tracing::error!(%shard, %replica, reason, "replica lost its state or its vote and will not vote again");
            self.amnesiac.lock().push((replica, shard, reason));
            return Ok(());
        }
        let config =
            GroupConfig { shard, replica, timings: self.timings.clone(), logs_kept: self.compaction.logs_kept };
        let group = Group::start(config, log, core, self.transport.clone(), &self.tasks)
            .await
            .map_err(|error| StartError::Invalid(format!("{shard}: {error}")))?;
        let shard_part = data.map(|machine| {
            Shard::start(group.clone(), machine, self.hooks.clone(), Arc::downgrade(&self.router), &self.tasks)
        });
        if let Some(shard) = &shard_part {
            self.router.add_local(shard.clone());
        }
        if let Some(machine) = meta {
            *self.meta.write() = Some(machine);
        }
        self.running.write().insert(replica, Running { group: group.clone(), shard: shard_part });
        self.tasks.spawn(self.clone().follow_leader(group.clone()));
        if founder {
            group.initialize(self.me).await.map_err(StartError::Invalid)?;
        }
        tracing::info!(%shard, %replica, "replica started");
        Ok(())
    }

    /// The replicas here that lost rows which they had confirmed, and why each is thought so. They wait for meta to replace them.
    pub fn lost_replicas(&self) -> Vec<(ReplicaId, String)> {
        self.amnesiac.lock().iter().map(|(replica, _, reason)| (*replica, reason.clone())).collect()
    }

    /// Ends a replica that meta retired and removes its rows.
    pub(crate) async fn stop_replica(&self, replica: ReplicaId) {
        let Some(running) = self.running.write().remove(&replica) else { return };
        self.router.remove_local(running.group.shard, replica);
        // A raft that has stopped already is as good.
        let _ = running.group.raft.shutdown().await;
        self.destroy_rows(replica).await;
        tracing::info!(shard = %running.group.shard, %replica, "replica removed");
    }

    pub(crate) async fn destroy_rows(&self, replica: ReplicaId) {
        let (engine, writer) = (self.engine.clone(), self.writer.clone());
        let destroy = move || -> Result<(), StorageError> {
            FailPoint::BeforeRowsDestroyed.pass();
            RaftLog::destroy(engine.as_ref(), replica)?;
            StateTable::destroy(engine.as_ref(), replica)?;
            writer.watermarks().retire(replica)?;
            FailPoint::AfterRowsDestroyed.pass();
            Ok(())
        };
        match crate::blocking(destroy).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%replica, %error, "old replica's rows remain");
                self.writer.heed(&error);
            }
            Err(error) => tracing::warn!(%replica, %error, "old replica's rows remain"),
        }
    }

    /// Tells the router whenever this replica learns of a leader.
    async fn follow_leader(self: Arc<Self>, group: Arc<Group>) {
        let mut leadership = group.watch_leadership();
        let mut has_known = false;
        loop {
            let now = *leadership.borrow_and_update();
            if group.shard != META_SHARD {
                let leader = now.leader.map(|(_, node)| (node, now.epoch));
                // A replica that has just begun knows nothing: what peers have announced still holds.
                has_known |= leader.is_some();
                // Its own leadership counts once it serves.
                if has_known && leader.is_none_or(|(node, _)| node != self.me || now.serving) {
                    self.router.leader_is(group.shard, leader);
                }
                if now.serving {
                    self.announce_to_all(group.shard, now.epoch);
                }
            }
            let is_over = tokio::select! {
                changed = leadership.changed() => changed.is_err(),
                () = self.stop.cancelled() => return,
            };
            if !self.running.read().contains_key(&group.replica) {
                // It was removed: who leads the shard, this node hears from the leader.
                return;
            }
            if is_over {
                return self.check_halt(&group);
            }
        }
    }

    /// A replica that stopped by itself must not stand for one that works: the process ends, and whoever supervises it starts it again.
    fn check_halt(&self, group: &Group) {
        if let Some(reason) = group.halted() {
            self.end(&format!("the replica {} of {} has halted: {reason}", group.replica, group.shard));
        }
    }

    /// Nor must one that cannot be started: its group would have a replica less, and nobody would see it.
    pub(super) fn does_not_start(&self, replica: ReplicaId, shard: ShardId, error: &StartError) {
        self.end(&format!(
            "the replica {replica} of {shard} does not start: {error}. If this is so after a restart, let the node join anew with an empty data directory"
        ));
    }

    /// Writes checkpoints, flushes them now and then, and lets the log below them go.
    pub(crate) async fn checkpoint_loop(self: Arc<Self>) {
        let (mut written_at, mut flushed_at) = (Instant::now(), Instant::now());
        let mut flushed_index = std::collections::BTreeMap::<ReplicaId, u64>::new();
        loop {
            let pause = tokio::time::sleep(self.compaction.checkpoint_every / 4);
            tokio::select! {
                () = pause => {}
                () = self.stop.cancelled() => return,
            }
            let running = self.running();
            let full = written_at.elapsed() >= self.compaction.checkpoint_every;
            if full {
                written_at = Instant::now();
                self.cuts.drop_unused();
            }
            for replica in &running {
                let core = replica.group.core.clone();
                if !full && core.machine.dirty_bytes() < DIRTY_BYTES_MAX {
                    continue;
                }
                let work = move || {
                    let written = core.checkpoint();
                    core.machine.drop_idle();
                    written
                };
                match crate::blocking(work).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::error!(%error, "checkpoint failed");
                        self.writer.heed(&error);
                    }
                    Err(error) => tracing::error!(%error, "checkpoint panicked"),
                }
            }
            if flushed_at.elapsed() < self.compaction.flush_every {
                continue;
            }
            flushed_at = Instant::now();
            for replica in &running {
                let index = replica.group.core.applied_index();
                let last = flushed_index.entry(replica.group.replica).or_insert(0);
                if index >= *last + self.compaction.flush_entries_min {
                    *last = index;
                    // Builds a snapshot: a flushed checkpoint, below which openraft purges the log.
                    let _ = replica.group.raft.trigger().snapshot().await;
                }
            }
        }
    }
}

/// Whether state, vote and log fit together; else what is gone, as lost as the log itself.
fn check_whole(log: &RaftLog, core: &Core) -> Result<(), String> {
    let known = log.state();
    let purged = known.purged.map(|(index, _)| index);
    if !core.reaches(purged) {
        return Err(format!("state at {} is behind the purged log at {purged:?}", core.applied_index()));
    }
    let vote: Option<VoteRow> =
        log.vote().map(|row| codec::decode(&row)).transpose().map_err(|error| error.to_string())?;
    let (stored, needed) = (vote.map_or(0, |vote| vote.term), known.last.map_or(0, |(_, term)| term));
    // A vote is stored before any entry of its term.
    if stored < needed {
        return Err(format!("the vote is of term {stored}, the log of term {needed}"));
    }
    Ok(())
}
