//! Owns what the log and the rows say of events that were moved to the archive. Does not hold the events. Invariant: what is known of a range
//! here is enough to erase it without its object.

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
}

crate::frozen!(ArchivedEvents = 142,);
