//! Owns where a conversation stands in the queue, and how long that takes. Does not serve anybody. Invariant: what it counts, it
//! counts without reading rows: a queue of a hundred thousand is asked about all the time.

use super::{Desk, Lane};
use crate::apply::Shard;
use crate::keys;
use crate::outcome::ApplyError;
use crate::rows::{self, PaceRow, PlaceRow, QueuedRow, Rows, WantRow};
use proto::desk::Hours;
use proto::ids::{SessionId, SiteId, TeamId};
use proto::peer::{PlaceInQueue, Waiting};
use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

/// Tickets of one stretch.
const STRETCH: u64 = 256;
/// Of a lane that is not in memory so many of the first are looked at.
const EXACT: usize = 32;
/// A new interval counts for one part of so many.
const PACE_PARTS: u64 = 8;
/// Longest interval that counts, in milliseconds: a night is no pace.
const PACE_MS_MAX: u64 = 3_600_000;

/// How many wait in each stretch of tickets; none with 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spread(BTreeMap<u64, u32>);

impl Spread {
    pub(super) fn of_row(stretches: Vec<(u64, u32)>) -> Spread {
        Spread(stretches.into_iter().collect())
    }

    pub(super) fn row(&self) -> Vec<(u64, u32)> {
        self.0.iter().map(|(stretch, count)| (*stretch, *count)).collect()
    }

    pub(super) fn total(&self) -> u64 {
        self.0.values().map(|count| u64::from(*count)).sum()
    }

    pub(super) fn add(&mut self, ticket: u64) {
        *self.0.entry(ticket / STRETCH).or_insert(0) += 1;
    }

    pub(super) fn remove(&mut self, ticket: u64) {
        let Some(count) = self.0.get_mut(&(ticket / STRETCH)) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.0.remove(&(ticket / STRETCH));
        }
    }

    /// How many wait with a lower ticket. `within`: those of the ticket's own stretch, if they are known.
    fn before(&self, ticket: u64, within: Option<u64>) -> u64 {
        let stretch = ticket / STRETCH;
        let own = self.0.get(&stretch).map_or(0, |count| u64::from(*count));
        let earlier: u64 = self.0.range(..stretch).map(|(_, count)| u64::from(*count)).sum();
        earlier + within.unwrap_or(own * (ticket % STRETCH) / STRETCH).min(own)
    }
}

/// How fast a team takes from its queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    /// When it took the last one, or began to have a queue.
    last_ms: u64,
    /// Mean time between two; 0: nobody knows.
    every_ms: u64,
}

impl Pace {
    pub(super) fn of_row(row: PaceRow) -> Pace {
        Pace { last_ms: row.last_ms, every_ms: row.every_ms }
    }

    pub(super) fn row(self, team: TeamId) -> PaceRow {
        PaceRow { team, last_ms: self.last_ms, every_ms: self.every_ms }
    }
}

impl Desk {
    fn in_team(&self, team: TeamId) -> impl Iterator<Item = (&u32, &Lane)> {
        self.lanes.iter().filter(move |(_, lane)| lane.need.team == team)
    }

    /// A team that had no queue has one from now on.
    pub(super) fn queue_begins(&mut self, team: TeamId, now_ms: u64) {
        if self.in_team(team).next().is_none() {
            self.paces.entry(team).or_default().last_ms = now_ms;
        }
    }

    /// Somebody of a team's queue was served.
    pub(super) fn served(&mut self, team: TeamId, now_ms: u64) {
        let pace = self.paces.entry(team).or_default();
        let took = now_ms.saturating_sub(pace.last_ms).clamp(1, PACE_MS_MAX);
        pace.every_ms = match pace.every_ms {
            0 => took,
            every => (every * (PACE_PARTS - 1) + took) / PACE_PARTS,
        }
        .max(1);
        pace.last_ms = now_ms;
    }
}

impl Shard {
    pub(crate) fn read_desk<T>(
        &self,
        rows: &dyn Rows,
        site: SiteId,
        read: impl FnOnce(&Desk) -> Result<T, ApplyError>,
    ) -> Result<T, ApplyError> {
        match self.desks.peek(&site) {
            Some(desk) => read(desk),
            None => read(&Desk::load(rows, site)?),
        }
    }

    fn read_want(&self, rows: &dyn Rows, site: SiteId, session: SessionId) -> Result<Option<WantRow>, ApplyError> {
        match self.wants.peek(&(site, session)) {
            Some(want) => Ok(want.clone()),
            None => rows::read(rows, "want", &keys::want(site, session)),
        }
    }

