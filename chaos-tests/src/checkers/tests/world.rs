//! Owns a run of the reference system: clients, a network that delays and loses, faults, and the history of it all.
//! Does not judge. Invariant: the same shape and seed give the same history, and it is a right one.

use std::collections::{BTreeMap, BTreeSet};

use super::deeds::seen_by;
use super::desk::{Has, Talk, agent_id, agent_number};
use crate::history::*;

pub use super::dice::Dice;

/// Requests under way at once; with few sessions `FLIGHTS_MAX_PER_SESSION` of each.
const FLIGHTS_MAX: usize = 60;
const FLIGHTS_MAX_PER_SESSION: usize = 20;

#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub seed: u64,
    pub sessions: usize,
    pub agents: usize,
    pub ops: u64,
}

/// How far a client has been told of a session.
#[derive(Clone, Copy)]
enum Sub {
    Next(u64),
    /// An agent's part ended with this seq.
    Ended(u64),
}

pub(super) struct Person {
    pub who: Who,
    connected: Option<u64>,
    sockets: u64,
    subs: BTreeMap<usize, Sub>,
    /// Per session, what it sends.
    drafts: BTreeMap<usize, Draft>,
}

/// Where a client is with its sends into a session.
struct Draft {
    device: u64,
    /// The next number.
    n: u64,
    /// What has no final answer yet.
    text: Option<String>,
    /// An attempt at that was lost, so nobody knows whether the number is taken.
    is_doubtful: bool,
}

impl Draft {
    fn on_device(device: u64) -> Draft {
        Draft { device, n: 1, text: None, is_doubtful: false }
    }

    fn answered(&mut self, is_ok: bool) {
        match (is_ok, self.is_doubtful) {
            (true, _) => *self = Draft { n: self.n + 1, ..Draft::on_device(self.device) },
            // A copy of what was refused may still arrive or have arrived since, so its number is not taken over.
            (false, true) => *self = Draft::on_device(self.device + 1),
            (false, false) => self.text = None,
        }
    }
}

struct Flight {
    op: OpId,
    person: usize,
    talk: usize,
    what: What,
    answer: Option<Result<Option<Reply>, &'static str>>,
    /// Somebody still waits.
    is_awaited: bool,
}

pub struct World {
    pub(super) dice: Dice,
    shape: Shape,
    lines: Vec<Record>,
    now: u64,
    pub(super) talks: Vec<Talk>,
    pub(super) people: Vec<Person>,
    flights: Vec<Flight>,
    ops: u64,
    pub(super) texts: u64,
    /// What a party took back (false) or reacted to (true).
    pub(super) done: BTreeSet<(Party, usize, Seq, bool)>,
    pub(super) told: BTreeSet<(usize, Seq)>,
}

/// The history of a run.
pub fn history(shape: Shape) -> Vec<Record> {
    let mut world = World::new(shape);
    world.fault(true);
    while world.ops < shape.ops {
        world.step();
    }
    world.finish();
    world.lines
}

impl World {
    fn new(shape: Shape) -> World {
        let talks = (0..shape.sessions).map(Talk::new).collect();
        let (lines, people, flights) = (Vec::new(), Vec::new(), Vec::new());
        let mut world = World {
            dice: Dice(shape.seed),
            shape,
            lines,
            now: 0,
            talks,
            people,
            flights,
            ops: 0,
            texts: 0,
            done: BTreeSet::new(),
            told: BTreeSet::new(),
        };
        let nodes = (1..=3).map(NodeId).collect();
        let sessions = shape.sessions as u64;
        world.note(Body::Run { seed: shape.seed, nodes, shards: 2, sessions, kind: RunKind::Sim });
        for session in 0..shape.sessions {
            let who = Who::Visitor(world.talks[session].id.clone());
            for _ in 0..1 + world.dice.roll(2) {
                world.add_person(who.clone());
            }
        }
        for agent in 0..shape.agents {
            for _ in 0..1 + world.dice.roll(2) {
                world.add_person(Who::Agent(agent_id(agent)));
            }
        }
        world.add_person(Who::Operator);
        world
    }

    fn note(&mut self, body: Body) {
        self.now += 1 + self.dice.roll(50) as u64;
        self.lines.push(Record { t: self.now, body });
    }

    fn add_person(&mut self, who: Who) {
        let client = ClientId(self.people.len() as u64 + 1);
        self.note(Body::Client { client, who: who.clone() });
        let (subs, drafts) = (BTreeMap::new(), BTreeMap::new());
        self.people.push(Person { who, connected: None, sockets: 0, subs, drafts });
        self.connect(self.people.len() - 1);
    }

