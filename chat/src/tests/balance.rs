//! Owns the simulation that shows how evenly work is spread: 200 agents with uneven shifts and capacities, 100,000 conversations,
//! the desk beside three simpler rules. Does not measure speed. Invariant: everything follows from one seed.

use super::world::*;
use crate::desk::SEAT_DEFAULT;
use crate::limits::ASSIGN_PER_COMMAND_MAX;
use proto::command::{Command, Mail};
use proto::desk::{Ask, SeatRules, SeatState};
use proto::ids::{AgentId, SessionId, ShardId};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

const AGENTS: usize = 200;
const CHATS: usize = 100_000;
const HOUR: u64 = 3_600;
/// Seconds in which the conversations come.
const DAY: u64 = 24 * HOUR;

/// Source: Vigna, xorshift64*.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

struct Worker {
    capacity: u32,
    /// Seconds of the day: at work from, to.
    shift: (u64, u64),
}

struct Chat {
    at: u64,
    lasts: u64,
}

/// The same day for every rule.
struct Day {
    workers: Vec<Worker>,
    chats: Vec<Chat>,
}

impl Day {
    fn new() -> Day {
        let mut dice = Dice(0x5eed_0dd5);
        let worker = |dice: &mut Dice| {
            let (from, len) = (dice.below(DAY - 4 * HOUR), 4 * HOUR + dice.below(6 * HOUR));
            Worker { capacity: 2 + dice.below(7) as u32, shift: (from, (from + len).min(DAY)) }
        };
        // Somebody is always there.
        let mut workers: Vec<Worker> = (0..AGENTS).map(|_| worker(&mut dice)).collect();
        workers.iter_mut().take(20).for_each(|worker| worker.shift = (0, DAY));
        // Most write around noon and in the evening; a few need long.
        let chat = |dice: &mut Dice| {
            let at = match dice.below(10) {
                0..4 => 9 * HOUR + dice.below(5 * HOUR),
                4..7 => 17 * HOUR + dice.below(5 * HOUR),
                _ => dice.below(DAY),
            };
            let lasts = if dice.below(20) == 0 { HOUR / 4 } else { 30 + dice.below(120) };
            Chat { at, lasts }
        };
        let mut chats: Vec<Chat> = (0..CHATS).map(|_| chat(&mut dice)).collect();
        chats.sort_by_key(|chat| chat.at);
        Day { workers, chats }
    }
}

/// A rule by which conversations are given.
trait Rule {
    fn comes(&mut self, agent: usize, now: u64);
    fn goes(&mut self, agent: usize, now: u64);
    fn asks(&mut self, chat: usize, now: u64);
    fn ends(&mut self, chat: usize, agent: usize, now: u64);
    /// Who was given what since the last look.
    fn given(&mut self) -> Vec<(usize, usize)>;
}

/// The desk itself.
struct Desk {
    world: World,
    read: u64,
}

impl Desk {
    fn new(day: &Day) -> Desk {
        let mut world = World::alone();
        for (agent, worker) in day.workers.iter().enumerate() {
            let rules = SeatRules { capacity: worker.capacity, ..SEAT_DEFAULT };
            world.apply(Command::PutSeat { site: SITE, agent: AgentId(agent as u64), rules });
        }
        Desk { world, read: 0 }
    }

    fn tell(&mut self, now: u64, message: Mail) {
        const ELSEWHERE: ShardId = ShardId(77);
        self.world.now_ms = now * 1_000;
        let seq = self.world.shard.inbox_seen(ELSEWHERE) + 1;
        self.world.apply(Command::Inbox { from: ELSEWHERE, seq, message });
    }

    fn state(&mut self, agent: usize, now: u64, state: SeatState) {
        self.tell(now, Mail::AgentState { site: SITE, agent: AgentId(agent as u64), state });
    }
}

impl Rule for Desk {
    fn comes(&mut self, agent: usize, now: u64) {
        self.state(agent, now, SeatState::Online);
    }

    fn goes(&mut self, agent: usize, now: u64) {
        self.state(agent, now, SeatState::Offline);
    }

