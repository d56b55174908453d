//! Owns "a session is never with two agents, and only its holder acts in it", as the final history and the operations tell it.
//! Does not search for an order of the operations (`holder`); it uses that of the seqs. Invariant: pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Line, Op, Session};
use crate::checkers::talk::Holder;
use crate::history::{AgentId, Event, EventKind, Party, What};

pub const NAME: &str = "assignment";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for session in index.sessions.values().filter(|session| session.has_final()) {
        for (at, (event, before)) in session.events.iter().zip(&session.talk.before).enumerate() {
            found.count();
            if let Some(text) = illegal(event, *before) {
                found.breach(session, Some(event.seq), text, &evidence(session, at));
            }
        }
        check_causes(session, &mut found);
    }
    found
}

/// What an event may not be, given who had the session before it.
fn illegal(event: &Event, before: Holder<'_>) -> Option<String> {
    let seq = event.seq;
    match (&event.kind, before) {
        (EventKind::Message { from: Party::Visitor, .. }, _) => None,
        (EventKind::Message { from: Party::Agent(agent), .. }, Holder::Held(holder)) if agent == holder => None,
        (EventKind::Message { from, .. }, _) => Some(format!("{from} wrote seq {seq}; {} had it", name(before))),
        (EventKind::Assigned { agent }, Holder::Idle) => {
            Some(format!("seq {seq} assigns a conversation that is not open to {agent}"))
        }
        (EventKind::Assigned { agent }, Holder::Held(holder)) if agent == holder => {
            Some(format!("seq {seq} assigns to {agent} what it had"))
        }
        (EventKind::Assigned { .. }, _) => None,
        (EventKind::Queued { by: Party::Agent(agent) }, Holder::Held(holder)) if agent == holder => None,
        (EventKind::Queued { by: Party::System }, Holder::Held(_)) => None,
        (EventKind::Queued { by }, _) => Some(format!("{by} gave back at seq {seq} what {} had", name(before))),
        (EventKind::Closed { by }, Holder::Idle) => Some(format!("{by} closed at seq {seq} what was not open")),
        (EventKind::Closed { by: Party::Agent(agent) }, holder) if holder != Holder::Held(agent) => {
            Some(format!("agent {agent} closed at seq {seq}; {} had it", name(holder)))
        }
        (EventKind::Closed { .. }, _) => None,
        // What is done beside writing changes nothing here; see `acts`.
        _ => None,
    }
}

fn name(holder: Holder<'_>) -> String {
    match holder {
        Holder::Held(agent) => format!("agent {agent}"),
        Holder::Idle | Holder::Waiting => "nobody".to_owned(),
    }
}

/// What shows the event, how it was asked for, and what had last changed the holder.
fn evidence(session: &Session<'_>, at: usize) -> Vec<Line> {
    let event = &session.events[at];
    let mut lines = vec![line_of(session, event), session.final_line];
    if let EventKind::Message { text, .. } = &event.kind
        && let Some(message) = session.message(text)
    {
        lines.extend(message.lines(session));
    }
    let changes = |event: &&Event| !matches!(event.kind, EventKind::Message { .. });
    lines.extend(session.events[..at].iter().rev().find(changes).map(|event| line_of(session, event)));
    lines
}

fn line_of(session: &Session<'_>, event: &Event) -> Line {
    session.position(event.seq).map_or(Line::NEVER, |at| session.timeline.shown[at])
}

/// Every close, and every `assigned` that takes a session from an agent, has an operation of its own that may have done it.
fn check_causes(session: &Session<'_>, found: &mut Findings) {
    let mut closes = BTreeMap::<&Party, Vec<usize>>::new();
    for (at, event) in session.events.iter().enumerate() {
        if let EventKind::Closed { by: by @ (Party::Visitor | Party::Agent(_)) } = &event.kind {
            closes.entry(by).or_default().push(at);
        }
    }
    for (by, events) in closes {
        let is_such = |op: &Op<'_>| matches!(op.what, What::Close { .. }) && op.by == *by && !session.saw_none_open(op);
        let ops = effective(session, is_such);
        found.checked += events.len() as u64;
        for at in without_cause(session, &events, &ops) {
            breach(session, at, format!("no operation of {by} can have closed"), &ops, found);
        }
    }
    let mut moves = BTreeMap::<&AgentId, Vec<usize>>::new();
    for span in session.talk.moves() {
        moves.entry(span.agent).or_default().push(span.from);
    }
    for (agent, events) in moves {
        let ops = effective(session, |op| matches!(op.what, What::Move { agent: to, .. } if to == agent));
        found.checked += events.len() as u64;
        for at in without_cause(session, &events, &ops) {
            let text =
                format!("{} had it and no move can have given it to agent {agent}", name(session.talk.before[at]));
            breach(session, at, text, &ops, found);
        }
    }
}

fn breach(session: &Session<'_>, at: usize, text: String, ops: &[&Op<'_>], found: &mut Findings) {
    let event = &session.events[at];
    let mut lines = vec![line_of(session, event), session.final_line];
    let shown = session.timeline.shown[at];
    // Those that come nearest.
    let near = ops.partition_point(|op| op.invoked < shown);
    lines.extend(ops[near.saturating_sub(2)..].iter().take(3).flat_map(|op| op.lines()));
    found.breach(session, Some(event.seq), format!("{text} at seq {}", event.seq), &lines);
}

/// Operations that may have had an effect, in the order of their begin.
fn effective<'s, 'a>(session: &'s Session<'a>, is_of: impl Fn(&Op<'a>) -> bool) -> Vec<&'s Op<'a>> {
    session.ops.iter().filter(|op| !op.is_failed() && is_of(op)).collect()
}

/// The events for which no operation is left when each is given one that was under way in its window.
///
/// Windows never fall, so the events that an operation fits lie side by side, and giving each event the operation that
/// fits the fewest later ones leaves no event out that another choice would not (Glover 1967, convex matching).
fn without_cause(session: &Session<'_>, events: &[usize], ops: &[&Op<'_>]) -> Vec<usize> {
    let (earliest, latest) = (&session.timeline.earliest, &session.timeline.latest);
    let mut fits: Vec<(usize, usize)> = ops
        .iter()
        .map(|op| {
            let first = events.partition_point(|at| latest[*at] < op.invoked);
            let after = events.partition_point(|at| earliest[*at] <= op.ended());
            (first, after)
        })
        .filter(|(first, after)| first < after)
        .collect();
    fits.sort_unstable();
    let mut next = fits.into_iter().peekable();
    let mut free = BinaryHeap::new();
    let mut without = Vec::new();
    for (number, at) in events.iter().enumerate() {
        while let Some((_, after)) = next.next_if(|(first, _)| *first <= number) {
            free.push(Reverse(after));
        }
        while free.peek().is_some_and(|Reverse(after)| *after <= number) {
            free.pop();
        }
        if free.pop().is_none() {
            without.push(*at);
        }
    }
    without
}
