//! Owns the claim of one process on a data directory. Does not know what lies in it.
//! Invariant: nothing in the directory is read or written before it is claimed; the kernel drops the claim with the process.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const LOCK_NAME: &str = "everdesk.lock";

/// A claimed directory; dropping it gives it up.
pub struct DataDir {
    _lock: File,
}

/// Why a directory cannot be had; the text names it.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Stop the other process, or start with another directory.
    #[error("data directory {} is in use by another everdesk process{}", dir.display(), owner(*pid))]
    InUse { dir: PathBuf, pid: Option<u32> },
    /// Name a directory.
    #[error("data directory {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The system says no: see the cause.
    #[error("data directory {}: {cause}", dir.display())]
    Io { dir: PathBuf, cause: std::io::Error },
}

fn owner(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

fn in_use(dir: &Path, lock: &mut File) -> ClaimError {
    let mut pid = String::new();
    // Who it is only helps; that somebody has it is sure.
    let _ = lock.read_to_string(&mut pid);
    ClaimError::InUse { dir: dir.to_owned(), pid: pid.trim().parse().ok() }
}

impl DataDir {
    /// Keeps processes from starting in a directory that is read; changes nothing in it.
    /// # Errors
    /// `InUse`: a node runs there. `NotADirectory`, `Io`.
    pub fn hold_still(dir: &Path) -> Result<Option<DataDir>, ClaimError> {
        let io = |cause| ClaimError::Io { dir: dir.to_owned(), cause };
        if !dir.is_dir() {
            return Err(ClaimError::NotADirectory(dir.to_owned()));
        }
        let mut lock = match File::open(dir.join(LOCK_NAME)) {
            // A copy without it: nobody runs there.
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            lock => lock.map_err(io)?,
        };
        match lock.try_lock() {
            Ok(()) => Ok(Some(DataDir { _lock: lock })),
            Err(TryLockError::WouldBlock) => Err(in_use(dir, &mut lock)),
            Err(TryLockError::Error(cause)) => Err(io(cause)),
        }
    }

    /// Makes the directory unless it is there, and claims it.
    /// # Errors
    /// `ClaimError`; nothing but the directory and the lock file was made then.
    pub fn claim(dir: &Path) -> Result<DataDir, ClaimError> {
        let io = |cause| ClaimError::Io { dir: dir.to_owned(), cause };
        if dir.exists() && !dir.is_dir() {
            return Err(ClaimError::NotADirectory(dir.to_owned()));
        }
        // Its owner only: the key of the cluster's authority lies in there.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(LOCK_NAME));
        let mut lock = open.map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(dir, &mut lock)),
            Err(TryLockError::Error(cause)) => return Err(io(cause)),
        }
        lock.set_len(0).map_err(io)?;
        lock.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(io)?;
        Ok(DataDir { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_at_a_time_and_the_other_is_told_who() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("new/data");
        let claim = DataDir::claim(&dir).unwrap();
        let told = DataDir::claim(&dir).err().unwrap().to_string();
        assert!(told.contains("is in use") && told.ends_with(&format!("(pid {})", std::process::id())), "{told}");
        assert!(matches!(DataDir::hold_still(&dir), Err(ClaimError::InUse { .. })));
        drop(claim);
        let still = DataDir::hold_still(&dir).unwrap();
        assert!(still.is_some() && DataDir::claim(&dir).is_err());
        drop(still);
        assert!(DataDir::claim(&dir).is_ok());
        let mode = std::os::unix::fs::PermissionsExt::mode(&dir.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700, "its owner only");
    }

    #[test]
    fn a_file_is_no_data_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let told = DataDir::claim(file.path()).err().unwrap().to_string();
        assert!(told.ends_with("is not a directory"), "{told}");
    }
}
