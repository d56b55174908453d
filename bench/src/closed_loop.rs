//! Owns the closed loop and its clock. Does not know which protocol it drives.
//! Invariant: exactly `in_flight` messages are under way, and each answer is counted once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::Load;
use crate::figures::Level;
use crate::target::Counters;
use crate::wire::{Answer, Line, Wire};

/// Messages that were under way at the end must be answered within this.
const DRAINED_WITHIN: Duration = Duration::from_secs(30);

/// A socket with what is under way on it.
pub struct Lane<W> {
    line: Line,
    wire: W,
    /// Number of the oldest message that is not acked.
    base: u64,
    /// When each message from `base` on was first sent; `None` once acked.
    sent: VecDeque<Option<Instant>>,
    /// Of them, on the way right now; the rest was refused and must leave again.
    under_way: usize,
    refused_until: Option<Instant>,
}

/// What all lanes add up to.
struct Sums {
    stop: Cell<bool>,
    measuring: Cell<bool>,
    acked: Cell<u64>,
    refused: Cell<u64>,
    latency_us: RefCell<Histogram<u64>>,
}

impl<W: Wire> Lane<W> {
    pub fn new(line: Line, wire: W) -> Self {
        Lane { line, wire, base: 1, sent: VecDeque::new(), under_way: 0, refused_until: None }
    }

    /// Sends until `window` are under way.
    fn fill(&mut self, window: usize) {
        let now = Instant::now();
        while self.sent.len() < window {
            self.wire.put(self.base + self.sent.len() as u64, &mut self.line.out);
            self.sent.push_back(Some(now));
            self.under_way += 1;
        }
    }

    /// After a refusal: once everything is answered, sends what is not acked again, in order.
    async fn go_back(&mut self) {
        let Some(until) = self.refused_until.filter(|_| self.under_way == 0) else { return };
        tokio::time::sleep_until(until.into()).await;
        self.refused_until = None;
        for (n, sent) in (self.base..).zip(&self.sent) {
            if sent.is_some() {
                self.wire.put(n, &mut self.line.out);
                self.under_way += 1;
            }
        }
    }

    /// Waits for bytes and takes all answers in them.
    async fn answers(&mut self, sums: &Sums) -> anyhow::Result<()> {
        self.line.read().await?;
        let now = Instant::now();
        loop {
            let (unread, out) = self.line.parts();
            let Some((len, answer)) = self.wire.take(unread, out)? else { return Ok(()) };
            self.line.advance(len);
            match answer {
                None => continue,
                Some(Answer::Acked { n }) => self.acked(n, now, sums)?,
                Some(Answer::Refused { n, after }) => {
                    anyhow::ensure!(n >= self.base, "send {n} was refused after its ack");
                    sums.refused.set(sums.refused.get() + 1);
                    let until = now + after;
                    self.refused_until = Some(self.refused_until.map_or(until, |other| other.max(until)));
                }
            }
            self.under_way = self.under_way.checked_sub(1).context("an answer to nothing")?;
        }
    }

    fn acked(&mut self, n: u64, now: Instant, sums: &Sums) -> anyhow::Result<()> {
        let at = n.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        let sent = at.and_then(|at| self.sent.get_mut(at)).and_then(Option::take);
        let Some(sent) = sent else { bail!("send {n} was acked twice or never sent") };
        while let Some(None) = self.sent.front() {
            self.sent.pop_front();
            self.base += 1;
        }
        if sums.measuring.get() {
            sums.acked.set(sums.acked.get() + 1);
            let us = u64::try_from((now - sent).as_micros()).unwrap_or(u64::MAX);
            sums.latency_us.borrow_mut().saturating_record(us);
        }
        Ok(())
    }

    /// Keeps `window` messages under way until told to stop, then waits for the last answers.
    async fn keep(mut self, window: usize, sums: Rc<Sums>) -> anyhow::Result<()> {
        loop {
            if self.refused_until.is_some() {
                self.go_back().await;
            } else if !sums.stop.get() {
                self.fill(window);
            }
            self.line.flush().await?;
            if self.sent.is_empty() {
                return Ok(());
            }
            self.answers(&sums).await?;
        }
    }
}

/// One message under way over several lanes in turn.
async fn take_turns<W: Wire>(mut lanes: Vec<Lane<W>>, sums: Rc<Sums>) -> anyhow::Result<()> {
    while !sums.stop.get() {
        for lane in &mut lanes {
            lane.fill(1);
            while !lane.sent.is_empty() {
                lane.go_back().await;
                lane.line.flush().await?;
                lane.answers(&sums).await?;
            }
        }
    }
    Ok(())
}

/// Runs one level over `lanes`.
/// # Errors
/// A socket broke, or the other side broke a promise.
pub async fn run<W: Wire + 'static>(
    in_flight: usize,
    lanes: Vec<Lane<W>>,
    load: &Load,
    counters: impl AsyncFn() -> Counters,
) -> anyhow::Result<Level> {
    let sockets = lanes.len();
    let latency_us = RefCell::new(Histogram::new_with_bounds(1, 60_000_000, 3)?);
    let (stop, measuring, acked, refused) = Default::default();
    let sums = Rc::new(Sums { stop, measuring, acked, refused, latency_us });
    let mut tasks = JoinSet::new();
    spawn(in_flight, lanes, &sums, &mut tasks);
    wait(load.warmup(), &mut tasks).await?;
    let before = counters().await;
    sums.measuring.set(true);
    let started = Instant::now();
    wait(load.measured(), &mut tasks).await?;
    sums.measuring.set(false);
    let took = started.elapsed();
    let after = counters().await;
    sums.stop.set(true);
    let drained = async {
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(DRAINED_WITHIN, drained).await.context("messages without an answer")??;
    let latency_us = sums.latency_us.borrow();
    Ok(Level::new(in_flight, sockets, sums.acked.get(), sums.refused.get(), took, &latency_us, before, after))
}

fn spawn<W: Wire + 'static>(
    in_flight: usize,
    lanes: Vec<Lane<W>>,
    sums: &Rc<Sums>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    let count = lanes.len();
    if in_flight >= count {
        for (number, lane) in lanes.into_iter().enumerate() {
            let window = in_flight / count + usize::from(number < in_flight % count);
            tasks.spawn_local(lane.keep(window, sums.clone()));
        }
        return;
    }
    let mut groups: Vec<Vec<Lane<W>>> = (0..in_flight).map(|_| Vec::new()).collect();
    for (number, lane) in lanes.into_iter().enumerate() {
        groups[number % in_flight].push(lane);
    }
    for group in groups {
        tasks.spawn_local(take_turns(group, sums.clone()));
    }
}

/// Lets the load run; a lane that ends now has failed.
async fn wait(time: Duration, tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        Some(ended) = tasks.join_next() => {
            ended??;
            bail!("a lane ended early")
        }
    }
}
