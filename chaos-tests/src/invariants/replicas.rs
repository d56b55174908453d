//! Owns "replicas are deterministic": the same applied index means the same state. Does not look into states.
//! Invariant: hashes are compared only at equal indexes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::cluster::Cluster;
use crate::wait;

const SAME_INDEX_WITHIN: Duration = Duration::from_secs(30);

/// Waits until, in every data shard, all nodes have been seen at one index with one hash.
/// # Errors
/// Two hashes at one index, or replicas that never meet.
pub async fn check_same_state(cluster: &Cluster) -> anyhow::Result<()> {
    let holders = cluster.members().count().min(3);
    // (shard, index) -> node -> hash
    let mut seen = BTreeMap::<(u64, u64), BTreeMap<u64, String>>::new();
    let mut last = String::new();
    let met = wait::until("all replicas at one index", SAME_INDEX_WITHIN, async || {
        let mut shards = 0;
        for node in cluster.members() {
            let status = match cluster.status(node.number).await {
                Ok(status) => status,
                Err(error) => {
                    last = format!("{error:#}");
                    return None;
                }
            };
            shards = status.data_shards().count();
            for shard in status.data_shards() {
                if let (Some(applied), Some(hash)) = (shard.applied, &shard.state_hash) {
                    seen.entry((shard.shard, applied)).or_default().insert(node.number, hash.clone());
                }
            }
        }
        if let Some(((shard, applied), hashes)) = seen.iter().find(|(_, hashes)| differ(hashes)) {
            return Some(Err(anyhow::anyhow!("shard {shard} at index {applied}: hashes differ: {hashes:?}")));
        }
        let met: std::collections::BTreeSet<u64> =
            seen.iter().filter(|(_, hashes)| hashes.len() >= holders).map(|((shard, _), _)| *shard).collect();
        last = format!("met in shards {met:?} of {shards}; newest: {:?}", seen.keys().next_back());
        (shards > 0 && met.len() == shards).then_some(Ok(()))
    });
    match met.await.with_context(|| last.clone()) {
        Ok(verdict) => verdict,
        Err(error) => bail!("{error:#}"),
    }
}

fn differ(hashes: &BTreeMap<u64, String>) -> bool {
    let mut all = hashes.values();
    let first = all.next();
    all.any(|hash| Some(hash) != first)
}
