//! Owns what became of events that left the rows for the archive, and which object holds them. Does not read or write objects: the node
//! does. Invariant: the archive holds the oldest events of a session, without a gap; apply never needs an object.

use crate::apply::Shard;
use crate::cache::Mark;
use crate::history::{self, HistoryRange};
use crate::journal::Note;
use crate::keys;
use crate::limits::{ARCHIVE_EVENTS_MAX, ARCHIVE_RANGES_MAX};
use crate::log::event_bytes;
use crate::objects::note_object;
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::{self, ArchivedRow, Changes, Rows};
use crate::session::{self, Session};
use proto::archive::{ArchiveChange, ArchivedRange};
use proto::command::{Event, EventBody};
use proto::ids::{AttachmentId, SessionId};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// An object of the archive, as whoever reads knows it.
#[derive(Debug, Clone)]
pub enum Archived {
    Events(Arc<Vec<Arc<Event>>>),
    /// The place does not have it any more: its events read as if they were erased.
    Lost,
}

/// What of a session could be moved: all events behind `after`, up to `upto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movable {
    pub after: u64,
    pub upto: u64,
}

/// Some of them, and their weight in bytes.
pub type MovablePage = (Vec<Arc<Event>>, usize);

/// What the archive has of one session.
#[derive(Default)]
pub(crate) struct Cold {
    row: ArchivedRow,
    mark: Mark,
    /// First seqs of the blocks that rows may still hold of it.
    leaving: Vec<u64>,
    /// So many of them are in the checkpoint under way.
    leaving_now: usize,
}

impl Cold {
    pub(crate) fn load(rows: &dyn Rows, session: SessionId, head: u64) -> Result<Cold, ApplyError> {
        let Some(row) = rows::read::<ArchivedRow>(rows, "archived", &keys::archived(session))? else {
            return Ok(Cold::default());
        };
        if !is_sound(&row.ranges, 0) || row.ranges.last().is_some_and(|range| range.last > head) {
            return Err(rows::corrupt("archived", "its ranges are not those of the session"));
        }
        Ok(Cold { row, ..Cold::default() })
    }

    /// The last event that is in the archive; 0: none.
    pub(crate) fn last(&self) -> u64 {
        self.row.ranges.last().map_or(0, |range| range.last)
    }

    pub(crate) fn ranges(&self) -> &[ArchivedRange] {
        &self.row.ranges
    }

    /// Whether an object holds events after `seq`.
    pub(crate) fn holds_after(&self, seq: u64) -> bool {
        self.row.ranges.iter().any(|range| range.object.is_some() && range.last > seq)
    }

    fn at(&self, seq: u64) -> Option<&ArchivedRange> {
        let at = self.row.ranges.partition_point(|range| range.last < seq);
        self.row.ranges.get(at).filter(|range| range.first <= seq)
    }

    /// Whether there is a message at `seq` that can be answered.
    pub(crate) fn is_message(&self, seq: u64) -> bool {
        let Some(range) = self.at(seq).filter(|range| range.object.is_some()) else { return false };
        usize::try_from(seq - range.first).ok().and_then(|at| range.marks.get(at)).is_some_and(|mark| mark & 1 == 1)
    }

    /// The events of the range that holds `seq`. What was erased needs no object.
    pub(crate) fn events(&self, rows: &dyn Rows, seq: u64) -> Result<Arc<Vec<Arc<Event>>>, ApplyError> {
        let range = self.at(seq).ok_or_else(|| rows::corrupt("archived", "events below the head are missing"))?;
        match &range.object {
            None => Ok(places(range)),
            Some(object) => match rows.archived(&object.name) {
                Some(Archived::Events(events)) => Ok(events),
                Some(Archived::Lost) => Ok(places(range)),
                None => Err(ApplyError::Archived(Box::new(object.clone()))),
            },
        }
    }

    fn change(&mut self) -> &mut Vec<ArchivedRange> {
        self.mark.touch();
        &mut self.row.ranges
    }

    /// Those blocks are not needed any more.
    pub(crate) fn leave(&mut self, blocks: impl IntoIterator<Item = u64>) {
        self.leaving.extend(blocks);
        self.mark.touch();
    }

    /// Call it before blocks are saved.
    pub(crate) fn save(&mut self, session: SessionId, out: &mut Changes) {
        if self.mark.begin() {
            self.leaving_now = self.leaving.len();
            out.extend(self.leaving.iter().map(|first| (keys::block(session, *first), None)));
            rows::save(out, keys::archived(session), &self.row);
        }
    }

    pub(crate) fn saved(&mut self, written: bool) {
        let now = std::mem::take(&mut self.leaving_now);
        if written {
            self.leaving.drain(..now);
        }
        self.mark.end(written);
    }

