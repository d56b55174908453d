//! Owns reads of events that may have gone to the archive: it reads, asks the node above for the object that is missing, and reads again.
//! Does not know where objects are. Invariant: no lock of the state is held while the archive is asked, and apply never gets here.

use super::Shard;
use chat::{ApplyError, Archived, Rows, WithObjects};
use proto::archive::ArchivedObject;
use proto::command::Event;
use proto::peer::{Refused, ShardReply};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Objects of one read; a page of history needs a few, a page of a feed one per session at worst.
const OBJECTS_MAX: usize = 512;

/// Events of an object.
pub type ObjectEvents = Arc<Vec<Arc<Event>>>;

/// What a read was given of the archive so far, by object.
type Objects = BTreeMap<String, Archived>;

/// What a read found, and the objects that it asked for and that are lost.
type Attempt<T> = (Result<T, ApplyError>, BTreeSet<String>);

impl Shard {
    /// As [`Shard::read`], with what is in the archive. `read` is called again for each object that it misses.
    /// # Errors
    /// As [`Shard::read`]; `Refused::ArchiveAway` when the archive does not give an object now.
    pub async fn read_whole<T>(
        &self,
        mut read: impl FnMut(&mut chat::Shard, &dyn Rows) -> Result<T, ApplyError>,
    ) -> Result<T, ShardReply> {
        let mut objects = Objects::new();
        loop {
            let attempt = self.read(|state, rows| attempt(state, rows, &objects, &mut read)).await?;
            if let Some(found) = self.take(attempt, &mut objects).await? {
                return Ok(found);
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
        let mut objects = Objects::new();
        loop {
            let attempt = self.peek(|state, rows| attempt(state, rows, &objects, &mut read));
            if let Some(found) = self.take(attempt, &mut objects).await? {
                return Ok(found);
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

    /// As [`Shard::peek_in_place`], and whether anything is lost of what was found.
    /// # Errors
    /// Those of [`Shard::peek_in_place`].
    pub fn peek_telling<T>(
        &self,
        mut read: impl FnMut(&mut chat::Shard, &dyn Rows) -> Result<T, ApplyError>,
    ) -> Result<(T, bool), ApplyError> {
        let mut objects = Objects::new();
        loop {
            let (found, lost) = self.peek(|state, rows| attempt(state, rows, &objects, &mut read));
            let object = match found {
                Err(ApplyError::Archived(object)) if is_new(&objects, &object) => object,
                Err(error) => return Err(error),
                Ok(found) => {
                    self.tell_lost(&lost);
                    return Ok((found, !lost.is_empty()));
                }
            };
            let asked = self.hooks.archived((*object).clone());
            let fetched = crate::blocking::in_place(|| tokio::runtime::Handle::current().block_on(asked));
            let Some(held) = fetched else { return Err(ApplyError::Archived(object)) };
            objects.insert(object.name, held);
        }
    }

    /// What people are given of an attempt; `None`: it is to be read again, with one object more, or with one that is known to be lost:
    /// what was erased or cut while it was fetched is nobody's loss.
    async fn take<T>(&self, (found, lost): Attempt<T>, objects: &mut Objects) -> Result<Option<T>, ShardReply> {
        const AWAY: ShardReply = ShardReply::Refused(Refused::ArchiveAway);
        if !lost.is_empty() {
            self.tell_lost(&lost);
            // They are not told that there was nothing.
            return Err(AWAY);
        }
        let object = match found {
            Ok(found) => return Ok(Some(found)),
            Err(ApplyError::Archived(object)) if is_new(objects, &object) => *object,
            Err(ApplyError::Archived(_)) => return Err(AWAY),
            Err(error) => return Err(self.halt(&error.to_string())),
        };
        let name = object.name.clone();
        let held = self.hooks.archived(object).await.ok_or(AWAY)?;
        objects.insert(name, held);
        Ok(None)
    }

    fn tell_lost(&self, lost: &BTreeSet<String>) {
        lost.iter().for_each(|object| self.hooks.lost(object));
    }
}

fn attempt<T>(
    state: &mut chat::Shard,
    rows: &dyn Rows,
    objects: &Objects,
    read: &mut impl FnMut(&mut chat::Shard, &dyn Rows) -> Result<T, ApplyError>,
) -> Attempt<T> {
    let rows = WithObjects::new(rows, objects);
    let found = read(state, &rows);
    (found, rows.into_lost())
}

/// One that was given and does not hold what it should would be asked for for ever.
fn is_new(objects: &Objects, object: &ArchivedObject) -> bool {
    objects.len() < OBJECTS_MAX && !objects.contains_key(&object.name)
}
