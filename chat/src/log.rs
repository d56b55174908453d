//! Owns one session's events: the newest in memory, the rest in block rows. Does not know what an event means.
//! Invariant: seqs are gapless from 1; events not yet in rows, and those of the open block, are in memory.

use crate::amend::Amended;
use crate::archive::Cold;
use crate::attachment::attachment_bytes;
use crate::keys;
use crate::limits::{
    BLOCK_BYTES_MAX, BLOCK_EVENTS_MAX, BLOCK_SEAL_BYTES, BLOCK_SEAL_EVENTS, WINDOW_BYTES, WINDOW_EVENTS,
};
use crate::outcome::ApplyError;
use crate::rows::{self, BlockRow, Changes, Rows, corrupt};
use proto::command::{Event, EventBody};
use proto::ids::SessionId;
use std::collections::VecDeque;
use std::sync::Arc;

/// The numbered events of a session.
pub(crate) struct Log {
    /// The newest events, up to `head`.
    events: VecDeque<Arc<Event>>,
    head: u64,
    /// Time of the last event in memory, kept here because the event itself is seldom in the processor's cache.
    last_ts_ms: u64,
    /// First seqs of the blocks that are not wholly in rows, then of the open block, which takes the next event.
    starts: VecDeque<u64>,
    open_bytes: usize,
    /// Events up to here are in rows.
    written: u64,
    /// Events up to here are in the checkpoint under way.
    writing: u64,
    bytes: usize,
    /// Blocks in which an event was changed since rows took it.
    pub amended: Amended,
    /// The oldest events, which are in the archive.
    pub cold: Cold,
}

/// The memory and, nearly, the row bytes of an event.
pub(crate) fn event_bytes(event: &Event) -> usize {
    let text = match &event.body {
        EventBody::Message { device, cid, text, attachments, .. } => {
            let files: usize = attachments.iter().map(attachment_bytes).sum();
            device.len() + cid.len() + text.len() + files
        }
        EventBody::Act { device, cid, act, .. } => device.len() + cid.len() + act.text_bytes(),
        EventBody::Closed { reason, .. } => reason.len(),
        EventBody::Assigned { .. } | EventBody::Queued { .. } | EventBody::Gone | EventBody::Erased { .. } => 0,
    };
    size_of::<Event>() + text
}

impl Log {
    pub(crate) fn new() -> Log {
        Log {
            events: VecDeque::new(),
            head: 0,
            last_ts_ms: 0,
            starts: VecDeque::from([1]),
            open_bytes: 0,
            written: 0,
            writing: 0,
            bytes: 0,
            amended: Amended::default(),
            cold: Cold::default(),
        }
    }

    /// The log as rows have it: only the open block is read.
    pub(crate) fn load(rows: &dyn Rows, session: SessionId, head: u64, block_first: u64) -> Result<Log, ApplyError> {
        rows::counted("session", &[head, block_first])?;
        let mut events = VecDeque::new();
        if block_first == 0 {
            return Err(corrupt("session", "seqs count from 1"));
        }
        if block_first <= head {
            let block: BlockRow = rows::read(rows, "block", &keys::block(session, block_first))?
                .ok_or_else(|| corrupt("block", "the open block is missing"))?;
            let is_whole = block.events.len() as u64 == head - block_first + 1;
            let is_gapless = || block.events.iter().zip(block_first..).all(|(event, seq)| event.seq == seq);
            if !is_whole || !is_gapless() {
                return Err(corrupt("block", "the open block does not end at the head"));
            }
            events = block.events.into();
        } else if block_first != head + 1 {
            return Err(corrupt("session", "the open block starts beyond the head"));
        }
        let bytes = events.iter().map(|event| event_bytes(event)).sum();
        let last_ts_ms = events.back().map_or(0, |event| event.ts_ms);
        Ok(Log {
            events,
            head,
            last_ts_ms,
            starts: VecDeque::from([block_first]),
            open_bytes: bytes,
            written: head,
            writing: 0,
            bytes,
            amended: Amended::default(),
            cold: Cold::load(rows, session, head)?,
        })
    }

    /// When an event was stored; 0 if no row holds it.
    pub(crate) fn time_of(rows: &dyn Rows, session: SessionId, seq: u64) -> Result<u64, ApplyError> {
        let mut found = Ok(0);
        rows.scan(&keys::blocks(session), Some(&keys::block(session, seq)), true, &mut |_, value| {
            found = rows::decode::<BlockRow>("block", value)
                .map(|block| block.events.iter().find(|event| event.seq == seq).map_or(0, |event| event.ts_ms));
            false
        })?;
        found
    }

    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// First seq of the block that takes the next event.
    pub(crate) fn block_first(&self) -> u64 {
        *self.starts.back().expect("the open block always has a start")
    }

    /// The lowest seq in memory; `head + 1` when there is none.
    pub(crate) fn memory_first(&self) -> u64 {
        self.head + 1 - self.events.len() as u64
    }

