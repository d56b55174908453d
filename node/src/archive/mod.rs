//! Owns the way to the objects of the archive: a directory or an S3-compatible store. Does not decide what goes there: `mover` does, and the
//! log. Invariant: nobody waits for it longer than `FETCH_WITHIN`, and an object is believed only when its checksum is right.

mod cache;
mod files;
mod gate;
mod mover;
mod pack;
#[cfg(test)]
mod tests;
mod tidy;

use crate::backup::{BackupError, Place};
use crate::breaker::{Breaker, State};
use actix_web::web::Bytes;
use cache::Cache;
use chat::Archived;
use cluster::shard::ObjectEvents;
use parking_lot::Mutex;
use proto::archive::{ArchivedObject, FileObject};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

pub use files::watch as watch_files;
pub use mover::watch;

/// What a client is told whose wish needs the archive.
pub const AWAY: &str = "this is in the archive, which does not answer just now";

/// One object is fetched within this time, or not.
const FETCH_WITHIN: Duration = Duration::from_secs(5);
/// One object is written, or deleted, within this time, or not.
const WRITE_WITHIN: Duration = Duration::from_secs(60);
/// Objects that are fetched at once; who comes later waits, within the same time.
const FETCHES_MAX: usize = 16;
/// Plain bytes of all events in memory, which are there about twice as many, and of all parts of files.
const CACHE_BYTES_MAX: usize = 16 << 20;
/// Lost objects that are told one by one.
const LOST_MAX: usize = 1_000;
/// It says that the place is the archive, and not the empty directory below a disk that is not mounted.
const MARKER: &str = "everdesk-archive";

/// The archive of a node.
pub struct Archive {
    /// `None`: there is none, and nothing is moved.
    place: Option<Place>,
    /// It is no directory.
    is_store: bool,
    events: Mutex<Cache<String, ObjectEvents>>,
    /// By object and part.
    files: Mutex<Cache<(String, usize), Bytes>>,
    breaker: Mutex<Breaker>,
    /// Objects that were told to be lost.
    lost: Mutex<BTreeSet<String>>,
    fetches: Semaphore,
}

/// Why the archive did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Start the node with `--archive`.
    #[error("this node has no archive")]
    None,
    /// See to the directory or the store.
    #[error("{0}")]
    Place(#[from] BackupError),
    #[error("it did not answer in time")]
    Late,
    #[error("it failed again and again, and is left alone for a moment")]
    LeftAlone,
    /// Something is there, and not what was stored: restore it from a copy of the place.
    #[error("an object is damaged: {0}")]
    Damaged(String),
    /// The place is the archive, and does not have it.
    #[error("there is no such object")]
    Missing,
    /// See to the directory or the store: objects were written, and not there.
    #[error("the place is not the archive: it has no {MARKER}")]
    Elsewhere,
    /// See docs/ARCHIVE.md.
    #[error("the directory has no file {MARKER}: create it there, once, if this is the archive")]
    Unmarked,
}

impl Archive {
    /// `place`: as [`Place::open`] has it.
    /// # Errors
    /// No such form of a place.
    pub fn open(place: Option<&str>) -> Result<Arc<Archive>, BackupError> {
        let is_store = place.is_some_and(|text| text.starts_with("s3://"));
        let place = place.map(|text| Place::open(text, true)).transpose()?;
        Ok(Arc::new(Archive {
            place,
            is_store,
            events: Mutex::new(Cache::new(CACHE_BYTES_MAX)),
            files: Mutex::new(Cache::new(CACHE_BYTES_MAX)),
            breaker: Mutex::default(),
            lost: Mutex::default(),
            fetches: Semaphore::new(FETCHES_MAX),
        }))
    }

    fn place(&self) -> Result<&Place, ArchiveError> {
        self.place.as_ref().ok_or(ArchiveError::None)
    }

    /// The events of an object.
    /// # Errors
    /// Why they do not come; it was logged, but for `Missing`: see [`Archive::tell_lost`].
    pub async fn fetch(&self, object: ArchivedObject) -> Result<ObjectEvents, ArchiveError> {
        if let Some(known) = self.events.lock().get(&object.name) {
            return Ok(known);
        }
        let events = self.fetch_within(&object.name, async |place| read(place, &object).await).await?;
        self.events.lock().put(object.name, object.plain_bytes as usize, events.clone());
        Ok(events)
    }

    /// The same, for the cluster.
    pub async fn fetched(&self, object: ArchivedObject) -> Option<Archived> {
        match self.fetch(object).await {
            Ok(events) => Some(Archived::Events(events)),
            Err(ArchiveError::Missing) => Some(Archived::Lost),
            Err(_) => None,
        }
    }

    /// A part of a file, `proto::archive::FILE_PART_BYTES` long but for the last one.
    /// # Errors
    /// As [`Archive::fetch`].
    pub async fn fetch_part(&self, object: &FileObject, part: usize) -> Result<Bytes, ArchiveError> {
        let key = (object.name.clone(), part);
        if let Some(known) = self.files.lock().get(&key) {
            return Ok(known);
        }
        let bytes = self.fetch_within(&object.name, async |place| files::read_part(place, object, part).await).await?;
        self.files.lock().put(key, bytes.len(), bytes.clone());
        Ok(bytes)
    }

