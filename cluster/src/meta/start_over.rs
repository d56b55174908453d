//! Owns the change of a meta state into that of a new cluster of one node. Does not write it. Invariant: no id of the old cluster
//! names anything in the new one: nodes, replicas, agents and sites count on.

use super::rows::{AGENT_MAX, LineageRow, NUMBER_MAX, NodeRow, ReplicaRow};
use super::state::MetaState;
use proto::command::{NodeAddress, NodeState, TokenHash};
use proto::ids::{ClusterId, META_SHARD, NodeId, ReplicaId, ShardId};
use std::collections::BTreeMap;

/// What a cluster gets when it is started over.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// Drawn now: whoever comes with another one is refused.
    pub cluster: u128,
    pub at_ms: u64,
    /// Out of a backup; else out of what its nodes had left.
    pub restored: bool,
    /// `None`: the token of before stays good.
    pub admin_token: Option<TokenHash>,
}

impl MetaState {
    /// What operators call this cluster: the id of its founding, through recoveries and restores.
    pub fn name(&self) -> Option<ClusterId> {
        let of_lineage = self.lineage.as_ref().map(|row| row.name);
        of_lineage.or(self.cluster.as_ref().map(|row| row.cluster)).map(ClusterId)
    }

    /// Removes every node, retires every replica, forgets join tokens, and puts one replica of each group on one new node.
    /// Returns that node and the replicas.
    /// # Errors
    /// There is no cluster in this state.
    pub fn start_over(&mut self, fresh: &Fresh) -> Result<(NodeId, BTreeMap<ShardId, ReplicaId>), String> {
        let name = self.name().ok_or("the meta group holds no cluster")?;
        let cluster = self.cluster.as_mut().ok_or("the meta group holds no cluster")?;
        let mut before = self.lineage.take().map(|row| row.before).unwrap_or_default();
        before.push(cluster.cluster);
        self.lineage = Some(LineageRow { name: name.0, before, at_ms: fresh.at_ms, restored: fresh.restored });
        cluster.cluster = fresh.cluster;
        if let Some(token) = fresh.admin_token {
            cluster.admin_token = token;
        }
        self.nodes.values_mut().for_each(|row| row.state = NodeState::Removed);
        self.replicas.values_mut().for_each(|row| *row = ReplicaRow { retired: true, leaving: false, ..row.clone() });
        self.tokens.clear();
        // A new authority is drawn at the first start: whoever holds a certificate of before is a stranger.
        self.authorities.clear();
        self.trust.clear();
        self.versions.clear();
        let node = NodeId(cluster.next_node);
        cluster.next_node += 1;
        // Where it listens it says itself once it runs.
        let nowhere = NodeAddress { peer: String::new(), client: String::new(), admin: String::new() };
        self.nodes.insert(node, NodeRow::new(nowhere));
        let mut replicas = BTreeMap::new();
        for shard in (META_SHARD.0..=cluster.shards).map(ShardId) {
            let replica = ReplicaId(cluster.next_replica);
            cluster.next_replica += 1;
            self.replicas.insert(replica, ReplicaRow { shard, node, founder: false, retired: false, leaving: false });
            replicas.insert(shard, replica);
        }
        Ok((node, replicas))
    }

    /// Sees to it that agents and sites count on after ids that are in use: meta may be older than a shard.
    pub fn count_on_after(&mut self, agent: u64, site: u32) {
        if let Some(cluster) = &mut self.cluster {
            // An id beyond what is ever counted is not given out again anyhow.
            cluster.next_agent = cluster.next_agent.max(agent.saturating_add(1).min(AGENT_MAX));
            cluster.next_site = cluster.next_site.max(site.saturating_add(1).min(NUMBER_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::command::MetaCommand;

    fn address() -> NodeAddress {
        NodeAddress { peer: "p".into(), client: "c".into(), admin: "a".into() }
    }

    fn founded() -> MetaState {
        let mut state = MetaState::default();
        let (admin_token, admin_password) = ([1; 32], String::new());
        state.apply(
            0,
            MetaCommand::Bootstrap { cluster: 7, shards: 2, address: address(), admin_token, admin_password },
        );
        state.apply(0, MetaCommand::CreateJoinToken { token: [2; 32], expires_ms: 10 });
        state.apply(1, MetaCommand::Join { token: [2; 32], request: 1, address: address() });
        state.apply(1, MetaCommand::AddReplica { shard: ShardId(1), node: NodeId(2) });
        let key = proto::command::SecretBytes(vec![2]);
        state.apply(1, MetaCommand::AddAuthority { certificate: vec![1], key });
        state
    }

    fn fresh(cluster: u128) -> Fresh {
        Fresh { cluster, at_ms: 5, restored: false, admin_token: None }
    }

    #[test]
    fn a_cluster_that_starts_over_has_one_node_new_ids_and_its_old_name() {
        let mut state = founded();
        let old: Vec<ReplicaId> = state.replicas.keys().copied().collect();
        let (node, replicas) = state.start_over(&fresh(8)).unwrap();
        assert_eq!(node, NodeId(3));
        assert_eq!(state.members().map(|(id, _)| id).collect::<Vec<_>>(), [node]);
        assert!(replicas.values().all(|replica| !old.contains(replica)));
        for shard in (0..=2).map(ShardId) {
            assert_eq!(state.live(shard).map(|(id, _)| id).collect::<Vec<_>>(), [replicas[&shard]]);
        }
        assert_eq!(state.name(), Some(ClusterId(7)));
        assert!(state.tokens.is_empty() && state.authorities.is_empty());
        state.start_over(&fresh(9)).unwrap();
        assert_eq!(state.name(), Some(ClusterId(7)));
        assert_eq!(state.lineage.as_ref().map(|row| row.before.clone()), Some(vec![7, 8]));
        assert_eq!(state.members().map(|(id, _)| id).collect::<Vec<_>>(), [NodeId(4)]);
    }

    #[test]
    fn the_whole_state_comes_back_from_its_rows() {
        let mut state = founded();
        state.start_over(&fresh(8)).unwrap();
        state.count_on_after(300, 4);
        let mut read = MetaState::default();
        for (key, row) in state.rows() {
            read.load(&key, &row.unwrap()).unwrap();
        }
        assert_eq!(read.cluster.as_ref().map(|row| (row.next_agent, row.next_site)), Some((301, 5)));
        assert_eq!(read.rows(), state.rows());
    }

    #[test]
    fn nothing_starts_over_without_a_cluster() {
        assert!(MetaState::default().start_over(&fresh(8)).is_err());
    }
}
