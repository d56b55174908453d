//! Owns reading a client frame: JSON text to `ClientFrame`, every refusal with its code, message and, where readable, id.
//! Does not know sockets. Invariant: a frame that is returned is within every limit of `limits`; strings without escapes are borrowed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::acts::{self, ACTS, Content};
use super::code::ErrorCode;
use super::limits::*;
use super::party::SessionSeq;
use super::reader::{Fault, Reader};
use super::reply::{ErrorInfo, Reply, ServerFrame};
use super::request::*;
use super::visit;
use crate::desk::{Channel, SeatState};
use crate::ids::{AttachmentId, SessionId};

/// A frame that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct FrameError {
    /// The frame's id, when it could be read in spite of the fault.
    pub id: Option<u64>,
    /// What the client is told, and whether it is disconnected.
    pub code: ErrorCode,
    /// For the client's author.
    pub message: Cow<'static, str>,
}

impl FrameError {
    /// The frame that answers it.
    pub fn into_reply(self) -> ServerFrame<'static> {
        ServerFrame { id: self.id, body: Reply::Error(ErrorInfo::new(self.code, self.message)) }
    }
}

/// Reads one client frame.
/// # Errors
/// `FrameError`: answer with [`FrameError::into_reply`], and close the socket when its code says so.
pub fn parse(bytes: &[u8]) -> Result<ClientFrame<'_>, FrameError> {
    if bytes.len() > FRAME_BYTES_MAX {
        let message = Cow::Borrowed("the frame is larger than 65536 bytes");
        return Err(FrameError { id: None, code: ErrorCode::FrameTooLarge, message });
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        let message = Cow::Borrowed("the frame is not UTF-8");
        return Err(FrameError { id: None, code: ErrorCode::Malformed, message });
    };
    frame(text).map_err(|fault| FrameError { id: find_id(text), code: fault.code, message: fault.message })
}

fn frame(text: &str) -> Result<ClientFrame<'_>, Fault> {
    let mut reader = Reader::new(text);
    let mut id = None;
    let mut verb: Option<(&'static str, Verb<'_>)> = None;
    reader.object("frame", |reader, key| {
        if key == "id" {
            return once(&mut id, "id", reader.u64("id")?);
        }
        let name = VERBS.iter().copied().find(|name| *name == key).ok_or_else(|| unknown_verb(key))?;
        match &verb {
            Some((first, _)) if *first == name => return Err(Fault::bad(format!("{name}: given twice"))),
            Some((first, _)) => return Err(Fault::bad(format!("more than one verb: {first} and {name}"))),
            None => {}
        }
        verb = Some((name, body(reader, name)?));
        Ok(true)
    })?;
    reader.end()?;
    let (_, verb) = verb.ok_or(Fault::bad("the frame has no verb"))?;
    let id = id.ok_or(Fault::bad("id: missing"))?;
    Ok(ClientFrame { id, verb })
}

fn body<'a>(reader: &mut Reader<'a>, name: &str) -> Result<Verb<'a>, Fault> {
    match name {
        "hello" => hello(reader),
        "send" => send(reader),
        "history" => history(reader),
        "cursor" => cursor(reader),
        "typing" => typing(reader),
        "close" => close(reader),
        "accept" => offer(reader, ["accept", "accept.session", "accept.offer"]).map(Verb::Accept),
        "decline" => offer(reader, ["decline", "decline.session", "decline.offer"]).map(Verb::Decline),
        "take" => take(reader),
        "seat" => seat(reader),
        "queue" => queue(reader),
        "transfer" => transfer(reader),
        "about" => about(reader),
        "visit" => visit::visit(reader),
        "trigger" => visit::trigger(reader),
        "dismiss" => dismiss(reader),
        "watch" => watch(reader),
        _ => ping(reader),
    }
}

fn hello<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let (mut token, mut device, mut resume) = (None, None, None);
    reader.object("hello", |reader, key| match key {
        "token" => once(&mut token, "hello.token", reader.string("hello.token")?),
        "device" => once(&mut device, "hello.device", reader.string("hello.device")?),
        "resume" => {
            let list = session_seqs(reader, "hello.resume", RESUME_SESSIONS_MAX)?;
            once(&mut resume, "hello.resume", list)
        }
        _ => Ok(false),
    })?;
    let token = need(token, "hello.token")?;
    let device = need(device, "hello.device")?;
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(Fault::bad("hello.token: must have 1 to 256 bytes"));
    }
    if device.is_empty() || device.len() > DEVICE_BYTES_MAX || has_control(&device) {
        return Err(Fault::bad("hello.device: must have 1 to 64 bytes and no control characters"));
    }
    Ok(Verb::Hello(Hello { token, device, resume: resume.unwrap_or_default() }))
}

