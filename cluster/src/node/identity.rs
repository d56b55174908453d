//! Owns who this data directory is: cluster, node, and how to find the others before meta is up.
//! Invariant: synced before the node acts under it, in a file of its own: a database that lost its write-ahead log must
//! come back as the node it was, never as the founder of another cluster.

use crate::checked_file::{self, FileError};
use bincode::{Decode, Encode};
use proto::command::NodeAddress;
use proto::ids::{NodeId, ReplicaId};
use std::fs::File;
use std::path::Path;

const FILE: &str = "identity";

/// What a removed node is told, by its own directory and by the others.
pub const REMOVED_TEXT: &str = "this node was removed from the cluster; with an empty data directory it can join anew";
/// The first replica of meta, with which a cluster is founded.
pub const FOUNDING_REPLICA: ReplicaId = ReplicaId(1);

/// There once this node was removed from its cluster.
const REMOVED: &str = "removed";

/// Whether this directory belonged to a node that was removed.
pub fn was_removed(data_dir: &Path) -> bool {
    data_dir.join(REMOVED).exists()
}

/// Marks the directory, on the disk once this returns. Idempotent.
/// # Errors
/// The directory cannot be written.
pub fn mark_removed(data_dir: &Path) -> std::io::Result<()> {
    File::create(data_dir.join(REMOVED))?.sync_all()?;
    File::open(data_dir)?.sync_all()
}

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    pub cluster: u128,
    pub node: NodeId,
    pub shards: u32,
    /// This node's replica of the meta group, once it has one.
    pub meta_replica: Option<ReplicaId>,
    /// Whether this node founded the cluster.
    pub founder: bool,
    /// Counts the starts of this node.
    pub incarnation: u64,
    /// Every other node as last heard of.
    pub peers: Vec<(NodeId, NodeAddress)>,
}

proto::frozen!(Identity = 70);

/// Why the file cannot be read or written.
pub type IdentityError = FileError;

impl Identity {
    /// `None`: a new directory.
    /// # Errors
    /// The file cannot be read, or is not what was written.
    pub fn load(data_dir: &Path) -> Result<Option<Identity>, IdentityError> {
        checked_file::load(data_dir, FILE)
    }

    /// Whether this start founds the cluster, or goes on with what a crash cut short. Whoever lost the replica with which it did, or
    /// knows other nodes, must not begin a second one: it would be alone there, and lead.
    pub fn is_founding(&self) -> bool {
        self.founder && self.peers.is_empty() && self.meta_replica == Some(FOUNDING_REPLICA)
    }

    /// Replaces the file in one step; on the disk once this returns.
    /// # Errors
    /// The directory cannot be written.
    pub fn save(&self, data_dir: &Path) -> Result<(), IdentityError> {
        checked_file::save(data_dir, FILE, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let address = NodeAddress { peer: "10.0.0.2:7080".into(), client: "c".into(), admin: "a".into() };
        Identity {
            cluster: 7,
            node: NodeId(2),
            shards: 6,
            meta_replica: Some(ReplicaId(9)),
            founder: false,
            incarnation: 3,
            peers: vec![(NodeId(1), address)],
        }
    }

    #[test]
    fn an_identity_comes_back_as_it_was_and_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Identity::load(dir.path()).unwrap(), None);
        identity().save(dir.path()).unwrap();
        let next = Identity { incarnation: 4, ..identity() };
        next.save(dir.path()).unwrap();
        assert_eq!(Identity::load(dir.path()).unwrap(), Some(next));
        assert!(!dir.path().join("identity.new").exists());
    }

    #[test]
    fn a_cluster_is_founded_once() {
        let (meta_replica, peers) = (Some(FOUNDING_REPLICA), Vec::new());
        let founder = Identity { founder: true, meta_replica, peers, ..identity() };
        assert!(founder.is_founding());
        assert!(!Identity { peers: identity().peers, ..founder.clone() }.is_founding());
        // Its first replica lost its log, and another took its place.
        assert!(!Identity { meta_replica: Some(ReplicaId(10)), ..founder.clone() }.is_founding());
        assert!(!Identity { founder: false, ..founder }.is_founding());
    }

    #[test]
    fn a_damaged_identity_is_an_error_and_never_a_new_directory() {
        let dir = tempfile::tempdir().unwrap();
        identity().save(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[..3], &[][..]] {
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(Identity::load(dir.path()), Err(FileError::Damaged { .. })), "{} bytes", damaged.len());
        }
        let mut flipped = whole.clone();
        flipped[5] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        assert!(matches!(Identity::load(dir.path()), Err(FileError::Damaged { .. })));
    }
}
