//! Owns where an actor lives: the hash from its id to its shard. Does not know the actors. Invariant: frozen with the stored data.

use crate::ids::{AgentId, SessionId, ShardId, SiteId};

/// An actor, wherever it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    Session(SessionId),
    Agent(AgentId),
    /// The assignment actor of a site: its roster and queue.
    Desk(SiteId),
}

impl Target {
    /// The data shard of this actor: a fixed hash over the frozen number of shards. Shards count from 1.
    pub fn shard(self, shards: u32) -> ShardId {
        let key = match self {
            Target::Session(id) => id.0 as u64 ^ (id.0 >> 64) as u64,
            Target::Agent(id) => id.0 ^ 0xa9e1_7000_0000_0000,
            Target::Desk(id) => u64::from(id.0) ^ 0xde5c_0000_0000_0000,
        };
        // splitmix64's finalizer: spreads the counted ids of agents and sites; frozen with the stored data.
        let mut hash = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ShardId(1 + ((hash ^ (hash >> 31)) % u64::from(shards.max(1))) as u32)
    }
}
