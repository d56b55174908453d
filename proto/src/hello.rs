//! Owns the handshake between nodes. Does not know what follows it. Invariant: enums grow only at their end, structs never change.

use crate::command::NodeAddress;
use crate::ids::{NodeId, ReplicaId};
use bincode::{Decode, Encode};

/// What the dialling side says first. `protocol_min`: the version in force, or a build's oldest one when it joins;
/// `protocol_max`: the newest one that it speaks. See [`crate::version`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Hello {
    /// A node of the cluster opens its link.
    Link { cluster: u128, node: NodeId, to: NodeId, incarnation: u64, protocol_min: u16, protocol_max: u16 },
    /// A new machine asks to become a node. `request` is drawn once and repeated by retries.
    Join { token: String, request: u128, address: NodeAddress, protocol_min: u16, protocol_max: u16 },
    /// The same, with a certificate request (PKCS#10, DER) for the key by which the node will be known.
    Enroll {
        token: String,
        request: u128,
        address: NodeAddress,
        certificate_request: Vec<u8>,
        protocol_min: u16,
        protocol_max: u16,
    },
}

/// The answer to a hello.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum HelloReply {
    Linked {
        incarnation: u64,
        protocol: u16,
    },
    Joined {
        cluster: u128,
        node: NodeId,
        shards: u32,
        nodes: Vec<(NodeId, NodeAddress)>,
        meta: Vec<(ReplicaId, NodeId)>,
    },
    /// Ask this node instead: it leads the meta group.
    Elsewhere {
        peer: String,
    },
    Refused {
        reason: String,
    },
    /// Certificates are X.509, DER; `trusted`: those of the cluster's authorities, the newest last.
    Enrolled {
        cluster: u128,
        node: NodeId,
        shards: u32,
        nodes: Vec<(NodeId, NodeAddress)>,
        certificate: Vec<u8>,
        issuer: Vec<u8>,
        trusted: Vec<Vec<u8>>,
        /// In force in the cluster.
        version: u16,
    },
    /// The cluster is at a version that the caller does not speak: a build that speaks `version` would do.
    WrongVersion {
        version: u16,
    },
}
