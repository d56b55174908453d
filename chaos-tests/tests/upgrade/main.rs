//! Owns the test of a rolling upgrade: two builds, one cluster, visitors who talk throughout. `make upgrade-test` runs it.
//! Does not compare builds. Invariant: a build that stands for the next release is never shipped.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use chaos_tests::cluster::{Cluster, ShardStatus, binary};
use chaos_tests::workload::{Shape, Workload};
use chaos_tests::{http, oracle, restored, wait};

const TALK_WITHIN: Duration = Duration::from_secs(120);
const STOP_WITHIN: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(60);
/// What the test of the setting sets; the talk after each change of a build takes less.
const AFTER: Duration = Duration::from_secs(20);
/// A leader keeps 2,000 entries for followers that were away briefly; above that, a new one gets a snapshot.
const PAST_THE_LOG: u64 = 3_500;
/// Logs are cut every 30 s.
const CUT_BY: Duration = Duration::from_secs(35);
const PAST_THE_LOG_WITHIN: Duration = Duration::from_secs(180);

/// Few in flight: many small entries, so that logs are cut soon.
const TALK: Shape = Shape {
    visitors: 24,
    agents: 4,
    send_twice: false,
    hop_every: None,
    answer_every: 5,
    close_after: 0,
    pace: Duration::from_millis(2),
};

struct Upgrade {
    cluster: Cluster,
    load: Workload,
    old: PathBuf,
    new: PathBuf,
}

impl Upgrade {
    async fn start() -> anyhow::Result<Upgrade> {
        let new = std::env::var_os("EVERDESK_NEXT_BIN").map(PathBuf::from);
        let new = new.context("EVERDESK_NEXT_BIN names no binary: run `make upgrade-test`")?;
        let cluster = Cluster::start(3).await?;
        let load = Workload::start(&cluster, &TALK).await?;
        let upgrade = Upgrade { cluster, load, old: binary()?, new };
        upgrade.talk().await?;
        Ok(upgrade)
    }

    async fn talk(&self) -> anyhow::Result<()> {
        self.load.talk(3_000, TALK_WITHIN).await
    }

    /// As an operator does it: told to stop, the other binary, started again.
    async fn change(&mut self, node: u64, to: &PathBuf) -> anyhow::Result<()> {
        let process = self.cluster.process(node).context("not running")?;
        process.signal("TERM")?;
        let status = process.wait(STOP_WITHIN).await?;
        assert_eq!(status.code(), Some(0), "{}", self.cluster.log_tail(node));
        self.cluster.use_binary(node, to);
        self.cluster.run(node).await?;
        self.talk().await
    }

    /// One more node with this binary.
    async fn join(&mut self, binary: &PathBuf) -> anyhow::Result<u64> {
        let node = self.cluster.add_node(None)?;
        self.cluster.use_binary(node, binary);
        self.cluster.run(node).await?;
        Ok(node)
    }

    async fn drain(&self, nodes: &[u64], cancel: bool) -> anyhow::Result<()> {
        for node in nodes {
            let name = format!("n{node}");
            let drain = ["admin", "drain", &name, "--cancel"];
            self.cluster.command(if cancel { &drain } else { &drain[..3] }, "").await?;
        }
        if cancel {
            return Ok(());
        }
        let drained = async || {
            let status = self.cluster.overview().await.ok()?;
            nodes.iter().all(|node| status.led_by(*node).is_empty()).then_some(())
        };
        wait::until("nobody of the drained leads", SOON, drained).await
    }

