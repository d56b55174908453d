//! Owns the tests of difficult clients: impatient ones, hopping ones, long-lived ones, agents that come and go.

use std::time::Duration;

use anyhow::Context;
use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::invariants::assignment;
use chaos_tests::oracle;
use chaos_tests::socket::Socket;
use chaos_tests::workload::{Shape, Workload};
use node::client::http;
use serde_json::json;

const TALK_WITHIN: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_resends_everything_twice_and_hops_between_nodes_gets_each_message_once() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let shape =
        Shape { visitors: 60, send_twice: true, hop_every: Some(Duration::from_millis(700)), ..Shape::default() };
    let mut load = Workload::start(&cluster, &shape).await?;
    load.talk(6_000, TALK_WITHIN).await?;
    load.stop().await?;
    let tally = oracle::check(&cluster, &load).await?;
    println!("{tally:?}");
    assert!(tally.reconnects > 60, "only {} hops", tally.reconnects);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_is_never_given_to_two_agents() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let shape = Shape {
        visitors: 60,
        agents: 12,
        close_after: 6,
        answer_every: 2,
        hop_every: Some(Duration::from_millis(1_500)),
        ..Shape::default()
    };
    let mut load = Workload::start(&cluster, &shape).await?;
    load.talk(3_000, TALK_WITHIN).await?;
    // The desk's own shard moves while conversations open and close.
    let (victim, _) = cluster.busiest_leader().await?;
    cluster.kill(victim);
    load.talk(2_000, TALK_WITHIN).await?;
    cluster.restart(&[victim]).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    load.stop().await?;
    let heads = oracle::heads(&load).await;
    let histories = oracle::histories(&cluster, 1, &load.visitors, &heads).await?;
    let assignments = assignment::check_one_agent_at_a_time(&histories)?;
    let tally = oracle::check(&cluster, &load).await?;
    println!("{assignments} assignments; {tally:?}");
    assert!(assignments > 200, "only {assignments} assignments: the test proved nothing");
    Ok(())
}

#[tokio::test]
async fn a_socket_that_was_sent_thirty_thousand_frames_gets_the_next_one() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let addr = &cluster.node(1).client;
    let visitor = http::create_visitor(addr, SITE).await?;
    let mut socket = Socket::hello(addr, &visitor.token, None).await?;
    // Enough for a few bytes per frame, wrongly kept, to use up what may be with the HTTP layer at once.
    for id in 0..=30_000 {
        let pong = socket.ask(&json!({"id": id, "ping": {}}), Duration::from_secs(10), &mut Vec::new()).await;
        pong.with_context(|| format!("ping {id}"))?;
    }
    Ok(())
}
