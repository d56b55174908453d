//! Owns the test of sockets whose packets vanish without a word: both ways, and one way only. Does not cut nodes from each other.
//! Invariant: a cut that dropped no packet fails the test.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::lab::net::{CLIENT_PORT, End, Network};
use chaos_tests::lab::shapes;
use chaos_tests::person::{Person, Told};
use chaos_tests::wait;
use node::client::{Config, http};
use proto::client::http::VisitorCreated;
use proto::client::limits::{ANSWER_WITHIN, PING_EVERY, PRESENCE_GRACE, SILENT_PINGS_MAX, UNTAKEN_MAX};
use proto::client::{EventKind, Party};
use tokio::task::JoinSet;

const PASSWORD: &str = "correct horse battery staple";
/// A node lets go of a socket that it does not hear within this: it looks with every ping that is due.
const PATIENCE: Duration = Duration::from_secs(PING_EVERY.as_secs() * (SILENT_PINGS_MAX as u64 + 1));
/// For everything that is no waiting: machines of tests are slow.
const SLACK: Duration = Duration::from_secs(10);

fn client(cluster: &Cluster, nodes: &[u64], token: &str, me: Party) -> Person {
    let nodes = nodes.iter().map(|number| cluster.node(*number).client.clone()).collect();
    Person::start(Config::new(nodes, token.to_owned(), me))
}

/// Another tab of a visitor, who begins at the first of these nodes and knows no others.
fn tab(cluster: &Cluster, nodes: &[u64], visitor: &VisitorCreated) -> Person {
    client(cluster, nodes, &visitor.token, Party::Visitor(visitor.visitor))
}

/// How often a text was told, and that nothing else was doubled, left out or in another order.
fn count_of(told: &Told, visitor: &VisitorCreated, text: &str) -> anyhow::Result<usize> {
    let events: Vec<_> = told.events.iter().filter(|event| event.session == visitor.session).collect();
    let mut seqs = events.iter().map(|event| event.seq);
    let first = seqs.next().unwrap_or(0);
    ensure!(seqs.clone().eq(first + 1..=first + seqs.len() as u64), "told {:?}", events);
    let is_it = |kind: &EventKind<'_>| matches!(kind, EventKind::Message { text: said, .. } if said == text);
    Ok(events.iter().filter(|event| is_it(&event.kind)).count())
}

async fn hears(person: &Person, visitor: &VisitorCreated, text: &str, within: Duration) -> anyhow::Result<()> {
    let found = |told: &Told| count_of(told, visitor, text).ok().filter(|count| *count > 0);
    person.wait_for(&format!("`{text}` is told"), within, found).await?;
    let count = count_of(&person.told.lock(), visitor, text)?;
    ensure!(count == 1, "`{text}` was told {count} times");
    Ok(())
}

/// How many sockets a node has.
async fn sockets(cluster: &Cluster, number: u64) -> anyhow::Result<u64> {
    let listed = cluster.sockets(number).await?;
    listed["count"].as_u64().with_context(|| listed.to_string())
}

async fn has_sockets(cluster: &Cluster, number: u64, count: u64, within: Duration) -> anyhow::Result<()> {
    let have = async || (sockets(cluster, number).await.ok()? == count).then_some(());
    let waited = wait::until(&format!("n{number} has {count} sockets"), within, have).await;
    let now = sockets(cluster, number).await?;
    waited.with_context(|| format!("it has {now}"))
}

