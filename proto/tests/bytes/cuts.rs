//! Owns samples of the calls for backups. Invariant: every variant is there.

use super::samples::{NODE, applied};
use proto::cut::*;
use proto::ids::ShardId;

pub fn cut_calls() -> Vec<(&'static str, CutCall)> {
    vec![
        ("open", CutCall::Open { shard: ShardId(6) }),
        ("next", CutCall::Next { cut: 70_000, number: 3 }),
        ("close", CutCall::Close { cut: 70_000 }),
    ]
}

pub fn cut_replies() -> Vec<(&'static str, CutReply)> {
    vec![
        ("opened", CutReply::Opened { cut: 70_000, applied: applied() }),
        ("chunk", CutReply::Chunk { rows: vec![1, 2, 255] }),
        ("end", CutReply::End),
        ("closed", CutReply::Closed),
        ("not leader", CutReply::NotLeader { hint: Some(NODE) }),
        ("failed", CutReply::Failed { reason: "disk".into() }),
    ]
}