fn send<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let (mut session, mut cid, mut text, mut n, mut reply_to) = (None, None, None, None, None);
    let (mut act, mut files) = (None, None);
    reader.object("send", |reader, key| match key {
        "session" => once(&mut session, "send.session", session_id(reader, "send.session")?),
        "cid" => once(&mut cid, "send.cid", reader.string("send.cid")?),
        "text" => once(&mut text, "send.text", reader.string("send.text")?),
        "n" => once(&mut n, "send.n", reader.u64("send.n")?),
        "reply_to" => once(&mut reply_to, "send.reply_to", reader.u64("send.reply_to")?),
        "attachments" => once(&mut files, "send.attachments", acts::attachments(reader)?),
        key => match ACTS.iter().find(|name| **name == key) {
            Some(name) if act.is_none() => {
                act = Some(acts::parse(reader, name)?);
                Ok(true)
            }
            Some(_) => Err(Fault::bad("send: holds more than one thing")),
            None => Ok(false),
        },
    })?;
    let session = need(session, "send.session")?;
    let cid = need(cid, "send.cid")?;
    if cid.is_empty() || cid.len() > CID_BYTES_MAX || has_control(&cid) {
        let message = Cow::Borrowed("send.cid: must have 1 to 64 bytes and no control characters");
        return Err(Fault { code: ErrorCode::BadCid, message });
    }
    let content = match act {
        Some(_) if text.is_some() || reply_to.is_some() || files.is_some() => {
            return Err(Fault::bad("send: holds more than one thing"));
        }
        Some(act) => Content::Act(act),
        None => message(text, reply_to, files.unwrap_or_default())?,
    };
    if n == Some(0) {
        return Err(Fault::bad("send.n: counts from 1"));
    }
    Ok(Verb::Send(Send { session, cid, content, n }))
}

fn message<'a>(
    text: Option<Cow<'a, str>>,
    reply_to: Option<u64>,
    attachments: Vec<AttachmentId>,
) -> Result<Content<'a>, Fault> {
    let may_be_empty = !attachments.is_empty() && text.as_ref().is_none_or(|text| text.is_empty());
    let text = match may_be_empty {
        true => Cow::Borrowed(""),
        false => acts::text(need(text, "send.text")?, "send.text")?,
    };
    Ok(Content::Text { text, reply_to, attachments })
}

fn history<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let (mut session, mut after, mut before, mut limit) = (None, None, None, None);
    reader.object("history", |reader, key| match key {
        "session" => once(&mut session, "history.session", session_id(reader, "history.session")?),
        "after" => once(&mut after, "history.after", reader.u64("history.after")?),
        "before" => once(&mut before, "history.before", reader.u64("history.before")?),
        "limit" => once(&mut limit, "history.limit", reader.u64("history.limit")?),
        _ => Ok(false),
    })?;
    let session = need(session, "history.session")?;
    let from = match (after, before) {
        (Some(_), Some(_)) => return Err(Fault::bad("history: after and before exclude each other")),
        (Some(seq), None) => HistoryFrom::After(seq),
        (None, Some(seq)) => HistoryFrom::Before(seq),
        (None, None) => HistoryFrom::Latest,
    };
    if limit.is_some_and(|limit| !(1..=HISTORY_LIMIT_MAX).contains(&limit)) {
        return Err(Fault::bad("history.limit: must be 1 to 200"));
    }
    Ok(Verb::History(History { session, from, limit }))
}

fn cursor<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let (mut session, mut received, mut read) = (None, None, None);
    reader.object("cursor", |reader, key| match key {
        "session" => once(&mut session, "cursor.session", session_id(reader, "cursor.session")?),
        "received" => once(&mut received, "cursor.received", reader.u64("cursor.received")?),
        "read" => once(&mut read, "cursor.read", reader.u64("cursor.read")?),
        _ => Ok(false),
    })?;
    let session = need(session, "cursor.session")?;
    if received.is_none() && read.is_none() {
        return Err(Fault::bad("cursor: needs received or read"));
    }
    Ok(Verb::Cursor(Cursor { session, received, read }))
}

fn typing<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let (mut session, mut on, mut draft) = (None, None, None);
    reader.object("typing", |reader, key| match key {
        "session" => once(&mut session, "typing.session", session_id(reader, "typing.session")?),
        "on" => once(&mut on, "typing.on", reader.bool("typing.on")?),
        "draft" => once(&mut draft, "typing.draft", reader.string("typing.draft")?),
        _ => Ok(false),
    })?;
    if draft.as_ref().is_some_and(|draft| draft.len() > DRAFT_BYTES_MAX) {
        return Err(Fault::bad("typing.draft: is larger than 1024 bytes"));
    }
    Ok(Verb::Typing(Typing { session: need(session, "typing.session")?, on: on.unwrap_or(true), draft }))
}

