//! Owns "what was taken back or erased is shown no more": in no history that is read later, and in nothing that is told on a socket
//! that was opened later. Does not ask whether it was taken back rightly (`acts`). Invariant: pure.

use std::collections::HashMap;

use crate::checkers::acts::{Sight, Tale};
use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Line};
use crate::history::{Act, EventKind, Seq, SessionId, What};

pub const NAME: &str = "taken-back";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for (session, tale) in &index.story.sessions {
        check_recalls(session, tale, &mut found);
        check_erasures(session, tale, &mut found);
    }
    found
}

fn check_recalls(session: &SessionId, tale: &Tale<'_>, found: &mut Findings) {
    // The first ack of each: from then on there is no text.
    let mut recalled = HashMap::<Seq, Line>::new();
    for deed in &tale.deeds {
        if let (Some(Act::Recall { of }), Some((line, _))) = (deed.act(), deed.acked) {
            found.count();
            let first = recalled.entry(*of).or_insert(line);
            *first = line.min(*first);
        }
    }
    if recalled.is_empty() {
        return;
    }
    for sight in &tale.sights {
        let (from, of, text) = match &sight.event.kind {
            EventKind::Message { from, text } => (from, sight.event.seq, text),
            EventKind::Act { from, act: Act::Edit { of, text } } => (from, *of, text),
            _ => continue,
        };
        // What a client is told of its own sends is made from its ack, and from the text that it still has.
        if sight.is_told && sight.by.is_some_and(|who| who.party() == *from) {
            continue;
        }
        let Some(gone) = recalled.get(&of).filter(|gone| **gone < sight.since && !text.is_empty()) else { continue };
        let text = format!("{session}: `{text:.40}` at {} was shown after {of} was taken back", sight.event.seq);
        found.breach_of_run(text, &[*gone, sight.since, sight.line]);
    }
}

/// What was acknowledged before an erasure began is gone once that is done.
fn check_erasures(session: &SessionId, tale: &Tale<'_>, found: &mut Findings) {
    for deed in &tale.deeds {
        let (What::Erase { .. }, Some((done, _))) = (deed.what, deed.acked) else { continue };
        found.count();
        let acked = tale.deeds.iter().filter_map(|other| {
            let (line, place) = other.acked?;
            (line < deed.invoked).then_some(place?.0)
        });
        let Some(upto) = acked.max() else { continue };
        let is_shown =
            |sight: &&Sight<'_>| sight.event.seq <= upto && done < sight.since && has_text(&sight.event.kind);
        for sight in tale.sights.iter().filter(is_shown) {
            let text = format!("{session}: seq {} was shown after all up to {upto} was erased", sight.event.seq);
            found.breach_of_run(text, &[deed.invoked, done, sight.line]);
        }
    }
}

fn has_text(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Gone | EventKind::Erased { .. })
}
