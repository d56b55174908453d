//! Owns how a line of `history.jsonl` is read. Does not sum anything up.
//! Invariant: fields the page does not show (events, results, hashes) are skipped, not kept.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Any line; which fields are there depends on `k`.
#[derive(Debug, Deserialize)]
pub struct Line {
    pub t: u64,
    pub k: String,
    pub op: Option<u64>,
    /// `{"send": {..}}`: one entry, its key is the kind of the operation. A map, so that new kinds are counted too.
    pub what: Option<BTreeMap<String, What>>,
    pub code: Option<String>,
    pub why: Option<String>,
    pub node: Option<u64>,
    pub shard: Option<u64>,
    pub epoch: Option<u64>,
    pub fault: Option<u64>,
    pub kind: Option<String>,
    pub nodes: Option<Vec<u64>>,
    pub note: Option<String>,
    pub since: Option<u64>,
    /// A number or a text: whoever writes it may not fit 64 bits into a JSON number.
    pub seed: Option<Value>,
    pub shards: Option<u64>,
    pub sessions: Option<u64>,
}

/// Of an operation, what tells one message from another.
#[derive(Debug, Deserialize)]
pub struct What {
    pub session: Option<String>,
    pub device: Option<Value>,
    pub n: Option<u64>,
}
