//! Owns "a send whose outcome nobody learnt took effect once or not at all", and that one number of a device is one message.
//! Does not look at acknowledged sends' places (`acked`). Invariant: pure.

use std::collections::HashMap;

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Session};

pub const NAME: &str = "unknown-at-most-once";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for session in index.sessions.values() {
        check_session(session, &mut found);
    }
    found
}

fn check_session(session: &Session<'_>, found: &mut Findings) {
    let mut numbers = HashMap::new();
    for message in &session.messages {
        let places = session.places(message.text);
        if !message.is_acked(session) && !message.is_failed(session) {
            found.count();
            if let [first, second, ..] = places {
                let text = format!("`{}`, of unknown outcome, stands at {first} and at {second}", message.text);
                let mut lines = message.lines(session);
                lines.push(session.final_line);
                found.breach(session, Some(*first), text, &lines);
            }
        }
        let Some(seq) = places.first() else { continue };
        // A number whose send was refused may be used again, so only what is stored is compared.
        if let Some((text, other)) = numbers.insert((&message.by, message.device, message.n), (message.text, *seq)) {
            let text = format!(
                "send {} of device {} of {} is `{text}` at {other} and `{}` at {seq}",
                message.n, message.device, message.by, message.text
            );
            let mut lines = message.lines(session);
            lines.push(session.final_line);
            found.breach(session, Some(*seq), text, &lines);
        }
    }
}
