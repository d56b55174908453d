//! Owns the tests of who gets what: teams, routes, skills, channels, priorities, helpers, sticky agents, offers. One shard, and
//! mails are played by hand. Does not test delays between shards.

use super::world::*;
use crate::desk::SEAT_DEFAULT;
use crate::limits::{ASIDE_MS_MAX, CHANNEL_MAX, OFFERS_PER_SEAT_MAX};
use crate::{Refusal, Reply};
use proto::command::{Command, Mail};
use proto::desk::{Ask, Channel, Condition, Route, SeatRules, SeatState, SiteRules, TeamRules, Test};
use proto::ids::{AgentId, SessionId, ShardId, TeamId};
use std::collections::BTreeMap;

const ELSEWHERE: ShardId = ShardId(77);
pub(super) const SALES: TeamId = TeamId(1);
const CARE: TeamId = TeamId(2);

/// A desk, what it said since the last look, and its last offer of each session.
pub(super) struct Desk {
    pub world: World,
    read: u64,
    offers: BTreeMap<u128, u64>,
}

impl Desk {
    pub(super) fn new() -> Desk {
        Desk { world: World::alone(), read: 0, offers: BTreeMap::new() }
    }

    fn tell(&mut self, message: Mail) {
        let seq = self.world.shard.inbox_seen(ELSEWHERE) + 1;
        self.world.apply(Command::Inbox { from: ELSEWHERE, seq, message });
    }

    pub(super) fn want(&mut self, id: u128, ask: Ask) {
        self.tell(Mail::Want { site: SITE, session: session(id), conversation: 1, ask: Box::new(ask) });
    }

    pub(super) fn done(&mut self, id: u128) {
        self.tell(Mail::Done { site: SITE, session: session(id), conversation: 1, agent: None });
    }

    pub(super) fn state(&mut self, agent: u64, state: SeatState) {
        self.tell(Mail::AgentState { site: SITE, agent: AgentId(agent), state });
    }

    pub(super) fn team(&mut self, team: TeamId, rules: TeamRules) {
        let rules = Some(TeamRules { name: format!("team {team}"), ..rules });
        assert_eq!(self.world.reply(Command::PutTeam { site: SITE, team, rules }), Reply::Done);
    }

    pub(super) fn seat(&mut self, agent: u64, capacity: u32, teams: &[TeamId], skills: &[&str]) {
        let skills = skills.iter().map(|skill| (*skill).to_owned()).collect();
        let rules = SeatRules { capacity, teams: teams.to_vec(), skills, ..SEAT_DEFAULT };
        self.rules(agent, rules);
        self.state(agent, SeatState::Online);
    }

    fn rules(&mut self, agent: u64, rules: SeatRules) {
        let agent = AgentId(agent);
        assert_eq!(self.world.reply(Command::PutSeat { site: SITE, agent, rules }), Reply::Done);
    }

    fn answer(&mut self, how: impl Fn(AgentId, SessionId, u64) -> Command, agent: u64, id: u128) -> Reply {
        let offer = self.offers.get(&id).copied().unwrap_or(0);
        self.world.reply(how(AgentId(agent), session(id), offer))
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.world.now_ms += ms;
        self.world.apply(Command::Tick);
    }

    /// Who got (`true`) or was offered what since the last look.
    pub(super) fn given(&mut self) -> Vec<(u128, u64, bool)> {
        let mails = self.world.shard.outbox(&self.world.rows, ONE, self.read, usize::MAX).unwrap();
        self.read += mails.len() as u64;
        let given = |(_, mail)| match mail {
            Mail::Assign { session, agent, .. } => Some((session.0, agent.0, true)),
            Mail::Offered { session, agent, offer, .. } => {
                self.offers.insert(session.0, offer);
                Some((session.0, agent.0, false))
            }
            _ => None,
        };
        mails.into_iter().filter_map(given).collect()
    }

    pub(super) fn queued(&self) -> u64 {
        self.world.shard.desk(&self.world.rows, SITE).unwrap().queue_len
    }
}

pub(super) fn of(team: TeamId) -> Ask {
    Ask { team: Some(team), ..Ask::default() }
}

