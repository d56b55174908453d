//! Owns what one socket is and waits for: who it is, its sessions, its sends, its frames. Does not do I/O.
//! Invariant: everything that changes it happens under one short lock; the actor is woken after.

use super::outbox::{Frames, Item, Pumped, Subscription, WAITING_BYTES_MAX};
use super::shown::{client_event, client_party};
use super::visited::Visited;
use crate::geo::Place;
use crate::push::Hub;
use crate::trace::Step;
use crate::triggers::Told;
use cluster::router::ReplySink;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use proto::client::encode::{encode_ack, encode_event};
use proto::client::limits::FRAME_BYTES_MAX;
use proto::client::{Ack, CloseCode, Content, CursorState, ErrorCode, ErrorInfo, Reply, ServerFrame, TypingNotice};
use proto::command::{EventBody, Party, TokenHash};
use proto::failpoints::FailPoint;
use proto::ids::{AgentId, SessionId, SiteId, VisitorId};
use proto::peer::{Refused, ShardReply};
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

/// Requests of one socket that may be under way; over it the answer is `overloaded`.
pub const REQUESTS_MAX: usize = 256;

/// Who said hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Visitor { session: SessionId, visitor: VisitorId, site: SiteId, is_identified: bool, token: TokenHash },
    Agent { agent: AgentId, site: SiteId },
}

impl Who {
    pub fn party(self) -> Party {
        match self {
            Who::Visitor { .. } => Party::Visitor,
            Who::Agent { agent, .. } => Party::Agent(agent),
        }
    }
}

/// A send that waits for its ack.
pub struct Sent {
    pub id: u64,
    pub session: SessionId,
    pub cid: String,
    pub content: Content<'static>,
    pub started: Instant,
}

impl Sent {
    /// What became of it, for who learns of it from here. Its number is the leader's to know, and so is what it says of files: a message
    /// that has any is none of this.
    fn into_body(self, from: Party, device: String) -> Option<EventBody> {
        let cid = self.cid;
        match self.content {
            Content::Text { text, reply_to, attachments } if attachments.is_empty() => Some(EventBody::Message {
                from,
                device,
                n: 0,
                cid,
                text: text.into_owned(),
                reply_to,
                attachments: Vec::new(),
            }),
            Content::Text { .. } => None,
            Content::Act(act) => Some(EventBody::Act { from, device, n: 0, cid, act }),
        }
    }
}

#[derive(Default)]
pub struct State {
    pub who: Option<Who>,
    pub hello_said: bool,
    /// The welcome is queued: events and new subscriptions may follow.
    pub welcomed: bool,
    /// Listed in the hub as this agent's.
    pub listed: Option<AgentId>,
    pub device: String,
    pub sessions: Vec<Subscription>,
    pub frames: Frames,
    pub close: Option<CloseCode>,
    pub closed: bool,
    /// It was told so.
    too_slow: bool,
    pub faults_in_a_row: u32,
    sends: HashMap<u64, Sent>,
    next_key: u64,
    /// Requests other than sends that are under way.
    pub asking: usize,
    /// Where the visitor is, as the page says.
    pub visit: Option<Box<Visited>>,
    pub triggers: Told,
    /// The hub looks after the visitor's place in the queue.
    pub place_watched: bool,
}

/// Shared by its actor, the hub and answers under way.
pub struct Socket {
    pub hub: Arc<Hub>,
    /// Of this process, from 1.
    pub number: u64,
    pub since: SystemTime,
    pub address: Option<IpAddr>,
    /// What the client says it is; cut.
    pub user_agent: Option<Box<str>>,
    pub place: Place,
    pub waker: AtomicWaker,
    state: Mutex<State>,
    me: Weak<Socket>,
}

