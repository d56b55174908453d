//! Owns feeding one index from the applied state of its replica. Does not know who searches. Invariant: the state is held for a slice at a
//! time, and whatever fails here is tried again: nothing of the shard waits for it.

use super::aside::{Aside, Fell};
use super::index::{Index, IndexError, Progress, Writer};
use super::schema::Said;
use chat::HistoryRange;
use chat::limits::ERASE_EVENTS_MAX;
use cluster::shard::Shard;
use parking_lot::RwLock;
use proto::act::Act;
use proto::command::{Event, EventBody, Party};
use proto::ids::{ReplicaId, SessionId, SiteId};
use proto::search::{SaidBy, SearchPlace};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Entries of the feed that are read while the state is held.
const SLICE: usize = 64;
/// Sessions that are looked up at once when an index is built from histories.
const SESSIONS_AT_ONCE: usize = 16;
/// Events of a session that are read while the state is held, and about so many bytes.
const HISTORY_EVENTS: usize = 64;
const HISTORY_BYTES: usize = 64 << 10;
/// One index has its turn for so long, then the others have theirs.
const TURN: Duration = Duration::from_millis(50);
/// Between two commits, while there is something to write: so late may something be found, and later while the node is loaded.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// So many events are committed at once, if they come faster.
const COMMIT_EVENTS_MAX: u64 = 20_000;
/// Changes that are handed to the index at once.
const CHANGES_MAX: usize = 512;
/// A writer with nothing to do is closed: it holds threads.
const WRITER_IDLE: Duration = Duration::from_secs(30);
/// What was taken out of an index leaves its files after so long.
const PURGE_AFTER: Duration = Duration::from_secs(600);
/// Pauses after a failure double from the first to the last.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// While the archive does not give what is to be indexed, it is asked again after this.
const AWAY_PAUSE: Duration = Duration::from_secs(10);
/// After so many failures in a row the index is thrown away.
const FAILURES_MAX: u32 = 3;

/// What searches see of an index.
#[derive(Default)]
pub struct Shared {
    index: RwLock<Option<Arc<Index>>>,
    /// The shard's last event, as the index heard of it.
    head: AtomicU64,
    /// The last event that can be found.
    known: AtomicU64,
    /// A search fell over it.
    is_harmed: AtomicBool,
}

impl Shared {
    /// The index, if it can be searched, and the last event that it knows.
    pub fn index(&self) -> Option<(Arc<Index>, u64)> {
        Some((self.index.read().clone()?, self.known.load(Ordering::Acquire)))
    }

    /// It is built anew.
    pub fn harmed(&self) {
        self.is_harmed.store(true, Ordering::Release);
    }

