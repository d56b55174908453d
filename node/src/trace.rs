//! Owns what this node remembers of the last messages that came through it: which step, and when. Does not know who asks.
//! Invariant: a record has a fixed size, the ring a fixed number of them, and nothing is allocated for a message once it is full.

use parking_lot::Mutex;
use proto::command::Party;
use proto::ids::SessionId;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Rings, so that threads seldom meet at a lock.
const RINGS: usize = 16;
/// Records of one ring: 16 rings of 4,096 records of 80 bytes are 5 MiB.
const RING_LEN: usize = 4_096;

/// What happened to a message on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The author's socket took the frame.
    Accepted,
    /// It is on the disks of a quorum and applied at the leader.
    Committed { epoch: u64, index: Option<u64> },
    /// The leader queued the pushes, to so many nodes.
    Routed { nodes: u32 },
    /// The author's socket has the ack in its queue.
    Acked,
    /// It is in the queue of a socket of this party.
    Delivered { to: Party },
    /// The party said that it has this and everything before.
    Received { by: Party },
    /// The party said that it has read this and everything before.
    Read { by: Party },
}

#[derive(Debug, Clone, Copy)]
struct Record {
    session: SessionId,
    seq: u64,
    at_ms: u64,
    step: Step,
}

#[derive(Default)]
struct Ring {
    records: Vec<Record>,
    /// Where the next record goes once the ring is full.
    next: usize,
}

/// The steps of the last messages.
#[derive(Default)]
pub struct Trace {
    rings: [Mutex<Ring>; RINGS],
}

impl Trace {
    /// Remembers a step that happens now.
    pub fn note(&self, session: SessionId, seq: u64, step: Step) {
        self.put(Record { session, seq, at_ms: now_ms(), step });
    }

    /// Remembers a step that happened a while ago.
    pub fn note_past(&self, session: SessionId, seq: u64, ago: Duration, step: Step) {
        self.put(Record { session, seq, at_ms: now_ms().saturating_sub(ago.as_millis() as u64), step });
    }

    /// Every remembered step of a message, oldest first. Of the cursors only the first that reached it.
    pub fn of(&self, session: SessionId, seq: u64) -> Vec<(u64, Step)> {
        let mut found: Vec<(u64, Step)> = {
            let ring = self.rings[ring_of(session)].lock();
            let is_of = |record: &&Record| match record.step {
                Step::Received { .. } | Step::Read { .. } => record.seq >= seq,
                _ => record.seq == seq,
            };
            let records = ring.records.iter().filter(|record| record.session == session).filter(is_of);
            records.map(|record| (record.at_ms, record.step)).collect()
        };
        found.sort_by_key(|(at_ms, _)| *at_ms);
        let mut cursors: Vec<Step> = Vec::new();
        found.retain(|(_, step)| {
            let is_cursor = matches!(step, Step::Received { .. } | Step::Read { .. });
            let is_first = !cursors.contains(step);
            if is_cursor && is_first {
                cursors.push(*step);
            }
            !is_cursor || is_first
        });
        found
    }

    fn put(&self, record: Record) {
        let mut ring = self.rings[ring_of(record.session)].lock();
        if ring.records.len() < RING_LEN {
            return ring.records.push(record);
        }
        let at = ring.next;
        ring.records[at] = record;
        ring.next = (at + 1) % RING_LEN;
    }
}

fn ring_of(session: SessionId) -> usize {
    // Session ids are random.
    (session.0 % RINGS as u128) as usize
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// `visitor`, `a7` or `system`.
pub fn party_text(party: Party) -> String {
    match party {
        Party::Visitor => "visitor".into(),
        Party::Agent(agent) => agent.to_string(),
        Party::System => "system".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ids::AgentId;
    use std::time::Instant;

    const SESSION: SessionId = SessionId(7);

    #[test]
    fn a_message_has_its_own_steps_and_the_first_cursor_that_reached_it() {
        let trace = Trace::default();
        trace.note(SESSION, 3, Step::Accepted);
        trace.note(SESSION, 4, Step::Accepted);
        trace.note(SessionId(8), 3, Step::Acked);
        let read = Step::Read { by: Party::Agent(AgentId(2)) };
        for upto in [2, 5, 6] {
            trace.note(SESSION, upto, read);
        }
        let steps: Vec<Step> = trace.of(SESSION, 3).into_iter().map(|(_, step)| step).collect();
        assert_eq!(steps, vec![Step::Accepted, read]);
    }

    #[test]
    fn the_ring_forgets_the_oldest_and_does_not_grow() {
        let trace = Trace::default();
        for seq in 0..=RING_LEN as u64 {
            trace.note(SESSION, seq, Step::Acked);
        }
        assert_eq!(trace.of(SESSION, 0), vec![]);
        assert_eq!(trace.of(SESSION, 1).len(), 1);
        assert_eq!(trace.rings[7].lock().records.len(), RING_LEN);
        assert!(size_of::<Record>() <= 80, "{}", size_of::<Record>());
    }

    /// Prints what a record costs. The quickest of many short runs: the others were interrupted by whatever else the machine does.
    #[test]
    fn a_record_costs_well_under_a_microsecond() {
        let trace = Trace::default();
        let run = |at: u64| {
            let started = Instant::now();
            for n in at * 1_000..(at + 1) * 1_000 {
                trace.note(SessionId(u128::from(n)), n, Step::Committed { epoch: 3, index: Some(n) });
            }
            started.elapsed().as_nanos() / 1_000
        };
        let each = (0..1_000).map(run).min().unwrap();
        println!("{each} ns a record");
        assert!(each < 1_000, "{each} ns");
    }
}
