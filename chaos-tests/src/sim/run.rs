//! Owns one simulated run from its seed: begins, talks, breaks, heals, reads. Does not judge.
//! Invariant: nothing but the seed and the settings decides what happens.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use parking_lot::Mutex;
use proto::ids::{AgentId, SessionId};
use storage::RETIRED_TEXT;
use turmoil::{Builder, Sim};

use super::faults::{Faults, Plan};
use super::machine;
use super::node::{Machine, host};
use super::ways::SimWays;
use crate::history::{Applied, Body, Epoch, NodeId, Record, Recorder, RunKind, ShardId};
use crate::talk::{Shape, Talk};

/// A step of the simulation: time does not go in smaller ones between machines.
const TICK: Duration = Duration::from_millis(1);
/// The nodes must be one cluster by then.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// The last faults, and what an operator does about them, end by then after the time for faults is over.
const HEALED_WITHIN: Duration = Duration::from_secs(60);
/// After the last fault everything must serve again by then.
const SERVES_WITHIN: Duration = Duration::from_secs(30);
/// The end of the talk and the last readings.
const ENDS_WITHIN: Duration = Duration::from_secs(150);
/// How often leaders are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Settings {
    pub seed: u64,
    /// How long there are faults.
    pub faults_for: Duration,
    pub nodes: u64,
    pub shards: u32,
    pub visitors: usize,
    pub agents: usize,
    /// Where machines keep their small files; removed by the caller.
    pub dir: PathBuf,
}

/// What came of it.
pub struct Outcome {
    pub records: Vec<Record>,
    /// Simulated time in all.
    pub took: Duration,
    pub acks: u64,
}

/// Where the clients are.
const TALK: u8 = 1;
const STOP: u8 = 2;
const READ: u8 = 3;
const DONE: u8 = 4;

/// What the clients' machine and the director tell each other.
#[derive(Default)]
struct Stage {
    phase: AtomicU8,
    at: AtomicU8,
    error: Mutex<Option<String>>,
    acks: std::sync::atomic::AtomicU64,
    /// Everybody who took part.
    people: Mutex<(Vec<SessionId>, Vec<AgentId>)>,
}

/// Simulates.
/// # Errors
/// The cluster does not become one, does not serve again after the faults, or an operation is never answered.
pub fn run(settings: &Settings) -> (anyhow::Result<()>, Outcome) {
    machine::begin(settings.seed);
    let began = std::time::Instant::now();
    let book = Recorder::in_memory(move || began.elapsed().as_micros() as u64);
    let mut world = World::new(settings, book.clone());
    let result = world.play(settings);
    let took = world.sim.elapsed();
    let acks = world.stage.acks.load(Ordering::Relaxed);
    (result, Outcome { records: book.lines(), took, acks })
}

/// The machines and their network.
pub(super) struct World {
    pub sim: Sim<'static>,
    pub machines: Vec<Arc<Machine>>,
    pub book: Recorder,
    stage: Arc<Stage>,
    leaders: Vec<(Option<u64>, u64)>,
    /// Node, shard and epoch of every leadership that was seen.
    served: BTreeSet<(u64, usize, u64)>,
    looked_at: Duration,
}