fn close<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let (mut session, mut seen, mut reason) = (None, None, None);
    reader.object("close", |reader, key| match key {
        "session" => once(&mut session, "close.session", session_id(reader, "close.session")?),
        "seen" => once(&mut seen, "close.seen", reader.u64("close.seen")?),
        "reason" => once(&mut reason, "close.reason", reader.string("close.reason")?),
        _ => Ok(false),
    })?;
    if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX || has_control(reason)) {
        return Err(Fault::bad("close.reason: must have at most 256 bytes and no control characters"));
    }
    Ok(Verb::Close(Close { session: need(session, "close.session")?, seen, reason }))
}

fn ping<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let mut heads = None;
    reader.object("ping", |reader, key| match key {
        "heads" => once(&mut heads, "ping.heads", session_seqs(reader, "ping.heads", HEADS_MAX)?),
        _ => Ok(false),
    })?;
    Ok(Verb::Ping(Ping { heads: heads.unwrap_or_default() }))
}

fn offer(reader: &mut Reader<'_>, [verb, of_session, of_offer]: [&'static str; 3]) -> Result<Offer, Fault> {
    let (mut session, mut offer) = (None, None);
    reader.object(verb, |reader, key| match key {
        "session" => once(&mut session, of_session, session_id(reader, of_session)?),
        "offer" => once(&mut offer, of_offer, reader.u64(of_offer)?),
        _ => Ok(false),
    })?;
    Ok(Offer { session: need(session, of_session)?, offer: need(offer, of_offer)? })
}

fn take<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let (mut session, mut conversation) = (None, None);
    reader.object("take", |reader, key| match key {
        "session" => once(&mut session, "take.session", session_id(reader, "take.session")?),
        "conversation" => once(&mut conversation, "take.conversation", reader.u64("take.conversation")?),
        _ => Ok(false),
    })?;
    let session = need(session, "take.session")?;
    Ok(Verb::Take(Take { session, conversation: need(conversation, "take.conversation")? }))
}

fn seat<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let mut state = None;
    reader.object("seat", |reader, key| match key {
        "state" => once(&mut state, "seat.state", reader.string("seat.state")?),
        _ => Ok(false),
    })?;
    let state = match &*need(state, "seat.state")? {
        "online" => SeatState::Online,
        "busy" => SeatState::Busy,
        "away" => SeatState::Away,
        _ => return Err(Fault::bad("seat.state: must be online, busy or away")),
    };
    Ok(Verb::Seat(SeatSaid { state }))
}

fn queue<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let mut limit = None;
    reader.object("queue", |reader, key| match key {
        "limit" => once(&mut limit, "queue.limit", reader.u64("queue.limit")?),
        _ => Ok(false),
    })?;
    if limit.is_some_and(|limit| !(1..=QUEUE_LIMIT_MAX).contains(&limit)) {
        return Err(Fault::bad("queue.limit: must be 1 to 200"));
    }
    Ok(Verb::Queue(QueueAsk { limit }))
}

fn transfer<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let (mut session, mut agent, mut team, mut seen) = (None, None, None, None);
    reader.object("transfer", |reader, key| match key {
        "session" => once(&mut session, "transfer.session", session_id(reader, "transfer.session")?),
        "agent" => once(&mut agent, "transfer.agent", reader.parsed("transfer.agent", "an agent id, e.g. a17")?),
        "team" => once(&mut team, "transfer.team", reader.parsed("transfer.team", "a team id, e.g. t2")?),
        "seen" => once(&mut seen, "transfer.seen", reader.u64("transfer.seen")?),
        _ => Ok(false),
    })?;
    let to = match (agent, team) {
        (Some(_), Some(_)) => return Err(Fault::bad("transfer: agent and team exclude each other")),
        (Some(agent), None) => TransferTo::Agent(agent),
        (None, Some(team)) => TransferTo::Team(team),
        (None, None) => TransferTo::Queue,
    };
    Ok(Verb::Transfer(Transfer { session: need(session, "transfer.session")?, to, seen }))
}

fn about<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let (mut session, mut team, mut facts, mut channel) = (None, None, None, None);
    reader.object("about", |reader, key| match key {
        "session" => once(&mut session, "about.session", session_id(reader, "about.session")?),
        "team" => once(&mut team, "about.team", reader.parsed("about.team", "a team id, e.g. t2")?),
        "facts" => {
            let known = self::facts(reader)?;
            once(&mut facts, "about.facts", known)
        }
        "channel" => once(&mut channel, "about.channel", own_channel(reader)?),
        _ => Ok(false),
    })?;
    let session = need(session, "about.session")?;
    Ok(Verb::About(About { session, team, facts: facts.unwrap_or_default(), channel: channel.unwrap_or_default() }))
}

