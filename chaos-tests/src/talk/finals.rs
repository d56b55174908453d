//! Owns the last reading: every session, whole, through every node. Does not compare.
//! Invariant: a node that does not answer is an error, not an empty history.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use node::client::{Config, ResumePoint};
use proto::client::{HistoryFrom, Party};
use proto::ids::{SessionId, VisitorId};

use super::client::{event_of, name};
use super::ways::Ways;
use crate::history::{Body, NodeId, Recorder};

const PAGE: u64 = 200;
/// One session through one node.
const WITHIN: Duration = Duration::from_secs(30);

/// Reads the sessions of these tokens through every node into the book.
/// # Errors
/// A node does not answer in time.
pub async fn read_finals<W: Ways>(
    ways: &W,
    book: &Recorder,
    tokens: BTreeMap<SessionId, String>,
) -> anyhow::Result<()> {
    for (node, address) in ways.nodes() {
        for (session, token) in &tokens {
            let read = tokio::time::timeout(WITHIN, read(ways, &address, *session, token.clone()));
            let events = read.await.with_context(|| format!("{session} through node {node}"))??;
            book.record(Body::Final { node: NodeId(node.0), session: name(*session), events });
        }
    }
    Ok(())
}

async fn read<W: Ways>(
    ways: &W,
    address: &str,
    session: SessionId,
    token: String,
) -> anyhow::Result<Vec<crate::history::Event>> {
    // Whose token it is the node knows; the client needs a party only to tell its own messages.
    let me = Party::Visitor(VisitorId(0));
    let resume = vec![ResumePoint { session, seq: 0, last_n: 0 }];
    let config = Config { resume, ..Config::new(vec![address.to_owned()], token, me) };
    let (chat, items) = ways.connect(config);
    drop(items);
    let mut events = Vec::new();
    loop {
        let after = events.last().map_or(0, |event: &crate::history::Event| event.seq.0);
        let page = chat.history(session, HistoryFrom::After(after), Some(PAGE)).await?;
        events.extend(page.events.iter().map(event_of));
        let read = events.last().map_or(0, |event| event.seq.0);
        ensure!(read > after || read >= page.head, "{session}: no events after {after}, but the head is {}", page.head);
        if read >= page.head {
            return Ok(events);
        }
    }
}
