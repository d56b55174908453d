//! Owns reads of events that may have gone to the archive: it reads, asks the node above for the object that is missing, and reads again.
//! Does not know where objects are. Invariant: no lock of the state is held while the archive is asked, and apply never gets here.

use super::Shard;
use chat::{ApplyError, Archived, Rows, RowsError};
use proto::archive::ArchivedObject;
use proto::command::Event;
use proto::peer::{Refused, ShardReply};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Objects of one read; a page of history needs a few, a page of a feed one per session at worst.
const OBJECTS_MAX: usize = 512;

/// Events of an object.
pub type ObjectEvents = Arc<Vec<Arc<Event>>>;

/// What the node above says of an object.
pub enum Fetched {
    Events(ObjectEvents),
    /// It does not come now.
    Away,
    /// The archive answers, and does not have it.
    Lost,
}

/// Rows, and the objects that were asked for in this read.
struct WithObjects<'a> {
    rows: &'a dyn Rows,
    objects: &'a BTreeMap<String, Archived>,
}

impl Rows for WithObjects<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        self.rows.get(key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), RowsError> {
        self.rows.scan(prefix, from, reverse, visit)
    }

    fn archived(&self, object: &str) -> Option<Archived> {
        self.objects.get(object).cloned()
    }
}

impl Shard {
    /// As [`Shard::read`], with what is in the archive. `read` is called again for each object that it misses.
    /// # Errors
    /// As [`Shard::read`]; `Refused::ArchiveAway` when the archive does not give an object now.
    pub async fn read_whole<T>(
        &self,
        mut read: impl FnMut(&mut chat::Shard, &dyn Rows) -> Result<T, ApplyError>,
    ) -> Result<T, ShardReply> {
        let mut objects = BTreeMap::new();
        loop {
            let found = self.read(|state, rows| read(state, &WithObjects { rows, objects: &objects })).await?;
            match found {
                Ok(found) => return Ok(found),
                Err(ApplyError::Archived(object)) => self.fetch(*object, &mut objects).await?,
                Err(error) => return Err(self.halt(&error.to_string())),
            }
        }
    }

    /// As [`Shard::peek`], with what is in the archive.
    /// # Errors
    /// As [`Shard::read_whole`], but for those of leadership.
    pub async fn peek_whole<T>(
        &self,
        mut read: impl FnMut(&mut chat::Shard, &dyn Rows) -> Result<T, ApplyError>,
    ) -> Result<T, ShardReply> {
        let mut objects = BTreeMap::new();
        loop {
            let found = self.peek(|state, rows| read(state, &WithObjects { rows, objects: &objects }));
            match found {
                Ok(found) => return Ok(found),
                Err(ApplyError::Archived(object)) => self.fetch(*object, &mut objects).await?,
                Err(error) => return Err(self.halt(&error.to_string())),
            }
        }
    }

    /// As [`Shard::peek_whole`], for who reads in place and goes on whatever was lost; only on a task of the runtime. What the archive has
    /// lost reads as if it were erased.
    /// # Errors
    /// `Archived` when the archive does not give an object now, and what `read` returns.
    pub fn peek_in_place<T>(
        &self,
        read: impl FnMut(&mut chat::Shard, &dyn Rows) -> Result<T, ApplyError>,
    ) -> Result<T, ApplyError> {
        self.peek_telling(read).map(|(found, _)| found)
    }

    /// As [`Shard::peek_in_place`], and whether anything that was asked for is lost.
    /// # Errors
    /// Those of [`Shard::peek_in_place`].
    pub fn peek_telling<T>(
        &self,
        mut read: impl FnMut(&mut chat::Shard, &dyn Rows) -> Result<T, ApplyError>,
    ) -> Result<(T, bool), ApplyError> {
        let (mut objects, mut is_lost) = (BTreeMap::new(), false);
        loop {
            let object = match self.peek(|state, rows| read(state, &WithObjects { rows, objects: &objects })) {
                Err(ApplyError::Archived(object)) if !objects.contains_key(&object.name) => object,
                found => return found.map(|found| (found, is_lost)),
            };
            let asked = self.hooks.archived((*object).clone());
            let fetched = crate::blocking::in_place(|| tokio::runtime::Handle::current().block_on(asked));
            let held = match fetched {
                _ if objects.len() >= OBJECTS_MAX => return Err(ApplyError::Archived(object)),
                Fetched::Events(events) => Archived::Events(events),
                Fetched::Lost => Archived::Lost,
                Fetched::Away => return Err(ApplyError::Archived(object)),
            };
            is_lost |= matches!(held, Archived::Lost);
            objects.insert(object.name, held);
        }
    }

    async fn fetch(&self, object: ArchivedObject, objects: &mut BTreeMap<String, Archived>) -> Result<(), ShardReply> {
        let name = object.name.clone();
        // One that was given and does not hold what it should would be asked for for ever.
        let is_new = objects.len() < OBJECTS_MAX && !objects.contains_key(&name);
        match if is_new { self.hooks.archived(object).await } else { Fetched::Away } {
            Fetched::Events(events) => {
                objects.insert(name, Archived::Events(events));
                Ok(())
            }
            // People are not told that there was nothing.
            Fetched::Away | Fetched::Lost => Err(ShardReply::Refused(Refused::ArchiveAway)),
        }
    }
}