fn own_channel(reader: &mut Reader<'_>) -> Result<Channel, Fault> {
    let (field, what) = ("about.channel", "web or app");
    let channel: Channel = reader.parsed(field, what)?;
    if channel.is_said_by_visitors() { Ok(channel) } else { Err(Fault::wanted(field, what)) }
}

fn dismiss<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let (mut session, mut seq) = (None, None);
    reader.object("dismiss", |reader, key| match key {
        "session" => once(&mut session, "dismiss.session", session_id(reader, "dismiss.session")?),
        "seq" => once(&mut seq, "dismiss.seq", reader.u64("dismiss.seq")?),
        _ => Ok(false),
    })?;
    Ok(Verb::Dismiss(Dismiss { session: need(session, "dismiss.session")?, seq: need(seq, "dismiss.seq")? }))
}

fn watch<'a>(reader: &mut Reader<'a>) -> Result<Verb<'a>, Fault> {
    let (mut session, mut on, mut seq) = (None, None, None);
    reader.object("watch", |reader, key| match key {
        "session" => once(&mut session, "watch.session", session_id(reader, "watch.session")?),
        "on" => once(&mut on, "watch.on", reader.bool("watch.on")?),
        "seq" => once(&mut seq, "watch.seq", reader.u64("watch.seq")?),
        _ => Ok(false),
    })?;
    Ok(Verb::Watch(Watch { session: need(session, "watch.session")?, on: on.unwrap_or(true), seq }))
}

fn facts<'a>(reader: &mut Reader<'a>) -> Result<BTreeMap<Cow<'a, str>, Cow<'a, str>>, Fault> {
    let mut facts = BTreeMap::new();
    reader.object("about.facts", |reader, key| {
        if facts.len() == FACTS_MAX {
            return Err(Fault::bad("about.facts: has more than 32 entries"));
        }
        if key.is_empty() || key.len() > FACT_NAME_BYTES_MAX || has_control(key) {
            return Err(Fault::bad("about.facts: a name must have 1 to 64 bytes and no control characters"));
        }
        let value = reader.string("about.facts")?;
        if value.len() > FACT_BYTES_MAX || has_control(&value) {
            return Err(Fault::bad("about.facts: a value must have at most 1024 bytes and no control characters"));
        }
        if facts.insert(Cow::Owned(key.to_owned()), value).is_some() {
            return Err(Fault::bad("about.facts: a name is given twice"));
        }
        Ok(true)
    })?;
    Ok(facts)
}

fn session_seqs(reader: &mut Reader<'_>, field: &'static str, items_max: usize) -> Result<Vec<SessionSeq>, Fault> {
    let mut list = Vec::new();
    reader.array(field, |reader| {
        if list.len() == items_max {
            return Err(Fault::bad(format!("{field}: has more than {items_max} entries")));
        }
        let (mut session, mut seq, mut watch) = (None, None, None);
        reader.object(field, |reader, key| match key {
            "session" => once(&mut session, field, session_id(reader, field)?),
            "seq" => once(&mut seq, field, reader.u64(field)?),
            "watch" => once(&mut watch, field, reader.bool(field)?),
            _ => Ok(false),
        })?;
        let watch = watch.unwrap_or(false);
        list.push(SessionSeq { session: need(session, field)?, seq: need(seq, field)?, watch });
        Ok(())
    })?;
    Ok(list)
}

pub(super) fn session_id(reader: &mut Reader<'_>, field: &'static str) -> Result<SessionId, Fault> {
    reader.parsed(field, "a session id of 32 lower-case hex digits")
}

pub(super) fn once<T>(slot: &mut Option<T>, field: &'static str, value: T) -> Result<bool, Fault> {
    if slot.replace(value).is_some() { Err(Fault::bad(format!("{field}: given twice"))) } else { Ok(true) }
}

pub(super) fn need<T>(slot: Option<T>, field: &'static str) -> Result<T, Fault> {
    slot.ok_or_else(|| Fault::bad(format!("{field}: missing")))
}

pub(super) fn has_control(text: &str) -> bool {
    text.bytes().any(|byte| byte < 0x20 || byte == 0x7f)
}

fn unknown_verb(key: &str) -> Fault {
    let shown: String = key.chars().take(32).collect();
    Fault { code: ErrorCode::UnknownVerb, message: Cow::Owned(format!("unknown verb {shown:?}")) }
}

/// Second look at a refused frame, off the hot path: the answer should reach the request that caused it.
fn find_id(text: &str) -> Option<u64> {
    let mut id = None;
    let mut reader = Reader::new(text);
    // The fault that was already reported ends this walk too; what was found before it counts.
    let _ = reader.object("frame", |reader, key| {
        if key == "id" && id.is_none() {
            id = Some(reader.u64("id")?);
            return Ok(true);
        }
        Ok(false)
    });
    id
}
