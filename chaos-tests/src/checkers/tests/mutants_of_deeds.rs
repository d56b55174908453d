//! Owns right histories with one thing made wrong about what people did beside writing. Does not run them: `mutants` does.

use super::mutants::{Kind, Lines, change_finals, find_op};
use super::world::Dice;
use crate::checkers::Limits;
use crate::checkers::index::{Index, Op, Session};
use crate::checkers::plain::events_of;
use crate::history::*;

pub const KINDS_OF_DEEDS: &[Kind] = &[
    ("an acked act is dropped from all finals", drop_act, &["acts-once"], 100),
    ("an acked act is doubled in all finals", double_act, &["acts-once"], 100),
    ("an acked act bears another name in all finals", change_doer, &["acts-once"], 100),
    ("an act's ack has another seq", change_place, &["acts-once"], 100),
    ("an acked act is told to have been refused", refuse_act, &["acts-once"], 100),
    ("two acts in sequence change places everywhere", swap_acts, &["acts-order"], 100),
    ("what was taken back stands in all finals", keep_text, &["taken-back"], 100),
    ("what nobody took back is empty in all finals", lose_text, &["acked-once"], 100),
    ("a visitor is told a note", tell_note, &["between-agents"], 100),
];

/// One that visitors see as it is, and that nothing else looks like.
fn is_plain(act: &Act) -> bool {
    matches!(act, Act::React { .. } | Act::Recall { .. })
}

fn acked_act<'a>(op: &Op<'a>) -> Option<(&'a Act, Seq)> {
    let (What::Act { act, .. }, Some((seq, ..))) = (op.what, op.acked()) else { return None };
    Some((act, seq))
}

/// Session and seq of an acknowledged act that is so.
fn find_act(lines: &Lines, dice: &mut Dice, is_so: impl Fn(&Act) -> bool) -> Option<(SessionId, Seq)> {
    let (begin, end) = find_op(lines, dice, |_, op| acked_act(op).is_some_and(|(act, _)| is_so(act)))?;
    let Body::Invoke { what, .. } = &lines[begin].body else { return None };
    let Body::Ok { result: Some(Reply::Sent { seq, .. }), .. } = &lines[end?].body else { return None };
    Some((what.session().clone(), *seq))
}

fn change_act(
    lines: &mut Lines,
    dice: &mut Dice,
    is_so: impl Fn(&Act) -> bool,
    change: impl Fn(&mut Vec<Event>, usize),
) -> bool {
    let Some((session, seq)) = find_act(lines, dice, is_so) else { return false };
    change_finals(lines, dice, |event| event.session == session && event.seq == seq, change)
}

fn drop_act(lines: &mut Lines, dice: &mut Dice) -> bool {
    change_act(lines, dice, |_| true, |events, at| drop(events.remove(at)))
}

fn double_act(lines: &mut Lines, dice: &mut Dice) -> bool {
    change_act(lines, dice, is_plain, |events, at| {
        let last = events[events.len() - 1].clone();
        events.push(Event { seq: Seq(last.seq.0 + 1), ts: last.ts, ..events[at].clone() });
    })
}

fn change_doer(lines: &mut Lines, dice: &mut Dice) -> bool {
    change_act(lines, dice, is_plain, |events, at| {
        if let EventKind::Act { from, .. } = &mut events[at].kind {
            *from = Party::Agent(AgentId::from("a9"));
        }
    })
}

fn change_place(lines: &mut Lines, dice: &mut Dice) -> bool {
    let is_so = |_: &Session<'_>, op: &Op<'_>| acked_act(op).is_some_and(|(act, _)| is_plain(act));
    let Some((_, Some(end))) = find_op(lines, dice, is_so) else { return false };
    let Body::Ok { result: Some(Reply::Sent { seq, .. }), .. } = &mut lines[end].body else { return false };
    seq.0 += 1;
    true
}

fn refuse_act(lines: &mut Lines, dice: &mut Dice) -> bool {
    let is_so = |_: &Session<'_>, op: &Op<'_>| acked_act(op).is_some_and(|(act, _)| is_plain(act));
    let Some((_, Some(end))) = find_op(lines, dice, is_so) else { return false };
    let Body::Ok { op, .. } = lines[end].body else { return false };
    lines[end].body = Body::Fail { op, code: "forbidden".to_owned() };
    true
}