    pub(crate) fn bytes(&self) -> usize {
        let of = |range: &ArchivedRange| {
            size_of::<ArchivedRange>()
                + 8 * range.marks.len()
                + 24 * range.files.len()
                + range.object.as_ref().map_or(0, |object| object.name.len())
        };
        self.row.ranges.iter().map(of).sum::<usize>() + 8 * self.leaving.len()
    }
}

/// Seqs and times of a range.
fn times(range: &ArchivedRange) -> impl Iterator<Item = (u64, u64)> + '_ {
    let mut ts_ms = 0_u64;
    (range.first..).zip(&range.marks).map(move |(seq, mark)| {
        ts_ms = ts_ms.saturating_add(mark >> 1);
        (seq, ts_ms)
    })
}

/// What stays of a range whose events are gone.
fn places(range: &ArchivedRange) -> Arc<Vec<Arc<Event>>> {
    Arc::new(times(range).map(|(seq, ts_ms)| Arc::new(Event { seq, ts_ms, body: EventBody::Gone })).collect())
}

/// Whether ranges follow each other after event `after`, and say of each event what they must.
fn is_sound(ranges: &[ArchivedRange], after: u64) -> bool {
    let mut next = after + 1;
    ranges.iter().all(|range| {
        let events = range.last.checked_sub(range.first).map(|more| more + 1);
        let is_next = range.first == next && events == Some(range.marks.len() as u64);
        next = range.last.saturating_add(1);
        is_next && range.last < u64::MAX && range.marks.len() <= ARCHIVE_EVENTS_MAX
    })
}

/// What is known of events without their object. `object` is set by whoever writes it.
pub fn archived_range(events: &[Arc<Event>]) -> Option<ArchivedRange> {
    let (first, last) = (events.first()?.seq, events.last()?.seq);
    let mut before_ms = 0;
    let mark = |event: &Arc<Event>| {
        let since_ms = event.ts_ms.saturating_sub(before_ms);
        before_ms = event.ts_ms;
        since_ms << 1 | u64::from(is_message(&event.body))
    };
    let marks = events.iter().map(mark).collect();
    let named = |event: &Arc<Event>| files_of(&event.body).map(|file| (event.seq, file)).collect::<Vec<_>>();
    Some(ArchivedRange { first, last, object: None, marks, files: events.iter().flat_map(named).collect() })
}

/// Whether any of the events is worth an object.
pub fn is_worth_moving(events: &[Arc<Event>]) -> bool {
    events.iter().any(|event| is_message(&event.body))
}

/// Whether it is a message that was not recalled.
pub(crate) fn is_message(body: &EventBody) -> bool {
    match body {
        EventBody::Message { text, attachments, .. } => !text.is_empty() || !attachments.is_empty(),
        _ => false,
    }
}

/// The files of a message.
pub(crate) fn files_of(body: &EventBody) -> impl Iterator<Item = AttachmentId> {
    let attachments = if let EventBody::Message { attachments, .. } = body { attachments.as_slice() } else { &[] };
    attachments.iter().map(|attachment| attachment.id)
}

impl Session {
    /// Empties the next range up to `upto`: objects and files that go, and the last seq that is gone. A range of which only a part is wanted
    /// stays, and what is behind it, unless `whole` says that it goes as a whole.
    pub(crate) fn erase_archived(&mut self, upto: u64, whole: bool) -> (Vec<String>, Vec<AttachmentId>, u64) {
        let goes =
            |range: &&ArchivedRange| range.object.is_none() || upto >= if whole { range.first } else { range.last };
        // One object at a time: no command is long, and who indexes events hears of each.
        let mut taken = 0;
        let is_first = |range: &&ArchivedRange| {
            taken += usize::from(range.object.is_some());
            taken <= 1
        };
        let gone: Vec<&ArchivedRange> = self.log.cold.ranges().iter().take_while(goes).take_while(is_first).collect();
        let last = gone.last().map_or(0, |range| range.last);
        let (mut objects, mut files) = (Vec::new(), Vec::new());
        if gone.iter().any(|range| range.object.is_some()) {
            for range in self.log.cold.change().iter_mut().take_while(|range| range.last <= last) {
                objects.extend(range.object.take().map(|object| object.name));
                files.extend(std::mem::take(&mut range.files).into_iter().map(|(_, file)| file));
            }
        }
        (objects, files, self.erased.max(last))
    }
}

