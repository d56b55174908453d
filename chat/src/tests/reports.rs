//! Owns the tests of roll-ups on scripted days: exact figures, hours, limits and retention. Does not test how a report looks. See
//! `reports_by_hand` for random days.

use super::world::*;
use crate::limits::{ROLLUP_HOURS_KEPT, ROLLUP_LABELS_MAX, ROLLUP_SWEEP_MAX, STINT_MS_MAX};
use crate::{Reply, Shard};
use proto::act::Act;
use proto::command::{Command, Party};
use proto::desk::{SeatState, TeamRules};
use proto::ids::{AgentId, TeamId};
use proto::report::{Figures, HOUR_MS, ReportAsk, ReportKind, ReportSum, Times, hour_of};

const VISITOR: Party = Party::Visitor;
const ANN: u64 = 4;
const BOB: u64 = 5;
const MINUTE_MS: u64 = 60_000;

pub(crate) fn agent(id: u64) -> Party {
    Party::Agent(AgentId(id))
}

pub(crate) fn act(id: u128, from: Party, cid: &str, act: Act) -> Command {
    let (device, cid) = ("d".to_owned(), format!("act {cid}"));
    Command::Act { session: session(id), site: Some(SITE), from, device, n: 0, cid, act }
}

pub(crate) fn label(label: &str, on: bool) -> Act {
    Act::Label { label: label.into(), on }
}

fn rate(score: u8) -> Act {
    Act::Rate { conversation: 1, score, comment: String::new() }
}

/// Everything by hours, as one page says it.
pub(crate) fn of_hours(world: &World, kind: ReportKind) -> Vec<ReportSum> {
    let end = hour_of(world.now_ms) + 1;
    let starts: Vec<u32> = (0..end).collect();
    let ask = ReportAsk { site: SITE, kind, id: None, label: None, starts, end, from: 0, now_ms: world.now_ms };
    world.shard.report(&world.rows, &ask, usize::MAX).unwrap().sums
}

/// Everything in the hours from one up to another.
fn between(world: &World, kind: ReportKind, hours: std::ops::Range<u32>, id: u64) -> Figures {
    let (starts, from, end) = (vec![hours.start], hours.start, hours.end);
    let (id, now_ms) = (Some(id), world.now_ms);
    let ask = ReportAsk { site: SITE, kind, id, label: None, starts, end, from, now_ms };
    let mut sums = world.shard.report(&world.rows, &ask, usize::MAX).unwrap().sums;
    sums.pop().map(|sum| sum.figures).unwrap_or_default()
}

fn all(world: &World, kind: ReportKind, id: u64) -> Figures {
    between(world, kind, 0..10_000_000, id)
}

fn of_label(world: &World, label: &str) -> Figures {
    let (starts, from, end, now_ms) = (vec![0], 0, 10_000_000, world.now_ms);
    let ask = ReportAsk {
        site: SITE,
        kind: ReportKind::Label,
        id: None,
        label: Some(label.into()),
        starts,
        end,
        from,
        now_ms,
    };
    world.shard.report(&world.rows, &ask, usize::MAX).unwrap().sums.pop().map(|sum| sum.figures).unwrap_or_default()
}

/// How many, in all, and the longest.
fn facts(times: &Times) -> (u64, u64, u64) {
    (times.count, times.sum_ms, times.max_ms)
}

impl World {
    /// Does something at that time, and lets every mail arrive at the same time.
    fn at(&mut self, ms: u64, command: Command) -> Reply {
        let apply = |world: &mut World, command| world.shard.apply(&world.rows, ms, command).unwrap().reply;
        self.now_ms = ms;
        let reply = apply(self, command);
        let me = self.shard.me;
        loop {
            let after = self.shard.inbox_seen(me);
            let Some((seq, message)) = self.shard.outbox(&self.rows, me, after, 1).unwrap().pop() else { return reply };
            apply(self, Command::Inbox { from: me, seq, message });
        }
    }
}

