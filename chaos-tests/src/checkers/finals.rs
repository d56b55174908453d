//! Owns "every node tells the same final history of every session". Does not look into it. Invariant: pure.

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Line, Session};
use crate::checkers::payload::describe;

pub const NAME: &str = "finals-agree";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    let Some(run) = index.run else { return found };
    let mut count = 0;
    for session in index.sessions.values().filter(|session| is_due(session)) {
        count += 1;
        for node in run.nodes {
            if !session.finals.iter().any(|one| one.node == *node) {
                found.breach(session, None, format!("there is no final history of node {node}"), &[]);
            }
        }
        check_agree(session, &mut found);
    }
    count += index.erased.len() as u64;
    if count != run.sessions {
        found.breach_of_run(format!("the run has {} sessions, the file {count}", run.sessions), &[Line(1)]);
    }
    found
}

/// An operation on a session that never was gives no history.
fn is_due(session: &Session<'_>) -> bool {
    session.has_final() || session.ops.is_empty() || session.ops.iter().any(|op| !op.is_failed())
}

fn check_agree(session: &Session<'_>, found: &mut Findings) {
    for one in &session.finals {
        found.count();
        if one.events == session.events {
            continue;
        }
        let same = one.events.iter().zip(session.events).take_while(|(a, b)| a == b).count();
        let here = one.events.get(same).map_or_else(|| "ends".to_owned(), describe);
        let there = session.events.get(same).map_or_else(|| "ends".to_owned(), describe);
        let text = format!("event {} differs: {here} on node {}, {there} on another", same + 1, one.node);
        let seq = session.events.get(same).map(|event| event.seq);
        found.breach(session, seq, text, &[one.line, session.final_line]);
    }
}
