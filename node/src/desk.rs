//! Owns what is read of a site's desk at the leader of its shard: who waits, and where. Does not decide who gets whom: the rules
//! do. Invariant: an answer is bounded, and comes from a replica that leads.

use cluster::shard::Shard;
use proto::client::limits::QUEUE_LIMIT_MAX;
use proto::ids::{SessionId, SiteId};
use proto::peer::ShardReply;
use proto::shelf::ItemKind;
use std::sync::Arc;

/// Events in one page of a feed.
const FEED_ITEMS_MAX: u32 = 1_000;
/// About so many bytes of events are in one page of a feed.
const FEED_BYTES_MAX: usize = 1 << 20;
/// Entries in one page of an audit chain.
const AUDIT_ENTRIES_MAX: u32 = 1_000;
/// About so many bytes of entries are in one page of an audit chain.
const AUDIT_BYTES_MAX: usize = 1 << 20;
/// Sessions in one question.
pub const PLACES_MAX: usize = 1_000;

/// The first who wait, with everything acknowledged before.
pub async fn queue(shard: &Arc<Shard>, site: SiteId, limit: u32) -> ShardReply {
    let limit = (limit as usize).min(QUEUE_LIMIT_MAX as usize);
    match shard.read(|state, rows| state.waiting(rows, site, limit)).await {
        Err(reply) => reply,
        Ok(Err(error)) => shard.halt(&error.to_string()),
        Ok(Ok((waiting, total))) => ShardReply::Queue { waiting, total },
    }
}

/// Where these stand as this leader knows it, which may be a moment old: it is asked again soon.
pub fn places(shard: &Arc<Shard>, site: SiteId, sessions: &[SessionId]) -> ShardReply {
    let sessions = &sessions[..sessions.len().min(PLACES_MAX)];
    if shard.serving().is_none() {
        return shard.not_leader();
    }
    match shard.peek(|state, rows| state.places(rows, site, sessions)) {
        Ok(places) => ShardReply::Places(places),
        Err(error) => shard.halt(&error.to_string()),
    }
}

/// Whether the site is open as this leader knows it.
pub fn hours(shard: &Arc<Shard>, site: SiteId) -> ShardReply {
    if shard.serving().is_none() {
        return shard.not_leader();
    }
    match shard.peek(|state, rows| state.closed_until(rows, site)) {
        Ok(closed) => ShardReply::Hours { closed },
        Err(error) => shard.halt(&error.to_string()),
    }
}

/// What a site keeps of a kind, with everything acknowledged before.
pub async fn shelf(shard: &Arc<Shard>, site: SiteId, kind: ItemKind) -> ShardReply {
    match shard.read(|state, rows| state.items(rows, site, kind)).await {
        Err(reply) => reply,
        Ok(Err(error)) => shard.halt(&error.to_string()),
        Ok(Ok(items)) => ShardReply::Shelf(items),
    }
}

/// Some of a site's audit chain, with everything acknowledged before.
pub async fn audit(shard: &Arc<Shard>, site: SiteId, after: u64, limit: u32) -> ShardReply {
    let limit = limit.min(AUDIT_ENTRIES_MAX) as usize;
    match shard.read(|state, rows| state.audit(rows, site, after, limit, AUDIT_BYTES_MAX)).await {
        Err(reply) => reply,
        Ok(Err(error)) => shard.halt(&error.to_string()),
        Ok(Ok(page)) => ShardReply::Audit(page),
    }
}

/// What happened at a site in this shard, behind that number, out of applied state: it is committed, whoever leads by now.
pub async fn feed(shard: &Arc<Shard>, site: SiteId, after: u64, limit: u32) -> ShardReply {
    let limit = limit.min(FEED_ITEMS_MAX) as usize;
    if shard.serving().is_none() {
        return shard.not_leader();
    }
    let mut found = shard.peek_whole(|state, rows| state.feed(rows, site, after, limit, FEED_BYTES_MAX)).await;
    if matches!(&found, Ok(page) if page.head < after) {
        // The caller has come further: this leader may have been deposed.
        found = shard.read_whole(|state, rows| state.feed(rows, site, after, limit, FEED_BYTES_MAX)).await;
    }
    match found {
        Ok(page) => ShardReply::Feed(page),
        Err(reply) => reply,
    }
}
