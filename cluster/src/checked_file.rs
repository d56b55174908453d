//! Owns small files that must be whole or absent: a row and its check sum, replaced in one step.
//! Does not know what the row says. Invariant: on the disk, under its name, once `save` returns; readable by its owner only.

use proto::codec::{self, Frozen};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// SHA-256 of the row before it, cut to this.
const CHECK_LEN: usize = 8;

/// Why a file cannot be read or written; the text names it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{what} the file `{file}` of the data directory: {cause}")]
    Io { what: &'static str, file: &'static str, cause: std::io::Error },
    #[error("the file `{file}` of the data directory is damaged: {why}")]
    Damaged { file: &'static str, why: String },
}

impl FileError {
    pub fn damaged(file: &'static str, why: impl ToString) -> FileError {
        FileError::Damaged { file, why: why.to_string() }
    }
}

/// The row as it was written; `None`: there is no such file.
/// # Errors
/// `Damaged` when it is not what was written.
pub fn load<T: Frozen>(dir: &Path, file: &'static str) -> Result<Option<T>, FileError> {
    read(dir, file)?.map(|row| codec::decode(&row).map_err(|error| FileError::damaged(file, error))).transpose()
}

fn read(dir: &Path, file: &'static str) -> Result<Option<Vec<u8>>, FileError> {
    match std::fs::read(dir.join(file)) {
        Ok(bytes) => checked(file, bytes).map(Some),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(FileError::Io { what: "cannot read", file, cause }),
    }
}

/// The row of a file whose check sum is right.
pub(crate) fn checked(file: &'static str, mut bytes: Vec<u8>) -> Result<Vec<u8>, FileError> {
    let cut = bytes.len().checked_sub(CHECK_LEN).ok_or_else(|| FileError::damaged(file, "too short"))?;
    if check(&bytes[..cut]) != bytes[cut..] {
        return Err(FileError::damaged(file, "its check sum is wrong"));
    }
    bytes.truncate(cut);
    Ok(bytes)
}

/// # Errors
/// The directory cannot be written.
pub fn save<T: Frozen>(dir: &Path, file: &'static str, row: &T) -> Result<(), FileError> {
    let row = codec::encode(row);
    replace(dir, file, &[&row, &check(&row)])
}

/// Replaces a file, with or without a check sum, by the joined parts; on the disk once this returns.
/// # Errors
/// The directory cannot be written.
pub fn replace(dir: &Path, file: &'static str, parts: &[&[u8]]) -> Result<(), FileError> {
    write(dir, file, parts).map_err(|cause| FileError::Io { what: "cannot write", file, cause })
}

fn write(dir: &Path, file: &str, parts: &[&[u8]]) -> std::io::Result<()> {
    let fresh = dir.join(format!("{file}.new"));
    let mut open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    for part in parts {
        open.write_all(part)?;
    }
    open.sync_all()?;
    std::fs::rename(fresh, dir.join(file))?;
    File::open(dir)?.sync_all()
}

pub(crate) fn check(row: &[u8]) -> [u8; CHECK_LEN] {
    let mut sum = [0; CHECK_LEN];
    sum.copy_from_slice(&Sha256::digest(row)[..CHECK_LEN]);
    sum
}
