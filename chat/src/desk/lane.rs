//! Owns a lane: tickets in order, each in a row of its own. Does not know agents. Invariant: the lowest live ticket leaves
//! first, whether it was in memory or not.

use crate::cache::{Table, Weight};
use crate::keys;
use crate::limits::QUEUE_ROWS_PER_READ;
use crate::outcome::ApplyError;
use crate::rows::{self, QueuedRow, Rows, corrupt};
use proto::ids::SiteId;

/// Site, lane, ticket.
pub(crate) type Place = (SiteId, u32, u64);
pub(crate) type Queue = Table<Place, Option<QueuedRow>>;

impl Weight for QueuedRow {
    fn bytes(&self) -> usize {
        size_of::<QueuedRow>()
    }
}

/// The counters of a lane. Tickets count from 1, over all lanes of a desk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    /// No ticket below this one waits.
    pub front: u64,
    pub queued: u64,
    pub gap: Gap,
}

/// Tickets `from..to` may have rows that are not in memory; all other live ones are in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gap {
    pub from: u64,
    pub to: u64,
}

impl Gap {
    pub(crate) const CLOSED: Gap = Gap { from: 0, to: 0 };

    pub(crate) fn is_closed(self) -> bool {
        self.from >= self.to
    }

    /// A ticket left memory.
    pub(crate) fn widen(&mut self, ticket: u64) {
        *self = match self.is_closed() {
            true => Gap { from: ticket, to: ticket + 1 },
            false => Gap { from: self.from.min(ticket), to: self.to.max(ticket + 1) },
        };
    }
}

impl Waiting {
    pub(crate) fn new(ticket: u64) -> Waiting {
        Waiting { front: ticket, queued: 0, gap: Gap::CLOSED }
    }

    /// Counts a ticket in, whose place is the caller's to fill: the newest, or one that comes back.
    pub(crate) fn push(&mut self, ticket: u64) {
        if self.queued == 0 {
            (self.front, self.gap) = (ticket, Gap::CLOSED);
        }
        self.front = self.front.min(ticket);
        self.queued += 1;
    }

    /// The lowest live ticket. Call it only when `queued > 0`.
    pub(crate) fn first(
        &mut self,
        queue: &mut Queue,
        rows: &dyn Rows,
        (site, lane): (SiteId, u32),
        tick: u64,
    ) -> Result<(u64, QueuedRow), ApplyError> {
        loop {
            let in_lane = queue.range((site, lane, self.front)).take_while(|(key, _)| (key.0, key.1) == (site, lane));
            let first = in_lane.filter_map(|((.., ticket), queued)| Some((*ticket, (*queued)?))).next();
            match first {
                Some((ticket, queued)) if self.gap.is_closed() || ticket <= self.gap.from => {
                    self.front = ticket;
                    return Ok((ticket, queued));
                }
                None if self.gap.is_closed() => return Err(corrupt("desk", "the queue counts more than it holds")),
                _ => self.load(queue, rows, (site, lane), tick)?,
            }
        }
    }

    /// Brings the lowest part of the gap into memory.
    fn load(
        &mut self,
        queue: &mut Queue,
        rows: &dyn Rows,
        (site, lane): (SiteId, u32),
        tick: u64,
    ) -> Result<(), ApplyError> {
        let gap = Gap { from: self.gap.from.max(self.front), to: self.gap.to };
        let mut from = gap.to;
        let mut broken = None;
        let mut count = 0;
        rows.scan(&keys::lane(site, lane), Some(&keys::queued(site, lane, gap.from)), false, &mut |key, value| {
            let ticket = keys::last_number(key).unwrap_or(u64::MAX);
            if ticket >= gap.to {
                return false;
            }
            if count == QUEUE_ROWS_PER_READ {
                from = ticket;
                return false;
            }
            count += 1;
            match rows::decode("queue", value) {
                Ok(queued) => queue.fill((site, lane, ticket), tick, Some(queued)),
                Err(error) => broken = Some(error),
            }
            broken.is_none()
        })?;
        self.gap = Gap { from, to: gap.to };
        broken.map_or(Ok(()), Err)
    }
}