/// A morning from ten past nine on, in minutes: one visitor is served, one is given on, one goes.
fn morning(cold: bool) -> World {
    let mut world = World::alone();
    let nine = 9 * HOUR_MS;
    let rules = Some(TeamRules { name: "sales".into(), ..TeamRules::default() });
    let mut steps = vec![
        (0, Command::PutTeam { site: SITE, team: TeamId(7), rules }),
        (0, open(1)),
        (0, open(2)),
        (0, login(ANN)),
        (0, login(BOB)),
        // The first visitor asks twice, waits five minutes, and has an answer after three more.
        (10, say(1, VISITOR, 1, "hello")),
        (12, say(1, VISITOR, 2, "anybody?")),
        (15, presence(ANN, true)),
        (18, say(1, agent(ANN), 1, "good day")),
        (19, say(1, agent(ANN), 2, "what is it?")),
        (25, say(1, VISITOR, 3, "my parcel")),
        (26, act(1, agent(ANN), "1", label("parcel", true))),
        (30, say(1, Party::System, 1, "ann is typing for you")),
        (35, say(1, agent(ANN), 3, "it comes")),
        (36, act(1, VISITOR, "2", rate(2))),
        // Bob takes over at 40, and has him until 50.
        (40, presence(BOB, true)),
        (40, Command::Reassign { session: session(1), agent: AgentId(BOB) }),
        (50, close(1, agent(BOB))),
        (51, act(1, VISITOR, "3", rate(5))),
        (55, Command::AgentState { agent: AgentId(ANN), state: SeatState::Busy }),
        (55, presence(BOB, false)),
        // The second visitor goes again, after twenty minutes and over the hour.
        (56, say(2, VISITOR, 1, "hello")),
        (76, close(2, VISITOR)),
    ];
    steps.push((140, presence(ANN, false)));
    for (minute, command) in steps {
        let reply = world.at(nine + minute * MINUTE_MS, command);
        assert!(!matches!(reply, Reply::Rejected(_)), "{minute}: {reply:?}");
        if cold {
            world.chill();
        }
    }
    world
}

#[test]
fn a_scripted_morning_has_exactly_its_figures() {
    for cold in [false, true] {
        let world = morning(cold);
        let site = all(&world, ReportKind::Site, 0);
        assert_eq!((site.opened, site.closed, site.abandoned, site.unanswered), (2, 2, 1, 0));
        assert_eq!((site.assigned, site.transferred, site.requeued, site.reopened), (2, 1, 0, 0));
        assert_eq!((site.from_visitors, site.from_agents, site.from_system, site.labelled), (4, 3, 1, 1));
        let minutes = |times: &Times| {
            let (count, sum_ms, max_ms) = facts(times);
            (count, sum_ms / MINUTE_MS, max_ms / MINUTE_MS)
        };
        assert_eq!(minutes(&site.wait), (1, 5, 5));
        assert_eq!(minutes(&site.first_response), (1, 8, 8));
        // From the first question to the first answer, and from the second to the second.
        assert_eq!(minutes(&site.response), (2, 18, 10));
        assert_eq!(minutes(&site.resolution), (1, 40, 40));
        assert_eq!(minutes(&site.abandonment), (1, 20, 20));
        assert_eq!(site.scores, [0, 0, 0, 0, 1]);
        let ann = all(&world, ReportKind::Agent, ANN);
        assert_eq!((ann.assigned, ann.transferred, ann.closed, ann.from_agents, ann.from_visitors), (1, 1, 0, 3, 1));
        assert_eq!((minutes(&ann.wait), minutes(&ann.response), ann.scores), ((1, 5, 5), (2, 18, 10), [0, 0, 0, 0, 1]));
        let bob = all(&world, ReportKind::Agent, BOB);
        assert_eq!((bob.assigned, bob.closed, minutes(&bob.resolution), bob.scores), (1, 1, (1, 40, 40), [0; 5]));
        let label = of_label(&world, "parcel");
        assert_eq!((label.closed, label.abandoned, label.from_visitors, label.from_agents), (1, 0, 3, 3));
        assert_eq!((minutes(&label.first_response), minutes(&label.resolution)), ((1, 8, 8), (1, 40, 40)));
        assert_eq!((minutes(&label.wait), minutes(&label.response)), ((1, 5, 5), (2, 18, 10)));
        assert_eq!((label.scores, label.response.percentile_ms(50)), ([0, 0, 0, 0, 1], None));
    }
}

