//! Owns the way of the bytes of files to objects of their own and back. Does not decide when: the sites do, and the log names the objects.
//! Invariant: one file at a time is in memory here, and what is read is believed part by part, each by its SHA-256.

use super::mover::{LOOK_EVERY, MoveError, Rules, Turn, attempt, drop_all, led, log, rules};
use super::{Archive, ArchiveError};
use crate::backup::Place;
use crate::push::Hub;
use actix_web::web::Bytes;
use chat::FileHere;
use cluster::shard::{Shard, now_ms};
use proto::archive::{ArchiveChange, FILE_PART_BYTES, FileObject};
use proto::attachment::{AttachmentState, CHUNK_BYTES_MAX, Variant};
use proto::ids::{AttachmentId, SessionId, ShardId, SiteId};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Files of one site and shard that are moved before the next one's turn.
const FILES_MAX: usize = 16;
/// Sites whose files are looked for at once, while the shard waits.
const SITES_MAX: usize = 200;
/// Damaged files of a shard that are left alone; a further one is tried, and told of, again and again.
const STUCK_MAX: usize = 200;

/// What is known of one shard for as long as this node leads it.
#[derive(Default)]
pub(super) struct Course {
    /// The site that was looked at last; `None`: it begins with the first.
    after: Option<SiteId>,
    /// Files whose pieces here are not what was uploaded.
    pub stuck: BTreeSet<(SessionId, AttachmentId)>,
}

impl Course {
    /// The sites whose turn it is.
    pub fn sites<T>(&mut self, all: impl Iterator<Item = (SiteId, T)>) -> Vec<(SiteId, T)> {
        let from = self.after;
        let mut next = all.filter(|(site, _)| from.is_none_or(|from| *site > from));
        let slice: Vec<_> = next.by_ref().take(SITES_MAX).collect();
        self.after = next.next().and(slice.last()).map(|(site, _)| *site);
        slice
    }

    /// It is not tried again before another node, or this one, leads the shard anew.
    fn leave(&mut self, file: &FileHere) {
        if self.stuck.len() < STUCK_MAX {
            self.stuck.insert((file.session, file.file));
        }
    }
}

