//! Owns the order in which a shard's events happened, over all its sessions: for whoever must hear of each of them. Does not hold the
//! events: sessions do. Invariant: numbers are gapless from 1; an entry stays until `FEED_KEPT` newer ones have come.

use crate::apply::Shard;
use crate::history::HistoryRange;
use crate::keys;
use crate::limits::{FEED_BLOCK, FEED_KEPT, FEED_SCAN_MAX};
use crate::outcome::ApplyError;
use crate::rows::{self, Changes, FeedBlockRow, FeedEntryRow, Rows, corrupt};
use proto::command::Event;
use proto::feed::{FeedItem, FeedPage};
use proto::ids::{SessionId, SiteId};
use std::collections::VecDeque;
use std::sync::Arc;

/// Some of a shard's events, whichever site's they are, oldest first. Stays on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardEvents {
    pub events: Vec<ShardEvent>,
    /// Go on after this number.
    pub next: u64,
    /// The shard's last number.
    pub head: u64,
    /// The lowest number that is kept.
    pub first: u64,
}

/// An event as the feed names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardEvent {
    pub number: u64,
    pub site: SiteId,
    pub session: SessionId,
    pub seq: u64,
    /// As its session has it now; `None`: the session is gone.
    pub event: Option<Arc<Event>>,
}

/// The newest entries in memory, the rest in rows of `FEED_BLOCK` entries each.
pub(crate) struct Feed {
    /// Up to `head`; those of the block that is not full, and those that rows do not hold, are here.
    entries: VecDeque<FeedEntryRow>,
    head: u64,
    /// Entries up to here are in rows.
    written: u64,
    /// Entries up to here are in the checkpoint under way.
    writing: u64,
}

impl Feed {
    pub(crate) fn load(rows: &dyn Rows, head: u64) -> Result<Feed, ApplyError> {
        rows::counted("header", &[head])?;
        let mut entries = VecDeque::new();
        if !head.is_multiple_of(FEED_BLOCK) {
            let block = read_block(rows, head / FEED_BLOCK)?;
            if block.len() as u64 != head % FEED_BLOCK {
                return Err(corrupt("feed", "the open block does not end at the head"));
            }
            entries = block.into();
        }
        Ok(Feed { entries, head, written: head, writing: head })
    }

    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// The lowest number that is kept.
    fn first(&self) -> u64 {
        first_block(self.head) * FEED_BLOCK + 1
    }

    pub(crate) fn push(&mut self, site: SiteId, session: SessionId, seq: u64) {
        self.head += 1;
        self.entries.push_back(FeedEntryRow { site, session, seq });
    }

    /// The lowest number in memory; `head + 1` when there is none.
    fn memory_first(&self) -> u64 {
        self.head + 1 - self.entries.len() as u64
    }

    /// Up to `scan_max` entries above `after`, with their numbers.
    fn read(&self, rows: &dyn Rows, after: u64, scan_max: usize) -> Result<Vec<(u64, FeedEntryRow)>, ApplyError> {
        let mut next = after.max(self.first() - 1) + 1;
        let mut found = Vec::new();
        while next < self.memory_first() && found.len() < scan_max {
            let block = (next - 1) / FEED_BLOCK;
            let first = block * FEED_BLOCK + 1;
            let entries = read_block(rows, block)?;
            let known = (first..).zip(entries).filter(|(number, _)| *number >= next && *number < self.memory_first());
            let before = found.len();
            found.extend(known);
            if found.len() == before {
                return Err(corrupt("feed", "entries below the head are missing"));
            }
            next = found.last().map_or(next, |(number, _)| number + 1);
        }
        while next <= self.head && found.len() < scan_max {
            let index = usize::try_from(next - self.memory_first()).expect("entries in memory are countable");
            found.push((next, self.entries[index]));
            next += 1;
        }
        found.truncate(scan_max);
        Ok(found)
    }

    pub(crate) fn save(&mut self, out: &mut Changes) {
        self.writing = self.head;
        for block in first_block(self.written)..first_block(self.head) {
            out.push((keys::feed(block), None));
        }
        if self.head == self.written {
            return;
        }
        let memory_first = self.memory_first();
        for block in self.written / FEED_BLOCK..=(self.head - 1) / FEED_BLOCK {
            let (first, last) = (block * FEED_BLOCK + 1, self.head.min((block + 1) * FEED_BLOCK));
            let entries = (first..=last).map(|number| {
                let index = usize::try_from(number - memory_first).expect("unwritten blocks are in memory");
                self.entries[index]
            });
            rows::save(out, keys::feed(block), &FeedBlockRow { entries: entries.collect() });
        }
    }

