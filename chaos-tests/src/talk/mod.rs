//! Owns the recorded talk: visitors, agents and an operator who do all that people do, and write down what they were told.
//! Does not judge, and does not know whether the cluster is real or simulated. Invariant: an operation is in the book before it leaves.

mod agent;
mod client;
mod deeds;
mod finals;
mod operator;
mod visitor;
mod ways;

pub use finals::read_finals;
pub use ways::{Answer, Ways};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use proto::client::http::LoggedIn;
use proto::ids::{AgentId, SessionId, VisitorId};
use tokio::task::JoinSet;

use crate::history::{ClientId, Recorder};

/// How often those who rest look up.
const REST_LOOK_EVERY: Duration = Duration::from_millis(20);
/// Clients that are told nothing for so long have been told all.
const QUIET_FOR: Duration = Duration::from_millis(1_500);

/// How they talk.
#[derive(Debug, Clone)]
pub struct Shape {
    pub seed: u64,
    pub visitors: usize,
    pub agents: usize,
    /// Mean pause between two things that a person does.
    pub pace: Duration,
    /// Mean pause between two moves of a session by the operator.
    pub move_every: Duration,
    /// Agents are asked before they are given a conversation, and have so long to answer; `None`: they are given it.
    pub accept_within: Option<Duration>,
    /// What was under way when the talk ends must be answered within this.
    pub last_answers_within: Duration,
}

/// What all of them share.
pub(crate) struct Room<W> {
    pub ways: W,
    pub shape: Shape,
    pub book: Recorder,
    stop: AtomicBool,
    /// People who have nothing under way any more and wait for the others.
    resting: AtomicUsize,
    /// All may go.
    is_done: AtomicBool,
    clients: AtomicU64,
    acks: AtomicU64,
    /// Whom the operator may move, and where to.
    sessions: Mutex<Vec<SessionId>>,
    agents: Mutex<Vec<AgentId>>,
    /// A visitor's token, with which the finals are read.
    tokens: Mutex<BTreeMap<SessionId, String>>,
    /// An agent's, with which the finals of those are read who have no token any more.
    agent_token: Mutex<Option<LoggedIn>>,
    visitors: Mutex<BTreeMap<SessionId, VisitorId>>,
    /// Whom the operator has begun to erase: they go.
    erased: Mutex<BTreeSet<SessionId>>,
    /// Whose session a visitor's client follows.
    follows: Mutex<BTreeMap<ClientId, SessionId>>,
}

impl<W> Room<W> {
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits for the others: one who goes earlier is not told of what they still do.
    pub async fn rest(&self) {
        self.resting.fetch_add(1, Ordering::Relaxed);
        while !self.is_done.load(Ordering::Relaxed) {
            tokio::time::sleep(REST_LOOK_EVERY).await;
        }
    }

    /// Whether the operator has begun to erase that visitor.
    pub fn is_erased(&self, session: SessionId) -> bool {
        self.erased.lock().contains(&session)
    }

    /// The same, of a visitor's client.
    pub fn is_erased_of(&self, client: ClientId) -> bool {
        let session = self.follows.lock().get(&client).copied();
        session.is_some_and(|session| self.is_erased(session))
    }

    pub fn acked(&self) {
        self.acks.fetch_add(1, Ordering::Relaxed);
    }
}

/// The running talk.
pub struct Talk<W> {
    room: Arc<Room<W>>,
    people: JoinSet<anyhow::Result<()>>,
}