impl Socket {
    pub fn new(hub: Arc<Hub>, address: Option<IpAddr>, user_agent: Option<Box<str>>, place: Place) -> Arc<Self> {
        let (number, since, waker) = (hub.next_socket(), SystemTime::now(), AtomicWaker::new());
        Arc::new_cyclic(|me| Socket {
            hub,
            number,
            since,
            address,
            user_agent,
            place,
            waker,
            state: Mutex::default(),
            me: me.clone(),
        })
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock())
    }

    pub fn arc(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// Queues one frame.
    pub fn write(&self, frame: &ServerFrame<'_>) {
        if let Reply::Error(error) = &frame.body {
            metrics::counter!("chat_errors_sent_total", "code" => error.code.as_str()).increment(1);
        }
        let text = frame.to_json();
        let fits = self.with(|state| state.write(text));
        self.written(fits);
    }

    /// Acts on whether a frame fitted, and wakes the actor.
    pub fn written(&self, fits: bool) {
        if !fits {
            self.too_slow();
        }
        self.waker.wake();
    }

    /// Tells the socket once that it does not read, and closes it.
    fn too_slow(&self) {
        if self.with(|state| std::mem::replace(&mut state.too_slow, true)) {
            return;
        }
        metrics::counter!("chat_connections_dropped_total").increment(1);
        self.error(None, ErrorInfo::new(ErrorCode::TooSlow, "the socket does not read what is pushed"));
        // Its actor learns of that when the client reads again. Whoever writes may hold the hub's lock.
        if let Some(me) = self.arc() {
            self.hub.spawn(async move { me.hub.forget(&me) });
        }
    }

    /// Tells a party's cursors in a session, unless as much was told before.
    pub fn tell_cursor(&self, session: SessionId, party: Party, received: u64, read: u64) {
        let is_news = |sub: &mut Subscription| sub.rises(party, received, read);
        self.tell_other(session, party, is_news, |from| Reply::Cursor(CursorState { session, from, received, read }));
    }

    /// Tells that a party types; what, to agents only.
    pub fn tell_typing(&self, session: SessionId, party: Party, on: bool, draft: &str) {
        let is_agent = matches!(self.with(|state| state.who), Some(Who::Agent { .. }));
        let draft = (is_agent && !draft.is_empty()).then(|| draft.to_owned());
        self.tell_other(session, party, |_| true, |from| Reply::Typing(TypingNotice { session, from, on, draft }));
    }

    /// Writes an unnumbered frame of a session that has been caught up with, unless the party is the socket's own.
    pub fn tell_other(
        &self,
        session: SessionId,
        party: Party,
        is_news: impl FnOnce(&mut Subscription) -> bool,
        frame: impl FnOnce(proto::client::Party) -> Reply<'static>,
    ) {
        let told = self.with(|state| {
            if state.who.is_none_or(|who| who.party() == party) {
                return None;
            }
            let sub = state.subscription(session).filter(|sub| sub.cursor.is_some())?;
            let visitor = sub.visitor.filter(|_| is_news(sub))?;
            let body = frame(client_party(party, visitor));
            // Under the same lock: another thread's newer one must not come first.
            Some(state.write(ServerFrame { id: None, body }.to_json()))
        });
        told.into_iter().for_each(|fits| self.written(fits));
    }

    pub fn error(&self, id: Option<u64>, error: ErrorInfo<'static>) {
        let code = error.code;
        self.write(&ServerFrame { id, body: Reply::Error(error) });
        if let Some(close) = code.close_code() {
            self.close(close);
        }
    }

    pub fn frame_too_large(&self) {
        let message = format!("the frame is larger than {FRAME_BYTES_MAX} bytes");
        self.error(None, ErrorInfo::new(ErrorCode::FrameTooLarge, message));
    }

    /// Closes after what is queued was written.
    pub fn close(&self, code: CloseCode) {
        self.with(|state| {
            state.close.get_or_insert(code);
        });
        self.waker.wake();
    }

    /// Registers a send; `None`: too many are under way.
    pub fn start_send(&self, sent: Sent) -> Option<u64> {
        self.with(|state| {
            if state.sends.len() + state.asking >= REQUESTS_MAX {
                return None;
            }
            let key = state.next_key;
            state.next_key += 1;
            state.sends.insert(key, sent);
            Some(key)
        })
    }

    /// Takes an event of a session; returns what must follow.
    pub fn deliver(&self, session: SessionId, event: &proto::command::Event) {
        let pumped = self.with(|state| {
            let own = state.own_send(session, &event.body);
            let who = state.who;
            let index = state.sessions.iter().position(|sub| sub.session == session)?;
            let sub = &mut state.sessions[index];
            let Some(visitor) = sub.visitor else {
                // The attach is under way; what it does not bring, the history will: the head says so.
                sub.head = sub.head.max(event.seq);
                return None;
            };
            if let Some(who) = who {
                self.hub.trace.note(session, event.seq, Step::Delivered { to: who.party() });
            }
            let ends = !sub.watching && ends_for(who, &event.body);
            sub.heard(event.seq, &event.body);
            let mut frame = Vec::with_capacity(256);
            let for_agents = matches!(who, Some(Who::Agent { .. }));
            encode_event(&client_event(session, visitor, event, for_agents), &mut frame);
            let frame = String::from_utf8(frame).expect("our JSON is UTF-8");
            Some(state.put(index, event.seq, Item::Event { frame, own, ends }))
        });
        self.after(session, pumped.unwrap_or_default());
        self.hub.watch_place(self, session);
    }

    /// Acts on what writing led to, and wakes the actor.
    pub fn after(&self, session: SessionId, pumped: Pumped) {
        if pumped.overflow {
            return self.too_slow();
        }
        self.waker.wake();
        if pumped.ended {
            self.hub.ended(self, session);
            // The list that names the next conversation of this session may have come before this one's end.
            if let (Some(me), Some(Who::Agent { agent, .. })) = (self.arc(), self.with(|state| state.who)) {
                me.hub.follow_open(&me, agent);
            }
        } else if pumped.gap
            && let Some(me) = self.arc()
        {
            self.hub.repair(me, session);
        }
    }

    fn acked(&self, key: u64, seq: u64, ts: u64, dup: bool) {
        FailPoint::BeforeAck.pass();
        // The send goes and its ack comes at once: in between it would not count as the socket's own.
        let acked = self.with(|state| {
            let sent = state.sends.remove(&key)?;
            let mut frame = Vec::with_capacity(192);
            let ack = Ack { session: sent.session, cid: Cow::Borrowed(&sent.cid), seq, ts, dup };
            encode_ack(sent.id, &ack, &mut frame);
            let frame = String::from_utf8(frame).expect("our JSON is UTF-8");
            let author = state.who.map(|who| (who.party(), state.device.clone()));
            let index = state.sessions.iter().position(|sub| sub.session == sent.session);
            let pumped = match index {
                Some(index) => {
                    match &sent.content {
                        Content::Text { .. } => state.sessions[index].heard_own(seq),
                        // What it changes, its own event or the next one tells.
                        Content::Act(_) => {}
                    }
                    state.put(index, seq, Item::Ack { frame, again: Vec::new() })
                }
                // Not subscribed any more: the ack is only an answer.
                None => Pumped { overflow: !state.frames.push(frame), ..Pumped::default() },
            };
            Some((sent, pumped, author))
        });
        let Some((sent, pumped, author)) = acked else { return };
        let session = sent.session;
        self.after(session, pumped);
        self.hub.watch_place(self, session);
        FailPoint::AfterAck.pass();
        let took = sent.started.elapsed();
        self.hub.metrics.process.record(took.as_secs_f64());
        self.hub.trace.note_past(session, seq, took, Step::Accepted);
        self.hub.trace.note(session, seq, Step::Acked);
        let body = author.filter(|_| !dup).and_then(|(from, device)| sent.into_body(from, device));
        match body {
            // The leader left this node out: its other sockets learn of the message from here.
            Some(body) => self.hub.deliver_from(self, session, &proto::command::Event { seq, ts_ms: ts, body }),
            // The first answer may have been lost, and with it the others' copy; or only the history knows all of it.
            None => self.hub.heard_of(self, session, seq),
        }
    }
}