    /// Where these sessions stand in the queue of their site; nothing is said of one that does not wait. A position far from the
    /// front is right within a few hundred.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn places(
        &self,
        rows: &dyn Rows,
        site: SiteId,
        sessions: &[SessionId],
    ) -> Result<Vec<PlaceInQueue>, ApplyError> {
        self.read_desk(rows, site, |desk| {
            let mut places = Vec::new();
            for session in sessions {
                let Some(want) = self.read_want(rows, site, *session)? else { continue };
                let position = match want.place {
                    PlaceRow::Queued { .. } => 1 + self.before(rows, site, desk, &want)?,
                    PlaceRow::Aside { .. } => 1,
                    PlaceRow::Offered { .. } => 0,
                    PlaceRow::Assigned { .. } => continue,
                };
                let every_ms = desk.paces.get(&want.need.team).map_or(0, |pace| pace.every_ms);
                let wait_ms = (every_ms > 0).then(|| position.saturating_mul(every_ms));
                places.push(PlaceInQueue { session: *session, position, wait_ms, opens_ms: desk.closed });
            }
            Ok(places)
        })
    }

    /// A site's hours, and what was last said of them: until when it is closed, as in [`Shard::closed_until`]. `None`: it has none.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn hours(&self, rows: &dyn Rows, site: SiteId) -> Result<Option<(Hours, Option<u64>)>, ApplyError> {
        if let Some(desk) = self.desks.peek(&site) {
            return Ok(desk.rules.hours.clone().map(|hours| (hours, desk.closed)));
        }
        let row = rows.get(&keys::desk(site))?.map(|bytes| Desk::row(&bytes)).transpose()?;
        Ok(row.and_then(|row| Some((row.rules.hours?, row.closed))))
    }

    /// Until when a site is closed, milliseconds since 1970; 0: nobody knows; `None`: it is open.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn closed_until(&self, rows: &dyn Rows, site: SiteId) -> Result<Option<u64>, ApplyError> {
        Ok(self.hours(rows, site)?.and_then(|(_, closed)| closed))
    }

    /// How many of its team are served before this one, as long as nobody comes who is more urgent.
    fn before(&self, rows: &dyn Rows, site: SiteId, desk: &Desk, want: &WantRow) -> Result<u64, ApplyError> {
        let mut before = 0;
        for (number, lane) in desk.in_team(want.need.team) {
            before += match lane.need.priority.cmp(&want.need.priority) {
                Ordering::Less => 0,
                Ordering::Equal => {
                    lane.spread.before(want.ticket, self.within(rows, (site, *number), lane, want.ticket)?)
                }
                Ordering::Greater => lane.waiting.queued,
            };
        }
        Ok(before)
    }

    /// How many of the ticket's stretch wait in a lane with a lower one; `None`: they are not in memory, and far from the front.
    fn within(
        &self,
        rows: &dyn Rows,
        (site, number): (SiteId, u32),
        lane: &Lane,
        ticket: u64,
    ) -> Result<Option<u64>, ApplyError> {
        let from = ticket / STRETCH * STRETCH;
        if lane.waiting.gap.is_closed() || lane.waiting.gap.from >= ticket {
            let known = self.queue.range((site, number, from)).take_while(|(key, _)| **key < (site, number, ticket));
            return Ok(Some(known.filter(|(_, queued)| queued.is_some()).count() as u64));
        }
        if ticket > lane.waiting.front + EXACT as u64 {
            return Ok(None);
        }
        let first = self.first_of(rows, (site, number), lane, EXACT)?;
        Ok(Some(first.range(..ticket).count() as u64))
    }

    /// The first who wait at a site's desk, the urgent first, then who waits longest; and how many wait at all.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn waiting(&self, rows: &dyn Rows, site: SiteId, limit: usize) -> Result<(Vec<Waiting>, u64), ApplyError> {
        self.read_desk(rows, site, |desk| {
            let mut first: BTreeMap<(Reverse<u8>, u64), (TeamId, QueuedRow)> = BTreeMap::new();
            for (number, lane) in &desk.lanes {
                let key = |ticket| (Reverse(lane.need.priority), ticket);
                // A lane whose oldest would not be on the list has nothing for it.
                if first.len() >= limit && first.keys().next_back().is_none_or(|last| *last < key(lane.waiting.front)) {
                    continue;
                }
                for (ticket, queued) in self.first_of(rows, (site, *number), lane, limit)? {
                    first.insert(key(ticket), (lane.need.team, queued));
                }
                while first.len() > limit {
                    first.pop_last();
                }
            }
            let waiting = first.into_iter().map(|((Reverse(priority), _), (team, queued))| {
                let QueuedRow { session, conversation, since_ms, .. } = queued;
                Waiting { session, conversation, team, priority, since_ms }
            });
            Ok((waiting.collect(), desk.queued + desk.aside))
        })
    }

    /// The first of a lane, whether in memory or in rows.
    fn first_of(
        &self,
        rows: &dyn Rows,
        (site, number): (SiteId, u32),
        lane: &Lane,
        limit: usize,
    ) -> Result<BTreeMap<u64, QueuedRow>, ApplyError> {
        let front = lane.waiting.front;
        let mut found = BTreeMap::new();
        if !lane.waiting.gap.is_closed() {
            let mut broken = None;
            rows.scan(
                &keys::lane(site, number),
                Some(&keys::queued(site, number, front)),
                false,
                &mut |key, value| {
                    let ticket = keys::last_number(key).unwrap_or(u64::MAX);
                    // What is in memory is newer.
                    if self.queue.peek(&(site, number, ticket)).is_none() {
                        match rows::decode("queue", value) {
                            Ok(queued) => drop(found.insert(ticket, queued)),
                            Err(error) => broken = Some(error),
                        }
                    }
                    broken.is_none() && found.len() < limit
                },
            )?;
            broken.map_or(Ok(()), Err)?;
        }
        let in_lane = self.queue.range((site, number, front)).take_while(|(key, _)| (key.0, key.1) == (site, number));
        found.extend(in_lane.filter_map(|(key, queued)| Some((key.2, (*queued)?))).take(limit));
        while found.len() > limit {
            found.pop_last();
        }
        Ok(found)
    }
}
