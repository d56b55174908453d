//! Owns a site's desk in memory: seats, teams, lanes, and who is idle. Does not know whether a conversation is still open: its
//! session does, and says so by mail. Invariant: a seat's count is the number of conversations offered and assigned to it.

/// What happens to a conversation, step by step.
mod work;

/// Who waits, to who has room.
mod serve;

/// Who gets a conversation, and which one a seat takes.
mod choose;

/// What is offered until somebody accepts.
mod offers;

/// Rules that come from outside.
mod rules;

/// Rows and back.
mod stored;

pub(crate) mod lane;

/// Where somebody stands in the queue.
mod places;

pub(crate) use rules::SEAT_DEFAULT;
pub use rules::{fault_of_seat, fault_of_site, fault_of_team};
pub(crate) use work::Wants;

use crate::cache::{Mark, Weight};
use crate::limits::{AGENTS_PER_SITE_MAX, OFFERS_PER_SEAT_MAX};
use crate::rows::NeedRow;
use lane::Waiting;
use places::{Pace, Spread};
use proto::desk::{Channel, SeatRules, SeatState, SiteRules, TeamRules};
use proto::ids::{AgentId, SessionId, TeamId};
use std::collections::{BTreeMap, BTreeSet};

/// The team of all agents of a site, whatever the rules say.
pub(crate) const EVERYBODY: TeamId = TeamId(0);

/// Members of teams that help out. No team has this number.
const HELPERS: TeamId = TeamId(u32::MAX);

/// Seats, teams, lanes and conversations have rows of their own.
pub(crate) struct Desk {
    pub seats: BTreeMap<AgentId, Seat>,
    pub teams: BTreeMap<TeamId, TeamRules>,
    pub rules: SiteRules,
    /// Those in which somebody waits.
    pub lanes: BTreeMap<u32, Lane>,
    lane_of: BTreeMap<NeedRow, u32>,
    /// By team: seats that take more, the least loaded first, then the longest without a new one, then the lowest id.
    idle: BTreeMap<TeamId, BTreeSet<Turn>>,
    /// Conversations in all lanes.
    pub queued: u64,
    /// Conversations that were declined, and wait for a while.
    pub aside: u64,
    turn: u64,
    next_ticket: u64,
    /// A wake-up mail to itself is under way.
    nudged: bool,
    /// Somebody came, or had room, while it was: once it has gone through the lanes, it begins anew.
    again: bool,
    /// Of teams that had a queue.
    paces: BTreeMap<TeamId, Pace>,
    /// Outside of the site's hours: until when; 0: nobody knows.
    pub closed: Option<u64>,
    /// What the next checkpoint writes beside the desk's own row, and what the one under way does.
    changed: BTreeMap<Part, Mark>,
}

/// What has a row of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Seat(AgentId),
    Team(TeamId),
    Lane(u32),
}

/// Load in millionths of the capacity, the turn of its last conversation, the agent.
type Turn = (u64, u64, AgentId);

/// An agent on the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seat {
    pub state: SeatState,
    pub open: u32,
    channels: BTreeMap<Channel, u32>,
    /// The turn that last gave this agent a conversation; 0: never.
    last_turn: u64,
    pub rules: SeatRules,
    pub offers: BTreeSet<SessionId>,
    /// When the last socket went, milliseconds since 1970; 0: there is one.
    gone_ms: u64,
}

/// Conversations that any seat can serve that can serve one of them.
pub(crate) struct Lane {
    pub need: NeedRow,
    pub waiting: Waiting,
    spread: Spread,
}

impl Seat {
    fn new() -> Seat {
        Seat {
            state: SeatState::Offline,
            open: 0,
            channels: BTreeMap::new(),
            last_turn: 0,
            rules: SEAT_DEFAULT,
            offers: BTreeSet::new(),
            gone_ms: 0,
        }
    }

    /// Offline, and nothing is the agent's.
    fn clear(&mut self) {
        (self.state, self.open) = (SeatState::Offline, 0);
        self.channels.clear();
        self.offers.clear();
    }

    /// Whether it is given anything.
    fn takes(&self) -> bool {
        self.state == SeatState::Online && self.open < self.rules.capacity
    }

    /// Whether it has room for one more of this channel.
    fn has_room(&self, channel: Channel) -> bool {
        let limit = self.rules.channels.binary_search_by_key(&channel, |(channel, _)| *channel);
        let open = self.channels.get(&channel).copied().unwrap_or(0);
        self.open < self.rules.capacity && limit.map_or(true, |at| open < self.rules.channels[at].1)
    }