fn accept(agent: AgentId, session: SessionId, offer: u64) -> Command {
    Command::Accept { site: SITE, agent, session, offer }
}

fn decline(agent: AgentId, session: SessionId, offer: u64) -> Command {
    Command::Decline { site: SITE, agent, session, offer }
}

fn take(agent: AgentId, session: SessionId, _: u64) -> Command {
    Command::Take { site: SITE, agent, session, conversation: 1 }
}

#[test]
fn a_conversation_goes_to_its_team_and_to_the_least_loaded_there() {
    let mut desk = Desk::new();
    desk.team(SALES, TeamRules::default());
    desk.team(CARE, TeamRules::default());
    desk.seat(1, 2, &[SALES], &[]);
    desk.seat(2, 8, &[SALES, CARE], &[]);
    desk.seat(3, 2, &[CARE], &[]);
    (1..=6).for_each(|id| desk.want(id, of(SALES)));
    // By load, not by count: one of two weighs as much as four of eight.
    assert_eq!(desk.given().iter().map(|given| given.1).collect::<Vec<_>>(), [2, 2, 1, 2, 2, 2]);
    (7..=12).for_each(|id| desk.want(id, of(SALES)));
    assert_eq!(desk.given().len(), 4, "agent 3 is of another team that helps nobody");
    assert_eq!(desk.queued(), 2);
    // A team that is no more is everybody's, and those who wait are served at once.
    assert_eq!(desk.world.reply(Command::PutTeam { site: SITE, team: SALES, rules: None }), Reply::Done);
    assert_eq!(desk.given(), [(11, 3, true), (12, 3, true)]);
}

#[test]
fn who_helps_out_takes_what_another_team_cannot() {
    let mut desk = Desk::new();
    desk.team(SALES, TeamRules::default());
    desk.team(CARE, TeamRules { helps: true, ..TeamRules::default() });
    desk.seat(1, 1, &[SALES], &[]);
    desk.seat(2, 1, &[CARE], &[]);
    (1..=3).for_each(|id| desk.want(id, of(SALES)));
    assert_eq!(desk.given(), [(1, 1, true), (2, 2, true)]);
    desk.want(4, of(CARE));
    desk.done(2);
    assert_eq!(desk.given(), [(4, 2, true)], "one's own team comes first, however long others wait");
    desk.done(4);
    assert_eq!(desk.given(), [(3, 2, true)]);
}

#[test]
fn routes_look_at_facts_and_the_rest_is_spread_by_hash() {
    let mut desk = Desk::new();
    let hashed = TeamRules { hashed: true, ..TeamRules::default() };
    desk.team(SALES, hashed.clone());
    desk.team(CARE, hashed);
    let when = |fact: &str, test| Condition { fact: fact.into(), test };
    let route = Route {
        when: vec![
            when("page", Test::StartsWith("/shop".into())),
            when("language", Test::Is(vec!["de".into(), "fr".into()])),
        ],
        team: Some(SALES),
        skills: vec!["shoes".into()],
        priority: 3,
    };
    let gone = Route { team: Some(TeamId(9)), ..Route::default() };
    let rules = SiteRules { routes: vec![gone, route], ..SiteRules::default() };
    assert_eq!(desk.world.reply(Command::PutSite { site: SITE, rules }), Reply::Done);
    desk.seat(1, 500, &[SALES], &["shoes"]);
    desk.seat(2, 500, &[CARE], &[]);
    let facts = |page: &str, language: &str| Ask {
        facts: vec![("page".into(), page.into()), ("language".into(), language.into())],
        ..Ask::default()
    };
    (1..=20).for_each(|id| desk.want(id, facts("/shop/shoes", "fr")));
    assert!(desk.given().iter().all(|given| given.1 == 1));
    (21..=220).for_each(|id| desk.want(id, facts("/help", "fr")));
    let first = desk.given();
    let sales = first.iter().filter(|given| given.1 == 1).count();
    assert!((70..130).contains(&sales), "{sales} of 200");
    // A visitor who comes again is of the same team.
    (21..=220).for_each(|id| desk.done(id));
    for id in 21..=220 {
        desk.tell(Mail::Want { site: SITE, session: session(id), conversation: 2, ask: Box::default() });
    }
    assert_eq!(desk.given(), first);
}

