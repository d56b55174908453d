//! Owns the messages that are not acked yet: their order, numbers, attempts and retries. Does not know sockets or clocks beyond `Instant`.
//! Invariant: messages of a session leave in order under one cid each; a message goes only by an ack or a final refusal.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use proto::client::{Ack, Content, ErrorCode, ErrorInfo};
use proto::ids::SessionId;
use tokio::sync::oneshot;

use super::cursors::Violation;
use super::handle::ClientError;

/// Unacked sends per session on one socket.
const UNACKED_PER_SESSION_MAX: usize = 64;
/// The pause before a refused send goes out again when the node names none; doubles up to `PAUSE_MAX`.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);

pub(super) type AckReply = oneshot::Sender<Result<Ack<'static>, ClientError>>;

pub(super) struct Outbox {
    numbered: bool,
    lanes: BTreeMap<SessionId, Lane>,
    /// Attempts on the current socket: frame id -> message.
    attempts: HashMap<u64, Attempt>,
    /// Where messages with further attempts under way were acked.
    settled: HashMap<u64, Settled>,
    key_next: u64,
    len: usize,
}

#[derive(Default)]
struct Lane {
    queue: VecDeque<Entry>,
    /// So many of the queue's front are under way.
    sent: usize,
    n_last: u64,
    strikes: u32,
    not_before: Option<Instant>,
}

struct Entry {
    key: u64,
    cid: String,
    content: Content<'static>,
    n: u64,
    /// The attempt whose refusal counts.
    frame: Option<u64>,
    attempts: u32,
    reply: AckReply,
}

struct Attempt {
    session: SessionId,
    key: u64,
}

struct Settled {
    seq: u64,
    attempts: u32,
}

/// One attempt to write.
pub(super) struct Outgoing<'a> {
    pub session: SessionId,
    pub cid: &'a str,
    pub content: &'a Content<'static>,
    pub n: Option<u64>,
}

/// What an ack settled.
pub(super) struct Acked {
    pub cid: String,
    pub content: Content<'static>,
    pub reply: AckReply,
}

impl Outbox {
    pub fn new(numbered: bool) -> Self {
        Outbox {
            numbered,
            lanes: BTreeMap::new(),
            attempts: HashMap::new(),
            settled: HashMap::new(),
            key_next: 0,
            len: 0,
        }
    }

    pub fn start_after(&mut self, session: SessionId, n_last: u64) {
        self.lanes.entry(session).or_default().n_last = n_last;
    }