#[test]
fn agents_time_is_split_at_the_hours_and_counts_while_it_goes_on() {
    for cold in [false, true] {
        let world = morning(cold);
        let ann = |hour| between(&world, ReportKind::Agent, hour..hour + 1, ANN);
        let minutes = |figures: &Figures| {
            [figures.online_ms, figures.busy_ms, figures.away_ms, figures.held_ms].map(|ms| ms / MINUTE_MS)
        };
        // Online from 9:15, busy from 9:55, gone at 11:20; she had one visitor from 9:15 to 9:40.
        assert_eq!(minutes(&ann(9)), [40, 5, 0, 25]);
        assert_eq!((minutes(&ann(10)), minutes(&ann(11)), minutes(&ann(12))), ([0, 60, 0, 0], [0, 20, 0, 0], [0; 4]));
        assert_eq!((ann(9).held_max, ann(10).held_max), (1, 0));
        let bob = between(&world, ReportKind::Agent, 9..10, BOB);
        assert_eq!((minutes(&bob), bob.held_max), ([15, 0, 0, 10], 1));
        assert_eq!(minutes(&between(&world, ReportKind::Site, 9..10, 0)), [55, 5, 0, 35]);
        // Who has not gone yet is counted up to now.
        let mut world = world;
        world.at(20 * HOUR_MS + 1, presence(BOB, true));
        if cold {
            world.chill();
        }
        world.now_ms = 22 * HOUR_MS;
        assert_eq!(between(&world, ReportKind::Agent, 20..30, BOB).online_ms, 2 * HOUR_MS - 1);
        assert_eq!(between(&world, ReportKind::Agent, 21..22, BOB).online_ms, HOUR_MS);
    }
}

#[test]
fn a_team_has_what_waited_for_it_and_what_its_agents_did() {
    let mut world = World::alone();
    let about = proto::desk::About { team: Some(TeamId(7)), ..Default::default() };
    let rules = Some(TeamRules { name: "sales".into(), ..TeamRules::default() });
    let seat = proto::desk::SeatRules { teams: vec![TeamId(7)], ..crate::desk::SEAT_DEFAULT };
    for command in [
        Command::PutTeam { site: SITE, team: TeamId(7), rules },
        Command::PutSeat { site: SITE, agent: AgentId(ANN), rules: seat },
        open(1),
        open(2),
        login(ANN),
        Command::About { session: session(1), about: about.clone() },
        Command::About { session: session(2), about },
        say(1, VISITOR, 1, "hello"),
        say(2, VISITOR, 1, "hello"),
        close(2, VISITOR),
        presence(ANN, true),
        say(1, agent(ANN), 1, "good day"),
        close(1, VISITOR),
    ] {
        world.at(MINUTE_MS, command);
    }
    let team = all(&world, ReportKind::Team, 7);
    assert_eq!((team.opened, team.closed, team.abandoned, team.assigned, team.from_agents), (2, 2, 1, 1, 1));
    assert_eq!((team.wait.count, team.first_response.count, team.abandonment.count), (1, 1, 1));
    assert_eq!(all(&world, ReportKind::Team, 0), Figures::default());
}

