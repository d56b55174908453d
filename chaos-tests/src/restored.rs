//! Owns the checks of a cluster that was restored or recovered: what it must hold, what it may lack, and that it goes on. Does not
//! restore. Invariant: whatever is there is what the old cluster had, at the same place.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use node::client::{ChatClient, Config, Item, http};
use proto::client::{Event, EventKind, Party};
use proto::ids::{AgentId, SessionId};

use crate::cluster::{Cluster, SITE};
use crate::invariants::{assignment, history};
use crate::oracle::Histories;
use crate::wait;
use crate::workload::{Acked, Visitor, Workload};

const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Everything that was acked so far.
pub async fn acked(load: &Workload) -> Vec<Acked> {
    load.seen().await.iter().flat_map(|seen| seen.acked.clone()).collect()
}

/// Each session's history is gapless, no text stands twice, and no visitor had two agents; each acked message up to the head of
/// its session stands at its seq. Returns the acked messages that are beyond it.
/// # Errors
/// The first that is lost, doubled or moved.
pub fn check_held<'a>(found: &Histories, acked: &'a [Acked]) -> anyhow::Result<Vec<&'a Acked>> {
    history::check_gapless(found)?;
    assignment::check_one_agent_at_a_time(found)?;
    let mut places = BTreeMap::new();
    for (session, events) in found {
        for event in events {
            let EventKind::Message { text, .. } = &event.kind else { continue };
            let before = places.insert((*session, text.as_ref()), event.seq);
            ensure!(before.is_none(), "{session}: `{text:.20}` stands at {before:?} and at {}", event.seq);
        }
    }
    let mut beyond = Vec::new();
    for one in acked {
        let head = found.get(&one.session).map_or(0, |events| events.len() as u64);
        match places.get(&(one.session, one.text.as_str())) {
            Some(seq) => {
                ensure!(*seq == one.seq, "{}: `{:.20}` moved from {} to {seq}", one.session, one.text, one.seq)
            }
            None if one.seq > head => beyond.push(one),
            None => anyhow::bail!("{}: `{:.20}`, acked at {} below {head}, is lost", one.session, one.text, one.seq),
        }
    }
    Ok(beyond)
}

/// Who has the open conversation, as a history tells it.
fn agent_of(events: &[Event<'static>]) -> Option<AgentId> {
    let mut owner = None;
    for event in events {
        match event.kind {
            EventKind::Assigned { agent } => owner = Some(agent),
            EventKind::Closed { .. } | EventKind::Queued { .. } => owner = None,
            EventKind::Message { .. }
            | EventKind::Act { .. }
            | EventKind::Gone
            | EventKind::Erased { .. }
            | EventKind::Hidden => {}
        }
    }
    owner
}

/// An agent logs in with the old password, hears an old visitor who speaks with an old token, answers, and closes.
/// # Errors
/// Somebody cannot go on.
pub async fn check_goes_on(
    cluster: &Cluster,
    found: &Histories,
    visitors: &[Visitor],
    agents: &[AgentId],
    password: &str,
) -> anyhow::Result<()> {
    let held: BTreeMap<SessionId, AgentId> =
        found.iter().filter_map(|(session, events)| Some((*session, agent_of(events)?))).collect();
    ensure!(!held.is_empty(), "no conversation is open with an agent: this proves nothing");
    let nodes = cluster.clients_from(0);
    let mut desks = BTreeMap::new();
    for (number, agent) in agents.iter().enumerate() {
        let login = http::login(&nodes[0], SITE, &format!("agent-{number}"), password).await.context("login")?;
        ensure!(login.agent == *agent, "agent-{number} was {agent} and is {}", login.agent);
        desks.insert(*agent, ChatClient::start(Config::new(nodes.clone(), login.token, Party::Agent(*agent))));
    }
    for visitor in visitors.iter().filter(|visitor| held.contains_key(&visitor.session)).take(4) {
        let session = visitor.session;
        let (desk, items) = desks.get_mut(&held[&session]).context("an agent who is none of ours")?;
        let (client, own) = ChatClient::start(Config::new(nodes.clone(), visitor.token.clone(), visitor.party));
        drop(own);
        let text = format!("still there, {session}?");
        let head = found[&session].len() as u64;
        let going_on = async {
            let ack = client.send(session, text.clone()).await?;
            ensure!(ack.seq == head + 1, "{session}: the next seq is {}, the head was {head}", ack.seq);
            loop {
                let item = items.recv().await.context("the agent's client stopped")?;
                if let Item::Event(event) = item
                    && event.session == session
                    && matches!(&event.kind, EventKind::Message { text: heard, .. } if *heard == text)
                {
                    break;
                }
            }
            desk.send(session, format!("yes, {session}")).await.context("the agent's answer")?;
            desk.close(session).await.context("the agent's close")
        };
        tokio::time::timeout(ANSWER_WITHIN, going_on).await.with_context(|| format!("{session} does not go on"))??;
    }
    Ok(())
}

/// Waits until every group of a restored cluster has a leader and the voters of a cluster of its size.
/// # Errors
/// Not in time.
pub async fn wait_whole(cluster: &Cluster, within: Duration) -> anyhow::Result<()> {
    let mut last = String::new();
    let whole = wait::until("every group has its voters", within, async || {
        let status = match cluster.overview().await {
            Ok(status) => status,
            Err(error) => {
                last = format!("{error:#}");
                return None;
            }
        };
        last = status.raw.to_string();
        status.has_voters(cluster.members().count()).then_some(())
    });
    whole.await.with_context(|| last)
}
