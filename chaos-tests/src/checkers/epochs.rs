//! Owns "an epoch of a shard has one leader, and who begins to serve has a higher one than all before". Invariant: pure.

use std::collections::BTreeMap;

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Line};
use crate::history::{Body, Epoch, NodeId, ShardId};

pub const NAME: &str = "epochs";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    let mut newest = BTreeMap::<ShardId, (Epoch, Line)>::new();
    let mut leaders = BTreeMap::<(ShardId, Epoch), (NodeId, Line)>::new();
    for (record, line) in index.records.iter().zip(1..).map(|(record, number)| (record, Line(number))) {
        let (shard, node, epoch) = match &record.body {
            Body::Serving { node, shard, epoch } => {
                // A node may be seen to serve twice in its epoch; anybody else needs a higher one.
                if let Some((last, before)) = newest.get(shard).filter(|(last, _)| epoch < last) {
                    let text = format!("node {node} began to serve shard {shard} in epoch {epoch} after {last}");
                    found.breach_of_run(text, &[*before, line]);
                }
                let entry = newest.entry(*shard).or_insert((*epoch, line));
                *entry = (*entry).max((*epoch, line));
                (*shard, *node, *epoch)
            }
            Body::Leader { shard, node: Some(node), epoch } => (*shard, *node, *epoch),
            _ => continue,
        };
        found.count();
        let (leader, before) = *leaders.entry((shard, epoch)).or_insert((node, line));
        if leader != node {
            let text = format!("nodes {leader} and {node} both led shard {shard} in epoch {epoch}");
            found.breach_of_run(text, &[before, line]);
        }
    }
    found
}
