//! Owns the deletion of old backups. Does not choose by age. Invariant: a chunk goes only after every manifest that names it, and
//! never while a backup is being made.

use super::manifest::{self, Manifest};
use super::work::{Work, mark, unmark};
use super::{BackupError, Place, chunk, new_id};
use std::collections::HashSet;

/// What was deleted, and what is left.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    pub deleted: Vec<String>,
    pub kept: Vec<String>,
    pub chunks_deleted: usize,
    pub chunks_kept: usize,
}

/// Keeps the newest `keep` backups, and the chunks that they name.
/// # Errors
/// `Invalid`: nothing would be kept. `Busy`: a backup is being made. `Damaged`: a manifest that is to stay cannot be read, so that
/// nobody knows its chunks. `Place`.
pub async fn prune(place: &Place, keep: usize, now_ms: u64) -> Result<Pruned, BackupError> {
    if keep == 0 {
        return Err(BackupError::Invalid("at least one backup must be kept".into()));
    }
    let id = new_id(now_ms)?;
    mark(place, Work::Prune, &id, now_ms).await?;
    let done = run(place, keep).await;
    let unmarked = unmark(place, Work::Prune, &id).await;
    // Why the work failed is what the caller must hear.
    let pruned = done?;
    unmarked.map(|()| pruned)
}

async fn run(place: &Place, keep: usize) -> Result<Pruned, BackupError> {
    let mut ids = manifest::ids(place).await?;
    let kept = ids.split_off(ids.len().saturating_sub(keep));
    let mut needed = HashSet::new();
    for id in &kept {
        let manifest = Manifest::read(place, id).await?;
        needed.extend(manifest.chunks().map(|(_, chunk)| chunk.name.clone()));
    }
    manifest::delete(place, &ids).await?;
    let stored = place.list("chunks/").await?;
    let stored = stored.iter().filter_map(|object| chunk::name_of(object));
    let unneeded: Vec<String> = stored.filter(|name| !needed.contains(*name)).map(chunk::path).collect();
    let chunks_deleted = unneeded.len();
    place.delete(unneeded.into_iter()).await?;
    Ok(Pruned { deleted: ids, kept, chunks_deleted, chunks_kept: needed.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::chunk::Chunk;
    use crate::backup::manifest::{ChunkRef, Group};
    use crate::backup::verify;
    use proto::ids::{ClusterId, NodeId, ShardId};

    async fn backup(place: &Place, at_ms: u64, values: &[&str]) -> Manifest {
        let mut groups = Vec::new();
        for (shard, value) in (0..).zip(values) {
            let mut chunk = Chunk::default();
            chunk.push(b"key", value.as_bytes());
            place.put(&chunk::path(&chunk.name()), chunk.pack()).await.unwrap();
            let (name, bytes) = (chunk.name(), chunk.bytes.len() as u64);
            let hash = chunk::hash_of([name.as_str()].into_iter());
            let chunks = vec![ChunkRef { name, rows: 1, bytes }];
            let (shard, node) = (ShardId(shard), NodeId(1));
            groups.push(Group { shard, node, term: 1, index: 1, state_hash: None, rows: 1, bytes, hash, chunks });
        }
        let (cluster, name, shards) = (ClusterId(1), ClusterId(1), values.len() as u32 - 1);
        let id = new_id(at_ms).unwrap();
        let everdesk = String::new();
        let (started_ms, finished_ms) = (at_ms, at_ms);
        let manifest = Manifest {
            format: 1,
            id,
            started_ms,
            finished_ms,
            everdesk,
            cluster_version: 1,
            cluster,
            name,
            shards,
            groups,
        };
        manifest.write(place).await.unwrap();
        manifest
    }

    #[tokio::test]
    async fn old_backups_go_and_the_chunks_that_others_need_stay() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open(dir.path().to_str().unwrap(), true).unwrap();
        let old = backup(&place, 1_000, &["same", "old"]).await;
        let new = backup(&place, 9_000, &["same", "new"]).await;
        assert!(prune(&place, 0, 10_000).await.is_err());
        let pruned = prune(&place, 1, 10_000).await.unwrap();
        assert_eq!((pruned.deleted, pruned.kept), (vec![old.id], vec![new.id]));
        assert_eq!((pruned.chunks_deleted, pruned.chunks_kept), (1, 2));
        let verified = verify(&place, None).await.unwrap();
        assert_eq!((verified.backups, verified.chunks, verified.damage.len()), (1, 2, 0));
    }

    #[tokio::test]
    async fn every_damage_is_named_with_the_backups_that_need_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open(dir.path().to_str().unwrap(), true).unwrap();
        let first = backup(&place, 1_000, &["same", "old"]).await;
        let second = backup(&place, 9_000, &["same", "new"]).await;
        let name = |manifest: &Manifest, group: usize| manifest.groups[group].chunks[0].name.clone();
        let (shared, lost) = (name(&first, 0), name(&second, 1));
        let file = dir.path().join(chunk::path(&shared));
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, bytes).unwrap();
        std::fs::remove_file(dir.path().join(chunk::path(&lost))).unwrap();
        let damage = verify(&place, None).await.unwrap().damage;
        assert_eq!(damage.len(), 2, "{damage:?}");
        let of = |name: &str| damage.iter().find(|line| line.contains(name)).unwrap();
        assert!(of(&shared).contains(&first.id) && of(&shared).contains(&second.id));
        assert!(of(&lost).contains("missing") && !of(&lost).contains(&first.id));
        assert_eq!(verify(&place, Some(&first.id)).await.unwrap().damage.len(), 1);
    }
}