#[test]
fn routes_look_at_the_channel_and_not_at_what_a_page_calls_so() {
    let mut desk = Desk::new();
    desk.team(SALES, TeamRules::default());
    desk.team(CARE, TeamRules::default());
    let when = vec![Condition { fact: "channel".into(), test: Test::Is(vec!["app".into()]) }];
    let route = Route { when, team: Some(SALES), ..Route::default() };
    let rules = SiteRules { routes: vec![route], ..SiteRules::default() };
    assert_eq!(desk.world.reply(Command::PutSite { site: SITE, rules }), Reply::Done);
    desk.seat(1, 500, &[CARE], &[]);
    desk.want(1, Ask { channel: Channel::APP, ..Ask::default() });
    desk.want(2, Ask { facts: vec![("channel".into(), "app".into())], ..Ask::default() });
    assert_eq!(desk.given().iter().map(|given| given.0).collect::<Vec<_>>(), [2], "1 waits for the other team");
}

#[test]
fn skills_and_channels_are_asked_for_and_nobody_waits_behind_who_needs_more() {
    let mut desk = Desk::new();
    let skilled =
        |skills: &[&str]| Ask { skills: skills.iter().map(|skill| (*skill).to_owned()).collect(), ..Ask::default() };
    let channel = |channel| Ask { channel: Channel(channel), ..Ask::default() };
    desk.seat(1, 3, &[], &["en"]);
    desk.want(1, skilled(&["zh"]));
    desk.want(2, skilled(&["en"]));
    desk.want(3, Ask::default());
    assert_eq!(desk.given(), [(2, 1, true), (3, 1, true)]);
    desk.seat(2, 1, &[], &["en", "zh"]);
    assert_eq!(desk.given(), [(1, 2, true)]);
    let rules = SeatRules { capacity: 3, channels: vec![(Channel(5), 1)], ..SEAT_DEFAULT };
    desk.rules(3, rules);
    desk.state(3, SeatState::Online);
    desk.state(1, SeatState::Busy);
    (4..=5).for_each(|id| desk.want(id, channel(5)));
    (6..=8).for_each(|id| desk.want(id, channel(0)));
    assert_eq!(desk.given(), [(4, 3, true), (6, 3, true), (7, 3, true)]);
    desk.done(6);
    assert_eq!(desk.given(), [(8, 3, true)], "not 5: of its channel there is one already");
    desk.done(4);
    assert_eq!(desk.given(), [(5, 3, true)]);
}

#[test]
fn a_channel_that_nobody_gave_a_name_is_the_web() {
    let mut desk = Desk::new();
    let channel = |channel| Ask { channel: Channel(channel), ..Ask::default() };
    let rules = SeatRules { capacity: 3, channels: vec![(Channel(CHANNEL_MAX), 1)], ..SEAT_DEFAULT };
    desk.rules(3, rules);
    desk.state(3, SeatState::Online);
    (1..=2).for_each(|id| desk.want(id, channel(CHANNEL_MAX + 1)));
    assert_eq!(
        desk.given(),
        [(1, 3, true), (2, 3, true)],
        "not of the last channel, of which the seat has one at a time"
    );
}

#[test]
fn the_urgent_are_served_first_then_who_waits_longest() {
    let mut desk = Desk::new();
    let urgent = |priority| Ask { priority, ..Ask::default() };
    for (id, priority) in [(1, 0), (2, 1), (3, 0), (4, 2), (5, 1)] {
        desk.want(id, urgent(priority));
    }
    desk.seat(1, 5, &[], &[]);
    assert_eq!(desk.given().iter().map(|given| given.0).collect::<Vec<_>>(), [4, 2, 5, 1, 3]);
}

