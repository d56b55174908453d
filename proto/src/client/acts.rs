//! Owns the JSON of what people do in a session beside writing: as they ask for it, and as an event tells it. Does not know who may.
//! Invariant: what is read is within the limits; equal acts are equal bytes.

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeStruct};
use std::borrow::Cow;

use super::code::ErrorCode;
use super::limits::*;
use super::parse::{has_control, need, once};
use super::reader::{Fault, Reader};
use crate::act::{Act, Whose};
use crate::ids::{AgentId, AttachmentId};

/// What a send holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content<'a> {
    /// A message.
    Text {
        /// 1 byte to 16 KiB; with attachments it may be empty.
        text: Cow<'a, str>,
        /// The seq of the message that it answers.
        reply_to: Option<u64>,
        /// The ids of uploads.
        attachments: Vec<AttachmentId>,
    },
    /// Anything else.
    Act(Act),
}

/// The names of acts in a send. Attributes are set over HTTP, where their types are known, and agents invite over it; sessions merge when a
/// visitor says who they are.
pub(super) const ACTS: [&str; 9] = ["note", "edit", "recall", "react", "label", "snooze", "reopen", "rate", "decline"];

/// The field of a send that holds the act.
pub(super) fn name(act: &Act) -> &'static str {
    match act {
        Act::Note { .. } => "note",
        Act::Edit { .. } => "edit",
        Act::Recall { .. } => "recall",
        Act::React { .. } => "react",
        Act::Label { .. } => "label",
        Act::Snooze { .. } => "snooze",
        Act::Reopen { .. } => "reopen",
        Act::Rate { .. } => "rate",
        Act::Attribute { .. } => "attribute",
        Act::Merge { .. } => "merge",
        Act::Prompt { .. } => "prompt",
        Act::Invite { .. } => "invite",
        Act::Decline { .. } => "decline",
    }
}

/// The kind of the event that tells of the act.
pub fn kind(act: &Act) -> &'static str {
    match act {
        Act::Note { .. } => "note",
        Act::Edit { .. } => "edited",
        Act::Recall { .. } => "recalled",
        Act::React { .. } => "reaction",
        Act::Label { .. } => "label",
        Act::Snooze { .. } => "snoozed",
        Act::Reopen { .. } => "reopened",
        Act::Rate { .. } => "rated",
        Act::Attribute { .. } => "attribute",
        Act::Merge { .. } => "merged",
        Act::Prompt { .. } => "prompt",
        Act::Invite { .. } => "invited",
        Act::Decline { .. } => "declined",
    }
}

/// The fields of an act, the same in a send and in an event.
pub(super) fn fields<M: SerializeMap>(act: &Act, map: &mut M) -> Result<(), M::Error> {
    match act {
        Act::Note { text, mentions } => {
            map.serialize_entry("text", text)?;
            if !mentions.is_empty() {
                map.serialize_entry("mentions", mentions)?;
            }
            Ok(())
        }
        Act::Edit { seq, text } => {
            map.serialize_entry("of", seq)?;
            map.serialize_entry("text", text)
        }
        Act::Recall { seq } | Act::Decline { seq } => map.serialize_entry("of", seq),
        Act::Prompt { trigger, name, text } => {
            map.serialize_entry("trigger", trigger)?;
            if let Some(name) = name {
                map.serialize_entry("name", name)?;
            }
            map.serialize_entry("text", text)
        }
        Act::Invite { text, until_ms } => {
            map.serialize_entry("text", text)?;
            map.serialize_entry("until", until_ms)
        }
        Act::React { seq, emoji, on } => {
            map.serialize_entry("of", seq)?;
            map.serialize_entry("emoji", emoji)?;
            map.serialize_entry("on", on)
        }
        Act::Label { label, on } => {
            map.serialize_entry("label", label)?;
            map.serialize_entry("on", on)
        }
        Act::Snooze { conversation, until_ms } => {
            map.serialize_entry("conversation", conversation)?;
            map.serialize_entry("until", until_ms)
        }
        Act::Reopen { conversation } => map.serialize_entry("conversation", conversation),
        Act::Rate { conversation, score, comment } => {
            map.serialize_entry("conversation", conversation)?;
            map.serialize_entry("score", score)?;
            if comment.is_empty() { Ok(()) } else { map.serialize_entry("comment", comment) }
        }
        Act::Attribute { whose, name, value } => {
            map.serialize_entry("whose", whose)?;
            map.serialize_entry("name", name)?;
            value.as_ref().map_or(Ok(()), |value| map.serialize_entry("value", value))
        }
        Act::Merge { session, upto } => {
            map.serialize_entry("earlier", &session.to_string())?;
            map.serialize_entry("upto", upto)
        }
    }
}

