//! Owns the bodies of the HTTP calls that come before a socket. Does not check passwords. Invariant: JSON only.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

use super::party::text_id;
use super::reply::ErrorInfo;
use crate::ids::{AgentId, SessionId, VisitorId};

/// Answers `POST /v1/sites/{site}/visitors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisitorCreated {
    /// The new anonymous visitor.
    #[serde(with = "text_id")]
    pub visitor: VisitorId,
    /// Its only session.
    #[serde(with = "text_id")]
    pub session: SessionId,
    /// For `hello`; shown once, stored hashed.
    pub token: String,
}

/// Answers `GET /v1/sites/{site}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteState {
    /// It is within the site's hours: agents are given conversations.
    pub open: bool,
    /// When it opens, in milliseconds since 1970; left out while it is open, and while nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens: Option<u64>,
}

/// Body of `POST /v1/agents/login`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The site's name, e.g. `demo`.
    pub site: String,
    /// The agent's name within the site.
    pub name: String,
    /// In the clear: put TLS in front.
    pub password: String,
}

/// Answers `POST /v1/agents/login`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedIn {
    /// The agent.
    #[serde(with = "text_id")]
    pub agent: AgentId,
    /// For `hello`; shown once, stored hashed.
    pub token: String,
}

/// Body of every HTTP refusal; the status is [`super::ErrorCode::http_status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody<'a> {
    /// The same object as in an error frame.
    #[serde(borrow)]
    pub error: ErrorInfo<'a>,
}

impl<'a> ErrorBody<'a> {
    /// The refusal with this code.
    pub fn new(code: super::ErrorCode, message: impl Into<Cow<'a, str>>) -> Self {
        ErrorBody { error: ErrorInfo::new(code, message) }
    }
}
