//! Owns how far each session was handed out, and the verdict on what comes next. Does not know sockets.
//! Invariant: a seq is passed on once; a gap, a double or time running back is a verdict, never silence.

use std::collections::{BTreeMap, BTreeSet};

use proto::client::limits::RESUME_SESSIONS_MAX;
use proto::client::{Event, EventKind, Party, SessionHead, SessionSeq};
use proto::ids::SessionId;

/// A promise of the protocol that the node broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Events are missing.
    #[error("session {session}: expected seq {expected}, got {got}")]
    Gap { session: SessionId, expected: u64, got: u64 },
    /// An event came again.
    #[error("session {session}: seq {got} came again, the cursor is {cursor}")]
    Double { session: SessionId, got: u64, cursor: u64 },
    /// `ts` went back.
    #[error("session {session}: ts of seq {seq} is below the one before")]
    TimeWentBack { session: SessionId, seq: u64 },
    /// The node knows less than it once acked or pushed.
    #[error("session {session}: the node's head is {head}, ours {cursor}")]
    HeadBehind { session: SessionId, head: u64, cursor: u64 },
    /// One send got two places.
    #[error("session {session}: one send was acked at seq {first} and at {second}")]
    TwoSeqs { session: SessionId, first: u64, second: u64 },
    /// An ack names another message than the one sent.
    #[error("session {session}: an ack for {got:?} answers the send of {sent:?}")]
    ForeignAck { session: SessionId, sent: String, got: String },
    /// A frame that v1 does not have.
    #[error("not a frame of v1: {reason}")]
    NotAFrame { reason: String },
}

/// What to do with a seq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Next,
    /// An ack of something handed out before.
    Known,
    Broken(Violation),
}

#[derive(Debug, Default)]
struct Track {
    seq: u64,
    ts: u64,
    /// The agent's subscription ended: a later one may start at a higher seq.
    ended: bool,
    /// Its conversation is ours, as an agent.
    is_ours: bool,
    /// The head of the last pong, when it was above our cursor.
    promised: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Cursors {
    me: Party,
    tracks: BTreeMap<SessionId, Track>,
    /// They do not end with a conversation.
    watched: BTreeSet<SessionId>,
}

impl Cursors {
    pub fn new(me: Party) -> Self {
        Cursors { me, tracks: BTreeMap::new(), watched: BTreeSet::new() }
    }

    pub fn start_at(&mut self, session: SessionId, seq: u64) {
        self.tracks.insert(session, Track { seq, ..Track::default() });
    }

    /// The last seq that was handed out of a session.
    pub fn head(&self, session: SessionId) -> Option<u64> {
        self.tracks.get(&session).map(|track| track.seq)
    }

    /// The same, while we follow the session: what was handed out long ago says nothing of what the person sees.
    pub fn live_head(&self, session: SessionId) -> Option<u64> {
        self.tracks.get(&session).filter(|track| !track.ended).map(|track| track.seq)
    }

    /// The node says that the session is watched from now on, or no longer.
    pub fn watch(&mut self, session: SessionId, on: bool) {
        let track = self.tracks.get_mut(&session);
        if on {
            self.watched.insert(session);
            track.into_iter().for_each(|track| track.ended = false);
        } else {
            self.watched.remove(&session);
            track.into_iter().for_each(|track| track.ended = !track.is_ours);
        }
    }

    /// What is watched, and was not resumed by this list.
    pub fn watched_beside(&self, resumed: &[SessionSeq]) -> Vec<SessionId> {
        let is_resumed = |session: &SessionId| resumed.iter().any(|entry| entry.session == *session);
        self.watched.iter().copied().filter(|session| !is_resumed(session)).collect()
    }

    /// What we hold, for a ping.
    pub fn heads(&self) -> Vec<SessionSeq> {
        self.resume_list().into_iter().map(|entry| SessionSeq { watch: false, ..entry }).collect()
    }

    pub fn resume_list(&self) -> Vec<SessionSeq> {
        let live = self.tracks.iter().filter(|(_, track)| !track.ended);
        let entry = |(&session, track): (&SessionId, &Track)| SessionSeq {
            session,
            seq: track.seq,
            watch: self.watched.contains(&session),
        };
        // What is watched must not push out what is ours.
        let (watched, own): (Vec<SessionSeq>, Vec<SessionSeq>) = live.map(entry).partition(|entry| entry.watch);
        own.into_iter().chain(watched).take(RESUME_SESSIONS_MAX).collect()
    }

    pub fn on_event(&mut self, event: &Event<'_>) -> Verdict {
        let verdict = self.step(event.session, event.seq, event.ts, false);
        let ends = match (&event.kind, self.me) {
            (EventKind::Closed { .. } | EventKind::Queued { .. }, Party::Agent(_)) => true,
            (EventKind::Assigned { agent }, Party::Agent(me)) => *agent != me,
            _ => false,
        };
        if let Some(track) = self.tracks.get_mut(&event.session) {
            track.ended = ends && !self.watched.contains(&event.session);
            match event.kind {
                EventKind::Assigned { agent } => track.is_ours = self.me == Party::Agent(agent),
                EventKind::Closed { .. } | EventKind::Queued { .. } => track.is_ours = false,
                _ => {}
            }
        }
        verdict
    }

