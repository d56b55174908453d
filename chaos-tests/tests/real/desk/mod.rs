//! Owns the tests of the desk on real nodes: who is asked, who takes, who waits where, whatever node dies. Does not test the rules
//! case by case: `chat/src/tests` does. Invariant: each complaint that people have of such systems is a test by its name.

mod accepts;
mod acts;
mod complaints;
mod devices;
mod events;
mod race;
mod scarce;
mod supervisors;
mod waits;
mod webhooks;

use anyhow::{Context, ensure};
use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::person::Person;
use chaos_tests::wait;
use node::client::ClientError;
use proto::client::ErrorCode;
use proto::command::Target;
use proto::ids::{AgentId, SiteId};
use serde_json::Value;

const PASSWORD: &str = "correct horse battery staple";
/// The first site of a cluster.
const DESK: Target = Target::Desk(SiteId(1));

/// `everdesk admin`, as JSON.
async fn admin(cluster: &Cluster, args: &[&str]) -> anyhow::Result<Value> {
    let args = [&["admin"], args, &["--json"]].concat();
    let text = cluster.command(&args, "").await?;
    serde_json::from_str(&text).with_context(|| format!("{args:?}: {text}"))
}

/// The same, for what answers nothing.
async fn admin_done(cluster: &Cluster, args: &[&str]) -> anyhow::Result<()> {
    cluster.command(&[&["admin"], args].concat(), "").await.map(drop)
}

async fn set_team(cluster: &Cluster, team: &str, args: &[&str]) -> anyhow::Result<()> {
    admin(cluster, &[&["teams", "set", SITE, team, "--name", team], args].concat()).await.map(drop)
}

async fn set_seat(cluster: &Cluster, agent: AgentId, capacity: u32, args: &[&str]) -> anyhow::Result<()> {
    let (agent, capacity) = (agent.to_string(), capacity.to_string());
    admin(cluster, &[&["seats", "set", SITE, &agent, "--capacity", &capacity], args].concat()).await.map(drop)
}

async fn desk(cluster: &Cluster) -> anyhow::Result<Value> {
    admin(cluster, &["desks", "show", SITE]).await
}

async fn people<const N: usize>(cluster: &Cluster, names: [&str; N]) -> anyhow::Result<Vec<(AgentId, Person)>> {
    let mut people = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        cluster.add_agent(name, PASSWORD).await?;
        people.push(Person::agent(cluster, name, PASSWORD, at).await?);
    }
    Ok(people)
}

/// The code of a refusal.
fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> anyhow::Result<ErrorCode> {
    match answer {
        Err(ClientError::Refused(error)) => Ok(error.code),
        other => anyhow::bail!("not refused: {other:?}"),
    }
}

/// The node that leads a shard.
async fn leader(cluster: &Cluster, target: Target) -> anyhow::Result<u64> {
    let overview = cluster.overview().await?;
    let shard = target.shard(overview.data_shards().count() as u32).to_string();
    let found = wait::until("the shard has a leader", wait_within(), async || {
        let view = admin(cluster, &["shards", "show", &shard]).await.ok()?;
        view["leader"].as_str()?.trim_start_matches('n').parse::<u64>().ok()
    });
    found.await
}

fn wait_within() -> std::time::Duration {
    chaos_tests::person::SOON
}

/// Nobody waits, and nobody has anything.
async fn is_empty(cluster: &Cluster) -> anyhow::Result<()> {
    let empty = wait::until("the desk is empty", wait_within(), async || {
        let view = desk(cluster).await.ok()?;
        let seats = view["seats"].as_array()?;
        (view["queued"] == 0 && seats.iter().all(|seat| seat["open"] == 0)).then_some(())
    });
    let done = empty.await;
    ensure!(done.is_ok(), "{}", desk(cluster).await?);
    Ok(())
}
