//! Owns how lines of a history look to a person who searches for a fault. Does not choose what is a fault.
//! Invariant: only lines of the session are shown, and never more than `LINES_MAX` that are not part of the violation.

use std::fmt;

use crate::checkers::findings::Violation;
use crate::checkers::index::{Index, Line, Session};
use crate::checkers::payload::describe;
use crate::history::{Body, ClientId, Event, OpId, Party, Record, Reply, Seq, What};

/// Lines of context.
const LINES_MAX: usize = 20;
/// Events shown of a long list, to each side of the one in question.
const AROUND: u64 = 2;

/// A line, and whether it is part of the violation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub line: Line,
    pub is_involved: bool,
    pub text: String,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_involved { '>' } else { ' ' };
        write!(f, "{mark} {:>7}  {}", self.line, self.text)
    }
}

/// The lines of a violation and what stands next to them, in the order of the file.
pub fn excerpt(index: &Index<'_>, violation: &Violation) -> Vec<Shown> {
    let session = violation.session.as_ref().and_then(|id| index.sessions.get(id));
    let mut lines: Vec<(Line, bool)> = violation.excerpt.iter().map(|line| (*line, true)).collect();
    if let Some(session) = session {
        lines.extend(context(index, session, &violation.excerpt).into_iter().map(|line| (line, false)));
    }
    lines.sort_unstable();
    let show = |(line, is_involved): (Line, bool)| {
        let record = index.records.get(line.0.checked_sub(1)?)?;
        Some(Shown { line, is_involved, text: tell(index, record, violation.seq) })
    };
    lines.into_iter().filter_map(show).collect()
}

/// The lines of the session that stand nearest to the ones involved, which are ascending.
fn context(index: &Index<'_>, session: &Session<'_>, involved: &[Line]) -> Vec<Line> {
    // Final histories are long and come after all that matters.
    let is_context = |line: &Line| {
        !matches!(index.records[line.0 - 1].body, Body::Final { .. }) && involved.binary_search(line).is_err()
    };
    let lines = &session.lines;
    let mut chosen = Vec::new();
    for distance in 0..LINES_MAX {
        for line in involved {
            let at = lines.partition_point(|other| other < line);
            for near in [at.checked_sub(distance), Some(at + distance + 1)] {
                let Some(near) = near.and_then(|near| lines.get(near)).filter(|line| is_context(line)) else {
                    continue;
                };
                if chosen.len() < LINES_MAX && !chosen.contains(near) {
                    chosen.push(*near);
                }
            }
        }
    }
    chosen
}

fn tell(index: &Index<'_>, record: &Record, around: Option<Seq>) -> String {
    let time = format!("{}.{:06} s", record.t / 1_000_000, record.t % 1_000_000);
    let text = match &record.body {
        Body::Invoke { op, client, what } => format!("op {op}: {} asks: {}", name(index, *client), ask(what)),
        Body::Ok { op, result } => format!("op {op}: ok{}{}", answer(result.as_ref(), around), of(index, *op)),
        Body::Fail { op, code } => format!("op {op}: refused, {code}{}", of(index, *op)),
        Body::Unknown { op, why } => format!("op {op}: outcome unknown, {why}{}", of(index, *op)),
        Body::Event { client, socket, event } => {
            let name = name(index, *client);
            format!("{name} is told on socket {socket}: seq {} {}", event.seq, describe(event))
        }
        Body::Cursor { client, by, received, read, .. } => {
            format!("{} is told: {by} has received {received}, read {read}", name(index, *client))
        }
        Body::Connected { client, socket, node } => {
            format!("{} connects to node {node}, socket {socket}", name(index, *client))
        }
        Body::Disconnected { client, socket, node } => {
            format!("{} loses node {node}, socket {socket}", name(index, *client))
        }
        Body::Client { client, .. } => format!("{} begins", name(index, *client)),
        Body::Final { node, events, .. } => format!("final history of node {node}: {}", list(events, around)),
        other => serde_json::to_string(other).unwrap_or_else(|error| error.to_string()),
    };
    format!("{time:>14}  {text}")
}

fn name(index: &Index<'_>, client: ClientId) -> String {
    let party = index.clients.get(&client).map(|client| client.who.party());
    match party {
        Some(Party::System) => format!("an operator (client {client})"),
        Some(party) => format!("{party} (client {client})"),
        None => format!("client {client}"),
    }
}

/// Who began an operation, for the line of its end.
fn of(index: &Index<'_>, op: OpId) -> String {
    index.op(op).map_or(String::new(), |op| format!(" (line {})", op.invoked))
}

fn ask(what: &What) -> String {
    match what {
        What::Send { device, n, text, .. } => format!("send {n} of device {device}: `{text:.40}`"),
        What::Act { device, n, act, .. } => format!("act {n} of device {device}: {act:?}"),
        What::Erase { .. } => "erase".to_owned(),
        What::Close { .. } => "close".to_owned(),
        What::Cursor { received, read, .. } => format!("cursor: received {received:?}, read {read:?}"),
        What::History { after, limit, .. } => format!("history after {after}, at most {limit}"),
        What::Move { agent, .. } => format!("move to agent {agent}"),
    }
}

fn answer(reply: Option<&Reply>, around: Option<Seq>) -> String {
    match reply {
        None => String::new(),
        Some(Reply::Sent { seq, ts, dup }) => {
            format!(", seq {seq} (ts {ts}){}", if *dup { ", as answered before" } else { "" })
        }
        Some(Reply::Cursor { received, read }) => format!(", received {received}, read {read}"),
        Some(Reply::History { events, head }) => format!(", head {head}, {}", list(events, around)),
    }
}

fn list(events: &[Event], around: Option<Seq>) -> String {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return "no events".to_owned() };
    let near = |event: &&Event| around.is_some_and(|seq| event.seq.0.abs_diff(seq.0) <= AROUND);
    let shown: Vec<String> = events
        .iter()
        .filter(near)
        .take(2 * AROUND as usize + 1)
        .map(|event| format!("{}: {}", event.seq, describe(event)))
        .collect();
    format!("{} events, {} to {} [{}]", events.len(), first.seq, last.seq, shown.join("; "))
}
