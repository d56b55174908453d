//! Owns what a node says to a client. Does not decide when. Invariant: an answer carries the request's id, a push carries none.

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::code::ErrorCode;
use super::event::Event;
use super::party::{Party, SessionHead, Text, text_id, text_id_option};
use crate::desk::SeatState;
use crate::ids::{SessionId, TeamId};

/// One frame from a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFrame<'a> {
    /// The request that it answers; none on a push.
    pub id: Option<u64>,
    /// What is said.
    pub body: Reply<'a>,
}

/// What a node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Answers `hello`.
    Welcome(Welcome<'a>),
    /// Answers `send`: on the disks of a quorum, and applied.
    Ack(Ack<'a>),
    /// Answers `history`.
    History(HistoryPage<'a>),
    /// Answers `cursor` with the author's own cursors; pushed without id it tells another party's.
    Cursor(CursorState),
    /// Answers `typing` and `close`. On the wire `{}`.
    Ok,
    /// Answers `ping`.
    Pong(Pong),
    /// Answers any frame that was refused.
    Error(ErrorInfo<'a>),
    /// Push, numbered.
    Event(Event<'a>),
    /// Push, not numbered, may be lost.
    Typing(TypingNotice),
    /// Push, not numbered, may be lost.
    Presence(Presence),
    /// Push: this node goes away; reconnect elsewhere.
    Drain(Drain),
    /// Push to an agent, on change and after the welcome: all of it, each time.
    Seat(Seat),
    /// Answers `queue`.
    Queue(Queue),
    /// Push to a visitor who waits, on change; not numbered, may be lost.
    Place(Place),
    /// Push to a visitor after `visit`: what may be said to them, and when; not numbered, may be lost.
    Triggers(Triggers),
}

/// The names of the replies on the wire, in the order of [`Reply`].
pub const REPLIES: [&str; 15] = [
    "welcome", "ack", "history", "cursor", "ok", "pong", "error", "event", "typing", "presence", "drain", "seat",
    "queue", "place", "triggers",
];

/// See [`Reply::Welcome`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome<'a> {
    /// The node's id, e.g. `n1`.
    #[serde(borrow)]
    pub node: Cow<'a, str>,
    /// Send a ping this often, in seconds.
    pub ping_s: u64,
    /// The sessions this socket is subscribed to.
    pub sessions: Vec<SessionHead>,
}

/// See [`Reply::Ack`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack<'a> {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// As sent.
    #[serde(borrow)]
    pub cid: Cow<'a, str>,
    /// The message's place in the session.
    pub seq: u64,
    /// Milliseconds since 1970, as in the event.
    pub ts: u64,
    /// The message was in the log before this send. On the wire only when true.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dup: bool,
}

/// See [`Reply::History`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage<'a> {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// Oldest first, without gaps.
    #[serde(borrow)]
    pub events: Vec<Event<'a>>,
    /// The session's newest seq when the page was read.
    pub head: u64,
}

/// See [`Reply::Cursor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorState {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// Whose cursors.
    pub from: Party,
    /// Every event up to here has reached one of the party's devices.
    pub received: u64,
    /// Every event up to here was seen by the party.
    pub read: u64,
}

/// See [`Reply::Pong`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The heads of the sessions this socket is subscribed to.
    pub heads: Vec<SessionHead>,
}

/// See [`Reply::Error`]. HTTP bodies carry the same object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInfo<'a> {
    /// From the closed list.
    pub code: ErrorCode,
    /// For the client's author; not for display and not to be parsed.
    #[serde(borrow)]
    pub message: Cow<'a, str>,
    /// When to try again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// With `cid_gap`: the number that must come next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_n: Option<u64>,
}

impl<'a> ErrorInfo<'a> {
    /// An error without a time to wait.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'a, str>>) -> Self {
        ErrorInfo { code, message: message.into(), retry_after_ms: None, expected_n: None }
    }
    /// An error that asks the client to come again.
    pub fn retry(code: ErrorCode, message: impl Into<Cow<'a, str>>, after: Duration) -> Self {
        let retry_after_ms = Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        ErrorInfo { code, message: message.into(), retry_after_ms, expected_n: None }
    }
    /// The refusal of a send whose number skips `expected`.
    pub fn cid_gap(expected: u64) -> Self {
        let message = Cow::Owned(format!("send.n: expected {expected}"));
        ErrorInfo { code: ErrorCode::CidGap, message, retry_after_ms: None, expected_n: Some(expected) }
    }
    /// The same error, free of the frame it was read from.
    pub fn into_owned(self) -> ErrorInfo<'static> {
        let message = Cow::Owned(self.message.into_owned());
        ErrorInfo { code: self.code, message, retry_after_ms: self.retry_after_ms, expected_n: self.expected_n }
    }
}

/// See [`Reply::Typing`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypingNotice {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// Who types.
    pub from: Party,
    /// False once they stopped.
    pub on: bool,
    /// What a visitor has typed so far; told to agents only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<String>,
}

/// See [`Reply::Presence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// The session in which it matters.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// Who came or went.
    pub who: Party,
    /// True while at least one of their sockets is open.
    pub online: bool,
}

