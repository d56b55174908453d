//! Owns a file that goes with a message, as a client is told of it. Does not know who may have it: its addresses are good for whoever has
//! them, and for a short time. Invariant: JSON fields keep their order, so that equal attachments are equal bytes.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

use crate::ids::AttachmentId;

/// A file that goes with a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment<'a> {
    /// Of its own within the session.
    pub id: AttachmentId,
    /// As its owner calls it.
    pub name: Cow<'a, str>,
    /// The media type, as the bytes say.
    #[serde(rename = "type")]
    pub media: Cow<'a, str>,
    /// Its size.
    pub bytes: u64,
    /// In pixels; of images only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// In pixels; of images only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Where it is to be had, without a token, for an hour or two.
    pub url: Cow<'a, str>,
    /// Where a small image of it is to be had; of images only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<Cow<'a, str>>,
}

impl Attachment<'_> {
    /// The same, free of the frame it was read from.
    pub fn into_owned(self) -> Attachment<'static> {
        Attachment {
            id: self.id,
            name: Cow::Owned(self.name.into_owned()),
            media: Cow::Owned(self.media.into_owned()),
            bytes: self.bytes,
            width: self.width,
            height: self.height,
            url: Cow::Owned(self.url.into_owned()),
            thumbnail: self.thumbnail.map(|url| Cow::Owned(url.into_owned())),
        }
    }
}
