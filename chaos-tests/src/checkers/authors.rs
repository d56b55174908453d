//! Owns "every stored message was sent, by the one whose name it bears, in this session". Does not count copies.
//! Invariant: pure.

use crate::checkers::findings::Findings;
use crate::checkers::index::Index;
use crate::history::EventKind;

pub const NAME: &str = "authors";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for session in index.sessions.values() {
        for event in session.events {
            let EventKind::Message { from, text } = &event.kind else { continue };
            found.count();
            let (why, mut lines) = match session.message(text) {
                None => (format!("nobody sent `{text}`, which stands at {}", event.seq), Vec::new()),
                Some(message) if message.by != *from => {
                    let text = format!("`{text}` at {} bears the name of {from}; {} sent it", event.seq, message.by);
                    (text, message.lines(session))
                }
                Some(_) => continue,
            };
            lines.push(session.final_line);
            found.breach(session, Some(event.seq), why, &lines);
        }
    }
    found
}
