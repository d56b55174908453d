//! Owns what befalls the simulated cluster: a plan from the seed, and its execution. Does not know clients.
//! Invariant: at most one fault that takes machines away is under way, and every fault ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use proto::command::NodeState;
use proto::failpoints::FailPoint;
use std::sync::Arc;
use storage::MemEngine;

use super::crash_at::Armed;
use super::kinds::Kind;
use super::machine::{self, set_skew};
use super::members::Wishes;
use super::node::host;
use super::run::{Settings, World};
use crate::history::{Body, FaultId, NodeId};
use crate::talk::Dice;

/// Pause before and after the faults.
const QUIET: Duration = Duration::from_secs(3);

/// One fault to come.
#[derive(Debug, Clone)]
struct Planned {
    at: Duration,
    lasts: Duration,
    kind: Kind,
}

/// What will happen, and when.
pub(super) struct Plan {
    faults: Vec<Planned>,
    ends: Duration,
    dice: Dice,
}

impl Plan {
    pub fn draw(settings: &Settings, now: Duration) -> Plan {
        let mut dice = Dice::new(settings.seed, 7);
        let mut faults = Vec::new();
        let mut at = now + QUIET;
        let ends = now + settings.faults_for;
        while at + QUIET < ends {
            // There are many places to crash at.
            let kind = Kind::ALL.get(dice.below(Kind::ALL.len() + 6)).copied().unwrap_or(Kind::CrashAt);
            let lasts = Duration::from_millis(100 + dice.next() % 4_000);
            faults.push(Planned { at, lasts, kind });
            // Sometimes the next one comes while this one lasts, or before the cluster is whole again.
            at += Duration::from_millis(dice.next() % 3_000) + if dice.once_in(3) { Duration::ZERO } else { lasts };
        }
        Plan { faults, ends, dice }
    }

    /// While the cluster is founded, one of some crashes.
    pub fn founding(settings: &Settings) -> Plan {
        let mut dice = Dice::new(settings.seed, 8);
        let at = Duration::from_millis(1);
        let crash = Planned { at, lasts: Duration::from_millis(4_000), kind: Kind::CrashAt };
        let faults = if dice.once_in(3) { vec![crash] } else { Vec::new() };
        Plan { faults, ends: at, dice }
    }
}

/// A fault that lasts.
struct Lasting {
    id: FaultId,
    until: Duration,
    kind: Kind,
    nodes: Vec<u64>,
    armed: Option<Armed>,
    /// Of flapping: when the links change next.
    flaps_at: Duration,
    is_cut: bool,
}

/// Carries the plan out.
pub(super) struct Faults {
    plan: Plan,
    lasting: Vec<Lasting>,
    last: u64,
    /// Machines that lie down.
    down: Vec<u64>,
    /// Machines whose node is to serve nobody for a while.
    drained: Vec<(u64, proto::ids::NodeId)>,
    wishes: Wishes,
}

impl Faults {
    /// `last`: number of the last fault before these.
    pub fn new(mut plan: Plan, last: u64) -> Faults {
        plan.faults.reverse();
        let (lasting, down, drained) = (Vec::new(), Vec::new(), Vec::new());
        Faults { plan, lasting, last, down, drained, wishes: Wishes::default() }
    }

    pub fn last(&self) -> u64 {
        self.last
    }

    /// All has happened and has been healed.
    pub fn are_over(&self, now: Duration) -> bool {
        let is_all_done = self.plan.faults.is_empty() && self.lasting.is_empty() && self.plan.ends.is_zero();
        is_all_done && self.wishes.are_true(now)
    }

    /// Does what is due now.
    pub fn act(&mut self, world: &mut World) {
        let now = world.sim.elapsed();
        self.crash_the_hit(world);
        self.raise_the_failed(world);
        self.wishes.say(world);
        self.flap(world, now);
        for number in (0..self.lasting.len()).rev() {
            if self.lasting[number].until <= now {
                let over = self.lasting.remove(number);
                self.heal(world, over);
            }
        }
        while self.plan.faults.last().is_some_and(|next| next.at <= now) {
            let Some(next) = self.plan.faults.pop() else { break };
            self.begin(world, &next);
        }
        if self.plan.faults.is_empty() && self.lasting.is_empty() && now >= self.plan.ends {
            self.plan.ends = Duration::ZERO;
        }
    }

