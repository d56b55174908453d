//! Owns "a history read holds everything in its range that anybody knew of when it was asked for". Does not compare payloads
//! (`payload`). Invariant: pure.

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Line, Op, Session};
use crate::history::{Event, EventKind, Seq, What};

pub const NAME: &str = "fresh-reads";

/// Events of a page at most, whatever was asked for.
const PAGE_LEN_MAX: u64 = 200;
/// A page with so many bytes of text may end early (the node ends it at 256 KiB of frames).
const PAGE_BYTES_EARLY: usize = 128 * 1024;

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for session in index.sessions.values() {
        for op in &session.ops {
            if let (What::History { after, limit, .. }, Some((events, head, line))) = (op.what, op.page()) {
                found.count();
                let page = Page { session, op, after: *after, limit: *limit, events, head, line };
                page.check(&mut found);
            }
        }
    }
    found
}

struct Page<'s, 'a> {
    session: &'s Session<'a>,
    op: &'s Op<'a>,
    after: u64,
    limit: u64,
    events: &'a [Event],
    head: u64,
    line: Line,
}

impl Page<'_, '_> {
    fn check(&self, found: &mut Findings) {
        let mut breach = |seq: u64, text: String, other: Line| {
            let lines = [self.op.invoked, self.line, other];
            found.breach(self.session, Some(Seq(seq)), text, &lines);
        };
        let due = self.after.saturating_add(1)..;
        if let Some((due, event)) = due.zip(self.events).find(|(due, event)| event.seq.0 != *due) {
            breach(due, format!("a read has seq {} where {due} was due", event.seq), Line::NEVER);
        }
        let len = self.events.len() as u64;
        if len > self.limit {
            breach(self.after, format!("a read of at most {} events has {len}", self.limit), Line::NEVER);
        }
        if self.after.saturating_add(len) > self.head && len > 0 {
            breach(self.head, format!("a read has more than its head {}", self.head), Line::NEVER);
        }
        if self.session.has_final() && self.session.position(Seq(self.head)).is_none() && self.head > 0 {
            breach(self.head, format!("a read told head {}, which is not stored", self.head), self.session.final_line);
        }
        let timeline = &self.session.timeline;
        let known = timeline.known_before(self.op.invoked);
        if let Some(last) = known.checked_sub(1)
            && self.session.events[last].seq.0 > self.head
        {
            let seq = self.session.events[last].seq.0;
            let text = format!("a read told head {} after somebody knew of seq {seq}", self.head);
            breach(seq, text, timeline.latest[last]);
        }
        let asked = self.limit.min(PAGE_LEN_MAX).min(self.head.saturating_sub(self.after));
        if len < asked && (len == 0 || self.bytes() < PAGE_BYTES_EARLY) {
            let text = format!("a read after {} has {len} of {asked} events up to its head", self.after);
            breach(self.after.saturating_add(len + 1), text, Line::NEVER);
        }
    }

    fn bytes(&self) -> usize {
        let text = |event: &Event| if let EventKind::Message { text, .. } = &event.kind { text.len() } else { 0 };
        self.events.iter().map(text).sum()
    }
}
