//! Owns the calls for the rows of a group at one moment, for backups. Does not know what the rows mean. Invariant: enums grow only at their end.

use crate::ids::{NodeId, ShardId};
use crate::peer::AppliedRow;
use bincode::{Decode, Encode};

/// A call for the rows of one group at one moment, for a backup.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum CutCall {
    /// To the group's leader: holds its rows as they are now, with everything acknowledged before the call.
    Open { shard: ShardId },
    /// To the same node: the chunk of that number, counted from 0. The last one given may be asked for again.
    Next { cut: u64, number: u32 },
    /// Lets go of the rows; so does a minute without a call.
    Close { cut: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum CutReply {
    Opened {
        cut: u64,
        applied: AppliedRow,
    },
    /// As a snapshot's: with a checksum of its own.
    Chunk {
        rows: Vec<u8>,
    },
    /// There is no such chunk: all rows were given.
    End,
    Closed,
    NotLeader {
        hint: Option<NodeId>,
    },
    Failed {
        reason: String,
    },
}

crate::frozen!(CutCall = 91, CutReply = 92);