    /// The shard's last event.
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Events that cannot be found yet.
    pub fn behind(&self) -> u64 {
        self.head().saturating_sub(self.known.load(Ordering::Acquire))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There is more to do at once.
    Busy,
    Idle,
}

/// One replica and its index.
pub struct Follower {
    shard: Arc<Shard>,
    dir: PathBuf,
    /// What the index must be of.
    of: String,
    aside: Arc<Aside>,
    shared: Arc<Shared>,
    open: Option<Open>,
    /// The index goes before it is opened again.
    is_bad: bool,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Follower {
    /// `aside`: where the index is written.
    pub fn new(shard: Arc<Shard>, dir: PathBuf, of: String, aside: Arc<Aside>) -> Follower {
        let shared = Arc::default();
        Follower { shard, dir, of, aside, shared, open: None, is_bad: false, failures: 0, retry_at: None }
    }

    /// In the place of one that fell: its index goes.
    pub fn anew(shard: Arc<Shard>, dir: PathBuf, of: String, aside: Arc<Aside>) -> Follower {
        let mut follower = Follower::new(shard, dir, of, aside);
        follower.failed(IndexError::Damaged("reading it ended in a fault".to_owned()), Instant::now());
        follower
    }

    pub fn replica(&self) -> ReplicaId {
        self.shard.group.replica
    }

    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Takes in some of what is new.
    pub fn turn(&mut self, now: Instant) -> Turn {
        if self.retry_at.is_some_and(|at| now < at) {
            return Turn::Idle;
        }
        match self.try_turn(now) {
            Ok(turn) => {
                (self.failures, self.retry_at) = (0, None);
                turn
            }
            Err(IndexError::Away) => {
                // Nothing is wrong with the index: what it has stays, and can be found.
                self.retry_at = Some(now + AWAY_PAUSE);
                Turn::Idle
            }
            Err(error) => {
                self.failed(error, now);
                Turn::Idle
            }
        }
    }

    fn failed(&mut self, error: IndexError, now: Instant) {
        self.failures += 1;
        let pause = RETRY_AFTER.0.saturating_mul(1 << self.failures.min(16)).min(RETRY_AFTER.1);
        metrics::counter!("chat_search_errors_total").increment(1);
        tracing::warn!(shard = %self.shard.id, %error, pause_ms = pause.as_millis() as u64, "the search index stands still");
        self.is_bad |= matches!(error, IndexError::Damaged(_)) || self.failures >= FAILURES_MAX;
        self.retry_at = Some(now + pause);
        self.close();
    }

    fn close(&mut self) {
        self.open = None;
        *self.shared.index.write() = None;
        self.shared.known.store(0, Ordering::Release);
    }

    fn try_turn(&mut self, now: Instant) -> Result<Turn, IndexError> {
        if self.shared.is_harmed.swap(false, Ordering::AcqRel) {
            return Err(IndexError::Damaged("a search fell over it".to_owned()));
        }
        if self.is_bad {
            match std::fs::remove_dir_all(&self.dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(IndexError::Failed(error.to_string()));
                }
                _ => self.is_bad = false,
            }
            metrics::counter!("chat_search_rebuilds_total").increment(1);
            tracing::info!(shard = %self.shard.id, "the search index is built anew");
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let (index, progress) = Index::open(&self.dir, &self.of)?;
                let open = Open::new((index, progress), self.aside.clone(), &self.shard, now)?;
                *self.shared.index.write() = Some(open.index.clone());
                self.open.insert(open)
            }
        };
        let turn = open.turn(&self.shard, now)?;
        self.shared.head.store(open.head, Ordering::Release);
        self.shared.known.store(open.known(), Ordering::Release);
        Ok(turn)
    }
}

/// What an event changes in an index.
enum Change {
    Put { said: Said<'static>, again: bool },
    Remove { session: SessionId, seq: u64 },
    Forget { session: SessionId },
}

impl Change {
    fn write(&self, writer: &Writer) -> Result<(), IndexError> {
        match self {
            Change::Put { said, again } => return writer.put(said, *again),
            Change::Remove { session, seq } => writer.remove(*session, *seq),
            Change::Forget { session } => writer.remove_session(*session),
        }
        Ok(())
    }
}

/// An index that is open, and how far it goes.
struct Open {
    index: Arc<Index>,
    aside: Arc<Aside>,
    writer: Option<Writer>,
    /// Not yet with the writer.
    changes: Vec<Change>,
    progress: Progress,
    /// The part of it that can be found.
    found: Progress,
    head: u64,
    /// Events since the last commit.
    events: u64,
    /// One of them changed the index.
    is_changed: bool,
    committed_at: Instant,
    changed_at: Instant,
    /// Since when segments have held what was taken out of them.
    holds_gone_since: Option<Instant>,
}

fn unreadable(error: chat::ApplyError) -> IndexError {
    match error {
        chat::ApplyError::Archived(_) => IndexError::Away,
        error => IndexError::Failed(error.to_string()),
    }
}

impl Open {
    fn new(
        (index, progress): (Index, Option<Progress>),
        aside: Arc<Aside>,
        shard: &Shard,
        now: Instant,
    ) -> Result<Open, IndexError> {
        let ends = shard.peek(|state, rows| state.feed_of_all(rows, 0, 0)).map_err(unreadable)?;
        let progress = match progress {
            Some(progress) => progress,
            None if ends.first == 1 => Progress::Feed { after: 0, again: 0 },
            None => Progress::Walk { after: None, from: ends.head, seen: ends.head },
        };
        let holds_gone_since = (!index.segments_to_purge()?.is_empty()).then_some(now);
        Ok(Open {
            index: Arc::new(index),
            aside,
            writer: None,
            changes: Vec::new(),
            progress,
            found: progress,
            head: ends.head,
            events: 0,
            is_changed: false,
            committed_at: now,
            changed_at: now,
            holds_gone_since,
        })
    }

    /// The last event that can be found.
    fn known(&self) -> u64 {
        match self.found {
            Progress::Walk { .. } => 0,
            Progress::Feed { after, .. } => after,
        }
    }

