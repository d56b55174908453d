//! Owns the tests that end processes without warning. Does not freeze them.

use std::time::Duration;

use chaos_tests::cluster::Cluster;
use chaos_tests::oracle;
use chaos_tests::wait;
use chaos_tests::workload::{Shape, Workload};

const TALK_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_messages_survive_the_kill_of_the_busiest_leader() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let mut load = Workload::start(&cluster, &Shape::default()).await?;
    load.talk(4_000, TALK_WITHIN).await?;
    let (victim, shards) = cluster.busiest_leader().await?;
    cluster.kill(victim);
    // The others go on without it; then it comes back into the running talk.
    load.talk(4_000, TALK_WITHIN).await?;
    cluster.restart(&[victim]).await?;
    load.talk(4_000, TALK_WITHIN).await?;
    load.stop().await?;
    let tally = oracle::check(&cluster, &load).await?;
    println!("killed n{victim}, leader of {shards:?}: {tally:?}");
    assert!(tally.reconnects > 0, "nobody lost a socket: the kill proved nothing");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_messages_survive_when_all_three_are_killed_at_once() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let mut load = Workload::start(&cluster, &Shape::default()).await?;
    load.talk(4_000, TALK_WITHIN).await?;
    cluster.kill_all();
    wait::pause(Duration::from_millis(500)).await;
    cluster.restart(&[1, 2, 3]).await?;
    load.talk(4_000, TALK_WITHIN).await?;
    load.stop().await?;
    let tally = oracle::check(&cluster, &load).await?;
    println!("{tally:?}");
    assert!(tally.reconnects > 0, "nobody lost a socket: the kill proved nothing");
    Ok(())
}