    pub fn on_ack(&mut self, session: SessionId, seq: u64, ts: u64) -> Verdict {
        let is_live = self.tracks.get(&session).is_some_and(|track| !track.ended);
        let follows = is_live || self.watched.contains(&session);
        if matches!(self.me, Party::Agent(_)) && !follows {
            // Sent between two subscriptions: only an answer. The next one brings the message as an event.
            return Verdict::Known;
        }
        self.step(session, seq, ts, true)
    }

    fn step(&mut self, session: SessionId, seq: u64, ts: u64, is_ack: bool) -> Verdict {
        let Some(track) = self.tracks.get_mut(&session) else {
            self.tracks.insert(session, Track { seq, ts, ..Track::default() });
            return Verdict::Next;
        };
        if seq <= track.seq {
            let double = Violation::Double { session, got: seq, cursor: track.seq };
            return if is_ack { Verdict::Known } else { Verdict::Broken(double) };
        }
        let expected = track.seq + 1;
        let time_went_back = ts < track.ts;
        (track.seq, track.ts) = (seq, ts.max(track.ts));
        if seq > expected && !track.ended {
            return Verdict::Broken(Violation::Gap { session, expected, got: seq });
        }
        if time_went_back { Verdict::Broken(Violation::TimeWentBack { session, seq }) } else { Verdict::Next }
    }

    /// Compares a welcome with what we resumed. Returns how many sessions were not taken up, and the first broken promise.
    pub fn on_welcome(&mut self, resumed: &[SessionSeq], sessions: &[SessionHead]) -> (usize, Option<Violation>) {
        let mut missing = 0;
        let mut broken = None;
        for entry in resumed {
            let Some(head) = sessions.iter().find(|head| head.session == entry.session) else {
                missing += 1;
                if let Some(track) = self.tracks.get_mut(&entry.session) {
                    track.ended = true;
                }
                continue;
            };
            if head.head < entry.seq {
                broken = Some(Violation::HeadBehind { session: entry.session, head: head.head, cursor: entry.seq });
            }
        }
        self.tracks.values_mut().for_each(|track| track.promised = None);
        (missing, broken)
    }

    /// Compares a pong with what we hold; returns whether a session has stood still below a head that an earlier pong named.
    pub fn on_pong(&mut self, heads: &[SessionHead]) -> bool {
        let mut stalled = false;
        for head in heads {
            let Some(track) = self.tracks.get_mut(&head.session).filter(|track| !track.ended) else { continue };
            stalled |= track.promised.is_some_and(|promised| track.seq < promised);
            track.promised = Some(head.head).filter(|&promised| promised > track.seq);
        }
        stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::ids::AgentId;

    const S: SessionId = SessionId(1);

    fn closed(seq: u64) -> Event<'static> {
        Event { session: S, seq, ts: seq, kind: EventKind::Closed { by: Party::System, reason: None } }
    }

    fn assigned(seq: u64) -> Event<'static> {
        Event { session: S, seq, ts: seq, kind: EventKind::Assigned { agent: AgentId(1) } }
    }

    #[test]
    fn gaps_and_doubles_are_reported_and_known_acks_are_not() {
        let mut cursors = Cursors::new(Party::Agent(AgentId(1)));
        assert_eq!(cursors.on_event(&assigned(4)), Verdict::Next);
        assert_eq!(cursors.on_ack(S, 5, 5), Verdict::Next);
        assert_eq!(cursors.on_ack(S, 4, 4), Verdict::Known);
        assert!(matches!(cursors.on_event(&assigned(5)), Verdict::Broken(Violation::Double { .. })));
        assert!(matches!(cursors.on_event(&assigned(7)), Verdict::Broken(Violation::Gap { expected: 6, got: 7, .. })));
    }

    #[test]
    fn a_new_subscription_of_an_agent_may_start_higher() {
        let mut cursors = Cursors::new(Party::Agent(AgentId(1)));
        assert_eq!(cursors.on_event(&closed(4)), Verdict::Next);
        assert!(cursors.resume_list().is_empty());
        assert_eq!(cursors.on_event(&assigned(9)), Verdict::Next);
        assert_eq!(cursors.resume_list(), [SessionSeq { session: S, seq: 9, watch: false }]);
    }

    #[test]
    fn an_ack_between_two_subscriptions_is_only_an_answer() {
        let mut cursors = Cursors::new(Party::Agent(AgentId(1)));
        assert_eq!(cursors.on_ack(S, 2, 2), Verdict::Known);
        assert_eq!(cursors.on_event(&closed(4)), Verdict::Next);
        assert_eq!(cursors.on_ack(S, 7, 7), Verdict::Known);
        assert_eq!(cursors.on_event(&assigned(5)), Verdict::Next);
        assert_eq!(cursors.on_ack(S, 6, 6), Verdict::Next);
    }

    #[test]
    fn a_head_promised_twice_and_not_reached_is_a_stall() {
        let mut cursors = Cursors::new(Party::Agent(AgentId(1)));
        cursors.start_at(S, 3);
        let heads = [SessionHead { session: S, head: 5 }];
        assert!(!cursors.on_pong(&heads));
        assert!(cursors.on_pong(&heads));
    }
}
