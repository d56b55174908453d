//! Owns the way to a directory or an S3-compatible store. Does not know what is kept there. Invariant: an object is there whole
//! or not at all, and a path never leaves the place.

use super::BackupError;
use futures_util::{StreamExt, TryStreamExt};
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{ErrorKind, Operator, services};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

/// Longest text that names a place, in bytes.
const PLACE_BYTES_MAX: usize = 1024;
/// Tries of one request after the first.
const RETRIES_MAX: usize = 4;
/// One request to a store, and one read or write of a part.
const REQUEST_WITHIN: Duration = Duration::from_secs(60);
/// Where files of a directory are written before they are renamed; the name is no place of ours.
const INCOMING: &str = ".incoming";
/// What a store without regions goes by.
const REGION_DEFAULT: &str = "us-east-1";

/// Where backups are kept.
#[derive(Clone, Debug)]
pub struct Place {
    store: Operator,
    text: String,
}

impl Place {
    /// A directory (`/dir`, `file:///dir`) or a store (`s3://bucket/prefix`, with the usual `AWS_…` variables). Makes the directory
    /// when `make` is set.
    /// # Errors
    /// `Invalid`: no such form, no absolute path, no such directory.
    pub fn open(text: &str, make: bool) -> Result<Place, BackupError> {
        if text.len() > PLACE_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(BackupError::Invalid(format!("a place has at most {PLACE_BYTES_MAX} bytes of plain text")));
        }
        let store = match text.split_once("://") {
            Some(("s3", rest)) => bucket(rest),
            Some(("file", path)) => directory(path, make),
            None => directory(text, make),
            Some((other, _)) => return Err(BackupError::Invalid(format!("`{other}://` is not a directory or s3://"))),
        }?;
        let retry = RetryLayer::new().with_jitter().with_max_times(RETRIES_MAX);
        let timeout = TimeoutLayer::new().with_timeout(REQUEST_WITHIN).with_io_timeout(REQUEST_WITHIN);
        Ok(Place { store: store.layer(timeout).layer(retry), text: text.to_owned() })
    }

    /// How the operator named it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// # Errors
    /// `Place`.
    pub async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<(), BackupError> {
        self.store.write(path, bytes).await.map(drop).map_err(|cause| failed("write", path, cause))
    }

    /// The object; `None` when there is none.
    /// # Errors
    /// `Place`; `Damaged` above `bytes_max`.
    pub async fn get(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, BackupError> {
        let stat = match self.store.stat(path).await {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            stat => stat.map_err(|cause| failed("read", path, cause))?,
        };
        if stat.content_length() > bytes_max {
            return Err(BackupError::Damaged(format!("{path} has {} bytes", stat.content_length())));
        }
        match self.store.read(path).await {
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            read => Ok(Some(read.map_err(|cause| failed("read", path, cause))?.to_vec())),
        }
    }

    /// Some of the bytes of an object; `None` when there is none. Short of the object's end it is all that was asked for.
    /// # Errors
    /// `Place`.
    pub async fn get_part(&self, path: &str, bytes: Range<u64>) -> Result<Option<Vec<u8>>, BackupError> {
        match self.store.read_with(path).range(bytes).await {
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            read => Ok(Some(read.map_err(|cause| failed("read", path, cause))?.to_vec())),
        }
    }

    /// The names of all objects below `folder`, which ends in `/`, in no order.
    /// # Errors
    /// `Place`.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>, BackupError> {
        let error = |cause| failed("list", folder, cause);
        let mut found = Vec::new();
        let mut entries = match self.store.lister_with(folder).recursive(true).await {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(found),
            entries => entries.map_err(error)?,
        };
        loop {
            match entries.try_next().await {
                Ok(Some(entry)) if entry.metadata().is_file() => found.push(entry.name().to_owned()),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(found),
                // A directory that was never made holds nothing.
                Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(found),
                Err(cause) => return Err(error(cause)),
            }
        }
    }

    /// Deletes objects; those that are not there are deleted already.
    /// # Errors
    /// `Place`: the first that stays.
    pub async fn delete(&self, paths: impl Iterator<Item = String>) -> Result<(), BackupError> {
        /// Requests under way at once.
        const AT_ONCE: usize = 8;
        let delete = |path: String| async move {
            self.store.delete(&path).await.map_err(|cause| failed("delete", &path, cause))
        };
        futures_util::stream::iter(paths.map(delete)).buffer_unordered(AT_ONCE).try_collect().await
    }
}

fn failed(what: &'static str, path: &str, cause: opendal::Error) -> BackupError {
    BackupError::Place { what, path: path.to_owned(), cause: Box::new(cause) }
}

fn directory(path: &str, make: bool) -> Result<Operator, BackupError> {
    let dir = Path::new(path);
    if !dir.is_absolute() || path.contains("..") {
        return Err(BackupError::Invalid(format!("`{path}`: give an absolute path, or s3://BUCKET/PREFIX")));
    }
    if !make && !dir.is_dir() {
        return Err(BackupError::Invalid(format!("there is no directory {path}")));
    }
    let incoming = dir.join(INCOMING);
    let builder = services::Fs::default().root(path);
    // A file that is not whole must not have a chunk's name: it would count as stored.
    let builder = if make { builder.atomic_write_dir(&incoming.to_string_lossy()) } else { builder };
    Operator::new(builder).map_err(|cause| failed("open", path, cause))
}

fn bucket(rest: &str) -> Result<Operator, BackupError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/');
    if bucket.is_empty() || !rest.chars().all(is_plain) || rest.contains("..") {
        let text = "a store is s3://BUCKET/PREFIX; endpoint and keys come from AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY";
        return Err(BackupError::Invalid(text.into()));
    }
    install_http();
    let mut builder = services::S3::default().bucket(bucket).root(&format!("/{prefix}")).disable_ec2_metadata();
    if ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().all(|name| std::env::var_os(name).is_none()) {
        builder = builder.region(REGION_DEFAULT);
    }
    Operator::new(builder).map_err(|cause| failed("open", rest, cause))
}

/// Once per process: the HTTP client, and what its TLS computes with.
fn install_http() {
    // Somebody else's provider is as good; the first one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    opendal_http_transport_reqwest::install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_absolute_directory_or_a_bucket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        for good in [path.to_owned(), format!("file://{path}"), "s3://bucket/some/prefix".into(), "s3://bucket".into()]
        {
            assert!(Place::open(&good, true).is_ok(), "{good}");
        }
        let missing = format!("{path}/missing");
        let long = format!("/{}", "x".repeat(2000));
        for bad in [
            "relative/dir",
            "ftp://host/dir",
            "s3://",
            "s3://b?x=1",
            "s3://key:secret@b/x",
            "s3://b/../c",
            &missing,
            &long,
        ] {
            assert!(matches!(Place::open(bad, false), Err(BackupError::Invalid(_))), "{bad}");
        }
    }
}
