//! Owns a site's waiting line: tickets in order, each in a row of its own. Does not know agents. Invariant: the lowest live
//! ticket leaves first, whether it was in memory or not.

use crate::cache::{Table, Weight};
use crate::keys;
use crate::limits::QUEUE_ROWS_PER_READ;
use crate::outcome::ApplyError;
use crate::rows::{self, QueuedRow, Rows, corrupt};
use proto::ids::SiteId;

pub(crate) type Queue = Table<(SiteId, u64), Option<QueuedRow>>;

impl Weight for QueuedRow {
    fn bytes(&self) -> usize {
        size_of::<QueuedRow>()
    }
}

/// The counters of a waiting line. Tickets count from 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub next_ticket: u64,
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
    /// Draws the next ticket.
    pub(crate) fn push(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.queued += 1;
        ticket
    }

    /// Takes the first of the line. Call it only when `queued > 0`.
    pub(crate) fn pop(
        &mut self,
        queue: &mut Queue,
        rows: &dyn Rows,
        site: SiteId,
        tick: u64,
    ) -> Result<QueuedRow, ApplyError> {
        loop {
            let in_site = queue.range((site, self.front)).take_while(|(key, _)| key.0 == site);
            let first = in_site.filter_map(|((_, ticket), queued)| Some((*ticket, (*queued)?))).next();
            match first {
                Some((ticket, queued)) if self.gap.is_closed() || ticket <= self.gap.from => {
                    queue.put((site, ticket), tick, None);
                    self.front = ticket + 1;
                    self.queued -= 1;
                    return Ok(queued);
                }
                None if self.gap.is_closed() => return Err(corrupt("desk", "the queue counts more than it holds")),
                _ => self.load(queue, rows, site, tick)?,
            }
        }
    }

    /// Brings the lowest part of the gap into memory.
    fn load(&mut self, queue: &mut Queue, rows: &dyn Rows, site: SiteId, tick: u64) -> Result<(), ApplyError> {
        let gap = Gap { from: self.gap.from.max(self.front), to: self.gap.to };
        let mut from = gap.to;
        let mut broken = None;
        let mut count = 0;
        rows.scan(&keys::queue(site), Some(&keys::queued(site, gap.from)), false, &mut |key, value| {
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
                Ok(queued) => queue.fill((site, ticket), tick, Some(queued)),
                Err(error) => broken = Some(error),
            }
            broken.is_none()
        })?;
        self.gap = Gap { from, to: gap.to };
        broken.map_or(Ok(()), Err)
    }
}