    /// A new node that has no data gets it from leaders of one build only: from others than `drained`.
    async fn snapshot_reaches(&mut self, build: &PathBuf, drained: &[u64]) -> anyhow::Result<u64> {
        self.drain(drained, false).await?;
        // Sessions fall on shards by chance: some shard has many, another may have none.
        let cut = async || {
            let status = self.cluster.overview().await.ok()?;
            let is_long = |shard: &&ShardStatus| shard.applied.is_some_and(|index| index > PAST_THE_LOG);
            let mut long = status.data_shards().filter(is_long);
            long.find(|shard| shard.replicas.iter().any(|replica| drained.contains(&replica.node)))
                .map(|shard| shard.shard)
        };
        let long = wait::until("a log is long enough to be cut", PAST_THE_LOG_WITHIN, cut).await?;
        wait::pause(CUT_BY).await;
        let senders: Vec<u64> =
            self.cluster.members().map(|node| node.number).filter(|node| !drained.contains(node)).collect();
        let sent = |cluster: &Cluster| -> usize {
            senders.iter().map(|node| cluster.log_lines_with(*node, "sending snapshot")).sum()
        };
        let before = sent(&self.cluster);
        let node = self.join(build).await?;
        // While a node is drained nothing moves by itself.
        let status = self.cluster.overview().await?;
        let shard = status.data_shards().find(|shard| shard.shard == long).context("no shards")?;
        let moved =
            shard.replicas.iter().find(|replica| drained.contains(&replica.node)).context("no replica to move")?;
        let (replica, to) = (format!("r{}", moved.replica), format!("n{node}"));
        self.cluster.command(&["admin", "move", &replica, &to], "").await?;
        let taken = async || (sent(&self.cluster) > before).then_some(());
        wait::until("a snapshot is sent to the new node", SOON, taken).await?;
        let holds = async || {
            let status = self.cluster.overview().await.ok()?;
            let voter =
                |shard: &ShardStatus| shard.replicas.iter().any(|replica| replica.node == node && replica.voter);
            status.data_shards().any(voter).then_some(())
        };
        wait::until("the new node votes", SOON, holds).await?;
        self.talk().await?;
        self.drain(drained, true).await?;
        Ok(node)
    }

    async fn counted_by_all(&self, name: &str) -> anyhow::Result<u64> {
        let mut sum = 0.0;
        for node in self.cluster.members() {
            sum += self.cluster.figure(node.number, name).await?;
        }
        Ok(sum as u64)
    }

    async fn refused_start(&mut self, node: u64, text: &str) -> anyhow::Result<()> {
        self.cluster.spawn(node).await?;
        let status = self.cluster.process(node).context("not running")?.wait(SOON).await?;
        let log = self.cluster.log_tail(node);
        assert!(!status.success() && log.contains(text), "{status}: {log}");
        Ok(())
    }

    async fn finalize(&self) -> anyhow::Result<()> {
        self.cluster.command(&["admin", "upgrade", "finalize"], "").await?;
        self.wait_version(2).await
    }

    /// The version in force in the cluster and in each shard of node 1.
    async fn versions(&self) -> anyhow::Result<(u64, Vec<u64>)> {
        let text = self.cluster.command(&["admin", "upgrade", "status", "--json"], "").await?;
        let status: serde_json::Value = serde_json::from_str(&text)?;
        let shards = status["shards"].as_array().context("no shards")?;
        let shards = shards.iter().filter_map(|shard| shard["version"].as_u64()).collect();
        Ok((status["version"].as_u64().context("no version")?, shards))
    }

