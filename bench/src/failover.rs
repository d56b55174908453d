//! Owns the fail-over drill: a paced talk in every shard, the loss of the busiest leader, the gap that clients see.
//! Does not know why a gap is long. Invariant: a gap lies between two acks of one shard, whoever got them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::wait;
use node::client::{ChatClient, Config, http};
use proto::client::Party;
use proto::command::Target as Actor;
use serde_json::json;
use tokio::task::JoinSet;

use crate::figures::round;
use crate::target::{Target, TargetArgs};

#[derive(Debug, Clone, clap::Args)]
pub struct FailoverArgs {
    /// Kill -9 the node that leads most shards, again and again, and print the gaps.
    #[arg(long)]
    kill_leader: bool,
    /// The same with SIGSTOP for 10 s, then SIGCONT.
    #[arg(long, conflicts_with = "kill_leader")]
    stop_leader: bool,
    /// The same on purpose: the node is drained, its leaders and clients move, and then it is wanted again.
    #[arg(long, conflicts_with_all = ["kill_leader", "stop_leader"])]
    drain_leader: bool,
    /// The same, but only one shard goes to another node, as `everdesk admin shards lead` asks for.
    #[arg(long, conflicts_with_all = ["kill_leader", "stop_leader", "drain_leader"])]
    transfer_leader: bool,
    /// How often.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// Sessions per shard that talk.
    #[arg(long, default_value_t = 6)]
    talkers: usize,
    /// A talker's pause after an ack, in milliseconds: the resolution of a gap is this over `--talkers`.
    #[arg(long, default_value_t = 20)]
    pace_ms: u64,
    /// A talker without an answer for so long tries the next node, in milliseconds.
    #[arg(long, default_value_t = 500)]
    answer_within_ms: u64,
}

impl FailoverArgs {
    pub fn is_asked(&self) -> bool {
        self.kill_leader || self.stop_leader || self.drain_leader || self.transfer_leader
    }

    fn fault(&self) -> Fault {
        match self {
            FailoverArgs { kill_leader: true, .. } => Fault::Kill,
            FailoverArgs { stop_leader: true, .. } => Fault::Stop,
            FailoverArgs { drain_leader: true, .. } => Fault::Drain,
            _ => Fault::Transfer,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    Stop,
    Drain,
    Transfer,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill_leader",
            Fault::Stop => "stop_leader",
            Fault::Drain => "drain_leader",
            Fault::Transfer => "transfer_leader",
        }
    }
}

/// Acks are looked at from this long before the loss.
const BEFORE: Duration = Duration::from_millis(300);
/// After a kill the node comes back only then: its return must not mend the gap.
const LOOK: Duration = Duration::from_secs(3);
const STOP: Duration = Duration::from_secs(10);
/// The clients of a drained node leave it over 5 s.
const DRAINED: Duration = Duration::from_secs(7);
const MENDED_WITHIN: Duration = Duration::from_secs(30);
/// A gap that never ends is counted so.
const NEVER: Duration = Duration::from_secs(60);

/// When acks came, per shard.
type Acks = Rc<RefCell<BTreeMap<u64, Vec<Instant>>>>;

/// Runs and prints.
/// # Errors
/// The cluster does not start or does not mend.
pub async fn run(args: &FailoverArgs, target: &TargetArgs, as_json: bool) -> anyhow::Result<()> {
    let mut cluster = Target::own(target).await?;
    let acks = Acks::default();
    let _talk = start_talk(&cluster, args, &acks).await?;
    let (mut affected, mut others) = (Vec::new(), Vec::new());
    for count in 1..=args.kills.max(1) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        acks.borrow_mut().clear();
        tokio::time::sleep(BEFORE).await;
        let (victim, mut shards) = victim(&cluster, count).await?;
        if args.fault() == Fault::Transfer {
            shards.truncate(1);
        }
        let lost_at = Instant::now();
        lose(&mut cluster, args.fault(), victim, &shards).await?;
        let gaps = gaps(&acks, lost_at).await;
        let mut line = Vec::new();
        for (shard, gap) in &gaps {
            let ms = round(gap.as_secs_f64() * 1e3, 1);
            if shards.contains(shard) { &mut affected } else { &mut others }.push(ms);
            line.push(format!("{}{shard} {ms:.0}", if shards.contains(shard) { "*g" } else { "g" }));
        }
        eprintln!("{count:>3}: lost n{victim} (* led by it), largest gap in ms: {}", line.join("  "));
        mend(&mut cluster, args.fault(), victim).await?;
    }
    if affected.is_empty() {
        bail!("no shard was affected");
    }
    let (affected, others) = (Gaps::of(affected), Gaps::of(others));
    let what = args.fault().name();
    if as_json {
        println!(
            "{}",
            json!({ "fault": what, "kills": args.kills, "gap_ms": affected.json(), "other_shards_gap_ms": others.json() })
        );
    } else {
        println!("{what}: gap of shards that lost their leader: {}", affected.text());
        println!("{what}: gap of the other shards:             {}", others.text());
    }
    Ok(())
}

