//! Owns the deletion of objects that nothing names: those of erased events, and those that nobody finished. Does not know why they go: the
//! log does. Invariant: an object stays known to the log until the place has said that it is gone.

use super::mover::{Turn, log};
use cluster::node::ClusterNode;
use cluster::shard::{Shard, now_ms};
use proto::archive::ArchiveChange;
use std::sync::Arc;

/// Objects of a shard that are seen to in one look.
const LOOK_MAX: usize = 200;

/// Folders of the objects that this cluster has written, also before it was recovered, the newest first. A restored copy of a cluster has
/// none of its original's: it must not delete what that one needs.
pub fn folders(node: &ClusterNode) -> Vec<String> {
    let read = |state: &cluster::meta::MetaState| {
        let own = state.cluster.as_ref().map(|row| row.cluster);
        let recovered = state.lineage.as_ref().filter(|row| !row.restored);
        let before = recovered.and_then(|row| row.before.last().copied());
        own.into_iter().chain(before).map(|cluster| format!("{cluster:032x}/")).collect()
    };
    node.with_meta(read).unwrap_or_default()
}

impl Turn<'_> {
    /// Deletes what is to be deleted in a shard, and gives up what nobody finished.
    pub(super) async fn clear(&self, shard: &Arc<Shard>) {
        let loose = match shard.peek(|state, rows| state.loose_objects(rows, LOOK_MAX)) {
            Ok(loose) => loose,
            Err(error) => return tracing::error!(shard = %shard.id, %error, "the archive cannot read the shard"),
        };
        let orphan_after_ms = u64::try_from(self.orphan_after.as_millis()).unwrap_or(u64::MAX);
        for object in loose {
            if !object.is_dropped {
                if now_ms().saturating_sub(object.since_ms) > orphan_after_ms {
                    log(shard, object.session, ArchiveChange::Dropped { object: object.name }).await;
                }
                continue;
            }
            // What a copy leaves is its original's.
            if self.folders.iter().any(|folder| object.name.starts_with(folder)) {
                if let Err(error) = self.gate.pass().await {
                    tracing::warn!(shard = %shard.id, %error, "the archive does not answer");
                    return;
                }
                if let Err(error) = self.archive.delete(&object.name).await {
                    tracing::warn!(shard = %shard.id, %error, "the archive deletes nothing");
                    return;
                }
                metrics::counter!("chat_archive_deleted_total").increment(1);
            }
            log(shard, object.session, ArchiveChange::Deleted { object: object.name }).await;
        }
    }
}