impl Shard {
    pub(crate) fn archive(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        change: ArchiveChange,
    ) -> Result<Reply, ApplyError> {
        match change {
            ArchiveChange::Begin { objects } => self.archive_begin(rows, id, objects),
            ArchiveChange::Moved { ranges } => self.archive_moved(rows, id, ranges),
            ArchiveChange::Cut { range } => self.archive_cut(rows, id, range),
            ArchiveChange::Dropped { object } => {
                if self.object(rows, id, &object)?.is_some() {
                    self.drop_object(id, object);
                }
                Ok(Reply::Done)
            }
            ArchiveChange::Deleted { object } => {
                note_object(&mut self.work, id, &object, 0);
                self.name_object(id, &object);
                Ok(Reply::Done)
            }
            ArchiveChange::BeginFile { file, objects } => self.archive_begin_file(rows, id, file, objects),
            ArchiveChange::FileMoved { file, objects } => self.archive_file_moved(rows, id, file, objects),
        }
    }

    fn archive_begin(&mut self, rows: &dyn Rows, id: SessionId, objects: Vec<String>) -> Result<Reply, ApplyError> {
        // One that a range names is there already.
        let named = |session: &Session| {
            let mut known = session.log.cold.ranges().iter().flat_map(|range| &range.object);
            known.any(|object| objects.contains(&object.name))
        };
        let is_named = self.with_session(rows, id, named)?.unwrap_or(true);
        if is_named { Ok(Reply::Rejected(Refusal::Changed)) } else { self.begin_objects(rows, id, objects) }
    }

    fn archive_moved(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        ranges: Vec<ArchivedRange>,
    ) -> Result<Reply, ApplyError> {
        if !self.are_written(rows, id, &ranges)? {
            return Ok(Reply::Rejected(Refusal::Changed));
        }
        let work = &mut self.work;
        let Some(mut session) = session::hold(&mut self.sessions, rows, id, work.tick)? else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        let cold = &session.log.cold;
        let fits = is_sound(&ranges, cold.last()) && cold.ranges().len() + ranges.len() <= ARCHIVE_RANGES_MAX;
        // Whatever changes an event adds one: the same head is the same content.
        let is_same = ranges.last().is_some_and(|range| range.last == session.log.head());
        if session.open.is_some() || !fits || !is_same {
            return Ok(Reply::Rejected(Refusal::Changed));
        }
        let session = session.change();
        session.log.forget(rows, id)?;
        work.journal.note_session(Note::Archive, id, &[2, session.log.head(), ranges.len() as u64]);
        let names: Vec<String> =
            ranges.iter().flat_map(|range| &range.object).map(|object| object.name.clone()).collect();
        session.log.cold.change().extend(ranges);
        for name in names {
            self.objects.put((id, xxh3_128(name.as_bytes())), work.tick, None);
        }
        Ok(Reply::Done)
    }

    /// Whether each range has an object that was announced and is not to be deleted.
    fn are_written(&self, rows: &dyn Rows, id: SessionId, ranges: &[ArchivedRange]) -> Result<bool, ApplyError> {
        for range in ranges {
            let Some(object) = &range.object else { return Ok(false) };
            if self.object(rows, id, &object.name)?.is_none_or(|known| known.is_dropped) {
                return Ok(false);
            }
        }
        Ok(!ranges.is_empty())
    }

    fn archive_cut(&mut self, rows: &dyn Rows, id: SessionId, range: ArchivedRange) -> Result<Reply, ApplyError> {
        if !self.are_written(rows, id, std::slice::from_ref(&range))? {
            return Ok(Reply::Rejected(Refusal::Changed));
        }
        let work = &mut self.work;
        let Some(mut held) = session::hold(&mut self.sessions, rows, id, work.tick)? else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        let old = held.log.cold.ranges().iter().position(|old| old.last == range.last && old.object.is_some());
        let Some(at) = old.filter(|_| held.open.is_none()) else { return Ok(Reply::Rejected(Refusal::Changed)) };
        let before = &held.log.cold.ranges()[at];
        let is_part = before.first < range.first && is_sound(std::slice::from_ref(&range), range.first - 1);
        let is_full = held.log.cold.ranges().len() >= ARCHIVE_RANGES_MAX;
        if !is_part || is_full {
            return Ok(Reply::Rejected(Refusal::Changed));
        }
        let session = held.change();
        let (site, upto) = (session.site, range.first - 1);
        let (old_object, files) = cut(session.log.cold.change(), at, range.clone());
        session.erased = session.erased.max(upto);
        work.journal.note_session(Note::Archive, id, &[3, range.first, range.last]);
        let event = session.log.append(work.clock_ms, EventBody::Erased { upto });
        work.event(site, id, event);
        drop(held);
        for file in files {
            self.attachments.remove(rows, &mut self.work, &mut self.dues, &mut self.objects, (id, file))?;
        }
        if let Some(object) = range.object {
            self.name_object(id, &object.name);
        }
        if let Some(name) = old_object {
            self.drop_object(id, name);
        }
        Ok(Reply::Done)
    }

