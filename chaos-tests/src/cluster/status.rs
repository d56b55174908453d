//! Owns the reading of `GET /admin/v1/cluster`. Does not ask for it. Invariant: a figure that is not there is `None`, never 0.

use anyhow::Context;
use serde_json::Value;

/// What one node says of the cluster.
#[derive(Debug, Clone)]
pub struct Status {
    /// The number of the node that answered: 1 for `n1`.
    pub node: u64,
    /// Groups; 0 is meta.
    pub shards: Vec<ShardStatus>,
    /// The answer as it came.
    pub raw: Value,
}

#[derive(Debug, Clone)]
pub struct ShardStatus {
    pub shard: u64,
    /// Node that leads.
    pub leader: Option<u64>,
    pub epoch: u64,
    /// Index that the answering node's replica has applied.
    pub applied: Option<u64>,
    /// Hash of the answering node's state at that index.
    pub state_hash: Option<String>,
    /// The answering node leads and serves.
    pub serving: bool,
    pub replicas: Vec<ReplicaStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStatus {
    pub replica: u64,
    pub node: u64,
    pub voter: bool,
}

impl Status {
    /// # Errors
    /// It is not the object of the admin API.
    pub fn read(raw: Value) -> anyhow::Result<Status> {
        let node = number(&raw["node"]).with_context(|| format!("no node in {raw}"))?;
        let shards = raw["shards"].as_array().with_context(|| format!("no shards in {raw}"))?;
        let shards = shards.iter().map(read_shard).collect::<anyhow::Result<_>>()?;
        Ok(Status { node, shards, raw })
    }

    /// Groups that hold conversations.
    pub fn data_shards(&self) -> impl Iterator<Item = &ShardStatus> {
        self.shards.iter().filter(|shard| shard.shard > 0)
    }

    /// Data shards led by `node`.
    pub fn led_by(&self, node: u64) -> Vec<u64> {
        self.data_shards().filter(|shard| shard.leader == Some(node)).map(|shard| shard.shard).collect()
    }

    /// Every group has a leader and the voters that it has in a cluster of so many nodes, and no further replicas of data.
    pub fn has_voters(&self, nodes: usize) -> bool {
        !self.shards.is_empty()
            && self.shards.iter().all(|shard| {
                let wanted = if shard.shard == 0 && nodes >= 5 { 5 } else { nodes.min(3) };
                let voters = shard.replicas.iter().filter(|replica| replica.voter).count();
                let is_bare = shard.shard == 0 || nodes < 3 || shard.replicas.len() == wanted;
                shard.leader.is_some() && voters == wanted && is_bare
            })
    }

    /// Data replicas on `node`.
    pub fn held_by(&self, node: u64) -> usize {
        self.data_shards().flat_map(|shard| &shard.replicas).filter(|replica| replica.node == node).count()
    }

    /// No node leads two data shards more than another of the first `nodes`.
    pub fn is_balanced(&self, nodes: usize) -> bool {
        let counts: Vec<usize> = (1..=nodes as u64).map(|node| self.led_by(node).len()).collect();
        let led: usize = counts.iter().sum();
        led == self.data_shards().count() && counts.iter().max() <= counts.iter().min().map(|least| least + 1).as_ref()
    }
}

fn read_shard(raw: &Value) -> anyhow::Result<ShardStatus> {
    let replicas = raw["replicas"].as_array().into_iter().flatten();
    // A node without a replica of the shard knows where they are, but not which of them vote: another one says.
    let replicas = replicas.filter(|raw| !raw["voter"].is_null());
    let replicas = replicas.map(|raw| {
        Ok(ReplicaStatus {
            replica: number(&raw["replica"]).with_context(|| format!("no replica id in {raw}"))?,
            node: number(&raw["node"]).with_context(|| format!("no node in {raw}"))?,
            voter: raw["voter"].as_bool().with_context(|| format!("no voter in {raw}"))?,
        })
    });
    Ok(ShardStatus {
        shard: number(&raw["shard"]).with_context(|| format!("no shard in {raw}"))?,
        leader: number(&raw["leader"]),
        epoch: number(&raw["epoch"]).unwrap_or(0),
        applied: number(&raw["applied"]),
        state_hash: match &raw["state_hash"] {
            Value::Null => None,
            hash => Some(hash.to_string()),
        },
        serving: raw["serving"].as_bool().unwrap_or(false),
        replicas: replicas.collect::<anyhow::Result<_>>()?,
    })
}

/// `3`, `"3"` and `"n3"` are 3.
fn number(raw: &Value) -> Option<u64> {
    match raw {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse().ok(),
        _ => None,
    }
}
