//! Owns the tests of `everdesk recover`: all nodes die, some directories are left. Does not lose what was kept on purpose.
//!
//! What is acknowledged is on a majority, and the survivors may lack the last of it. So each test asserts: what was acked before
//! the survivors had caught up is there, once, at its seq; what was acked later is there too or lies beyond its session's
//! head, so that histories have no holes; nothing else than what the old cluster said is there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use chaos_tests::cluster::{Cluster, Status};
use chaos_tests::workload::{Acked, PASSWORD, Shape, Visitor, Workload};
use chaos_tests::{oracle, restored, wait};
use proto::command::Target;
use proto::ids::AgentId;

const TALK_WITHIN: Duration = Duration::from_secs(60);
const WHOLE_WITHIN: Duration = Duration::from_secs(90);
const REFUSED_WITHIN: Duration = Duration::from_secs(30);

/// What is known of a cluster that is dead.
struct Dead {
    cluster: Cluster,
    name: String,
    visitors: Vec<Visitor>,
    agents: Vec<AgentId>,
    /// Acked, and on every replica.
    safe: Vec<Acked>,
    all: Vec<Acked>,
    last: Status,
}

/// Every replica of every group has everything that was acked before the call.
async fn wait_caught_up(cluster: &Cluster) -> anyhow::Result<()> {
    let mut goal = Vec::new();
    for node in cluster.members() {
        let status = cluster.status(node.number).await?;
        goal.extend(status.shards.iter().filter_map(|shard| Some((shard.shard, shard.applied?))));
    }
    let caught_up = wait::until("every replica has caught up", TALK_WITHIN, async || {
        for node in cluster.members() {
            let status = cluster.status(node.number).await.ok()?;
            let behind = |(shard, index): &(u64, u64)| {
                status
                    .shards
                    .iter()
                    .any(|one| one.shard == *shard && one.applied.is_some_and(|applied| applied < *index))
            };
            if goal.iter().any(behind) {
                return None;
            }
        }
        Some(())
    });
    caught_up.await
}

async fn die_under_load(nodes: usize) -> anyhow::Result<Dead> {
    let mut cluster = Cluster::start(nodes.min(3)).await?;
    for _ in 3..nodes {
        let number = cluster.add_node(None)?;
        cluster.run(number).await?;
    }
    restored::wait_whole(&cluster, WHOLE_WITHIN).await?;
    let shape = Shape { visitors: 40, agents: 4, answer_every: 3, close_after: 25, ..Shape::default() };
    let load = Workload::start(&cluster, &shape).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    let safe = restored::acked(&load).await;
    wait_caught_up(&cluster).await?;
    load.talk(300, TALK_WITHIN).await?;
    let last = cluster.overview().await?;
    let name = last.raw["name"].as_str().context("the status names no cluster")?.to_owned();
    cluster.kill_all();
    let all = restored::acked(&load).await;
    let (visitors, agents) = (load.visitors.clone(), load.agents.clone());
    Ok(Dead { cluster, name, visitors, agents, safe, all, last })
}

fn dir_of(dead: &Dead, number: u64) -> String {
    dead.cluster.node(number).data_dir.display().to_string()
}

/// Every file of a directory with its bytes.
fn image(dir: &std::path::Path) -> anyhow::Result<std::collections::BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(image(&path)?);
        } else {
            found.insert(path.clone(), std::fs::read(&path)?);
        }
    }
    Ok(found)
}

/// Recovers from the directories of `survivors` into a node at the place of `place`.
async fn recover(dead: &Dead, survivors: &[u64], place: u64) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::empty(&[])?;
    let into = cluster.dir().join("recovered");
    let dirs: Vec<String> = survivors.iter().map(|number| dir_of(dead, *number)).collect();
    let into_text = into.display().to_string();
    let mut args = vec!["recover", "--into", into_text.as_str()];
    dirs.iter().for_each(|dir| args.extend(["--data-dir", dir.as_str()]));
    let before = survivors.iter().map(|number| image(&dead.cluster.node(*number).data_dir));
    let before = before.collect::<anyhow::Result<Vec<_>>>()?;
    let refused = cluster.offline(&args, "some other name\n").await.expect_err("another name was given");
    ensure!(format!("{refused:#}").contains("nothing was done") && !into.exists(), "{refused:#}");
    let text = cluster.offline(&args, &format!("{}\n", dead.name)).await?;
    println!("{}", text.trim());
    for (number, before) in survivors.iter().zip(before) {
        ensure!(image(&dead.cluster.node(*number).data_dir)? == before, "the directory of node {number} was changed");
    }
    // The operator's own copy of the founder's token: it must be good at every node still.
    std::fs::copy(dead.cluster.node(1).data_dir.join("admin.json"), into.join("admin.json"))?;
    cluster.add_in_place_of(into, &dead.cluster, place)?;
    cluster.run(1).await?;
    Ok(cluster)
}