    fn turn(&mut self, shard: &Shard, now: Instant) -> Result<Turn, IndexError> {
        let is_behind = loop {
            let is_behind = self.step(shard)?;
            if self.changes.len() >= CHANGES_MAX {
                self.write()?;
            }
            if !is_behind || now.elapsed() >= TURN || self.events >= COMMIT_EVENTS_MAX {
                break is_behind;
            }
        };
        self.write()?;
        if !self.is_changed {
            self.found = self.progress;
        }
        let is_due = now.duration_since(self.committed_at) >= COMMIT_EVERY && self.aside.pace.may_commit(now);
        if self.is_changed && is_due || self.events >= COMMIT_EVENTS_MAX {
            self.commit(now)?;
        }
        self.purge(now)?;
        if self.writer.is_some() && !self.is_changed && now.duration_since(self.changed_at) >= WRITER_IDLE {
            let writer = self.writer.take();
            self.aside.run(|| writer.map_or(Ok(()), Writer::finish)).map_err(fell)??;
        }
        Ok(if is_behind { Turn::Busy } else { Turn::Idle })
    }

    fn commit(&mut self, now: Instant) -> Result<(), IndexError> {
        let (progress, began) = (self.progress, Instant::now());
        self.with_writer(move |writer| writer.commit(progress))?;
        self.index.reload()?;
        self.aside.pace.committed(Instant::now(), began.elapsed());
        (self.found, self.events, self.is_changed, self.committed_at) = (progress, 0, false, now);
        if self.holds_gone_since.is_none() && !self.index.segments_to_purge()?.is_empty() {
            self.holds_gone_since = Some(now);
        }
        Ok(())
    }

    /// What was recalled or erased leaves the files, too.
    fn purge(&mut self, now: Instant) -> Result<(), IndexError> {
        if self.holds_gone_since.is_none_or(|since| now.duration_since(since) < PURGE_AFTER) {
            return Ok(());
        }
        let segments = self.index.segments_to_purge()?;
        let failed = self.with_writer(move |writer| Ok(writer.purge(&segments).err()))?;
        if let Some(error) = failed {
            // One of them is being merged, which does the same.
            tracing::info!(%error, "what left a search index stays in its files for now");
        }
        self.index.reload()?;
        self.changed_at = now;
        self.holds_gone_since = (!self.index.segments_to_purge()?.is_empty()).then_some(now);
        Ok(())
    }

    /// Hands over what has changed.
    fn write(&mut self) -> Result<(), IndexError> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let changes = std::mem::take(&mut self.changes);
        self.with_writer(move |writer| changes.iter().try_for_each(|change| change.write(writer)))
    }

