//! Owns the proof that mails between shards, late, repeated and in any order between pairs, never give a visitor two agents
//! and lose no seat. Does not test one shard's rules in detail.

use super::steps::*;
use super::world::*;
use crate::desk::SEAT_DEFAULT;
use crate::{HistoryRange, Outcome, Refusal, Reply};
use proptest::prelude::*;
use proto::act::Act;
use proto::command::{Command, EventBody, Mail, Party, Target};
use proto::desk::{Hours, SeatState, SiteRules};
use proto::ids::{AgentId, SessionId, ShardId, SiteId, TeamId, VisitorId};
use std::collections::{BTreeMap, BTreeSet};

fn site_of(id: u64) -> SiteId {
    SiteId(1 + (id % 2) as u32)
}

#[derive(Default)]
pub(super) struct Cluster {
    pub worlds: BTreeMap<ShardId, World>,
    pub said: BTreeMap<(SessionId, Party), u64>,
    /// Agents whose capacity was set below what they had.
    pub lowered: BTreeSet<AgentId>,
    acts: u64,
}

impl Cluster {
    pub(super) fn new() -> Cluster {
        let worlds = (1..=SHARDS).map(|id| (ShardId(id), World::of(ShardId(id), SHARDS))).collect();
        let mut cluster = Cluster { worlds, ..Cluster::default() };
        for id in 0..SESSIONS {
            let (session, visitor, site) = (SessionId(id), VisitorId(id), site_of(id as u64));
            cluster.apply(Command::OpenSession { session, site, visitor, token: [0; 32] });
        }
        for id in 0..AGENTS {
            let (agent, site, name) = (AgentId(id), site_of(id), String::new());
            cluster.apply(Command::AgentLogin { agent, site, name, token: [0; 32] });
        }
        cluster
    }

    fn at(&self, target: Target) -> &World {
        &self.worlds[&target.shard(SHARDS)]
    }

    fn world(&mut self, id: u32) -> &mut World {
        self.worlds.get_mut(&ShardId(id)).unwrap()
    }

    fn apply(&mut self, command: Command) -> Outcome {
        let shard = command.target().unwrap().shard(SHARDS);
        self.world(shard.0).apply(command)
    }

    pub(super) fn say(&mut self, id: u128, from: Party) {
        let n = self.said.get(&(SessionId(id), from)).copied().unwrap_or(0) + 1;
        if matches!(self.apply(say(id, from, n, "x")).reply, Reply::Sent { dup: false, .. }) {
            self.said.insert((SessionId(id), from), n);
        }
    }

    pub(super) fn mails(&self, from: u32, to: u32, after: u64) -> Vec<(u64, Mail)> {
        let world = &self.worlds[&ShardId(from)];
        world.shard.outbox(&world.rows, ShardId(to), after, 99).unwrap()
    }

