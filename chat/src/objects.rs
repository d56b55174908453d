//! Owns objects of the archive that may exist and that nothing names: those being written, and those to be deleted. Does not know what is in
//! them. Invariant: an object is known to the log from before it is written until something names it, or the place has said that it is gone.

use crate::apply::{Shard, Work};
use crate::cache::{Table, Weight};
use crate::journal::Note;
use crate::keys;
use crate::limits::ARCHIVE_RANGES_MAX;
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::{self, ObjectRow, Rows};
use proto::ids::SessionId;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Where an object stands: its session, and the hash of its name.
pub(crate) type ObjectKey = (SessionId, u128);
/// Objects that nothing names; `None`: one is no more, or something names it.
pub(crate) type Objects = Table<ObjectKey, Option<ObjectRow>>;

/// An object that may exist and that nothing names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LooseObject {
    pub session: SessionId,
    pub name: String,
    /// Since when, by the clock of the log.
    pub since_ms: u64,
    /// It is to be deleted. Else it is being written, or was when its writer died.
    pub is_dropped: bool,
}

impl Weight for ObjectRow {
    fn bytes(&self) -> usize {
        size_of::<ObjectRow>() + self.name.len()
    }
}

impl Shard {
    /// Objects that nothing names are about to be written.
    pub(crate) fn begin_objects(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        objects: Vec<String>,
    ) -> Result<Reply, ApplyError> {
        if objects.is_empty() || objects.len() > ARCHIVE_RANGES_MAX {
            return Ok(Reply::Rejected(Refusal::Changed));
        }
        for name in &objects {
            // One that is to be deleted may be gone before it is written.
            if self.object(rows, id, name)?.is_some_and(|known| known.is_dropped) {
                return Ok(Reply::Rejected(Refusal::Changed));
            }
        }
        for name in objects {
            note_object(&mut self.work, id, &name, 1);
            let row = ObjectRow { since_ms: self.work.clock_ms, is_dropped: false, name };
            self.objects.put((id, xxh3_128(row.name.as_bytes())), self.work.tick, Some(row));
        }
        Ok(Reply::Done)
    }

    /// An object that nothing names any more is to be deleted.
    pub(crate) fn drop_object(&mut self, id: SessionId, name: String) {
        drop_object(&mut self.objects, &mut self.work, id, name);
    }

    /// Something names the object now.
    pub(crate) fn name_object(&mut self, id: SessionId, name: &str) {
        self.objects.put((id, xxh3_128(name.as_bytes())), self.work.tick, None);
    }

    pub(crate) fn object(&self, rows: &dyn Rows, id: SessionId, name: &str) -> Result<Option<ObjectRow>, ApplyError> {
        let key = (id, xxh3_128(name.as_bytes()));
        match self.objects.peek(&key) {
            Some(known) => Ok(known.clone()),
            None => rows::read(rows, "object", &keys::object(key)),
        }
    }

    /// Up to `limit` objects that may exist and that nothing names; those of the rows first looked at.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn loose_objects(&self, rows: &dyn Rows, limit: usize) -> Result<Vec<LooseObject>, ApplyError> {
        let mut found: BTreeMap<ObjectKey, ObjectRow> = BTreeMap::new();
        let mut broken = None;
        rows.scan(keys::OBJECTS, None, false, &mut |key, value| {
            match (keys::read_object(key), rows::decode::<ObjectRow>("object", value)) {
                // What is in memory is newer than its row.
                (Some(key), Ok(row)) if self.objects.peek(&key).is_none() => drop(found.insert(key, row)),
                (Some(_), Ok(_)) => {}
                (_, Err(error)) => broken = Some(error),
                (None, Ok(_)) => broken = Some(rows::corrupt("object", "its key is too short")),
            }
            broken.is_none() && found.len() < limit
        })?;
        if let Some(error) = broken {
            return Err(error);
        }
        let in_memory = self.objects.range((SessionId(0), 0)).filter_map(|(key, row)| Some((*key, row.clone()?)));
        found.extend(in_memory.take(limit));
        let loose = |((session, _), row): (ObjectKey, ObjectRow)| LooseObject {
            session,
            name: row.name,
            since_ms: row.since_ms,
            is_dropped: row.is_dropped,
        };
        Ok(found.into_iter().take(limit).map(loose).collect())
    }

    /// Whether the archive has, or may have, anything of this shard.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn has_archived(&self, rows: &dyn Rows) -> Result<bool, ApplyError> {
        let mut found = self.sessions.range(SessionId(0)).any(|(_, session)| session.log.cold.last() > 0);
        rows.scan(keys::ARCHIVED, None, false, &mut |_, _| {
            found = true;
            false
        })?;
        Ok(found || self.attachments.has_moved(rows)? || !self.loose_objects(rows, 1)?.is_empty())
    }
}

/// An object that nothing names any more is to be deleted.
pub(crate) fn drop_object(objects: &mut Objects, work: &mut Work, id: SessionId, name: String) {
    note_object(work, id, &name, 4);
    let row = ObjectRow { since_ms: work.clock_ms, is_dropped: true, name };
    objects.put((id, xxh3_128(row.name.as_bytes())), work.tick, Some(row));
}

pub(crate) fn note_object(work: &mut Work, id: SessionId, name: &str, what: u64) {
    work.journal.note_session(Note::Archive, id, &[what, xxh3_64(name.as_bytes())]);
}
