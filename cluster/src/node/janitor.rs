//! Owns the loop that makes this node what meta wants: its replicas, the members of groups it leads, who leads them.
//! Does not decide: `meta::plan` does. Invariant: every step is idempotent and guarded, so that a second janitor is harmless.

use super::ClusterNode;
use crate::meta::{GroupPlan, missing_replicas, next_move, preferred_leaders, replicas_on};
use crate::raft::Group;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use proto::command::{MetaCommand, NodeAddress, NodeState};
use proto::ids::{META_SHARD, NodeId, ReplicaId};
use proto::peer::MetaReply;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause between rounds; a change of the meta state starts one at once.
const ROUND_EVERY: Duration = Duration::from_millis(250);
/// A learner at most this many entries behind becomes a voter.
const LAG_MAX: u64 = 500;
/// A change of a group's members is not waited for any longer.
const CHANGE_WITHIN: Duration = Duration::from_secs(5);
/// A shard is left with its leader for this long before it is moved to the preferred one.
const SETTLE: Duration = Duration::from_secs(5);

impl ClusterNode {
    pub(crate) async fn supervise(self: Arc<Self>, address: NodeAddress, zone: String) {
        let mut led_since: BTreeMap<ReplicaId, Instant> = BTreeMap::new();
        let mut unreached = BTreeMap::new();
        let mut spoken = None;
        let mut last_transfer = Instant::now();
        loop {
            if !self.follow_own_state().await {
                return;
            }
            self.sync_peers().await;
            self.sync_replicas().await;
            self.report_amnesia().await;
            self.report_place(&address, &zone).await;
            let leads_meta = self.meta_group().is_some_and(|group| group.leadership().serving);
            self.tend_certificates(leads_meta).await;
            self.tend_version().await;
            if leads_meta {
                self.finalize_when_due(&mut spoken).await;
                self.judge_nodes(&mut unreached).await;
                self.allot_replicas().await;
            } else {
                unreached.clear();
                spoken = None;
            }
            for running in self.running() {
                let group = running.group;
                if !group.leadership().serving {
                    led_since.remove(&group.replica);
                    continue;
                }
                led_since.entry(group.replica).or_insert_with(Instant::now);
                let Some(plan) = self.with_meta(|state| GroupPlan::of(state, group.shard)) else { continue };
                self.tend_members(&group, &plan).await;
                let settled = led_since.get(&group.replica).is_some_and(|since| since.elapsed() > SETTLE);
                if settled && last_transfer.elapsed() > SETTLE / 5 && self.give_back(&group, &plan).await {
                    last_transfer = Instant::now();
                }
            }
            let changed = async {
                match self.watch_meta() {
                    Some(mut watch) => drop(watch.changed().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(ROUND_EVERY) => {}
                () = changed => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Knows every node of the cluster, also after a restart without meta.
    async fn sync_peers(self: &Arc<Self>) {
        let known = self.with_meta(|state| {
            let nodes: Vec<_> = state.members().map(|(id, row)| (id, row.address.clone())).collect();
            let removed = state.nodes.iter().filter(|(_, row)| row.state == NodeState::Removed);
            let removed: BTreeMap<_, _> = removed.map(|(id, _)| (*id, self.is_being_told(state, *id))).collect();
            (nodes, removed)
        });
        let Some((nodes, removed)) = known else { return };
        for (node, is_being_told) in &removed {
            if !is_being_told {
                self.transport.forget_peer(*node);
            }
        }
        let peers: Vec<(NodeId, NodeAddress)> = nodes.into_iter().filter(|(id, _)| *id != self.me).collect();
        for (id, address) in &peers {
            self.transport.add_peer(*id, &address.peer);
        }
        let identity = {
            let mut identity = self.identity.lock();
            // A replica of meta that has just begun does not know all nodes yet: only who was removed is forgotten.
            let mut all: BTreeMap<NodeId, NodeAddress> = identity.peers.iter().cloned().collect();
            all.retain(|id, _| !removed.contains_key(id));
            all.extend(peers);
            let all: Vec<(NodeId, NodeAddress)> = all.into_iter().collect();
            if identity.peers == all {
                return;
            }
            identity.peers = all;
            identity.clone()
        };
        if let Err(error) = self.save_identity(identity).await {
            tracing::error!(%error, "peer addresses not saved");
        }
    }

    /// Runs the replicas that meta allotted to this node and ends those that it retired.
    async fn sync_replicas(self: &Arc<Self>) {
        let retired: Vec<ReplicaId> = {
            let running = self.running.read();
            self.with_meta(|state| {
                let gone = |id: &ReplicaId| state.replicas.get(id).is_some_and(|row| row.retired);
                running.keys().filter(|id| gone(id)).copied().collect()
            })
            .unwrap_or_default()
        };
        for replica in retired {
            self.stop_replica(replica).await;
        }
        let Some(wanted) = self.with_meta(|state| replicas_on(state, self.me)) else { return };
        for (replica, shard, founder) in &wanted {
            let started = if *shard == META_SHARD && !founder {
                self.start_meta_replica(*replica).await
            } else {
                self.start_replica(*replica, *shard, *founder).await
            };
            if let Err(error) = started {
                self.does_not_start(*replica, *shard, &error);
            }
        }
    }

    /// Tells meta which replicas lost their log, so that new ones take their place.
    async fn report_amnesia(&self) {
        let lost = self.amnesiac.lock().clone();
        for (replica, shard, _) in lost {
            let known = self.with_meta(|state| state.replicas.get(&replica).is_some_and(|row| row.retired));
            if known == Some(true) {
                self.destroy_rows(replica).await;
                self.amnesiac.lock().retain(|(id, _, _)| *id != replica);
                continue;
            }
            tracing::warn!(%replica, %shard, "asks meta to replace a replica that lost its log");
            let reply = self.tell_meta(MetaCommand::RetireReplica { replica }).await;
            if shard == META_SHARD && reply == MetaReply::Done {
                let mut identity = self.identity.lock();
                if identity.meta_replica == Some(replica) {
                    identity.meta_replica = None;
                }
            }
        }
    }

    /// Tells meta where this node is reached and where it stands.
    async fn report_place(&self, address: &NodeAddress, zone: &str) {
        let known =
            self.with_meta(|state| state.nodes.get(&self.me).map(|row| (row.address.clone(), row.zone.clone())));
        let Some((known_address, known_zone)) = known.flatten() else { return };
        let node = self.me;
        if known_address != *address {
            self.tell_meta(MetaCommand::MoveNode { node, address: address.clone() }).await;
        }
        if known_zone != zone {
            self.tell_meta(MetaCommand::SetNodeZone { node, zone: zone.to_owned() }).await;
        }
    }

    async fn allot_replicas(&self) {
        let wanted = self.with_meta(|state| {
            let missing = missing_replicas(state);
            if missing.is_empty() { next_move(state).into_iter().collect() } else { missing }
        });
        for command in wanted.unwrap_or_default() {
            self.tell_meta(command).await;
        }
    }

    /// One step of a led group towards its plan: add learners, then change the voters, then drop who is gone.
    async fn tend_members(&self, group: &Arc<Group>, plan: &GroupPlan) {
        let (voters, members) = group.members();
        let missing = plan.members.iter().find(|(id, _)| !members.contains_key(id));
        if let Some((id, node)) = missing {
            let error = changed_in_time(group.raft.add_learner(*id, *node, false)).await.err();
            tracing::info!(shard = %group.shard, replica = id, %node, ?error, "added a learner");
            return;
        }
        let Some(planned) = &plan.voters else { return };
        // A change that was interrupted half-way leaves two sets, and needs majorities of both.
        if group.voter_sets() != std::slice::from_ref(planned) {
            let lags = lags(group);
            let ready = planned.iter().all(|id| voters.contains(id) || lags.get(id).is_some_and(|lag| *lag <= LAG_MAX));
            if ready {
                let change = group.raft.change_membership(planned.clone(), true);
                let error = changed_in_time(change).await.err();
                tracing::info!(shard = %group.shard, voters = ?planned, ?error, "changed the voters");
            }
            return;
        }
        let gone = self.with_meta(|state| {
            let gone = members.iter().filter(|(id, _)| !plan.members.contains_key(id));
            gone.filter(|(_, node)| !self.is_being_told(state, **node)).map(|(id, _)| *id).collect::<BTreeSet<u64>>()
        });
        let gone = gone.unwrap_or_default();
        if !gone.is_empty() {
            let change = group.raft.change_membership(ChangeMembers::RemoveNodes(gone.clone()), false);
            let error = changed_in_time(change).await.err();
            tracing::info!(shard = %group.shard, ?gone, ?error, "removed replicas");
            return;
        }
        if plan.excess.contains(&group.replica) {
            // It leads as a learner: its place was taken, and a leader must not be stopped.
            self.hand_over_group(group, false).await;
            return;
        }
        for replica in plan.excess.iter().copied() {
            self.tell_meta(MetaCommand::RetireExcess { replica }).await;
        }
    }

    /// Hands a shard to its preferred leader, if that one is alive and has caught up. Returns whether it did.
    async fn give_back(&self, group: &Arc<Group>, plan: &GroupPlan) -> bool {
        if Some(&group.members().0) != plan.voters.as_ref() {
            return false;
        }
        let preferred = self.with_meta(|state| preferred_leaders(state).get(&group.shard).copied()).flatten();
        let me = u64::from(group.replica.0);
        let Some(preferred) = preferred.filter(|best| *best != me && self.can_lead(group, *best)) else { return false };
        tracing::info!(shard = %group.shard, to = preferred, "giving the shard to its preferred leader");
        group.raft.trigger().transfer_leader(preferred).await.is_ok()
    }
}

/// Waits for a change of members, but not for ever: without a quorum it never ends, and other groups need this loop.
async fn changed_in_time<T, E: std::fmt::Display>(change: impl Future<Output = Result<T, E>>) -> Result<(), String> {
    match tokio::time::timeout(CHANGE_WITHIN, change).await {
        Ok(changed) => changed.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err("not in time; it is looked at again".into()),
    }
}

/// Entries by which each replica of a led group is behind.
pub(crate) fn lags(group: &Group) -> BTreeMap<u64, u64> {
    let metrics = group.raft.metrics();
    let metrics = metrics.borrow_watched();
    let last = metrics.last_log_index.unwrap_or(0);
    let replication = metrics.replication.as_ref();
    replication
        .map(|replication| {
            replication
                .iter()
                .filter_map(|(id, matched)| matched.as_ref().map(|log| (*id, last.saturating_sub(log.index))))
                .collect()
        })
        .unwrap_or_default()
}
