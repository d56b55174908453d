//! Owns what changes in events that are stored already: the blocks of a session's log that rows have in an older form. Does not know
//! why an event changes. Invariant: a seq never moves or goes; a reader sees the change from the command on that made it.

use crate::cache::Mark;
use crate::keys;
use crate::log::{Log, event_bytes};
use crate::outcome::ApplyError;
use crate::rows::{self, BlockRow, Changes, Rows, corrupt};
use proto::command::{Event, EventBody};
use proto::ids::SessionId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whole blocks by their first seq.
#[derive(Default)]
pub(crate) struct Amended {
    blocks: BTreeMap<u64, Block>,
    bytes: usize,
}

struct Block {
    events: Vec<Arc<Event>>,
    mark: Mark,
}

impl Amended {
    /// A block as it is now, when rows may have it in an older form.
    pub(crate) fn block(&self, first_seq: u64) -> Option<&[Arc<Event>]> {
        self.blocks.get(&first_seq).map(|block| block.events.as_slice())
    }

    /// First seqs of all of them.
    pub(crate) fn firsts(&self) -> impl Iterator<Item = u64> + '_ {
        self.blocks.keys().copied()
    }

    fn put(&mut self, first_seq: u64, events: Vec<Arc<Event>>) {
        let block = self.blocks.entry(first_seq).or_insert_with(|| Block { events: Vec::new(), mark: Mark::Clean });
        block.events = events;
        block.mark.touch();
        self.weigh();
    }

    fn weigh(&mut self) {
        self.bytes = self.blocks.values().flat_map(|block| &block.events).map(|event| event_bytes(event)).sum();
    }

    /// Call it before newer events are added to the same blocks.
    pub(crate) fn save(&mut self, session: SessionId, out: &mut Changes) {
        for (first, block) in &mut self.blocks {
            if block.mark.begin() {
                rows::save(out, keys::block(session, *first), &BlockRow { events: block.events.clone() });
            }
        }
    }

    pub(crate) fn saved(&mut self, written: bool) {
        self.blocks.retain(|_, block| {
            block.mark.end(written);
            !block.mark.is_clean()
        });
        self.weigh();
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Log {
    /// The event at `seq`, wherever it is.
    pub(crate) fn find(&self, rows: &dyn Rows, session: SessionId, seq: u64) -> Result<Option<Arc<Event>>, ApplyError> {
        if seq == 0 || seq > self.head() {
            return Ok(None);
        }
        if let Some(event) = self.get(seq) {
            return Ok(Some(Arc::clone(event)));
        }
        if seq <= self.cold.last() {
            return Ok(self.cold.events(rows, seq)?.iter().find(|event| event.seq == seq).cloned());
        }
        let (_, events) = self.stored_block(rows, session, seq)?;
        Ok(events.into_iter().find(|event| event.seq == seq))
    }

    /// Gives events, by seq, another body. Their seqs and times stay. Each block is read and put once.
    pub(crate) fn amend(
        &mut self,
        rows: &dyn Rows,
        session: SessionId,
        mut changes: BTreeMap<u64, EventBody>,
    ) -> Result<(), ApplyError> {
        while let Some(seq) = changes.keys().next().copied() {
            let (first, mut events) = match self.memory_block(seq) {
                Some(block) => block,
                None => self.stored_block(rows, session, seq)?,
            };
            let left = changes.len();
            for event in &mut events {
                if let Some(body) = changes.remove(&event.seq) {
                    *event = Arc::new(Event { seq: event.seq, ts_ms: event.ts_ms, body });
                    self.replace(Arc::clone(event));
                }
            }
            if changes.len() == left {
                return Err(corrupt("block", "an event below the head is missing"));
            }
            self.amended.put(first, events);
        }
        Ok(())
    }

    /// The block of an event that rows hold.
    fn stored_block(
        &self,
        rows: &dyn Rows,
        session: SessionId,
        seq: u64,
    ) -> Result<(u64, Vec<Arc<Event>>), ApplyError> {
        let mut found = Err(corrupt("block", "events below the head are missing"));
        rows.scan(&keys::blocks(session), Some(&keys::block(session, seq)), true, &mut |key, value| {
            let first = keys::last_number(key).unwrap_or(0);
            found = match self.amended.block(first) {
                Some(events) => Ok((first, events.to_vec())),
                None => rows::decode::<BlockRow>("block", value).map(|block| (first, block.events)),
            };
            false
        })?;
        found
    }
}
