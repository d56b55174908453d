//! Owns the numbered events of a session as a client sees them. Does not know who may see them.
//! Invariant: JSON fields keep their order, so that equal events are equal bytes.

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

use super::acts::{self, AnyAct};
use super::attachment::Attachment;
use super::party::{Party, Text, text_id};
use crate::act::{Act, Whose};
use crate::ids::{AgentId, SessionId};

/// One numbered event. On the wire `{"session","seq","kind",...,"ts"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// The session.
    pub session: SessionId,
    /// Gapless from 1 within the session.
    pub seq: u64,
    /// Milliseconds since 1970, the shard leader's clock; never less than the event before.
    pub ts: u64,
    /// What happened.
    pub kind: EventKind<'a>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind<'a> {
    /// Somebody wrote.
    Message {
        /// Who.
        from: Party,
        /// What; empty, and no attachments: it was recalled.
        text: Cow<'a, str>,
        /// Files that go with it.
        attachments: Vec<Attachment<'a>>,
        /// The seq of the message that it answers.
        reply_to: Option<u64>,
        /// The author's own id of it, so that the author's other tabs know it again.
        cid: Option<Cow<'a, str>>,
    },
    /// The open conversation now belongs to this agent.
    Assigned {
        /// The agent.
        agent: AgentId,
    },
    /// The open conversation ended.
    Closed {
        /// Who ended it.
        by: Party,
        /// Why; told to agents only.
        reason: Option<Cow<'a, str>>,
    },
    /// The open conversation waits for an agent again.
    Queued {
        /// Who gave it back.
        by: Party,
    },
    /// Somebody did something.
    Act {
        /// Who.
        from: Party,
        /// What.
        act: Act,
        /// The author's own id of it.
        cid: Option<Cow<'a, str>>,
    },
    /// What had this place is erased.
    Gone,
    /// Everything up to a seq was erased.
    Erased {
        /// That seq.
        upto: u64,
    },
    /// Something between agents has this place: all that a visitor is told of it.
    Hidden,
}

/// Every kind of an event, as `kind` names it.
pub const EVENT_KINDS: [&str; 19] = [
    "message",
    "assigned",
    "closed",
    "queued",
    "hidden",
    "note",
    "edited",
    "recalled",
    "reaction",
    "label",
    "snoozed",
    "reopened",
    "rated",
    "attribute",
    "prompt",
    "invited",
    "declined",
    "gone",
    "erased",
];

impl EventKind<'_> {
    /// The name of the kind on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            EventKind::Message { .. } => "message",
            EventKind::Assigned { .. } => "assigned",
            EventKind::Closed { .. } => "closed",
            EventKind::Queued { .. } => "queued",
            EventKind::Act { act, .. } => acts::kind(act),
            EventKind::Gone => "gone",
            EventKind::Erased { .. } => "erased",
            EventKind::Hidden => "hidden",
        }
    }
}

impl Event<'_> {
    /// The same event, free of the frame it was read from.
    pub fn into_owned(self) -> Event<'static> {
        let kind = match self.kind {
            EventKind::Message { from, text, attachments, reply_to, cid } => EventKind::Message {
                from,
                text: owned(text),
                attachments: attachments.into_iter().map(Attachment::into_owned).collect(),
                reply_to,
                cid: cid.map(owned),
            },
            EventKind::Assigned { agent } => EventKind::Assigned { agent },
            EventKind::Closed { by, reason } => EventKind::Closed { by, reason: reason.map(owned) },
            EventKind::Queued { by } => EventKind::Queued { by },
            EventKind::Act { from, act, cid } => EventKind::Act { from, act, cid: cid.map(owned) },
            EventKind::Gone => EventKind::Gone,
            EventKind::Erased { upto } => EventKind::Erased { upto },
            EventKind::Hidden => EventKind::Hidden,
        };
        Event { session: self.session, seq: self.seq, ts: self.ts, kind }
    }
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("session", &format_args!("{}", self.session))?;
        map.serialize_entry("seq", &self.seq)?;
        map.serialize_entry("kind", self.kind.name())?;
        match &self.kind {
            EventKind::Message { from, text, attachments, reply_to, cid } => {
                map.serialize_entry("from", from)?;
                map.serialize_entry("text", text)?;
                if !attachments.is_empty() {
                    map.serialize_entry("attachments", attachments)?;
                }
                if let Some(seq) = reply_to {
                    map.serialize_entry("reply_to", seq)?;
                }
                if let Some(cid) = cid {
                    map.serialize_entry("cid", cid)?;
                }
            }
            EventKind::Assigned { agent } => {
                map.serialize_entry("agent", &format_args!("{agent}"))?;
            }
            EventKind::Closed { by, reason } => {
                map.serialize_entry("by", by)?;
                if let Some(reason) = reason {
                    map.serialize_entry("reason", reason)?;
                }
            }
            EventKind::Queued { by } => map.serialize_entry("by", by)?,
            EventKind::Act { from, act, cid } => {
                map.serialize_entry("from", from)?;
                acts::fields(act, &mut map)?;
                if let Some(cid) = cid {
                    map.serialize_entry("cid", cid)?;
                }
            }
            EventKind::Erased { upto } => map.serialize_entry("upto", upto)?,
            EventKind::Gone | EventKind::Hidden => {}
        }
        map.serialize_entry("ts", &self.ts)?;
        map.end()
    }
}

