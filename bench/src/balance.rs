//! Owns the measurement of how evenly a desk of real nodes spreads its work: agents with uneven shifts and room, visitors who come in waves.
//! Does not measure speed. Invariant: an agent's share is their load over that of all who were there at the same time, as in the
//! simulation of `chat`.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use chaos_tests::cluster::{Cluster, SITE};
use node::client::{ChatClient, Config, Item, http};
use proto::client::{EventKind, Party, SeatState};
use serde_json::json;
use tokio::task::JoinSet;

use crate::desk::{PASSWORD, come};
use crate::dice::Dice;
use crate::figures::round;
use crate::target::{Target, TargetArgs};

#[derive(Debug, Clone, clap::Args)]
pub struct BalanceArgs {
    /// Let so many visitors come while agents come and go, and print how evenly the work was spread (Jain's index).
    #[arg(long, value_name = "VISITORS")]
    desk_balance: Option<usize>,
    /// Agents of that day.
    #[arg(long, default_value_t = 40)]
    balance_agents: usize,
}

impl BalanceArgs {
    pub fn is_asked(&self) -> bool {
        self.desk_balance.is_some()
    }
}

/// So often the load of all is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What is open when the day is over may take so long.
const AFTERWARDS: Duration = Duration::from_secs(10);

/// An agent, as the run sees them.
struct Worker {
    capacity: u32,
    /// Of the day, 0 to 1.
    shift: (f64, f64),
    is_here: bool,
    open: u32,
    most: u32,
    given: u64,
    own: f64,
    fair: f64,
}

type Workers = Rc<RefCell<Vec<Worker>>>;

fn workers(count: usize, dice: &mut Dice) -> Vec<Worker> {
    let worker = |number: usize, dice: &mut Dice| {
        let from = dice.between(0.0, 20.0 / 24.0);
        let shift = (from, from + dice.between(4.0, 10.0) / 24.0);
        // Somebody is always there.
        let shift = if number < count.div_ceil(10) { (0.0, 1.0) } else { shift };
        let capacity = 2 + dice.below(7) as u32;
        Worker { capacity, shift, is_here: false, open: 0, most: 0, given: 0, own: 0.0, fair: 0.0 }
    };
    (0..count).map(|number| worker(number, dice)).collect()
}

/// Runs and prints.
/// # Errors
/// The cluster does not start, or an agent had more than their room.
pub async fn run(args: &BalanceArgs, target: &TargetArgs, as_json: bool) -> anyhow::Result<()> {
    let (visitors, agents) = (args.desk_balance.unwrap_or_default().max(100), args.balance_agents.max(2));
    let cluster = Target::own(target).await?;
    let mut dice = Dice(0x5eed_0dd5);
    let workers: Workers = Rc::new(RefCell::new(workers(agents, &mut dice)));
    let mut tasks = JoinSet::new();
    let mut clients = Vec::new();
    for number in 0..agents {
        clients.push(agent(&cluster, number, &workers, &mut tasks).await?);
    }
    // As many a second as there are agents: some two fifths of the room of those who are there, and nearly all of it in the waves.
    let day = Duration::from_secs_f64(visitors as f64 / agents as f64);
    let began = Instant::now();
    let coming = waves(&cluster, visitors, day, &mut dice);
    let shifts = shifts(&clients, &workers, day, began);
    let (came, worked) = tokio::join!(coming, shifts);
    came.context("visitors")?;
    worked.context("shifts")?;
    tokio::time::sleep(AFTERWARDS).await;
    tell(&workers.borrow(), visitors, day, as_json)
}

fn tell(workers: &[Worker], visitors: usize, day: Duration, as_json: bool) -> anyhow::Result<()> {
    for (number, worker) in workers.iter().enumerate() {
        anyhow::ensure!(worker.most <= worker.capacity, "agent {number} had {} of {}", worker.most, worker.capacity);
    }
    let given: u64 = workers.iter().map(|worker| worker.given).sum();
    let shares: Vec<f64> =
        workers.iter().filter(|worker| worker.fair > 0.0).map(|worker| worker.own / worker.fair).collect();
    let index = round(jain(&shares), 4);
    if as_json {
        println!("{}", json!({ "agents": workers.len(), "visitors": visitors, "given": given, "jain": index }));
    } else {
        println!("{given} of {visitors} conversations to {} agents in {day:.0?}: Jain index {index}", workers.len());
    }
    Ok(())
}

