//! Owns the tests of disks that lie or are full. Does not look into the database.

use std::time::Duration;

use anyhow::{Context, ensure};
use chaos_tests::cluster::{Cluster, SITE, Status, directory};
use chaos_tests::faults::SmallDisk;
use chaos_tests::workload::{Shape, Workload};
use chaos_tests::{oracle, wait};
use node::client::{ChatClient, Config, http};
use proto::client::Party;

const TALK_WITHIN: Duration = Duration::from_secs(60);
const BACK_WITHIN: Duration = Duration::from_secs(60);
const VICTIM: u64 = 3;

/// Replica ids of a node, with the shard and the vote.
fn replicas_of(status: &Status, node: u64) -> Vec<(u64, u64, bool)> {
    let all = status.shards.iter().flat_map(|shard| shard.replicas.iter().map(move |replica| (shard.shard, replica)));
    all.filter(|(_, replica)| replica.node == node)
        .map(|(shard, replica)| (shard, replica.replica, replica.voter))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_wal_was_wiped_comes_back_as_a_learner_under_a_new_id() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let mut load = Workload::start(&cluster, &Shape { visitors: 40, ..Shape::default() }).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    let before = replicas_of(&cluster.status(1).await?, VICTIM);
    cluster.kill(VICTIM);
    let lost = cluster.wipe_wal(VICTIM)?;
    ensure!(lost > 10_000, "only {lost} bytes of log were lost: the test proved nothing");
    load.talk(500, TALK_WITHIN).await?;
    cluster.spawn(VICTIM).await?;
    let mut learned = false;
    let mut last = Vec::new();
    let back = wait::until("node 3 votes again in every group", BACK_WITHIN, async || {
        let now = replicas_of(&cluster.status(1).await.ok()?, VICTIM);
        learned |= now.iter().any(|replica| !before.contains(replica) && !replica.2);
        last = now;
        let anew = |&(shard, id, voter): &(u64, u64, bool)| {
            voter && before.iter().all(|&(old_shard, old, _)| old_shard != shard || old < id)
        };
        (last.len() == before.len() && last.iter().all(anew)).then_some(())
    });
    back.await.with_context(|| format!("before {before:?}, now {last:?}\n{}", cluster.log_tail(VICTIM)))?;
    load.talk(500, TALK_WITHIN).await?;
    load.stop().await?;
    let tally = oracle::check(&cluster, &load).await?;
    println!("{lost} bytes lost; was seen as a learner: {learned}; {before:?} -> {last:?}; {tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_log_disk_ends_the_process_with_75_and_one_clear_line() -> anyhow::Result<()> {
    let place = directory()?;
    let Some(disk) = SmallDisk::mount(place.path().join("small"), 256)? else {
        eprintln!("SKIPPED, proves nothing: mounting a small file system needs root");
        return Ok(());
    };
    let mut cluster = Cluster::empty(&[])?;
    let node = cluster.add_node(Some(place.path().join("small/data")))?;
    cluster.run(node).await?;
    let addr = cluster.node(node).client.clone();
    let new = http::create_visitor(&addr, SITE).await?;
    let (client, items) = ChatClient::start(Config::new(vec![addr], new.token, Party::Visitor(new.visitor)));
    drop(items);
    client.send(new.session, "there is room").await?;
    disk.fill_but(4 << 20)?;
    let mut talk = tokio::task::JoinSet::new();
    talk.spawn(async move { while client.send(new.session, "x".repeat(16_000)).await.is_ok() {} });
    let process = cluster.process(node).context("it was started")?;
    let status = process.wait(TALK_WITHIN).await?;
    let log = cluster.log_tail(node);
    ensure!(status.code() == Some(75), "ended with {status}; its log:\n{log}");
    let last = log.lines().last().unwrap_or_default().to_lowercase();
    ensure!(last.contains("fatal") && last.contains("space"), "the last line does not say why it ended:\n{log}");
    println!("last line: {last}");
    drop(cluster);
    drop(disk);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_is_too_old_or_too_new_for_its_directory_ends_and_says_which_would_do() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let addr = cluster.node(1).client.clone();
    let new = http::create_visitor(&addr, SITE).await?;
    let (client, items) = ChatClient::start(Config::new(vec![addr], new.token, Party::Visitor(new.visitor)));
    drop(items);
    client.send(new.session, "still here afterwards").await?;
    cluster.kill(1);
    let mark = cluster.node(1).data_dir.join("version");
    let right = std::fs::read_to_string(&mark)?;
    // Written by a build before the first and by one after this: for the one this build is too new, for the other too old.
    for wrong in [0, 2] {
        std::fs::write(&mark, right.replace("version 1", &format!("version {wrong}")))?;
        cluster.spawn(1).await?;
        let status = cluster.process(1).context("it was started")?.wait(BACK_WITHIN).await?;
        let log = cluster.log_tail(1);
        let told =
            format!("the data directory is at version {wrong}; this build speaks 1: start one that speaks {wrong}");
        ensure!(!status.success() && log.contains(&told), "{status}: {log}");
    }
    std::fs::write(&mark, right)?;
    cluster.restart(&[1]).await?;
    ensure!(client.send(new.session, "and goes on").await?.seq == 2, "what was acked is gone");
    Ok(())
}
