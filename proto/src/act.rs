//! Owns what people do in a session beside writing to each other. Does not know who may do what: the rules do.
//! Invariant: an act is numbered and answered as a message is, so that it is done once however often it is sent.

use crate::ids::{AgentId, SessionId, TeamId};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// What somebody did.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Act {
    /// An agent writes for agents. Those who are mentioned are told.
    Note { text: String, mentions: Vec<AgentId> },
    /// The author gives the message at `seq` another text.
    Edit { seq: u64, text: String },
    /// The author takes the message at `seq` back: its text is stored no longer.
    Recall { seq: u64 },
    /// Puts an emoji to the message at `seq`, or takes it away.
    React { seq: u64, emoji: String, on: bool },
    /// Puts a label on the session's conversation, or takes it away.
    Label { label: String, on: bool },
    /// The agent lays the open conversation aside until then, milliseconds since 1970, or until its visitor writes.
    Snooze { conversation: u64, until_ms: u64 },
    /// An agent opens the last conversation again.
    Reopen { conversation: u64 },
    /// The visitor says how the last conversation was: 1 to 5, 5 is best, and perhaps why.
    Rate { conversation: u64, score: u8, comment: String },
    /// Sets an attribute; without a value it is as if it had never been set.
    Attribute { whose: Whose, name: String, value: Option<String> },
    /// The visitor was the one of another session before they said who they are; its last seq.
    Merge { session: SessionId, upto: u64 },
    /// A trigger of the site says something to the visitor, under a name of its own if it has one. Nobody sends it: see [`Prompt`].
    Prompt { trigger: String, name: Option<String>, text: String },
    /// An agent of the site writes first. The visitor may answer until then, milliseconds since 1970, and is the agent's then.
    Invite { text: String, until_ms: u64 },
    /// The visitor does not want the invitation at `seq`.
    Decline { seq: u64 },
}

/// What a trigger says to a visitor, and how often it may.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Prompt {
    /// The trigger's name within the site.
    pub trigger: String,
    /// As whom it speaks.
    pub name: Option<String>,
    pub text: String,
    pub again: Again,
    /// Which visit it is, as the visitor's browser counts; 0: it does not.
    pub visit: u64,
    /// Who is asked for when the visitor answers, unless the visitor chose.
    pub team: Option<TeamId>,
}

/// When a trigger may speak to the same visitor again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Again {
    Never,
    NextVisit,
    /// After so long, in milliseconds.
    After {
        ms: u64,
    },
}

/// What an attribute is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// For as long as the site knows the visitor.
    Visitor,
    /// The open one, or the last one; the next begins without.
    Conversation,
}

impl Act {
    /// Whether it is between agents: visitors are told that something has this place in the session, and not what.
    pub fn is_internal(&self) -> bool {
        match self {
            Act::Note { .. } | Act::Label { .. } | Act::Snooze { .. } | Act::Attribute { .. } => true,
            Act::Edit { .. }
            | Act::Recall { .. }
            | Act::React { .. }
            | Act::Reopen { .. }
            | Act::Rate { .. }
            | Act::Merge { .. } => false,
            Act::Prompt { .. } | Act::Invite { .. } | Act::Decline { .. } => false,
        }
    }

    /// The texts that it holds, in bytes.
    pub fn text_bytes(&self) -> usize {
        match self {
            Act::Note { text, mentions } => text.len() + mentions.len() * size_of::<AgentId>(),
            Act::Edit { text, .. } => text.len(),
            Act::React { emoji, .. } => emoji.len(),
            Act::Label { label, .. } => label.len(),
            Act::Rate { comment, .. } => comment.len(),
            Act::Attribute { name, value, .. } => name.len() + value.as_ref().map_or(0, String::len),
            Act::Prompt { trigger, name, text } => trigger.len() + name.as_ref().map_or(0, String::len) + text.len(),
            Act::Invite { text, .. } => text.len(),
            Act::Recall { .. } | Act::Snooze { .. } | Act::Reopen { .. } | Act::Decline { .. } | Act::Merge { .. } => 0,
        }
    }
}
