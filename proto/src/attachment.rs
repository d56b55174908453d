//! Owns what is known of a file that goes with a message. Does not hold its bytes. Invariant: from the first release on enums grow only
//! at their end, and structs never change.

use crate::archive::FileObject;
use crate::command::{Party, TokenHash};
use crate::ids::{AttachmentId, SiteId};
use bincode::{Decode, Encode};

/// Bytes of one piece of a file: what one command holds.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;

/// Of one attachment only: with it, addresses are signed that can be used without a token. It does not show up in logs.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct UrlSecret(pub [u8; 16]);

impl std::fmt::Debug for UrlSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The forms in which an attachment is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Variant {
    Whole,
    /// Of an image.
    Thumbnail,
}

/// A file that goes with a message, as whoever gets the message knows it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Attachment {
    pub id: AttachmentId,
    /// As its owner calls it: no path, no control characters.
    pub name: String,
    /// The media type, as the bytes say. It is that of an image only if the node made the image anew.
    pub media: String,
    pub bytes: u64,
    /// In pixels; 0: it is no image.
    pub width: u32,
    pub height: u32,
    /// Bytes of the thumbnail; 0: there is none.
    pub thumbnail: u32,
    pub secret: UrlSecret,
}

impl Attachment {
    /// Whether browsers may show it: everything else they only save.
    pub fn is_image(&self) -> bool {
        self.width > 0
    }
}

/// What the leader of a session knows of a finished attachment.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AttachmentState {
    pub attachment: Attachment,
    pub site: SiteId,
    pub by: Party,
    /// The message that it goes with.
    pub seq: Option<u64>,
    /// SHA-256 of what was uploaded.
    pub source: TokenHash,
    /// SHA-256 of what is kept.
    pub sha256: TokenHash,
    /// Where its bytes are, by `Variant`; empty: in the shard.
    pub objects: Vec<FileObject>,
}
