//! Owns what silence costs: memory per idle socket and per session, CPU of an idle cluster. Does not send messages.
//! Invariant: sockets ping as the protocol asks, so that none is closed while it is measured.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chaos_tests::cluster::{Cluster, NodeProcess};
use proto::client::http::VisitorCreated;
use serde_json::json;
use tokio::task::JoinSet;

use crate::everdesk::{connect, create_visitors, put_frame};
use crate::figures::round;
use crate::target::{Target, TargetArgs};
use crate::wire::Line;

#[derive(Debug, Clone, clap::Args)]
pub struct IdleArgs {
    /// Open so many idle visitor sockets on one node and print its memory per connection.
    #[arg(long, value_name = "N")]
    idle: Option<usize>,
    /// Print the CPU of each node of an idle cluster over so many seconds.
    #[arg(long, value_name = "SECS")]
    idle_cpu: Option<u64>,
    /// With `--idle`: close the sockets, wait so many seconds for actors to be put to sleep, and print what is left per session.
    #[arg(long, value_name = "SECS")]
    hibernate: Option<u64>,
}

impl IdleArgs {
    pub fn is_asked(&self) -> bool {
        self.idle.is_some() || self.idle_cpu.is_some()
    }
}

/// Connections that make visitors at once, and sockets that are opened at once.
const PARALLEL: usize = 32;
/// A whole round of pings, below the 15 s of the protocol.
const ROUND: Duration = Duration::from_secs(12);
/// Memory is read after allocators had time to give back.
const SETTLE: Duration = Duration::from_secs(15);
/// A session's actor is passivated after 60 s without a call, and its memory given back within 10 s more.
const PASSIVATED: Duration = Duration::from_secs(90);
const SPARE_FILES: u64 = 200;

/// Runs and prints.
/// # Errors
/// The cluster does not start, or the limit of open files is too low.
pub async fn run(args: &IdleArgs, target: &TargetArgs, as_json: bool) -> anyhow::Result<()> {
    let mut cluster = Target::own(target).await?;
    let mut object = json!({});
    if let Some(secs) = args.idle_cpu {
        // A cluster that was just founded still moves leaders and flushes.
        tokio::time::sleep(Duration::from_secs(10)).await;
        object["idle_cpu_percent"] = json!(cpu_percent(&cluster, Duration::from_secs(secs.max(1))).await);
    }
    if let Some(count) = args.idle {
        idle_sockets(&mut cluster, count, args, &mut object).await?;
    }
    if as_json {
        println!("{object}");
    } else {
        for (key, value) in object.as_object().context("made above")? {
            println!("{key:<32} {value}");
        }
    }
    Ok(())
}

async fn cpu_percent(cluster: &Cluster, time: Duration) -> Vec<f64> {
    let cpu = || cluster.pids().into_iter().map(chaos_tests::cluster::cpu_of).collect::<Vec<_>>();
    let (before, started) = (cpu(), Instant::now());
    tokio::time::sleep(time).await;
    let took = started.elapsed().as_secs_f64();
    let spent = cpu().into_iter().zip(before).map(|(after, before)| after.saturating_sub(before).as_secs_f64());
    spent.map(|spent| round(spent / took * 100.0, 2)).collect()
}

