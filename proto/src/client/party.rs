//! Owns the small values that requests and replies share. Does not know frames. Invariant: ids travel in their one text form.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::ids::{AgentId, SessionId, VisitorId};

/// Who wrote, typed, closed or read. On the wire `{"kind":"visitor","id":"..."}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "lowercase")]
pub enum Party {
    /// The session's visitor.
    Visitor(#[serde(with = "text_id")] VisitorId),
    /// A human seat.
    Agent(#[serde(with = "text_id")] AgentId),
    /// Everdesk itself; it has no id.
    System,
}

/// A session and the last seq that its reader has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSeq {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// The reader has every event up to this one.
    pub seq: u64,
    /// A supervisor goes on watching it; in `hello.resume` only, and on the wire only when true.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub watch: bool,
}

/// A session and its last seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHead {
    /// The session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// The seq of the session's newest event; 0 when it has none.
    pub head: u64,
}

/// A JSON string, borrowed where it holds no escape: a bare `Cow` always copies in serde.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// As `text_id`, of an id that may be left out.
pub(super) mod text_id_option {
    use super::*;

    pub fn serialize<T: fmt::Display, S: Serializer>(id: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => serializer.collect_str(id),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: fmt::Display>,
        D: Deserializer<'de>,
    {
        text_id::deserialize(deserializer).map(Some)
    }
}

/// Ids as JSON strings. The id newtypes themselves stay free of serde, which is used for browser frames only.
pub(super) mod text_id {
    use super::*;

    pub fn serialize<T: fmt::Display, S: Serializer>(id: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: fmt::Display>,
        D: Deserializer<'de>,
    {
        let Text(text) = Text::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
