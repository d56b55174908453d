//! Owns what a shard's leader tells the nodes that follow its sessions and agents. Does not decide who follows. Invariant: whatever is lost
//! of it, a read makes good.

use crate::command::{Event, Party, TokenHash};
use crate::ids::{AgentId, SessionId, ShardId};
use crate::peer::AgentState;
use bincode::{Decode, Encode};

/// From a shard's leader to a subscribed node; unanswered.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Push {
    Event {
        session: SessionId,
        event: Event,
    },
    Cursor {
        session: SessionId,
        party: Party,
        received: u64,
        read: u64,
    },
    Typing {
        session: SessionId,
        party: Party,
        on: bool,
        draft: String,
    },
    Agent {
        agent: AgentId,
        state: AgentState,
    },
    /// An agent came or went; for the visitors of its open conversations, wherever their sockets are.
    Presence {
        agent: AgentId,
        online: bool,
        open: Vec<SessionId>,
    },
    /// These tokens of the visitor are good no longer.
    LoggedOut {
        session: SessionId,
        gone: Vec<TokenHash>,
    },
}

/// What one apply round of one shard means for one node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Pushes {
    pub shard: ShardId,
    pub epoch: u64,
    pub items: Vec<Push>,
}
