//! Owns the way from a backup to a data directory. Does not write it: `cluster::offline` does. Invariant: no chunk is used that
//! is not what was stored.

use super::manifest::{self, Group, Manifest};
use super::verify::{READS_MAX, fetch};
use super::{BackupError, Place};
use cluster::meta::{Fresh, MetaState};
use cluster::offline::{Draft, Drafted, OfflineError};
use futures_util::StreamExt;
use proto::ids::META_SHARD;
use proto::peer::LogPoint;
use std::path::Path;

/// Makes a cluster of one node in `dir` out of a backup, the newest unless `id` names one. Writes with blocking calls: not for a
/// node's own runtime.
/// # Errors
/// `Damaged`: the first chunk that is; what was begun is no node's directory. `Place`, `Offline`.
pub async fn restore(
    place: &Place,
    id: Option<&str>,
    dir: &Path,
    fresh: &Fresh,
) -> Result<(Manifest, Drafted), BackupError> {
    let id = match id {
        Some(id) => id.to_owned(),
        None => manifest::ids(place)
            .await?
            .pop()
            .ok_or_else(|| BackupError::Damaged(format!("there is no backup at {}", place.text())))?,
    };
    let manifest = Manifest::read(place, &id).await?;
    let of_meta = manifest.groups.iter().find(|group| group.shard == META_SHARD);
    let of_meta = of_meta.ok_or_else(|| BackupError::Damaged(format!("{id} lacks the meta group")))?;
    let mut state = MetaState::default();
    let load = |key: &[u8], value: &[u8]| {
        state.load(key, value).map_err(|error| BackupError::Damaged(format!("the meta group of {id}: {error}")))
    };
    rows(place, of_meta, load).await?;
    let mut draft = Draft::begin(dir, state, at(of_meta), fresh)?;
    let shards: Vec<_> = draft.data_shards().collect();
    if shards.len() as u32 != manifest.shards {
        return Err(OfflineError::Refused(format!("{id} has other shards than its meta group says")).into());
    }
    for shard in shards {
        let group = manifest.groups.iter().find(|group| group.shard == shard);
        let group = group.ok_or_else(|| BackupError::Damaged(format!("{id} lacks {shard}")))?;
        let mut filling = draft.shard(shard)?;
        rows(place, group, |key, value| Ok(filling.put(key, value)?)).await?;
        draft.filled(filling, Some(at(group)))?;
    }
    let drafted = draft.finish()?;
    Ok((manifest, drafted))
}

fn at(group: &Group) -> LogPoint {
    LogPoint { term: group.term, index: group.index }
}

/// Gives every row of a group to `row`, in order.
async fn rows(
    place: &Place,
    group: &Group,
    mut row: impl FnMut(&[u8], &[u8]) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let reads = group.chunks.iter().map(|chunk| async move { (chunk, fetch(place, &chunk.name).await) });
    let mut reads = futures_util::stream::iter(reads).buffered(READS_MAX);
    let mut count = 0;
    while let Some((known, chunk)) = reads.next().await {
        let chunk = chunk?;
        if chunk.rows != known.rows {
            return Err(BackupError::Damaged(format!("chunk {} has {} rows", known.name, chunk.rows)));
        }
        chunk.each::<BackupError>(&mut |key, value| row(key, value))?;
        count += chunk.rows;
    }
    if count == group.rows {
        Ok(())
    } else {
        Err(BackupError::Damaged(format!("{} has {count} rows of {}", group.shard, group.rows)))
    }
}
