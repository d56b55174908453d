//! Owns the way of the bytes of files to objects of their own and back. Does not decide when: the sites do, and the log names the objects.
//! Invariant: one file at a time is in memory here, and what is read is believed part by part, each by its SHA-256.

use super::gate::Gate;
use super::mover::{LOOK_EVERY, MoveError, Rules, Turn, led, log, rules};
use super::{Archive, ArchiveError};
use crate::backup::Place;
use crate::push::Hub;
use actix_web::web::Bytes;
use chat::FileHere;
use cluster::shard::{Shard, now_ms};
use proto::archive::{ArchiveChange, FILE_PART_BYTES, FileObject};
use proto::attachment::{AttachmentState, CHUNK_BYTES_MAX, Variant};
use proto::ids::SiteId;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Files of one site and shard that are moved before the next one's turn.
const FILES_MAX: usize = 16;

/// Moves the files that messages have named for long enough, in the shards that this node leads, until the node is gone. `day`: how long a
/// day is.
pub async fn watch(hub: Weak<Hub>, archive: Arc<Archive>, day: Duration) {
    if archive.place.is_none() {
        return;
    }
    let mut is_done = true;
    loop {
        if is_done {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let Some(hub) = hub.upgrade() else { return };
        let Some(node) = hub.node() else { continue };
        let rules = rules(&node, day);
        let turn = Turn::new(&archive, Gate::new(&archive, &node), &node, day);
        is_done = true;
        for shard in led(&node) {
            match turn.files(&shard, &rules).await {
                Ok(is_all) => is_done &= is_all,
                Err(error) => {
                    tracing::warn!(shard = %shard.id, %error, "the archive takes no files");
                    is_done = true;
                    break;
                }
            }
        }
    }
}

impl Turn<'_> {
    /// Moves some files of a shard; whether there are no more.
    async fn files(&self, shard: &Arc<Shard>, rules: &BTreeMap<SiteId, Rules>) -> Result<bool, MoveError> {
        let Some(folder) = self.folder(shard) else { return Ok(true) };
        let mut is_all = true;
        for (site, after) in rules.iter().filter_map(|(site, rules)| Some((*site, rules.files?))) {
            let upto_ms = now_ms().saturating_sub(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
            let found = shard.peek(|state, rows| state.files_here(rows, site, upto_ms, FILES_MAX))?;
            let mut moved = 0;
            for here in &found {
                moved += usize::from(self.file(shard, &folder, *here).await?);
            }
            is_all &= moved < FILES_MAX;
        }
        Ok(is_all)
    }

    /// Whether the file is moved now.
    async fn file(&self, shard: &Arc<Shard>, folder: &str, here: FileHere) -> Result<bool, MoveError> {
        let FileHere { session, file, .. } = here;
        let Some(state) = shard.peek(|state, rows| state.attachment(rows, session, file))? else { return Ok(false) };
        let mut attempt = [0; 8];
        if getrandom::fill(&mut attempt).is_err() {
            return Ok(false);
        }
        let name = |form| format!("{folder}{session}/file-{file}-{form}-{:016x}", u64::from_le_bytes(attempt));
        let thumbnail = u64::from(state.attachment.thumbnail);
        let forms = [(Variant::Whole, state.attachment.bytes), (Variant::Thumbnail, thumbnail)];
        let forms = forms.map(|(variant, bytes)| (variant, bytes, name(variant as u8)));
        let forms: Vec<_> = forms.into_iter().filter(|(_, bytes, _)| *bytes > 0).collect();
        self.gate.pass().await?;
        let names: Vec<String> = forms.iter().map(|(.., name)| name.clone()).collect();
        if !log(shard, session, ArchiveChange::BeginFile { file, objects: names.clone() }).await {
            return Ok(false);
        }
        let written = self.forms(shard, here, &state, forms).await;
        let is_moved = match &written {
            Ok(Some(objects)) => log(shard, session, ArchiveChange::FileMoved { file, objects: objects.clone() }).await,
            _ => false,
        };
        if !is_moved {
            // Recalled meanwhile, for one. Should the log have taken it after all, this is refused.
            for object in names {
                log(shard, session, ArchiveChange::Dropped { object }).await;
            }
            return written.map(|_| false);
        }
        metrics::counter!("chat_archive_files_moved_total").increment(1);
        metrics::counter!("chat_archive_file_bytes_total").increment(here.bytes);
        Ok(true)
    }

    /// Writes each form of a file to its object; `None`: it is not here any more.
    async fn forms(
        &self,
        shard: &Arc<Shard>,
        here: FileHere,
        state: &AttachmentState,
        forms: Vec<(Variant, u64, String)>,
    ) -> Result<Option<Vec<FileObject>>, MoveError> {
        let mut objects = Vec::new();
        for (variant, len, name) in forms {
            let Some(bytes) = pieces(shard, here, variant, len)? else { return Ok(None) };
            let sha256 = (variant == Variant::Whole).then_some(state.sha256);
            let packed = cluster::blocking(move || pack(name, bytes, sha256)).await;
            match packed {
                Ok(Some((object, bytes))) => {
                    self.archive.store_file(&object, bytes).await?;
                    objects.push(object);
                }
                Ok(None) => {
                    tracing::error!(session = %here.session, file = %here.file, "the pieces of a file are damaged");
                    return Ok(None);
                }
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(objects))
    }
}

/// All of a form, piece by piece: the shard goes on in between.
fn pieces(shard: &Arc<Shard>, here: FileHere, variant: Variant, len: u64) -> Result<Option<Vec<u8>>, chat::ApplyError> {
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    for number in 0..len.div_ceil(CHUNK_BYTES_MAX as u64) as u32 {
        let read = |state: &mut chat::Shard, rows: &dyn chat::Rows| {
            state.attachment_piece(rows, here.session, here.file, variant, number)
        };
        let Some(piece) = shard.peek(read)? else { return Ok(None) };
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes.len() as u64 == len).then_some(bytes))
}

/// What the log will say of an object; `None`: the bytes are not those that were uploaded.
fn pack(name: String, bytes: Vec<u8>, sha256: Option<[u8; 32]>) -> Option<(FileObject, Vec<u8>)> {
    if sha256.is_some_and(|known| <[u8; 32]>::from(Sha256::digest(&bytes)) != known) {
        return None;
    }
    let parts = bytes.chunks(FILE_PART_BYTES).map(|part| Sha256::digest(part).into()).collect();
    Some((FileObject { name, bytes: u32::try_from(bytes.len()).ok()?, parts }, bytes))
}

impl Archive {
    /// Writes an object and reads it back.
    async fn store_file(&self, object: &FileObject, bytes: Vec<u8>) -> Result<(), ArchiveError> {
        let place = self.place()?;
        let write = async {
            place.put(&object.name, bytes).await?;
            for part in 0..object.parts.len() {
                read_part(place, object, part).await?;
            }
            Ok(())
        };
        tokio::time::timeout(super::WRITE_WITHIN, write).await.map_err(|_| ArchiveError::Late)?
    }
}

pub(super) async fn read_part(place: &Place, object: &FileObject, part: usize) -> Result<Bytes, ArchiveError> {
    let outside = || ArchiveError::Damaged("it has no such part".into());
    let (sha256, from) = (object.parts.get(part).copied().ok_or_else(outside)?, part * FILE_PART_BYTES);
    let upto = (object.bytes as usize).min(from + FILE_PART_BYTES);
    let bytes = place.get_part(&object.name, from as u64..upto as u64).await?.ok_or(ArchiveError::Missing)?;
    let is_right =
        move |bytes: Vec<u8>| (<[u8; 32]>::from(Sha256::digest(&bytes)) == sha256).then_some(Bytes::from(bytes));
    let checked = cluster::blocking(move || is_right(bytes)).await.ok().flatten();
    checked.ok_or_else(|| ArchiveError::Damaged("its SHA-256 is another".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_written_and_read_back_by_parts_and_what_was_changed_is_not_believed() {
        let home = tempfile::tempdir().unwrap();
        let archive = Archive::open(home.path().to_str()).unwrap();
        std::fs::write(home.path().join(super::super::MARKER), "").unwrap();
        for len in [1, FILE_PART_BYTES - 1, FILE_PART_BYTES, FILE_PART_BYTES + 1, 2 * FILE_PART_BYTES + 77] {
            let all: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let sha256: [u8; 32] = Sha256::digest(&all).into();
            assert!(pack("c/1/s/x".into(), all.clone(), Some([7; 32])).is_none());
            let (object, bytes) = pack(format!("c/1/s/file-{len}"), all.clone(), Some(sha256)).unwrap();
            archive.store_file(&object, bytes).await.unwrap();
            let mut read = Vec::new();
            for part in 0..object.parts.len() {
                read.extend_from_slice(&archive.fetch_part(&object, part).await.unwrap());
            }
            assert!(read == all);
            let beyond = archive.fetch_part(&object, object.parts.len()).await;
            assert!(matches!(beyond, Err(ArchiveError::Damaged(_))));
            let mut harmed = all;
            harmed[len - 1] ^= 1;
            std::fs::write(home.path().join(&object.name), harmed).unwrap();
            let last = object.parts.len() - 1;
            assert!(archive.fetch_part(&object, last).await.is_ok(), "it was read a moment ago");
            let fresh = Archive::open(home.path().to_str()).unwrap();
            assert!(matches!(fresh.fetch_part(&object, last).await, Err(ArchiveError::Damaged(_))));
            std::fs::remove_file(home.path().join(&object.name)).unwrap();
            assert!(matches!(fresh.fetch_part(&object, last).await, Err(ArchiveError::Missing)));
        }
        std::fs::remove_file(home.path().join(super::super::MARKER)).unwrap();
        let object = FileObject { name: "c/1/s/x".into(), bytes: 1, parts: vec![[0; 32]] };
        assert!(matches!(archive.fetch_part(&object, 0).await, Err(ArchiveError::Elsewhere)), "the disk went away");
    }
}
