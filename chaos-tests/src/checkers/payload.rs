//! Owns "one seq of a session is one event, whoever looks": final histories of all nodes, events told, pages read and acks.
//! Does not care when it was seen. Invariant: pure.

use std::collections::BTreeMap;

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Line, Session};
use crate::history::{Event, EventKind, Seq, What};

pub const NAME: &str = "one-payload";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for session in index.sessions.values() {
        let mut seen = Seen { session, events: BTreeMap::new(), found: &mut found };
        for one in &session.finals {
            one.events.iter().for_each(|event| seen.show(event, one.line));
        }
        for told in &session.told {
            seen.show(told.event, told.line);
        }
        for op in &session.ops {
            if let Some((events, _, line)) = op.page() {
                events.iter().for_each(|event| seen.show(event, line));
            }
        }
        seen.check_acks();
    }
    found
}

struct Seen<'s, 'a> {
    session: &'s Session<'a>,
    events: BTreeMap<Seq, (&'a Event, Line)>,
    found: &'s mut Findings,
}

impl<'a> Seen<'_, 'a> {
    fn show(&mut self, event: &'a Event, line: Line) {
        self.found.count();
        let seq = event.seq;
        if event.session != *self.session.id {
            let text = format!("an event of {} was shown as one of {}", event.session, self.session.id);
            return self.found.breach(self.session, Some(seq), text, &[line]);
        }
        let (first, at) = *self.events.entry(seq).or_insert((event, line));
        if first != event {
            let text = format!("seq {seq} is {} for one and {} for another", describe(first), describe(event));
            self.found.breach(self.session, Some(seq), text, &[at, line]);
        }
    }

    fn check_acks(&mut self) {
        for op in &self.session.ops {
            let (Some((seq, ts, line)), What::Send { text, .. }) = (op.acked(), op.what) else { continue };
            self.found.count();
            let Some((event, at)) = self.events.get(&seq) else { continue };
            let sent = Event {
                session: self.session.id.clone(),
                seq,
                ts,
                kind: EventKind::Message { from: op.by.clone(), text: text.clone() },
            };
            if **event != sent {
                let text = format!("seq {seq} was acked as {} and is {}", describe(&sent), describe(event));
                self.found.breach(self.session, Some(seq), text, &[op.invoked, line, *at]);
            }
        }
    }
}

/// An event in a few words.
pub fn describe(event: &Event) -> String {
    let ts = event.ts;
    match &event.kind {
        EventKind::Message { from, text } => format!("`{text:.40}` of {from} (ts {ts})"),
        EventKind::Assigned { agent } => format!("assigned to {agent} (ts {ts})"),
        EventKind::Closed { by } => format!("closed by {by} (ts {ts})"),
        EventKind::Queued { by } => format!("given back by {by} (ts {ts})"),
        EventKind::Act { from, act } => format!("{act:?} by {from} (ts {ts})"),
        EventKind::Hidden => format!("something between agents (ts {ts})"),
        EventKind::Gone => format!("something that was erased (ts {ts})"),
        EventKind::Erased { upto } => format!("the erasure of what is up to {upto} (ts {ts})"),
        EventKind::Other => format!("something beside writing (ts {ts})"),
    }
}
