//! Owns "cursors never go back and never pass the head": those that subscribers are told, and those answered to their owner.
//! Invariant: pure.

use std::collections::BTreeMap;

use crate::checkers::findings::Findings;
use crate::checkers::index::{End, Index, Line, Session};
use crate::history::{ClientId, Party, Reply};

pub const NAME: &str = "cursors";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for session in index.sessions.values() {
        check_told(session, &mut found);
        check_answers(session, &mut found);
    }
    found
}

fn check_told(session: &Session<'_>, found: &mut Findings) {
    let mut last = BTreeMap::<(ClientId, &Party), (u64, u64, Line)>::new();
    for told in &session.cursors {
        found.count();
        let now = (told.received, told.read, told.line);
        check_head(session, now, found);
        if let Some(before) = last.insert((told.client, told.by), now) {
            check_pair(session, told.by, before, now, found);
        }
    }
}

/// An owner may move its cursor from two clients at once, so only answers that had come before the next was asked count.
fn check_answers(session: &Session<'_>, found: &mut Findings) {
    let mut answers = BTreeMap::<&Party, Vec<(Line, (u64, u64))>>::new();
    for op in &session.ops {
        if let End::Ok { line, reply: Some(Reply::Cursor { received, read }) } = op.end {
            answers.entry(&op.by).or_default().push((line, (*received, *read)));
        }
    }
    for answers in answers.values_mut() {
        answers.sort_unstable();
        for at in 1..answers.len() {
            let (before, now) = (answers[at - 1].1, answers[at].1);
            answers[at].1 = (now.0.max(before.0), now.1.max(before.1));
        }
    }
    for op in &session.ops {
        let End::Ok { line, reply: Some(Reply::Cursor { received, read }) } = op.end else { continue };
        found.count();
        check_head(session, (*received, *read, line), found);
        let answers = &answers[&op.by];
        let before = answers.partition_point(|(line, _)| *line < op.invoked);
        if let Some((line_before, floor)) = before.checked_sub(1).map(|at| answers[at]) {
            check_pair(session, &op.by, (floor.0, floor.1, line_before), (*received, *read, line), found);
        }
    }
}

fn check_pair(
    session: &Session<'_>,
    by: &Party,
    before: (u64, u64, Line),
    now: (u64, u64, Line),
    found: &mut Findings,
) {
    if now.0 < before.0 || now.1 < before.1 {
        let text = format!("the cursor of {by} went back from {}/{} to {}/{}", before.0, before.1, now.0, now.1);
        found.breach(session, None, text, &[before.2, now.2]);
    }
}

fn check_head(session: &Session<'_>, (received, read, line): (u64, u64, Line), found: &mut Findings) {
    let head = session.events.last().map_or(0, |event| event.seq.0);
    if session.has_final() && received.max(read) > head {
        let text = format!("a cursor stands at {received}/{read} and the head is {head}");
        found.breach(session, None, text, &[line, session.final_line]);
    }
}