impl<W: Ways> Talk<W> {
    /// Lets them begin. Each joins when the cluster lets it in.
    pub fn start(ways: W, shape: Shape, book: Recorder) -> Talk<W> {
        let room = Arc::new(Room {
            ways,
            shape,
            book,
            stop: AtomicBool::new(false),
            resting: AtomicUsize::new(0),
            is_done: AtomicBool::new(false),
            clients: AtomicU64::new(0),
            acks: AtomicU64::new(0),
            sessions: Mutex::default(),
            agents: Mutex::default(),
            tokens: Mutex::default(),
            agent_token: Mutex::default(),
            visitors: Mutex::default(),
            erased: Mutex::default(),
            follows: Mutex::default(),
        });
        let mut people = JoinSet::new();
        for number in 0..room.shape.agents {
            people.spawn(agent::run(room.clone(), number));
        }
        for number in 0..room.shape.visitors {
            people.spawn(visitor::run(room.clone(), number));
        }
        people.spawn(operator::run(room.clone()));
        Talk { room, people }
    }

    /// Sends that were acknowledged so far.
    pub fn acks(&self) -> u64 {
        self.room.acks.load(Ordering::Relaxed)
    }

    /// Visitors who have a session by now.
    pub fn sessions(&self) -> usize {
        self.room.sessions.lock().len()
    }

    /// Everybody who has come so far.
    pub fn people(&self) -> (Vec<SessionId>, Vec<AgentId>) {
        (self.room.sessions.lock().clone(), self.room.agents.lock().clone())
    }

    /// Ends the talk: nothing new begins and everything under way gets its answer.
    /// # Errors
    /// Somebody still waits, or gave up for a reason that is no fault of the cluster.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.room.stop.store(true, Ordering::Relaxed);
        let within = self.room.shape.last_answers_within;
        tokio::time::timeout(within, self.answered()).await.context("operations without an answer")??;
        tokio::time::timeout(within, self.quiet()).await.context("clients that are told something again and again")?;
        self.room.is_done.store(true, Ordering::Relaxed);
        let gone = async {
            while let Some(done) = self.people.join_next().await {
                done??;
            }
            Ok(())
        };
        tokio::time::timeout(within, gone).await.context("clients that do not end")?
    }

    /// Until everybody who is still here rests.
    async fn answered(&mut self) -> anyhow::Result<()> {
        loop {
            while let Some(done) = self.people.try_join_next() {
                done??;
            }
            if self.room.resting.load(Ordering::Relaxed) >= self.people.len() {
                return Ok(());
            }
            tokio::time::sleep(REST_LOOK_EVERY).await;
        }
    }

    /// Until nobody is told anything any more: who went before would have missed it.
    async fn quiet(&self) {
        let mut last = self.room.book.len();
        let mut since = tokio::time::Instant::now();
        while since.elapsed() < QUIET_FOR {
            tokio::time::sleep(REST_LOOK_EVERY).await;
            let now = self.room.book.len();
            if now != last {
                (last, since) = (now, tokio::time::Instant::now());
            }
        }
    }

    /// Reads every session through every node into the book.
    /// # Errors
    /// A node does not answer in time.
    pub async fn read_finals(&self) -> anyhow::Result<()> {
        let (room, book) = (&self.room, &self.room.book);
        let erased = room.erased.lock().clone();
        let tokens = room.tokens.lock().clone().into_iter().filter(|(session, _)| !erased.contains(session));
        read_finals(&room.ways, book, tokens.collect()).await?;
        let agent = room.agent_token.lock().clone();
        // Last: an agent who says hello may be given a conversation.
        let Some(agent) = agent else { return Ok(()) };
        read_finals(&room.ways, book, erased.into_iter().map(|session| (session, agent.token.clone())).collect()).await
    }
}

/// Numbers for one person; not those of the system, so that a run's talk follows from its seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, person: u64) -> Dice {
        let mut dice =
            Dice((seed ^ person.wrapping_mul(0xa076_1d64_78bd_642f)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            dice.next();
        }
        dice
    }

    pub fn next(&mut self) -> u64 {
        // Source: Vigna, xorshift64*.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }

    /// Once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }

    /// Between nothing and twice the mean.
    pub fn pause(&mut self, mean: Duration) -> Duration {
        mean * 2 / 1024 * (self.next() % 1024) as u32
    }
}