    pub fn push(&mut self, session: SessionId, cid: String, content: Content<'static>, reply: AckReply) {
        let key = self.key_next;
        self.key_next += 1;
        self.len += 1;
        let lane = self.lanes.entry(session).or_default();
        lane.n_last += 1;
        lane.queue.push_back(Entry { key, cid, content, n: lane.n_last, frame: None, attempts: 0, reply });
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether a message of the session is not acked yet.
    pub fn has_any(&self, session: SessionId) -> bool {
        self.lanes.get(&session).is_some_and(|lane| !lane.queue.is_empty())
    }

    pub fn awaits_answers(&self) -> bool {
        !self.attempts.is_empty()
    }

    /// Calls `write` for every message that may leave now, in order; `write` returns the frame ids it used, the deciding one first.
    pub fn send_ready(&mut self, now: Instant, mut write: impl FnMut(Outgoing<'_>) -> Vec<u64>) {
        for (&session, lane) in &mut self.lanes {
            if lane.not_before.is_some_and(|at| at > now) {
                continue;
            }
            lane.not_before = None;
            // After a refusal one send feels the way; its ack opens the window again.
            let window = if self.numbered && lane.strikes == 0 { UNACKED_PER_SESSION_MAX } else { 1 };
            while lane.sent < window.min(lane.queue.len()) {
                let entry = &mut lane.queue[lane.sent];
                let n = self.numbered.then_some(entry.n);
                let frames = write(Outgoing { session, cid: &entry.cid, content: &entry.content, n });
                entry.frame = frames.first().copied();
                entry.attempts += u32::try_from(frames.len()).unwrap_or(u32::MAX);
                for frame in frames {
                    self.attempts.insert(frame, Attempt { session, key: entry.key });
                }
                lane.sent += 1;
            }
        }
    }

    /// The next time at which a refused message may leave.
    pub fn next_due(&self) -> Option<Instant> {
        self.lanes.values().filter_map(|lane| lane.not_before).min()
    }

    /// Takes an ack in. `Ok(None)`: it answers a further attempt of something settled.
    pub fn on_ack(&mut self, frame: u64, ack: &Ack<'_>) -> Result<Option<Acked>, Violation> {
        let session = ack.session;
        let Some(attempt) = self.attempts.remove(&frame) else { return Ok(None) };
        let lane = self.lanes.entry(attempt.session).or_default();
        let Some(at) = lane.queue.iter().position(|entry| entry.key == attempt.key) else {
            return self.check_settled(attempt.key, session, ack.seq).map_or(Ok(None), Err);
        };
        if lane.queue[at].cid != ack.cid || attempt.session != session {
            let sent = lane.queue[at].cid.clone();
            return Err(Violation::ForeignAck { session, sent, got: ack.cid.clone().into_owned() });
        }
        lane.strikes = 0;
        lane.sent -= usize::from(at < lane.sent);
        let Some(entry) = lane.queue.remove(at) else { return Ok(None) };
        self.len -= 1;
        if entry.attempts > 1 {
            self.settled.insert(entry.key, Settled { seq: ack.seq, attempts: entry.attempts - 1 });
        }
        Ok(Some(Acked { cid: entry.cid, content: entry.content, reply: entry.reply }))
    }

    /// Takes in our own message as an event, as it comes after a resume: as good as the ack that was lost.
    pub fn on_own_event(&mut self, session: SessionId, cid: &str, seq: u64) -> Option<Acked> {
        let lane = self.lanes.get_mut(&session)?;
        let at = lane.queue.iter().position(|entry| entry.cid == cid)?;
        lane.strikes = 0;
        lane.sent -= usize::from(at < lane.sent);
        let entry = lane.queue.remove(at)?;
        self.len -= 1;
        if entry.attempts > 0 {
            self.settled.insert(entry.key, Settled { seq, attempts: entry.attempts });
        }
        Some(Acked { cid: entry.cid, content: entry.content, reply: entry.reply })
    }

    /// Takes a refusal in; a final one answers the caller, any other makes the lane go back and send again in order.
    /// Returns false when the frame was no send of ours.
    pub fn on_refusal(&mut self, frame: u64, error: &ErrorInfo<'static>, now: Instant) -> bool {
        let Some(attempt) = self.attempts.remove(&frame) else { return false };
        let lane = self.lanes.entry(attempt.session).or_default();
        let Some(at) = lane.queue.iter().position(|entry| entry.key == attempt.key) else {
            self.drop_settled(attempt.key);
            return true;
        };
        lane.queue[at].attempts -= 1;
        if lane.queue[at].frame != Some(frame) {
            return true; // An older or a second attempt: the deciding one is still under way.
        }
        if !error.code.retryable() {
            lane.sent -= usize::from(at < lane.sent);
            if let Some(entry) = lane.queue.remove(at) {
                self.len -= 1;
                let _ = entry.reply.send(Err(ClientError::Refused(error.clone())));
            }
            return true;
        }
        lane.go_back(at, error, now);
        true
    }

    /// Forgets the attempts of a dead socket: everything leaves again.
    pub fn on_disconnect(&mut self) {
        self.attempts.clear();
        self.settled.clear();
        for lane in self.lanes.values_mut() {
            lane.sent = 0;
            lane.strikes = 0;
            lane.not_before = None;
            for entry in &mut lane.queue {
                entry.frame = None;
                entry.attempts = 0;
            }
        }
    }

    fn check_settled(&mut self, key: u64, session: SessionId, second: u64) -> Option<Violation> {
        let first = self.settled.get(&key)?.seq;
        self.drop_settled(key);
        (first != second).then_some(Violation::TwoSeqs { session, first, second })
    }

    fn drop_settled(&mut self, key: u64) {
        if let Some(settled) = self.settled.get_mut(&key) {
            settled.attempts -= 1;
            if settled.attempts == 0 {
                self.settled.remove(&key);
            }
        }
    }
}

impl Lane {
    /// Marks the messages from `at` on as not sent, so that order survives the refusal of one.
    fn go_back(&mut self, at: usize, error: &ErrorInfo<'_>, now: Instant) {
        let is_gap = error.code == ErrorCode::CidGap;
        // A gap says where the node stands: below our front when a number was given up by a final refusal.
        let from = if is_gap { 0 } else { at };
        self.sent = self.sent.min(from);
        for entry in self.queue.iter_mut().skip(from) {
            entry.frame = None;
        }
        if let (true, Some(expected), Some(front)) = (is_gap, error.expected_n, self.queue.front())
            && expected < front.n
        {
            for (entry, n) in self.queue.iter_mut().zip(expected..) {
                entry.n = n;
                self.n_last = n;
            }
        }
        let pause = PAUSE_MIN.saturating_mul(1 << self.strikes.min(8)).min(PAUSE_MAX);
        self.strikes += 1;
        self.not_before = Some(now + error.retry_after_ms.map_or(pause, super::asked_wait));
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
