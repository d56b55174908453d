//! Owns the frames that wait for one socket and the order in which a session's events reach it. Does not do I/O.
//! Invariant: `cursor` moves by one with every event or own ack that is written, and never back.

use proto::act::Act;
use proto::command::{EventBody, Party};
use proto::ids::{AgentId, SessionId, VisitorId};
use proto::mutants::Mutant;
use std::collections::{BTreeMap, VecDeque};

/// Bytes that may wait for one socket; over it the socket is closed and the client resumes by cursor.
pub const WAITING_BYTES_MAX: usize = 1 << 20;
/// Events of one session, and their bytes, that may wait for a gap to close; more are dropped and read again later.
const REORDER_MAX: usize = 1_024;
const REORDER_BYTES_MAX: usize = 256 << 10;

/// Frames for one socket, oldest first.
#[derive(Default)]
pub struct Frames {
    waiting: VecDeque<String>,
    bytes: usize,
}

impl Frames {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops everything: nobody reads it.
    pub fn clear(&mut self) {
        *self = Frames::default();
    }

    /// False: the socket reads too slowly.
    pub fn push(&mut self, frame: String) -> bool {
        self.bytes += frame.len();
        self.waiting.push_back(frame);
        self.bytes <= WAITING_BYTES_MAX
    }

    pub fn pop(&mut self) -> Option<String> {
        let frame = self.waiting.pop_front()?;
        self.bytes -= frame.len();
        if self.waiting.is_empty() && self.waiting.capacity() > 64 {
            // An idle socket should not keep what a busy moment needed.
            self.waiting = VecDeque::new();
        }
        Some(frame)
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// What waits for its turn in a session.
pub enum Item {
    /// `own`: the key of the send that this is the event of, while that send waits for its ack.
    Event { frame: String, own: Option<u64>, ends: bool },
    /// `again`: answers to the same send made again, which must not overtake the first.
    Ack { frame: String, again: Vec<String> },
}

impl Item {
    /// What an event that waits costs; an ack is bounded by the requests under way.
    fn bytes(&self) -> usize {
        match self {
            Item::Event { frame, .. } => frame.len(),
            Item::Ack { .. } => 0,
        }
    }
}

/// What writing in order led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pumped {
    /// Something is missing: read the history from the cursor.
    pub gap: bool,
    /// The subscription ended with an event that was written.
    pub ended: bool,
    pub overflow: bool,
}

/// One session on one socket.
pub struct Subscription {
    pub session: SessionId,
    /// `None` until the leader has said whose session it is: no event can be shown before.
    pub visitor: Option<VisitorId>,
    /// Everything up to here was written; `None` until the session is attached.
    pub cursor: Option<u64>,
    /// Newest seq that this node has heard of.
    pub head: u64,
    /// A look into the history is under way.
    pub repairing: bool,
    /// By a supervisor: it does not end with the conversation.
    pub watching: bool,
    /// Who has the conversation, as far as this socket has heard.
    pub agent: Option<AgentId>,
    waiting: BTreeMap<u64, Item>,
    /// Of the events in `waiting`.
    waiting_bytes: usize,
    /// Where the cursor will start once the welcome is written.
    start: Option<u64>,
    /// What was told of the visitor's cursors (received, read), and of the agents'.
    told: [(u64, u64); 2],
    stands: Stands,
    /// The event that says so.
    stands_at: u64,
}

/// The place in the queue, whether a time to wait was told with it, and when the site opens, if it is closed.
pub type Told = (u64, bool, Option<u64>);

/// What a session's conversation waits for, as far as this socket has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Closed,
    /// For an agent. `told`: what was said of that last.
    Waits {
        told: Option<Told>,
    },
    Assigned,
}

impl Subscription {
    pub fn new(session: SessionId, watching: bool) -> Self {
        Subscription {
            session,
            visitor: None,
            cursor: None,
            head: 0,
            repairing: false,
            watching,
            agent: None,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            start: None,
            told: [(0, 0); 2],
            stands: Stands::Closed,
            stands_at: 0,
        }
    }

    /// What the leader says of the session.
    pub fn begins(&mut self, head: u64, open_from: u64, agent: Option<AgentId>) {
        let stands = match agent {
            _ if open_from > head => Stands::Closed,
            Some(_) => Stands::Assigned,
            None => Stands::Waits { told: None },
        };
        if head >= self.stands_at {
            self.agent = agent;
        }
        self.stands_as(head, stands);
    }

    /// An event of the session was heard of.
    pub fn heard(&mut self, seq: u64, body: &EventBody) {
        if seq > self.stands_at {
            match body {
                EventBody::Assigned { agent, .. } => self.agent = Some(*agent),
                EventBody::Closed { .. } | EventBody::Queued { .. } => self.agent = None,
                EventBody::Message { .. } | EventBody::Act { .. } | EventBody::Gone | EventBody::Erased { .. } => {}
            }
        }
        match body {
            EventBody::Message { .. } => self.heard_own(seq),
            EventBody::Act { act: Act::Reopen { .. }, .. } => self.stands_as(seq, Stands::Waits { told: None }),
            EventBody::Act { .. } | EventBody::Gone | EventBody::Erased { .. } => {}
            EventBody::Assigned { .. } => self.stands_as(seq, Stands::Assigned),
            EventBody::Closed { .. } => self.stands_as(seq, Stands::Closed),
            EventBody::Queued { .. } => self.stands_as(seq, Stands::Waits { told: None }),
        }
    }