    /// A writer that fails is given up, and what it had not committed with it: the index is closed then.
    fn with_writer<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Writer) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let (writer, index) = (self.writer.take(), self.index.clone());
        let worked = self.aside.run(move || {
            let mut writer = writer.map_or_else(|| index.writer(), Ok)?;
            work(&mut writer).map(|done| (writer, done))
        });
        let (writer, done) = worked.map_err(fell)??;
        self.writer = Some(writer);
        Ok(done)
    }

    /// Takes in a slice; whether there is more.
    fn step(&mut self, shard: &Shard) -> Result<bool, IndexError> {
        match self.progress {
            Progress::Feed { after, again } => self.read_feed(shard, after, again),
            Progress::Walk { after, from, seen } => self.walk(shard, after, from, seen),
        }
    }

    fn read_feed(&mut self, shard: &Shard, after: u64, again: u64) -> Result<bool, IndexError> {
        let serves = shard.serving().is_some();
        let page = shard.peek_in_place(|state, rows| state.feed_of_all(rows, after, SLICE)).map_err(unreadable)?;
        self.head = page.head;
        if after > page.head {
            // After a crash the log is still to be applied; a leader that serves has applied it.
            let is_ahead = serves && after > shard.peek(|state, _| state.feed_head());
            return if is_ahead { Err(IndexError::Damaged("it is ahead of the shard".to_owned())) } else { Ok(false) };
        }
        if after + 1 < page.first {
            return Err(IndexError::Damaged("the feed does not reach back to it".to_owned()));
        }
        for found in &page.events {
            match &found.event {
                Some(event) => self.take(shard, found.site, found.session, event, found.number <= again)?,
                None => self.change(Change::Forget { session: found.session }),
            }
        }
        self.events += page.events.len() as u64;
        self.progress = Progress::Feed { after: page.next, again };
        Ok(page.next < page.head)
    }

    fn walk(&mut self, shard: &Shard, after: Option<u128>, from: u64, seen: u64) -> Result<bool, IndexError> {
        let found =
            shard.peek(|state, rows| state.find_sessions(rows, after.map(SessionId), SESSIONS_AT_ONCE, |_| true));
        let page = found.map_err(unreadable)?;
        for brief in &page.sessions {
            self.walk_session(shard, brief.site, brief.session)?;
        }
        self.head = shard.peek(|state, _| state.feed_head());
        // After a crash the shard may be further back than it was when the walk began.
        let seen = seen.max(self.head);
        self.progress = match page.next {
            Some(next) => Progress::Walk { after: Some(next.0), from, seen },
            None => Progress::Feed { after: from.min(self.head), again: seen },
        };
        Ok(true)
    }

    fn walk_session(&mut self, shard: &Shard, site: SiteId, session: SessionId) -> Result<(), IndexError> {
        let mut seq = 0;
        loop {
            let range = HistoryRange::After(seq);
            let page =
                shard.peek_in_place(|state, rows| state.history(rows, session, range, HISTORY_EVENTS, HISTORY_BYTES));
            let Some(page) = page.map_err(unreadable)?.filter(|page| !page.events.is_empty()) else { return Ok(()) };
            for event in &page.events {
                self.take(shard, site, session, event, false)?;
                seq = event.seq;
            }
            self.events += page.events.len() as u64;
        }
    }

    /// `again`: it may be in the index already.
    fn take(
        &mut self,
        shard: &Shard,
        site: SiteId,
        session: SessionId,
        event: &Event,
        again: bool,
    ) -> Result<(), IndexError> {
        let put = |place: SearchPlace, by, text: &str, again| {
            let said = Said { site, place, text_seq: event.seq, by, text: text.to_owned().into() };
            Change::Put { said, again }
        };
        let place = SearchPlace { ts_ms: event.ts_ms, session, seq: event.seq };
        let change = match &event.body {
            // It was recalled since.
            EventBody::Message { text, .. } if text.is_empty() => Change::Remove { session, seq: event.seq },
            EventBody::Message { from, text, .. } => put(place, by_of(*from), text, again),
            EventBody::Act { act: Act::Note { text, .. }, .. } => put(place, SaidBy::Note, text, again),
            EventBody::Act { act: Act::Recall { seq }, .. } => Change::Remove { session, seq: *seq },
            EventBody::Act { from, act: Act::Edit { seq, text }, .. } => {
                let edited = shard.peek_in_place(|state, rows| state.event(rows, session, *seq)).map_err(unreadable)?;
                let is_kept =
                    |event: &Arc<Event>| matches!(&event.body, EventBody::Message { text, .. } if !text.is_empty());
                match edited.filter(is_kept).filter(|_| !text.is_empty()) {
                    Some(edited) => {
                        let place = SearchPlace { ts_ms: edited.ts_ms, session, seq: *seq };
                        put(place, by_of(*from), text, true)
                    }
                    None => Change::Remove { session, seq: *seq },
                }
            }
            EventBody::Gone => Change::Remove { session, seq: event.seq },
            // Everything before it.
            EventBody::Erased { upto } if upto + 1 == event.seq => Change::Forget { session },
            EventBody::Erased { upto } => {
                for seq in upto.saturating_sub(ERASE_EVENTS_MAX as u64) + 1..=*upto {
                    self.change(Change::Remove { session, seq });
                }
                return Ok(());
            }
            EventBody::Act { .. }
            | EventBody::Assigned { .. }
            | EventBody::Closed { .. }
            | EventBody::Queued { .. } => {
                return Ok(());
            }
        };
        self.change(change);
        Ok(())
    }

    fn change(&mut self, change: Change) {
        (self.is_changed, self.changed_at) = (true, Instant::now());
        self.changes.push(change);
    }
}

fn fell(_: Fell) -> IndexError {
    IndexError::Damaged("writing it ended in a fault".to_owned())
}

fn by_of(from: Party) -> SaidBy {
    match from {
        Party::Visitor => SaidBy::Visitor,
        Party::Agent(_) => SaidBy::Agent,
        Party::System => SaidBy::System,
    }
}
