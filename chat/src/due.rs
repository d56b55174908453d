//! Owns what is to be done at a time, in the order of time. Does not do it. Invariant: all that is due is in memory once anybody
//! asked for the first; there is not much of it.

use crate::cache::{Table, Weight};
use crate::keys;
use crate::outcome::ApplyError;
use crate::rows::{self, Changes, DueRow, Rows, corrupt};
use proto::ids::{SessionId, SiteId};

/// When, and about what. One thing is due about a session at a time: a later one takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    /// Milliseconds since 1970.
    pub due_ms: u64,
    pub site: SiteId,
    pub session: SessionId,
}

impl Weight for DueRow {
    fn bytes(&self) -> usize {
        size_of::<DueRow>()
    }
}

pub(crate) struct Dues {
    table: Table<Due, Option<DueRow>>,
    /// All rows are in the table.
    is_loaded: bool,
    /// Nothing is due before this: what was done stays in the table until it is written.
    from: Due,
}

const EVER: Due = Due { due_ms: 0, site: SiteId(0), session: SessionId(0) };

impl Dues {
    pub(crate) fn new() -> Dues {
        Dues { table: Table::new(), is_loaded: false, from: EVER }
    }

    pub(crate) fn put(&mut self, due: Due, tick: u64, what: DueRow) {
        self.from = self.from.min(due);
        self.table.put(due, tick, Some(what));
    }

    /// That is not due any more.
    pub(crate) fn remove(&mut self, due: Due, tick: u64) {
        self.table.put(due, tick, None);
    }

    /// Takes the first that is due by `now_ms`.
    pub(crate) fn pop(&mut self, rows: &dyn Rows, now_ms: u64, tick: u64) -> Result<Option<(Due, DueRow)>, ApplyError> {
        self.load(rows, tick)?;
        let Some((due, what)) = self.first().filter(|(due, _)| due.due_ms <= now_ms) else { return Ok(None) };
        self.table.put(due, tick, None);
        self.from = due;
        Ok(Some((due, what)))
    }

    /// When the first is due; `None`: nothing is, or nobody knows yet.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        if self.is_loaded { self.first().map(|(due, _)| due.due_ms) } else { Some(0) }
    }

    fn first(&self) -> Option<(Due, DueRow)> {
        self.table.range(self.from).find_map(|(due, what)| Some((*due, (*what)?)))
    }

    fn load(&mut self, rows: &dyn Rows, tick: u64) -> Result<(), ApplyError> {
        if self.is_loaded {
            return Ok(());
        }
        let mut broken = None;
        rows.scan(keys::DUES, None, false, &mut |key, value| {
            match (keys::read_due(key), rows::decode("due", value)) {
                (Some((due_ms, site, session)), Ok(what)) => {
                    self.table.fill(Due { due_ms, site, session }, tick, Some(what));
                }
                (None, _) => broken = Some(corrupt("due", "its key has another length")),
                (_, Err(error)) => broken = Some(error),
            }
            broken.is_none()
        })?;
        self.is_loaded = broken.is_none();
        self.from = EVER;
        broken.map_or(Ok(()), Err)
    }

    pub(crate) fn save(&mut self, out: &mut Changes) {
        self.table.begin_checkpoint(|due, what| {
            let Due { due_ms, site, session } = due;
            out.push((keys::due(due_ms, site, session), what.as_ref().map(proto::codec::encode)));
        });
    }

    pub(crate) fn saved(&mut self, written: bool) {
        self.table.end_checkpoint(written, |_| ());
    }

    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes()
    }

    pub(crate) fn dirty_bytes(&self) -> usize {
        self.table.dirty_bytes()
    }

    #[cfg(test)]
    pub(crate) fn recount(&self) -> usize {
        self.table.recount()
    }
}
