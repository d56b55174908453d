//! Owns when each event of a session can have come to be. Does not judge. Invariant: an event was committed after its
//! earliest possible cause (and those of all events below it) began, and before anybody learnt of it or of one above it.

use std::collections::HashMap;

use crate::checkers::index::{Line, Op, Session};
use crate::history::{EventKind, Party, Seq, What};

/// For each position of the final history a window of lines within which the event was committed.
#[derive(Default)]
pub struct Timeline {
    /// Never falls.
    pub earliest: Vec<Line>,
    /// Never falls.
    pub latest: Vec<Line>,
    /// The first line that shows the event itself, `NEVER` when only the final history does.
    pub shown: Vec<Line>,
}

impl Timeline {
    pub(super) fn of(session: &Session<'_>) -> Timeline {
        let mut earliest = causes(session);
        for at in 1..earliest.len() {
            earliest[at] = earliest[at].max(earliest[at - 1]);
        }
        let shown = shown(session);
        let mut latest = shown.clone();
        for at in (1..latest.len()).rev() {
            latest[at - 1] = latest[at - 1].min(latest[at]);
        }
        Timeline { earliest, latest, shown }
    }

    /// How many events somebody knew of before this line.
    pub fn known_before(&self, line: Line) -> usize {
        self.latest.partition_point(|latest| *latest < line)
    }
}

/// The earliest begin of an operation that can have caused each event.
fn causes(session: &Session<'_>) -> Vec<Line> {
    let may_close = |op: &Op<'_>| matches!(op.what, What::Close { .. }) && !session.saw_none_open(op);
    let mut closes = Begins::of(session, |op| may_close(op).then_some(op.by.clone()));
    let mut moves = Begins::of(session, |op| match op.what {
        What::Move { agent, .. } => Some(agent.clone()),
        _ => None,
    });
    let mut earliest = vec![Line::BEFORE_ALL; session.events.len()];
    for (event, at) in session.events.iter().zip(&mut earliest) {
        match &event.kind {
            EventKind::Message { text, .. } => {
                let attempts = session.message(text).map_or(&[] as &[usize], |message| &message.attempts);
                let first = attempts.iter().map(|at| &session.ops[*at]).find(|op| !op.is_failed());
                *at = first.map_or(Line::BEFORE_ALL, |op| op.invoked);
            }
            EventKind::Closed { by: by @ (Party::Visitor | Party::Agent(_)) } => *at = closes.next(by),
            _ => {}
        }
    }
    for span in session.talk.moves() {
        earliest[span.from] = moves.next(span.agent);
    }
    earliest
}

/// Begins of operations that may have had an effect, by what they aim at. The k-th effect needs k of them.
struct Begins<K>(HashMap<K, std::vec::IntoIter<Line>>);

impl<K: std::hash::Hash + Eq> Begins<K> {
    fn of(session: &Session<'_>, key: impl Fn(&Op<'_>) -> Option<K>) -> Begins<K> {
        let mut begins = HashMap::<K, Vec<Line>>::new();
        for op in session.ops.iter().filter(|op| !op.is_failed()) {
            if let Some(key) = key(op) {
                begins.entry(key).or_default().push(op.invoked);
            }
        }
        Begins(begins.into_iter().map(|(key, lines)| (key, lines.into_iter())).collect())
    }

    fn next(&mut self, key: &K) -> Line {
        self.0.get_mut(key).and_then(Iterator::next).unwrap_or(Line::BEFORE_ALL)
    }
}

/// The first line that shows each event: an ack, an event told, a page of history or its head.
fn shown(session: &Session<'_>) -> Vec<Line> {
    let mut shown = vec![Line::NEVER; session.events.len()];
    let mut show = |seq, line: Line| {
        if let Some(at) = session.position(seq) {
            shown[at] = shown[at].min(line);
        }
    };
    for told in &session.told {
        show(told.event.seq, told.line);
    }
    for op in &session.ops {
        if let Some((seq, _, line)) = op.acked() {
            show(seq, line);
        }
        if let Some((events, head, line)) = op.page() {
            show(Seq(head), line);
            for event in events {
                show(event.seq, line);
            }
        }
    }
    shown
}
