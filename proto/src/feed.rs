//! Owns a shard's events as readers of its feed get them from its leader. Does not number them: the rules do.
//! Invariant: structs never change.

use crate::command::Event;
use crate::ids::{SessionId, VisitorId};
use bincode::{Decode, Encode};

/// Some of a site's events out of one shard, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FeedPage {
    pub items: Vec<FeedItem>,
    /// Go on after this number. A page may be short, or empty, and yet not the last.
    pub next: u64,
    /// The shard's last number.
    pub head: u64,
    /// The lowest number that is kept.
    pub first: u64,
}

/// What an event is called outside: the same for the same event, for ever.
pub fn event_id(session: SessionId, seq: u64) -> String {
    format!("{session}-{seq}")
}

/// An event, and where it stands among all of its shard.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FeedItem {
    pub number: u64,
    pub session: SessionId,
    pub visitor: VisitorId,
    pub event: Event,
}