/// What must hold of the recovered cluster, alone and grown to three nodes. Returns how many acks were lost.
async fn check_recovered(dead: &Dead, cluster: &mut Cluster) -> anyhow::Result<usize> {
    let status = cluster.status(1).await?;
    ensure!(status.raw["name"] == dead.name.as_str(), "it has another name: {}", status.raw["name"]);
    ensure!(status.raw["cluster"] != dead.last.raw["cluster"], "it has the old id");
    let found = oracle::histories(cluster, 1, &dead.visitors, &Default::default()).await?;
    let beyond = restored::check_held(&found, &dead.safe)?;
    ensure!(beyond.is_empty(), "{} acks that every replica had are lost", beyond.len());
    let lost = restored::check_held(&found, &dead.all)?.len();
    restored::check_goes_on(cluster, &found, &dead.visitors, &dead.agents, PASSWORD).await?;
    for _ in 0..2 {
        let number = cluster.add_node(None)?;
        cluster.run(number).await?;
    }
    restored::wait_whole(cluster, WHOLE_WITHIN).await?;
    let shape = Shape { agents: 0, visitors: 20, ..Shape::default() };
    let mut talk = Workload::start(cluster, &shape).await?;
    talk.talk(500, TALK_WITHIN).await?;
    talk.stop().await?;
    oracle::check(cluster, &talk).await?;
    Ok(lost)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_directory_of_three_becomes_a_cluster_again_and_the_dead_are_refused() -> anyhow::Result<()> {
    let mut dead = die_under_load(3).await?;
    // The others dial the node with the highest id, so that what they are told is seen in their logs.
    let mut cluster = recover(&dead, &[3], 3).await?;
    // One old node comes back: alone it is no majority, and the recovered one must not make it one.
    dead.cluster.spawn(1).await?;
    let refused = wait::until("the old node is refused", REFUSED_WITHIN, async || {
        dead.cluster.log_tail(1).contains("started over without this node").then_some(())
    });
    refused.await.with_context(|| dead.cluster.log_tail(1))?;
    let lost = check_recovered(&dead, &mut cluster).await?;
    let ready = chaos_tests::http::get(&dead.cluster.node(1).client, "/health/ready", &[]).await?;
    ensure!(ready.status == 503, "the old node serves clients again: {}", ready.status);
    println!("{} acks, {} of them on all replicas; {lost} lost", dead.all.len(), dead.safe.len());
    Ok(())
}

/// The operator gives the `gone` shards up: they begin empty, and every other conversation is there.
async fn check_emptied(dead: &Dead, args: &[&str], into: &str, gone: &[u64]) -> anyhow::Result<()> {
    let flags: Vec<String> = gone.iter().map(|shard| format!("--accept-empty=g{shard}")).collect();
    let args: Vec<&str> = args.iter().copied().chain(flags.iter().map(String::as_str)).collect();
    dead.cluster.offline(&args, "").await?;
    std::fs::copy(dead.cluster.node(1).data_dir.join("admin.json"), PathBuf::from(into).join("admin.json"))?;
    let mut cluster = Cluster::empty(&[])?;
    cluster.add_node(Some(into.into()))?;
    cluster.run(1).await?;
    let shards = dead.last.data_shards().count() as u32;
    let is_gone = |session| gone.contains(&u64::from(Target::Session(session).shard(shards).0));
    let (lost, kept): (Vec<Visitor>, Vec<Visitor>) =
        dead.visitors.iter().cloned().partition(|visitor| is_gone(visitor.session));
    ensure!(!lost.is_empty() && !kept.is_empty(), "{} sessions are gone, {} kept", lost.len(), kept.len());
    let found = oracle::histories(&cluster, 1, &kept, &Default::default()).await?;
    let safe: Vec<Acked> = dead.safe.iter().filter(|acked| !is_gone(acked.session)).cloned().collect();
    let beyond = restored::check_held(&found, &safe)?;
    ensure!(beyond.is_empty(), "{} acks of shards that are not gone are lost", beyond.len());
    let told = oracle::histories(&cluster, 1, &lost[..1], &Default::default()).await;
    ensure!(told.is_err(), "a conversation of a shard that began empty is there: {told:?}");
    let mut talk = Workload::start(&cluster, &Shape { agents: 0, visitors: 20, ..Shape::default() }).await?;
    talk.talk(500, TALK_WITHIN).await?;
    talk.stop().await?;
    oracle::check(&cluster, &talk).await?;
    println!("{gone:?} began empty: {} sessions are gone, {} kept", lost.len(), kept.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_directories_of_five_become_a_cluster_again_and_a_missing_shard_is_told() -> anyhow::Result<()> {
    let dead = die_under_load(5).await?;
    let holds = |number: u64, shard: &chaos_tests::cluster::ShardStatus| {
        shard.shard == 0 || shard.replicas.iter().any(|replica| replica.node == number)
    };
    let pairs = (1..=5_u64).flat_map(|a| (a + 1..=5).map(move |b| (a, b)));
    let missing = |(a, b): (u64, u64)| {
        dead.last.shards.iter().find(|shard| !holds(a, shard) && !holds(b, shard)).map(|shard| shard.shard)
    };
    let (whole, broken): (Vec<_>, Vec<_>) = pairs.partition(|pair| missing(*pair).is_none());
    let (a, b) = *whole.first().context("no two nodes hold every shard")?;
    if let Some(pair) = broken.first() {
        let into = dead.cluster.dir().join("never").display().to_string();
        let (x, y) = (dir_of(&dead, pair.0), dir_of(&dead, pair.1));
        let args = ["recover", "--data-dir", &x, "--data-dir", &y, "--into", &into, "--confirm", &dead.name];
        let told = dead.cluster.offline(&args, "").await.expect_err("a shard is missing");
        let flag = format!("--accept-empty g{}", missing(*pair).context("a missing shard")?);
        ensure!(format!("{told:#}").contains(&flag), "{told:#}");
        let gone = dead.last.data_shards().filter(|shard| !holds(pair.0, shard) && !holds(pair.1, shard));
        check_emptied(&dead, &args, &into, &gone.map(|shard| shard.shard).collect::<Vec<_>>()).await?;
    }
    let mut cluster = recover(&dead, &[a, b], b).await?;
    let lost = check_recovered(&dead, &mut cluster).await?;
    println!("n{a} and n{b} of 5: {} acks, {} of them on all replicas; {lost} lost", dead.all.len(), dead.safe.len());
    Ok(())
}
