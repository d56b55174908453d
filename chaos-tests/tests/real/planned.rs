//! Owns the tests of what an operator does on purpose. Does not break anything.

use std::time::Duration;

use anyhow::Context;
use chaos_tests::cluster::{Cluster, ShardStatus};
use chaos_tests::workload::{Shape, Workload};
use chaos_tests::{http, oracle, wait};

const TALK_WITHIN: Duration = Duration::from_secs(60);
/// What an operator's service manager waits for before it kills.
const STOP_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_told_to_stop_hands_its_leaders_over_and_ends_with_0() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let mut load = Workload::start(&cluster, &Shape::default()).await?;
    load.talk(4_000, TALK_WITHIN).await?;
    let (leaving, shards) = cluster.busiest_leader().await?;
    let process = cluster.process(leaving).context("not running")?;
    process.signal("TERM")?;
    let status = process.wait(STOP_WITHIN).await?;
    assert_eq!(status.code(), Some(0), "{}", cluster.log_tail(leaving));
    let log = cluster.log_tail(leaving);
    assert!(log.contains("handed its leaders over") && log.contains("kept=0"), "{log}");
    let others = cluster.status(if leaving == 1 { 2 } else { 1 }).await?;
    assert_eq!(others.led_by(leaving), [] as [u64; 0], "somebody else leads each of {shards:?} already");
    load.talk(4_000, TALK_WITHIN).await?;
    cluster.restart(&[leaving]).await?;
    load.talk(4_000, TALK_WITHIN).await?;
    load.stop().await?;
    let tally = oracle::check(&cluster, &load).await?;
    println!("stopped n{leaving}, leader of {shards:?}: {tally:?}");
    assert!(tally.reconnects > 0, "nobody was told to go: the stop proved nothing");
    Ok(())
}

/// Moving all replicas of a node elsewhere.
const MOVED_WITHIN: Duration = Duration::from_secs(90);