#[test]
fn a_conversation_that_comes_back_waits_again_and_is_resolved_again() {
    let mut world = World::alone();
    let steps = [
        (0, open(1)),
        (0, login(ANN)),
        (1, say(1, VISITOR, 1, "hello")),
        (2, presence(ANN, true)),
        (3, close(1, agent(ANN))),
        (10, act(1, agent(ANN), "1", Act::Reopen { conversation: 1 })),
        (11, say(1, agent(ANN), 1, "after all")),
        (14, Command::Release { session: session(1), by: agent(ANN), seen: 9, team: None }),
        (20, Command::Tick),
        (21, close(1, VISITOR)),
    ];
    for (minute, command) in steps {
        world.at(minute * MINUTE_MS, command);
    }
    let site = all(&world, ReportKind::Site, 0);
    assert_eq!((site.opened, site.reopened, site.closed, site.abandoned, site.unanswered), (1, 1, 2, 0, 1));
    assert_eq!((site.assigned, site.requeued, site.wait.count), (3, 1, 3));
    // Two minutes, and eleven since it was opened again; nobody was kept waiting for an answer that counts.
    assert_eq!(facts(&site.resolution), (2, 13 * MINUTE_MS, 11 * MINUTE_MS));
    assert_eq!((site.first_response.count, site.response.count), (0, 0));
}

#[test]
fn a_repeated_command_counts_once() {
    let mut world = World::alone();
    world.apply(open(1));
    for _ in 0..5 {
        world.apply(say(1, VISITOR, 1, "hello"));
        world.apply(act(1, Party::System, "label", label("vip", true)));
    }
    world.chill();
    (0..5).for_each(|_| drop(world.apply(close(1, VISITOR))));
    let site = all(&world, ReportKind::Site, 0);
    assert_eq!((site.opened, site.closed, site.from_visitors, site.labelled), (1, 1, 1, 1));
}

#[test]
fn many_messages_of_an_hour_are_one_row_at_the_next_checkpoint() {
    let mut world = World::alone();
    world.apply(open(1));
    world.apply(say(1, VISITOR, 1, "hello"));
    world.checkpoint();
    (2..500).for_each(|n| drop(world.apply(say(1, VISITOR, n, "and"))));
    let rows = world.shard.begin_checkpoint();
    let of_kind = |kind: u8| rows.iter().filter(|(key, _)| key[0] == kind).collect::<Vec<_>>();
    assert_eq!((of_kind(b'a').len(), of_kind(b'c').len()), (1, 1));
    let bytes: usize = of_kind(b'a').iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
    assert!(bytes < 128, "{bytes} bytes");
}

#[test]
fn labels_beyond_the_limit_of_an_hour_are_counted_together() {
    for cold in [false, true] {
        let mut world = World::alone();
        let many = ROLLUP_LABELS_MAX as u128 + 40;
        for id in 1..=many {
            world.apply(open(id));
            world.apply(say(id, VISITOR, 1, "hello"));
            world.apply(act(id, Party::System, "l", label(&format!("label {id}"), true)));
            world.apply(close(id, VISITOR));
            if cold {
                world.chill();
            }
        }
        let sums = of_hours(&world, ReportKind::Label);
        assert_eq!(sums.len() as u64, ROLLUP_LABELS_MAX + 1);
        let other = sums.iter().find(|sum| sum.label.is_empty()).unwrap();
        assert_eq!((other.figures.closed, other.figures.labelled), (40, 40));
        assert_eq!(sums.iter().map(|sum| sum.figures.closed).sum::<u64>(), many as u64);
    }
}