    async fn wait_version(&self, version: u64) -> anyhow::Result<()> {
        let everywhere = async || {
            let (cluster, shards) = self.versions().await.ok()?;
            (cluster == version && shards.iter().all(|shard| *shard == version)).then_some(())
        };
        wait::until(&format!("version {version} is in force"), SOON, everywhere).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_upgraded_node_by_node_while_visitors_talk() -> anyhow::Result<()> {
    let mut up = Upgrade::start().await?;
    let (old, new) = (up.old.clone(), up.new.clone());
    up.change(1, &new).await?;
    // A node of the old build dies in between.
    up.cluster.kill(3);
    up.talk().await?;
    up.cluster.restart(&[3]).await?;
    up.change(2, &new).await?;
    up.cluster.wait_settled().await?;
    let status = up.cluster.overview().await?;
    assert!((1..=3).all(|node| !status.led_by(node).is_empty()), "leaders on both builds: {}", status.raw);
    up.talk().await?;

    // Snapshots both ways: leaders of the new build and a node of the old one, then the other way round.
    let fourth = up.snapshot_reaches(&old, &[3]).await?;
    let fifth = up.snapshot_reaches(&new, &[1, 2]).await?;

    // Back to the old build, and on again.
    up.change(2, &old).await?;
    up.change(2, &new).await?;
    assert_eq!(up.counted_by_all("chat_next_tally_total").await?, 0, "nothing new before it is in force");
    let refused = up.cluster.command(&["admin", "upgrade", "finalize"], "").await.expect_err("two are old");
    let refused = format!("{refused:#}");
    assert!(refused.contains("n3, n4 do not speak a newer version"), "{refused}");
    up.change(3, &new).await?;
    up.change(fourth, &new).await?;
    restored::wait_whole(&up.cluster, SOON).await?;

    // One is away while the version comes into force; it has no mark of it, and its peers tell it.
    let process = up.cluster.process(fifth).context("not running")?;
    process.signal("TERM")?;
    process.wait(STOP_WITHIN).await?;
    up.finalize().await?;
    up.talk().await?;
    up.cluster.use_binary(fifth, &old);
    up.refused_start(fifth, "the cluster is at version 2; this build speaks 1: start one that speaks 2").await?;
    up.cluster.use_binary(fifth, &new);
    up.cluster.run(fifth).await?;
    up.talk().await?;
    for counter in ["chat_next_tally_total", "chat_next_tallied_total"] {
        let moved = async || (up.counted_by_all(counter).await.ok()? > 0).then_some(());
        wait::until(&format!("{counter} moves"), SOON, moved).await?;
    }

    // Too old: by the mark on the directory, and when it would join.
    let process = up.cluster.process(2).context("not running")?;
    process.signal("TERM")?;
    process.wait(STOP_WITHIN).await?;
    up.cluster.use_binary(2, &old);
    up.refused_start(2, "the data directory is at version 2; this build speaks 1: start one that speaks 2").await?;
    up.cluster.use_binary(2, &new);
    up.cluster.run(2).await?;
    let stranger = up.cluster.add_node(None)?;
    up.cluster.use_binary(stranger, &old);
    up.refused_start(stranger, "the cluster is at version 2; this build speaks 1").await?;
    up.cluster.forget(stranger);

    up.talk().await?;
    up.load.stop().await?;
    let tally = oracle::check(&up.cluster, &up.load).await?;
    let (p99, longest) = up.load.waits().await;
    println!("upgraded 5 nodes: {tally:?}; sends p99 {p99:?}, longest {longest:?}");
    assert!(tally.reconnects > 0, "nobody had to move: the upgrade proved nothing");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_comes_into_force_by_itself_once_every_node_has_spoken_it_for_so_long() -> anyhow::Result<()> {
    let mut up = Upgrade::start().await?;
    let (old, new) = (up.old.clone(), up.new.clone());
    let text = up
        .cluster
        .command(&["admin", "settings", "set", "finalize_after_s", "--value", &AFTER.as_secs().to_string()], "")
        .await?;
    assert!(text.contains("20"), "{text}");
    up.change(1, &new).await?;
    up.change(2, &new).await?;
    wait::pause(AFTER + AFTER / 4).await;
    assert_eq!(up.versions().await?.0, 1, "one node is of the old build");
    // All speak it, but not for so long: the time begins anew when one goes back.
    up.change(3, &new).await?;
    up.change(3, &old).await?;
    wait::pause(AFTER + AFTER / 4).await;
    assert_eq!(up.versions().await?.0, 1, "one node is of the old build again");
    up.change(3, &new).await?;
    up.wait_version(2).await?;
    up.talk().await?;
    up.load.stop().await?;
    let tally = oracle::check(&up.cluster, &up.load).await?;
    println!("{tally:?}");
    Ok(())
}