    fn begin(&mut self, world: &mut World, next: &Planned) {
        let now = world.sim.elapsed();
        if next.kind == Kind::CrashAt {
            // Places that are seldom passed get their time.
            return self.arm(world, now + next.lasts * 3);
        }
        let Some(nodes) = self.choose(world, next.kind) else { return };
        let id = self.note(world, next.kind, &nodes, String::new());
        for &node in &nodes {
            self.strike(world, next.kind, node, &nodes);
        }
        let until = now + next.lasts;
        self.lasting.push(Lasting { id, until, kind: next.kind, nodes, armed: None, flaps_at: now, is_cut: true });
    }

    fn note(&mut self, world: &World, kind: Kind, nodes: &[u64], note: String) -> FaultId {
        self.last += 1;
        let fault = FaultId(self.last);
        tracing::info!(kind = kind.name(), ?nodes, note, "fault");
        let nodes = nodes.iter().copied().map(NodeId).collect();
        world.book.record(Body::Fault { fault, kind: kind.name().to_owned(), nodes, note });
        fault
    }

    /// A crash that waits for some place in the code until then.
    fn arm(&mut self, world: &World, until: Duration) {
        let point = FailPoint::ALL[self.plan.dice.below(FailPoint::ALL.len())];
        let times = [1, 1, 2, 5, 40][self.plan.dice.below(5)];
        let armed = Some(Armed::at(point, times, &world.machines, world.machines.len() as u64));
        let (id, nodes) = (FaultId(0), Vec::new());
        self.lasting.push(Lasting { id, until, kind: Kind::CrashAt, nodes, armed, flaps_at: until, is_cut: false });
    }

    /// A machine came to its place: from here on it is one that crashed, for a while.
    fn crash_the_hit(&mut self, world: &mut World) {
        for at in 0..self.lasting.len() {
            let Some((point, node)) =
                self.lasting[at].armed.as_ref().and_then(|armed| Some((armed.point, armed.hit()?)))
            else {
                continue;
            };
            self.lasting[at].armed = None;
            let id = self.note(world, Kind::CrashAt, &[node], point.name().to_owned());
            let lasts = Duration::from_millis(50 + machine::random() % 3_000);
            let fault = &mut self.lasting[at];
            (fault.id, fault.nodes, fault.until) = (id, vec![node], world.sim.elapsed() + lasts);
            let how = if machine::random().is_multiple_of(2) { Crash::Kill } else { Crash::Power };
            self.crash(world, node, how);
            each_link(world, &[node], |world, a, b| world.sim.repair(a, b));
            world.sim.repair("clients", host(node));
        }
    }

    /// The nodes that a fault hits; `None`: not now.
    fn choose(&mut self, world: &World, kind: Kind) -> Option<Vec<u64>> {
        let all: Vec<u64> = world.machines.iter().map(|machine| machine.number).collect();
        let up: Vec<u64> = all.iter().copied().filter(|node| !self.down.contains(node)).collect();
        let majority = all.len() / 2 + 1;
        let dice = &mut self.plan.dice;
        let shard = dice.below(3) as u32;
        let one = *up.get(dice.below(up.len()))?;
        let leader = world.leader(shard).filter(|node| up.contains(node)).unwrap_or(one);
        let mut mixed = up.clone();
        mixed.rotate_left(dice.below(up.len().max(1)));
        Some(match kind {
            Kind::KillOne | Kind::PowerOne | Kind::TornWrite | Kind::FsyncFails | Kind::DiskFull => {
                vec![if dice.once_in(2) { one } else { leader }]
            }
            Kind::KillLeader | Kind::IsolateLeader | Kind::Transfer => vec![leader],
            Kind::KillMajority | Kind::PowerMajority => mixed.into_iter().take(majority).collect(),
            Kind::KillAll | Kind::PowerAll | Kind::Ring => up,
            // A minority may lose what it promised: not before the one that lost it last has been replaced everywhere.
            Kind::WalLost | Kind::Wipe
                if self.down.is_empty()
                    && self.lasting.is_empty()
                    && self.wishes.are_true(world.sim.elapsed())
                    && world.is_settled(all.len() as u64) =>
            {
                vec![one]
            }
            Kind::WalLost | Kind::Wipe | Kind::CrashAt => return None,
            Kind::Halves => mixed.into_iter().take(all.len() / 2).collect(),
            Kind::Isolate
            | Kind::OneWay
            | Kind::Flapping
            | Kind::Stall
            | Kind::ClientsCut
            | Kind::ClockJump
            | Kind::Drain => {
                vec![one]
            }
            Kind::Loss | Kind::Slow => all,
        })
    }

