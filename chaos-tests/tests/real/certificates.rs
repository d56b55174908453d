//! Owns the tests of the certificates by which nodes know each other. Does not test TLS itself.

use std::time::Duration;

use anyhow::Context;
use chaos_tests::cluster::Cluster;
use chaos_tests::workload::{Shape, Workload};
use chaos_tests::{oracle, wait};

const TALK_WITHIN: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_while_visitors_talk_and_the_old_authority_ends() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let mut load = Workload::start(&cluster, &Shape::default()).await?;
    load.talk(1_000, TALK_WITHIN).await?;
    let early = cluster.join_token().await?;
    cluster.command(&["admin", "certificates", "renew"], "").await?;
    let mut last = String::new();
    let renewed = wait::until("every node has a certificate of authority 2", SOON, async || {
        last = cluster.command(&["admin", "certificates", "status", "--json"], "").await.ok()?;
        let status: serde_json::Value = serde_json::from_str(&last).ok()?;
        let authorities = status["authorities"].as_array()?;
        let nodes = status["nodes"].as_array()?;
        (authorities.len() == 1
            && authorities[0]["authority"] == 2
            && nodes.len() == 3
            && nodes.iter().all(|node| node["authority"] == 2))
        .then_some(())
    });
    renewed.await.with_context(|| last)?;
    load.talk(1_000, TALK_WITHIN).await?;
    // New links are made with the new certificates.
    for node in [2, 1] {
        cluster.kill(node);
        load.talk(500, TALK_WITHIN).await?;
        cluster.restart(&[node]).await?;
    }
    let fourth = cluster.add_node(None)?;
    cluster.run(fourth).await?;
    // A token from before names the key of an authority that has ended.
    let fifth = cluster.add_node(None)?;
    cluster.spawn_with(fifth, Some(&early))?;
    let status = cluster.process(fifth).context("not running")?.wait(SOON).await?;
    let log = cluster.log_tail(fifth);
    assert!(!status.success() && log.contains("another cluster listens there"), "{status}: {log}");
    cluster.forget(fifth);
    load.talk(1_000, TALK_WITHIN).await?;
    load.stop().await?;
    let tally = oracle::check(&cluster, &load).await?;
    println!("{tally:?}");
    Ok(())
}

#[tokio::test]
async fn a_token_is_shown_only_to_the_cluster_that_made_it() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let other = Cluster::start(1).await?;
    let (token, foreign) = (cluster.join_token().await?, other.join_token().await?);
    let (secret, _) = token.rsplit_once('.').context("no pin")?;
    let (_, pin) = foreign.rsplit_once('.').context("no pin")?;
    let joins = cluster.add_node(None)?;
    cluster.spawn_with(joins, Some(&format!("{secret}.{pin}")))?;
    let status = cluster.process(joins).context("not running")?.wait(SOON).await?;
    let log = cluster.log_tail(joins);
    assert!(!status.success() && log.contains("another cluster listens there"), "{status}: {log}");
    // It was not spent.
    cluster.spawn_with(joins, Some(&token))?;
    cluster.wait_ready(joins).await?;
    println!("refused a foreign pin: {}", log.lines().last().unwrap_or_default());
    Ok(())
}
