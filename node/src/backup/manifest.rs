//! Owns the form of a manifest and its checksum. Does not read chunks. Invariant: a manifest that was changed is not read.

use super::chunk::{hash_of, hex, is_name};
use super::{BackupError, Place};
use proto::ids::{ClusterId, NodeId, ShardId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The form that this build writes, and the newest that it reads.
pub const FORMAT: u16 = 1;
/// Longest manifest, in bytes: enough for 2 TiB of rows.
const BYTES_MAX: u64 = 512 << 20;

/// One backup of a whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u16,
    /// Begins with the time, so that names sort by age.
    pub id: String,
    pub started_ms: u64,
    pub finished_ms: u64,
    /// Version of the program that made it.
    pub everdesk: String,
    /// Version of the cluster's commands and rows.
    pub cluster_version: u16,
    pub cluster: ClusterId,
    /// What operators call the cluster.
    pub name: ClusterId,
    pub shards: u32,
    /// Data shards in the order in which they were cut, then meta, which so knows everything that they name.
    pub groups: Vec<Group>,
}

/// One group at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub shard: ShardId,
    /// Who led it.
    pub node: NodeId,
    /// The rows hold the log up to this entry.
    pub term: u64,
    pub index: u64,
    /// The running hash that `everdesk status --json` shows; none for meta.
    pub state_hash: Option<String>,
    pub rows: u64,
    pub bytes: u64,
    /// Over the names of the chunks.
    pub hash: String,
    pub chunks: Vec<ChunkRef>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkRef {
    pub name: String,
    pub rows: u64,
    pub bytes: u64,
}

/// A manifest as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    manifest: Manifest,
    /// Over the manifest as this program writes it.
    sha256: String,
}

/// The name of a backup that begins now.
/// # Errors
/// `Invalid`: no randomness, or a clock beyond all years.
pub fn new_id(now_ms: u64) -> Result<String, BackupError> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| BackupError::Invalid(format!("no randomness: {error}")))?;
    let now = i64::try_from(now_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let now = now.ok_or_else(|| BackupError::Invalid("the clock is wrong".into()))?;
    Ok(format!("{}-{}", now.strftime("%Y%m%dT%H%M%SZ"), hex(&random)))
}

fn path(id: &str) -> String {
    format!("manifests/{id}.json")
}

fn seal(manifest: &Manifest) -> String {
    hex(&Sha256::digest(serde_json::to_vec(manifest).expect("plain fields become JSON")))
}

impl Manifest {
    /// # Errors
    /// `Place`.
    pub async fn write(&self, place: &Place) -> Result<(), BackupError> {
        place.put(&path(&self.id), self.sealed()).await
    }

    /// As it is stored: with its checksum.
    pub(crate) fn sealed(&self) -> Vec<u8> {
        let sealed = Sealed { manifest: self.clone(), sha256: seal(self) };
        serde_json::to_vec(&sealed).expect("plain fields become JSON")
    }

    /// # Errors
    /// `Damaged`: not there, changed, or of a newer program. `Place`.
    pub async fn read(place: &Place, id: &str) -> Result<Manifest, BackupError> {
        let bytes = place.get(&path(id), BYTES_MAX).await?;
        let bytes = bytes.ok_or_else(|| BackupError::Damaged(format!("there is no backup {id}")))?;
        Manifest::parse(id, &bytes)
    }

    /// The manifest as it was stored under its name.
    /// # Errors
    /// `Damaged`: changed, or of a newer program.
    pub(crate) fn parse(id: &str, bytes: &[u8]) -> Result<Manifest, BackupError> {
        let damaged = |why: String| BackupError::Damaged(format!("the manifest of {id} is damaged: {why}"));
        let format = serde_json::from_slice::<serde_json::Value>(bytes).map_err(|error| damaged(error.to_string()))?;
        let format = format["manifest"]["format"].as_u64().unwrap_or(0);
        if format > u64::from(FORMAT) {
            let text = format!("backup {id} has form {format}, this program reads up to {FORMAT}: take a newer one");
            return Err(BackupError::Damaged(text));
        }
        let Sealed { manifest, sha256 } = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if seal(&manifest) != sha256 {
            return Err(damaged("its checksum is wrong".into()));
        }
        manifest.check(id).map_err(damaged)?;
        Ok(manifest)
    }

