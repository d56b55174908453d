//! Owns the drain drill: many sockets on one node, which is drained while all talk; how long each session waits.
//! Does not know how a node drains. Invariant: a session's pause is its longest wait for an ack, whoever gave it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::{http as plain, wait};
use node::client::{ChatClient, Config, http};
use proto::client::Party;
use serde_json::json;
use tokio::task::JoinSet;

use crate::failover::Gaps;
use crate::target::{Target, TargetArgs};

#[derive(Debug, Clone, clap::Args)]
pub struct DrainArgs {
    /// Drain a node that holds so many sockets, and print how long their sessions waited.
    #[arg(long, value_name = "SOCKETS")]
    drain_sockets: Option<usize>,
    /// A session's pause between two sends, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    drain_pace_ms: u64,
}

impl DrainArgs {
    pub fn is_asked(&self) -> bool {
        self.drain_sockets.is_some()
    }
}

/// The drained node, as `everdesk` names it.
const VICTIM: u64 = 2;
/// Talk before and after the drain.
const AROUND: Duration = Duration::from_secs(5);
const LEFT_WITHIN: Duration = Duration::from_secs(60);

/// The longest wait of each session since the last reset.
type Waits = Rc<RefCell<Vec<Duration>>>;

/// Runs and prints.
/// # Errors
/// The cluster does not start, or sockets stay on the drained node.
pub async fn run(args: &DrainArgs, target: &TargetArgs, as_json: bool) -> anyhow::Result<()> {
    let cluster = Target::own(target).await?;
    let count = args.drain_sockets.unwrap_or_default().max(1);
    let waits: Waits = Rc::new(RefCell::new(vec![Duration::ZERO; count]));
    let _talk = start_talk(&cluster, count, Duration::from_millis(args.drain_pace_ms), &waits).await?;
    tokio::time::sleep(AROUND).await;
    // Until here sockets were still being made.
    reset(&waits);
    tokio::time::sleep(AROUND).await;
    let calm = Gaps::of(reset(&waits));
    let (sockets, leaders) = (connections(&cluster).await?, cluster.overview().await?.led_by(VICTIM).len());
    cluster.command(&["admin", "drain", &format!("n{VICTIM}")], "").await?;
    let since = Instant::now();
    let empty = async || (connections(&cluster).await.ok()? == 0).then_some(());
    wait::until("no socket is left on the drained node", LEFT_WITHIN, empty).await?;
    let took = since.elapsed();
    tokio::time::sleep(AROUND).await;
    let drained = Gaps::of(reset(&waits));
    if as_json {
        println!(
            "{}",
            json!({ "sockets": sockets, "leaders": leaders, "left_after_ms": took.as_millis() as u64, "pause_ms": drained.json(), "calm_ms": calm.json() })
        );
    } else {
        println!("n{VICTIM} had {sockets} sockets and led {leaders} shards; the last socket left after {took:.1?}");
        println!("longest wait for an ack per session, calm:    {}", calm.text());
        println!("longest wait for an ack per session, drained: {}", drained.text());
    }
    Ok(())
}

fn reset(waits: &Waits) -> Vec<f64> {
    waits.borrow_mut().iter_mut().map(|wait| std::mem::take(wait).as_secs_f64() * 1e3).collect()
}

/// Sessions whose first choice is the node that will be drained. Dropping the set ends them.
async fn start_talk(cluster: &Cluster, count: usize, pace: Duration, waits: &Waits) -> anyhow::Result<JoinSet<()>> {
    let nodes = cluster.clients_from(VICTIM as usize - 1);
    let mut talk = JoinSet::new();
    for number in 0..count {
        let new = http::create_visitor(&nodes[0], SITE).await?;
        let (client, items) = ChatClient::start(Config::new(nodes.clone(), new.token, Party::Visitor(new.visitor)));
        drop(items);
        let waits = waits.clone();
        talk.spawn_local(async move {
            // Spread over the pace, or all would send at once.
            tokio::time::sleep(pace * (number as u32) / (count as u32)).await;
            loop {
                let sent = Instant::now();
                if client.send(new.session, "m".repeat(200)).await.is_err() {
                    return;
                }
                let took = sent.elapsed();
                note(&waits, number, took);
                tokio::time::sleep(pace.saturating_sub(took)).await;
            }
        });
    }
    Ok(talk)
}

fn note(waits: &Waits, number: usize, took: Duration) {
    let longest = &mut waits.borrow_mut()[number];
    *longest = took.max(*longest);
}

/// Sockets of the node that is drained.
async fn connections(cluster: &Cluster) -> anyhow::Result<u64> {
    let text = plain::get(&cluster.node(VICTIM).client, "/metrics", &[]).await?.text();
    let line = text.lines().find_map(|line| line.strip_prefix("chat_active_connections "));
    Ok(line.context("no gauge of connections")?.trim().parse::<f64>()? as u64)
}