async fn idle_sockets(
    cluster: &mut Cluster,
    count: usize,
    args: &IdleArgs,
    object: &mut serde_json::Value,
) -> anyhow::Result<()> {
    let (_, files) = rlimit::getrlimit(rlimit::Resource::NOFILE)?;
    ensure!(count as u64 + SPARE_FILES <= files, "{count} sockets need more than {files} open files: raise the limit");
    let addr = cluster.node(1).client.clone();
    let rss = |cluster: &mut Cluster| cluster.process(1).map_or(0, |process| NodeProcess::rss_bytes(process));
    tokio::time::sleep(SETTLE).await;
    let at_start = rss(cluster);
    let visitors = make_visitors(&addr, count).await?;
    tokio::time::sleep(SETTLE).await;
    let with_visitors = rss(cluster);
    let mut lines = open_sockets(&addr, visitors).await?;
    keep_alive(&mut lines, SETTLE).await?;
    let with_fresh_sockets = rss(cluster);
    keep_alive(&mut lines, PASSIVATED).await?;
    let with_sockets = rss(cluster);
    let before = cluster.process(1).context("node 1 runs")?.cpu();
    keep_alive(&mut lines, ROUND * 2).await?;
    let cpu = cluster.process(1).context("node 1 runs")?.cpu().saturating_sub(before);
    let kib = |after: u64, before: u64| round(after.saturating_sub(before) as f64 / 1024.0 / count as f64, 2);
    object["connections"] = json!(lines.len());
    object["rss_start_mib"] = json!(at_start >> 20);
    object["rss_with_connections_mib"] = json!(with_sockets >> 20);
    object["kib_per_new_visitor"] = json!(kib(with_visitors, at_start));
    object["kib_per_fresh_connection"] = json!(kib(with_fresh_sockets, with_visitors));
    object["kib_per_connection"] = json!(kib(with_sockets, with_visitors));
    object["kib_per_connection_and_visitor"] = json!(kib(with_sockets, at_start));
    object["cpu_percent_with_pings"] = json!(round(cpu.as_secs_f64() / (ROUND * 2).as_secs_f64() * 100.0, 2));
    drop(lines);
    if let Some(secs) = args.hibernate {
        tokio::time::sleep(Duration::from_secs(secs)).await;
        object["kib_per_hibernated_session"] = json!(kib(rss(cluster), at_start));
    }
    Ok(())
}

async fn make_visitors(addr: &str, count: usize) -> anyhow::Result<Vec<VisitorCreated>> {
    let mut makers = JoinSet::new();
    for number in 0..PARALLEL {
        let share = count / PARALLEL + usize::from(number < count % PARALLEL);
        let addr = addr.to_owned();
        makers.spawn_local(async move { create_visitors(&addr, share).await });
    }
    let mut visitors = Vec::with_capacity(count);
    while let Some(made) = makers.join_next().await {
        visitors.extend(made??);
    }
    eprintln!("{} visitors are made", visitors.len());
    Ok(visitors)
}

async fn open_sockets(addr: &str, mut visitors: Vec<VisitorCreated>) -> anyhow::Result<Vec<Line>> {
    let mut openers = JoinSet::new();
    let mut lines = Vec::with_capacity(visitors.len());
    let mut pinged = Instant::now();
    loop {
        while openers.len() < PARALLEL
            && let Some(visitor) = visitors.pop()
        {
            let addr = addr.to_owned();
            openers.spawn_local(async move { connect(&addr, &visitor, 1).await });
        }
        let Some(opened) = openers.join_next().await else { break };
        let (mut line, _) = opened?.with_context(|| format!("socket {}", lines.len() + 1))?;
        line.shrink();
        lines.push(line);
        if pinged.elapsed() > ROUND {
            ping(&mut lines).await?;
            pinged = Instant::now();
        }
    }
    eprintln!("{} sockets are open", lines.len());
    Ok(lines)
}

/// Pings every socket once per round for `time`, spread evenly.
async fn keep_alive(lines: &mut [Line], time: Duration) -> anyhow::Result<()> {
    const SLICES: u32 = 60;
    let until = Instant::now() + time;
    let slice = lines.len().div_ceil(SLICES as usize).max(1);
    loop {
        for part in lines.chunks_mut(slice) {
            if Instant::now() >= until {
                return Ok(());
            }
            ping(part).await?;
            tokio::time::sleep(ROUND / SLICES).await;
        }
    }
}

async fn ping(lines: &mut [Line]) -> anyhow::Result<()> {
    for line in lines {
        put_frame(br#"{"id":2,"ping":{}}"#, &mut line.out);
        line.flush().await?;
        // The pong of the round before.
        if line.read_now()? {
            let len = line.unread().len();
            line.advance(len);
        }
        line.shrink();
    }
    Ok(())
}
