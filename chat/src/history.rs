//! Owns reading a session's events back. Does not cache what it reads. Invariant: a page is gapless and oldest first.

use crate::apply::Shard;
use crate::keys;
use crate::log::{Log, event_bytes};
use crate::outcome::ApplyError;
use crate::rows::{self, BlockRow, Rows, corrupt};
use proto::command::Event;
use proto::ids::SessionId;
use std::sync::Arc;

/// Which events are wanted. `After` counts from its seq upwards, the others from the end downwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryRange {
    /// The oldest events with a greater seq.
    After(u64),
    /// The newest events with a lower seq.
    Before(u64),
    /// The newest events.
    Latest,
}

/// Consecutive events, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    pub events: Vec<Arc<Event>>,
    /// The session's last seq.
    pub head: u64,
}

/// Takes events in one direction until the page is full.
struct Page {
    events: Vec<Arc<Event>>,
    next: u64,
    last: u64,
    reverse: bool,
    limit: usize,
    bytes_left: usize,
}

impl Page {
    fn is_full(&self) -> bool {
        self.events.len() >= self.limit || if self.reverse { self.next < self.last } else { self.next > self.last }
    }

    /// Takes `event` if it is the next one; a page has at least one event whatever its size.
    fn take(&mut self, event: &Arc<Event>) {
        let bytes = event_bytes(event);
        if self.is_full() || event.seq != self.next {
            return;
        }
        if bytes > self.bytes_left && !self.events.is_empty() {
            self.limit = self.events.len();
            return;
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.events.push(Arc::clone(event));
        // Seqs count from 1, so this ends at 0, below every `last`.
        self.next = if self.reverse { self.next - 1 } else { self.next + 1 };
    }

    fn take_block(&mut self, events: &[Arc<Event>]) {
        if self.reverse {
            events.iter().rev().for_each(|event| self.take(event));
        } else {
            events.iter().for_each(|event| self.take(event));
        }
    }

    fn take_memory(&mut self, log: &Log) {
        while let Some(event) = log.get(self.next)
            && !self.is_full()
        {
            self.take(event);
        }
    }

    /// Takes from the archive, which has the oldest events.
    fn take_cold(&mut self, rows: &dyn Rows, log: &Log) -> Result<(), ApplyError> {
        while !self.is_full() && self.next <= log.cold.last() {
            let (next, events) = (self.next, log.cold.events(rows, self.next)?);
            self.take_block(&events);
            if self.next == next && !self.is_full() {
                return Err(corrupt("archived", "an object does not hold its events"));
            }
        }
        Ok(())
    }

    /// Takes from block rows while memory has no answer.
    fn take_rows(&mut self, rows: &dyn Rows, session: SessionId, log: &Log) -> Result<(), ApplyError> {
        if !self.reverse {
            self.take_cold(rows, log)?;
        }
        let cold = log.cold.last();
        if self.is_full() || self.next >= log.memory_first() || self.next <= cold {
            return if self.reverse { self.take_cold(rows, log) } else { Ok(()) };
        }
        let prefix = keys::blocks(session);
        let mut from = keys::block(session, self.next);
        if !self.reverse {
            // The block that holds `next` may start below it.
            rows.scan(&prefix, Some(&from.clone()), true, &mut |key, _| {
                from = key.to_vec();
                false
            })?;
        }
        let mut broken = None;
        rows.scan(&prefix, Some(&from), self.reverse, &mut |key, value| {
            match log.amended.block(keys::last_number(key).unwrap_or(0)) {
                Some(events) => self.take_block(events),
                None => match rows::decode::<BlockRow>("block", value) {
                    Ok(block) => self.take_block(&block.events),
                    Err(error) => broken = Some(error),
                },
            }
            broken.is_none() && !self.is_full() && self.next < log.memory_first() && self.next > cold
        })?;
        if broken.is_none() && self.reverse {
            self.take_cold(rows, log)?;
        }
        match broken {
            Some(error) => Err(error),
            None if !self.is_full() && self.next < log.memory_first() => {
                Err(corrupt("block", "events below the head are missing"))
            }
            None => Ok(()),
        }
    }
}

impl Shard {
    /// Up to `limit` events and about `bytes_max` bytes, but one event at least; `None`: no such session.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn history(
        &self,
        rows: &dyn Rows,
        session: SessionId,
        range: HistoryRange,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Option<HistoryPage>, ApplyError> {
        let read = |log: &Log| read(rows, session, log, range, limit, bytes_max).map(Some);
        self.with_session(rows, session, |session| read(&session.log))?.map_or(Ok(None), |page| page)
    }
}

pub(crate) fn read(
    rows: &dyn Rows,
    session: SessionId,
    log: &Log,
    range: HistoryRange,
    limit: usize,
    bytes_max: usize,
) -> Result<HistoryPage, ApplyError> {
    let head = log.head();
    let (next, last, reverse) = match range {
        HistoryRange::After(seq) => (seq.saturating_add(1), head, false),
        HistoryRange::Before(seq) => (seq.saturating_sub(1).min(head), 1, true),
        HistoryRange::Latest => (head, 1, true),
    };
    let mut page = Page { events: Vec::new(), next, last, reverse, limit: limit.max(1), bytes_left: bytes_max };
    if reverse {
        page.take_memory(log);
        page.take_rows(rows, session, log)?;
        page.events.reverse();
    } else {
        page.take_rows(rows, session, log)?;
        page.take_memory(log);
    }
    Ok(HistoryPage { events: page.events, head })
}