#[test]
fn a_visitor_comes_back_to_the_agent_for_a_while_unless_they_are_away_or_full() {
    let mut desk = Desk::new();
    let rules = SiteRules { sticky_ms: 60_000, ..SiteRules::default() };
    assert_eq!(desk.world.reply(Command::PutSite { site: SITE, rules }), Reply::Done);
    (1..=3).for_each(|agent| desk.seat(agent, 2, &[], &[]));
    let now = desk.world.now_ms;
    let back = |closed_ms| Ask { last: Some((AgentId(3), closed_ms)), ..Ask::default() };
    desk.want(1, back(now));
    desk.want(2, back(now));
    assert_eq!(desk.given(), [(1, 3, true), (2, 3, true)]);
    desk.want(3, back(now));
    assert_eq!(desk.given(), [(3, 1, true)], "full");
    desk.done(1);
    desk.state(3, SeatState::Offline);
    desk.want(4, back(now));
    assert_eq!(desk.given(), [(4, 2, true)], "offline");
    desk.state(3, SeatState::Online);
    desk.done(3);
    desk.world.now_ms += 60_000;
    desk.want(5, back(now));
    assert_eq!(desk.given(), [(5, 3, true)].map(|(id, _, given)| (id, 1, given)), "too long ago: the idlest");
}

#[test]
fn one_agent_is_asked_at_a_time_and_the_first_answer_counts() {
    let mut desk = Desk::new();
    desk.team(SALES, TeamRules { accept_ms: 30_000, ..TeamRules::default() });
    desk.seat(1, 1, &[SALES], &[]);
    desk.seat(2, 1, &[SALES], &[]);
    desk.want(1, of(SALES));
    assert_eq!(desk.given(), [(1, 1, false)]);
    assert_eq!(desk.answer(accept, 2, 1), Reply::Rejected(Refusal::OfferGone));
    assert_eq!(desk.answer(take, 2, 1), Reply::Rejected(Refusal::OfferGone));
    assert_eq!(desk.answer(accept, 1, 1), Reply::Done);
    assert_eq!(desk.answer(accept, 1, 1), Reply::Done, "said again");
    assert_eq!(desk.given(), [(1, 1, true)]);
    // Declined: it goes to the other; with nobody else it is set aside for a while, and those behind it are served.
    (2..=3).for_each(|id| desk.want(id, of(SALES)));
    assert_eq!((desk.given(), desk.queued()), (vec![(2, 2, false)], 1));
    assert_eq!(desk.answer(decline, 2, 2), Reply::Done);
    assert_eq!((desk.given(), desk.queued()), (vec![(3, 2, false)], 1));
    desk.answer(accept, 2, 3);
    desk.done(3);
    desk.wait(ASIDE_MS_MAX - 100);
    assert_eq!(desk.given(), [(3, 2, true)]);
    desk.wait(100);
    assert_eq!(desk.given(), [(2, 2, false)]);
    let stale = desk.offers[&2];
    desk.done(1);
    desk.answer(decline, 2, 2);
    assert_eq!(desk.given(), [(2, 1, false)]);
    // Nobody answers in time: the next is asked, and who let it pass is away until they say otherwise.
    desk.wait(29_000);
    assert_eq!(desk.given(), []);
    desk.wait(1_000);
    assert_eq!(desk.given(), [(2, 2, false)]);
    let late = |how: fn(AgentId, SessionId, u64) -> Command| how(AgentId(2), session(2), stale);
    assert_eq!(desk.world.reply(late(accept)), Reply::Rejected(Refusal::OfferGone), "an earlier offer");
    assert_eq!((desk.world.reply(late(decline)), desk.given()), (Reply::Done, vec![]));
    desk.want(4, of(SALES));
    assert_eq!((desk.given(), desk.queued()), (vec![], 1));
    desk.state(1, SeatState::Online);
    assert_eq!(desk.given(), [(4, 1, false)]);
    // Who goes gives back what was offered, and keeps what is theirs.
    assert_eq!(desk.answer(accept, 2, 2), Reply::Done);
    desk.state(1, SeatState::Offline);
    desk.state(2, SeatState::Offline);
    assert_eq!((desk.given(), desk.queued()), (vec![(2, 2, true)], 1));
    assert_eq!(desk.answer(accept, 1, 4), Reply::Rejected(Refusal::OfferGone));
}