/// Two acts of which one was acked before the other began exchange their places, whoever looks.
fn swap_acts(lines: &mut Lines, dice: &mut Dice) -> bool {
    let right = lines.clone();
    let index = Index::of(&right, Limits::default());
    let mut pairs = Vec::new();
    for session in index.sessions.values() {
        let acted: Vec<_> = session.ops.iter().filter_map(|op| Some((op, acked_act(op)?.1, op.acked()?.1))).collect();
        for (first, a, a_ts) in &acted {
            let later = acted.iter().find(|(second, ..)| first.ended() < second.invoked);
            pairs.extend(later.map(|(_, b, b_ts)| (session.id.clone(), (*a, *a_ts), (*b, *b_ts))));
        }
    }
    if pairs.is_empty() {
        return false;
    }
    let (session, a, b) = pairs.swap_remove(dice.roll(pairs.len()));
    let of_session = |op: OpId| index.op(op).is_some_and(|op| *op.what.session() == session);
    for line in lines {
        match &mut line.body {
            Body::Ok { op, result: Some(Reply::Sent { seq, ts, .. }) } if of_session(*op) => match *seq {
                of if of == a.0 => (*seq, *ts) = b,
                of if of == b.0 => (*seq, *ts) = a,
                _ => {}
            },
            _ => {}
        }
        // Only the places count: what stood there is found by its seq.
        for event in events_of(&mut line.body).iter_mut().filter(|event| event.session == session) {
            match event.seq {
                of if of == a.0 => event.kind = kind_at(&index, &session, b.0),
                of if of == b.0 => event.kind = kind_at(&index, &session, a.0),
                _ => {}
            }
        }
    }
    true
}

fn kind_at(index: &Index<'_>, session: &SessionId, seq: Seq) -> EventKind {
    let events = index.sessions[session].events;
    events.iter().find(|event| event.seq == seq).map_or(EventKind::Other, |event| event.kind.clone())
}

fn keep_text(lines: &mut Lines, dice: &mut Dice) -> bool {
    let Some((session, seq)) = find_act(lines, dice, |act| matches!(act, Act::Recall { .. })) else { return false };
    let Some(of) = recalled_by(lines, &session, seq) else { return false };
    change_finals(
        lines,
        dice,
        |event| event.session == session && event.seq == of,
        |events, at| {
            if let EventKind::Message { text, .. } = &mut events[at].kind {
                *text = "what was there".into();
            }
        },
    )
}

fn recalled_by(lines: &Lines, session: &SessionId, seq: Seq) -> Option<Seq> {
    lines.iter().find_map(|line| match &line.body {
        Body::Final { session: of, events, .. } if of == session => events.iter().find_map(|event| match &event.kind {
            EventKind::Act { act: Act::Recall { of }, .. } if event.seq == seq => Some(*of),
            _ => None,
        }),
        _ => None,
    })
}

fn lose_text(lines: &mut Lines, dice: &mut Dice) -> bool {
    let lost = find_op(lines, dice, |session, op| match (op.what, op.acked()) {
        (What::Send { text, .. }, Some(_)) => session.places(text).len() == 1,
        _ => false,
    });
    let Some((begin, _)) = lost else { return false };
    let Body::Invoke { what: What::Send { text: own, .. }, .. } = lines[begin].body.clone() else { return false };
    let is_it = |event: &Event| matches!(&event.kind, EventKind::Message { text, .. } if *text == own);
    change_finals(lines, dice, is_it, |events, at| {
        if let EventKind::Message { text, .. } = &mut events[at].kind {
            *text = "".into();
        }
    })
}

fn tell_note(lines: &mut Lines, dice: &mut Dice) -> bool {
    let from = dice.roll(lines.len());
    let is_hidden =
        |at: &usize| matches!(&lines[*at].body, Body::Event { event, .. } if event.kind == EventKind::Hidden);
    let Some(at) = (from..lines.len()).chain(0..from).find(is_hidden) else { return false };
    let Body::Event { event, .. } = &mut lines[at].body else { return false };
    let act = Act::Note { text: "between us".into() };
    event.kind = EventKind::Act { from: Party::Agent(AgentId::from("a1")), act };
    true
}