    fn step(&mut self) {
        if self.flights.len() > FLIGHTS_MAX.min(self.talks.len() * FLIGHTS_MAX_PER_SESSION) {
            self.apply();
            return self.answer();
        }
        match self.dice.roll(100) {
            0..18 => self.begin_send(),
            18..22 => self.begin_act(),
            22..25 => self.begin_close(),
            25..27 => self.begin_move(),
            27..30 => self.begin_read(),
            30..32 => self.begin_cursor(),
            32..58 => self.apply(),
            58..82 => self.answer(),
            82..83 => self.lose(),
            83..88 => self.assign(),
            88..96 => {
                let person = self.dice.roll(self.people.len());
                self.tell(person, 4);
            }
            96..98 => self.tell_cursor(),
            98 => self.reconnect(),
            _ if self.dice.roll(50) == 0 => self.fault(false),
            _ if self.dice.roll(2) == 0 => self.give_back(),
            _ => self.close_by_system(),
        }
    }

    /// A person and a session for it to speak in; an agent's is mostly one that it holds.
    pub(super) fn choose(&mut self) -> (usize, usize) {
        loop {
            let person = self.dice.roll(self.people.len() - 1);
            let talk = self.dice.roll(self.talks.len());
            match &self.people[person].who {
                Who::Visitor(session) => return (person, session.0[1..].parse().expect("ids are made here")),
                Who::Agent(agent) => {
                    let held = Has::Agent(agent_number(agent));
                    let near = (0..self.talks.len().min(50)).map(|step| (talk + step) % self.talks.len());
                    let of_it = { near }.find(|talk| self.talks[*talk].has == held);
                    match of_it {
                        Some(talk) if self.dice.roll(16) > 0 => return (person, talk),
                        _ if self.dice.roll(16) == 0 => return (person, talk),
                        _ => {}
                    }
                }
                Who::Operator => unreachable!("the operator is the last"),
            }
        }
    }

    pub(super) fn begin(&mut self, person: usize, talk: usize, what: What) {
        self.ops += 1;
        let op = OpId(self.ops);
        self.note(Body::Invoke { op, client: ClientId(person as u64 + 1), what: what.clone() });
        self.flights.push(Flight { op, person, talk, what, answer: None, is_awaited: true });
    }

    fn begin_send(&mut self) {
        let (person, talk) = self.choose();
        if self.flights.iter().any(|flight| {
            flight.is_awaited
                && (flight.person, flight.talk) == (person, talk)
                && matches!(flight.what, What::Send { .. })
        }) {
            return;
        }
        let gives_up = self.dice.roll(6) == 0;
        let draft = self.people[person].drafts.entry(talk).or_insert(Draft::on_device(1));
        if draft.text.is_some() && gives_up {
            *draft = Draft::on_device(draft.device + 1);
        }
        let text = draft.text.get_or_insert_with(|| {
            self.texts += 1;
            format!("text {}", self.texts)
        });
        let device = DeviceId::from(format!("c{person}-d{}", draft.device).as_str());
        let (n, text) = (draft.n, text.as_str().into());
        let session = self.talks[talk].id.clone();
        self.begin(person, talk, What::Send { session, device, n, text });
    }

    fn begin_close(&mut self) {
        let (person, talk) = self.choose();
        let session = self.talks[talk].id.clone();
        self.begin(person, talk, What::Close { session, seen: None });
    }

    fn begin_move(&mut self) {
        let talk = self.dice.roll(self.talks.len());
        let agent = agent_id(self.dice.roll(self.shape.agents));
        let session = self.talks[talk].id.clone();
        self.begin(self.people.len() - 1, talk, What::Move { session, agent });
    }

    fn begin_read(&mut self) {
        let (person, talk) = self.choose();
        let head = self.talks[talk].head();
        let after = head.saturating_sub(self.dice.roll(12) as u64);
        let limit = 1 + self.dice.roll(15) as u64;
        let session = self.talks[talk].id.clone();
        self.begin(person, talk, What::History { session, after, limit });
    }

    fn begin_cursor(&mut self) {
        let (person, talk) = self.choose();
        let head = self.talks[talk].head() as usize + 1;
        let received = (self.dice.roll(3) > 0).then(|| self.dice.roll(head) as u64);
        let read = (self.dice.roll(2) > 0).then(|| self.dice.roll(head) as u64);
        let session = self.talks[talk].id.clone();
        self.begin(person, talk, What::Cursor { session, received, read });
    }