    fn strike(&mut self, world: &mut World, kind: Kind, node: u64, nodes: &[u64]) {
        let machine = world.machines[node as usize - 1].clone();
        match kind {
            Kind::KillOne | Kind::KillLeader | Kind::KillMajority | Kind::KillAll => {
                self.crash(world, node, Crash::Kill)
            }
            Kind::PowerOne | Kind::PowerMajority | Kind::PowerAll => self.crash(world, node, Crash::Power),
            Kind::WalLost => self.crash(world, node, Crash::Log),
            Kind::Wipe => {
                let gone = machine.node().map(|node| node.me);
                self.crash(world, node, Crash::All);
                if let Some(gone) = gone {
                    self.wishes.want(gone, NodeState::Leaving);
                }
            }
            Kind::Drain => {
                if let Some(cluster) = machine.node() {
                    self.drained.push((node, cluster.me));
                    self.wishes.want(cluster.me, NodeState::Draining);
                }
            }
            Kind::CrashAt => {}
            Kind::TornWrite => machine.engine().tear_after(machine::random() % 4),
            Kind::FsyncFails => machine.engine().fail_next_sync(),
            Kind::DiskFull => {
                let bytes = machine.engine().bytes();
                machine.engine().set_capacity(bytes + 2_000);
            }
            Kind::ClockJump => {
                let ms = (machine::random() % 7_200_000) as i64 - 3_600_000;
                if let Some(runtime) = machine.runtime() {
                    set_skew(runtime.id(), ms);
                }
            }
            Kind::Loss if node == 1 => world.sim.set_fail_rate(0.01),
            Kind::Slow if node == 1 => world.sim.set_max_message_latency(Duration::from_millis(150)),
            Kind::Loss | Kind::Slow => {}
            Kind::ClientsCut => world.sim.partition("clients", host(node)),
            Kind::Transfer => {
                if let (Some(cluster), Some(runtime)) = (machine.node(), machine.runtime()) {
                    let _entered = runtime.enter();
                    let others = world.machines.iter().filter(|one| one.number != node).filter_map(|one| one.node());
                    let to = others.map(|other| other.me).max().unwrap_or(cluster.me);
                    let shard = proto::ids::ShardId(1 + (machine::random() % 2) as u32);
                    let ask = cluster.clone();
                    cluster.spawn(async move {
                        // A transfer that is refused is no transfer.
                        let _ = ask.transfer(shard, to).await;
                    });
                }
            }
            Kind::Ring => {
                // Each node loses the one after the next: everybody still sees a majority of five, and one link of three is cut.
                let count = world.machines.len() as u64;
                let to = node % count + 1;
                if count > 3 || node == 1 {
                    world.sim.partition(host(node), host(to));
                }
            }
            Kind::Isolate | Kind::IsolateLeader | Kind::Halves | Kind::Flapping => cut(world, node, nodes, Cut::Both),
            Kind::OneWay => cut(world, node, nodes, Cut::From),
            Kind::Stall => cut(world, node, nodes, Cut::Hold),
        }
    }

