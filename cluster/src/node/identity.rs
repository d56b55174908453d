//! Owns who this data directory is: cluster, node, and how to find the others before meta is up.
//! Invariant: written synced before the node acts under it.

use bincode::{Decode, Encode};
use proto::codec;
use proto::command::NodeAddress;
use proto::ids::{NodeId, ReplicaId};
use storage::{Batch, Durability, Engine, Family, StorageError};

/// Beyond every replica id, so that it never meets a replica's rows.
const KEY: &[u8] = b"\xff\xff\xff\xffidentity";

/// The stored row.
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

impl Identity {
    /// # Errors
    /// `StorageError`; a row that this version cannot read is `Corrupt`-like text inside it.
    pub fn load(engine: &dyn Engine) -> Result<Option<Identity>, String> {
        match engine.get(Family::Meta, KEY).map_err(|error| error.to_string())? {
            None => Ok(None),
            Some(bytes) => codec::decode(&bytes).map(Some).map_err(|error| format!("identity row: {error}")),
        }
    }

    /// # Errors
    /// `StorageError` from the engine.
    pub fn save(&self, engine: &dyn Engine) -> Result<(), StorageError> {
        let mut batch = Batch::new();
        batch.put(Family::Meta, KEY, &codec::encode(self));
        engine.write(batch, Durability::Synced)
    }
}
