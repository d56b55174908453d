//! Owns "what a client has seen it does not lose sight of": the head of a read lies at or above that of each read that had
//! ended, of each own send that was acknowledged and of each event told before. Does not compare clients (`fresh`).
//! Invariant: pure.

use std::collections::BTreeMap;

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Line, Session};
use crate::history::{ClientId, Seq};

pub const NAME: &str = "monotonic-reads";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for session in index.sessions.values() {
        check_session(session, &mut found);
    }
    found
}

fn check_session(session: &Session<'_>, found: &mut Findings) {
    let mut seen = BTreeMap::<ClientId, Vec<(Line, u64, &str)>>::new();
    for op in &session.ops {
        if let Some((seq, _, line)) = op.acked() {
            seen.entry(op.client).or_default().push((line, seq.0, "its own send was acked at"));
        }
        if let Some((_, head, line)) = op.page() {
            seen.entry(op.client).or_default().push((line, head, "it had read head"));
        }
    }
    for told in &session.told {
        seen.entry(told.client).or_default().push((told.line, told.event.seq.0, "it was told seq"));
    }
    for seen in seen.values_mut() {
        seen.sort_unstable();
        // The highest so far, so that one search finds the floor.
        for at in 1..seen.len() {
            if seen[at].1 < seen[at - 1].1 {
                seen[at].1 = seen[at - 1].1;
                seen[at].2 = seen[at - 1].2;
            }
        }
    }
    for op in &session.ops {
        let Some((_, head, line)) = op.page() else { continue };
        found.count();
        let Some(seen) = seen.get(&op.client) else { continue };
        let before = seen.partition_point(|(line, ..)| *line < op.invoked);
        let Some((_, floor, how)) = before.checked_sub(1).map(|at| seen[at]) else { continue };
        if head < floor {
            let source = seen.partition_point(|(_, seq, _)| *seq < floor);
            let text = format!("client {} read head {head} after {how} {floor}", op.client);
            let lines = [seen[source].0, op.invoked, line];
            found.breach(session, Some(Seq(floor)), text, &lines);
        }
    }
}
