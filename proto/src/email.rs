//! Owns what is stored and sent of e-mails: a site's rules for them, and those that wait in a shard. Does not know SMTP. A "mail" is
//! something else here: see the glossary. Invariant: enums grow only at their end, structs never change.

use crate::command::SecretBytes;
use crate::ids::{SessionId, SiteId};
use bincode::{Decode, Encode};

/// Whether and how a site writes e-mails.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct EmailRules {
    pub on: bool,
    /// Only what was said from then on is e-mailed, milliseconds since 1970.
    pub since_ms: u64,
    /// A message that a visitor has not read for so long is missed, in seconds; 0: nobody is told of missed ones.
    pub missed_after_s: u32,
    /// Where messages go that are left while the site is closed; empty: nowhere.
    pub forms_to: String,
    /// They are gathered for so long, in seconds.
    pub form_after_s: u32,
    /// Whose name e-mails bear; empty: the site's.
    pub sender: String,
    /// Under which people reach the clients' listener from outside, e.g. `https://chat.example.com`.
    pub base_url: String,
    pub language: EmailLanguage,
}

/// Of what the program itself writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub enum EmailLanguage {
    #[default]
    English,
    Chinese,
}

/// What an e-mail is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum EmailKind {
    /// To a visitor: what agents wrote while they were away.
    Missed,
    /// To the site: what a visitor left while it was closed.
    Form,
    /// To whom it was asked for: what was said.
    Transcript,
}

/// How far an e-mail has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum EmailStage {
    /// More may come into it.
    Gathers,
    /// What stands in it is fixed, and it is on its way.
    Sealed,
    /// It could not be delivered.
    Dead,
}

/// An e-mail that waits in the shard of its session.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Email {
    pub site: SiteId,
    pub session: SessionId,
    pub kind: EmailKind,
    /// Counts the e-mails of the shard; part of the Message-ID.
    pub number: u64,
    /// The events that it is about.
    pub first: u64,
    pub upto: u64,
    /// Empty: to the address that is known when it is sent.
    pub to: String,
    /// When something is to be done about it, milliseconds since 1970; of a dead one: it is kept until then.
    pub due_ms: u64,
    /// Of the first try that failed; 0: none did.
    pub since_ms: u64,
    /// Tries that failed.
    pub tries: u32,
    /// How the last one failed.
    pub why: String,
    pub stage: EmailStage,
}

/// An event that is to be e-mailed unless something becomes of it before.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EmailFound {
    pub site: SiteId,
    pub session: SessionId,
    pub kind: EmailKind,
    pub seq: u64,
    pub due_ms: u64,
}

/// What the leader of a shard found in a stretch of the feed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EmailStep {
    /// The number of the last step when it began.
    pub version: u64,
    /// Everything up to this number of the feed was looked at.
    pub after: u64,
    /// Entries that were gone before anybody could look at them.
    pub missed: u64,
    pub found: Vec<EmailFound>,
}

/// What became of an e-mail.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EmailTold {
    pub session: SessionId,
    pub kind: EmailKind,
    pub number: u64,
    /// As they were when it began: who does not know of the last one changes nothing.
    pub tries: u32,
    pub fate: EmailFate,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum EmailFate {
    /// Nothing more comes into it. `secret`: proves who clicks on an address in it, unless there is one already.
    Sealed {
        secret: SecretBytes,
    },
    /// The server took it, or nobody needs it: it goes.
    Over,
    /// Not now, and that is no failure.
    Later {
        due_ms: u64,
    },
    Failed {
        why: String,
        due_ms: u64,
    },
    /// It is kept until then, for whoever wants it sent after all.
    Dead {
        why: String,
        due_ms: u64,
    },
}

/// What becomes of the e-mails of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum EmailChange {
    Step(Box<EmailStep>),
    Told(Vec<EmailTold>),
    /// Somebody wants the transcript of the session; empty: at the visitor's address. Idempotent by the id. `limited`: only so often.
    Ask {
        session: SessionId,
        id: u128,
        to: String,
        limited: bool,
    },
    /// The visitor wants no e-mails about missed messages, and has the secret that stood in one. Idempotent.
    Unsubscribe {
        session: SessionId,
        secret: SecretBytes,
    },
    /// Sends a dead one after all. Idempotent.
    Again {
        session: SessionId,
        number: u64,
    },
    /// Nobody needs a dead one any more. Idempotent.
    Forget {
        session: SessionId,
        number: u64,
    },
}

impl EmailChange {
    /// Whose shard must apply this; `None`: the one that it is proposed to.
    pub fn session(&self) -> Option<SessionId> {
        match self {
            EmailChange::Step(_) | EmailChange::Told(_) => None,
            EmailChange::Ask { session, .. }
            | EmailChange::Unsubscribe { session, .. }
            | EmailChange::Again { session, .. }
            | EmailChange::Forget { session, .. } => Some(*session),
        }
    }
}
