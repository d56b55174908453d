//! Owns what the log and the rows say of events and files that were moved to the archive. Does not hold them. Invariant: what is known of a
//! range or a file here is enough to erase it without its object.

use crate::command::Event;
use crate::ids::{AttachmentId, SessionId};
use bincode::{Decode, Encode};

/// An object of the archive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct ArchivedObject {
    /// Its path below the place of the archive.
    pub name: String,
    /// Of the object's bytes.
    pub sha256: [u8; 32],
    /// Of the object.
    pub bytes: u32,
    /// Of its events before they were compressed.
    pub plain_bytes: u32,
}

/// Bytes of one part of a file in the archive: what is read, and checked, at once.
pub const FILE_PART_BYTES: usize = 1 << 20;

/// An object that holds one form of an attachment, its bytes as they are.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FileObject {
    /// Its path below the place of the archive.
    pub name: String,
    pub bytes: u32,
    /// SHA-256 of each part; only the last one may be short.
    pub parts: Vec<[u8; 32]>,
}

/// Consecutive events of a session that an object holds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ArchivedRange {
    pub first: u64,
    pub last: u64,
    /// `None`: they were erased.
    pub object: Option<ArchivedObject>,
    /// One per event: milliseconds since the event before, of the first one since 1970, and whether it is a message that can be
    /// answered, in the lowest bit.
    pub marks: Vec<u64>,
    /// Files of the messages: seq and file, ascending.
    pub files: Vec<(u64, AttachmentId)>,
}

/// What an object holds: consecutive events of a session.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ArchivedEvents {
    pub session: SessionId,
    pub events: Vec<Event>,
}

/// What the archive does with a session, each told by the leader of its shard.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ArchiveChange {
    /// These objects are about to be written: from here on it is known that they may exist.
    Begin { objects: Vec<String> },
    /// All events that are not in the archive yet are in these objects, which were read back; they are kept here no longer. Refused when
    /// anything has happened in the session after the last of them.
    Moved { ranges: Vec<ArchivedRange> },
    /// Events up to `range.first - 1` of the range that ends where `range` does are erased; `range` is what is left of it.
    Cut { range: ArchivedRange },
    /// The object may be written, but nothing will name it: it is to be deleted.
    Dropped { object: String },
    /// The object is not there any more. Idempotent.
    Deleted { object: String },
    /// As `Begin`, for the bytes of a file that a message names.
    BeginFile { file: AttachmentId, objects: Vec<String> },
    /// The file is in these objects, which were read back: as it is, and its thumbnail if it has one. Its pieces are kept here no longer.
    /// Refused when it is gone, or was moved before.
    FileMoved { file: AttachmentId, objects: Vec<FileObject> },
}

crate::frozen!(ArchivedEvents = 142,);
