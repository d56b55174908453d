//! Owns the verdict after a talk: asks every node and every client, and holds them against each other.
//! Does not cause anything. Invariant: silence is a failure; each question has a deadline.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use node::client::{ChatClient, Config, ResumePoint};
use proto::client::{Event, HistoryFrom};
use proto::ids::SessionId;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::invariants::{assignment, history, replicas, stream};
use crate::wait;
use crate::workload::{Visitor, Workload};

const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(30);
const HISTORY_WITHIN: Duration = Duration::from_secs(60);
const PAGE: u64 = 200;
/// Sessions that are read at once.
const READERS: usize = 16;

/// All events per session, oldest first.
pub type Histories = BTreeMap<SessionId, Vec<Event<'static>>>;

/// What the talk came to, for the test's output.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub acked: usize,
    pub events: usize,
    pub reconnects: u64,
}

/// Checks everything that must hold after the talk has stopped, on every node.
/// # Errors
/// The first promise found broken.
pub async fn check(cluster: &Cluster, load: &Workload) -> anyhow::Result<Tally> {
    let heads = heads(load).await;
    let first = histories(cluster, 1, &load.visitors, &heads).await?;
    caught_up(load, &first).await?;
    let seen = load.seen().await;
    for node in cluster.members() {
        let found = histories(cluster, node.number, &load.visitors, &heads).await?;
        let on_node = || format!("on node {}", node.number);
        history::check_gapless(&found).with_context(on_node)?;
        history::check_acked(&found, &seen).with_context(on_node)?;
        history::check_extends(&found, &first).with_context(on_node)?;
    }
    // The last read, so that it holds all that clients were pushed.
    let last = histories(cluster, 1, &load.visitors, &heads).await?;
    for one in &seen {
        stream::check(one, &last).with_context(|| format!("{:?}", one.who))?;
    }
    assignment::check_one_agent_at_a_time(&last)?;
    let tally = Tally {
        acked: seen.iter().map(|one| one.acked.len()).sum(),
        events: last.values().map(Vec::len).sum(),
        reconnects: seen.iter().map(|one| one.reconnects).sum(),
    };
    drop(seen);
    replicas::check_same_state(cluster).await?;
    ensure!(tally.acked > 0, "nothing was acked: the talk proved nothing");
    Ok(tally)
}

/// Waits until every visitor has been told everything up to the heads in `histories`.
async fn caught_up(load: &Workload, histories: &Histories) -> anyhow::Result<()> {
    let mut behind = String::new();
    let done = wait::until("every visitor has seen its session's head", CAUGHT_UP_WITHIN, async || {
        let seen = load.seen().await;
        for visitor in &load.visitors {
            let head = histories.get(&visitor.session).and_then(|events| events.last()).map_or(0, |event| event.seq);
            let one = seen.iter().find(|one| one.who == visitor.party)?;
            let has = one.events.get(&visitor.session).and_then(|events| events.last()).map_or(0, |event| event.seq);
            if has < head {
                behind = format!("{:?} has {has} of {head}", visitor.party);
                return None;
            }
        }
        Some(())
    });
    done.await.with_context(|| behind.clone())
}

/// The newest seq of each session that its visitor has been told.
pub async fn heads(load: &Workload) -> BTreeMap<SessionId, u64> {
    let seen = load.seen().await;
    let last = seen.iter().flat_map(|one| &one.events).map(|(session, events)| (*session, events.last()));
    let mut heads = BTreeMap::new();
    for (session, event) in last {
        let head = heads.entry(session).or_insert(0);
        *head = event.map_or(0, |event| event.seq).max(*head);
    }
    heads
}

/// Reads the whole history of every visitor's session at one node.
/// # Errors
/// The node does not answer in time.
pub async fn histories(
    cluster: &Cluster,
    number: u64,
    visitors: &[Visitor],
    heads: &BTreeMap<SessionId, u64>,
) -> anyhow::Result<Histories> {
    let addr = &cluster.node(number).client;
    let mut found = Histories::new();
    let mut readers = JoinSet::new();
    let mut rest = visitors.iter();
    loop {
        while readers.len() < READERS
            && let Some(visitor) = rest.next()
        {
            let head = heads.get(&visitor.session).copied().unwrap_or(0);
            readers.spawn(read_all(addr.clone(), visitor.clone(), head));
        }
        let Some(read) = readers.join_next().await else { return Ok(found) };
        let (session, events) = read?.with_context(|| format!("history at node {number}"))?;
        found.insert(session, events);
    }
}

async fn read_all(addr: String, visitor: Visitor, head: u64) -> anyhow::Result<(SessionId, Vec<Event<'static>>)> {
    let session = visitor.session;
    // From the far end, so that the socket is not told what `history` will list; its items are dropped unread.
    let resume = vec![ResumePoint { session, seq: head, last_n: 0 }];
    let config = Config { resume, ..Config::new(vec![addr], visitor.token, visitor.party) };
    let (client, items) = ChatClient::start(config);
    drop(items);
    let reading = async {
        let mut events = Vec::new();
        loop {
            let after = events.last().map_or(0, |event: &Event<'_>| event.seq);
            let page = client.history(session, HistoryFrom::After(after), Some(PAGE)).await?;
            let is_last = page.events.last().is_none_or(|event| event.seq >= page.head);
            ensure!(!page.events.is_empty() || page.head == after, "{session}: an empty page below head {}", page.head);
            events.extend(page.events);
            if is_last {
                return Ok((session, events));
            }
        }
    };
    tokio::time::timeout(HISTORY_WITHIN, reading).await.with_context(|| format!("history of {session}"))?
}
