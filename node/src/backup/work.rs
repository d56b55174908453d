//! Owns who works at a place, here and elsewhere. Does not do the work. Invariant: chunks are deleted only while no backup is
//! being made at the place, because one may have found them and not yet written its manifest.

use super::{BackupError, Manifest, Place};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A mark that is older is of a process that died.
const MARK_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest mark, in bytes.
const MARK_BYTES_MAX: u64 = 64;

/// What works at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Backup,
    Prune,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Work::Backup => "backup",
            Work::Prune => "prune",
        }
    }
}

/// Says at the place that work is under way, then looks who else says so. Both sides write before they look, so that of two
/// that begin at once at least one sees the other.
/// # Errors
/// `Busy`, `Place`; the mark is gone again then, where the place can be written.
pub async fn mark(place: &Place, work: Work, id: &str, now_ms: u64) -> Result<(), BackupError> {
    let path = format!("running/{}-{id}", work.name());
    place.put(&path, now_ms.to_string().into_bytes()).await?;
    let free = look_around(place, work, &path, now_ms).await;
    if free.is_err() {
        let _ = unmark(place, work, id).await;
    }
    free
}

async fn look_around(place: &Place, work: Work, path: &str, now_ms: u64) -> Result<(), BackupError> {
    for other in place.list("running/").await? {
        // Backups do not disturb each other.
        let disturbs = other.starts_with(Work::Prune.name()) || work == Work::Prune;
        if !disturbs || path.ends_with(&other) {
            continue;
        }
        let at = place.get(&format!("running/{other}"), MARK_BYTES_MAX).await?;
        let Some(at) = at.and_then(|bytes| String::from_utf8(bytes).ok()?.parse::<u64>().ok()) else { continue };
        if Duration::from_millis(now_ms.saturating_sub(at)) < MARK_AGE_MAX {
            return Err(BackupError::Busy(format!(
                "{other} is under way at {}; if it died, delete running/{other} there",
                place.text()
            )));
        }
    }
    Ok(())
}

/// The work is done.
/// # Errors
/// `Place`: the mark stays for a day.
pub async fn unmark(place: &Place, work: Work, id: &str) -> Result<(), BackupError> {
    place.delete([format!("running/{}-{id}", work.name())].into_iter()).await
}

/// How far a backup of this node is.
#[derive(Debug, Default)]
pub struct Progress {
    pub rows: AtomicU64,
    pub bytes: AtomicU64,
    pub chunks: AtomicU64,
    pub chunks_new: AtomicU64,
    /// Bytes that went to the place, compressed.
    pub bytes_stored: AtomicU64,
}

impl Progress {
    pub(super) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

/// What became of a backup of this node.
#[derive(Debug, Clone)]
pub enum JobState {
    Running,
    Done(Box<Manifest>),
    Failed(String),
}

/// One backup.
#[derive(Debug)]
pub struct Job {
    pub id: String,
    pub to: String,
    pub progress: Progress,
    pub state: Mutex<JobState>,
}

/// The backups of a node: one at a time, and only the last one is remembered.
#[derive(Debug, Default)]
pub struct Jobs {
    last: Mutex<Option<Arc<Job>>>,
}

impl Jobs {
    pub fn last(&self) -> Option<Arc<Job>> {
        self.last.lock().clone()
    }

    /// A new backup; `None` while another one runs.
    pub fn begin(&self, id: String, to: String) -> Option<Arc<Job>> {
        let mut last = self.last.lock();
        let runs = last.as_ref().is_some_and(|job| matches!(*job.state.lock(), JobState::Running));
        if runs {
            return None;
        }
        let job = Arc::new(Job { id, to, progress: Progress::default(), state: Mutex::new(JobState::Running) });
        *last = Some(job.clone());
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn backups_bear_each_other_and_a_prune_bears_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open(dir.path().to_str().unwrap(), true).unwrap();
        mark(&place, Work::Backup, "a", 1_000).await.unwrap();
        mark(&place, Work::Backup, "b", 1_000).await.unwrap();
        assert!(matches!(mark(&place, Work::Prune, "c", 2_000).await, Err(BackupError::Busy(_))));
        unmark(&place, Work::Backup, "a").await.unwrap();
        unmark(&place, Work::Backup, "b").await.unwrap();
        mark(&place, Work::Prune, "c", 2_000).await.unwrap();
        assert!(matches!(mark(&place, Work::Backup, "d", 3_000).await, Err(BackupError::Busy(_))));
        let day_later = 2_000 + 25 * 3_600_000;
        mark(&place, Work::Backup, "e", day_later).await.unwrap();
    }
}
