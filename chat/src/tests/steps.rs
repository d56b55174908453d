//! Owns the steps that random histories are made of. Does not carry them out. Invariant: a step says nothing that only its outcome knows.

use crate::desk::SEAT_DEFAULT;
use proptest::prelude::*;
use proto::desk::{SeatRules, SeatState, TeamRules};
use proto::ids::TeamId;

pub(super) const SHARDS: u32 = 3;
pub(super) const SESSIONS: u128 = 9;
pub(super) const AGENTS: u64 = 5;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Say(u128),
    AgentSays(u128, u64),
    Close(u128, u8),
    /// An operator gives the session to an agent.
    Reassign(u128, u64),
    Presence(u64, bool),
    /// The person says whether they take conversations.
    Says(u64, SeatState),
    /// An agent accepts, declines, or takes the open conversation of a session, as it is known by now.
    Answer(u128, u64, u8),
    Team(u32, Option<TeamRules>),
    /// How long an agent may be away.
    Site(u64),
    /// By an agent, or by the system, to a team or to whichever it was for.
    Release(u128, Option<u64>, u32),
    /// From whoever has it.
    Hand(u128, u64),
    /// Whoever has it lays it aside for so long.
    Snooze(u128, u64),
    /// An agent opens the last conversation again.
    Reopen(u128, u64),
    /// The sites open or close.
    Hours(bool),
    Seat(u64, SeatRules),
    /// Time goes by, and what is due is done.
    Wait(u64),
    /// Hands over up to this many of the waiting mails of a pair of shards, the first so many of them again.
    Deliver {
        from: u32,
        to: u32,
        count: u64,
        again: u64,
    },
    Skip {
        from: u32,
        to: u32,
    },
    Acknowledge {
        from: u32,
        to: u32,
    },
    Checkpoint(u32),
    Chill(u32),
}

/// Rules of two teams that want offers accepted, and seats with little room.
fn ruled_step() -> impl Strategy<Value = Step> {
    let team = (any::<bool>(), prop_oneof![Just(0_u32), Just(20_000)], any::<bool>(), any::<bool>());
    let team = team.prop_map(|(is_there, accept_ms, helps, hashed)| {
        is_there.then(|| TeamRules { name: "team".into(), accept_ms, helps, hashed })
    });
    let teams =
        prop_oneof![Just(vec![]), Just(vec![TeamId(1)]), Just(vec![TeamId(2)]), Just(vec![TeamId(1), TeamId(2)])];
    let seat = (0..4_u32, teams).prop_map(|(capacity, teams)| SeatRules { capacity, teams, ..SEAT_DEFAULT });
    let states = prop_oneof![3 => Just(SeatState::Online), 1 => Just(SeatState::Busy), 1 => Just(SeatState::Away)];
    prop_oneof![
        1 => (1..3_u32, team).prop_map(|(team, rules)| Step::Team(team, rules)),
        2 => (0..AGENTS, seat).prop_map(|(agent, rules)| Step::Seat(agent, rules)),
        3 => (0..AGENTS, states).prop_map(|(agent, state)| Step::Says(agent, state)),
        6 => (0..SESSIONS, 0..AGENTS, 0..4_u8).prop_map(|(session, agent, how)| Step::Answer(session, agent, how)),
        3 => prop_oneof![Just(10), Just(900), Just(21_000)].prop_map(Step::Wait),
        1 => prop_oneof![Just(0), Just(5_000)].prop_map(Step::Site),
        3 => (0..SESSIONS, prop::option::of(0..AGENTS), 0..4_u32).prop_map(|(id, by, team)| Step::Release(id, by, team)),
        3 => (0..SESSIONS, 0..AGENTS).prop_map(|(id, to)| Step::Hand(id, to)),
        3 => (0..SESSIONS, 1..30_000_u64).prop_map(|(id, ms)| Step::Snooze(id, ms)),
        2 => (0..SESSIONS, 0..AGENTS).prop_map(|(id, agent)| Step::Reopen(id, agent)),
        1 => any::<bool>().prop_map(Step::Hours),
    ]
}

/// With teams, offers, breaks and deadlines.
pub(super) fn steps_with_rules() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(prop_oneof![3 => step(), 1 => ruled_step()], 1..300)
}

fn step() -> impl Strategy<Value = Step> {
    let shard = || 1..=SHARDS;
    prop_oneof![
        8 => (0..SESSIONS).prop_map(Step::Say),
        3 => (0..SESSIONS, 0..AGENTS).prop_map(|(s, a)| Step::AgentSays(s, a)),
        5 => (0..SESSIONS, 0..7_u8).prop_map(|(s, by)| Step::Close(s, by)),
        4 => (0..AGENTS, any::<bool>()).prop_map(|(a, online)| Step::Presence(a, online)),
        24 => (shard(), shard(), 1..4_u64, 0..3_u64)
            .prop_map(|(from, to, count, again)| Step::Deliver { from, to, count, again }),
        2 => (shard(), shard()).prop_map(|(from, to)| Step::Skip { from, to }),
        4 => (shard(), shard()).prop_map(|(from, to)| Step::Acknowledge { from, to }),
        2 => shard().prop_map(Step::Checkpoint),
        2 => shard().prop_map(Step::Chill),
    ]
}

pub(super) fn steps_without_operator() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..250)
}

/// With an operator who moves conversations among the agents of their site.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let among = |(session, agent): (u128, u64)| Step::Reassign(session, agent * 2 + (session % 2) as u64);
    let step = prop_oneof![15 => step(), 1 => (0..SESSIONS, 0..AGENTS / 2).prop_map(among)];
    prop::collection::vec(step, 1..250)
}