#[test]
fn what_is_older_than_four_hundred_days_is_swept_in_bounded_steps() {
    for cold in [false, true] {
        let mut world = World::alone();
        let many = ROLLUP_SWEEP_MAX as u64 + 100;
        world.apply(open(1));
        world.apply(say(1, VISITOR, 1, "hello"));
        world.apply(close(1, VISITOR));
        for id in 1..=many {
            world.apply(login(id));
            world.apply(presence(id, true));
            world.apply(presence(id, false));
            if cold && id % 100 == 0 {
                world.chill();
            }
        }
        world.settle();
        let rows = |world: &World| of_hours(world, ReportKind::Agent).len() as u64;
        assert_eq!(rows(&world), many);
        world.now_ms = u64::from(ROLLUP_HOURS_KEPT) * HOUR_MS;
        // Other things are due by then, too.
        (0..5).for_each(|_| drop(world.apply(Command::Tick)));
        assert_eq!(rows(&world), many, "it is as old as may be");
        world.now_ms += HOUR_MS;
        world.apply(say(1, VISITOR, 2, "there again"));
        if cold {
            world.chill();
        }
        world.now_ms += 2 * HOUR_MS;
        let mut left = Vec::new();
        while rows(&world) > 0 {
            world.apply(Command::Tick);
            left.push(rows(&world));
            assert!(left.len() < 5, "{left:?}");
            if cold {
                world.chill();
            }
        }
        // A row of the site and one of its team go first.
        assert_eq!(left, [many + 2 - ROLLUP_SWEEP_MAX as u64, 0]);
        let from_now_on = all(&world, ReportKind::Site, 0);
        assert_eq!((from_now_on.from_visitors, from_now_on.opened), (1, 1));
        world.chill();
        assert_eq!(world.rows.count(b'a'), 1);
    }
}

#[test]
fn an_agent_who_never_goes_is_counted_in_bounded_steps() {
    let mut world = World::alone();
    world.apply(login(ANN));
    world.at(HOUR_MS, presence(ANN, true));
    for week in 1..=3 {
        world.at(HOUR_MS + week * STINT_MS_MAX, Command::Tick);
        world.chill();
    }
    let weeks = (STINT_MS_MAX / HOUR_MS) as usize;
    assert_eq!((world.rows.count(b'b'), world.rows.count(b'a')), (1, 2 * 3 * weeks));
    assert_eq!(all(&world, ReportKind::Agent, ANN).online_ms, 3 * STINT_MS_MAX);
    world.at(HOUR_MS + 3 * STINT_MS_MAX + 5, presence(ANN, false));
    assert_eq!(all(&world, ReportKind::Agent, ANN).online_ms, 3 * STINT_MS_MAX + 5);
    world.chill();
    assert_eq!(world.rows.count(b'b'), 0);
}

#[test]
fn pages_of_a_report_add_up_to_the_whole() {
    for cold in [false, true] {
        let world = morning(cold);
        let ask = |from| {
            let (site, kind, starts, end, now_ms) = (SITE, ReportKind::Agent, vec![9, 10, 11], 12, world.now_ms);
            ReportAsk { site, kind, id: None, label: None, starts, end, from, now_ms }
        };
        let whole = world.shard.report(&world.rows, &ask(9), usize::MAX).unwrap();
        assert_eq!((whole.next, whole.sums.len()), (None, 4));
        let (mut sums, mut from, mut pages) = (Vec::new(), Some(9), 0);
        while let Some(first) = from {
            let page = world.shard.report(&world.rows, &ask(first), 1).unwrap();
            sums.extend(page.sums);
            (from, pages) = (page.next, pages + 1);
        }
        assert_eq!((sums, pages), (whole.sums, if cold { 3 } else { 1 }));
    }
}

#[test]
fn a_corrupt_roll_up_stops_the_replica() {
    let mut world = morning(true);
    let keys: Vec<Vec<u8>> =
        world.rows.map.keys().filter(|key| [b'a', b'b', b'c'].contains(&key[0])).cloned().collect();
    keys.into_iter().for_each(|key| drop(world.rows.map.insert(key, vec![0xff; 9])));
    world.shard = Shard::open(ONE, 1, &world.rows).unwrap();
    assert!(world.try_apply(say(1, VISITOR, 4, "hello")).is_err());
}
