//! Owns the talk: visitors who send without pause, agents who answer now and then. Does not judge the outcome.
//! Invariant: everything that a client was told is recorded in the order it was told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use node::client::{ChatClient, Config, Item, ResumePoint, Violation, http};
use proto::client::{Event, EventKind, Party};
use proto::ids::{AgentId, SessionId};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, SITE};
use crate::wait;

/// Lines of a client's trail.
const TRAIL_LEN_MAX: usize = 4_000;
/// Of every agent.
pub const PASSWORD: &str = "a password of the tests";
/// Sends of one visitor that wait for their acks.
const UNDER_WAY_MAX: usize = 4;
/// Sends that were under way when the talk stopped must be acked within this.
const LAST_ACKS_WITHIN: Duration = Duration::from_secs(60);

/// How to talk.
#[derive(Debug, Clone)]
pub struct Shape {
    pub visitors: usize,
    pub agents: usize,
    /// Write every frame twice.
    pub send_twice: bool,
    /// Move every client to another node this often.
    pub hop_every: Option<Duration>,
    /// An agent answers every so many-th message of a visitor; 0 for never.
    pub answer_every: u64,
    /// An agent closes a conversation after so many messages; 0 for never.
    pub close_after: u64,
    /// Pause between two messages of a visitor: three nodes and their clients share few cores.
    pub pace: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            visitors: 200,
            agents: 8,
            send_twice: false,
            hop_every: None,
            answer_every: 5,
            close_after: 0,
            pace: Duration::from_millis(40),
        }
    }
}

/// One acked message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acked {
    pub session: SessionId,
    pub seq: u64,
    pub text: String,
    /// From the send to its ack, whatever happened in between.
    pub took: Duration,
}

/// What one client saw and was promised.
pub struct Seen {
    pub who: Party,
    /// Per session, in the order handed out.
    pub events: BTreeMap<SessionId, Vec<Event<'static>>>,
    pub acked: Vec<Acked>,
    pub violations: Vec<Violation>,
    /// What was told before the first violation: connections and events, oldest first, a line each.
    pub trail: VecDeque<String>,
    pub reconnects: u64,
    pub resumed_ok: u64,
    pub reloads_needed: u64,
    /// Answers of an agent that came too late, after the close.
    pub refused: u64,
}

/// A visitor's way in.
#[derive(Debug, Clone)]
pub struct Visitor {
    pub session: SessionId,
    pub token: String,
    pub party: Party,
}

type Shared = Arc<Mutex<Seen>>;

/// The running talk.
pub struct Workload {
    pub visitors: Vec<Visitor>,
    pub agents: Vec<AgentId>,
    clients: Vec<(ChatClient, Shared)>,
    stop: Arc<AtomicBool>,
    /// Acks so far, over all clients.
    acks: Arc<AtomicU64>,
    senders: JoinSet<anyhow::Result<()>>,
    readers: JoinSet<()>,
    hops: JoinSet<()>,
}

impl Workload {
    /// Makes agents and visitors and lets them talk.
    /// # Errors
    /// A login or a new visitor is refused.
    pub async fn start(cluster: &Cluster, shape: &Shape) -> anyhow::Result<Workload> {
        let mut load = Workload {
            visitors: Vec::new(),
            agents: Vec::new(),
            clients: Vec::new(),
            stop: Arc::default(),
            acks: Arc::default(),
            senders: JoinSet::new(),
            readers: JoinSet::new(),
            hops: JoinSet::new(),
        };
        for number in 0..shape.agents {
            let name = format!("agent-{number}");
            cluster.add_agent(&name, PASSWORD).await?;
            load.add_agent(cluster, shape, number, &name).await?;
        }
        for number in 0..shape.visitors {
            load.add_visitor(cluster, shape, number).await?;
        }
        if let Some(every) = shape.hop_every {
            for (client, _) in &load.clients {
                let (client, stop) = (client.clone(), load.stop.clone());
                load.hops.spawn(async move {
                    while !stop.load(Ordering::Relaxed) && client.hop().await.is_ok() {
                        wait::pause(every).await;
                    }
                });
            }
        }
        Ok(load)
    }