impl World {
    fn new(settings: &Settings, book: Recorder) -> World {
        let mut sim = Builder::new()
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3_600))
            .min_message_latency(Duration::from_micros(200))
            .max_message_latency(Duration::from_millis(6))
            .tcp_capacity(4_096)
            .rng_seed(settings.seed)
            .enable_random_order()
            .build();
        let machines: Vec<_> = (1..=settings.nodes)
            .map(|number| Machine::new(number, settings.nodes, settings.dir.join(number.to_string()), settings.shards))
            .collect();
        book.record(Body::Run {
            seed: settings.seed,
            nodes: (1..=settings.nodes).map(NodeId).collect(),
            shards: settings.shards,
            sessions: settings.visitors as u64,
            kind: RunKind::Sim,
        });
        for machine in &machines {
            let machine = machine.clone();
            sim.host(host(machine.number), move || machine.clone().run());
        }
        let stage = Arc::new(Stage::default());
        sim.client("clients", talk(settings.clone(), book.clone(), stage.clone()));
        let leaders = vec![(None, 0); settings.shards as usize + 1];
        World { sim, machines, book, stage, leaders, served: BTreeSet::new(), looked_at: Duration::ZERO }
    }

    fn play(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let mut founding = Faults::new(Plan::founding(settings), 0);
        self.until("the nodes are one cluster", SETTLED_WITHIN, |world| {
            founding.act(world);
            founding.are_over(world.sim.elapsed()) && world.is_settled(settings.nodes)
        })?;
        self.stage.phase.store(TALK, Ordering::Relaxed);
        let mut faults = Faults::new(Plan::draw(settings, self.sim.elapsed()), founding.last());
        let deadline = self.sim.elapsed() + settings.faults_for + HEALED_WITHIN;
        while !faults.are_over(self.sim.elapsed()) {
            faults.act(self);
            self.step()?;
            if self.sim.elapsed() > deadline {
                bail!(
                    "not within {HEALED_WITHIN:?}: the faults end, and nodes are as they are wanted; {}",
                    self.state()
                );
            }
        }
        let healed = self.sim.elapsed();
        self.until("all serve again", SERVES_WITHIN, |world| world.is_settled(settings.nodes))?;
        self.book.record(Body::Ready { since: (self.sim.elapsed() - healed).as_micros() as u64 });
        self.end(STOP, "every operation is answered")?;
        // The newest is the last; what lasted tells more than what was under way at the deadline.
        let mut differs = Vec::<(String, usize)>::new();
        let (sessions, agents) = self.stage.people.lock().clone();
        self.until("the books balance", SERVES_WITHIN, |world| {
            let now = world.imbalance(&sessions, &agents);
            match differs.last_mut() {
                Some((before, times)) if *before == now => *times += 1,
                _ => differs.push((now.clone(), 1)),
            }
            now.is_empty()
        })
        .with_context(|| {
            differs.iter().max_by_key(|(_, times)| *times).map(|(text, _)| text.clone()).unwrap_or_default()
        })?;
        self.end(READ, "every session is read")?;
        self.until("replicas are at one index", SERVES_WITHIN, World::note_hashes)
    }

    /// Lets the clients do their next part, to its end.
    fn end(&mut self, phase: u8, what: &str) -> anyhow::Result<()> {
        self.stage.phase.store(phase, Ordering::Relaxed);
        self.until(what, ENDS_WITHIN, |world| world.stage.at.load(Ordering::Relaxed) > phase)
    }

    /// Steps until `done`.
    fn until(&mut self, what: &str, within: Duration, mut done: impl FnMut(&mut World) -> bool) -> anyhow::Result<()> {
        let deadline = self.sim.elapsed() + within;
        while self.sim.elapsed() < deadline {
            for _ in 0..20 {
                self.step()?;
            }
            if done(self) {
                return Ok(());
            }
        }
        bail!("not within {within:?}: {what}; {}", self.state())
    }

    /// One step of time, and what follows from it at once.
    pub fn step(&mut self) -> anyhow::Result<()> {
        machine::elapsed_is(self.sim.elapsed());
        self.sim.step().map_err(|error| anyhow::anyhow!("{error}"))?;
        if let Some(error) = self.stage.error.lock().take() {
            bail!("the clients: {error}; {}", self.state());
        }
        if self.sim.elapsed() >= self.looked_at + LOOK_EVERY {
            self.looked_at = self.sim.elapsed();
            self.note_leaders();
            self.check_rows()?;
        }
        Ok(())
    }

    /// A replica that misses rows is an error, unless a fault took them.
    fn check_rows(&self) -> anyhow::Result<()> {
        for machine in self.machines.iter().filter(|machine| !machine.has_lost_rows.load(Ordering::Relaxed)) {
            let lost = machine.node().map(|node| node.lost_replicas()).unwrap_or_default();
            if let Some((replica, reason)) = lost.iter().find(|(_, reason)| reason != RETIRED_TEXT) {
                bail!("n{} lost rows of {replica} by itself: {reason}; {}", machine.number, self.state());
            }
        }
        Ok(())
    }

    /// The node that serves a shard, if one says so.
    pub fn leader(&self, shard: u32) -> Option<u64> {
        self.leaders.get(shard as usize).and_then(|(node, _)| *node)
    }

    /// Data shards.
    pub fn shards(&self) -> u32 {
        self.leaders.len() as u32 - 1
    }

    fn note_leaders(&mut self) {
        let mut now = vec![(None, 0); self.leaders.len()];
        for machine in &self.machines {
            let Some(node) = machine.node() else { continue };
            for running in node.running() {
                let leadership = running.group.leadership();
                if !leadership.serving {
                    continue;
                }
                let (shard, epoch) = (running.group.shard.0 as usize, leadership.epoch.0);
                if self.served.insert((machine.number, shard, epoch)) {
                    let (node, shard) = (NodeId(machine.number), ShardId(shard as u64));
                    self.book.record(Body::Serving { node, shard, epoch: Epoch(epoch) });
                }
                if now[shard].1 < epoch {
                    now[shard] = (Some(machine.number), epoch);
                }
            }
        }
        for (shard, (before, now)) in self.leaders.iter_mut().zip(now).enumerate() {
            // A deposed leader may not know it yet.
            let now = if now.1 < before.1 { (None, before.1) } else { now };
            if *before == now {
                continue;
            }
            *before = now;
            let (shard, node) = (ShardId(shard as u64), now.0.map(NodeId));
            self.book.record(Body::Leader { shard, node, epoch: Epoch(now.1) });
        }
    }

    /// Every node runs, every group has its voters and a leader that serves.
    pub fn is_settled(&self, nodes: u64) -> bool {
        let voters = if nodes >= 3 { 3 } else { 1 };
        let up = self.machines.iter().all(|machine| machine.node().is_some_and(|node| node.is_ready()));
        up && (0..self.leaders.len() as u32).all(|shard| {
            let leader = self.leader(shard).and_then(|number| self.machines[number as usize - 1].node());
            leader.is_some_and(|node| {
                let running = node.running().into_iter().find(|running| running.group.shard.0 == shard);
                running.is_some_and(|running| {
                    let replicas = running.group.members().0;
                    // One that lost its log is a voter until the leader has heard of it.
                    replicas.len() >= voters && replicas.iter().all(|replica| self.runs(*replica))
                })
            })
        })
    }

    fn runs(&self, replica: u64) -> bool {
        let has = |node: Arc<cluster::node::ClusterNode>| {
            node.running().iter().any(|running| u64::from(running.group.replica.0) == replica)
        };
        self.machines.iter().filter_map(|machine| machine.node()).any(has)
    }

    /// True once all replicas of every data shard were seen at one index.
    fn note_hashes(&mut self) -> bool {
        let mut all = true;
        for shard in 1..self.leaders.len() as u32 {
            let mut seen = Vec::new();
            for machine in &self.machines {
                let Some(node) = machine.node() else { continue };
                let status = node.status();
                let Some(one) = status.shards.iter().find(|one| one.shard.0 == shard) else { continue };
                if let (Some(applied), Some(hash)) = (one.applied, one.state_hash) {
                    seen.push((machine.number, applied, hash));
                }
            }
            all &= seen.len() >= self.machines.len().min(3) && seen.windows(2).all(|two| two[0].1 == two[1].1);
            for (node, applied, hash) in seen {
                self.book.record(Body::Hash {
                    node: NodeId(node),
                    shard: ShardId(u64::from(shard)),
                    applied: Applied(applied),
                    hash: format!("{hash:016x}"),
                });
            }
        }
        all
    }

    /// One line for a person.
    fn state(&self) -> String {
        let nodes = self.machines.iter().map(|machine| {
            let ended = machine.ended.lock().clone().unwrap_or_default();
            match machine.node() {
                Some(node) => format!("n{} ready {} {ended}", machine.number, node.is_ready()),
                None => format!("n{} down {ended}", machine.number),
            }
        });
        format!("at {:?}: {}; leaders {:?}", self.sim.elapsed(), nodes.collect::<Vec<_>>().join(", "), self.leaders)
    }
}

