//! Owns "no client notices by itself that a node broke the protocol": what it hides from the person is in no other line.
//! Invariant: pure.

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Line};
use crate::history::Body;

pub const NAME: &str = "noticed-by-clients";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for (record, number) in index.records.iter().zip(1..) {
        match &record.body {
            Body::Client { .. } => found.count(),
            Body::Broken { client, what } => {
                found.breach_of_run(format!("client {client} noticed: {what}"), &[Line(number)]);
            }
            _ => {}
        }
    }
    found
}
