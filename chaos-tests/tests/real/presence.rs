//! Owns the test of who is there: an agent's going and coming as its visitors see it, and what the agent is told afterwards.

use std::time::Duration;

use anyhow::Context;
use chaos_tests::cluster::{Cluster, SITE};
use node::client::{ChatClient, Config, Item, ResumePoint, http};
use proto::client::limits::PRESENCE_GRACE;
use proto::client::{Event, EventKind, Party};
use proto::ids::SessionId;
use tokio::sync::mpsc;

const PASSWORD: &str = "correct horse battery staple";
const SOON: Duration = Duration::from_secs(15);

/// The next item that `want` takes.
async fn next<T>(
    what: &str,
    items: &mut mpsc::Receiver<Item>,
    within: Duration,
    want: impl Fn(Item) -> Option<T>,
) -> anyhow::Result<T> {
    let found = async {
        while let Some(item) = items.recv().await {
            if let Item::ProtocolViolation(violation) = &item {
                anyhow::bail!("{violation}");
            }
            if let Some(found) = want(item) {
                return Ok(found);
            }
        }
        anyhow::bail!("the client ended")
    };
    tokio::time::timeout(within, found).await.with_context(|| format!("not in time: {what}"))?
}

fn event_of(session: SessionId, seq: u64) -> impl Fn(Item) -> Option<Event<'static>> {
    move |item| match item {
        Item::Event(event) if event.session == session && event.seq == seq => Some(event),
        _ => None,
    }
}

fn presence(item: Item) -> Option<bool> {
    if let Item::Presence(presence) = item { Some(presence.online) } else { None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_see_their_agent_go_and_come_and_the_agent_sees_what_ended_meanwhile() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    cluster.add_agent("ann", PASSWORD).await?;
    let login = http::login(&cluster.node(3).client, SITE, "ann", PASSWORD).await?;
    let me = Party::Agent(login.agent);
    let (agent, mut to_agent) = ChatClient::start(Config::new(cluster.clients_from(2), login.token.clone(), me));
    let mut visitors = Vec::new();
    for _ in 0..2 {
        let new = http::create_visitor(&cluster.node(2).client, SITE).await?;
        let config = Config::new(cluster.clients_from(1), new.token, Party::Visitor(new.visitor));
        let (client, mut items) = ChatClient::start(config);
        client.send(new.session, "hello").await?;
        next("the agent is assigned", &mut items, SOON, event_of(new.session, 2)).await?;
        next("the agent learns of it", &mut to_agent, SOON, event_of(new.session, 2)).await?;
        visitors.push((new.session, client, items));
    }
    drop((agent, to_agent));

    // While the agent is away one conversation ends; the other's visitor is told that nobody is there.
    let (ended, client, _items) = visitors.pop().context("the second visitor")?;
    client.close(ended).await?;
    let (open, _client, mut items) = visitors.pop().context("the first visitor")?;
    let gone = next("the visitor hears that the agent went", &mut items, PRESENCE_GRACE + SOON, presence).await?;
    assert!(!gone, "told of an agent who is online, but the agent has gone");

    let resume = [open, ended].map(|session| ResumePoint { session, seq: 2, last_n: 0 }).to_vec();
    let config = Config { resume, ..Config::new(cluster.clients_from(0), login.token, me) };
    let (_agent, mut to_agent) = ChatClient::start(config);
    let closed = next("the agent hears what ended", &mut to_agent, SOON, event_of(ended, 3)).await?;
    assert!(matches!(closed.kind, EventKind::Closed { by: Party::Visitor(_), .. }), "{closed:?}");
    assert!(next("the visitor hears that the agent came", &mut items, SOON, presence).await?);
    Ok(())
}
