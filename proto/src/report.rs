//! Owns the figures that reports are made of, how they add up, and what a shard's leader is asked for them. Does not know when something
//! is counted. Invariant: adding figures up in any order gives the same; enums grow only at their end, structs never change.

use crate::ids::SiteId;
use bincode::{Decode, Encode};

/// One hour, in milliseconds.
pub const HOUR_MS: u64 = 3_600_000;

/// The number of the hour since 1970 (UTC) in which that time lies.
pub fn hour_of(ms: u64) -> u32 {
    u32::try_from(ms / HOUR_MS).unwrap_or(u32::MAX)
}

/// When that hour begins, milliseconds since 1970.
pub fn hour_ms(hour: u32) -> u64 {
    u64::from(hour) * HOUR_MS
}

/// The finest that a spread knows, in milliseconds.
pub const SPREAD_UNIT_MS: u64 = 250;
/// The last place of a spread: whatever took longer than 17 years.
pub const SPREAD_PLACE_MAX: u8 = 127;

/// No count gets here: one that was counted up every nanosecond would need 36 years.
const COUNT_MAX: u64 = 1 << 60;

/// How long something took, many times over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Times {
    pub count: u64,
    pub sum_ms: u64,
    pub max_ms: u64,
    /// How many fell into which place of a logarithmic scale, four to each doubling; ascending, none with 0. It may know fewer than were
    /// counted, and then says nothing.
    pub spread: Vec<(u8, u64)>,
}

/// The place of a time in the scale.
fn place_of(ms: u64) -> u8 {
    let units = ms / SPREAD_UNIT_MS;
    if units < 4 {
        return units as u8;
    }
    let doublings = u64::from(units.ilog2());
    let quarter = (units >> (doublings - 2)) & 3;
    u8::try_from(4 * (doublings - 1) + quarter).unwrap_or(SPREAD_PLACE_MAX).min(SPREAD_PLACE_MAX)
}

/// Where a place begins, in milliseconds.
fn place_ms(place: u8) -> u64 {
    let place = u64::from(place);
    if place < 4 {
        return place * SPREAD_UNIT_MS;
    }
    let (doublings, quarter) = (place / 4 + 1, place % 4);
    ((4 + quarter) << (doublings - 2)) * SPREAD_UNIT_MS
}

impl Times {
    fn is_sound(&self) -> bool {
        let is_place = |(place, count): &(u8, u64)| *place <= SPREAD_PLACE_MAX && *count <= COUNT_MAX;
        self.count <= COUNT_MAX
            && self.spread.iter().all(is_place)
            && self.spread.is_sorted_by(|one, other| one.0 < other.0)
    }

    /// One more.
    pub fn add(&mut self, ms: u64) {
        self.add_sum(1, ms, ms);
        self.add_at(place_of(ms), 1);
    }

    /// Several at once, of which only the sum and the longest are known.
    pub fn add_sum(&mut self, count: u64, sum_ms: u64, max_ms: u64) {
        self.count += count;
        self.sum_ms = self.sum_ms.saturating_add(sum_ms);
        self.max_ms = self.max_ms.max(max_ms);
    }

    fn add_at(&mut self, place: u8, count: u64) {
        match self.spread.binary_search_by_key(&place, |known| known.0) {
            Ok(at) => self.spread[at].1 += count,
            Err(at) => self.spread.insert(at, (place, count)),
        }
    }

    pub fn merge(&mut self, other: &Times) {
        self.add_sum(other.count, other.sum_ms, other.max_ms);
        other.spread.iter().for_each(|(place, count)| self.add_at(*place, *count));
    }

    pub fn mean_ms(&self) -> Option<u64> {
        (self.count > 0).then(|| self.sum_ms / self.count)
    }

    /// So long or less did that many of a hundred take: the middle of its place in the scale, so at most an eighth off, or 125 ms. `None`:
    /// nothing was counted, or not all of it by its length.
    /// Source: the nearest-rank method.
    pub fn percentile_ms(&self, percent: u64) -> Option<u64> {
        let known: u64 = self.spread.iter().map(|(_, count)| count).sum();
        if self.count == 0 || known != self.count {
            return None;
        }
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut below = 0;
        let (place, _) = self.spread.iter().find(|(_, count)| {
            below += count;
            below >= rank
        })?;
        let (from, to) = (place_ms(*place), place_ms(place + 1));
        Some(((from + to) / 2).min(self.max_ms))
    }
}

/// The scores that a visitor can give, from 1 on.
pub const SCORES: usize = 5;

/// What happened at a site, with a team, to an agent or under a label, in some time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Figures {
    /// Conversations that began.
    pub opened: u64,
    pub reopened: u64,
    pub closed: u64,
    /// Closed before anybody had them.
    pub abandoned: u64,
    /// Closed by or for somebody who had them, and no agent had written a word.
    pub unanswered: u64,
    /// Given to an agent.
    pub assigned: u64,
    /// From one agent to another.
    pub transferred: u64,
    /// From an agent back to the desk.
    pub requeued: u64,
    /// Labels put on.
    pub labelled: u64,
    /// Messages.
    pub from_visitors: u64,
    pub from_agents: u64,
    pub from_system: u64,
    /// Ratings by score, from 1 on. One that was changed is taken out in the hour of the change.
    pub scores: [i64; SCORES],
    /// Agents' time with a socket and taking conversations.
    pub online_ms: u64,
    pub busy_ms: u64,
    pub away_ms: u64,
    /// The time that agents had conversations, each counted.
    pub held_ms: u64,
    /// Most conversations that one agent had at once.
    pub held_max: u64,
    pub first_response: Times,
    pub response: Times,
    pub resolution: Times,
    pub wait: Times,
    /// How long those waited who were abandoned.
    pub abandonment: Times,
}