/// Moves the files that messages have named for long enough, in the shards that this node leads, until the node is gone. `day`: how long a
/// day is.
pub async fn watch(hub: Weak<Hub>, archive: Arc<Archive>, day: Duration) {
    if archive.place.is_none() {
        return;
    }
    let mut courses: HashMap<ShardId, Course> = HashMap::new();
    let mut is_done = true;
    loop {
        if std::mem::replace(&mut is_done, true) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let Some(hub) = hub.upgrade() else { return };
        let Some(node) = hub.node() else { continue };
        let rules = rules(&node, day);
        let led = led(&node);
        courses.retain(|id, _| led.iter().any(|shard| shard.id == *id));
        let turn = Turn::new(&archive, &node, day);
        for shard in led {
            match turn.files(&shard, &rules, courses.entry(shard.id).or_default()).await {
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

/// What became of a file whose turn it was.
enum Tried {
    Moved,
    /// It is gone, was moved, or waits for the next look.
    NotNow,
    /// Its pieces here are not what was uploaded.
    Damaged,
}

impl Turn<'_> {
    /// Moves some files of some sites of a shard; whether those have no more.
    pub async fn files(
        &self,
        shard: &Arc<Shard>,
        rules: &BTreeMap<SiteId, Rules>,
        course: &mut Course,
    ) -> Result<bool, MoveError> {
        let Some(folder) = self.folder(shard) else { return Ok(true) };
        let sites = course.sites(rules.iter().filter_map(|(site, rules)| Some((*site, rules.files?))));
        let stuck = course.stuck.len();
        let look = |state: &mut chat::Shard, rows: &dyn chat::Rows| {
            let of_site = |(site, after): &(SiteId, Duration)| {
                let upto_ms = now_ms().saturating_sub(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
                state.files_here(rows, *site, upto_ms, FILES_MAX + stuck)
            };
            sites.iter().map(of_site).collect::<Result<Vec<_>, _>>()
        };
        let found = if sites.is_empty() { Vec::new() } else { shard.peek(look)? };
        let mut is_all = true;
        for of_site in found {
            let mut moved = 0;
            let is_known = |here: &FileHere| course.stuck.contains(&(here.session, here.file));
            let to_move: Vec<_> = of_site.into_iter().filter(|here| !is_known(here)).take(FILES_MAX).collect();
            for here in to_move {
                match self.file(shard, &folder, here).await? {
                    Tried::Moved => moved += 1,
                    Tried::NotNow => {}
                    Tried::Damaged => {
                        let FileHere { session, file, .. } = here;
                        tracing::error!(%session, %file, "the pieces of a file are damaged");
                        course.leave(&here);
                    }
                }
            }
            is_all &= moved < FILES_MAX;
        }
        Ok(is_all)
    }

    async fn file(&self, shard: &Arc<Shard>, folder: &str, here: FileHere) -> Result<Tried, MoveError> {
        let FileHere { session, file, .. } = here;
        let state = || shard.peek(|state, rows| state.attachment(rows, session, file));
        let (Some(known), Some(attempt)) = (state()?, attempt()) else { return Ok(Tried::NotNow) };
        self.gate.pass().await?;
        let name = |form| format!("{folder}{session}/file-{file}-{form}-{attempt:016x}");
        let mut packed = Vec::new();
        for (variant, len) in forms(&known) {
            let bytes = pieces(shard, here, variant, len)?;
            let (name, sha256) = (name(variant as u8), (variant == Variant::Whole).then_some(known.sha256));
            let Ok(form) = cluster::blocking(move || pack(name, bytes?, sha256)).await else {
                return Ok(Tried::NotNow);
            };
            let Some(form) = form else {
                // Recalled or erased meanwhile, for one.
                let is_here = state()?.is_some_and(|now| now.objects.is_empty());
                return Ok(if is_here { Tried::Damaged } else { Tried::NotNow });
            };
            packed.push(form);
        }
        let (objects, bytes): (Vec<FileObject>, Vec<Vec<u8>>) = packed.into_iter().unzip();
        let names: Vec<String> = objects.iter().map(|object| object.name.clone()).collect();
        if !log(shard, session, ArchiveChange::BeginFile { file, objects: names.clone() }).await {
            return Ok(Tried::NotNow);
        }
        for (object, bytes) in objects.iter().zip(bytes) {
            if let Err(error) = self.archive.store_file(object, bytes).await {
                drop_all(shard, session, names).await;
                return Err(error.into());
            }
        }
        if !log(shard, session, ArchiveChange::FileMoved { file, objects }).await {
            // Recalled meanwhile, for one. Should the log have taken it after all, this is refused.
            drop_all(shard, session, names).await;
            return Ok(Tried::NotNow);
        }
        metrics::counter!("chat_archive_files_moved_total").increment(1);
        metrics::counter!("chat_archive_file_bytes_total").increment(here.bytes);
        Ok(Tried::Moved)
    }
}

/// The forms that a file has, and their bytes.
fn forms(state: &AttachmentState) -> impl Iterator<Item = (Variant, u64)> {
    let thumbnail = u64::from(state.attachment.thumbnail);
    let forms = [(Variant::Whole, state.attachment.bytes), (Variant::Thumbnail, thumbnail)];
    forms.into_iter().filter(|(_, bytes)| *bytes > 0)
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
            assert!(
                fresh.lost.lock().is_empty(),
                "it may have been erased: whoever still finds it named says that it is lost"
            );
            fresh.tell_lost(&object.name);
            fresh.tell_lost(&object.name);
            assert_eq!(fresh.lost.lock().len(), 1);
        }
        std::fs::remove_file(home.path().join(super::super::MARKER)).unwrap();
        let object = FileObject { name: "c/1/s/x".into(), bytes: 1, parts: vec![[0; 32]] };
        assert!(matches!(archive.fetch_part(&object, 0).await, Err(ArchiveError::Elsewhere)), "the disk went away");
    }
}