/// Every field of every kind: serde's tagged enums would copy the text into a buffer first.
#[derive(Deserialize)]
struct AnyEvent<'a> {
    #[serde(with = "text_id")]
    session: SessionId,
    seq: u64,
    ts: u64,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    from: Option<Party>,
    #[serde(borrow, default, deserialize_with = "borrowed")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "borrowed")]
    cid: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "borrowed")]
    agent: Option<Cow<'a, str>>,
    by: Option<Party>,
    #[serde(borrow, default, deserialize_with = "borrowed")]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    attachments: Vec<Attachment<'a>>,
    reply_to: Option<u64>,
    of: Option<u64>,
    mentions: Option<Vec<AgentId>>,
    #[serde(borrow, default, deserialize_with = "borrowed")]
    emoji: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "borrowed")]
    label: Option<Cow<'a, str>>,
    on: Option<bool>,
    conversation: Option<u64>,
    until: Option<u64>,
    upto: Option<u64>,
    score: Option<u8>,
    #[serde(borrow, default, deserialize_with = "borrowed")]
    comment: Option<Cow<'a, str>>,
    whose: Option<Whose>,
    #[serde(borrow, default, deserialize_with = "borrowed")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "borrowed")]
    value: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "borrowed")]
    earlier: Option<Cow<'a, str>>,
    trigger: Option<Cow<'a, str>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Event<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let any = AnyEvent::deserialize(deserializer)?;
        let kind = match &*any.kind {
            "message" => EventKind::Message {
                from: any.from.ok_or_else(|| Error::missing_field("from"))?,
                text: any.text.ok_or_else(|| Error::missing_field("text"))?,
                attachments: any.attachments,
                reply_to: any.reply_to,
                cid: any.cid,
            },
            "assigned" => {
                let agent = any.agent.ok_or_else(|| Error::missing_field("agent"))?;
                EventKind::Assigned { agent: agent.parse().map_err(Error::custom)? }
            }
            "closed" => EventKind::Closed { by: any.by.ok_or_else(|| Error::missing_field("by"))?, reason: any.reason },
            "queued" => EventKind::Queued { by: any.by.ok_or_else(|| Error::missing_field("by"))? },
            "hidden" => EventKind::Hidden,
            "gone" => EventKind::Gone,
            "erased" => EventKind::Erased { upto: any.upto.ok_or_else(|| Error::missing_field("upto"))? },
            other => {
                let AnyEvent { of, text, mentions, emoji, label, on, conversation, until, .. } = any;
                let AnyEvent { score, comment, whose, name, value, trigger, earlier, upto, .. } = any;
                let sent = AnyAct { of, text, mentions, emoji, label, on, conversation, until, ..AnyAct::default() };
                let sent = AnyAct { earlier, upto, ..sent };
                let act = AnyAct { score, comment, whose, name, value, trigger, ..sent }.of_event(other);
                let act = act.ok_or_else(|| Error::custom("not an event of protocol v1, or a field is missing"))?;
                EventKind::Act { from: any.from.ok_or_else(|| Error::missing_field("from"))?, act, cid: any.cid }
            }
        };
        Ok(Event { session: any.session, seq: any.seq, ts: any.ts, kind })
    }
}

/// `Option<Cow<str>>` always copies when derived; this borrows.
fn borrowed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    Text::deserialize(deserializer).map(|text| Some(text.0))
}