    /// The checkpoint ended: sheds what rows hold, but for the block that is not full.
    pub(crate) fn saved(&mut self, written: bool) {
        if !written {
            return;
        }
        self.written = self.writing;
        let keep_from = self.written / FEED_BLOCK * FEED_BLOCK + 1;
        while self.memory_first() < keep_from && self.entries.pop_front().is_some() {}
        if self.entries.capacity() > 8 * FEED_BLOCK as usize {
            self.entries.shrink_to(2 * FEED_BLOCK as usize);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.len() * size_of::<FeedEntryRow>()
    }

    pub(crate) fn dirty_bytes(&self) -> usize {
        (self.head - self.written) as usize * size_of::<FeedEntryRow>()
    }
}

/// The first block of which an entry is kept.
fn first_block(head: u64) -> u64 {
    head.saturating_sub(FEED_KEPT) / FEED_BLOCK
}

fn read_block(rows: &dyn Rows, block: u64) -> Result<Vec<FeedEntryRow>, ApplyError> {
    let row: Option<FeedBlockRow> = rows::read(rows, "feed", &keys::feed(block))?;
    let row = row.ok_or_else(|| corrupt("feed", "a block below the head is missing"))?;
    if row.entries.len() as u64 > FEED_BLOCK {
        return Err(corrupt("feed", "a block is too long"));
    }
    Ok(row.entries)
}

impl Shard {
    /// The number of the shard's last event.
    pub fn feed_head(&self) -> u64 {
        self.work.feed.head()
    }

    /// Up to `limit` events of a site with a number above `after`, and about `bytes_max` bytes. A page looks at a bounded number of events,
    /// so it may be short, or empty, and yet not the last: go on while `next` is below `head`.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn feed(
        &self,
        rows: &dyn Rows,
        site: SiteId,
        after: u64,
        limit: usize,
        bytes_max: usize,
    ) -> Result<FeedPage, ApplyError> {
        let feed = &self.work.feed;
        let (head, first) = (feed.head(), feed.first());
        let mut page = FeedPage { items: Vec::new(), next: after.max(first - 1).min(head), head, first };
        let mut bytes = 0;
        for (number, entry) in feed.read(rows, page.next, FEED_SCAN_MAX)? {
            if entry.site == site {
                if page.items.len() >= limit || bytes >= bytes_max {
                    break;
                }
                let FeedEntryRow { session, seq, .. } = entry;
                let found = self.history(rows, session, HistoryRange::After(seq - 1), 1, usize::MAX)?;
                let event = found.into_iter().flat_map(|page| page.events).find(|event| event.seq == seq);
                let event = event.ok_or_else(|| corrupt("feed", "it names an event that is not there"))?;
                let visitor = self.with_session(rows, session, |session| session.visitor)?.unwrap_or_default();
                bytes += crate::log::event_bytes(&event);
                page.items.push(FeedItem { number, session, visitor, event: (*event).clone() });
            }
            page.next = number;
        }
        Ok(page)
    }

    /// Up to `limit` events above `after`, of all sites. For who keeps something beside the state, on this replica: reading it once more
    /// gives what became of an event since.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn feed_of_all(&self, rows: &dyn Rows, after: u64, limit: usize) -> Result<ShardEvents, ApplyError> {
        self.feed_of(rows, after, limit, |_| true)
    }

    /// As `feed_of_all`, of some sites; looks at `limit` entries.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn feed_of(
        &self,
        rows: &dyn Rows,
        after: u64,
        limit: usize,
        is_wanted: impl Fn(SiteId) -> bool,
    ) -> Result<ShardEvents, ApplyError> {
        let feed = &self.work.feed;
        let (head, first) = (feed.head(), feed.first());
        let mut page = ShardEvents { events: Vec::new(), next: after.max(first - 1).min(head), head, first };
        for (number, FeedEntryRow { site, session, seq }) in feed.read(rows, page.next, limit)? {
            page.next = number;
            if !is_wanted(site) {
                continue;
            }
            let event = self.event(rows, session, seq)?;
            page.events.push(ShardEvent { number, site, session, seq, event });
        }
        Ok(page)
    }

    /// One event of a session, as it is now.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn event(&self, rows: &dyn Rows, session: SessionId, seq: u64) -> Result<Option<Arc<Event>>, ApplyError> {
        self.with_session(rows, session, |held| held.log.find(rows, session, seq))?.map_or(Ok(None), |found| found)
    }
}