    async fn add_agent(&mut self, cluster: &Cluster, shape: &Shape, number: usize, name: &str) -> anyhow::Result<()> {
        let nodes = cluster.clients_from(number);
        let login = http::login(&nodes[0], SITE, name, PASSWORD).await.context("login")?;
        let me = Party::Agent(login.agent);
        let config = Config { send_twice: shape.send_twice, ..Config::new(nodes, login.token, me) };
        let (client, items) = ChatClient::start(config);
        let (answers, answers_in) = mpsc::channel(4096);
        let seen = self.read(me, client.clone(), items, Some(answers));
        let desk = Desk { client, seen, stop: self.stop.clone(), acks: self.acks.clone(), shape: shape.clone() };
        self.senders.spawn(desk.answer(answers_in));
        self.agents.push(login.agent);
        Ok(())
    }

    async fn add_visitor(&mut self, cluster: &Cluster, shape: &Shape, number: usize) -> anyhow::Result<()> {
        let nodes = cluster.clients_from(number);
        let new = http::create_visitor(&nodes[0], SITE).await.context("create a visitor")?;
        let (session, party) = (new.session, Party::Visitor(new.visitor));
        self.visitors.push(Visitor { session, token: new.token.clone(), party });
        let resume = vec![ResumePoint { session, seq: 0, last_n: 0 }];
        let config = Config { resume, send_twice: shape.send_twice, ..Config::new(nodes, new.token, party) };
        let (client, items) = ChatClient::start(config);
        let seen = self.read(party, client.clone(), items, None);
        let (stop, acks, pace) = (self.stop.clone(), self.acks.clone(), shape.pace);
        self.senders.spawn(async move {
            let mut waiting = JoinSet::new();
            for count in 1u64.. {
                let stopped = stop.load(Ordering::Relaxed);
                if !stopped {
                    let text = format!("v{number} m{count} {}", "x".repeat(150));
                    let pending = client.enqueue(session, text.clone()).await?;
                    let since = Instant::now();
                    waiting.spawn(async move { (text, pending.acked().await, since.elapsed()) });
                    wait::pause(pace).await;
                }
                while waiting.len() >= UNDER_WAY_MAX || stopped {
                    let Some(done) = waiting.join_next().await else { return Ok(()) };
                    let (text, ack, took) = done?;
                    let ack = ack.with_context(|| format!("{text:.12} of {session}"))?;
                    acks.fetch_add(1, Ordering::Relaxed);
                    seen.lock().await.acked.push(Acked { session, seq: ack.seq, text, took });
                }
            }
            Ok(())
        });
        Ok(())
    }

    /// Records what a client hands out; an agent's new messages also go to `answers`.
    fn read(
        &mut self,
        who: Party,
        client: ChatClient,
        mut items: mpsc::Receiver<Item>,
        answers: Option<mpsc::Sender<Event<'static>>>,
    ) -> Shared {
        let seen = Seen {
            who,
            events: BTreeMap::new(),
            acked: Vec::new(),
            violations: Vec::new(),
            trail: VecDeque::new(),
            reconnects: 0,
            resumed_ok: 0,
            reloads_needed: 0,
            refused: 0,
        };
        let seen = Arc::new(Mutex::new(seen));
        self.clients.push((client, seen.clone()));
        let shared = seen.clone();
        self.readers.spawn(async move {
            while let Some(item) = items.recv().await {
                note(&mut *shared.lock().await, &item);
                match item {
                    Item::Event(event) => {
                        if let Some(answers) = &answers {
                            // A full queue only means fewer answers.
                            let _ = answers.try_send(event.clone());
                        }
                        shared.lock().await.events.entry(event.session).or_default().push(event);
                    }
                    Item::ProtocolViolation(violation) => shared.lock().await.violations.push(violation),
                    _ => {}
                }
            }
        });
        seen
    }

    /// Acks so far.
    pub fn acks(&self) -> u64 {
        self.acks.load(Ordering::Relaxed)
    }

    /// Talks on until `more` further acks have come.
    /// # Errors
    /// Not in time: the talk stands still.
    pub async fn talk(&self, more: u64, within: Duration) -> anyhow::Result<()> {
        let goal = self.acks() + more;
        let what = format!("{more} further acks");
        wait::until(&what, within, async || (self.acks() >= goal).then_some(())).await
    }