    fn apply(&mut self) {
        let at = self.dice.roll(self.flights.len());
        let Some(flight) = self.flights.get_mut(at).filter(|flight| flight.answer.is_none()) else { return };
        let talk = &mut self.talks[flight.talk];
        let before = talk.has;
        flight.answer = Some(talk.apply(&self.people[flight.person].who.party(), &flight.what));
        let (number, has) = (flight.talk, talk.has);
        if !self.flights[at].is_awaited {
            self.flights.swap_remove(at);
        }
        if has != before {
            self.follow(number);
        }
    }

    fn answer(&mut self) {
        let at = self.dice.roll(self.flights.len());
        if self.flights.get(at).is_none_or(|flight| !flight.is_awaited) {
            return;
        }
        if let Some(answer) = self.flights[at].answer.take() {
            let flight = self.flights.swap_remove(at);
            self.hear(&flight, answer);
        }
    }

    fn hear(&mut self, flight: &Flight, answer: Result<Option<Reply>, &'static str>) {
        let op = flight.op;
        if let (What::Send { .. }, Some(draft)) =
            (&flight.what, self.people[flight.person].drafts.get_mut(&flight.talk))
        {
            draft.answered(answer.is_ok());
        }
        self.note(match answer {
            Ok(result) => Body::Ok { op, result },
            Err(code) => Body::Fail { op, code: code.to_owned() },
        });
    }

    /// Nobody waits any more; the request may still arrive.
    fn lose(&mut self) {
        let at = self.dice.roll(self.flights.len());
        let Some(flight) = self.flights.get_mut(at).filter(|flight| flight.is_awaited) else { return };
        flight.is_awaited = false;
        let op = flight.op;
        if let (What::Send { .. }, Some(draft)) =
            (&flight.what, self.people[flight.person].drafts.get_mut(&flight.talk))
        {
            draft.is_doubtful = true;
        }
        if flight.answer.is_some() {
            self.flights.swap_remove(at);
        }
        if self.dice.roll(4) > 0 {
            self.note(Body::Unknown { op, why: "the connection broke".to_owned() });
        }
    }

    fn assign(&mut self) {
        let talk = self.dice.roll(self.talks.len());
        if self.talks[talk].has == Has::Waiting {
            self.talks[talk].assign(self.dice.roll(self.shape.agents));
            self.follow(talk);
        }
    }

    fn close_by_system(&mut self) {
        let talk = self.dice.roll(self.talks.len());
        if self.talks[talk].has != Has::Nobody && self.dice.roll(3) == 0 {
            self.talks[talk].close(Party::System);
        }
    }

    fn give_back(&mut self) {
        let talk = self.dice.roll(self.talks.len());
        if let Has::Agent(agent) = self.talks[talk].has {
            let by = if self.dice.roll(2) == 0 { Party::System } else { Party::Agent(agent_id(agent)) };
            self.talks[talk].give_back(by);
        }
    }

    /// The holder's clients follow the session, those connected at once.
    fn follow(&mut self, talk: usize) {
        let Has::Agent(agent) = self.talks[talk].has else { return };
        for person in &mut self.people {
            if person.connected.is_some() && person.who == Who::Agent(agent_id(agent)) {
                renew(person.subs.entry(talk).or_insert(Sub::Ended(0)), &self.talks[talk]);
            }
        }
    }

    fn connect(&mut self, person: usize) {
        let node = NodeId(1 + self.dice.roll(3) as u64);
        let one = &mut self.people[person];
        one.sockets += 1;
        let socket = Socket(one.sockets);
        one.connected = Some(socket.0);
        match &one.who {
            Who::Visitor(session) => {
                let talk = session.0[1..].parse().expect("ids are made here");
                one.subs.entry(talk).or_insert(Sub::Next(1));
            }
            Who::Agent(agent) => {
                let agent = agent_number(agent);
                for (number, talk) in self.talks.iter().enumerate() {
                    let known = one.subs.contains_key(&number);
                    if !known && talk.has != Has::Agent(agent) {
                        continue;
                    }
                    let sub = one.subs.entry(number).or_insert(Sub::Ended(0));
                    if let (Sub::Next(next), false) = (*sub, talk.may_read(agent)) {
                        *sub = Sub::Ended(next - 1);
                    }
                    if talk.has == Has::Agent(agent) {
                        renew(sub, talk);
                    }
                }
            }
            Who::Operator => {}
        }
        self.note(Body::Connected { client: ClientId(person as u64 + 1), socket, node });
    }

    fn reconnect(&mut self) {
        let person = self.dice.roll(self.people.len());
        match self.people[person].connected.take() {
            Some(socket) => self.note(Body::Disconnected {
                client: ClientId(person as u64 + 1),
                socket: Socket(socket),
                node: NodeId(1),
            }),
            None => self.connect(person),
        }
    }

