//! Owns what is stored and sent of webhooks: their rules, and how far each shard has come with them. Does not know HTTP.
//! Invariant: structs never change.

use crate::ids::SessionId;
use bincode::{Decode, Encode};

/// Where events of a site go.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WebhookRules {
    pub url: String,
    /// Kinds of events, as clients get them; ascending. Empty: every kind.
    pub kinds: Vec<String>,
    /// An event that could not be delivered for so long becomes a dead letter, in seconds.
    pub give_up_s: u32,
    pub on: bool,
}

/// What becomes of a webhook in a shard.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum WebhookChange {
    /// Events of the shard from here on are for it. Idempotent.
    Begin,
    /// What was delivered, and what was not.
    Step(Box<WebhookStep>),
    /// Deliver a dead letter after all; `None`: every one. Idempotent.
    Replay { letter: Option<u64> },
    /// Nobody needs that dead letter any more. Idempotent.
    Forget { letter: u64 },
    /// There is no such webhook any more. Idempotent.
    End,
}

/// How far a shard has come with a webhook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct WebhookState {
    /// Counts the steps: a courier that does not know the last one does not move it.
    pub version: u64,
    /// Of the feed: what has a lower or this number is delivered, lags or is dead.
    pub after: u64,
    /// Ascending by session.
    pub lags: Vec<Lag>,
    /// Oldest first.
    pub dead: Vec<DeadLetter>,
    /// Dead letters so far: the number of the last one.
    pub letters: u64,
    /// Of them, those that are not kept any more.
    pub dropped: u64,
    /// Entries of the feed that were gone before anybody could deliver them.
    pub missed: u64,
}

/// A session whose events wait, because one of them could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Lag {
    pub session: SessionId,
    /// The first seq that was not delivered.
    pub next: u64,
    /// The last one that waits.
    pub upto: u64,
    /// How often `next` was tried.
    pub tries: u32,
    /// When it failed first, milliseconds since 1970; 0: it did not.
    pub since_ms: u64,
    /// How it failed last.
    pub why: String,
}

/// An event that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeadLetter {
    pub number: u64,
    pub session: SessionId,
    pub seq: u64,
    /// When it was given up, milliseconds since 1970.
    pub at_ms: u64,
    pub why: String,
    /// Somebody wants it delivered after all.
    pub again: bool,
}

/// What a courier has got done.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WebhookStep {
    /// [`WebhookState::version`] when it began.
    pub version: u64,
    pub after: u64,
    /// All of them, ascending by session.
    pub lags: Vec<Lag>,
    pub given_up: Vec<GivenUp>,
    /// Of dead letters that were tried again, by number: how it failed, or `None`.
    pub again: Vec<(u64, Option<String>)>,
    pub missed: u64,
}

/// An event that shall be a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct GivenUp {
    pub session: SessionId,
    pub seq: u64,
    pub why: String,
}
