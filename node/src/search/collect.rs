//! Owns choosing the newest of what a search finds. Does not know words. Invariant: of what lets itself be found, the newest come, in the
//! order of their places, each once.

use super::schema::{BY, ORDER, SEQ, SESSION_HIGH, SESSION_LOW, TEXT_SEQ, by_of, order, time_of};
use proto::ids::SessionId;
use proto::search::{SaidBy, SearchPlace};
use std::sync::Arc;
use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::ColumnValues;
use tantivy::{DocId, Score, SegmentOrdinal, SegmentReader};

type Numbers = Arc<dyn ColumnValues<u64>>;

/// The newest of what is found, within bounds.
pub struct Newest {
    /// So many.
    pub limit: usize,
    /// Only of these orders; both ends count.
    pub orders: (u64, u64),
    pub by: Option<SaidBy>,
    /// Only what comes behind it, from the newest to the oldest.
    pub after: Option<SearchPlace>,
}

/// Something that was found, without its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    pub place: SearchPlace,
    pub text_seq: u64,
    pub by: SaidBy,
}

/// What was found of one segment of the index.
pub struct OfSegment {
    limit: usize,
    orders: (u64, u64),
    by: Option<u64>,
    after: Option<(u64, SearchPlace)>,
    columns: Columns,
    kept: Vec<(u64, DocId)>,
    /// So many are kept before the oldest are dropped.
    room: usize,
}

struct Columns {
    order: Numbers,
    session_high: Numbers,
    session_low: Numbers,
    seq: Numbers,
    text_seq: Numbers,
    by: Numbers,
}

impl Columns {
    fn place(&self, doc: DocId) -> SearchPlace {
        let (high, low) = (self.session_high.get_val(doc), self.session_low.get_val(doc));
        SearchPlace {
            ts_ms: time_of(self.order.get_val(doc)),
            session: SessionId(u128::from(high) << 64 | u128::from(low)),
            seq: self.seq.get_val(doc),
        }
    }
}

/// Of so few, sorting costs less than choosing.
const ROOM_MIN: usize = 256;

impl Collector for Newest {
    type Fruit = Vec<Candidate>;
    type Child = OfSegment;

    fn for_segment(&self, _: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<OfSegment> {
        let column = |name| segment.fast_fields().u64(name).map(|column| column.first_or_default_col(0));
        let columns = Columns {
            order: column(ORDER)?,
            session_high: column(SESSION_HIGH)?,
            session_low: column(SESSION_LOW)?,
            seq: column(SEQ)?,
            text_seq: column(TEXT_SEQ)?,
            by: column(BY)?,
        };
        Ok(OfSegment {
            limit: self.limit,
            orders: self.orders,
            by: self.by.map(|by| by as u64),
            after: self.after.map(|after| (order(after), after)),
            columns,
            kept: Vec::new(),
            room: (2 * self.limit).max(ROOM_MIN),
        })
    }

    fn requires_scoring(&self) -> bool {
        false
    }

    fn merge_fruits(&self, fruits: Vec<Vec<Candidate>>) -> tantivy::Result<Vec<Candidate>> {
        let mut all: Vec<Candidate> = fruits.into_iter().flatten().collect();
        all.sort_unstable_by_key(|found| std::cmp::Reverse(found.place));
        all.truncate(self.limit);
        Ok(all)
    }
}

impl OfSegment {
    fn take(&mut self, doc: DocId, order: u64) {
        if order < self.orders.0 || order > self.orders.1 {
            return;
        }
        if let Some((at, after)) = self.after
            && (order > at || (order == at && self.columns.place(doc) >= after))
        {
            return;
        }
        if self.by.is_some_and(|by| self.columns.by.get_val(doc) != by) {
            return;
        }
        self.kept.push((order, doc));
        if self.kept.len() >= self.room {
            self.shrink();
        }
    }

    /// Drops what is too old for the limit. What has the same order as the last one that fits stays: it may be newer by its seq.
    fn shrink(&mut self) {
        let at = self.limit.saturating_sub(1);
        if self.kept.len() <= self.limit {
            return;
        }
        let (_, last, _) = self.kept.select_nth_unstable_by(at, |one, other| other.0.cmp(&one.0));
        let oldest = last.0;
        self.kept.retain(|(order, _)| *order >= oldest);
        self.orders.0 = oldest;
        self.room = (2 * self.kept.len()).max(ROOM_MIN);
    }
}

impl SegmentCollector for OfSegment {
    type Fruit = Vec<Candidate>;

    fn collect(&mut self, doc: DocId, _: Score) {
        let order = self.columns.order.get_val(doc);
        self.take(doc, order);
    }

    fn harvest(mut self) -> Vec<Candidate> {
        self.shrink();
        let candidate = |(_, doc): &(u64, DocId)| Candidate {
            place: self.columns.place(*doc),
            text_seq: self.columns.text_seq.get_val(*doc),
            by: by_of(self.columns.by.get_val(*doc)),
        };
        self.kept.iter().map(candidate).collect()
    }
}