/// Source: Jain, Chiu, Hawe, "A quantitative measure of fairness" (1984).
fn jain(shares: &[f64]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), share| (sum + share, squares + share * share));
    sum * sum / (shares.len() as f64 * squares)
}

/// An agent who ends each conversation after a while: most within a second and a half, one of twenty after five.
async fn agent(
    cluster: &Cluster,
    number: usize,
    workers: &Workers,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<ChatClient> {
    let name = format!("agent-{number}");
    cluster.add_agent(&name, PASSWORD).await?;
    let nodes = cluster.clients_from(number);
    let login = http::login(&nodes[0], SITE, &name, PASSWORD).await?;
    let (agent, capacity) = (login.agent.to_string(), workers.borrow()[number].capacity.to_string());
    cluster.command(&["admin", "seats", "set", SITE, &agent, "--capacity", &capacity], "").await?;
    let (client, mut items) = ChatClient::start(Config::new(nodes, login.token, Party::Agent(login.agent)));
    client.seat(SeatState::Busy).await?;
    let (ending, workers) = (client.clone(), workers.clone());
    tasks.spawn_local(async move {
        let (mut under_way, mut dice) = (JoinSet::new(), Dice(0x5eed + number as u64));
        while let Some(item) = items.recv().await {
            let Item::Event(event) = item else { continue };
            if !matches!(event.kind, EventKind::Assigned { agent } if agent == login.agent) {
                continue;
            }
            take(&mut workers.borrow_mut()[number]);
            let lasts = if dice.below(20) == 0 { 5.0 } else { dice.between(0.3, 1.5) };
            let (client, workers) = (ending.clone(), workers.clone());
            under_way.spawn_local(async move {
                tokio::time::sleep(Duration::from_secs_f64(lasts)).await;
                // Before it is asked for: the desk gives the next one before the answer is here.
                workers.borrow_mut()[number].open -= 1;
                drop(client.close_seen(event.session, event.seq).await);
            });
            while under_way.try_join_next().is_some() {}
        }
    });
    Ok(client)
}

fn take(worker: &mut Worker) {
    worker.open += 1;
    worker.most = worker.most.max(worker.open);
    worker.given += 1;
}

/// Visitors write once and go: two waves, and a few at any time.
async fn waves(cluster: &Cluster, visitors: usize, day: Duration, dice: &mut Dice) -> anyhow::Result<()> {
    let moment = |dice: &mut Dice| match dice.below(10) {
        0..4 => dice.between(9.0, 14.0) / 24.0,
        4..7 => dice.between(17.0, 22.0) / 24.0,
        _ => dice.between(0.0, 1.0),
    };
    let mut moments: Vec<Duration> = (0..visitors).map(|_| day.mul_f64(moment(dice))).collect();
    moments.sort_unstable();
    let began = Instant::now();
    for chunk in moments.chunk_by(|a, b| a.as_millis() / 250 == b.as_millis() / 250) {
        tokio::time::sleep_until((began + chunk[0]).into()).await;
        come(cluster, chunk.len()).await?;
    }
    Ok(())
}

/// Agents come and go, and the load of all is looked at.
async fn shifts(clients: &[ChatClient], workers: &Workers, day: Duration, began: Instant) -> anyhow::Result<()> {
    let mut last = Instant::now();
    loop {
        let now = Instant::now();
        let at = (now - began).as_secs_f64() / day.as_secs_f64();
        let mut changed = Vec::new();
        {
            let mut workers = workers.borrow_mut();
            let here = workers.iter().filter(|worker| worker.is_here);
            let (busy, room) = here.fold((0, 0), |(busy, room), of| (busy + of.open, room + of.capacity));
            for (number, worker) in workers.iter_mut().enumerate() {
                if worker.is_here {
                    let seconds = (now - last).as_secs_f64();
                    worker.own += f64::from(worker.open) / f64::from(worker.capacity) * seconds;
                    worker.fair += f64::from(busy) / f64::from(room) * seconds;
                }
                let is_due = (worker.shift.0..worker.shift.1).contains(&at);
                if is_due != worker.is_here {
                    worker.is_here = is_due;
                    changed.push((number, if is_due { SeatState::Online } else { SeatState::Busy }));
                }
            }
        }
        for (number, state) in changed {
            clients[number].seat(state).await?;
        }
        last = now;
        if at >= 1.0 {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
