//! Owns "after the last fault the whole cluster serves again within the deadline". Invariant: pure.

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Line};
use crate::history::Body;

pub const NAME: &str = "ready-in-time";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    // The last line of a fault that no `ready` has followed.
    let mut waiting = None;
    for (record, line) in index.records.iter().zip(1..).map(|(record, number)| (record, Line(number))) {
        match record.body {
            Body::Fault { .. } | Body::Healed { .. } => waiting = Some(line),
            Body::Ready { since } => {
                found.count();
                waiting = None;
                let limit = index.limits.ready_within_us;
                if since > limit {
                    found.breach_of_run(format!("served again after {since} µs; the limit is {limit} µs"), &[line]);
                }
            }
            _ => {}
        }
    }
    if let Some(line) = waiting {
        found.count();
        found.breach_of_run("nothing says that the shards served again after the last fault".to_owned(), &[line]);
    }
    found
}