impl ReplySink for Socket {
    fn reply(&self, key: u64, reply: ShardReply) {
        match reply {
            ShardReply::Sent { seq, ts_ms, dup } => self.acked(key, seq, ts_ms, dup),
            other => {
                let Some(sent) = self.with(|state| state.sends.remove(&key)) else { return };
                let session = sent.session;
                self.error(Some(sent.id), error_of(&other));
                // An event that waited for this ack is now the copy.
                let pumped = self.with(|state| state.pump(session));
                self.after(session, pumped);
            }
        }
    }
}

impl State {
    /// Requests that have no answer yet.
    pub fn under_way(&self) -> usize {
        self.sends.len() + self.asking
    }

    /// False: the socket reads too slowly; see [`Socket::written`].
    #[must_use]
    pub fn write(&mut self, frame: String) -> bool {
        // A socket over its limit is closed; one frame more tells it why, and then nothing is queued for it.
        let is_over = self.frames.bytes() > WAITING_BYTES_MAX;
        is_over && self.close.is_some() || self.frames.push(frame)
    }

    pub fn subscription(&mut self, session: SessionId) -> Option<&mut Subscription> {
        self.sessions.iter_mut().find(|sub| sub.session == session)
    }

    /// Whether the session's conversation waits for an agent, as far as this socket has heard.
    pub fn waits(&self, session: SessionId) -> bool {
        self.sessions.iter().any(|sub| sub.session == session && sub.waits())
    }

    fn put(&mut self, index: usize, seq: u64, item: Item) -> Pumped {
        let State { sessions, frames, sends, .. } = self;
        let sub = &mut sessions[index];
        let fits = sub.put(seq, item, frames);
        let pumped = sub.pump(frames, |key| sends.contains_key(&key));
        if pumped.ended {
            // Under this lock: an event that comes a moment later must find no subscription, or the one that follows.
            sessions.remove(index);
        }
        Pumped { overflow: pumped.overflow || !fits, ..pumped }
    }

    pub fn pump(&mut self, session: SessionId) -> Pumped {
        let State { sessions, frames, sends, .. } = self;
        let Some(index) = sessions.iter().position(|sub| sub.session == session) else { return Pumped::default() };
        let pumped = sessions[index].pump(frames, |key| sends.contains_key(&key));
        if pumped.ended {
            sessions.remove(index);
        }
        pumped
    }