async fn dropped(cluster: &Cluster, before: u64) -> anyhow::Result<u64> {
    let now = cluster.network()?.dropped()?.by_cuts;
    ensure!(now > before, "no packet was dropped: this proved nothing");
    Ok(now)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_whose_packets_vanish_is_replaced_without_a_restart() -> anyhow::Result<()> {
    if let Err(why) = Network::available() {
        chaos_tests::lab::skipped(&why);
        return Ok(());
    }
    let mut cluster = Cluster::start_in(Network::new(3)?).await?;
    both_ways(&mut cluster).await?;
    let before = cluster.network()?.dropped()?.by_cuts;
    the_nodes_words(&cluster).await?;
    let before = dropped(&cluster, before).await?;
    the_clients_words(&cluster).await?;
    dropped(&cluster, before).await?;
    // Not even the end of a connection gets through behind what was not acknowledged: each node has its own patience.
    let cut_at = Instant::now();
    for number in [3, 2] {
        has_sockets(&cluster, number, 0, PATIENCE.saturating_sub(cut_at.elapsed()) + SLACK).await?;
        println!("one way: n{number} has let go {:?} after that", cut_at.elapsed());
    }
    cluster.network()?.heal_all()
}

/// Nothing passes between n1 and its clients, for longer than the node is patient: an agent who knows no other node, a visitor
/// who does, and one who has nothing to say.
async fn both_ways(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.add_agent("ann", PASSWORD).await?;
    let login = http::login(&cluster.node(2).client, SITE, "ann", PASSWORD).await?;
    let ann = client(cluster, &[1], &login.token, Party::Agent(login.agent));
    ann.wait("the agent has a seat", |told| told.seat.clone()).await?;
    let visitor = http::create_visitor(&cluster.node(2).client, SITE).await?;
    let quiet = http::create_visitor(&cluster.node(2).client, SITE).await?;
    let (walker, other) = (tab(cluster, &[1, 2, 3], &visitor), tab(cluster, &[2], &visitor));
    walker.client.send(visitor.session, "hello").await?;
    for person in [&walker, &other, &ann] {
        person.wait("the agent has it", |told| told.holder(visitor.session)).await?;
    }
    let idle = tab(cluster, &[1, 3], &quiet);
    has_sockets(cluster, 1, 3, SLACK).await?;

    cluster.network()?.set_cuts(&shapes::clients_of(1))?;
    let cut_at = Instant::now();
    let left = |within: Duration| within.saturating_sub(cut_at.elapsed());
    let (from_ann, session) = (ann.client.clone(), visitor.session);
    let mut from_the_dark = JoinSet::new();
    from_the_dark.spawn(async move { from_ann.send(session, "from the dark").await });
    let sent = tokio::time::timeout(ANSWER_WITHIN + SLACK, walker.client.send(session, "into the dark")).await;
    sent.context("the visitor's send has no ack in time")??;
    println!("both ways: acked elsewhere after {:?}", cut_at.elapsed());
    other.client.send(session, "from the other tab").await?;
    for text in ["into the dark", "from the other tab"] {
        hears(&walker, &visitor, text, SLACK).await?;
        hears(&other, &visitor, text, SLACK).await?;
    }
    let noticed = async || (idle.client.stats().reconnects.load(Ordering::Relaxed) > 0).then_some(());
    let within = left(PING_EVERY + ANSWER_WITHIN + SLACK);
    wait::until("who has nothing to say notices at the next ping", within, noticed).await?;
    println!("both ways: noticed by who says nothing after {:?}", cut_at.elapsed());

    has_sockets(cluster, 1, 0, left(PATIENCE + SLACK)).await?;
    println!("both ways: the node has let go after {:?}", cut_at.elapsed());
    let gone = |told: &Told| told.presence.last().filter(|presence| !presence.online).map(drop);
    other.wait_for("the agent is gone", left(PATIENCE + PRESENCE_GRACE + SLACK), gone).await?;
    println!("both ways: the agent counts as gone after {:?}", cut_at.elapsed());
    let process = cluster.process(1).context("not running")?;
    let no_callers = async || process.callers_of(CLIENT_PORT).is_empty().then_some(());
    wait::until("no connection is left at n1", left(PATIENCE + UNTAKEN_MAX + SLACK), no_callers).await?;

    // The same clients go on when there is a way again.
    cluster.network()?.heal_all()?;
    let sent = tokio::time::timeout(ANSWER_WITHIN + SLACK, from_the_dark.join_next()).await;
    sent.context("the agent's send has no ack in time")?.context("nothing was sent")???;
    let there = |told: &Told| told.presence.last().filter(|presence| presence.online).map(drop);
    other.wait("the agent is there again", there).await?;
    for person in [&ann, &walker, &other] {
        for text in ["into the dark", "from the other tab", "from the dark"] {
            hears(person, &visitor, text, SLACK).await?;
        }
    }
    has_sockets(cluster, 1, 1, SLACK).await?;
    ensure!(cluster.figure(1, "chat_active_connections").await? == 1.0, "the gauge of n1 says something else");
    Ok(())
}

/// What n3 says does not arrive; what it is told does. A send is stored, and its ack is lost.
async fn the_nodes_words(cluster: &Cluster) -> anyhow::Result<()> {
    let visitor = http::create_visitor(&cluster.node(2).client, SITE).await?;
    let (walker, other) = (tab(cluster, &[3, 1], &visitor), tab(cluster, &[1], &visitor));
    for (person, text) in [(&walker, "one"), (&other, "two")] {
        person.client.send(visitor.session, text).await?;
    }
    hears(&walker, &visitor, "two", SLACK).await?;
    cluster.network()?.cut(&[(End::Node(3), End::Harness)])?;
    let cut_at = Instant::now();
    let sent = tokio::time::timeout(ANSWER_WITHIN + SLACK, walker.client.send(visitor.session, "three")).await;
    let ack = sent.context("no ack in time")??;
    println!("from the node only: acked elsewhere after {:?}, dup {}", cut_at.elapsed(), ack.dup);
    ensure!(ack.dup, "the first copy was not stored: this proved nothing");
    for person in [&walker, &other] {
        hears(person, &visitor, "three", SLACK).await?;
    }
    Ok(())
}

/// What n2 is told does not arrive; what it says does, as far as it goes without an answer of the other machine.
async fn the_clients_words(cluster: &Cluster) -> anyhow::Result<()> {
    let visitor = http::create_visitor(&cluster.node(1).client, SITE).await?;
    let (walker, other) = (tab(cluster, &[2, 1], &visitor), tab(cluster, &[1], &visitor));
    for (person, text) in [(&walker, "one"), (&other, "two")] {
        person.client.send(visitor.session, text).await?;
    }
    hears(&walker, &visitor, "two", SLACK).await?;
    cluster.network()?.cut(&[(End::Harness, End::Node(2))])?;
    let cut_at = Instant::now();
    let (chat, session) = (walker.client.clone(), visitor.session);
    let mut sending = JoinSet::new();
    sending.spawn(async move { chat.send(session, "three").await });
    let within = PING_EVERY * 2 + ANSWER_WITHIN + SLACK;
    let mut said = BTreeSet::new();
    // Meanwhile there is always something to hear.
    loop {
        ensure!(cut_at.elapsed() < within, "no ack in time");
        let text = format!("meanwhile {}", said.len());
        other.client.send(session, text.clone()).await?;
        said.insert(text);
        if let Ok(Some(sent)) = tokio::time::timeout(Duration::from_millis(500), sending.join_next()).await {
            sent??;
            break;
        }
    }
    println!("from the client only: acked elsewhere after {:?}", cut_at.elapsed());
    for person in [&walker, &other] {
        for text in said.iter().map(String::as_str).chain(["three"]) {
            hears(person, &visitor, text, SLACK).await?;
        }
    }
    Ok(())
}