    /// Ends the talk: nothing new is sent and every send gets its ack.
    /// # Errors
    /// A send was refused for good or is not acked in time.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = async {
            while let Some(done) = self.senders.join_next().await {
                done??;
            }
            while self.hops.join_next().await.is_some() {}
            Ok(())
        };
        tokio::time::timeout(LAST_ACKS_WITHIN, ended).await.context("sends without an ack")?
    }

    /// How long sends waited for their acks: the 99th percentile, and the longest.
    pub async fn waits(&self) -> (Duration, Duration) {
        let mut took: Vec<Duration> = Vec::new();
        for seen in self.seen().await {
            took.extend(seen.acked.iter().map(|acked| acked.took));
        }
        took.sort_unstable();
        let at = |part: usize| took.get(took.len() * part / 1000).or(took.last()).copied().unwrap_or_default();
        (at(990), at(1000))
    }

    /// What each client saw; visitors and agents.
    pub async fn seen(&self) -> Vec<tokio::sync::OwnedMutexGuard<Seen>> {
        let mut all = Vec::with_capacity(self.clients.len());
        for (client, seen) in &self.clients {
            let mut guard = seen.clone().lock_owned().await;
            let stats = client.stats();
            guard.reconnects = stats.reconnects.load(Ordering::Relaxed);
            guard.resumed_ok = stats.resumed_ok.load(Ordering::Relaxed);
            guard.reloads_needed = stats.reloads_needed.load(Ordering::Relaxed);
            all.push(guard);
        }
        all
    }
}

/// Keeps the end of what a client was told, up to its first violation.
fn note(seen: &mut Seen, item: &Item) {
    if !seen.violations.is_empty() {
        return;
    }
    let line = match item {
        Item::Event(event) => format!("{} {} {}", event.session, event.seq, kind(event)),
        Item::Connected { node, .. } => format!("connected to {node}"),
        Item::Disconnected { reason } => format!("disconnected: {reason}"),
        Item::ProtocolViolation(violation) => format!("VIOLATION {violation}"),
        _ => return,
    };
    if seen.trail.len() == TRAIL_LEN_MAX {
        seen.trail.pop_front();
    }
    seen.trail.push_back(line);
}

fn kind(event: &Event<'_>) -> String {
    match &event.kind {
        EventKind::Message { from, .. } => format!("message from {from:?}"),
        other => format!("{other:?}"),
    }
}

/// What an agent does with what comes.
struct Desk {
    client: ChatClient,
    seen: Shared,
    stop: Arc<AtomicBool>,
    acks: Arc<AtomicU64>,
    shape: Shape,
}

impl Desk {
    async fn answer(self, mut events: mpsc::Receiver<Event<'static>>) -> anyhow::Result<()> {
        let mut counts = BTreeMap::<SessionId, u64>::new();
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(event) = tokio::time::timeout(Duration::from_millis(200), events.recv()).await else { continue };
            let Some(event) = event else { break };
            let EventKind::Message { from: Party::Visitor(_), .. } = event.kind else { continue };
            let count = counts.entry(event.session).or_default();
            *count += 1;
            if self.shape.close_after > 0 && *count >= self.shape.close_after {
                *count = 0;
                match self.client.close(event.session).await {
                    Ok(()) => {}
                    // The conversation ended meanwhile, and the next one went to somebody else.
                    Err(node::client::ClientError::Refused(_)) => self.seen.lock().await.refused += 1,
                    Err(error) => return Err(error).context("close"),
                }
            } else if self.shape.answer_every > 0 && count.is_multiple_of(self.shape.answer_every) {
                self.send(event.session, event.seq).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, session: SessionId, seq: u64) -> anyhow::Result<()> {
        let text = format!("answer to {session} {seq}");
        let since = Instant::now();
        match self.client.send(session, text.clone()).await {
            Ok(ack) => {
                self.acks.fetch_add(1, Ordering::Relaxed);
                self.seen.lock().await.acked.push(Acked { session, seq: ack.seq, text, took: since.elapsed() });
                Ok(())
            }
            // The conversation ended while the answer was on its way, or went to somebody else.
            Err(node::client::ClientError::Refused(_)) if self.shape.close_after > 0 => {
                self.seen.lock().await.refused += 1;
                Ok(())
            }
            Err(error) => Err(error).with_context(|| format!("an answer in {session}")),
        }
    }
}