    /// Hands a client up to `most` events of each session that it follows; true when there was one.
    fn tell(&mut self, person: usize, most: usize) -> bool {
        let Some(socket) = self.people[person].connected.map(Socket) else { return false };
        let mut told = false;
        let followed: Vec<usize> = self.people[person].subs.keys().copied().collect();
        for talk in followed {
            for _ in 0..most {
                let Sub::Next(next) = self.people[person].subs[&talk] else { break };
                let Some(event) = self.talks[talk].log.get(next as usize - 1).cloned() else { break };
                let sub = self.advance(person, talk, next, &event);
                self.people[person].subs.insert(talk, sub);
                self.told.insert((talk, event.seq));
                let event = seen_by(&self.people[person].who.party(), &event);
                self.note(Body::Event { client: ClientId(person as u64 + 1), socket, event });
                told = true;
            }
        }
        told
    }

    fn advance(&self, person: usize, talk: usize, seq: u64, event: &Event) -> Sub {
        let Who::Agent(agent) = &self.people[person].who else { return Sub::Next(seq + 1) };
        let ends = match &event.kind {
            EventKind::Assigned { agent: to } => to != agent,
            EventKind::Closed { .. } | EventKind::Queued { .. } => true,
            _ => false,
        };
        let mut sub = if ends { Sub::Ended(seq) } else { Sub::Next(seq + 1) };
        if ends && self.talks[talk].has == Has::Agent(agent_number(agent)) {
            renew(&mut sub, &self.talks[talk]);
        }
        sub
    }

    fn tell_cursor(&mut self) {
        let (person, talk) = self.choose();
        let one = &self.people[person];
        let (Some(_), Some((received, read))) = (one.connected, self.talks[talk].cursors.get(&Party::Visitor)) else {
            return;
        };
        let (client, session) = (ClientId(person as u64 + 1), self.talks[talk].id.clone());
        let (received, read) = (*received, *read);
        self.note(Body::Cursor { client, session, by: Party::Visitor, received, read });
    }

    fn fault(&mut self, is_first: bool) {
        let fault = FaultId(self.lines.len() as u64);
        let node = NodeId(1 + self.dice.roll(3) as u64);
        let epoch = Epoch(fault.0);
        self.note(Body::Serving { node, shard: ShardId(1), epoch });
        self.note(Body::Leader { shard: ShardId(1), node: Some(node), epoch });
        let kind = if is_first { "kill" } else { "partition" };
        self.note(Body::Fault { fault, kind: kind.to_owned(), nodes: vec![node], note: String::new() });
        self.note(Body::Leader { shard: ShardId(1), node: None, epoch });
        self.note(Body::Healed { fault });
        let since = 1 + self.dice.roll(2_000_000) as u64;
        self.note(Body::Ready { since });
    }

    /// Everything arrives or is lost; everybody who is connected is told the rest; then all nodes are asked.
    fn finish(&mut self) {
        while let Some(mut flight) = self.flights.pop() {
            let is_lost = !flight.is_awaited && self.dice.roll(2) == 0;
            let party = self.people[flight.person].who.party();
            let talk = flight.talk;
            let answer = match flight.answer.take() {
                Some(answer) => Some(answer),
                None => (!is_lost).then(|| self.talks[talk].apply(&party, &flight.what)),
            };
            self.follow(talk);
            if let Some(answer) = answer.filter(|_| flight.is_awaited) {
                self.hear(&flight, answer);
            }
        }
        for person in 0..self.people.len() {
            while self.tell(person, usize::MAX) {}
        }
        for node in (1..=3).map(NodeId) {
            for talk in 0..self.talks.len() {
                let (session, events) = (self.talks[talk].id.clone(), self.talks[talk].log.iter());
                let events = events.map(|event| seen_by(&Party::Visitor, event)).collect();
                self.note(Body::Final { node, session, events });
            }
            for shard in (1..=2).map(ShardId) {
                for applied in [90 + node.0, 100] {
                    let hash = format!("{:x}", applied * 7919 + shard.0);
                    self.note(Body::Hash { node, shard, applied: Applied(applied), hash });
                }
            }
        }
    }
}

/// A part that ended goes over into the one that the talk's holder has now, if that is a later one.
fn renew(sub: &mut Sub, talk: &Talk) {
    if let Sub::Ended(last) = *sub
        && talk.part_from > last
    {
        *sub = Sub::Next(talk.part_from);
    }
}
