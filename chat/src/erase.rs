//! Owns what goes from a session for good: events that are too old, and everything that is known of a visitor who asked for that. Also
//! who is not heard. Does not know why: the site does. Invariant: a seq stays, and so does what is known of repeated sends: what was
//! acknowledged once is neither doubled nor given to another message.

use crate::apply::Shard;
use crate::archive::files_of;
use crate::history::{self, HistoryRange};
use crate::journal::Note;
use crate::limits::ERASE_EVENTS_MAX;
use crate::outcome::{ApplyError, Effect, Refusal, Reply};
use crate::rows::Rows;
use crate::session;
use proto::command::EventBody;
use proto::desk::About;
use proto::ids::SessionId;
use std::collections::BTreeMap;

impl Shard {
    /// Empties the events up to `upto`, `ERASE_EVENTS_MAX` at once: repeat it until nothing is left (`Reply::Sent` with the last seq
    /// that is gone). `forget`: what is known of the visitor goes, too, with the first command.
    pub(crate) fn erase(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        upto: u64,
        forget: bool,
    ) -> Result<Reply, ApplyError> {
        let work = &mut self.work;
        let Some(mut held) = session::hold(&mut self.sessions, rows, id, work.tick)? else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        if held.open.is_some() {
            return Ok(Reply::Rejected(Refusal::Changed));
        }
        let session = held.change();
        let (objects, mut files, from) = session.erase_archived(upto, forget);
        // Behind a range that stays nothing goes, and with one that goes nothing else.
        let upto = if session.log.cold.holds_after(from) || !objects.is_empty() { from } else { upto };
        let from = from.max(session.log.cold.last().min(upto));
        let goes = if from < upto {
            let range = HistoryRange::After(from);
            history::read(rows, id, &session.log, range, ERASE_EVENTS_MAX, usize::MAX)?.events
        } else {
            Vec::new()
        };
        let old: Vec<_> = goes.iter().filter(|event| event.seq <= upto).collect();
        let is_told = |body: &EventBody| matches!(body, EventBody::Gone | EventBody::Erased { .. });
        let goes: BTreeMap<u64, EventBody> =
            old.iter().filter(|event| !is_told(&event.body)).map(|event| (event.seq, EventBody::Gone)).collect();
        files.extend(old.iter().flat_map(|event| files_of(&event.body)));
        let last = old.last().map_or(from, |event| event.seq);
        work.journal.note_session(Note::Erase, id, &[last, u64::from(forget)]);
        if forget {
            let gone = std::mem::take(&mut session.tokens);
            if !gone.is_empty() {
                work.effect(Effect::LoggedOut { session: id, gone });
            }
            session.about = About::default();
            session.labels.clear();
            session.attributes.clear();
            session.rating = None;
            session.proofs.clear();
            session.merged.clear();
            session.merged_into = None;
            session.reach.forget();
        }
        session.erased = last;
        if !goes.is_empty() || !objects.is_empty() {
            session.log.amend(rows, id, goes)?;
            let event = session.log.append(work.clock_ms, EventBody::Erased { upto: last });
            work.event(session.site, id, event);
        }
        drop(held);
        for file in files {
            self.attachments.remove(rows, work, &mut self.dues, &mut self.objects, (id, file))?;
        }
        if forget {
            self.emails.forget(rows, work, id)?;
        }
        for object in objects {
            self.drop_object(id, object);
        }
        Ok(Reply::Sent { seq: last, ts_ms: self.work.clock_ms, dup: false })
    }

    /// Nothing is taken from the visitor until then.
    pub(crate) fn block(&mut self, rows: &dyn Rows, id: SessionId, until_ms: Option<u64>) -> Result<Reply, ApplyError> {
        let work = &mut self.work;
        let Some(mut session) = session::hold(&mut self.sessions, rows, id, work.tick)? else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        if session.blocked_ms != until_ms {
            work.journal.note_session(Note::Block, id, &[until_ms.unwrap_or(0)]);
            session.change().blocked_ms = until_ms;
        }
        Ok(Reply::Done)
    }

    /// The last of a session's events that are older than that and not gone yet, when no conversation is open; looks at
    /// `ERASE_EVENTS_MAX` events.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn erasable(&self, rows: &dyn Rows, id: SessionId, before_ms: u64) -> Result<Option<u64>, ApplyError> {
        let read = |session: &session::Session| {
            if session.open.is_some() || session.erased == session.log.head() {
                return Ok(None);
            }
            let archived = Shard::old_archived(session, before_ms);
            if archived.is_some() || session.log.cold.holds_after(session.erased) {
                return Ok(archived);
            }
            let range = HistoryRange::After(session.erased.max(session.log.cold.last()));
            let page = history::read(rows, id, &session.log, range, ERASE_EVENTS_MAX, usize::MAX)?;
            let old = page.events.iter().take_while(|event| event.ts_ms < before_ms);
            let is_there = |body: &EventBody| !matches!(body, EventBody::Gone | EventBody::Erased { .. });
            Ok(old.filter(|event| is_there(&event.body)).map(|event| event.seq).last())
        };
        self.with_session(rows, id, read)?.unwrap_or(Ok(None))
    }
}
