//! Owns the test of a leader that sleeps through its own deposition. Does not kill anything.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use chaos_tests::cluster::Cluster;
use chaos_tests::oracle::{self, Histories};
use chaos_tests::socket::{Came, Socket};
use chaos_tests::workload::{Shape, Visitor, Workload};
use proto::ids::SessionId;
use serde_json::{Value, json};

const TALK_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const WATCHERS: usize = 24;

/// A socket on the node that will be frozen, opened before.
struct Watcher {
    socket: Socket,
    visitor: Visitor,
    pushes: Vec<Value>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_stopped_for_ten_seconds_serves_and_pushes_nothing_stale() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let mut load = Workload::start(&cluster, &Shape::default()).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    let (victim, shards) = cluster.busiest_leader().await?;
    let mut watchers = Vec::new();
    for visitor in load.visitors.iter().take(WATCHERS) {
        let socket = Socket::hello(&cluster.node(victim).client, &visitor.token, Some((visitor.session, 0))).await?;
        watchers.push(Watcher { socket, visitor: visitor.clone(), pushes: Vec::new() });
    }
    let before = load.acks();
    cluster.freeze(victim, Duration::from_secs(10)).await?;
    let meanwhile = load.acks() - before;
    ensure!(meanwhile > 1_000, "only {meanwhile} acks while n{victim} slept: the others did not take over");

    // Awake again, and asked at once: it must not answer from what it remembers.
    let mut asks = 0;
    for _ in 0..3 {
        for watcher in &mut watchers {
            asks += usize::from(history_is_fresh(watcher, &load).await?);
        }
    }
    ensure!(asks > 0, "no watcher got a history: the test proved nothing");
    load.talk(2_000, TALK_WITHIN).await?;
    load.stop().await?;
    let tally = oracle::check(&cluster, &load).await?;
    println!("n{victim} slept as leader of {shards:?}; {meanwhile} acks meanwhile, {asks} histories asked; {tally:?}");

    let heads = oracle::heads(&load).await;
    let histories = oracle::histories(&cluster, victim, &load.visitors, &heads).await?;
    for watcher in &mut watchers {
        while let Came::Frame(push) = watcher.socket.next(Duration::from_millis(100)).await? {
            watcher.pushes.push(push);
        }
        check_pushes(watcher, &histories)?;
    }
    Ok(())
}

/// Asks for the newest events; false when the node refused or closed, which is honest too.
async fn history_is_fresh(watcher: &mut Watcher, load: &Workload) -> anyhow::Result<bool> {
    let session = watcher.visitor.session;
    let acked = acked_seqs(load).await.get(&session).copied().unwrap_or(0);
    let ask = json!({"id": 1_000_000 + acked, "history": {"session": session.to_string(), "limit": 1}});
    let answer = match watcher.socket.ask(&ask, ANSWER_WITHIN, &mut watcher.pushes).await {
        Ok(answer) => answer,
        Err(_) => return Ok(false),
    };
    let Some(head) = answer["history"]["head"].as_u64() else {
        ensure!(!answer["error"]["retry_after_ms"].is_null() || answer["error"]["code"] == "unavailable", "{answer}");
        return Ok(false);
    };
    ensure!(head >= acked, "{session}: stale history: head {head}, but seq {acked} was acked before the request");
    Ok(true)
}

async fn acked_seqs(load: &Workload) -> BTreeMap<SessionId, u64> {
    let mut seqs = BTreeMap::new();
    for one in load.seen().await {
        for acked in &one.acked {
            let seq = seqs.entry(acked.session).or_insert(0);
            *seq = acked.seq.max(*seq);
        }
    }
    seqs
}

/// Every pushed event is the stored one, in order, without a gap.
fn check_pushes(watcher: &Watcher, histories: &Histories) -> anyhow::Result<()> {
    let session = watcher.visitor.session;
    let history = histories.get(&session).context("no history")?;
    let mut before = 0;
    for event in watcher.pushes.iter().map(|push| &push["event"]).filter(|event| !event.is_null()) {
        let seq = event["seq"].as_u64().context("no seq")?;
        ensure!(seq == before + 1, "{session}: seq {seq} was pushed after {before}");
        before = seq;
        let stored = serde_json::to_value(history.get(seq as usize - 1).context("pushed, but not stored")?)?;
        ensure!(
            event["text"] == stored["text"] && event["kind"] == stored["kind"],
            "{event} was pushed, {stored} is stored"
        );
    }
    ensure!(before > 0, "{session}: the watcher was told nothing: the test proved nothing");
    Ok(())
}
