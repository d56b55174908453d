//! Owns what becomes of the bytes of files that leave the rows for the archive: which are still here, and which objects hold the others. Does
//! not read or write objects: the node does. Invariant: the bytes of a finished file are here or in objects that were read back, never in
//! neither; who moves a file and comes too late changes nothing.

use crate::apply::Shard;
use crate::attachment::{AttachmentKey, Attachments};
use crate::cache::Weight;
use crate::journal::Note;
use crate::keys;
use crate::objects::note_object;
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::{self, AttachmentRow, HereRow, Rows, UsageRow};
use proto::archive::{FILE_PART_BYTES, FileObject};
use proto::ids::{AttachmentId, SessionId, SiteId};
use std::collections::{BTreeMap, BTreeSet};

/// Whose it is, when a message named it, and which it is.
pub(crate) type HereKey = (SiteId, u64, SessionId, AttachmentId);

/// A file that could be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileHere {
    pub session: SessionId,
    pub file: AttachmentId,
    /// Of all its forms.
    pub bytes: u64,
}

impl Weight for HereRow {
    fn bytes(&self) -> usize {
        size_of::<HereRow>()
    }
}

impl AttachmentRow {
    /// Where it stands among those whose bytes are here.
    pub(crate) fn here(&self, (session, id): AttachmentKey) -> HereKey {
        (self.site, self.sent_ms, session, id)
    }

    pub(crate) fn objects_bytes(&self) -> usize {
        let of = |object: &FileObject| size_of::<FileObject>() + object.name.len() + 32 * object.parts.len();
        self.objects.iter().map(of).sum()
    }

    /// A message names it, and its bytes are here.
    fn is_movable(&self) -> bool {
        self.done.is_some() && self.seq.is_some() && self.objects.is_empty()
    }

    /// Whether the objects are those of its forms, in their order.
    fn is_held_by(&self, objects: &[FileObject]) -> bool {
        let Some(done) = &self.done else { return false };
        let forms = [done.attachment.bytes, u64::from(done.attachment.thumbnail)];
        let forms: Vec<u64> = forms.into_iter().filter(|bytes| *bytes > 0).collect();
        let is_form = |(object, bytes): (&FileObject, &u64)| {
            u64::from(object.bytes) == *bytes && object.parts.len() as u64 == bytes.div_ceil(FILE_PART_BYTES as u64)
        };
        let names: BTreeSet<&str> = objects.iter().map(|object| object.name.as_str()).collect();
        objects.len() == forms.len() && names.len() == forms.len() && objects.iter().zip(&forms).all(is_form)
    }
}

impl Attachments {
    /// The rows of its pieces go.
    pub(crate) fn forget_pieces(&mut self, tick: u64, (session, id): AttachmentKey, row: &AttachmentRow) {
        for piece in &row.pieces {
            self.put_chunk(tick, (session, id, piece.variant, piece.number), None);
        }
    }

    /// Whether the bytes of any file are in the archive.
    pub(crate) fn has_moved(&self, rows: &dyn Rows) -> Result<bool, ApplyError> {
        if self.usage.range(SiteId(0)).any(|(_, usage)| usage.moved > 0) {
            return Ok(true);
        }
        let mut found = Ok(false);
        rows.scan(keys::ATTACHMENT_USAGES, None, false, &mut |key, value| {
            let site = keys::site_of(key);
            found = match self.usage.peek(&site) {
                // What is in memory is newer than its row.
                Some(_) => Ok(false),
                None => rows::decode::<UsageRow>("attachment usage", value).map(|usage| usage.moved > 0),
            };
            matches!(found, Ok(false))
        })?;
        found
    }
}

impl Shard {
    pub(crate) fn archive_begin_file(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        file: AttachmentId,
        objects: Vec<String>,
    ) -> Result<Reply, ApplyError> {
        // What was moved is named: an object that is begun again would be dropped one day.
        if !self.attachments.row(rows, (id, file))?.is_some_and(|row| row.is_movable()) {
            return Ok(Reply::Rejected(Refusal::Changed));
        }
        self.begin_objects(rows, id, objects)
    }

    pub(crate) fn archive_file_moved(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        file: AttachmentId,
        objects: Vec<FileObject>,
    ) -> Result<Reply, ApplyError> {
        let key = (id, file);
        let row = self.attachments.row(rows, key)?.filter(|row| row.is_movable() && row.is_held_by(&objects));
        let Some(mut row) = row else { return Ok(Reply::Rejected(Refusal::Changed)) };
        for object in &objects {
            if self.object(rows, id, &object.name)?.is_none_or(|known| known.is_dropped) {
                return Ok(Reply::Rejected(Refusal::Changed));
            }
        }
        let mut usage = self.attachments.usage(rows, row.site)?;
        usage.moved += 1;
        let tick = self.work.tick;
        self.work.journal.note_session(Note::Archive, id, &[5, (file.0 >> 64) as u64, file.0 as u64]);
        for object in &objects {
            note_object(&mut self.work, id, &object.name, 6);
            self.name_object(id, &object.name);
        }
        self.attachments.forget_pieces(tick, key, &row);
        self.attachments.usage.put(row.site, tick, usage);
        self.attachments.here.put(row.here(key), tick, None);
        row.objects = objects;
        self.attachments.known.put(key, tick, Some(row));
        Ok(Reply::Done)
    }

    /// Up to `limit` files of a site that messages named by `upto_ms` and whose bytes are here, those that were named first before the others.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn files_here(
        &self,
        rows: &dyn Rows,
        site: SiteId,
        upto_ms: u64,
        limit: usize,
    ) -> Result<Vec<FileHere>, ApplyError> {
        let here = &self.attachments.here;
        let mut found: BTreeMap<HereKey, HereRow> = BTreeMap::new();
        let mut broken = None;
        rows.scan(&keys::all_here(site), None, false, &mut |key, value| {
            match (keys::read_here(key), rows::decode::<HereRow>("here", value)) {
                (Some((sent_ms, _)), _) if sent_ms > upto_ms => return false,
                (Some((sent_ms, (session, file))), Ok(row)) => {
                    let key = (site, sent_ms, session, file);
                    // What is in memory is newer than its row.
                    if here.peek(&key).is_none() {
                        found.insert(key, row);
                    }
                }
                (_, Err(error)) => broken = Some(error),
                (None, Ok(_)) => broken = Some(rows::corrupt("here", "its key has another length")),
            }
            broken.is_none() && found.len() < limit
        })?;
        if let Some(error) = broken {
            return Err(error);
        }
        let first = (site, 0, SessionId(0), AttachmentId(0));
        let of_site = here.range(first).take_while(|(key, _)| key.0 == site && key.1 <= upto_ms);
        found.extend(of_site.filter_map(|(key, row)| Some((*key, (*row)?))).take(limit));
        let file = |((.., session, file), row): (HereKey, HereRow)| FileHere { session, file, bytes: row.bytes };
        Ok(found.into_iter().take(limit).map(file).collect())
    }
}
