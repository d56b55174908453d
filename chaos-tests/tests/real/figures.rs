//! Owns the tests of what operators see: the dashboard's and the alerts' figures beside what nodes export. Does not break anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::workload::{Shape, Workload};
use chaos_tests::{http as plain, wait};
use node::client::{ChatClient, Config, http};
use proto::client::Party;

const PASSWORD: &str = "correct horse battery staple";
const SOON: Duration = Duration::from_secs(15);
/// The series that are there only once something went wrong.
const ONLY_AFTER_A_FAULT: [&str; 1] = ["chat_errors_sent_total{code!=\"\"}"];

fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/monitoring")
}

/// The names of series in expressions of Prometheus' language; other words of it do not begin so.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.starts_with("chat_")).map(str::to_owned).collect()
}

/// Title and expressions of every panel.
fn panels() -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let text = std::fs::read_to_string(monitoring().join("dashboards/everdesk.json"))?;
    let board: serde_json::Value = serde_json::from_str(&text)?;
    let mut panels = BTreeMap::new();
    for panel in board["panels"].as_array().context("no panels")? {
        let title = panel["title"].as_str().context("a panel without a title")?.to_owned();
        let exprs = panel["targets"].as_array().into_iter().flatten();
        let exprs: Vec<String> = exprs.filter_map(|target| target["expr"].as_str().map(str::to_owned)).collect();
        anyhow::ensure!(!exprs.is_empty(), "{title}: shows nothing");
        anyhow::ensure!(panels.insert(title.clone(), exprs).is_none(), "two panels are called {title}");
    }
    Ok(panels)
}

/// The series of a node as `name` -> sum over its labels. Buckets and quantiles count too.
async fn series(client: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let text = plain::get(client, "/metrics", &[]).await?.text();
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').with_context(|| format!("no value: {line}"))?;
        let name = series.split('{').next().unwrap_or(series).to_owned();
        *all.entry(name).or_insert(0.0) += value.parse::<f64>().with_context(|| format!("no number: {line}"))?;
    }
    Ok(all)
}

/// The sum of one figure over all nodes.
async fn total(cluster: &Cluster, name: &str) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for node in cluster.nodes() {
        sum += series(&node.client).await?.get(name).copied().unwrap_or(0.0);
    }
    Ok(sum)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_figure_of_the_dashboard_and_the_alerts_is_exported_by_a_node_under_load() -> anyhow::Result<()> {
    let panels = panels()?;
    for part in ["Connections", "Messages per second", "p99 of each stage of a message", "Leaders per node"] {
        assert!(panels.contains_key(part), "no panel {part}");
    }
    for part in ["Replication lag", "Queue and agents", "Actors"] {
        assert!(panels.contains_key(part), "no panel {part}");
    }
    let alerts = std::fs::read_to_string(monitoring().join("alerts.yml"))?;
    let exprs: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert_eq!(exprs.len(), alerts.matches("- alert: ").count(), "an alert has its expression on one line");

    let cluster = Cluster::start(3).await?;
    let mut load = Workload::start(&cluster, &Shape { visitors: 30, ..Shape::default() }).await?;
    load.talk(1_000, Duration::from_secs(60)).await?;

    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    for node in cluster.nodes() {
        let here = series(&node.client).await?;
        let shown =
            panels.iter().flat_map(|(title, exprs)| exprs.iter().map(move |expr| (title.as_str(), expr.as_str())));
        for (title, expr) in shown.chain(exprs.iter().map(|expr| ("alerts.yml", *expr))) {
            if ONLY_AFTER_A_FAULT.iter().any(|part| expr.contains(part)) {
                continue;
            }
            for name in names_in(expr) {
                assert!(here.contains_key(&name), "{title}: node {} exports no {name}", node.number);
            }
        }
        for (name, value) in here {
            *sums.entry(name).or_default() += value;
        }
    }
    // A curve that stays at zero under load shows nothing.
    for (title, exprs) in &panels {
        let moves = exprs.iter().flat_map(|expr| names_in(expr)).any(|name| sums[&name] > 0.0);
        let quiet = ["Faults", "Shards without a leader", "Dead nodes", "Replication lag", "Waiting visitors"];
        assert!(
            moves || exprs[0].contains("up{") || quiet.contains(&title.as_str()),
            "{title}: all is zero under load"
        );
    }
    for stage in ["decode", "route", "propose", "fsync", "commit", "apply", "push"] {
        assert!(sums[&format!("chat_stage_{stage}_seconds_count")] > 0.0, "nothing went through stage {stage}");
    }
    assert_eq!(sums["chat_cluster_shards_led_count"], sums["chat_cluster_shards_count"] / 3.0, "one leader per shard");
    assert_eq!(sums["chat_cluster_nodes_up_count"], 9.0, "each of three nodes sees three");
    load.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_figures_of_the_desk_follow_who_waits_and_who_is_served() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    cluster.add_agent("ann", PASSWORD).await?;
    let nodes = cluster.clients_from(0);
    let new = http::create_visitor(&nodes[0], SITE).await?;
    let (visitor, _items) = ChatClient::start(Config::new(nodes.clone(), new.token, Party::Visitor(new.visitor)));
    visitor.send(new.session, "is anybody there?").await?;

    let desk = async |waiting: f64, assigned: f64, online: f64| {
        let what = format!("{waiting} wait, {assigned} have an agent, {online} agents are online");
        wait::until(&what, SOON, async || {
            let is = [
                total(&cluster, "chat_desk_waiting_count").await.ok()?,
                total(&cluster, "chat_desk_assigned_count").await.ok()?,
                total(&cluster, "chat_desk_agents_online_count").await.ok()?,
            ];
            (is == [waiting, assigned, online]).then_some(())
        })
        .await
    };
    desk(1.0, 0.0, 0.0).await?;
    assert_eq!(total(&cluster, "chat_agent_actors_count").await?, 0.0);
    let login = http::login(&nodes[1], SITE, "ann", PASSWORD).await?;
    let (agent, _events) = ChatClient::start(Config::new(nodes, login.token, Party::Agent(login.agent)));
    desk(0.0, 1.0, 1.0).await?;
    assert_eq!(total(&cluster, "chat_agent_actors_count").await?, 1.0);
    assert!(total(&cluster, "chat_session_actors_count").await? >= 1.0);
    agent.close(new.session).await?;
    desk(0.0, 0.0, 1.0).await
}
