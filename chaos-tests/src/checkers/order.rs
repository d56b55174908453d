//! Owns "what ended before another thing began has the lower seq", over sends, closes, moves and everything by which somebody
//! learnt of an event; and that a device's sends stand in the order of its numbers. Does not look into pages of history
//! (`fresh`). Invariant: pure.

use std::collections::BTreeMap;

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Line, Message, Session};
use crate::history::{Party, Seq};

pub const NAME: &str = "real-time-order";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for session in index.sessions.values() {
        check_windows(session, &mut found);
        check_devices(session, &mut found);
    }
    found
}

/// An event whose cause began only after it, or one above it, had been shown.
fn check_windows(session: &Session<'_>, found: &mut Findings) {
    let timeline = &session.timeline;
    let mut told = (Line::NEVER, Line::NEVER);
    for (at, event) in session.events.iter().enumerate() {
        found.count();
        let window = (timeline.earliest[at], timeline.latest[at]);
        // Between the two culprits every event has the same empty window.
        if window.0 > window.1 && window != told {
            told = window;
            let above = (at..session.events.len()).find(|above| timeline.shown[*above] == window.1).unwrap_or(at);
            let text = format!(
                "somebody knew of seq {} (line {}) before what stands at or below seq {} was asked for (line {})",
                session.events[above].seq, window.1, event.seq, window.0
            );
            let reply_of = session.ops.iter().find(|op| op.invoked == window.0).map_or(Line::NEVER, |op| op.lines()[1]);
            let begin_of = session.ops.iter().find(|op| op.ended() == window.1).map_or(Line::NEVER, |op| op.invoked);
            found.breach(session, Some(event.seq), text, &[window.0, window.1, reply_of, begin_of, session.final_line]);
        }
    }
}

fn check_devices(session: &Session<'_>, found: &mut Findings) {
    let mut devices = BTreeMap::<(&Party, &str), Vec<(u64, Seq, &Message<'_>)>>::new();
    for message in &session.messages {
        if let [seq] = session.places(message.text) {
            devices.entry((&message.by, &message.device.0)).or_default().push((message.n, *seq, message));
        }
    }
    for ((by, device), mut sends) in devices {
        sends.sort_by_key(|(n, ..)| *n);
        for pair in sends.windows(2) {
            found.count();
            let [(n, seq, first), (next_n, next_seq, second)] = pair else { continue };
            if next_n > n && next_seq < seq {
                let text = format!("send {n} of device {device} of {by} has seq {seq}, send {next_n} has {next_seq}");
                let mut lines = first.lines(session);
                lines.extend(second.lines(session));
                found.breach(session, Some(*seq), text, &lines);
            }
        }
    }
}