/// An act as an object of its own.
pub(super) struct Body<'a>(pub &'a Act);

impl Serialize for Body<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        fields(self.0, &mut map)?;
        map.end()
    }
}

impl Content<'_> {
    /// A message that answers none.
    pub fn text(text: impl Into<String>) -> Content<'static> {
        Content::Text { text: Cow::Owned(text.into()), reply_to: None, attachments: Vec::new() }
    }

    /// The same, free of the frame it was read from.
    pub fn into_owned(self) -> Content<'static> {
        match self {
            Content::Text { text, reply_to, attachments } => {
                Content::Text { text: Cow::Owned(text.into_owned()), reply_to, attachments }
            }
            Content::Act(act) => Content::Act(act),
        }
    }

    /// Adds the fields of a send.
    pub(super) fn write<S: SerializeStruct>(&self, out: &mut S) -> Result<(), S::Error> {
        match self {
            Content::Text { text, reply_to, attachments } => {
                out.serialize_field("text", text)?;
                if !attachments.is_empty() {
                    out.serialize_field("attachments", attachments)?;
                }
                reply_to.map_or(Ok(()), |seq| out.serialize_field("reply_to", &seq))
            }
            Content::Act(act) => out.serialize_field(name(act), &Body(act)),
        }
    }
}

/// Every field of every act.
#[derive(Default)]
pub(super) struct AnyAct<'a> {
    pub of: Option<u64>,
    pub text: Option<Cow<'a, str>>,
    pub mentions: Option<Vec<AgentId>>,
    pub emoji: Option<Cow<'a, str>>,
    pub label: Option<Cow<'a, str>>,
    pub on: Option<bool>,
    pub conversation: Option<u64>,
    pub until: Option<u64>,
    pub score: Option<u8>,
    pub comment: Option<Cow<'a, str>>,
    pub whose: Option<Whose>,
    pub name: Option<Cow<'a, str>>,
    pub value: Option<Cow<'a, str>>,
    pub earlier: Option<Cow<'a, str>>,
    pub upto: Option<u64>,
    pub trigger: Option<Cow<'a, str>>,
}

/// The text of a message, a note or an edit.
pub(super) fn text<'a>(text: Cow<'a, str>, field: &'static str) -> Result<Cow<'a, str>, Fault> {
    match text.len() {
        0 => Err(Fault::bad(format!("{field}: is empty"))),
        len if len > TEXT_BYTES_MAX => {
            let message = Cow::Owned(format!("{field}: is larger than 16384 bytes"));
            Err(Fault { code: ErrorCode::TooLarge, message })
        }
        _ => Ok(text),
    }
}

/// Reads the act that a send holds under this name.
pub(super) fn parse(reader: &mut Reader<'_>, name: &'static str) -> Result<Act, Fault> {
    read(reader, name).map_err(|fault| match fault.code {
        ErrorCode::Malformed => fault,
        code => Fault { code, message: Cow::Owned(format!("send.{name}: {}", fault.message)) },
    })
}

fn read(reader: &mut Reader<'_>, name: &'static str) -> Result<Act, Fault> {
    let mut any = AnyAct::default();
    reader.object(name, |reader, key| match key {
        "of" => once(&mut any.of, "of", reader.u64("of")?),
        "text" => once(&mut any.text, "text", text(reader.string("text")?, "text")?),
        "mentions" => {
            let agents = mentions(reader)?;
            once(&mut any.mentions, "mentions", agents)
        }
        "emoji" => once(&mut any.emoji, "emoji", short(reader, "emoji", EMOJI_BYTES_MAX)?),
        "label" => once(&mut any.label, "label", short(reader, "label", LABEL_BYTES_MAX)?),
        "on" => once(&mut any.on, "on", reader.bool("on")?),
        "conversation" => once(&mut any.conversation, "conversation", reader.u64("conversation")?),
        "until" => once(&mut any.until, "until", reader.u64("until")?),
        "score" => once(&mut any.score, "score", score(reader)?),
        "comment" => once(&mut any.comment, "comment", comment(reader)?),
        _ => Ok(false),
    })?;
    any.act(name)
}

