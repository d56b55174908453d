//! Owns the rules by which a version comes into force. Does not know what it changes.
//! Invariant: what is in force is spoken by every member, and never goes back.

use super::state::{MetaState, refused};
use proto::ids::NodeId;
use proto::peer::MetaReply;
use proto::version::Versions;

impl MetaState {
    /// The version in force in the cluster; 0: there is none yet.
    pub fn version(&self) -> u16 {
        self.cluster.as_ref().map_or(0, |row| row.version)
    }

    /// The version after the one in force, if every member speaks it.
    pub fn next_version(&self) -> Option<u16> {
        let next = self.version() + 1;
        (self.cluster.is_some() && self.is_spoken_by_all(next)).then_some(next)
    }

    /// Members that speak nothing newer than what is in force, or have not said what they speak.
    pub fn behind(&self) -> Vec<NodeId> {
        let next = self.version() + 1;
        self.members().map(|(node, _)| node).filter(|node| !self.speaks(*node, next)).collect()
    }

    fn is_spoken_by_all(&self, version: u16) -> bool {
        self.members().all(|(node, _)| self.speaks(node, version))
    }

    fn speaks(&self, node: NodeId, version: u16) -> bool {
        self.versions.get(&node).is_some_and(|versions| versions.speaks(version))
    }

    pub(super) fn set_versions(&mut self, node: NodeId, versions: Versions) -> MetaReply {
        if !self.is_member(node) {
            return refused("no such node");
        }
        self.versions.insert(node, versions);
        self.changed(b'V', &node.0.to_be_bytes());
        MetaReply::Done
    }

    pub(super) fn finalize(&mut self, version: u16) -> MetaReply {
        let current = self.version();
        if version == current {
            return MetaReply::Done;
        }
        if version < current {
            return refused("a newer version is in force: there is no way back");
        }
        if version != current + 1 || !self.is_spoken_by_all(version) {
            return refused("not every node speaks that version");
        }
        if let Some(row) = &mut self.cluster {
            row.version = version;
            self.changed(b'C', &[]);
        }
        MetaReply::Done
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{address, cluster};
    use super::*;
    use proto::command::MetaCommand;

    #[test]
    fn a_version_comes_into_force_once_every_member_speaks_it_and_stays() {
        let mut state = cluster();
        state.apply(1, MetaCommand::CreateJoinToken { token: [7; 32], expires_ms: 100 });
        state.apply(2, MetaCommand::Join { token: [7; 32], request: 1, address: address() });
        let both = Versions { min: 1, max: 2 };
        assert_eq!(state.set_versions(NodeId(1), both), MetaReply::Done);
        assert_eq!((state.next_version(), state.behind()), (None, vec![NodeId(2)]));
        assert!(matches!(state.finalize(2), MetaReply::Refused { .. }), "a node has not said what it speaks");
        state.set_versions(NodeId(2), Versions { min: 1, max: 1 });
        assert!(matches!(state.finalize(2), MetaReply::Refused { .. }));
        state.set_versions(NodeId(2), both);
        assert!(matches!(state.finalize(3), MetaReply::Refused { .. }), "one at a time");
        assert_eq!(state.next_version(), Some(2));
        assert_eq!(state.finalize(2), MetaReply::Done);
        assert_eq!(state.finalize(2), MetaReply::Done, "a repeat");
        assert!(matches!(state.finalize(1), MetaReply::Refused { .. }));
        assert!(matches!(state.set_versions(NodeId(9), both), MetaReply::Refused { .. }));
    }
}
