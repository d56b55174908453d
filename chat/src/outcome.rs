//! Owns what apply answers: replies, refusals, effects, errors. Does not decide any of them.
//! Invariant: a refusal is a reply; an error means that this replica must stop.

use crate::rows::RowsError;
use proto::archive::ArchivedObject;
use proto::command::{Event, Party, TokenHash};
use proto::ids::{AgentId, SessionId, ShardId, SiteId};
use proto::version::Versions;
use std::sync::Arc;

/// What one command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// For the proposer.
    pub reply: Reply,
    /// For the leader to act on after apply; followers drop them.
    pub effects: Vec<Effect>,
}

/// The answer to the proposer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The message has this place in the session. `dup`: it had it already, and these are the first seq and time.
    Sent {
        seq: u64,
        ts_ms: u64,
        dup: bool,
    },
    Opened {
        session: SessionId,
    },
    /// Where the party's cursor stands now.
    Cursor {
        received: u64,
        read: u64,
    },
    /// `None`: nothing was open.
    Closed {
        seq: Option<u64>,
    },
    LoggedIn,
    /// The act has this place in its audit chain.
    Audited {
        seq: u64,
    },
    Done,
    Rejected(Refusal),
}

/// Why a command changed nothing. The same command is refused alike by every replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Open the session first.
    UnknownSession,
    /// Log the agent in first.
    UnknownAgent,
    /// The open conversation is not assigned to this agent.
    NotYours,
    /// Agents speak only in an open conversation.
    ConversationClosed,
    /// A device numbers its sends without gaps: send `expected` first.
    CidGap {
        expected: u64,
    },
    TextTooLarge,
    TextEmpty,
    /// Empty, too long, or with control characters.
    CidInvalid,
    /// Empty, too long, or with control characters.
    DeviceInvalid,
    /// Mails of a shard arrive without gaps: send `expected` first.
    InboxGap {
        expected: u64,
    },
    /// The session or agent belongs to another site or visitor.
    SiteMismatch,
    /// The named limit of `limits.rs`.
    LimitReached(&'static str),
    /// The conversation was closed or given to somebody else since the caller looked.
    Changed,
    /// The conversation is not offered to this agent any more, or was never.
    OfferGone,
    /// The agent has as many conversations as the seat allows.
    SeatFull,
    /// The agent has no socket.
    NotThere,
    /// There is no such message, or it is none that this can be done to.
    TargetInvalid,
    /// The time in which this could be done is over.
    TooLate,
    /// A part of an act is empty, too long, or out of range.
    ActInvalid,
    /// Nothing is taken from this visitor, or not this.
    Blocked,
    /// The proof of who the visitor is was used before.
    ProofUsed,
    /// The named part of the rules is empty, too long, unordered, or out of range.
    RulesInvalid(&'static str),
    /// There is no such attachment, it is not finished, or it is not for this sender and this message.
    AttachmentInvalid,
    /// The session has uploaded as much as it may in a day.
    DayFull,
    /// The site keeps as many attachments as it may.
    SiteFull,
    /// Somebody talks with the visitor already, or is about to.
    Talking,
    /// An invitation to the visitor is open.
    Invited,
    /// The visitor was written to too often, or does not want to be.
    TooOften,
}

impl Refusal {
    /// A number for the state hash, never reused, and the detail that goes with it.
    pub(crate) fn code(&self) -> (u8, u64) {
        match self {
            Refusal::UnknownSession => (1, 0),
            Refusal::UnknownAgent => (2, 0),
            Refusal::NotYours => (3, 0),
            Refusal::ConversationClosed => (4, 0),
            Refusal::CidGap { expected } => (5, *expected),
            Refusal::TextTooLarge => (6, 0),
            Refusal::TextEmpty => (7, 0),
            Refusal::CidInvalid => (8, 0),
            Refusal::DeviceInvalid => (9, 0),
            Refusal::InboxGap { expected } => (10, *expected),
            Refusal::SiteMismatch => (11, 0),
            Refusal::LimitReached(_) => (12, 0),
            Refusal::Changed => (13, 0),
            Refusal::OfferGone => (14, 0),
            Refusal::RulesInvalid(_) => (15, 0),
            Refusal::SeatFull => (16, 0),
            Refusal::NotThere => (17, 0),
            Refusal::TargetInvalid => (18, 0),
            Refusal::TooLate => (19, 0),
            Refusal::ActInvalid => (20, 0),
            Refusal::Blocked => (21, 0),
            Refusal::ProofUsed => (22, 0),
            Refusal::AttachmentInvalid => (31, 0),
            Refusal::DayFull => (32, 0),
            Refusal::SiteFull => (33, 0),
            Refusal::Talking => (51, 0),
            Refusal::Invited => (52, 0),
            Refusal::TooOften => (53, 0),
        }
    }
}

/// What the leader should tell others, after apply and never before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A new numbered event: push it to the session's subscribers.
    Event { session: SessionId, event: Arc<Event> },
    /// A cursor moved.
    Cursor { session: SessionId, party: Party, received: u64, read: u64 },
    /// What is open with the agent or offered to them changed, or their state.
    AgentSessions { agent: AgentId, version: u64 },
    /// The agent came or went.
    AgentPresence { agent: AgentId, site: SiteId, online: bool },
    /// These tokens of the visitor are good no longer.
    LoggedOut { session: SessionId, gone: Vec<TokenHash> },
    /// New mail waits in the outbox for this shard.
    Outbox { to: ShardId },
}

/// Why this replica cannot apply or read. It must stop and be repaired; skipping would make replicas differ.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("state rows cannot be read: {0}")]
    Rows(#[from] RowsError),
    #[error("the {row} row is corrupt: {why}")]
    Corrupt { row: &'static str, why: String },
    /// Only reads meet it: come again with the object.
    #[error("events are in the archive, in {}", .0.name)]
    Archived(Box<ArchivedObject>),
    #[error("version {version} is in force; this build speaks {speaks}")]
    Version { version: u16, speaks: Versions },
    #[error("a command for shard {target} reached {here}")]
    Misrouted { here: ShardId, target: ShardId },
}