    /// Returns how many mails were new.
    fn deliver(&mut self, from: u32, to: u32, count: u64, again: u64) -> usize {
        let seen = self.world(to).shard.inbox_seen(ShardId(from));
        let mails = self.mails(from, to, seen.saturating_sub(again));
        let mut new = 0;
        for (seq, message) in mails.into_iter().take((count + again) as usize) {
            let outcome = self.world(to).apply(Command::Inbox { from: ShardId(from), seq, message });
            assert_eq!(outcome.reply, Reply::Done);
            assert!(seq > seen || outcome.effects.is_empty(), "a repeated mail did something");
            new += usize::from(seq > seen);
        }
        new
    }

    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Say(id) => self.say(id, Party::Visitor),
            Step::AgentSays(id, agent) => self.say(id, Party::Agent(AgentId(agent))),
            Step::Close(id, by) => {
                let by = match by {
                    0 => Party::Visitor,
                    1 => Party::System,
                    n => Party::Agent(AgentId(u64::from(n) - 2)),
                };
                self.apply(close(id, by));
            }
            Step::Reassign(session, agent) => {
                let (session, agent) = (SessionId(session), AgentId(agent));
                self.apply(Command::Reassign { session, agent });
            }
            Step::Presence(agent, online) => drop(self.apply(presence(agent, online))),
            Step::Says(agent, state) => {
                let agent = AgentId(agent);
                self.apply(Command::AgentState { agent, state });
            }
            Step::Answer(id, agent, how) => self.answer(SessionId(id), AgentId(agent), how),
            Step::Wait(ms) => {
                for world in self.worlds.values_mut() {
                    world.now_ms += ms;
                    world.apply(Command::Tick);
                }
            }
            Step::Deliver { from, to, count, again } => drop(self.deliver(from, to, count, again)),
            Step::Skip { from, to } => {
                let seen = self.world(to).shard.inbox_seen(ShardId(from));
                if let Some((seq, message)) = self.mails(from, to, seen).into_iter().nth(1) {
                    let reply = self.world(to).reply(Command::Inbox { from: ShardId(from), seq, message });
                    assert_eq!(reply, Reply::Rejected(Refusal::InboxGap { expected: seen + 1 }));
                }
            }
            Step::Acknowledge { from, to } => {
                let upto = self.world(to).shard.inbox_seen(ShardId(from));
                self.world(from).apply(Command::OutboxAcked { to: ShardId(to), upto });
            }
            Step::Checkpoint(id) => self.world(id).checkpoint(),
            Step::Chill(id) => self.world(id).chill(),
            other => self.ruled_step(other),
        }
    }

    /// What rules, agents and operators do to conversations.
    fn ruled_step(&mut self, step: Step) {
        match step {
            Step::Team(team, rules) => {
                for site in [SiteId(1), SiteId(2)] {
                    self.apply(Command::PutTeam { site, team: TeamId(team), rules: rules.clone() });
                }
            }
            Step::Site(requeue_ms) => {
                for site in [SiteId(1), SiteId(2)] {
                    let rules = SiteRules { requeue_ms, ..SiteRules::default() };
                    self.apply(Command::PutSite { site, rules });
                }
            }
            Step::Release(id, by, team) => {
                let by = by.map_or(Party::System, |agent| Party::Agent(AgentId(agent)));
                let team = (team > 0).then_some(TeamId(team));
                self.apply(Command::Release { session: SessionId(id), by, seen: u64::MAX, team });
            }
            Step::Hand(id, to) => self.hand(SessionId(id), AgentId(to)),
            Step::Snooze(id, ms) => {
                let held = self.open().into_iter().find(|((of, _), _)| of.0 == id);
                let Some(((session, conversation), (_, Some(agent)))) = held else { return };
                let until_ms = self.at(Target::Session(session)).now_ms + ms;
                self.act(session, agent, Act::Snooze { conversation, until_ms });
            }
            Step::Reopen(id, agent) => {
                let world = self.at(Target::Session(SessionId(id)));
                let view = world.shard.session(&world.rows, SessionId(id)).unwrap().unwrap();
                let conversation = view.conversations;
                self.act(SessionId(id), AgentId(agent), Act::Reopen { conversation });
            }
            Step::Hours(is_open) => {
                for site in [SiteId(1), SiteId(2)] {
                    let hours = Hours { zone: "UTC".into(), ..Hours::default() };
                    let rules = SiteRules { hours: Some(hours), ..SiteRules::default() };
                    self.apply(Command::PutSite { site, rules });
                    self.apply(Command::Hours { site, closed: (!is_open).then_some(0) });
                }
            }
            Step::Seat(agent, rules) => {
                let desk = self.at(Target::Desk(site_of(agent)));
                let seats = desk.shard.desk(&desk.rows, site_of(agent)).unwrap().seats;
                let open = seats.iter().find(|seat| seat.agent.0 == agent).map_or(0, |seat| seat.open);
                if open > rules.capacity {
                    self.lowered.insert(AgentId(agent));
                } else {
                    self.lowered.remove(&AgentId(agent));
                }
                self.apply(Command::PutSeat { site: site_of(agent), agent: AgentId(agent), rules });
            }
            other => unreachable!("{other:?} is no step of rules"),
        }
    }

    fn act(&mut self, session: SessionId, agent: AgentId, act: Act) {
        let (site, from) = (Some(site_of(agent.0)), Party::Agent(agent));
        self.acts += 1;
        let (device, n, cid) = ("a".to_owned(), 0, format!("a{}", self.acts));
        let command = Command::Act { session, site, from, device, n, cid, act };
        let first = self.apply(command.clone());
        let again = self.apply(command);
        assert!(again.effects.is_empty(), "said again it did something: {first:?} {again:?}");
    }

    fn answer(&mut self, session: SessionId, agent: AgentId, how: u8) {
        let site = site_of(agent.0);
        let conversation = self.open().keys().find(|(id, _)| *id == session).map_or(1, |(_, number)| *number);
        // The newest offer that the agent knows of, or one that never was.
        let world = self.at(Target::Agent(agent));
        let offers = world.shard.agent(&world.rows, agent).unwrap().unwrap().offers;
        let offer = offers.iter().rev().find(|offer| offer.0 == session).map_or(1, |offer| offer.1);
        let command = match how {
            0 | 1 => Command::Accept { site, agent, session, offer },
            2 => Command::Decline { site, agent, session, offer },
            _ => Command::Take { site, agent, session, conversation },
        };
        let first = self.apply(command.clone());
        let again = self.apply(command);
        assert_eq!(first.reply, again.reply);
        assert!(again.effects.is_empty(), "said again it did something: {again:?}");
    }

    fn hand(&mut self, session: SessionId, to: AgentId) {
        let held = self.open().into_iter().find(|((id, _), _)| *id == session);
        let Some(((_, conversation), (site, Some(agent)))) = held.filter(|(_, (site, _))| *site == site_of(to.0))
        else {
            return;
        };
        let world = self.at(Target::Session(session));
        let part = world.shard.session(&world.rows, session).unwrap().unwrap().open.unwrap().part;
        let command = Command::Hand { site, agent, session, conversation, part, to };
        let first = self.apply(command.clone());
        let again = self.apply(command);
        assert!(first.reply == again.reply && again.effects.is_empty(), "said again: {first:?} {again:?}");
    }

    /// Delivers until no mail waits anywhere.
    pub(super) fn settle(&mut self) {
        loop {
            let pairs = (1..=SHARDS).flat_map(|from| (1..=SHARDS).map(move |to| (from, to)));
            if pairs.map(|(from, to)| self.deliver(from, to, 99, 1)).sum::<usize>() == 0 {
                return;
            }
        }
    }

    /// Every agent accepts what is offered.
    fn accept_all(&mut self) {
        for agent in (0..AGENTS).map(AgentId) {
            let world = self.at(Target::Agent(agent));
            for (session, offer, _) in world.shard.agent(&world.rows, agent).unwrap().unwrap().offers {
                let site = site_of(agent.0);
                assert_eq!(self.apply(Command::Accept { site, agent, session, offer }).reply, Reply::Done);
            }
        }
        self.settle();
    }

    /// Who holds which conversation, as the agents believe.
    pub(super) fn believed(&self) -> BTreeMap<(SessionId, u64), AgentId> {
        let mut believed = BTreeMap::new();
        for agent in (0..AGENTS).map(AgentId) {
            let world = self.at(Target::Agent(agent));
            for talk in world.shard.agent(&world.rows, agent).unwrap().unwrap().open {
                assert_eq!(believed.insert(talk, agent), None, "two agents have conversation {talk:?}");
            }
        }
        believed
    }

    /// Open conversations by session, without those that are laid aside.
    pub(super) fn open(&self) -> BTreeMap<(SessionId, u64), (SiteId, Option<AgentId>)> {
        let open = |id: SessionId| {
            let world = self.at(Target::Session(id));
            let view = world.shard.session(&world.rows, id).unwrap().unwrap();
            view.open.filter(|open| open.snoozed.is_none()).map(|open| ((id, open.number), (view.site, open.agent)))
        };
        (0..SESSIONS).filter_map(|id| open(SessionId(id))).collect()
    }

    /// In a session's own history each conversation is given before it is closed, and only who has it writes; seqs are gapless.
    /// Returns how often a conversation went from one agent to another.
    pub(super) fn check_histories(&self) -> usize {
        let mut moved = 0;
        for id in (0..SESSIONS).map(SessionId) {
            let world = self.at(Target::Session(id));
            let page = world.shard.history(&world.rows, id, HistoryRange::After(0), usize::MAX, usize::MAX).unwrap();
            let (mut owner, mut closed, mut aside) = (None, 0, false);
            for (event, seq) in page.unwrap().events.iter().zip(1..) {
                assert_eq!(event.seq, seq);
                match &event.body {
                    EventBody::Assigned { conversation, agent } => {
                        assert_eq!(*conversation, closed + 1, "given too late");
                        assert_ne!(owner, Some(*agent), "given twice");
                        moved += usize::from(owner.replace(*agent).is_some());
                    }
                    EventBody::Gone | EventBody::Erased { .. } => panic!("nothing was erased"),
                    EventBody::Closed { conversation, .. } => {
                        assert_eq!(*conversation, closed + 1);
                        (owner, closed, aside) = (None, *conversation, false);
                    }
                    EventBody::Queued { conversation, .. } => {
                        assert_eq!(*conversation, closed + 1);
                        assert!(owner.take().is_some() || std::mem::take(&mut aside), "nobody had it");
                    }
                    EventBody::Act { act: Act::Snooze { conversation, .. }, .. } => {
                        assert!(*conversation == closed + 1 && owner.take().is_some(), "nobody had it");
                        aside = true;
                    }
                    EventBody::Act { act: Act::Reopen { conversation }, .. } => {
                        assert_eq!((*conversation, owner), (closed, None));
                        closed -= 1;
                    }
                    EventBody::Act { .. } => {}
                    EventBody::Message { from: Party::Agent(agent), .. } => {
                        assert_eq!(owner, Some(*agent), "not theirs")
                    }
                    EventBody::Message { .. } => {}
                }
            }
        }
        moved
    }

    /// When no mail is under way, all sides say the same.
    pub(super) fn check_settled(&self) {
        let open = self.open();
        let assigned = open.iter().filter_map(|(talk, (_, agent))| agent.map(|agent| (*talk, agent)));
        assert_eq!(self.believed(), assigned.collect::<BTreeMap<_, _>>());
        for site in [SiteId(1), SiteId(2)] {
            let world = self.at(Target::Desk(site));
            let desk = world.shard.desk(&world.rows, site).unwrap();
            let waiting = open.values().filter(|(of, agent)| *of == site && agent.is_none()).count();
            let offered: usize = desk.seats.iter().map(|seat| seat.offered).sum();
            assert_eq!(desk.queue_len + offered as u64, waiting as u64);
            world.shard.check_desk(site, &self.lowered);
            for seat in desk.seats {
                let theirs = open.values().filter(|(_, of)| *of == Some(seat.agent)).count();
                assert_eq!(seat.open as usize, theirs + seat.offered, "seats of {}", seat.agent);
                let home = self.at(Target::Agent(seat.agent));
                let agent = home.shard.agent(&home.rows, seat.agent).unwrap().unwrap();
                assert_eq!((agent.online, agent.offers.len()), (seat.state != SeatState::Offline, seat.offered));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_visitor_never_has_two_agents_and_no_seat_is_lost(steps in steps_without_operator()) {
        let mut cluster = Cluster::new();
        for step in steps {
            cluster.step(step);
            cluster.believed();
        }
        cluster.settle();
        assert_eq!(cluster.check_histories(), 0);
        check_everyone_is_served(cluster);
    }

    #[test]
    fn offers_teams_and_breaks_leave_nobody_waiting_beside_room_and_exceed_no_capacity(steps in steps_with_rules()) {
        let mut cluster = Cluster::new();
        for step in steps {
            cluster.step(step);
        }
        cluster.settle();
        cluster.check_histories();
        check_everyone_is_served_by_the_rules(cluster);
    }

    // While mails of a move are under way the agent before may still list what the session no longer takes from them.
    #[test]
    fn a_conversation_that_an_operator_moves_has_one_agent_at_a_time_and_no_seat_is_lost(steps in steps()) {
        let mut cluster = Cluster::new();
        for step in steps {
            cluster.step(step);
        }
        cluster.settle();
        cluster.check_histories();
        check_everyone_is_served(cluster);
    }
}

/// Mails have settled; then all agents come.
pub(super) fn check_everyone_is_served(mut cluster: Cluster) {
    cluster.check_settled();
    for agent in 0..AGENTS {
        cluster.step(Step::Presence(agent, true));
    }
    cluster.settle();
    cluster.check_settled();
    assert!(cluster.open().values().all(|(_, agent)| agent.is_some()), "everyone is served in the end");
}

/// Mails have settled; then time goes by, all agents come with room for all, and accept.
pub(super) fn check_everyone_is_served_by_the_rules(mut cluster: Cluster) {
    cluster.step(Step::Site(0));
    // Whatever was declined is offered again, and what nobody accepts waits for somebody who says something.
    for _ in 0..3 {
        cluster.step(Step::Wait(31_000));
        cluster.settle();
    }
    cluster.check_settled();
    for agent in 0..AGENTS {
        cluster.step(Step::Seat(agent, SEAT_DEFAULT));
        cluster.step(Step::Presence(agent, true));
        cluster.step(Step::Says(agent, SeatState::Online));
    }
    (1..3).for_each(|team| cluster.step(Step::Team(team, None)));
    cluster.settle();
    cluster.check_settled();
    cluster.accept_all();
    cluster.check_settled();
    assert!(cluster.open().values().all(|(_, agent)| agent.is_some()), "everyone is served in the end");
}
