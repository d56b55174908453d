//! Owns "replicas are deterministic": the same applied index of a shard means the same state. Does not look into states.
//! Invariant: hashes are compared only at equal indexes, and each shard must have been compared on all nodes that reported.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Line};
use crate::history::{Applied, Body, NodeId, ShardId};

pub const NAME: &str = "hashes-agree";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    let mut seen = BTreeMap::<(ShardId, Applied), (&str, Line, BTreeSet<NodeId>)>::new();
    let mut holders = BTreeMap::<ShardId, BTreeSet<NodeId>>::new();
    for (record, number) in index.records.iter().zip(1..) {
        let Body::Hash { node, shard, applied, hash } = &record.body else { continue };
        found.count();
        holders.entry(*shard).or_default().insert(*node);
        let entry = seen.entry((*shard, *applied)).or_insert_with(|| (hash, Line(number), BTreeSet::new()));
        entry.2.insert(*node);
        if entry.0 != hash {
            let text = format!("shard {shard} at index {applied}: {} and, on node {node}, {hash}", entry.0);
            found.breach_of_run(text, &[entry.1, Line(number)]);
        }
    }
    for (shard, nodes) in &holders {
        let of_shard = (*shard, Applied(0))..=(*shard, Applied(u64::MAX));
        if !seen.range(of_shard).any(|(_, (_, _, met))| met == nodes) {
            let text = format!("the replicas of shard {shard} were never seen at one index: {}", list(nodes));
            found.breach_of_run(text, &[]);
        }
    }
    let shards = index.run.map_or(0, |run| run.shards as usize);
    if !holders.is_empty() && holders.len() < shards {
        found.breach_of_run(format!("{} of {shards} shards have a state hash", holders.len()), &[Line(1)]);
    }
    found
}

fn list(nodes: &BTreeSet<NodeId>) -> String {
    nodes.iter().map(|node| format!("node {node}")).collect::<Vec<_>>().join(", ")
}