impl AnyAct<'_> {
    /// The act of that name, as a send has it.
    fn act(self, name: &str) -> Result<Act, Fault> {
        let AnyAct { of, text, mentions, emoji, label, on, conversation, until, score, comment, .. } = self;
        let text = || need(text, "text").map(Cow::into_owned);
        Ok(match name {
            "note" => Act::Note { text: text()?, mentions: mentions.unwrap_or_default() },
            "edit" => Act::Edit { seq: need(of, "of")?, text: text()? },
            "recall" => Act::Recall { seq: need(of, "of")? },
            "decline" => Act::Decline { seq: need(of, "of")? },
            "react" => {
                let emoji = need(emoji, "emoji")?.into_owned();
                Act::React { seq: need(of, "of")?, emoji, on: on.unwrap_or(true) }
            }
            "label" => Act::Label { label: need(label, "label")?.into_owned(), on: on.unwrap_or(true) },
            "snooze" => {
                Act::Snooze { conversation: need(conversation, "conversation")?, until_ms: need(until, "until")? }
            }
            "rate" => {
                let comment = comment.map(Cow::into_owned).unwrap_or_default();
                Act::Rate { conversation: need(conversation, "conversation")?, score: need(score, "score")?, comment }
            }
            _ => Act::Reopen { conversation: need(conversation, "conversation")? },
        })
    }

    /// The act of an event of that kind; `None`: it is of no act, or a field is missing.
    pub(super) fn of_event(self, kind: &str) -> Option<Act> {
        let AnyAct { of, text, mentions, emoji, label, on, conversation, until, .. } = self;
        let AnyAct { score, comment, whose, name, value, trigger, earlier, upto, .. } = self;
        Some(match kind {
            "note" => Act::Note { text: text?.into_owned(), mentions: mentions.unwrap_or_default() },
            "edited" => Act::Edit { seq: of?, text: text?.into_owned() },
            "recalled" => Act::Recall { seq: of? },
            "declined" => Act::Decline { seq: of? },
            "prompt" => Act::Prompt {
                trigger: trigger?.into_owned(),
                name: name.map(Cow::into_owned),
                text: text?.into_owned(),
            },
            "invited" => Act::Invite { text: text?.into_owned(), until_ms: until? },
            "reaction" => Act::React { seq: of?, emoji: emoji?.into_owned(), on: on? },
            "label" => Act::Label { label: label?.into_owned(), on: on? },
            "snoozed" => Act::Snooze { conversation: conversation?, until_ms: until? },
            "reopened" => Act::Reopen { conversation: conversation? },
            "rated" => {
                let comment = comment.map(Cow::into_owned).unwrap_or_default();
                Act::Rate { conversation: conversation?, score: score?, comment }
            }
            "attribute" => {
                Act::Attribute { whose: whose?, name: name?.into_owned(), value: value.map(Cow::into_owned) }
            }
            "merged" => Act::Merge { session: earlier?.parse().ok()?, upto: upto? },
            _ => return None,
        })
    }
}

fn mentions(reader: &mut Reader<'_>) -> Result<Vec<AgentId>, Fault> {
    let mut agents = Vec::new();
    reader.array("mentions", |reader| {
        if agents.len() == MENTIONS_MAX {
            return Err(Fault::bad("mentions: has more than 16 entries"));
        }
        agents.push(reader.parsed("mentions", "an agent id, e.g. a17")?);
        Ok(())
    })?;
    Ok(agents)
}

fn score(reader: &mut Reader<'_>) -> Result<u8, Fault> {
    let score = u8::try_from(reader.u64("score")?).ok().filter(|score| (1..=SCORE_MAX).contains(score));
    score.ok_or_else(|| Fault::bad("score: is 1 to 5"))
}

fn comment<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, str>, Fault> {
    let text = reader.string("comment")?;
    if text.len() > COMMENT_BYTES_MAX {
        return Err(Fault::bad(format!("comment: is larger than {COMMENT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// The ids of the uploads that a message names.
pub(super) fn attachments(reader: &mut Reader<'_>) -> Result<Vec<AttachmentId>, Fault> {
    let mut ids = Vec::new();
    reader.array("send.attachments", |reader| {
        if ids.len() == ATTACHMENTS_PER_MESSAGE_MAX {
            return Err(Fault::bad("send.attachments: has more than 8 entries"));
        }
        ids.push(reader.parsed("send.attachments", "an attachment id of 32 lower-case hex digits")?);
        Ok(())
    })?;
    Ok(ids)
}

fn short<'a>(reader: &mut Reader<'a>, field: &'static str, bytes_max: usize) -> Result<Cow<'a, str>, Fault> {
    let text = reader.string(field)?;
    if text.is_empty() || text.len() > bytes_max || has_control(&text) {
        return Err(Fault::bad(format!("{field}: must have 1 to {bytes_max} bytes and no control characters")));
    }
    Ok(text)
}
