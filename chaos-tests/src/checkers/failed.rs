//! Owns "what was refused never happened". Does not ask whether the refusal was right (`assignment`). Invariant: pure.

use std::collections::HashSet;

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Session};
use crate::history::EventKind;

pub const NAME: &str = "failed-never";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for session in index.sessions.values() {
        check_session(session, &mut found);
    }
    found
}

fn check_session(session: &Session<'_>, found: &mut Findings) {
    let mut refused = HashSet::new();
    for message in session.messages.iter().filter(|message| message.is_failed(session)) {
        found.count();
        refused.insert(message.text);
    }
    if refused.is_empty() {
        return;
    }
    let finals = session.finals.iter().flat_map(|one| one.events.iter().map(move |event| (event, one.line)));
    let told = session.told.iter().map(|told| (told.event, told.line));
    for (event, line) in finals.chain(told) {
        let EventKind::Message { text, .. } = &event.kind else { continue };
        // Removed, so that one violation is told once.
        if refused.remove(&**text) {
            let mut lines = session.message(text).map(|message| message.lines(session)).unwrap_or_default();
            lines.push(line);
            let text = format!("`{text}` was refused and stands at {}", event.seq);
            found.breach(session, Some(event.seq), text, &lines);
        }
    }
}
