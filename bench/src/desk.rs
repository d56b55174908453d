//! Owns the measurement of a desk: how many waiting conversations a second it gives to agents, with a short and a long queue.
//! Does not measure messages. Invariant: both are measured in one run, on the same nodes, with the same agents.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::wait;
use node::client::{ChatClient, Config, Item, http};
use proto::client::{EventKind, Party, SeatState};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::everdesk::{connect, create_visitors};
use crate::figures::round;
use crate::target::{Target, TargetArgs};
use crate::wire::Wire;

#[derive(Debug, Clone, clap::Args)]
pub struct DeskArgs {
    /// Let so many visitors wait, and print how fast agents are given them, against a queue of a few thousand.
    #[arg(long, value_name = "VISITORS")]
    desk_queue: Option<usize>,
    /// Agents, who end every conversation as soon as they have it.
    #[arg(long, default_value_t = 20)]
    desk_agents: usize,
    /// Conversations of an agent at once.
    #[arg(long, default_value_t = 8)]
    desk_capacity: u32,
}

impl DeskArgs {
    pub fn is_asked(&self) -> bool {
        self.desk_queue.is_some()
    }
}

pub const PASSWORD: &str = "correct horse battery staple";
/// The short queue, and how much of a queue is taken while it is measured.
const SHORT: usize = 6_000;
const TAKEN: u64 = 4_000;
/// Taken before that, while agents come.
const WARMUP: u64 = 500;
/// Visitors who come at a time.
const COMING: usize = 64;
const WITHIN: Duration = Duration::from_secs(300);

/// Runs and prints.
/// # Errors
/// The cluster does not start, or the desk stands still.
pub async fn run(args: &DeskArgs, target: &TargetArgs, as_json: bool) -> anyhow::Result<()> {
    let cluster = Target::own(target).await?;
    let long = args.desk_queue.unwrap_or_default().max(SHORT);
    let given = Rc::new(Cell::new(0));
    let (agents, _reading) = agents(&cluster, args, &given).await?;
    let mut rates = Vec::new();
    for waiting in [SHORT, long, SHORT] {
        let queued = desk(&cluster).await?["queued"].as_u64().context("no queue")? as usize;
        let began = Instant::now();
        come(&cluster, waiting.saturating_sub(queued)).await?;
        let came = began.elapsed();
        let queued = desk(&cluster).await?["queued"].as_u64().context("no queue")?;
        let per_s = drain(&agents, &given).await?;
        settle(&cluster).await?;
        eprintln!("{queued} waited (came within {came:.0?}): {per_s:.0} conversations given and ended a second");
        rates.push((queued, per_s));
        // The rest of a long queue would be in the way of the next.
        if queued as usize > 2 * SHORT {
            empty(&cluster, &agents).await?;
        }
    }
    let mean = (rates[0].1 + rates[2].1) / 2.0;
    let ratio = round(rates[1].1 / mean, 3);
    if as_json {
        let lines = rates.iter().map(|(queued, per_s)| json!({ "waiting": queued, "given_per_s": round(*per_s, 1) }));
        println!("{}", json!({ "queues": lines.collect::<Vec<_>>(), "long_to_short": ratio }));
    } else {
        println!("{} waiting against {}: {ratio} times as fast", rates[1].0, rates[0].0);
    }
    Ok(())
}

async fn desk(cluster: &Cluster) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&cluster.command(&["admin", "desks", "show", SITE, "--json"], "").await?)?)
}

/// Agents who end what they are given. They begin busy.
async fn agents(
    cluster: &Cluster,
    args: &DeskArgs,
    given: &Rc<Cell<u64>>,
) -> anyhow::Result<(Vec<ChatClient>, JoinSet<()>)> {
    let (mut agents, mut reading) = (Vec::new(), JoinSet::new());
    for number in 0..args.desk_agents.max(1) {
        let name = format!("agent-{number}");
        cluster.add_agent(&name, PASSWORD).await?;
        let nodes = cluster.clients_from(number);
        let login = http::login(&nodes[0], SITE, &name, PASSWORD).await?;
        let (agent, capacity) = (login.agent.to_string(), args.desk_capacity.to_string());
        cluster.command(&["admin", "seats", "set", SITE, &agent, "--capacity", &capacity], "").await?;
        let (client, mut items) = ChatClient::start(Config::new(nodes, login.token, Party::Agent(login.agent)));
        client.seat(SeatState::Busy).await?;
        let (ending, given) = (client.clone(), given.clone());
        reading.spawn_local(async move {
            let mut under_way = JoinSet::new();
            while let Some(item) = items.recv().await {
                let Item::Event(event) = item else { continue };
                if matches!(event.kind, EventKind::Assigned { agent } if agent == login.agent) {
                    given.set(given.get() + 1);
                    let client = ending.clone();
                    // Refused: its visitor was faster.
                    under_way.spawn_local(async move { drop(client.close_seen(event.session, event.seq).await) });
                }
                while under_way.try_join_next().is_some() {}
            }
        });
        agents.push(client);
    }
    Ok((agents, reading))
}

/// So many visitors write once and go.
pub async fn come(cluster: &Cluster, count: usize) -> anyhow::Result<()> {
    let mut coming = JoinSet::new();
    for lane in 0..COMING {
        let nodes = cluster.clients_from(lane);
        let mine = count / COMING + usize::from(lane < count % COMING);
        coming.spawn_local(async move {
            for visitor in create_visitors(&nodes[0], mine).await? {
                let (mut line, mut wire) = connect(&nodes[0], &visitor, 200).await?;
                wire.put(1, &mut line.out);
                line.flush().await?;
                loop {
                    line.read().await?;
                    let (input, out) = line.parts();
                    let Some((length, answer)) = wire.take(input, out)? else { continue };
                    line.advance(length);
                    if answer.is_some() {
                        break;
                    }
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = coming.join_next().await {
        done??;
    }
    Ok(())
}

async fn all_are(agents: &[ChatClient], state: SeatState) -> anyhow::Result<()> {
    for agent in agents {
        agent.seat(state).await?;
    }
    Ok(())
}

/// The agents take; conversations a second.
async fn drain(agents: &[ChatClient], given: &Cell<u64>) -> anyhow::Result<f64> {
    let before = given.get();
    all_are(agents, SeatState::Online).await?;
    let reaches = async |count: u64| {
        wait::until("the desk gives", WITHIN, async || (given.get() >= before + count).then_some(())).await
    };
    reaches(WARMUP).await?;
    let (from, began) = (given.get(), Instant::now());
    reaches(WARMUP + TAKEN).await?;
    let per_s = (given.get() - from) as f64 / began.elapsed().as_secs_f64();
    all_are(agents, SeatState::Busy).await?;
    Ok(per_s)
}

/// Nobody has anything any more.
async fn settle(cluster: &Cluster) -> anyhow::Result<()> {
    let idle = wait::until("the agents have ended what they had", WITHIN, async || {
        let view = desk(cluster).await.ok()?;
        view["seats"].as_array()?.iter().all(|seat| seat["open"] == 0).then_some(())
    });
    idle.await
}

async fn empty(cluster: &Cluster, agents: &[ChatClient]) -> anyhow::Result<()> {
    all_are(agents, SeatState::Online).await?;
    wait::until("the queue is empty", WITHIN * 4, async || (desk(cluster).await.ok()?["queued"] == 0).then_some(()))
        .await?;
    all_are(agents, SeatState::Busy).await?;
    settle(cluster).await
}
