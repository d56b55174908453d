//! Owns the newest entries of one log in memory. Does not touch the disk.
//! Invariant: the entries are contiguous and end at the log's last one, and an entry that is not on the disk yet is never evicted.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use crate::tables::Point;

/// One entry of a Raft log. The body is opaque here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    pub index: u64,
    pub term: u64,
    /// At most [`crate::raft_log::BODY_BYTES_MAX`] bytes; shared, never copied on its way to the batch.
    pub body: Bytes,
}

#[derive(Debug)]
struct Row {
    entry: LogEntry,
    hash: u64,
    /// The number of the write that carries the entry.
    job: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Tail {
    rows: VecDeque<Row>,
    bytes: usize,
}

impl Tail {
    /// The lowest index held; `None` when nothing is.
    pub(crate) fn first(&self) -> Option<u64> {
        self.rows.front().map(|row| row.entry.index)
    }

    pub(crate) fn push(&mut self, entry: LogEntry, hash: u64, job: u64) {
        debug_assert!(
            self.rows.back().is_none_or(|row| row.entry.index + 1 == entry.index),
            "append() checked contiguity"
        );
        self.bytes += cost(&entry);
        self.rows.push_back(Row { entry, hash, job });
    }

    /// Drops the oldest entries until `bytes_max` holds, but none whose write is later than `written`.
    pub(crate) fn evict(&mut self, bytes_max: usize, written: u64) {
        while self.bytes > bytes_max
            && let Some(row) = self.rows.front()
            && row.job <= written
        {
            self.bytes -= cost(&row.entry);
            self.rows.pop_front();
        }
    }

    /// Drops the entries above `last_kept`; `None`: all.
    pub(crate) fn cut_after(&mut self, last_kept: Option<u64>) {
        while let Some(row) = self.rows.back()
            && last_kept.is_none_or(|kept| row.entry.index > kept)
        {
            self.bytes -= cost(&row.entry);
            self.rows.pop_back();
        }
    }

    /// Drops the entries up to and including `index`.
    pub(crate) fn drop_through(&mut self, index: u64) {
        while let Some(row) = self.rows.front()
            && row.entry.index <= index
        {
            self.bytes -= cost(&row.entry);
            self.rows.pop_front();
        }
    }

    pub(crate) fn point(&self, index: u64) -> Option<Point> {
        let row = self.rows.get(self.position(index)?)?;
        Some(Point { index, term: row.entry.term, hash: row.hash })
    }

    /// Adds the entries of `range` to `found` while its bodies stay within `bytes_max`, but at least one in all.
    /// Returns false when `bytes_max` ended it.
    pub(crate) fn read(&self, range: Range<u64>, found: &mut Vec<LogEntry>, budget: &mut Budget) -> bool {
        let Some(start) = self.position(range.start) else { return true };
        let rows = self.rows.range(start.min(self.rows.len())..).take_while(|row| row.entry.index < range.end);
        for row in rows {
            if !budget.admits(row.entry.body.len()) {
                return false;
            }
            found.push(row.entry.clone());
        }
        true
    }

    fn position(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first()?)?).ok()
    }
}

/// What an entry takes in memory, with its place in the queue.
fn cost(entry: &LogEntry) -> usize {
    entry.body.len() + size_of::<Row>()
}

/// How many bytes of bodies a read may still take; the first body is always admitted.
#[derive(Debug)]
pub(crate) struct Budget {
    left: usize,
    taken: bool,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Budget {
        Budget { left: bytes_max, taken: false }
    }

    pub(crate) fn admits(&mut self, len: usize) -> bool {
        if self.taken && len > self.left {
            return false;
        }
        self.taken = true;
        self.left = self.left.saturating_sub(len);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(indexes: Range<u64>) -> Tail {
        let mut tail = Tail::default();
        for index in indexes {
            tail.push(LogEntry { index, term: 1, body: Bytes::from(vec![0; 100]) }, index * 10, index);
        }
        tail
    }

    fn read(tail: &Tail, range: Range<u64>, bytes_max: usize) -> Vec<u64> {
        let mut found = Vec::new();
        tail.read(range, &mut found, &mut Budget::new(bytes_max));
        found.iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn reads_stay_within_the_bytes_but_give_one() {
        let tail = tail(5..10);
        assert_eq!(read(&tail, 6..9, usize::MAX), [6, 7, 8]);
        assert_eq!(read(&tail, 6..9, 250), [6, 7]);
        assert_eq!(read(&tail, 6..9, 0), [6]);
        assert!(read(&tail, 12..20, 0).is_empty());
        assert_eq!(tail.point(7), Some(Point { index: 7, term: 1, hash: 70 }));
        assert_eq!((tail.point(4), tail.point(10)), (None, None));
    }

    #[test]
    fn entries_that_are_not_written_stay() {
        let mut tail = tail(5..10);
        tail.evict(0, 6);
        assert_eq!(tail.first(), Some(7));
        tail.cut_after(Some(8));
        tail.drop_through(7);
        assert_eq!(read(&tail, 8..20, usize::MAX), [8]);
        tail.cut_after(None);
        assert_eq!((tail.first(), tail.bytes), (None, 0));
    }
}