    /// The event, when it is in memory.
    pub(crate) fn get(&self, seq: u64) -> Option<&Arc<Event>> {
        let index = seq.checked_sub(self.memory_first())?;
        self.events.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes + 8 * self.events.capacity() + self.amended.bytes() + self.cold.bytes()
    }

    /// Gives the next seq.
    pub(crate) fn append(&mut self, ts_ms: u64, body: EventBody) -> Arc<Event> {
        let seq = self.head + 1;
        assert!(self.last_ts_ms <= ts_ms, "time never goes back within a session");
        let event = Arc::new(Event { seq, ts_ms, body });
        let bytes = event_bytes(&event);
        let open_events = seq - self.block_first();
        if open_events > 0 && (open_events >= BLOCK_EVENTS_MAX || self.open_bytes + bytes > BLOCK_BYTES_MAX) {
            self.starts.push_back(seq);
            self.open_bytes = 0;
        }
        self.head = seq;
        self.last_ts_ms = ts_ms;
        self.open_bytes += bytes;
        self.bytes += bytes;
        self.events.push_back(Arc::clone(&event));
        event
    }

    /// The block of an event that rows do not hold as a whole: its first seq, and what it holds so far.
    pub(crate) fn memory_block(&self, seq: u64) -> Option<(u64, Vec<Arc<Event>>)> {
        let at = self.starts.iter().rposition(|first| *first <= seq)?;
        let end = self.starts.get(at + 1).copied().unwrap_or(self.head + 1);
        let events = (self.starts[at]..end).map(|seq| self.get(seq).cloned()).collect::<Option<_>>()?;
        Some((self.starts[at], events))
    }

    /// Whether the whole block of an event is in memory, and all that comes after it.
    pub(crate) fn has_block(&self, seq: u64) -> bool {
        self.starts.front().is_some_and(|first| *first <= seq)
    }

    /// Puts an event in the place of the one with its seq, if that is in memory.
    pub(crate) fn replace(&mut self, event: Arc<Event>) {
        let Some(index) = event.seq.checked_sub(self.memory_first()) else { return };
        let Some(place) = usize::try_from(index).ok().and_then(|index| self.events.get_mut(index)) else { return };
        self.bytes = self.bytes + event_bytes(&event) - event_bytes(place);
        *place = event;
    }

    /// The archive has all events up to the head: none is kept in memory, and none in rows from the next checkpoint on.
    pub(crate) fn forget(&mut self, rows: &dyn Rows, session: SessionId) -> Result<(), ApplyError> {
        let mut blocks = Vec::new();
        rows.scan(&keys::blocks(session), None, false, &mut |key, _| {
            blocks.extend(keys::last_number(key));
            true
        })?;
        // Some may be in a checkpoint that is under way.
        blocks.extend(&self.starts);
        blocks.extend(self.amended.firsts());
        self.cold.leave(blocks);
        self.amended = Amended::default();
        self.events = VecDeque::new();
        self.starts = VecDeque::from([self.head + 1]);
        (self.open_bytes, self.bytes, self.written) = (0, 0, self.head);
        Ok(())
    }

    /// Adds the blocks that hold new or changed events, the open one included.
    pub(crate) fn save(&mut self, session: SessionId, out: &mut Changes) {
        self.cold.save(session, out);
        self.amended.save(session, out);
        self.writing = self.head;
        if self.head == self.written {
            return;
        }
        let open_events = self.head + 1 - self.block_first();
        if open_events >= BLOCK_SEAL_EVENTS || (open_events > 0 && self.open_bytes >= BLOCK_SEAL_BYTES) {
            self.starts.push_back(self.head + 1);
            self.open_bytes = 0;
        }
        for (index, first) in self.starts.iter().enumerate() {
            let end = self.starts.get(index + 1).copied().unwrap_or(self.head + 1);
            if end > *first && end > self.written + 1 {
                let events =
                    (*first..end).map(|seq| Arc::clone(self.get(seq).expect("unwritten blocks are in memory")));
                rows::save(out, keys::block(session, *first), &BlockRow { events: events.collect() });
            }
        }
    }

    /// The checkpoint ended: sheds what rows hold, beyond the window.
    pub(crate) fn saved(&mut self, written: bool) {
        self.cold.saved(written);
        self.amended.saved(written);
        if !written {
            return;
        }
        self.written = self.written.max(self.writing);
        while self.starts.get(1).is_some_and(|next| *next <= self.written + 1) {
            self.starts.pop_front();
        }
        let needed_from = self.starts[0];
        while self.memory_first() < needed_from && (self.events.len() > WINDOW_EVENTS || self.bytes > WINDOW_BYTES) {
            let event = self.events.pop_front().expect("memory_first is below the head");
            self.bytes -= event_bytes(&event);
        }
        if self.events.capacity() > 4 * WINDOW_EVENTS && self.events.len() <= WINDOW_EVENTS {
            self.events.shrink_to(WINDOW_EVENTS);
        }
    }
}