    /// What a checksum does not say.
    fn check(&self, id: &str) -> Result<(), String> {
        if self.id != id {
            return Err(format!("it is that of {}", self.id));
        }
        let mut shards: Vec<u32> = self.groups.iter().map(|group| group.shard.0).collect();
        shards.sort_unstable();
        if !shards.into_iter().eq(0..=self.shards) {
            return Err("groups are missing".into());
        }
        let sum = |sizes: (u64, u64), group: &Group| {
            Some((sizes.0.checked_add(group.rows)?, sizes.1.checked_add(group.bytes)?))
        };
        if self.groups.iter().try_fold((0, 0), sum).is_none() {
            return Err("its groups are larger than anything".into());
        }
        for group in &self.groups {
            let rows = group.chunks.iter().try_fold(0_u64, |sum, chunk| sum.checked_add(chunk.rows));
            let names = group.chunks.iter().map(|chunk| chunk.name.as_str());
            if rows != Some(group.rows) || hash_of(names) != group.hash {
                return Err(format!("the chunks of {} are not its own", group.shard));
            }
            if !group.chunks.iter().all(|chunk| is_name(&chunk.name)) {
                return Err(format!("a chunk of {} has no name", group.shard));
            }
        }
        Ok(())
    }

    /// Every chunk with its group.
    pub fn chunks(&self) -> impl Iterator<Item = (ShardId, &ChunkRef)> {
        self.groups.iter().flat_map(|group| group.chunks.iter().map(move |chunk| (group.shard, chunk)))
    }

    pub fn bytes(&self) -> u64 {
        self.groups.iter().map(|group| group.bytes).sum()
    }

    pub fn rows(&self) -> u64 {
        self.groups.iter().map(|group| group.rows).sum()
    }
}

/// The ids of all backups, oldest first.
/// # Errors
/// `Place`.
pub async fn ids(place: &Place) -> Result<Vec<String>, BackupError> {
    let names = place.list("manifests/").await?;
    let mut ids: Vec<String> = names.iter().filter_map(|name| name.strip_suffix(".json")).map(str::to_owned).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// # Errors
/// `Place`.
pub async fn delete(place: &Place, ids: &[String]) -> Result<(), BackupError> {
    place.delete(ids.iter().map(|id| path(id))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let chunk = ChunkRef { name: "ab".repeat(32), rows: 3, bytes: 70 };
        let group = |shard| Group {
            shard: ShardId(shard),
            node: NodeId(1),
            term: 2,
            index: 9,
            state_hash: None,
            rows: 3,
            bytes: 70,
            hash: hash_of([chunk.name.as_str()].into_iter()),
            chunks: vec![chunk.clone()],
        };
        let (cluster, name) = (ClusterId(7), ClusterId(7));
        let everdesk = "0.1.0".to_owned();
        let id = "20251121T000000Z-00000000".to_owned();
        let groups = vec![group(1), group(0)];
        Manifest {
            format: FORMAT,
            id,
            started_ms: 1,
            finished_ms: 2,
            everdesk,
            cluster_version: 1,
            cluster,
            name,
            shards: 1,
            groups,
        }
    }

    #[tokio::test]
    async fn a_manifest_comes_back_and_a_changed_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open(dir.path().to_str().unwrap(), true).unwrap();
        let manifest = manifest();
        manifest.write(&place).await.unwrap();
        assert_eq!(Manifest::read(&place, &manifest.id).await.unwrap(), manifest);
        assert_eq!(ids(&place).await.unwrap(), std::slice::from_ref(&manifest.id));
        let file = dir.path().join("manifests").join(format!("{}.json", manifest.id));
        let text = std::fs::read_to_string(&file).unwrap();
        for (from, to) in [
            ("\"index\":9", "\"index\":8"),
            ("\"rows\":3", "\"rows\":4"),
            ("{", "["),
            ("\"shard\":\"g1\"", "\"shard\":\"g2\""),
        ] {
            std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
            assert!(matches!(Manifest::read(&place, &manifest.id).await, Err(BackupError::Damaged(_))), "{from}");
        }
        std::fs::write(&file, text.replacen("\"format\":1", "\"format\":2", 1)).unwrap();
        let told = Manifest::read(&place, &manifest.id).await.unwrap_err().to_string();
        assert!(told.contains("take a newer one"), "{told}");
    }

    /// Found by the fuzz target `backup_manifest`: `everdesk backup list` added them up.
    #[test]
    fn sizes_that_cannot_be_added_are_told_as_damage() {
        let mut wide = manifest();
        wide.groups.iter_mut().for_each(|group| group.bytes = u64::MAX);
        let mut deep = manifest();
        for group in &mut deep.groups {
            group.rows = u64::MAX;
            group.chunks[0].rows = u64::MAX;
        }
        for manifest in [wide, deep] {
            let read = Manifest::parse(&manifest.id, &manifest.sealed());
            assert!(matches!(read, Err(BackupError::Damaged(_))), "{read:?}");
        }
    }

    #[test]
    fn the_names_of_backups_sort_by_age() {
        let (a, b) = (new_id(1_763_700_000_000).unwrap(), new_id(1_763_700_001_000).unwrap());
        assert!(a < b && a.starts_with("20251121T"), "{a} {b}");
    }
}