/// Waits until every data shard has three voters, none of them on `gone`.
async fn wait_replaced(cluster: &Cluster, gone: u64) -> anyhow::Result<()> {
    let mut last = String::new();
    let replaced = wait::until("every replica has been replaced", MOVED_WITHIN, async || {
        let status = cluster.overview().await.ok()?;
        last = status.raw.to_string();
        let whole = |shard: &ShardStatus| {
            shard.replicas.iter().filter(|replica| replica.voter).count() == 3
                && shard.replicas.iter().all(|replica| replica.node != gone)
        };
        status.data_shards().all(whole).then_some(())
    });
    replaced.await.with_context(|| last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_moves_all_it_has_ends_and_is_refused_for_ever() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(4).await?;
    let leaving = 2;
    let mut load = Workload::start(&cluster, &Shape::default()).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    cluster.command(&["admin", "remove", "n2"], "").await?;
    let status = cluster.process(leaving).context("not running")?.wait(MOVED_WITHIN).await;
    let status = status.with_context(|| cluster.log_tail(leaving))?;
    assert_eq!(status.code(), Some(0), "{}", cluster.log_tail(leaving));
    wait_replaced(&cluster, leaving).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    load.stop().await?;

    cluster.spawn(leaving).await?;
    let status = cluster.process(leaving).context("not running")?.wait(STOP_WITHIN).await?;
    let log = cluster.log_tail(leaving);
    assert!(!status.success() && log.contains("this node was removed from the cluster"), "{log}");
    cluster.forget(leaving);
    let refused = cluster.command(&["admin", "remove", "n3"], "").await.expect_err("three nodes are the least");
    assert!(format!("{refused:#}").contains("nowhere to go"), "{refused:#}");
    let tally = oracle::check(&cluster, &load).await?;
    println!("removed n{leaving}: {tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replicas_of_a_dead_node_are_replaced_and_it_may_come_back() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_with(4, &["--dead-after-s", "3"]).await?;
    let dead = 3;
    let mut load = Workload::start(&cluster, &Shape::default()).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    cluster.kill(dead);
    wait_replaced(&cluster, dead).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    cluster.restart(&[dead]).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    load.stop().await?;
    let tally = oracle::check(&cluster, &load).await?;
    println!("n{dead} was dead: {tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_leads_nothing_and_serves_nobody_until_it_is_wanted_again() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let mut load = Workload::start(&cluster, &Shape::default()).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    cluster.command(&["admin", "drain", "n2"], "").await?;
    let drained = async || {
        let led = cluster.status(1).await.ok()?.led_by(2).len();
        let answer = http::get(&cluster.node(2).client, "/health/ready", &[]).await.ok()?;
        (led == 0 && answer.status == 503).then_some(())
    };
    wait::until("node 2 is drained", MOVED_WITHIN, drained).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    cluster.command(&["admin", "drain", "--cancel", "n2"], "").await?;
    cluster.wait_settled().await?;
    let ready =
        async || (http::get(&cluster.node(2).client, "/health/ready", &[]).await.ok()?.status == 200).then_some(());
    wait::until("node 2 serves again", MOVED_WITHIN, ready).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    load.stop().await?;
    let tally = oracle::check(&cluster, &load).await?;
    assert!(tally.reconnects > 0, "nobody was sent away: the drain proved nothing");
    println!("{tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_added_take_their_share_while_visitors_talk() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let mut load = Workload::start(&cluster, &Shape::default()).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    for _ in 0..2 {
        let added = cluster.add_node(None)?;
        cluster.run(added).await?;
        load.talk(500, TALK_WITHIN).await?;
    }
    let mut last = String::new();
    let shared = wait::until("five nodes share the replicas", MOVED_WITHIN, async || {
        let status = cluster.overview().await.ok()?;
        let held: Vec<usize> = (1..=5).map(|node| status.held_by(node)).collect();
        last = format!("{held:?}");
        (status.has_voters(5) && held.iter().all(|held| (3..=4).contains(held))).then_some(())
    });
    shared.await.with_context(|| last)?;
    load.talk(2_000, TALK_WITHIN).await?;
    load.stop().await?;
    let tally = oracle::check(&cluster, &load).await?;
    println!("5 nodes: {tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_nodes_become_three_and_five_with_a_zone_lost_in_between() -> anyhow::Result<()> {
    let mut cluster = Cluster::empty(&[])?;
    for zone in ["a", "b", "c", "b"] {
        cluster.run_in(zone).await?;
    }
    cluster.wait_settled().await?;
    let mut load = Workload::start(&cluster, &Shape::default()).await?;
    load.talk(1_000, TALK_WITHIN).await?;
    cluster.command(&["admin", "remove", "n4"], "").await?;
    cluster.process(4).context("not running")?.wait(MOVED_WITHIN).await?;
    cluster.forget(4);
    wait_replaced(&cluster, 4).await?;
    load.talk(1_000, TALK_WITHIN).await?;

    // All of zone c.
    cluster.kill(3);
    load.talk(1_000, TALK_WITHIN).await?;
    for zone in ["b", "c"] {
        cluster.run_in(zone).await?;
        load.talk(500, TALK_WITHIN).await?;
    }
    cluster.restart(&[3]).await?;
    let mut last = String::new();
    let spread = wait::until("every shard is in three zones", MOVED_WITHIN, async || {
        let status = cluster.overview().await.ok()?;
        last = status.raw.to_string();
        let zone = |node: u64| cluster.node(node).zone();
        let in_all = |shard: &ShardStatus| {
            let zones: std::collections::BTreeSet<&str> = shard.replicas.iter().map(|one| zone(one.node)).collect();
            zones.len() == 3
        };
        (status.has_voters(5) && status.data_shards().all(in_all)).then_some(())
    });
    spread.await.with_context(|| last)?;
    load.talk(1_000, TALK_WITHIN).await?;
    load.stop().await?;
    let tally = oracle::check(&cluster, &load).await?;
    println!("4, 3, a zone lost, 5 nodes: {tally:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_comes_back_as_a_new_one_and_takes_its_own_place_by_itself() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_with(3, &["--dead-after-s", "3"]).await?;
    let mut load = Workload::start(&cluster, &Shape::default()).await?;
    load.talk(1_000, TALK_WITHIN).await?;
    let wiped = 3;
    cluster.kill(wiped);
    std::fs::remove_dir_all(&cluster.node(wiped).data_dir)?;
    // The same machine at the same addresses; the cluster knows it as n4 from here on.
    cluster.run(wiped).await?;
    wait_replaced(&cluster, wiped).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    load.stop().await?;
    let tally = oracle::check(&cluster, &load).await?;
    println!("n{wiped} was wiped: {tally:?}");
    Ok(())
}
