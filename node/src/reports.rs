//! Owns reading a shard's figures at its leader. Does not add up those of several shards: who asked does. Invariant: an answer is bounded, and
//! comes from a replica that leads, with everything acknowledged before.

use cluster::shard::Shard;
use proto::peer::ShardReply;
use proto::report::ReportAsk;
use std::sync::Arc;

/// Roll-ups that one answer looks at: a few milliseconds, for which the shard applies nothing.
const ROLLUPS_MAX: usize = 2_000;
/// Stretches of one question.
pub const STRETCHES_MAX: usize = 1_000;

pub async fn report(shard: &Arc<Shard>, ask: &ReportAsk) -> ShardReply {
    if ask.starts.len() > STRETCHES_MAX || !ask.starts.is_sorted() {
        return ShardReply::Unknown;
    }
    match shard.read(|state, rows| state.report(rows, ask, ROLLUPS_MAX)).await {
        Err(reply) => reply,
        Ok(Err(error)) => shard.halt(&error.to_string()),
        Ok(Ok(page)) => ShardReply::Report(page),
    }
}