    fn asks(&mut self, chat: usize, now: u64) {
        let (session, ask) = (SessionId(chat as u128), Box::new(Ask::default()));
        self.tell(now, Mail::Want { site: SITE, session, conversation: 1, ask });
    }

    fn ends(&mut self, chat: usize, _: usize, now: u64) {
        self.tell(now, Mail::Done { site: SITE, session: SessionId(chat as u128), conversation: 1, agent: None });
    }

    fn given(&mut self) -> Vec<(usize, usize)> {
        let mails = self.world.shard.outbox(&self.world.rows, ONE, self.read, usize::MAX).unwrap();
        self.read += mails.len() as u64;
        self.world.apply(Command::OutboxAcked { to: ONE, upto: self.read });
        assert!(mails.len() < ASSIGN_PER_COMMAND_MAX, "no more wait than one command serves");
        let given = |mail| match mail {
            Mail::Assign { session, agent, .. } => Some((session.0 as usize, agent.0 as usize)),
            _ => None,
        };
        mails.into_iter().filter_map(|(_, mail)| given(mail)).collect()
    }
}

#[derive(Clone, Copy)]
enum Simple {
    /// Any who is there and has room.
    Random,
    /// The next in a circle who is there and has room.
    RoundRobin,
    /// Whom the conversation's number names among those who are there, room or not.
    Hash,
}

/// What simpler desks do.
struct Plain<'a> {
    day: &'a Day,
    how: Simple,
    dice: Dice,
    here: BTreeSet<usize>,
    open: Vec<u32>,
    /// Who waits; for `Hash`, with the agent.
    line: VecDeque<(usize, Option<usize>)>,
    last: usize,
    given: Vec<(usize, usize)>,
}

impl<'a> Plain<'a> {
    fn new(day: &'a Day, how: Simple) -> Plain<'a> {
        let (here, open, line) = (BTreeSet::new(), vec![0; AGENTS], VecDeque::new());
        Plain { day, how, dice: Dice(7), here, open, line, last: 0, given: Vec::new() }
    }

    fn has_room(&self, agent: usize) -> bool {
        self.here.contains(&agent) && self.open[agent] < self.day.workers[agent].capacity
    }

    fn choose(&mut self, named: Option<usize>) -> Option<usize> {
        if let Some(agent) = named {
            return self.has_room(agent).then_some(agent);
        }
        let free: Vec<usize> = self.here.iter().copied().filter(|agent| self.has_room(*agent)).collect();
        let last = self.last;
        let agent = match self.how {
            _ if free.is_empty() => return None,
            Simple::Random | Simple::Hash => free[self.dice.below(free.len() as u64) as usize],
            Simple::RoundRobin => free.iter().copied().find(|agent| *agent > last).unwrap_or(free[0]),
        };
        self.last = agent;
        Some(agent)
    }

    fn serve(&mut self) {
        let mut still = VecDeque::new();
        while let Some((chat, named)) = self.line.pop_front() {
            let named = named.map(|agent| if self.here.contains(&agent) { agent } else { self.name(chat) });
            match self.choose(named) {
                Some(agent) => {
                    self.open[agent] += 1;
                    self.given.push((chat, agent));
                }
                None => still.push_back((chat, named)),
            }
            if matches!(self.how, Simple::Random | Simple::RoundRobin) && !still.is_empty() {
                still.append(&mut self.line);
            }
        }
        self.line = still;
    }

    fn name(&self, chat: usize) -> usize {
        let hash = (chat as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        *self.here.iter().nth(hash as usize % self.here.len()).unwrap()
    }
}

impl Rule for Plain<'_> {
    fn comes(&mut self, agent: usize, _: u64) {
        self.here.insert(agent);
        self.serve();
    }

    fn goes(&mut self, agent: usize, _: u64) {
        self.here.remove(&agent);
    }

    fn asks(&mut self, chat: usize, _: u64) {
        let named = matches!(self.how, Simple::Hash).then(|| self.name(chat));
        self.line.push_back((chat, named));
        self.serve();
    }

    fn ends(&mut self, _: usize, agent: usize, _: u64) {
        self.open[agent] -= 1;
        self.serve();
    }

    fn given(&mut self) -> Vec<(usize, usize)> {
        std::mem::take(&mut self.given)
    }
}

/// What came out of a day.
struct Outcome {
    /// Jain's index of each agent's load against that of all who were there at the same time.
    jain: f64,
    /// Seconds.
    wait_mean: f64,
    wait_p99: u64,
    wait_max: u64,
}

/// Source: Jain, Chiu, Hawe, "A quantitative measure of fairness" (1984).
fn jain(shares: &[f64]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), share| (sum + share, squares + share * share));
    sum * sum / (shares.len() as f64 * squares)
}

