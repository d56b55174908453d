//! Owns what a client may say. Does not check it: `parse` does. Invariant: one frame carries one id and one verb.

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;

use super::acts::Content;
use super::party::{SessionSeq, text_id, text_id_option};
use crate::desk::{Channel, SeatState};
use crate::ids::{AgentId, SessionId, TeamId};

/// One frame from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFrame<'a> {
    /// Echoed in the answer; a client picks it, usually counting up.
    pub id: u64,
    /// What is asked.
    pub verb: Verb<'a>,
}

/// The verbs of protocol v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb<'a> {
    /// Authenticates the socket; the first frame and only the first.
    Hello(Hello<'a>),
    /// Writes one message, or does what is kept with the messages; answered by `ack`.
    Send(Send<'a>),
    /// Reads a page of events; answered by `history`.
    History(History),
    /// Says what was received and read; answered by `cursor`.
    Cursor(Cursor),
    /// Says that the person types or has stopped; answered by `ok`.
    Typing(Typing<'a>),
    /// Ends the open conversation; answered by `ok`.
    Close(Close<'a>),
    /// Keeps the socket alive and compares heads; answered by `pong`.
    Ping(Ping),
    /// An agent takes what is offered; answered by `ok`.
    Accept(Offer),
    /// An agent lets somebody else have what is offered; answered by `ok`.
    Decline(Offer),
    /// An agent takes a conversation out of the queue; answered by `ok`.
    Take(Take),
    /// An agent says whether they take conversations; answered by `ok`.
    Seat(SeatSaid),
    /// An agent looks at who waits; answered by `queue`.
    Queue(QueueAsk),
    /// The agent who has a conversation gives it to an agent, to a team, or back to the queue; answered by `ok`.
    Transfer(Transfer),
    /// A visitor's page says what is known of the visitor; answered by `ok`.
    About(About<'a>),
    /// An agent has seen to a note that mentions them; answered by `ok`.
    Dismiss(Dismiss),
    /// A supervisor follows a session that is somebody else's, or no longer; answered by `ok`.
    Watch(Watch),
    /// A visitor's page says where the visitor is and was; answered by `ok`.
    Visit(Visit<'a>),
    /// What a trigger waits for on the visitor's page has come; answered by `ok`.
    Trigger(Trigger<'a>),
}

/// The verbs' names on the wire, in the order of [`Verb`].
pub const VERBS: [&str; 18] = [
    "hello", "send", "history", "cursor", "typing", "close", "ping", "accept", "decline", "take", "seat", "queue",
    "transfer", "about", "dismiss", "watch", "visit", "trigger",
];

/// See [`Verb::Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hello<'a> {
    /// From `POST /v1/sites/{site}/visitors` or `POST /v1/agents/login`.
    pub token: Cow<'a, str>,
    /// Names the client's own store of unsent messages; part of a send's identity.
    pub device: Cow<'a, str>,
    /// The sessions that the client already holds a part of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resume: Vec<SessionSeq>,
}

/// See [`Verb::Send`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send<'a> {
    /// The session to write into.
    pub session: SessionId,
    /// The client's own id of this send: 1 to 64 bytes, no control characters.
    pub cid: Cow<'a, str>,
    /// On the wire one field, named for what it is.
    pub content: Content<'a>,
    /// The device's count of its sends into this session, from 1.
    pub n: Option<u64>,
}

impl Serialize for Send<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Send", 5)?;
        out.serialize_field("session", &format_args!("{}", self.session))?;
        out.serialize_field("cid", &self.cid)?;
        self.content.write(&mut out)?;
        self.n.map_or(Ok(()), |n| out.serialize_field("n", &n))?;
        out.end()
    }
}

/// See [`Verb::History`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// The session to read.
    pub session: SessionId,
    /// Where the page lies.
    pub from: HistoryFrom,
    /// Events wanted, 1 to 200; `None` is 50.
    pub limit: Option<u64>,
}

/// Where a history page lies. Events come oldest first in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryFrom {
    /// The first `limit` events with a higher seq.
    After(u64),
    /// The last `limit` events with a lower seq.
    Before(u64),
    /// The last `limit` events.
    Latest,
}

/// See [`Verb::Cursor`]. A field left out stays as it is; cursors never move back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cursor {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// Every event up to here has reached the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    /// Every event up to here was seen by the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<u64>,
}

/// See [`Verb::Typing`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Typing<'a> {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// False once the person stopped. Left out on the wire it is true.
    pub on: bool,
    /// What a visitor has typed so far, for agents: up to 1,024 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<Cow<'a, str>>,
}

/// See [`Verb::Close`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Close<'a> {
    /// The session whose open conversation ends.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// The last event that the client has: a conversation that began later stays open, however late or often this comes. Left out, it is
    /// what this socket was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// Why, for agents: up to 256 bytes, no control characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
}

/// See [`Verb::Dismiss`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Dismiss {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// Of the note.
    pub seq: u64,
}

/// See [`Verb::Watch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Watch {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// False: no longer. Left out on the wire it is true.
    pub on: bool,
    /// The client has every event up to this one; left out, it gets the open part from its first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// See [`Verb::Ping`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ping {
    /// The last seq that the client holds, per session.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<SessionSeq>,
}