impl Figures {
    /// Whether anybody could have counted so far.
    pub fn is_sound(&self) -> bool {
        let counts = [
            self.opened,
            self.reopened,
            self.closed,
            self.abandoned,
            self.unanswered,
            self.assigned,
            self.transferred,
            self.requeued,
            self.labelled,
            self.from_visitors,
            self.from_agents,
            self.from_system,
            self.online_ms,
            self.busy_ms,
            self.away_ms,
            self.held_ms,
        ];
        let times = [&self.first_response, &self.response, &self.resolution, &self.wait, &self.abandonment];
        counts.iter().all(|count| *count <= COUNT_MAX)
            && self.scores.iter().all(|score| score.unsigned_abs() <= COUNT_MAX)
            && times.iter().all(|times| times.is_sound())
    }

    pub fn merge(&mut self, other: &Figures) {
        self.opened += other.opened;
        self.reopened += other.reopened;
        self.closed += other.closed;
        self.abandoned += other.abandoned;
        self.unanswered += other.unanswered;
        self.assigned += other.assigned;
        self.transferred += other.transferred;
        self.requeued += other.requeued;
        self.labelled += other.labelled;
        self.from_visitors += other.from_visitors;
        self.from_agents += other.from_agents;
        self.from_system += other.from_system;
        self.scores.iter_mut().zip(other.scores).for_each(|(mine, theirs)| *mine += theirs);
        self.online_ms += other.online_ms;
        self.busy_ms += other.busy_ms;
        self.away_ms += other.away_ms;
        self.held_ms += other.held_ms;
        self.held_max = self.held_max.max(other.held_max);
        self.first_response.merge(&other.first_response);
        self.response.merge(&other.response);
        self.resolution.merge(&other.resolution);
        self.wait.merge(&other.wait);
        self.abandonment.merge(&other.abandonment);
    }
}

/// By what figures are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum ReportKind {
    Site,
    Team,
    Agent,
    Label,
}

/// What a shard is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReportAsk {
    pub site: SiteId,
    pub kind: ReportKind,
    /// Only of this team or agent, by number.
    pub id: Option<u64>,
    /// Only of this label.
    pub label: Option<String>,
    /// The hours at which stretches begin that are added up; ascending.
    pub starts: Vec<u32>,
    /// The hour behind the last stretch.
    pub end: u32,
    /// The hour from which on to look: the first of `starts`, or the `next` of the page before.
    pub from: u32,
    /// What is under way, agents' time, counts up to then, milliseconds since 1970.
    pub now_ms: u64,
}

/// A sum of figures.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReportSum {
    /// Which of the asked `starts`.
    pub stretch: u32,
    /// Of the team or agent; of a label, some number; 0 of the site.
    pub id: u128,
    /// Empty of what is no label, and of those that were too many to be kept apart.
    pub label: String,
    pub figures: Figures,
}

/// What a shard has, up to `next`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReportPage {
    /// Ascending by stretch and id.
    pub sums: Vec<ReportSum>,
    /// There is more from this hour on.
    pub next: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_of_the_scale_follow_each_other_and_are_an_eighth_off_at_most() {
        for place in 0..SPREAD_PLACE_MAX {
            let (from, to) = (place_ms(place), place_ms(place + 1));
            assert!(from < to);
            assert_eq!((place_of(from), place_of(to - 1)), (place, place));
            assert!(place < 4 || (to - from) * 4 <= from, "{place}: {from} to {to}");
        }
        assert_eq!(place_of(u64::MAX), SPREAD_PLACE_MAX);
    }

    #[test]
    fn percentiles_are_those_of_the_scale_and_of_nothing_there_are_none() {
        let mut times = Times::default();
        assert_eq!((times.mean_ms(), times.percentile_ms(50)), (None, None));
        (1..=100).for_each(|second| times.add(second * 1_000));
        assert_eq!(times.mean_ms(), Some(50_500));
        let off = |percent: u64, right: u64| times.percentile_ms(percent).unwrap().abs_diff(right) * 8 <= right;
        assert!(off(50, 50_000) && off(90, 90_000) && off(99, 99_000));
        assert!(times.percentile_ms(100).unwrap() <= times.max_ms);
        times.add_sum(1, 7, 7);
        assert_eq!((times.count, times.percentile_ms(50)), (101, None));
    }

    #[test]
    fn figures_add_up_in_any_order() {
        let one = |n: u64| {
            let mut figures = Figures { opened: n, held_max: n, scores: [n as i64; 5], ..Figures::default() };
            figures.wait.add(n * 777);
            figures
        };
        let sum = |order: &[u64]| {
            let mut sum = Figures::default();
            order.iter().for_each(|n| sum.merge(&one(*n)));
            sum
        };
        assert_eq!(sum(&[1, 2, 30]), sum(&[30, 1, 2]));
        assert_eq!((sum(&[1, 2, 30]).opened, sum(&[1, 30, 2]).held_max), (33, 30));
    }
}
