//! Owns "an answer has a moment at which it was true": who was refused did not hold the session for at least a moment between
//! the begin and the end of the operation; whose close or move was acknowledged left the session so for a moment. Does not
//! judge what is stored (`assignment`). Invariant: pure.

use std::collections::BTreeMap;

use crate::checkers::findings::Findings;
use crate::checkers::index::{End, Index, Line, Op, Session};
use crate::history::{AgentId, Party, What};

pub const NAME: &str = "refusals";

/// Codes that say "not yours" or "not open". Others (overloaded, too long) say nothing of the session.
pub const CODES: &[&str] = &["forbidden", "closed", "not_found"];

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for session in index.sessions.values().filter(|session| session.has_final()) {
        let times = Times::of(session);
        for op in &session.ops {
            if matches!(op.what, What::Send { .. } | What::Close { .. } | What::Move { .. }) {
                times.check(session, op, &mut found);
            }
        }
    }
    found
}

/// From the first line at which something was surely so to the last; both never fall.
type Stretch = (Line, Line);

struct Times<'a> {
    /// When an agent surely held the session.
    held: BTreeMap<&'a AgentId, Vec<Stretch>>,
    /// When an agent may have held it.
    maybe_held: BTreeMap<&'a AgentId, Vec<Stretch>>,
    /// When a conversation was surely open.
    open: Vec<Stretch>,
}

impl<'a> Times<'a> {
    fn of(session: &Session<'a>) -> Times<'a> {
        let (earliest, latest) = (&session.timeline.earliest, &session.timeline.latest);
        let mut times = Times { held: BTreeMap::new(), maybe_held: BTreeMap::new(), open: Vec::new() };
        for span in &session.talk.spans {
            let surely = (latest[span.from], span.to.map_or(Line::NEVER, |to| earliest[to]));
            let maybe = (earliest[span.from], span.to.map_or(Line::NEVER, |to| latest[to]));
            times.held.entry(span.agent).or_default().push(surely);
            times.maybe_held.entry(span.agent).or_default().push(maybe);
        }
        let surely = |from: usize, to: Option<usize>| (latest[from], to.map_or(Line::NEVER, |to| earliest[to]));
        times.open = session.talk.conversations.iter().map(|one| surely(one.from, one.to)).collect();
        times
    }

    fn check(&self, session: &Session<'_>, op: &Op<'_>, found: &mut Findings) {
        let is_refused = match op.end {
            End::Ok { .. } => false,
            End::Failed { code, .. } if CODES.contains(&code) => true,
            End::Failed { .. } | End::Unknown { .. } => return,
        };
        found.count();
        let surely_held = |agent| surrounding(self.held.get(agent).map_or(&[], Vec::as_slice), op);
        let (stretch, text) = match (op.what, &op.by, is_refused) {
            (What::Send { .. }, Party::Visitor, true) => {
                return found.breach(session, None, "a visitor's send was refused".to_owned(), &op.lines());
            }
            (What::Close { .. }, _, true) if session.may_be_unseen(op) => return,
            (What::Send { .. } | What::Close { .. }, Party::Agent(agent), true) => {
                (surely_held(agent), format!("agent {agent} was refused while it held the session"))
            }
            (What::Close { .. }, _, true) => {
                (surrounding(&self.open, op), "a close was refused while a conversation was open".to_owned())
            }
            (What::Move { agent, .. }, _, true) => {
                (surrounding(&self.open, op), format!("a move to agent {agent} was refused while one was open"))
            }
            // The conversation that it was for had ended already, or there was none.
            (What::Close { .. }, _, false) if session.may_be_over(op) => return,
            (What::Close { .. }, by, false) => (
                surrounding(&self.open, op),
                format!("a close of {by} was acknowledged and the conversation stayed open"),
            ),
            (What::Move { agent, .. }, _, false) => {
                if !self.maybe_held.get(agent).is_some_and(|times| touches(times, op)) {
                    let text =
                        format!("a move to agent {agent} was acknowledged, and it did not hold the session then");
                    found.breach(session, None, text, &op.lines());
                }
                return;
            }
            _ => return,
        };
        if let Some((from, to)) = stretch {
            let [begin, end] = op.lines();
            found.breach(session, None, text, &[begin, end, from, to]);
        }
    }
}

/// The stretch that holds the whole operation.
fn surrounding(stretches: &[Stretch], op: &Op<'_>) -> Option<Stretch> {
    let after = stretches.partition_point(|(from, _)| *from < op.invoked);
    let near = stretches[..after].last()?;
    (op.ended() < near.1).then_some(*near)
}

/// Whether a stretch has a moment in common with the operation.
fn touches(stretches: &[Stretch], op: &Op<'_>) -> bool {
    let before = stretches.partition_point(|(from, _)| *from <= op.ended());
    stretches[..before].last().is_some_and(|(_, to)| *to >= op.invoked)
}