/// See [`Reply::Drain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Wait so long before connecting to another node, in milliseconds.
    pub retry_ms: u64,
}

/// See [`Reply::Seat`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// As the person said, or `away` after an offer that nobody answered.
    pub state: SeatState,
    /// What waits for the agent's answer.
    pub offers: Vec<Offered>,
    /// Notes that mention the agent, until they are dismissed; oldest first, the newest 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<Mention>,
}

/// A note that mentions an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mention {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// Of the note.
    pub seq: u64,
}

/// A conversation that is offered to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// Counted by the site's desk; a later offer of the same conversation has a higher number.
    pub offer: u64,
    /// Until then, in milliseconds since 1970, the clock of the shard's leader.
    pub until: u64,
}

/// See [`Reply::Queue`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// The first, in the order in which they are served.
    pub waiting: Vec<Waiting>,
    /// Of the whole queue.
    pub total: u64,
}

/// A conversation that waits for an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// Its conversation, counted from 1.
    pub conversation: u64,
    /// The team it waits for; left out: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "text_id_option")]
    pub team: Option<TeamId>,
    /// Higher is served first.
    pub priority: u8,
    /// When it came, in milliseconds since 1970.
    pub since: u64,
}

/// See [`Reply::Place`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The session that waits.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// 1: the next of its team. 0: an agent is being asked.
    pub position: u64,
    /// The wait to expect, in milliseconds; left out while nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// The site is closed until then, in milliseconds since 1970; 0: nobody knows until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens: Option<u64>,
}

/// See [`Reply::Triggers`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggers {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// The first whose conditions all hold is to be said; it takes the place of what was told for the page before.
    pub triggers: Vec<TriggerWaits>,
}

/// What a trigger waits for that only the page knows; without any, nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerWaits {
    /// Its name.
    pub trigger: String,
    /// Seconds on this page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_s: Option<u32>,
    /// Seconds in this visit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_s: Option<u32>,
    /// How far the page was scrolled, 0 to 100 of its height.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scroll: Option<u8>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// `Reply::Ok` on the wire; fields that a later node may add are passed over.
#[derive(Serialize, Deserialize)]
struct Nothing {}

impl Serialize for ServerFrame<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(id) = self.id {
            map.serialize_entry("id", &id)?;
        }
        match &self.body {
            Reply::Welcome(body) => map.serialize_entry("welcome", body)?,
            Reply::Ack(body) => map.serialize_entry("ack", body)?,
            Reply::History(body) => map.serialize_entry("history", body)?,
            Reply::Cursor(body) => map.serialize_entry("cursor", body)?,
            Reply::Ok => map.serialize_entry("ok", &Nothing {})?,
            Reply::Pong(body) => map.serialize_entry("pong", body)?,
            Reply::Error(body) => map.serialize_entry("error", body)?,
            Reply::Event(body) => map.serialize_entry("event", body)?,
            Reply::Typing(body) => map.serialize_entry("typing", body)?,
            Reply::Presence(body) => map.serialize_entry("presence", body)?,
            Reply::Drain(body) => map.serialize_entry("drain", body)?,
            Reply::Seat(body) => map.serialize_entry("seat", body)?,
            Reply::Queue(body) => map.serialize_entry("queue", body)?,
            Reply::Place(body) => map.serialize_entry("place", body)?,
            Reply::Triggers(body) => map.serialize_entry("triggers", body)?,
        }
        map.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ServerFrame<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FrameVisitor)
    }
}

struct FrameVisitor;

impl<'de> Visitor<'de> for FrameVisitor {
    type Value = ServerFrame<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a server frame of everdesk.v1.json")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut id, mut body) = (None, None);
        while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
            let reply = match &*key {
                "id" => {
                    id = Some(map.next_value()?);
                    continue;
                }
                "welcome" => Reply::Welcome(map.next_value()?),
                "ack" => Reply::Ack(map.next_value()?),
                "history" => Reply::History(map.next_value()?),
                "cursor" => Reply::Cursor(map.next_value()?),
                "ok" => map.next_value::<Nothing>().map(|_| Reply::Ok)?,
                "pong" => Reply::Pong(map.next_value()?),
                "error" => Reply::Error(map.next_value()?),
                "event" => Reply::Event(map.next_value()?),
                "typing" => Reply::Typing(map.next_value()?),
                "presence" => Reply::Presence(map.next_value()?),
                "drain" => Reply::Drain(map.next_value()?),
                "seat" => Reply::Seat(map.next_value()?),
                "queue" => Reply::Queue(map.next_value()?),
                "place" => Reply::Place(map.next_value()?),
                "triggers" => Reply::Triggers(map.next_value()?),
                other => return Err(de::Error::unknown_field(other, &REPLIES)),
            };
            if body.replace(reply).is_some() {
                return Err(de::Error::custom("a frame holds two replies"));
            }
        }
        let body = body.ok_or_else(|| de::Error::custom("a frame holds no reply"))?;
        Ok(ServerFrame { id, body })
    }
}