    /// A message of the session was heard of: it opened a conversation if none was open.
    pub fn heard_own(&mut self, seq: u64) {
        let stands = if self.stands == Stands::Closed { Stands::Waits { told: None } } else { self.stands };
        self.stands_as(seq, stands);
    }

    fn stands_as(&mut self, seq: u64, stands: Stands) {
        if seq > self.stands_at {
            (self.stands_at, self.stands) = (seq, stands);
        }
    }

    pub fn waits(&self) -> bool {
        matches!(self.stands, Stands::Waits { .. })
    }

    /// Whether a place in the queue is news to a visitor who waits.
    pub fn moves_to(&mut self, place: Told) -> bool {
        let Stands::Waits { told } = &mut self.stands else { return false };
        told.replace(place) != Some(place)
    }

    /// Whether a party's cursors are news: they only rise, and what a deposed leader said may come late.
    pub fn rises(&mut self, party: Party, received: u64, read: u64) -> bool {
        let told = &mut self.told[usize::from(party != Party::Visitor)];
        let before = *told;
        *told = (before.0.max(received), before.1.max(read));
        *told != before || Mutant::StaleLeaderPushes.is_on()
    }

    /// Whether an ack waits here for what comes before it.
    pub fn holds_ack(&self) -> bool {
        self.waiting.values().any(|item| matches!(item, Item::Ack { .. }))
    }

    /// The leader said where the socket stands; nothing is written before [`Subscription::settle`].
    pub fn start_after(&mut self, seq: u64) {
        self.start = Some(seq);
    }

    /// The welcome is written: events may follow.
    pub fn settle(&mut self) {
        if self.cursor.is_none() {
            self.cursor = self.start;
        }
    }

    /// Takes an event or ack of `seq`. An old event is dropped; an old ack is an answer and is written at once.
    pub fn put(&mut self, seq: u64, item: Item, frames: &mut Frames) -> bool {
        self.head = self.head.max(seq);
        if self.cursor.is_some_and(|cursor| seq <= cursor) {
            return match item {
                Item::Ack { frame, .. } => frames.push(frame),
                Item::Event { frame, .. } if Mutant::StaleLeaderPushes.is_on() => frames.push(frame),
                Item::Event { .. } => true,
            };
        }
        let is_ack = matches!(item, Item::Ack { .. });
        // The one that everything else waits for always has room.
        let is_next = self.cursor.or(self.start).is_some_and(|cursor| seq == cursor + 1);
        let is_full = self.waiting.len() >= REORDER_MAX || self.waiting_bytes >= REORDER_BYTES_MAX;
        if is_full && !is_ack && !is_next {
            return true;
        }
        self.waiting_bytes += item.bytes();
        match (self.waiting.remove(&seq), item) {
            // The first ack is the copy; another answer to the same send follows it.
            (Some(Item::Ack { frame: first, mut again }), Item::Ack { frame, .. }) => {
                again.push(frame);
                self.waiting.insert(seq, Item::Ack { frame: first, again });
            }
            // What is there stays: an ack is the copy, and a first event may know that an ack will take its place.
            (Some(first), event @ Item::Event { .. }) => {
                self.waiting_bytes -= event.bytes();
                self.waiting.insert(seq, first);
            }
            (before, item) => {
                self.waiting_bytes -= before.map_or(0, |before| before.bytes());
                self.waiting.insert(seq, item);
            }
        }
        true
    }