    /// What is read of an object, in time, if the place is not left alone.
    async fn fetch_within<T>(
        &self,
        name: &str,
        read: impl AsyncFnOnce(&Place) -> Result<T, ArchiveError>,
    ) -> Result<T, ArchiveError> {
        let started = Instant::now();
        let fetched = match tokio::time::timeout(FETCH_WITHIN, self.fetch_guarded(read)).await {
            Ok(fetched) => fetched,
            Err(_) => {
                self.breaker.lock().tell(Instant::now(), false, false);
                Err(ArchiveError::Late)
            }
        };
        let result = if fetched.is_ok() { "ok" } else { "failed" };
        metrics::counter!("chat_archive_fetched_total", "result" => result).increment(1);
        match &fetched {
            Ok(_) => metrics::histogram!("chat_archive_fetch_seconds").record(started.elapsed().as_secs_f64()),
            // It may have been erased a moment ago: whoever asked looks again.
            Err(ArchiveError::LeftAlone | ArchiveError::Missing) => {}
            Err(error) => tracing::warn!(object = name, %error, "the archive does not give an object"),
        }
        fetched
    }

    /// Says once that an object is lost which is missing and still named: readers go on asking for it, and are told each time.
    pub fn tell_lost(&self, name: &str) {
        let mut lost = self.lost.lock();
        if lost.len() < LOST_MAX && lost.insert(name.to_owned()) {
            metrics::counter!("chat_archive_lost_total").increment(1);
            tracing::error!(object = name, "the archive has lost an object");
        }
    }

    async fn fetch_guarded<T>(
        &self,
        read: impl AsyncFnOnce(&Place) -> Result<T, ArchiveError>,
    ) -> Result<T, ArchiveError> {
        let place = self.place()?;
        let _turn = self.fetches.acquire().await.map_err(|_| ArchiveError::LeftAlone)?;
        let is_trial = match self.breaker.lock().state(Instant::now()) {
            State::Open(_) => return Err(ArchiveError::LeftAlone),
            State::Trial => true,
            State::Closed => false,
        };
        if is_trial && !self.breaker.lock().try_once(Instant::now(), FETCH_WITHIN) {
            return Err(ArchiveError::LeftAlone);
        }
        let mut read = read(place).await;
        if matches!(read, Err(ArchiveError::Missing)) && !self.is_there().await.unwrap_or(false) {
            read = Err(ArchiveError::Elsewhere);
        }
        // One that is damaged or missing says nothing of the others.
        let is_well = matches!(read, Ok(_) | Err(ArchiveError::Damaged(_) | ArchiveError::Missing));
        self.breaker.lock().tell(Instant::now(), is_well, is_trial);
        read
    }

    /// Writes an object and reads it back.
    async fn store(&self, object: &ArchivedObject, bytes: Vec<u8>) -> Result<(), ArchiveError> {
        let place = self.place()?;
        let write = async {
            place.put(&object.name, bytes).await?;
            read(place, object).await.map(drop)
        };
        tokio::time::timeout(WRITE_WITHIN, write).await.map_err(|_| ArchiveError::Late)?
    }

    /// The object is not there when this returns.
    async fn delete(&self, name: &str) -> Result<(), ArchiveError> {
        let place = self.place()?;
        self.events.lock().remove(&name.to_owned());
        // A file's parts nobody reads any more: the log no longer names its object.
        let delete = async {
            // What is not there was deleted before, unless the place is another.
            if !self.is_there().await? {
                return Err(ArchiveError::Elsewhere);
            }
            Ok(place.delete(std::iter::once(name.to_owned())).await?)
        };
        tokio::time::timeout(WRITE_WITHIN, delete).await.map_err(|_| ArchiveError::Late)?
    }

    /// Whether the place is the archive.
    async fn is_there(&self) -> Result<bool, ArchiveError> {
        const MARKER_BYTES_MAX: u64 = 1 << 10;
        Ok(self.place()?.get(MARKER, MARKER_BYTES_MAX).await?.is_some())
    }

    /// Makes a store the archive. A directory is made that by its operator: one below a disk that is not mounted looks the same.
    async fn found(&self) -> Result<(), ArchiveError> {
        if !self.is_store {
            return Err(ArchiveError::Unmarked);
        }
        let text = b"Events of conversations. See docs/ARCHIVE.md of Everdesk.\n".to_vec();
        Ok(self.place()?.put(MARKER, text).await?)
    }
}

async fn read(place: &Place, object: &ArchivedObject) -> Result<ObjectEvents, ArchiveError> {
    let bytes = place.get(&object.name, pack::PACKED_BYTES_MAX).await?.ok_or(ArchiveError::Missing)?;
    pack::unpack(object, &bytes).map(Arc::new).map_err(ArchiveError::Damaged)
}
