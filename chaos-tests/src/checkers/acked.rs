//! Owns "an acknowledged send is stored once, at its place, as it was sent". Does not look at other nodes' copies (`finals`).
//! Invariant: pure.

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Line, Message, Session};
use crate::history::{Event, EventKind, Seq};

pub const NAME: &str = "acked-once";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for session in index.sessions.values().filter(|session| session.has_final()) {
        for message in session.messages.iter().filter(|message| message.is_acked(session)) {
            found.count();
            check_message(session, message, &mut found);
        }
    }
    found
}

fn check_message(session: &Session<'_>, message: &Message<'_>, found: &mut Findings) {
    let text = message.text;
    for (seq, ts, line) in message.attempts.iter().filter_map(|at| session.ops[*at].acked()) {
        let begun = session.ops[message.attempts[0]].invoked;
        let lines = [begun, line, session.final_line];
        match session.places(text) {
            [] => found.breach(session, Some(seq), format!("`{text}`, acked at {seq}, is lost"), &lines),
            [place] if *place != seq => {
                found.breach(session, Some(seq), format!("`{text}` was acked at {seq} and stands at {place}"), &lines);
            }
            [_] => check_event(session, message, (seq, ts, line), found),
            [first, second, ..] => {
                let text = format!("`{text}`, acked at {seq}, stands at {first} and at {second}");
                found.breach(session, Some(seq), text, &lines);
            }
        }
    }
}

fn check_event(session: &Session<'_>, message: &Message<'_>, (seq, ts, line): (Seq, u64, Line), found: &mut Findings) {
    let Some(event) = session.position(seq).map(|at| &session.events[at]) else { return };
    let Event { kind: EventKind::Message { from, .. }, ts: stored, .. } = event else { return };
    let lines = [line, session.final_line];
    if *from != message.by {
        let text = format!("`{}` of {} stands at {seq} as sent by {from}", message.text, message.by);
        found.breach(session, Some(seq), text, &lines);
    }
    if *stored != ts {
        found.breach(session, Some(seq), format!("seq {seq} was acked with ts {ts} and has {stored}"), &lines);
    }
}
