//! Owns who gets a conversation, and which one a seat takes: by team, then by load, then by who has been idle longest, at last
//! among those who help out. Does not change anything. Invariant: nobody is chosen who has no room or is not online.

use super::{Desk, EVERYBODY, HELPERS, Lane, Seat};
use crate::limits::{CHANNEL_MAX, FACTS_MAX, NAME_BYTES_MAX, SKILLS_MAX};
use crate::outcome::Refusal;
use crate::rows::NeedRow;
use proto::desk::{Ask, Channel, Condition, Route, SeatState, Test};
use proto::ids::{AgentId, SessionId, TeamId};
use std::cmp::Reverse;

/// The order in which a seat takes from lanes: its teams' before others', then the urgent. Which is older the rows know.
pub(super) type Rank = (bool, Reverse<u8>);

impl Desk {
    /// What a conversation needs, by what it asks for and the rules of the site.
    pub(crate) fn need(&self, ask: &Ask, session: SessionId) -> NeedRow {
        let route = self.route(ask);
        let team = ask.team.filter(|team| self.teams.contains_key(team)).or_else(|| route?.team);
        let team = team.unwrap_or_else(|| self.hashed(session));
        let of_route = route.map_or(&[][..], |route| &route.skills);
        // What no seat can have is not waited for.
        let is_name = |skill: &&String| !skill.is_empty() && skill.len() <= NAME_BYTES_MAX;
        let mut skills: Vec<String> =
            of_route.iter().chain(&ask.skills).filter(is_name).take(SKILLS_MAX).cloned().collect();
        skills.sort_unstable();
        skills.dedup();
        let priority = ask.priority.max(route.map_or(0, |route| route.priority));
        // What nobody gave a name is the web, as everywhere.
        let channel = if ask.channel.0 <= CHANNEL_MAX { ask.channel } else { Channel::WEB };
        NeedRow { team, priority, channel, skills }
    }

    fn route(&self, ask: &Ask) -> Option<&Route> {
        let is_there = |route: &&Route| route.team.is_none_or(|team| self.teams.contains_key(&team));
        self.rules.routes.iter().filter(is_there).find(|route| route.when.iter().all(|when| holds(when, ask)))
    }

    /// A visitor stays with one of the teams that share what no route takes.
    fn hashed(&self, session: SessionId) -> TeamId {
        let weight = |team: &TeamId| {
            let mut bytes = [0; 20];
            bytes[..16].copy_from_slice(&session.0.to_le_bytes());
            bytes[16..].copy_from_slice(&team.0.to_le_bytes());
            xxhash_rust::xxh3::xxh3_64(&bytes)
        };
        let shared = self.teams.iter().filter(|(_, rules)| rules.hashed).map(|(team, _)| *team);
        // Rendezvous hashing: when a team comes or goes, only its own visitors move.
        shared.max_by_key(|team| (weight(team), *team)).unwrap_or(EVERYBODY)
    }

    /// The team that serves a need: one that is no more is everybody.
    fn serving(&self, need: &NeedRow) -> TeamId {
        if self.teams.contains_key(&need.team) { need.team } else { EVERYBODY }
    }

    /// For how long an agent may think about a conversation; 0: it is assigned without asking.
    pub(super) fn accept_ms(&self, need: &NeedRow) -> u64 {
        self.teams.get(&need.team).map_or(0, |rules| u64::from(rules.accept_ms))
    }

    /// Whose the next conversation is that needs this; never `but`'s. Outside of the site's hours nobody's who does not ask for it.
    pub(super) fn choose(&self, need: &NeedRow, sticky: Option<AgentId>, but: Option<AgentId>) -> Option<AgentId> {
        let is_asked = self.accept_ms(need) > 0;
        let can = |agent: &AgentId| Some(*agent) != but && self.seats[agent].fits(need, is_asked);
        let sticky = sticky.filter(|agent| self.seats.get(agent).is_some_and(Seat::takes) && can(agent));
        let first = |team: TeamId| {
            let idle = self.idle.get(&team)?;
            idle.iter().map(|(.., agent)| *agent).find(can)
        };
        if self.closed.is_some() {
            return sticky;
        }
        sticky.or_else(|| first(self.serving(need))).or_else(|| first(HELPERS))
    }

    /// Why an agent who asks for it cannot have one more of this channel, busy or away as they may be.
    pub(super) fn no_place(&self, agent: AgentId, channel: Channel) -> Option<Refusal> {
        match self.seats.get(&agent).filter(|seat| seat.state != SeatState::Offline) {
            None => Some(Refusal::NotThere),
            Some(seat) => (!seat.has_room(channel)).then_some(Refusal::SeatFull),
        }
    }

    /// Who laid this conversation aside, or had the visitor's last one when that is not too long ago.
    pub(super) fn sticky(&self, ask: &Ask, now_ms: u64) -> Option<AgentId> {
        if ask.back.is_some() || self.closed.is_some() {
            return ask.back;
        }
        let (agent, closed_ms) = ask.last?;
        (now_ms.saturating_sub(closed_ms) < self.rules.sticky_ms).then_some(agent)
    }

    /// How gladly a seat takes from a lane; `None`: it cannot. Whether it is online is the caller's to ask.
    pub(super) fn rank(&self, seat: &Seat, lane: &Lane) -> Option<Rank> {
        let team = self.serving(&lane.need);
        let own = team == EVERYBODY || seat.rules.teams.binary_search(&team).is_ok();
        let takes = (own || self.helps(seat)) && seat.fits(&lane.need, self.accept_ms(&lane.need) > 0);
        takes.then_some((!own, Reverse(lane.need.priority)))
    }
}

fn holds(when: &Condition, ask: &Ask) -> bool {
    let facts = ask.facts.iter().take(FACTS_MAX);
    let holds = |value: &str| match &when.test {
        Test::Is(any) => any.binary_search_by(|one| one.as_str().cmp(value)).is_ok(),
        Test::StartsWith(start) => value.starts_with(start.as_str()),
        Test::Contains(part) => value.contains(part.as_str()),
    };
    // Whatever a page calls so is not the channel.
    if when.fact == "channel" {
        return holds(ask.channel.name());
    }
    let mut values = facts.filter(|(name, _)| *name == when.fact);
    values.any(|(_, value)| holds(value))
}
