//! Owns what the node above was told of leaders. Does not find them. Invariant: it hears of each leadership once, and again after
//! the link to that leader was down: the leader has forgotten who follows what from here.

use proto::ids::{Epoch, NodeId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Told {
    leaders: BTreeMap<ShardId, (NodeId, Epoch)>,
    /// Told before the link to that leader broke, and not since.
    lost: BTreeSet<ShardId>,
}

impl Told {
    pub fn leader(&self, shard: ShardId) -> Option<(NodeId, Epoch)> {
        self.leaders.get(&shard).copied()
    }

    /// Notes a leader; whether this is to be told.
    pub fn note(&mut self, shard: ShardId, leader: NodeId, epoch: Epoch) -> bool {
        let is_new = self.leaders.insert(shard, (leader, epoch)) != Some((leader, epoch));
        self.lost.remove(&shard) || is_new
    }

    /// The link to a node broke.
    pub fn lose(&mut self, node: NodeId) {
        let of_node = self.leaders.iter().filter(|(_, (leader, _))| *leader == node);
        self.lost.extend(of_node.map(|(shard, _)| *shard));
    }

    /// The leader is told again by whoever calls this.
    pub fn find(&mut self, shard: ShardId, leader: NodeId) {
        if self.is_lost(shard, leader) {
            self.lost.remove(&shard);
        }
    }

    /// Whether this leader was told, and lost since.
    pub fn is_lost(&self, shard: ShardId, leader: NodeId) -> bool {
        self.lost.contains(&shard) && self.leaders.get(&shard).is_some_and(|(known, _)| *known == leader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(4);
    const LEADER: NodeId = NodeId(7);

    #[test]
    fn a_leadership_is_told_once_and_again_after_its_link_was_down() {
        let mut told = Told::default();
        assert!(told.note(SHARD, LEADER, Epoch(64)));
        assert!(!told.note(SHARD, LEADER, Epoch(64)));
        told.lose(NodeId(8));
        assert!(!told.is_lost(SHARD, LEADER) && !told.note(SHARD, LEADER, Epoch(64)));
        told.lose(LEADER);
        assert!(told.is_lost(SHARD, LEADER) && !told.is_lost(SHARD, NodeId(8)));
        assert!(told.note(SHARD, LEADER, Epoch(64)));
        assert!(!told.note(SHARD, LEADER, Epoch(64)));
        told.lose(LEADER);
        told.find(SHARD, LEADER);
        assert!(!told.note(SHARD, LEADER, Epoch(64)));
        assert!(told.note(SHARD, NodeId(8), Epoch(65)));
        assert_eq!(told.leader(SHARD), Some((NodeId(8), Epoch(65))));
    }
}