    /// The events of a session that could go to the archive: no conversation is open, and the last event is older than `before_ms`.
    /// `None` also when there are more than `events_max`. It looks at the last event alone: read them by `movable_page`.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn movable(
        &self,
        rows: &dyn Rows,
        id: SessionId,
        before_ms: u64,
        events_max: usize,
    ) -> Result<Option<Movable>, ApplyError> {
        let read = |session: &Session| {
            let (head, cold) = (session.log.head(), session.log.cold.last());
            let is_full = session.log.cold.ranges().len() >= ARCHIVE_RANGES_MAX / 2;
            if session.open.is_some() || is_full || head == cold || head - cold > events_max as u64 {
                return Ok(None);
            }
            let last = history::read(rows, id, &session.log, HistoryRange::Latest, 1, usize::MAX)?;
            if last.events.iter().any(|event| event.ts_ms >= before_ms) {
                return Ok(None);
            }
            Ok(Some(Movable { after: cold, upto: head }))
        };
        self.with_session(rows, id, read)?.unwrap_or(Ok(None))
    }

    /// Events of `of` behind `seq`, about `bytes_max` bytes of them, and at least one; `None`: something has happened in the session since.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn movable_page(
        &self,
        rows: &dyn Rows,
        id: SessionId,
        of: Movable,
        seq: u64,
        bytes_max: usize,
    ) -> Result<Option<MovablePage>, ApplyError> {
        let read = |session: &Session| {
            let is_same = session.log.head() == of.upto && session.log.cold.last() == of.after;
            if session.open.is_some() || !is_same || seq < of.after {
                return Ok(None);
            }
            let page = history::read(rows, id, &session.log, HistoryRange::After(seq), usize::MAX, bytes_max)?;
            let bytes = page.events.iter().map(|event| event_bytes(event)).sum();
            Ok((!page.events.is_empty()).then_some((page.events, bytes)))
        };
        self.with_session(rows, id, read)?.unwrap_or(Ok(None))
    }

    /// A range of the archive of which a part, and not all, is older than that: the range, and the last seq that is. No conversation
    /// is open.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn cuttable(
        &self,
        rows: &dyn Rows,
        id: SessionId,
        before_ms: u64,
    ) -> Result<Option<(ArchivedRange, u64)>, ApplyError> {
        let find = |session: &Session| {
            let range = session.log.cold.ranges().iter().find(|range| range.object.is_some())?;
            let old = times(range).take_while(|(_, ts_ms)| *ts_ms < before_ms).last()?.0;
            let is_part = session.open.is_none() && old < range.last && old > session.erased;
            is_part.then(|| (range.clone(), old))
        };
        Ok(self.with_session(rows, id, find)?.flatten())
    }

    /// The last event of the ranges that are older than that as a whole and not erased.
    pub(crate) fn old_archived(session: &Session, before_ms: u64) -> Option<u64> {
        let is_old = |range: &&ArchivedRange| times(range).last().is_some_and(|(_, ts_ms)| ts_ms < before_ms);
        let old = session.log.cold.ranges().iter().take_while(is_old).filter(|range| range.object.is_some());
        old.map(|range| range.last).last()
    }

    /// Every range that the archive has of a session.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn archived(&self, rows: &dyn Rows, id: SessionId) -> Result<Vec<ArchivedRange>, ApplyError> {
        Ok(self.with_session(rows, id, |session| session.log.cold.ranges().to_vec())?.unwrap_or_default())
    }
}

/// Puts `range` in the place of the end of the range at `at`; the object and the files that go.
fn cut(ranges: &mut Vec<ArchivedRange>, at: usize, range: ArchivedRange) -> (Option<String>, Vec<AttachmentId>) {
    let old = &mut ranges[at];
    let object = old.object.take().map(|object| object.name);
    old.last = range.first - 1;
    old.marks.truncate(usize::try_from(range.first - old.first).expect("it is a part of the range"));
    let files = std::mem::take(&mut old.files).into_iter().filter(|(seq, _)| *seq < range.first);
    let files = files.map(|(_, file)| file).collect();
    ranges.insert(at + 1, range);
    join_erased(ranges, at);
    (object, files)
}

/// Joins the erased range at `at` with the one before it: retention cuts a range again and again.
fn join_erased(ranges: &mut Vec<ArchivedRange>, at: usize) {
    let Some(before) = at.checked_sub(1).map(|before| &ranges[before]) else { return };
    if before.object.is_some() || before.marks.len() + ranges[at].marks.len() > ARCHIVE_EVENTS_MAX {
        return;
    }
    let before_ms = times(before).last().map_or(0, |(_, ts_ms)| ts_ms);
    let mut joined = ranges.remove(at);
    if let Some(mark) = joined.marks.first_mut() {
        *mark = (*mark >> 1).saturating_sub(before_ms) << 1;
    }
    let before = &mut ranges[at - 1];
    before.last = joined.last;
    before.marks.append(&mut joined.marks);
}
