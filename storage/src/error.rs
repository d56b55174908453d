//! Owns the error of the storage crate. Does not log or retry. Invariant: a variant names the caller's next move.

/// What went wrong on the disk and what to do about it. Texts hold no row bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The disk or the configured capacity is full. Free space and start the process again.
    #[error("no space left: {cause}")]
    NoSpace { cause: String },
    /// The disk failed a read, a write or a sync. Do not retry: what a failed sync left behind is unknown.
    #[error("disk error during {what}: {cause}")]
    Io { what: &'static str, cause: String },
    /// Stored or received bytes are not what was written. The replica must be rebuilt from its peers.
    #[error("corrupt {what}")]
    Corrupt { what: String },
    /// The call breaks a rule of this crate, e.g. an append that leaves a gap. Nothing was changed; fix the caller.
    #[error("invalid call: {what}")]
    Invalid { what: String },
    /// An earlier write failed, so nothing more is written. End the process.
    #[error("the log writer stopped after an error: {cause}")]
    Poisoned { cause: String },
    /// The log writer was stopped by its owner; the write may or may not have reached the disk.
    #[error("the log writer has been stopped")]
    Stopped,
}

impl StorageError {
    pub(crate) fn io(what: &'static str, cause: &std::io::Error) -> StorageError {
        if cause.kind() == std::io::ErrorKind::StorageFull {
            return StorageError::NoSpace { cause: format!("{what}: {cause}") };
        }
        StorageError::Io { what, cause: cause.to_string() }
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> StorageError {
        StorageError::Corrupt { what: what.into() }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> StorageError {
        StorageError::Invalid { what: what.into() }
    }
}
