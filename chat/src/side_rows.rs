//! Owns the stored forms of what a shard keeps beside conversations: files that go with messages, audit chains, and what is known of the
//! archive. See `rows`.

use bincode::{Decode, Encode};
use proto::archive::ArchivedRange;
use proto::attachment::{Attachment, Variant};
use proto::audit::{AuditLine, ChainPoint};
use proto::command::{Party, TokenHash};
use proto::ids::SiteId;

/// A file that goes with a message, or is being uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct AttachmentRow {
    pub site: SiteId,
    pub by: Party,
    /// When its first piece came, milliseconds since 1970.
    pub made_ms: u64,
    /// In the order in which they came.
    pub pieces: Vec<PieceRow>,
    /// All pieces are there.
    pub done: Option<DoneRow>,
    /// The message that it goes with.
    pub seq: Option<u64>,
}

/// A piece that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PieceRow {
    pub variant: Variant,
    pub number: u32,
    pub bytes: u32,
    /// XXH3 of its bytes: a repetition is told from another piece.
    pub hash: u64,
}

/// A finished upload.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct DoneRow {
    pub attachment: Attachment,
    /// SHA-256 of what was uploaded.
    pub source: TokenHash,
    /// SHA-256 of what is kept.
    pub sha256: TokenHash,
}

/// The bytes of a piece.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ChunkRow {
    pub bytes: Vec<u8>,
}

/// What was uploaded into a session in a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct DayRow {
    /// Since 1970, UTC.
    pub day: u64,
    pub files: u64,
    pub bytes: u64,
}

/// What a shard keeps of a site's attachments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct UsageRow {
    pub files: u64,
    pub bytes: u64,
}

/// An entry of an audit chain.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct AuditRow {
    pub line: AuditLine,
}

/// Where an audit chain stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ChainRow {
    pub head: ChainPoint,
    /// The last entry that is not kept any more; seq 0: all are.
    pub cut: ChainPoint,
    /// The time of the head, milliseconds since 1970.
    pub ts_ms: u64,
    /// The newest acts, oldest first.
    pub seen: Vec<SeenRow>,
}

/// Which place an act has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SeenRow {
    pub act: u128,
    /// It is the entry that says what became of the act.
    pub is_end: bool,
    pub seq: u64,
}

/// What the archive has of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ArchivedRow {
    /// From the first event on, without a gap.
    pub ranges: Vec<ArchivedRange>,
}

/// An object of the archive that may exist, and that no range names.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ObjectRow {
    pub name: String,
    /// Milliseconds since 1970.
    pub since_ms: u64,
    /// It is to be deleted; else it is being written.
    pub is_dropped: bool,
}

proto::frozen!(ArchivedRow = 140, ObjectRow = 141,);
proto::frozen!(AuditRow = 121, ChainRow = 122, AttachmentRow = 124, ChunkRow = 125, DayRow = 126, UsageRow = 127,);
