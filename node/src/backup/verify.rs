//! Owns the proof that backups can be restored: every chunk is read, hashed and counted. Does not repair. Invariant: what is
//! damaged is named, with the backups that need it, and one damage does not hide another.

use super::chunk::{self, Chunk, UNPACKED_BYTES_MAX};
use super::manifest::{self, Manifest};
use super::{BackupError, Place};
use futures_util::StreamExt;
use std::collections::BTreeMap;

/// Chunks that are read at once.
pub const READS_MAX: usize = 4;

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    pub backups: usize,
    pub chunks: usize,
    /// Of rows, before compression.
    pub bytes: u64,
    /// One line for each.
    pub damage: Vec<String>,
}

/// Who needs a chunk, and what it must hold.
struct Needed {
    rows: u64,
    bytes: u64,
    by: Vec<String>,
}

/// Reads one backup, or all of them.
/// # Errors
/// `Place`: the place cannot be read; `Damaged`: there is no such backup. What is damaged inside is no error but told.
pub async fn verify(place: &Place, id: Option<&str>) -> Result<Verified, BackupError> {
    let ids = match id {
        Some(id) => vec![id.to_owned()],
        None => manifest::ids(place).await?,
    };
    if ids.is_empty() {
        return Err(BackupError::Damaged(format!("there is no backup at {}", place.text())));
    }
    let mut verified = Verified { backups: ids.len(), ..Verified::default() };
    let mut needed: BTreeMap<String, Needed> = BTreeMap::new();
    for id in ids {
        match Manifest::read(place, &id).await {
            Ok(manifest) => {
                for (shard, chunk) in manifest.chunks() {
                    let entry = needed.entry(chunk.name.clone());
                    let needed = entry.or_insert(Needed { rows: chunk.rows, bytes: chunk.bytes, by: Vec::new() });
                    needed.by.push(format!("{shard} of {id}"));
                }
            }
            Err(error @ BackupError::Place { .. }) => return Err(error),
            Err(error) => verified.damage.push(error.to_string()),
        }
    }
    verified.chunks = needed.len();
    let reads = needed.into_iter().map(|(name, needed)| async move {
        let found = fetch(place, &name).await;
        (name, needed, found)
    });
    let mut reads = futures_util::stream::iter(reads).buffer_unordered(READS_MAX);
    while let Some((name, needed, found)) = reads.next().await {
        let why = match found {
            Err(error @ BackupError::Place { .. }) => return Err(error),
            Err(error) => error.to_string(),
            Ok(chunk) if (chunk.rows, chunk.bytes.len() as u64) != (needed.rows, needed.bytes) => {
                format!("chunk {name} holds {} rows, {} were stored", chunk.rows, needed.rows)
            }
            Ok(chunk) => {
                verified.bytes += chunk.bytes.len() as u64;
                continue;
            }
        };
        verified.damage.push(format!("{why}; needed by {}", needed.by.join(", ")));
    }
    verified.damage.sort_unstable();
    Ok(verified)
}

/// One chunk, checked against its name.
/// # Errors
/// `Place`; `Damaged`: missing or changed.
pub async fn fetch(place: &Place, name: &str) -> Result<Chunk, BackupError> {
    let packed = place.get(&chunk::path(name), UNPACKED_BYTES_MAX).await?;
    let packed = packed.ok_or_else(|| BackupError::Damaged(format!("chunk {name} is missing")))?;
    let owned = name.to_owned();
    let read = tokio::task::spawn_blocking(move || Chunk::unpack(&owned, &packed)).await;
    let read = read.map_err(|error| BackupError::Damaged(error.to_string()))?;
    read.map_err(|why| BackupError::Damaged(format!("chunk {name} is damaged: {why}")))
}