    /// Whether it could serve this, were its team asked, with the room it has. `is_asked`: it would be an offer.
    fn fits(&self, need: &NeedRow, is_asked: bool) -> bool {
        self.has_room(need.channel)
            && (!is_asked || self.offers.len() < OFFERS_PER_SEAT_MAX)
            && need.skills.iter().all(|skill| self.rules.skills.binary_search(skill).is_ok())
    }

    fn turn(&self, agent: AgentId) -> Turn {
        // Half a conversation more: without it the small seats, with a whole one the large ones would get more than their share.
        // Source: Webster's and Sainte-Lague's method of apportionment.
        let load = (2 * u64::from(self.open) + 1) * 500_000 / u64::from(self.rules.capacity.max(1));
        (load, self.last_turn, agent)
    }

    fn count(&mut self, channel: Channel, by: i32) {
        self.open = self.open.saturating_add_signed(by);
        let open = self.channels.entry(channel).or_insert(0);
        *open = open.saturating_add_signed(by);
        if *open == 0 {
            self.channels.remove(&channel);
        }
    }
}

impl Weight for Desk {
    fn bytes(&self) -> usize {
        size_of::<Desk>() + self.seats.len() * 512 + self.teams.len() * 256 + self.lanes.len() * 512
    }
}

impl Desk {
    fn touch(&mut self, part: Part) {
        self.changed.entry(part).or_default().touch();
    }

    /// Changes a seat, new or known, and keeps `idle` in step.
    fn change_seat<R>(&mut self, agent: AgentId, change: impl FnOnce(&mut Seat) -> R) -> R {
        let mut seat = self.seats.remove(&agent).unwrap_or_else(Seat::new);
        self.list(agent, &seat, false);
        let changed = change(&mut seat);
        self.list(agent, &seat, true);
        self.seats.insert(agent, seat);
        self.touch(Part::Seat(agent));
        changed
    }

    fn helps(&self, seat: &Seat) -> bool {
        seat.rules.teams.iter().any(|team| self.teams.get(team).is_some_and(|rules| rules.helps))
    }

    /// Puts a seat that takes more on the lists of its teams, or takes it off.
    fn list(&mut self, agent: AgentId, seat: &Seat, on: bool) {
        if !seat.takes() {
            return;
        }
        let helpers = self.helps(seat).then_some(HELPERS);
        for team in seat.rules.teams.iter().copied().chain([EVERYBODY]).chain(helpers) {
            let idle = self.idle.entry(team).or_default();
            if on {
                idle.insert(seat.turn(agent));
            } else {
                idle.remove(&seat.turn(agent));
            }
        }
    }

    /// Lists all seats anew, after the rules of teams have changed.
    fn list_all(&mut self) {
        self.idle.clear();
        for (agent, seat) in std::mem::take(&mut self.seats) {
            self.list(agent, &seat, true);
            self.seats.insert(agent, seat);
        }
    }

    /// Makes room on a full roster: of those who are offline with nothing open and no rules, the one idle for longest goes.
    fn make_room(&mut self) -> bool {
        if self.seats.len() < AGENTS_PER_SITE_MAX {
            return true;
        }
        let is_free = |seat: &Seat| seat.state == SeatState::Offline && seat.open == 0 && seat.rules == SEAT_DEFAULT;
        let free = self.seats.iter().filter(|(_, seat)| is_free(seat));
        let Some((agent, _)) = free.min_by_key(|(agent, seat)| (seat.last_turn, **agent)) else { return false };
        let agent = *agent;
        self.seats.remove(&agent);
        self.touch(Part::Seat(agent));
        true
    }
}

#[cfg(test)]
impl crate::Shard {
    /// Nobody waits whom a seat with room could serve, and only seats whose capacity was `lowered` have more than they may.
    pub(crate) fn check_desk(&self, site: proto::ids::SiteId, lowered: &BTreeSet<AgentId>) {
        let Some(desk) = self.desks.peek(&site) else { return };
        assert_eq!(desk.queued, desk.lanes.values().map(|lane| lane.waiting.queued).sum::<u64>());
        for (agent, seat) in &desk.seats {
            let is_within = seat.open <= seat.rules.capacity || lowered.contains(agent);
            assert!(is_within, "{agent} has {} of {}", seat.open, seat.rules.capacity);
            assert!(seat.offers.len() <= OFFERS_PER_SEAT_MAX);
            for lane in desk.lanes.values() {
                assert_eq!(lane.spread.total(), lane.waiting.queued);
                assert_ne!(lane.waiting.queued, 0, "an empty lane stays");
                let could = seat.takes() && desk.rank(seat, lane).is_some();
                assert!(
                    !could || desk.nudged || desk.closed.is_some(),
                    "{agent} has room, and somebody waits for {:?}",
                    lane.need
                );
            }
        }
    }
}
