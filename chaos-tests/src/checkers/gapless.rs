//! Owns "seqs of a final history are 1, 2, 3, ... and its times never fall". Does not compare nodes. Invariant: pure.

use crate::checkers::findings::Findings;
use crate::checkers::index::Index;
use crate::history::Seq;

pub const NAME: &str = "gapless-finals";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for session in index.sessions.values() {
        for one in &session.finals {
            found.count();
            let node = one.node;
            if let Some((due, event)) = (1..).map(Seq).zip(one.events).find(|(due, event)| event.seq != *due) {
                let text = format!("node {node} has seq {} where {due} was due", event.seq);
                found.breach(session, Some(due), text, &[one.line]);
            }
            if let Some(pair) = one.events.windows(2).find(|pair| pair[1].ts < pair[0].ts) {
                let text = format!("on node {node} the ts of seq {} lies before the one before it", pair[1].seq);
                found.breach(session, Some(pair[1].seq), text, &[one.line]);
            }
        }
    }
    found
}