fn play(day: &Day, rule: &mut dyn Rule) -> Outcome {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Event {
        Comes(usize),
        Ends(usize, usize),
        Goes(usize),
        Asks(usize),
    }
    let mut events = BinaryHeap::new();
    for (agent, worker) in day.workers.iter().enumerate() {
        events.push(Reverse((worker.shift.0, Event::Comes(agent))));
        events.push(Reverse((worker.shift.1, Event::Goes(agent))));
    }
    events.extend(day.chats.iter().enumerate().map(|(chat, of)| Reverse((of.at, Event::Asks(chat)))));
    let (mut here, mut open) = (BTreeSet::new(), [0_u32; AGENTS]);
    let (mut own, mut fair) = (vec![0.0; AGENTS], vec![0.0; AGENTS]);
    let (mut waits, mut last) = (Vec::with_capacity(CHATS), 0);
    while let Some(Reverse((now, event))) = events.pop() {
        if now > DAY {
            break;
        }
        let busy: u32 = here.iter().map(|agent: &usize| open[*agent]).sum();
        let room: u32 = here.iter().map(|agent: &usize| day.workers[*agent].capacity).sum();
        for agent in &here {
            let seconds = (now - last) as f64;
            own[*agent] += f64::from(open[*agent]) / f64::from(day.workers[*agent].capacity) * seconds;
            fair[*agent] += f64::from(busy) / f64::from(room) * seconds;
        }
        last = now;
        match event {
            Event::Comes(agent) => {
                here.insert(agent);
                rule.comes(agent, now);
            }
            Event::Goes(agent) => {
                here.remove(&agent);
                rule.goes(agent, now);
            }
            Event::Asks(chat) => rule.asks(chat, now),
            Event::Ends(chat, agent) => {
                open[agent] -= 1;
                rule.ends(chat, agent, now);
            }
        }
        for (chat, agent) in rule.given() {
            open[agent] += 1;
            assert!(open[agent] <= day.workers[agent].capacity, "{agent} has too many");
            assert!(here.contains(&agent), "{agent} is not there");
            waits.push(now - day.chats[chat].at);
            events.push(Reverse((now + day.chats[chat].lasts, Event::Ends(chat, agent))));
        }
    }
    waits.sort_unstable();
    let shares: Vec<f64> = own.iter().zip(&fair).map(|(own, fair)| own / fair).collect();
    Outcome {
        jain: jain(&shares),
        wait_mean: waits.iter().sum::<u64>() as f64 / waits.len() as f64,
        wait_p99: waits[waits.len() * 99 / 100],
        wait_max: *waits.last().unwrap(),
    }
}

#[test]
fn two_hundred_agents_share_a_hundred_thousand_conversations_evenly() {
    let day = Day::new();
    println!("| rule | Jain index | wait mean s | p99 s | max s |\n|---|---|---|---|---|");
    let tell = |name: &str, rule: &mut dyn Rule| {
        let outcome = play(&day, rule);
        let Outcome { jain, wait_mean, wait_p99, wait_max } = outcome;
        println!("| {name} | {jain:.4} | {wait_mean:.1} | {wait_p99} | {wait_max} |");
        outcome
    };
    let desk = tell("desk", &mut Desk::new(&day));
    let others = [("random", Simple::Random), ("round robin", Simple::RoundRobin), ("hash only", Simple::Hash)]
        .map(|(name, how)| tell(name, &mut Plain::new(&day, how)));
    assert!(desk.jain >= 0.98, "{}", desk.jain);
    assert!(others.iter().all(|other| other.jain < desk.jain));
}
