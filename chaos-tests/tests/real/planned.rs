//! Owns the tests of what an operator does on purpose. Does not break anything.

use std::time::Duration;

use anyhow::Context;
use chaos_tests::cluster::Cluster;
use chaos_tests::oracle;
use chaos_tests::workload::{Shape, Workload};

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