    fn heal(&mut self, world: &mut World, over: Lasting) {
        for &node in &over.nodes {
            let machine = world.machines[node as usize - 1].clone();
            match over.kind {
                Kind::Loss => world.sim.set_fail_rate(0.0),
                Kind::Slow => world.sim.set_max_message_latency(Duration::from_millis(6)),
                Kind::ClientsCut => world.sim.repair("clients", host(node)),
                Kind::DiskFull => machine.engine().set_capacity(None),
                Kind::Drain => {
                    for (_, drained) in self.drained.extract_if(.., |(number, _)| *number == node) {
                        self.wishes.want(drained, NodeState::Active);
                    }
                }
                _ => {}
            }
        }
        match over.kind {
            Kind::Stall => each_link(world, &over.nodes, |world, a, b| world.sim.release(a, b)),
            Kind::Isolate
            | Kind::IsolateLeader
            | Kind::Halves
            | Kind::Flapping
            | Kind::OneWay
            | Kind::Ring
            | Kind::Loss => each_link(world, &over.nodes, |world, a, b| world.sim.repair(a, b)),
            _ => {}
        }
        for &node in &over.nodes {
            if self.down.contains(&node) {
                self.raise(world, node);
            }
        }
        if over.id != FaultId(0) {
            world.book.record(Body::Healed { fault: over.id });
        }
    }

    /// A process whose disk failed has ended; it is started again as an operator's supervisor would.
    fn raise_the_failed(&mut self, world: &mut World) {
        for machine in world.machines.clone() {
            if machine.has_failed.load(Ordering::Relaxed) && !self.down.contains(&machine.number) {
                self.crash(world, machine.number, Crash::Power);
                let holds = self
                    .lasting
                    .iter()
                    .any(|fault| fault.nodes.contains(&machine.number) && fault.kind != Kind::Transfer);
                if !holds {
                    self.raise(world, machine.number);
                }
            }
        }
    }

    fn crash(&mut self, world: &mut World, node: u64, how: Crash) {
        if self.down.contains(&node) {
            return;
        }
        let machine = world.machines[node as usize - 1].clone();
        let before = machine.engine();
        let mut choose = |count: usize| (machine::random() % (count as u64 + 1)) as usize;
        let after: Arc<MemEngine> = match how {
            Crash::Kill => before.restart_killed(&mut choose),
            Crash::Power => before.restart_with(&mut choose),
            Crash::Log => {
                let after = before.restart_with(&mut choose);
                after.wipe_rows();
                machine.has_lost_rows.store(true, Ordering::Relaxed);
                after
            }
            Crash::All => MemEngine::new(),
        };
        world.sim.crash(host(node));
        machine.put_engine(after);
        if matches!(how, Crash::All) {
            machine.wipe();
        }
        self.down.push(node);
    }

    fn raise(&mut self, world: &mut World, node: u64) {
        // Another fault may still want it down.
        self.down.retain(|one| *one != node);
        world.sim.bounce(host(node));
    }

    fn flap(&mut self, world: &mut World, now: Duration) {
        for fault in &mut self.lasting {
            if fault.kind == Kind::Flapping && fault.flaps_at <= now {
                fault.flaps_at = now + Duration::from_millis(100 + machine::random() % 500);
                fault.is_cut = !fault.is_cut;
                let cut = fault.is_cut;
                each_link(
                    world,
                    &fault.nodes,
                    |world, a, b| {
                        if cut { world.sim.partition(a, b) } else { world.sim.repair(a, b) }
                    },
                );
            }
        }
    }
}

enum Crash {
    /// kill -9: the system keeps what was written.
    Kill,
    /// The power goes: what was not synced may be lost.
    Power,
    /// And the write-ahead log is gone.
    Log,
    /// Everything is gone.
    All,
}

#[derive(Clone, Copy)]
enum Cut {
    Both,
    From,
    Hold,
}

fn cut(world: &mut World, node: u64, nodes: &[u64], how: Cut) {
    let others: Vec<u64> = world.machines.iter().map(|one| one.number).filter(|one| !nodes.contains(one)).collect();
    for other in others {
        let (a, b) = (host(node), host(other));
        match how {
            Cut::Both => world.sim.partition(a, b),
            Cut::From => world.sim.partition_oneway(a, b),
            Cut::Hold => world.sim.hold(a, b),
        }
    }
}

/// Every link between these nodes and all others, and among them.
fn each_link(world: &mut World, nodes: &[u64], mut act: impl FnMut(&mut World, String, String)) {
    let all: Vec<u64> = world.machines.iter().map(|one| one.number).collect();
    for &node in nodes {
        for &other in &all {
            if node != other {
                act(world, host(node), host(other));
            }
        }
    }
}
