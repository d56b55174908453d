//! Owns right histories with one thing made wrong, and the proof that it is found. Each mutant changes the meaning of what it
//! changes; where that cannot be told beforehand, a small share may go unnoticed.

use std::collections::BTreeMap;

use super::mutants_of_deeds::KINDS_OF_DEEDS;
use super::world::{Dice, Shape, history};
use crate::checkers::index::{Index, Line, Op, Session};
use crate::checkers::{Limits, check_all_within, refusals};
use crate::history::*;

/// Runs of the reference system, each mutated once in every way.
const RUNS: u64 = 120;

pub type Lines = Vec<Record>;
/// False when there is nothing in the history to which it could be done.
pub type Mutation = fn(&mut Lines, &mut Dice) -> bool;

/// Name, mutation, properties of which one must be broken, percentage that must be caught.
pub type Kind = (&'static str, Mutation, &'static [&'static str], usize);
const KINDS: &[Kind] = &[
    ("a told event is dropped", drop_told, &["stream", "caught-up"], 100),
    ("a told event is doubled", double_told, &["stream"], 100),
    ("two told events are swapped", swap_told, &["stream"], 100),
    ("the text of a told event is changed", change_told, &["one-payload"], 100),
    ("the text of a message is changed in all finals", change_text, &["acked-once", "authors"], 100),
    ("the agent of an assignment is changed in all finals", change_agent, &["one-payload", "assignment"], 100),
    ("the author of a message is changed in all finals", change_author, &["acked-once", "authors"], 100),
    ("an acked message is dropped from all finals", drop_acked, &["acked-once"], 100),
    ("and the rest is renumbered", drop_acked_and_renumber, &["acked-once"], 100),
    ("an acked message is doubled in all finals", double_acked, &["acked-once"], 100),
    ("one node's final lacks an event", drop_on_one_node, &["finals-agree"], 100),
    ("one node's final is missing", drop_final, &["finals-agree"], 100),
    ("a refused message stands in all finals", add_refused, &["failed-never"], 100),
    ("an acked send is told to have been refused", refuse_acked, &["failed-never"], 100),
    ("an ack has another seq", change_ack, &["acked-once"], 100),
    ("two sends in sequence change places everywhere", swap_everywhere, &["real-time-order"], 100),
    ("a read is stale", make_stale, &["fresh-reads"], 100),
    ("a page lacks an event", drop_from_page, &["fresh-reads"], 100),
    ("a told cursor goes back", turn_cursor_back, &["cursors"], 100),
    ("a hash differs", change_hash, &["hashes-agree"], 100),
    ("another node serves in the same epoch", serve_twice, &["epochs"], 100),
    ("readiness is late or missing", delay_ready, &["ready-in-time"], 100),
    ("the holder is refused", refuse_holder, &["refusals", "linearizable-holder"], 100),
    ("moves have no operations", drop_moves, &["assignment"], 100),
    ("closes have no operations", drop_closes, &["assignment"], 100),
    ("another agent gave back what one had, in all finals", change_giver, &["assignment"], 100),
    ("an agent's send is told to be another agent's", change_sender, &["authors", "acked-once"], 100),
];

#[test]
fn mutants_of_right_histories_are_caught() {
    let mut caught = BTreeMap::<&str, (usize, usize)>::new();
    // A search that is given up is not what is asked for here.
    let limits = Limits { search_steps_max: 100_000, ..Limits::default() };
    for seed in 0..RUNS {
        let dice = &mut Dice(seed);
        let (sessions, agents) = (1 + dice.roll(3), 2 + dice.roll(2));
        let right = history(Shape { seed, sessions, agents, ops: 400 });
        for (name, mutate, properties, _) in KINDS.iter().chain(KINDS_OF_DEEDS) {
            let mut lines = right.clone();
            if !mutate(&mut lines, dice) {
                continue;
            }
            let verdict = check_all_within(&lines, limits);
            let broken = verdict.broken();
            assert!(!broken.contains(&"well-formed"), "{name}: {verdict}");
            let count = caught.entry(name).or_default();
            count.0 += 1;
            count.1 += usize::from(properties.iter().any(|property| broken.contains(property)));
        }
    }
    for (name, _, _, share) in KINDS.iter().chain(KINDS_OF_DEEDS) {
        let (mutants, caught) = caught.get(name).copied().unwrap_or_default();
        println!("{name}: {caught} of {mutants}");
        assert!(mutants >= RUNS as usize / 4, "{name}: only {mutants} mutants");
        assert!(caught * 100 >= mutants * share, "{name}: only {caught} of {mutants} caught");
    }
}

/// The number of a line that is so.
fn find(lines: &Lines, dice: &mut Dice, is_so: impl Fn(&Body) -> bool) -> Option<usize> {
    let from = dice.roll(lines.len());
    (from..lines.len()).chain(0..from).find(|at| is_so(&lines[*at].body))
}

/// An operation that is so, as the numbers of its lines.
pub fn find_op(
    lines: &Lines,
    dice: &mut Dice,
    is_so: impl Fn(&Session<'_>, &Op<'_>) -> bool,
) -> Option<(usize, Option<usize>)> {
    let index = Index::of(lines, Limits::default());
    let fitting: Vec<_> = index
        .sessions
        .values()
        .flat_map(|session| session.ops.iter().map(move |op| (session, op)))
        .filter(|(session, op)| is_so(session, op))
        .map(|(_, op)| op.lines())
        .collect();
    let [begin, end] = *fitting.get(dice.roll(fitting.len()))?;
    Some((begin.0 - 1, (end != Line::NEVER).then(|| end.0 - 1)))
}

/// Changes all final histories of the session of a message for which `is_so` holds.
pub fn change_finals(
    lines: &mut Lines,
    dice: &mut Dice,
    is_so: impl Fn(&Event) -> bool,
    change: impl Fn(&mut Vec<Event>, usize),
) -> bool {
    let has = |body: &Body| matches!(body, Body::Final { events, .. } if events.iter().any(&is_so));
    let Some(at) = find(lines, dice, has) else { return false };
    let Body::Final { session, events, .. } = &lines[at].body else { return false };
    let fitting: Vec<usize> = (0..events.len()).filter(|at| is_so(&events[*at])).collect();
    let (session, place) = (session.clone(), fitting[dice.roll(fitting.len())]);
    for line in lines {
        if let Body::Final { session: other, events, .. } = &mut line.body
            && *other == session
        {
            change(events, place);
        }
    }
    true
}

fn is_message(event: &Event) -> bool {
    matches!(event.kind, EventKind::Message { .. })
}

fn acked_texts(lines: &Lines) -> Vec<String> {
    let index = Index::of(lines, Limits::default());
    let sessions = index.sessions.values();
    sessions
        .flat_map(|session| session.messages.iter().filter(|message| message.is_acked(session)))
        .map(|message| message.text.to_owned())
        .collect()
}

fn change_finals_of_acked(lines: &mut Lines, dice: &mut Dice, change: impl Fn(&mut Vec<Event>, usize)) -> bool {
    let acked = acked_texts(lines);
    let is_acked = |event: &Event| matches!(&event.kind, EventKind::Message { text, .. } if acked.iter().any(|acked| **acked == **text));
    change_finals(lines, dice, is_acked, change)
}

fn drop_told(lines: &mut Lines, dice: &mut Dice) -> bool {
    let clients: Vec<ClientId> = lines
        .iter()
        .filter_map(|line| match &line.body {
            Body::Client { client, who: Who::Visitor(_) } => Some(*client),
            _ => None,
        })
        .collect();
    // The last one told to a client that is gone is missed by nobody.
    let later = |at: usize, one: ClientId| {
        lines[at + 1..].iter().any(|line| matches!(line.body, Body::Event { client, .. } if client == one))
    };
    let of_visitors: Vec<usize> = (0..lines.len())
        .filter(|at| matches!(lines[*at].body, Body::Event { client, .. } if clients.contains(&client) && later(*at, client)))
        .collect();
    let Some(at) = of_visitors.get(dice.roll(of_visitors.len())) else { return false };
    lines.remove(*at);
    true
}

fn double_told(lines: &mut Lines, dice: &mut Dice) -> bool {
    let Some(at) = find(lines, dice, |body| matches!(body, Body::Event { .. })) else { return false };
    lines.insert(at, lines[at].clone());
    true
}

fn swap_told(lines: &mut Lines, dice: &mut Dice) -> bool {
    let Some(at) = find(lines, dice, |body| matches!(body, Body::Event { .. })) else { return false };
    let Body::Event { client, event, .. } = lines[at].body.clone() else { return false };
    let is_next = |body: &Body| matches!(body, Body::Event { client: c, event: e, .. } if *c == client && e.session == event.session);
    let Some(next) = (at + 1..lines.len()).find(|next| is_next(&lines[*next].body)) else { return false };
    let (before, after) = lines.split_at_mut(next);
    std::mem::swap(&mut before[at].body, &mut after[0].body);
    true
}

fn change_told(lines: &mut Lines, dice: &mut Dice) -> bool {
    let is_so = |body: &Body| matches!(body, Body::Event { event, .. } if is_message(event));
    let Some(at) = find(lines, dice, is_so) else { return false };
    let Body::Event { event: Event { kind: EventKind::Message { text, .. }, .. }, .. } = &mut lines[at].body else {
        return false;
    };
    *text = "changed".into();
    true
}

fn change_text(lines: &mut Lines, dice: &mut Dice) -> bool {
    change_finals(lines, dice, is_message, |events, at| {
        if let EventKind::Message { text, .. } = &mut events[at].kind {
            *text = "changed".into();
        }
    })
}

fn change_agent(lines: &mut Lines, dice: &mut Dice) -> bool {
    let shown = shown(lines);
    let is_so = |event: &Event| {
        matches!(event.kind, EventKind::Assigned { .. }) && shown.contains(&(event.session.clone(), event.seq))
    };
    change_finals(lines, dice, is_so, |events, at| {
        events[at].kind = EventKind::Assigned { agent: AgentId::from("a9") };
    })
}

fn change_giver(lines: &mut Lines, dice: &mut Dice) -> bool {
    let is_so = |event: &Event| matches!(event.kind, EventKind::Queued { .. });
    change_finals(lines, dice, is_so, |events, at| {
        events[at].kind = EventKind::Queued { by: Party::Agent(AgentId::from("a9")) };
    })
}

/// What some client was told.
fn shown(lines: &Lines) -> Vec<(SessionId, Seq)> {
    let told = |line: &Record| match &line.body {
        Body::Event { event, .. } => Some((event.session.clone(), event.seq)),
        _ => None,
    };
    lines.iter().filter_map(told).collect()
}

fn change_author(lines: &mut Lines, dice: &mut Dice) -> bool {
    change_finals(lines, dice, is_message, |events, at| {
        if let EventKind::Message { from, .. } = &mut events[at].kind {
            *from = Party::Agent(AgentId::from("a9"));
        }
    })
}

fn drop_acked(lines: &mut Lines, dice: &mut Dice) -> bool {
    change_finals_of_acked(lines, dice, |events, at| drop(events.remove(at)))
}

fn drop_acked_and_renumber(lines: &mut Lines, dice: &mut Dice) -> bool {
    change_finals_of_acked(lines, dice, |events, at| {
        events.remove(at);
        for (seq, event) in (1..).map(Seq).zip(events) {
            event.seq = seq;
        }
    })
}

fn double_acked(lines: &mut Lines, dice: &mut Dice) -> bool {
    change_finals_of_acked(lines, dice, |events, at| {
        let seq = Seq(events.len() as u64 + 1);
        let ts = events[events.len() - 1].ts;
        events.push(Event { seq, ts, ..events[at].clone() });
    })
}

fn drop_on_one_node(lines: &mut Lines, dice: &mut Dice) -> bool {
    let has = |body: &Body| matches!(body, Body::Final { events, .. } if !events.is_empty());
    let Some(at) = find(lines, dice, has) else { return false };
    let Body::Final { events, .. } = &mut lines[at].body else { return false };
    events.remove(dice.roll(events.len()));
    true
}

fn drop_final(lines: &mut Lines, dice: &mut Dice) -> bool {
    let Some(at) = find(lines, dice, |body| matches!(body, Body::Final { .. })) else { return false };
    lines.remove(at);
    true
}

fn add_refused(lines: &mut Lines, dice: &mut Dice) -> bool {
    let refused = find_op(lines, dice, |session, op| match op.what {
        What::Send { text, .. } => session.message(text).is_some_and(|message| message.is_failed(session)),
        _ => false,
    });
    let Some((begin, _)) = refused else { return false };
    let Body::Invoke { what: What::Send { session, text, .. }, client, .. } = lines[begin].body.clone() else {
        return false;
    };
    let from = Index::of(lines, Limits::default()).clients[&client].who.party();
    for line in lines {
        if let Body::Final { session: other, events, .. } = &mut line.body
            && *other == session
        {
            let (seq, ts) = (Seq(events.len() as u64 + 1), events.last().map_or(0, |event| event.ts));
            let kind = EventKind::Message { from: from.clone(), text: text.clone() };
            events.push(Event { session: session.clone(), seq, ts, kind });
        }
    }
    true
}

/// Sends that were tried once, so that a change of their end changes all that is known of them.
fn is_single(session: &Session<'_>, op: &Op<'_>) -> bool {
    let What::Send { text, .. } = op.what else { return false };
    op.acked().is_some()
        && session.message(text).is_some_and(|message| message.attempts.len() == 1)
        // One that was taken back is in no final.
        && session.places(text).len() == 1
}

fn refuse_acked(lines: &mut Lines, dice: &mut Dice) -> bool {
    let Some((_, Some(end))) = find_op(lines, dice, is_single) else { return false };
    let Body::Ok { op, .. } = lines[end].body else { return false };
    lines[end].body = Body::Fail { op, code: "overloaded".to_owned() };
    true
}

fn change_ack(lines: &mut Lines, dice: &mut Dice) -> bool {
    let Some((_, Some(end))) = find_op(lines, dice, is_single) else { return false };
    let Body::Ok { result: Some(Reply::Sent { seq, .. }), .. } = &mut lines[end].body else { return false };
    seq.0 += 1;
    true
}

/// Two messages of which one was acked before the other began exchange their seqs, whoever looks.
fn swap_everywhere(lines: &mut Lines, dice: &mut Dice) -> bool {
    let right = lines.clone();
    let index = Index::of(&right, Limits::default());
    let mut pairs = Vec::new();
    for session in index.sessions.values() {
        let acked: Vec<&Op<'_>> = session.ops.iter().filter(|op| is_single(session, op)).collect();
        for first in &acked {
            let later = acked.iter().find(|second| first.ended() < second.invoked);
            pairs.extend(later.and_then(|second| Some((session.id.clone(), first.acked()?.0, second.acked()?.0))));
        }
    }
    if pairs.is_empty() {
        return false;
    }
    let (session, a, b) = pairs.swap_remove(dice.roll(pairs.len()));
    let of = &index.sessions[&session];
    let (Some(at_a), Some(at_b)) = (of.position(a), of.position(b)) else { return false };
    let (old_a, old_b) = (of.events[at_a].clone(), of.events[at_b].clone());
    let new_a = Event { kind: old_b.kind.clone(), ..old_a.clone() };
    let new_b = Event { kind: old_a.kind.clone(), ..old_b.clone() };
    let sends: Vec<OpId> = of.ops.iter().filter(|op| op.acked().is_some()).map(|op| op.id).collect();
    let change = |event: &mut Event| match event.seq {
        seq if event.session == session && seq == a => *event = new_a.clone(),
        seq if event.session == session && seq == b => *event = new_b.clone(),
        _ => {}
    };
    for line in lines.iter_mut() {
        match &mut line.body {
            Body::Event { event, .. } => change(event),
            Body::Final { events, .. } | Body::Ok { result: Some(Reply::History { events, .. }), .. } => {
                events.iter_mut().for_each(change);
            }
            Body::Ok { op, result: Some(Reply::Sent { seq, ts, .. }) } if sends.contains(op) => match *seq {
                of_a if of_a == a => (*seq, *ts) = (b, old_b.ts),
                of_b if of_b == b => (*seq, *ts) = (a, old_a.ts),
                _ => {}
            },
            _ => {}
        }
    }
    true
}

fn make_stale(lines: &mut Lines, dice: &mut Dice) -> bool {
    let stale = find_op(lines, dice, |session, op| {
        op.page().is_some_and(|(.., head, _)| head > 0 && session.timeline.known_before(op.invoked) as u64 == head)
    });
    let Some((_, Some(end))) = stale else { return false };
    let Body::Ok { result: Some(Reply::History { events, head }), .. } = &mut lines[end].body else { return false };
    *head -= 1;
    events.retain(|event| event.seq.0 <= *head);
    true
}

fn drop_from_page(lines: &mut Lines, dice: &mut Dice) -> bool {
    let Some((_, Some(end))) = find_op(lines, dice, |_, op| op.page().is_some_and(|(events, ..)| !events.is_empty()))
    else {
        return false;
    };
    let Body::Ok { result: Some(Reply::History { events, .. }), .. } = &mut lines[end].body else { return false };
    events.remove(dice.roll(events.len()));
    true
}

fn turn_cursor_back(lines: &mut Lines, dice: &mut Dice) -> bool {
    let is_so = |body: &Body| matches!(body, Body::Cursor { received, .. } if *received > 0);
    let Some(at) = find(lines, dice, is_so) else { return false };
    let mut again = lines[at].clone();
    if let Body::Cursor { received, .. } = &mut again.body {
        *received -= 1;
    }
    lines.insert(at + 1, again);
    true
}

fn change_hash(lines: &mut Lines, dice: &mut Dice) -> bool {
    let is_so = |body: &Body| matches!(body, Body::Hash { applied: Applied(100), .. });
    let Some(at) = find(lines, dice, is_so) else { return false };
    let Body::Hash { hash, .. } = &mut lines[at].body else { return false };
    hash.push('0');
    true
}

fn serve_twice(lines: &mut Lines, dice: &mut Dice) -> bool {
    let Some(at) = find(lines, dice, |body| matches!(body, Body::Serving { .. })) else { return false };
    let mut again = lines[at].clone();
    if let Body::Serving { node, .. } = &mut again.body {
        node.0 = node.0 % 3 + 1;
    }
    lines.insert(at + 1, again);
    true
}

fn delay_ready(lines: &mut Lines, dice: &mut Dice) -> bool {
    let ready = |body: &Body| matches!(body, Body::Ready { .. });
    if dice.roll(2) == 0 {
        lines.retain(|line| !ready(&line.body));
        return true;
    }
    let Some(at) = find(lines, dice, ready) else { return false };
    lines[at].body = Body::Ready { since: u64::MAX };
    true
}

/// A refusal right after the holder's own send was acked, while nothing that could take the session away is under way.
fn refuse_holder(lines: &mut Lines, dice: &mut Dice) -> bool {
    let index = Index::of(lines, Limits::default());
    let mut places = Vec::new();
    for session in index.sessions.values() {
        for span in &session.talk.spans {
            let from = session.timeline.latest[span.from];
            let to = span.to.map_or(Line(lines.len()), |to| session.timeline.earliest[to]);
            if from < to && from.0 + 1 < to.0 {
                places.push((session.id.clone(), span.agent.clone(), from.0));
            }
        }
    }
    if places.is_empty() {
        return false;
    }
    let (session, agent, at) = places.swap_remove(dice.roll(places.len()));
    let is_of = |line: &&Record| matches!(&line.body, Body::Client { who: Who::Agent(one), .. } if *one == agent);
    let Some(Body::Client { client, .. }) = lines.iter().find(is_of).map(|line| &line.body) else { return false };
    let (client, op, t) = (*client, OpId(1_000_000), lines[at].t);
    let what = What::Close { session, seen: None };
    let code = refusals::CODES[dice.roll(refusals::CODES.len())].to_owned();
    let both = [Body::Invoke { op, client, what }, Body::Fail { op, code }];
    lines.splice(at..at, both.map(|body| Record { t, body }));
    true
}

/// Removes all operations like the one at this line.
fn drop_like(lines: &mut Lines, begin: usize) {
    let Body::Invoke { client, what, .. } = lines[begin].body.clone() else { return };
    let like: Vec<OpId> = lines
        .iter()
        .filter_map(|line| match &line.body {
            Body::Invoke { op, client: by, what: other } if (*by, other) == (client, &what) => Some(*op),
            _ => None,
        })
        .collect();
    lines.retain(|line| match &line.body {
        Body::Invoke { op, .. } | Body::Ok { op, .. } | Body::Fail { op, .. } | Body::Unknown { op, .. } => {
            !like.contains(op)
        }
        _ => true,
    });
}

fn drop_moves(lines: &mut Lines, dice: &mut Dice) -> bool {
    let found = find_op(lines, dice, |session, op| match op.what {
        What::Move { agent, .. } => session.talk.moves().any(|span| span.agent == agent),
        _ => false,
    });
    found.map(|(begin, _)| drop_like(lines, begin)).is_some()
}

fn drop_closes(lines: &mut Lines, dice: &mut Dice) -> bool {
    let found = find_op(lines, dice, |session, op| {
        let by_it = |event: &Event| matches!(&event.kind, EventKind::Closed { by } if *by == op.by);
        // A person may close from two clients; what one did the other may have done.
        let closes = session.ops.iter().filter(|other| matches!(other.what, What::Close { .. }) && other.by == op.by);
        matches!(op.what, What::Close { .. }) && session.events.iter().any(by_it) && { closes }
            .all(|other| other.client == op.client)
    });
    found.map(|(begin, _)| drop_like(lines, begin)).is_some()
}

fn change_sender(lines: &mut Lines, dice: &mut Dice) -> bool {
    let of_agent = |session: &Session<'_>, op: &Op<'_>| is_single(session, op) && matches!(op.by, Party::Agent(_));
    let Some((begin, _)) = find_op(lines, dice, of_agent) else { return false };
    let Body::Invoke { client: sender, .. } = lines[begin].body else { return false };
    let agents: Vec<(ClientId, AgentId)> = lines
        .iter()
        .filter_map(|line| match &line.body {
            Body::Client { client, who: Who::Agent(agent) } => Some((*client, agent.clone())),
            _ => None,
        })
        .collect();
    let Some((_, own)) = agents.iter().find(|(client, _)| *client == sender) else { return false };
    let Some((other, _)) = agents.iter().find(|(_, agent)| agent != own) else { return false };
    let Body::Invoke { client, .. } = &mut lines[begin].body else { return false };
    *client = *other;
    true
}