/// Retrying clients, so many in every shard, spread over the nodes. Dropping the set ends them.
async fn start_talk(cluster: &Cluster, args: &FailoverArgs, acks: &Acks) -> anyhow::Result<JoinSet<()>> {
    let shards = cluster.status(1).await?.data_shards().count() as u32;
    let mut wanted: BTreeMap<u64, usize> = (1..=u64::from(shards)).map(|shard| (shard, args.talkers)).collect();
    let mut talk = JoinSet::new();
    for number in 0usize.. {
        if wanted.values().all(|&count| count == 0) {
            break;
        }
        let nodes = cluster.clients_from(number);
        let new = http::create_visitor(&nodes[0], SITE).await?;
        let shard = u64::from(Actor::Session(new.session).shard(shards).0);
        let Some(count) = wanted.get_mut(&shard).filter(|count| **count > 0) else { continue };
        *count -= 1;
        let config = Config {
            answer_within: Duration::from_millis(args.answer_within_ms),
            ..Config::new(nodes, new.token, Party::Visitor(new.visitor))
        };
        let (client, items) = ChatClient::start(config);
        drop(items);
        let (acks, pace) = (acks.clone(), Duration::from_millis(args.pace_ms));
        talk.spawn_local(async move {
            while client.send(new.session, "m".repeat(200)).await.is_ok() {
                acks.borrow_mut().entry(shard).or_default().push(Instant::now());
                tokio::time::sleep(pace).await;
            }
        });
    }
    Ok(talk)
}

/// A node that leads as many shards as any, another one every time.
async fn victim(cluster: &Cluster, turn: usize) -> anyhow::Result<(u64, Vec<u64>)> {
    let status = cluster.status(1).await?;
    let led: Vec<(u64, Vec<u64>)> =
        cluster.nodes().iter().map(|node| (node.number, status.led_by(node.number))).collect();
    let most = led.iter().map(|(_, shards)| shards.len()).max().unwrap_or(0);
    let busiest: Vec<_> = led.into_iter().filter(|(_, shards)| shards.len() == most).collect();
    busiest.get(turn % busiest.len().max(1)).cloned().context("no nodes")
}

async fn lose(cluster: &mut Cluster, fault: Fault, victim: u64, shards: &[u64]) -> anyhow::Result<()> {
    match fault {
        Fault::Kill => {
            cluster.kill(victim);
            tokio::time::sleep(LOOK).await;
        }
        Fault::Stop => cluster.freeze(victim, STOP).await?,
        Fault::Drain => {
            cluster.command(&["admin", "drain", &format!("n{victim}")], "").await?;
            tokio::time::sleep(DRAINED).await;
        }
        Fault::Transfer => {
            let (shard, to) = (shards.first().context("it leads nothing")?, victim % cluster.nodes().len() as u64 + 1);
            cluster.command(&["admin", "shards", "lead", &format!("g{shard}"), "--to", &format!("n{to}")], "").await?;
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

/// The largest time between two acks of each shard since shortly before the loss; waits for shards that are still silent.
async fn gaps(acks: &Acks, lost_at: Instant) -> BTreeMap<u64, Duration> {
    // An error is a shard that stays silent, which the gap says as well.
    let _ = wait::until("every shard acks again", MENDED_WITHIN, async || {
        let acks = acks.borrow();
        acks.values()
            .all(|times| times.last().is_some_and(|&last| last > lost_at + Duration::from_secs(1)))
            .then_some(())
    })
    .await;
    let from = lost_at.checked_sub(BEFORE).unwrap_or(lost_at);
    let acks = acks.borrow();
    let largest = |times: &Vec<Instant>| {
        let healed = times.last().is_some_and(|&last| last > lost_at + Duration::from_secs(1));
        let pairs = times.windows(2).filter(|pair| pair[1] >= from).map(|pair| pair[1] - pair[0]);
        if healed { pairs.max().unwrap_or(NEVER) } else { NEVER }
    };
    acks.iter().map(|(shard, times)| (*shard, largest(times))).collect()
}

async fn mend(cluster: &mut Cluster, fault: Fault, victim: u64) -> anyhow::Result<()> {
    match fault {
        Fault::Kill => cluster.restart(&[victim]).await?,
        Fault::Stop => {}
        // The leaders find their balance by themselves, and nobody need wait for it.
        Fault::Transfer => return Ok(()),
        Fault::Drain => drop(cluster.command(&["admin", "drain", "--cancel", &format!("n{victim}")], "").await?),
    }
    cluster.wait_settled().await.context("after a loss")
}

/// Milliseconds, ascending.
pub struct Gaps(Vec<f64>);

impl Gaps {
    pub fn of(mut gaps: Vec<f64>) -> Gaps {
        gaps.sort_by(f64::total_cmp);
        Gaps(gaps)
    }

    fn at(&self, quantile: f64) -> f64 {
        let rank = (self.0.len() as f64 * quantile).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    pub fn json(&self) -> serde_json::Value {
        json!({ "p50": self.at(0.5), "p99": self.at(0.99), "max": self.at(1.0), "count": self.0.len() })
    }

    pub fn text(&self) -> String {
        format!("p50 {:.0}  p99 {:.0}  max {:.0} ms over {}", self.at(0.5), self.at(0.99), self.at(1.0), self.0.len())
    }
}
