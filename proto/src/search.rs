//! Owns what a shard's leader is asked for, and answers, when somebody looks for what was said. Does not look for it.
//! Invariant: enums grow only at their end, structs never change.

use crate::command::Party;
use crate::desk::Channel;
use crate::ids::{AgentId, SessionId, SiteId, TeamId, VisitorId};
use bincode::{Decode, Encode};

/// What is looked for, at one site. Whatever is `None` lets everything through.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SearchAsk {
    pub site: SiteId,
    /// Words and quoted phrases, all of which stand in what is found. Empty: whatever was said.
    pub text: String,
    pub by: Option<SaidBy>,
    /// Said then or later, milliseconds since 1970.
    pub from_ms: Option<u64>,
    /// Said before, milliseconds since 1970.
    pub to_ms: Option<u64>,
    /// Whose the session's conversation is, or was last.
    pub agent: Option<AgentId>,
    pub team: Option<TeamId>,
    pub label: Option<String>,
    pub standing: Option<Standing>,
    /// The visitor's last rating is one of these: the lowest and the highest.
    pub rating: Option<(u8, u8)>,
    /// By which way the session's visitor writes.
    pub channel: Option<Channel>,
    /// Only what comes behind this, from the newest to the oldest.
    pub after: Option<SearchPlace>,
    pub limit: u32,
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum SaidBy {
    Visitor,
    Agent,
    System,
    /// An agent, for agents only.
    Note,
}

/// What has become of a session's last conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Standing {
    /// It is open, with an agent.
    Open,
    /// It is open, and waits for an agent.
    Waiting,
    Closed,
    /// It is open, and laid aside for a while.
    Snoozed,
}

/// Where something that was said stands among all that was: by time, the same on every replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct SearchPlace {
    pub ts_ms: u64,
    pub session: SessionId,
    pub seq: u64,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SearchHit {
    pub place: SearchPlace,
    pub visitor: VisitorId,
    pub from: Party,
    pub by: SaidBy,
    pub standing: Standing,
    /// Whose the session's conversation is, or was last.
    pub agent: Option<AgentId>,
    pub labels: Vec<String>,
    /// A piece of the text around what was found, in parts; true: that is what was looked for.
    pub snippet: Vec<(String, bool)>,
}

/// What one shard has, from the newest to the oldest.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SearchPage {
    pub hits: Vec<SearchHit>,
    /// The shard has looked down to here, and there is more behind it. A page may be short, or empty, and yet not the last.
    pub next: Option<SearchPlace>,
    /// Events of the shard that the index does not know yet.
    pub behind: u64,
}