/// See [`Verb::Accept`] and [`Verb::Decline`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// The session that is offered.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// The number of the offer, as told in `seat`: an answer to another one changes nothing, however late it comes.
    pub offer: u64,
}

/// See [`Verb::Take`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Take {
    /// The session that waits.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// Its conversation, counted from 1: a later one is not taken, however late this comes.
    pub conversation: u64,
}

/// See [`Verb::Seat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SeatSaid {
    /// `Offline` is not for the person to say.
    pub state: SeatState,
}

/// See [`Verb::Queue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QueueAsk {
    /// Conversations wanted, 1 to 200; `None` is 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// See [`Verb::Transfer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// The session whose open conversation goes.
    pub session: SessionId,
    /// Where to.
    pub to: TransferTo,
    /// The last event that the client has: what was given to somebody later stays there. Left out, it is what this socket was told.
    pub seen: Option<u64>,
}

/// Where a conversation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferTo {
    /// To this agent, who must be there and have room.
    Agent(AgentId),
    /// To whoever of the team has room.
    Team(TeamId),
    /// To whoever has room, as when it came.
    Queue,
}

impl Serialize for Transfer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("session", &format_args!("{}", self.session))?;
        match self.to {
            TransferTo::Agent(agent) => map.serialize_entry("agent", &format_args!("{agent}"))?,
            TransferTo::Team(team) => map.serialize_entry("team", &format_args!("{team}"))?,
            TransferTo::Queue => {}
        }
        if let Some(seen) = self.seen {
            map.serialize_entry("seen", &seen)?;
        }
        map.end()
    }
}

/// See [`Verb::About`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct About<'a> {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// The team that the visitor chose.
    #[serde(skip_serializing_if = "Option::is_none", with = "text_id_option")]
    pub team: Option<TeamId>,
    /// By name, each once: `page`, `language`, and whatever the site knows.
    pub facts: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// By which way the visitor writes: the web, or an app.
    #[serde(skip_serializing_if = "is_web")]
    pub channel: Channel,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the form that serde asks for
fn is_web(channel: &Channel) -> bool {
    *channel == Channel::WEB
}

/// See [`Verb::Visit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Visit<'a> {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// The pages of this visit, oldest first; the last is where the visitor is now. The first ones go when there are too many.
    pub trail: Vec<PageSeen<'a>>,
    /// Where the visitor came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referrer: Option<Cow<'a, str>>,
    /// Which visit of this browser it is, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visits: Option<u64>,
}

/// See [`Verb::Trigger`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trigger<'a> {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// Its name, as told in `triggers`.
    pub trigger: Cow<'a, str>,
}

/// A page that a visitor saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PageSeen<'a> {
    /// Its address.
    pub url: Cow<'a, str>,
    /// Its title; may be empty.
    pub title: Cow<'a, str>,
    /// When, milliseconds since 1970, by the visitor's clock.
    pub at: u64,
}

impl ClientFrame<'_> {
    /// Appends the frame as JSON.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("a Vec takes every byte and no field can fail to serialize");
    }

    /// The frame as JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("no field of a client frame can fail to serialize")
    }
}

impl Serialize for ClientFrame<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("id", &self.id)?;
        match &self.verb {
            Verb::Hello(body) => map.serialize_entry("hello", body)?,
            Verb::Send(body) => map.serialize_entry("send", body)?,
            Verb::History(body) => map.serialize_entry("history", body)?,
            Verb::Cursor(body) => map.serialize_entry("cursor", body)?,
            Verb::Typing(body) => map.serialize_entry("typing", body)?,
            Verb::Close(body) => map.serialize_entry("close", body)?,
            Verb::Ping(body) => map.serialize_entry("ping", body)?,
            Verb::Accept(body) => map.serialize_entry("accept", body)?,
            Verb::Decline(body) => map.serialize_entry("decline", body)?,
            Verb::Take(body) => map.serialize_entry("take", body)?,
            Verb::Seat(body) => map.serialize_entry("seat", body)?,
            Verb::Queue(body) => map.serialize_entry("queue", body)?,
            Verb::Transfer(body) => map.serialize_entry("transfer", body)?,
            Verb::About(body) => map.serialize_entry("about", body)?,
            Verb::Dismiss(body) => map.serialize_entry("dismiss", body)?,
            Verb::Watch(body) => map.serialize_entry("watch", body)?,
            Verb::Visit(body) => map.serialize_entry("visit", body)?,
            Verb::Trigger(body) => map.serialize_entry("trigger", body)?,
        }
        map.end()
    }
}

impl Serialize for History {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("session", &format_args!("{}", self.session))?;
        match self.from {
            HistoryFrom::After(seq) => map.serialize_entry("after", &seq)?,
            HistoryFrom::Before(seq) => map.serialize_entry("before", &seq)?,
            HistoryFrom::Latest => {}
        }
        if let Some(limit) = self.limit {
            map.serialize_entry("limit", &limit)?;
        }
        map.end()
    }
}