    /// Writes what is next in order. `is_pending`: whether the send of that key still waits for its ack.
    pub fn pump(&mut self, frames: &mut Frames, is_pending: impl Fn(u64) -> bool) -> Pumped {
        let mut done = Pumped::default();
        let Some(mut cursor) = self.cursor else { return done };
        while let Some(entry) = self.waiting.first_entry() {
            let seq = *entry.key();
            let stale_event = seq <= cursor && matches!(entry.get(), Item::Event { .. });
            if stale_event {
                self.waiting_bytes -= entry.remove().bytes();
                continue;
            }
            if seq > cursor + 1 {
                done.gap = !self.repairing;
                break;
            }
            if let Item::Event { own: Some(key), .. } = entry.get()
                && is_pending(*key)
            {
                // Its ack is under way and will be this socket's copy.
                break;
            }
            let item = entry.remove();
            self.waiting_bytes -= item.bytes();
            match item {
                Item::Ack { frame, again } => {
                    done.overflow |= !frames.push(frame);
                    for frame in again {
                        done.overflow |= !frames.push(frame);
                    }
                }
                Item::Event { frame, ends, .. } => {
                    done.overflow |= !frames.push(frame);
                    done.ended |= ends;
                }
            }
            cursor = cursor.max(seq);
            if done.ended {
                // What follows is not this socket's any more.
                self.waiting.clear();
                self.waiting_bytes = 0;
            }
        }
        self.cursor = Some(cursor);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Item {
        Item::Event { frame: text.into(), own: None, ends: false }
    }
    fn ack(text: &str) -> Item {
        Item::Ack { frame: text.into(), again: Vec::new() }
    }
    fn written(frames: &mut Frames) -> Vec<String> {
        std::iter::from_fn(|| frames.pop()).collect()
    }
    fn attached(cursor: u64) -> (Subscription, Frames) {
        let mut session = Subscription::new(SessionId(1), false);
        session.cursor = Some(cursor);
        (session, Frames::default())
    }

    #[test]
    fn events_are_written_in_order_and_once() {
        let (mut session, mut frames) = attached(4);
        for (seq, text) in [(6, "6"), (5, "5"), (5, "5 again"), (3, "3"), (6, "6 again")] {
            session.put(seq, event(text), &mut frames);
            session.pump(&mut frames, |_| false);
        }
        assert_eq!(written(&mut frames), ["5", "6"]);
        assert_eq!(session.cursor, Some(6));
    }

    #[test]
    fn a_gap_is_told_and_closed_by_the_history() {
        let (mut session, mut frames) = attached(0);
        session.put(3, event("3"), &mut frames);
        assert!(session.pump(&mut frames, |_| false).gap);
        for (seq, text) in [(1, "1"), (2, "2"), (3, "3 again")] {
            session.put(seq, event(text), &mut frames);
        }
        assert_eq!(session.pump(&mut frames, |_| false), Pumped::default());
        assert_eq!(written(&mut frames), ["1", "2", "3"]);
    }

    #[test]
    fn an_ack_waits_for_the_events_before_it_and_is_the_only_copy() {
        let (mut session, mut frames) = attached(0);
        session.put(2, ack("ack 2"), &mut frames);
        assert!(session.pump(&mut frames, |_| false).gap);
        session.put(2, event("2"), &mut frames);
        session.put(1, event("1"), &mut frames);
        session.pump(&mut frames, |_| false);
        session.put(2, event("2 late"), &mut frames);
        session.pump(&mut frames, |_| false);
        assert_eq!(written(&mut frames), ["1", "ack 2"]);
    }

    #[test]
    fn cursors_only_rise_whatever_comes_late() {
        let (mut session, _) = attached(0);
        let agent = Party::Agent(proto::ids::AgentId(1));
        assert!(session.rises(Party::Visitor, 253, 253));
        assert!(!session.rises(Party::Visitor, 247, 228), "a deposed leader's");
        assert!(!session.rises(Party::Visitor, 253, 253), "told before");
        assert!(session.rises(Party::Visitor, 254, 253));
        assert!(session.rises(agent, 1, 0), "the other side's are its own");
    }

    #[test]
    fn a_gap_closes_however_much_waits_behind_it() {
        let (mut session, mut frames) = attached(0);
        for seq in 2..=(REORDER_MAX as u64 + 50) {
            session.put(seq, event("late"), &mut frames);
        }
        assert!(session.pump(&mut frames, |_| false).gap);
        session.put(1, event("1"), &mut frames);
        session.pump(&mut frames, |_| false);
        assert_eq!(session.cursor, Some(REORDER_MAX as u64 + 1));
        assert_eq!(session.waiting_bytes, 0);
    }

    #[test]
    fn a_second_answer_to_a_send_does_not_overtake_the_first() {
        let (mut session, mut frames) = attached(0);
        session.put(2, ack("ack 2"), &mut frames);
        session.put(2, ack("dup 2"), &mut frames);
        assert!(session.pump(&mut frames, |_| false).gap);
        assert!(frames.is_empty());
        session.put(1, event("1"), &mut frames);
        session.pump(&mut frames, |_| false);
        assert_eq!(written(&mut frames), ["1", "ack 2", "dup 2"]);
    }

    #[test]
    fn an_own_event_waits_for_its_ack_while_one_can_come() {
        let (mut session, mut frames) = attached(0);
        session.put(1, Item::Event { frame: "1".into(), own: Some(7), ends: false }, &mut frames);
        assert_eq!(session.pump(&mut frames, |key| key == 7), Pumped::default());
        assert!(frames.is_empty());
        session.pump(&mut frames, |_| false);
        assert_eq!(written(&mut frames), ["1"], "the send failed: the event is the copy");
    }

    #[test]
    fn an_answer_to_a_repeated_send_is_written_at_once() {
        let (mut session, mut frames) = attached(9);
        session.put(4, ack("dup"), &mut frames);
        assert_eq!(written(&mut frames), ["dup"]);
        assert_eq!(session.cursor, Some(9));
    }
}