#[test]
fn an_agent_takes_who_waits_as_long_as_there_is_room() {
    let mut desk = Desk::new();
    desk.team(SALES, TeamRules::default());
    desk.seat(1, 1, &[CARE], &[]);
    (1..=2).for_each(|id| desk.want(id, of(SALES)));
    assert_eq!((desk.given(), desk.queued()), (vec![], 2));
    assert_eq!(desk.answer(take, 1, 2), Reply::Done);
    assert_eq!(desk.answer(take, 1, 2), Reply::Done, "said again");
    assert_eq!(desk.answer(take, 1, 1), Reply::Rejected(Refusal::SeatFull));
    assert_eq!(desk.answer(take, 9, 1), Reply::Rejected(Refusal::NotThere));
    assert_eq!((desk.given(), desk.queued()), (vec![(2, 1, true)], 1));
}

#[test]
fn rules_that_make_no_sense_are_refused_and_change_nothing() {
    let mut desk = Desk::new();
    let team = |team, name: &str| Command::PutTeam {
        site: SITE,
        team: TeamId(team),
        rules: Some(TeamRules { name: name.into(), ..TeamRules::default() }),
    };
    let seat = |rules| Command::PutSeat { site: SITE, agent: AgentId(1), rules };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let route = |test| Command::PutSite {
        site: SITE,
        rules: SiteRules {
            routes: vec![Route { when: vec![Condition { fact: "page".into(), test }], ..Route::default() }],
            ..SiteRules::default()
        },
    };
    for command in [
        team(0, "everybody"),
        team(u32::MAX, "helpers"),
        team(1, ""),
        team(1, "a\nb"),
        team(1, &"x".repeat(257)),
        seat(SeatRules { capacity: 10_001, ..SEAT_DEFAULT }),
        seat(SeatRules { teams: vec![CARE, SALES], ..SEAT_DEFAULT }),
        seat(SeatRules { skills: names(&["zh", "en"]), ..SEAT_DEFAULT }),
        seat(SeatRules { skills: names(&["en", "en"]), ..SEAT_DEFAULT }),
        seat(SeatRules { channels: vec![(Channel(1), 1), (Channel(1), 2)], ..SEAT_DEFAULT }),
        seat(SeatRules { channels: vec![(Channel(16), 1)], ..SEAT_DEFAULT }),
        seat(SeatRules { teams: vec![TeamId(0)], ..SEAT_DEFAULT }),
        seat(SeatRules { teams: vec![TeamId(u32::MAX)], ..SEAT_DEFAULT }),
        route(Test::Is(names(&["b", "a"]))),
        route(Test::Contains(String::new())),
    ] {
        let reply = desk.world.reply(command.clone());
        assert!(matches!(reply, Reply::Rejected(Refusal::RulesInvalid(_))), "{command:?}: {reply:?}");
    }
    let view = desk.world.shard.desk(&desk.world.rows, SITE).unwrap();
    assert_eq!((view.seats.len(), view.teams.len()), (0, 0));
}

#[test]
fn who_accepts_is_asked_for_more_at_once() {
    let mut desk = Desk::new();
    desk.team(SALES, TeamRules { accept_ms: 30_000, ..TeamRules::default() });
    desk.seat(1, 100, &[SALES], &[]);
    (1..=18).for_each(|id| desk.want(id, of(SALES)));
    assert_eq!((desk.given().len(), desk.queued()), (OFFERS_PER_SEAT_MAX, 2));
    assert_eq!(desk.answer(accept, 1, 5), Reply::Done);
    assert_eq!((desk.given(), desk.queued()), (vec![(5, 1, true), (17, 1, false)], 1));
}

#[test]
fn who_comes_while_the_desk_is_busy_with_a_long_queue_is_not_left_behind() {
    let mut desk = Desk::new();
    (1..=700).for_each(|id| desk.want(id, Ask::default()));
    desk.seat(1, 2_000, &[], &[]);
    // The desk's mails to itself are played as they come; between them somebody urgent asks.
    for id in 701..=710 {
        desk.want(id, Ask { priority: 9, ..Ask::default() });
        desk.world.deliver_one();
    }
    desk.world.settle();
    assert_eq!(desk.queued(), 0);
    desk.world.shard.check_desk(SITE, &std::collections::BTreeSet::new());
}