    /// The last seq of a session that its client can be said to know of: what was written, and the first of its own sends under
    /// way, which may open a conversation. All, as long as nothing was written.
    pub fn known(&self, session: SessionId) -> u64 {
        let Some(sub) = self.sessions.iter().find(|sub| sub.session == session) else { return u64::MAX };
        let own = sub.holds_ack() || self.sends.values().any(|sent| sent.session == session);
        sub.cursor.map_or(u64::MAX, |told| told + u64::from(own))
    }

    /// The send of this socket that the event is of, while its ack is under way.
    fn own_send(&self, session: SessionId, body: &EventBody) -> Option<u64> {
        let (from, device, cid) = body.sent_by()?;
        if self.sends.is_empty() || Some(from) != self.who.map(Who::party) || device != self.device {
            return None;
        }
        self.sends.iter().find(|(_, sent)| sent.session == session && sent.cid == cid).map(|(key, _)| *key)
    }
}

/// An agent's subscription ends with the conversation, or when it goes to somebody else or back to the queue.
fn ends_for(who: Option<Who>, body: &EventBody) -> bool {
    match (who, body) {
        (Some(Who::Agent { .. }), EventBody::Closed { .. } | EventBody::Queued { .. }) => true,
        (Some(Who::Agent { agent: me, .. }), EventBody::Assigned { agent, .. }) => *agent != me,
        _ => false,
    }
}

/// The error frame for an answer that is no success.
pub fn error_of(reply: &ShardReply) -> ErrorInfo<'static> {
    use ErrorCode as C;
    match reply {
        ShardReply::Refused(refused) => match refused {
            Refused::UnknownSession => ErrorInfo::new(C::NotFound, "no such session"),
            Refused::UnknownAgent | Refused::BadToken => ErrorInfo::new(C::Unauthorized, "the token is not valid"),
            Refused::NotYours => ErrorInfo::new(C::Forbidden, "this session is not yours"),
            Refused::ConversationClosed => ErrorInfo::new(C::Closed, "the conversation is closed"),
            Refused::CidGap { expected } => ErrorInfo::cid_gap(*expected),
            Refused::TextTooLarge => ErrorInfo::new(C::TooLarge, "send.text: is larger than 16384 bytes"),
            Refused::TextEmpty => ErrorInfo::new(C::BadRequest, "send.text: is empty"),
            Refused::CidInvalid => {
                ErrorInfo::new(C::BadCid, "send.cid: must have 1 to 64 bytes and no control characters")
            }
            Refused::DeviceInvalid => ErrorInfo::new(C::BadRequest, "hello.device: not valid"),
            Refused::LimitReached => ErrorInfo::new(C::RateLimited, "a limit of this session or seat is reached"),
            Refused::Changed => ErrorInfo::new(C::Closed, "the conversation has changed meanwhile"),
            Refused::OfferGone => ErrorInfo::new(C::Closed, "this is not to be had any more"),
            Refused::SeatFull => ErrorInfo::new(C::Closed, "the seat has as many conversations as it may"),
            Refused::NotThere => ErrorInfo::new(C::Closed, "that agent is not there"),
            Refused::TargetInvalid => ErrorInfo::new(C::BadRequest, "there is no such message of yours to do that to"),
            Refused::TooLate => ErrorInfo::new(C::Closed, "the time for that is over"),
            Refused::ActInvalid => ErrorInfo::new(C::BadRequest, "a part of it is empty, too long or out of range"),
            Refused::Blocked => ErrorInfo::new(C::Forbidden, "this is not taken"),
            Refused::AttachmentInvalid => {
                ErrorInfo::new(C::BadRequest, "send.attachments: one is unknown, unfinished, not yours or sent before")
            }
            Refused::DayFull | Refused::SiteFull => ErrorInfo::new(C::RateLimited, "no more files may be uploaded now"),
            Refused::Talking => ErrorInfo::new(C::Closed, "somebody talks with the visitor"),
            Refused::Invited => ErrorInfo::new(C::Closed, "the visitor is invited"),
            Refused::TooOften => ErrorInfo::new(C::Closed, "not so soon after the last one"),
            Refused::ArchiveAway => ErrorInfo::retry(C::Unavailable, crate::archive::AWAY, Duration::from_secs(5)),
            Refused::RulesInvalid => ErrorInfo::new(C::BadRequest, "these rules cannot be set"),
            Refused::InboxGap { .. } => ErrorInfo::new(C::Internal, "a fault of the node"),
        },
        ShardReply::Overloaded { retry_after_ms } => {
            ErrorInfo::retry(C::Overloaded, "the node is full", Duration::from_millis(u64::from(*retry_after_ms)))
        }
        ShardReply::NotLeader { .. } | ShardReply::Unknown => {
            ErrorInfo::retry(C::Unavailable, "the shard has no leader just now", Duration::from_millis(100))
        }
        _ => ErrorInfo::new(C::Internal, "a fault of the node"),
    }
}