/// What the clients' machine does, as the director says.
async fn talk(settings: Settings, book: Recorder, stage: Arc<Stage>) -> turmoil::Result {
    let shape = Shape {
        seed: settings.seed,
        visitors: settings.visitors,
        agents: settings.agents,
        pace: Duration::from_millis(150),
        move_every: Duration::from_millis(700),
        accept_within: settings.seed.is_multiple_of(2).then_some(Duration::from_secs(2)),
        last_answers_within: ENDS_WITHIN,
    };
    let until = async |phase: u8| {
        while stage.phase.load(Ordering::Relaxed) < phase {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until(TALK).await;
    let mut talk = Talk::start(SimWays { nodes: settings.nodes }, shape, book);
    let done = async {
        while stage.phase.load(Ordering::Relaxed) < STOP {
            tokio::time::sleep(Duration::from_millis(20)).await;
            stage.acks.store(talk.acks(), Ordering::Relaxed);
        }
        talk.stop().await.context("stop")?;
        stage.acks.store(talk.acks(), Ordering::Relaxed);
        *stage.people.lock() = talk.people();
        stage.at.store(READ, Ordering::Relaxed);
        until(READ).await;
        talk.read_finals().await.context("finals")?;
        stage.at.store(DONE, Ordering::Relaxed);
        anyhow::Ok(())
    };
    if let Err(error) = done.await {
        *stage.error.lock() = Some(format!("{error:#}"));
    }
    std::future::pending().await
}
