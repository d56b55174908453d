//! Owns what befalls the simulated cluster: a plan from the seed, and its execution. Does not know clients.
//! Invariant: at most one fault that takes machines away is under way, and every fault ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use std::sync::Arc;
use storage::MemEngine;

use super::machine::{self, set_skew};
use super::node::host;
use super::run::{Settings, World};
use crate::history::{Body, FaultId, NodeId};
use crate::talk::Dice;

/// Pause before and after the faults.
const QUIET: Duration = Duration::from_secs(3);

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    KillOne,
    KillLeader,
    KillMajority,
    KillAll,
    PowerOne,
    PowerMajority,
    PowerAll,
    TornWrite,
    FsyncFails,
    DiskFull,
    WalLost,
    Isolate,
    IsolateLeader,
    Halves,
    OneWay,
    Ring,
    Flapping,
    Stall,
    Loss,
    Slow,
    ClockJump,
    ClientsCut,
    Transfer,
}

impl Kind {
    pub const ALL: [Kind; 23] = [
        Kind::KillOne,
        Kind::KillLeader,
        Kind::KillMajority,
        Kind::KillAll,
        Kind::PowerOne,
        Kind::PowerMajority,
        Kind::PowerAll,
        Kind::TornWrite,
        Kind::FsyncFails,
        Kind::DiskFull,
        Kind::WalLost,
        Kind::Isolate,
        Kind::IsolateLeader,
        Kind::Halves,
        Kind::OneWay,
        Kind::Ring,
        Kind::Flapping,
        Kind::Stall,
        Kind::Loss,
        Kind::Slow,
        Kind::ClockJump,
        Kind::ClientsCut,
        Kind::Transfer,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::KillOne => "kill",
            Kind::KillLeader => "kill-leader",
            Kind::KillMajority => "kill-majority",
            Kind::KillAll => "kill-all",
            Kind::PowerOne => "power-loss",
            Kind::PowerMajority => "power-loss-majority",
            Kind::PowerAll => "power-loss-all",
            Kind::TornWrite => "torn-write",
            Kind::FsyncFails => "fsync-fails",
            Kind::DiskFull => "disk-full",
            Kind::WalLost => "wal-lost",
            Kind::Isolate => "isolate",
            Kind::IsolateLeader => "isolate-leader",
            Kind::Halves => "halves",
            Kind::OneWay => "one-way",
            Kind::Ring => "majorities-ring",
            Kind::Flapping => "flapping",
            Kind::Stall => "stall",
            Kind::Loss => "loss",
            Kind::Slow => "slow-network",
            Kind::ClockJump => "clock-jump",
            Kind::ClientsCut => "clients-cut",
            Kind::Transfer => "transfer",
        }
    }
}

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
            let kind = Kind::ALL[dice.below(Kind::ALL.len())];
            let lasts = Duration::from_millis(100 + dice.next() % 4_000);
            faults.push(Planned { at, lasts, kind });
            // Sometimes the next one comes while this one lasts, or before the cluster is whole again.
            at += Duration::from_millis(dice.next() % 3_000) + if dice.once_in(3) { Duration::ZERO } else { lasts };
        }
        Plan { faults, ends, dice }
    }
}

/// A fault that lasts.
struct Lasting {
    id: FaultId,
    until: Duration,
    kind: Kind,
    nodes: Vec<u64>,
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
}

impl Faults {
    pub fn new(mut plan: Plan) -> Faults {
        plan.faults.reverse();
        Faults { plan, lasting: Vec::new(), last: 0, down: Vec::new() }
    }

    /// All has happened and has been healed.
    pub fn are_over(&self) -> bool {
        self.plan.faults.is_empty() && self.lasting.is_empty() && self.plan.ends == Duration::ZERO
    }

    /// Does what is due now.
    pub fn act(&mut self, world: &mut World) -> anyhow::Result<()> {
        let now = world.sim.elapsed();
        self.raise_the_failed(world);
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
        Ok(())
    }

    fn begin(&mut self, world: &mut World, next: &Planned) {
        let Some(nodes) = self.choose(world, next.kind) else { return };
        self.last += 1;
        let id = FaultId(self.last);
        let now = world.sim.elapsed();
        tracing::info!(kind = next.kind.name(), ?nodes, "fault");
        world.book.record(Body::Fault {
            fault: id,
            kind: next.kind.name().to_owned(),
            nodes: nodes.iter().copied().map(NodeId).collect(),
            note: String::new(),
        });
        for &node in &nodes {
            self.strike(world, next.kind, node, &nodes);
        }
        let until = now + next.lasts;
        self.lasting.push(Lasting { id, until, kind: next.kind, nodes, flaps_at: now, is_cut: true });
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
            Kind::WalLost if self.down.is_empty() && self.lasting.is_empty() && world.is_settled(all.len() as u64) => {
                vec![one]
            }
            Kind::WalLost => return None,
            Kind::Halves => mixed.into_iter().take(all.len() / 2).collect(),
            Kind::Isolate | Kind::OneWay | Kind::Flapping | Kind::Stall | Kind::ClientsCut | Kind::ClockJump => {
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
            Kind::WalLost => self.crash(world, node, Crash::Wipe),
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
                    let others = world.machines.iter().map(|one| one.number).filter(|one| *one != node);
                    let to = proto::ids::NodeId(others.max().unwrap_or(node) as u32);
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
        world.book.record(Body::Healed { fault: over.id });
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
            Crash::Wipe => {
                let after = before.restart_with(&mut choose);
                after.wipe_rows();
                after
            }
        };
        world.sim.crash(host(node));
        machine.put_engine(after);
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
    Wipe,
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
