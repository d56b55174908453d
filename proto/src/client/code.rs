//! Owns the closed lists of error codes and WebSocket close codes. Does not know who raises which.
//! Invariant: a code once published keeps its text and its meaning.

use std::fmt;

use super::party::Text;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $http:literal, $fate:ident;)*) => {
        /// Why a frame or an HTTP request was refused. The list is closed: a later protocol version may add to it, v1 does not.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The text on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)* }
            }
            /// The HTTP status that carries this code in the HTTP part of the protocol.
            pub const fn http_status(self) -> u16 {
                match self { $(ErrorCode::$name => $http,)* }
            }
            const fn fate(self) -> Fate {
                match self { $(ErrorCode::$name => Fate::$fate,)* }
            }
        }
    };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The same frame will be refused again.
    Refused,
    /// The same frame may be sent again after `retry_after_ms`.
    Retry,
    /// The node closes the socket after the error frame.
    Disconnect,
}

codes! {
    /// Not JSON, not UTF-8, nested too deep, or text behind the frame.
    Malformed = "malformed", 400, Refused;
    /// The frame's verb is not in protocol v1.
    UnknownVerb = "unknown_verb", 404, Refused;
    /// JSON, but a field is missing, doubled, of the wrong type or out of range.
    BadRequest = "bad_request", 400, Refused;
    /// A `cid` that is empty, above 64 bytes, or holds control characters.
    BadCid = "bad_cid", 400, Refused;
    /// A numbered send skipped a number; `expected_n` says which comes next. Send again from there, in order.
    CidGap = "cid_gap", 409, Retry;
    /// A text above 16 KiB.
    TooLarge = "too_large", 413, Refused;
    /// A frame above 64 KiB.
    FrameTooLarge = "frame_too_large", 413, Disconnect;
    /// The token or the password is not valid.
    Unauthorized = "unauthorized", 401, Disconnect;
    /// The session exists, but this token may not touch it.
    Forbidden = "forbidden", 403, Refused;
    /// No such site, session or path.
    NotFound = "not_found", 404, Refused;
    /// An agent wrote into a session without an open conversation.
    Closed = "closed", 409, Refused;
    /// The first frame was not `hello`.
    HelloExpected = "hello_expected", 400, Disconnect;
    /// No frame within 5 s of the upgrade.
    HelloTimeout = "hello_timeout", 408, Disconnect;
    /// A second `hello` on one socket.
    AlreadyHello = "already_hello", 409, Refused;
    /// HTTP only: the body is not `application/json`.
    UnsupportedMedia = "unsupported_media", 415, Refused;
    /// HTTP only: the path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", 405, Refused;
    /// This client asks too much; wait `retry_after_ms`.
    RateLimited = "rate_limited", 429, Retry;
    /// The node is full; wait `retry_after_ms` or use another node.
    Overloaded = "overloaded", 503, Retry;
    /// The shard has no leader just now, or the outcome is unknown; send the same `cid` again after `retry_after_ms`.
    Unavailable = "unavailable", 503, Retry;
    /// The socket did not read what was pushed to it; reconnect and resume.
    TooSlow = "too_slow", 503, Disconnect;
    /// A fault of the node, logged there.
    Internal = "internal", 500, Refused;
}

impl ErrorCode {
    /// Whether the node closes the socket after this error frame.
    pub const fn disconnects(self) -> bool {
        matches!(self.fate(), Fate::Disconnect)
    }
    /// Whether the same frame, with the same `cid`, is worth sending again.
    pub const fn retryable(self) -> bool {
        matches!(self.fate(), Fate::Retry)
    }
    /// The close code that follows the error frame, for the codes that disconnect.
    pub const fn close_code(self) -> Option<CloseCode> {
        match self {
            ErrorCode::FrameTooLarge => Some(CloseCode::TooBig),
            ErrorCode::TooSlow => Some(CloseCode::TryAgain),
            ErrorCode::Unauthorized | ErrorCode::HelloExpected | ErrorCode::HelloTimeout => Some(CloseCode::Policy),
            _ => None,
        }
    }
    /// The code with this text, if there is one.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        Self::from_text(&text).ok_or_else(|| serde::de::Error::custom("not an error code of protocol v1"))
    }
}

/// The WebSocket close codes a node uses (RFC 6455, section 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// The client said goodbye.
    Normal = 1000,
    /// The node is going away; a `drain` frame came before.
    GoingAway = 1001,
    /// The bytes break RFC 6455.
    Protocol = 1002,
    /// A binary frame.
    Unsupported = 1003,
    /// A text frame that is not UTF-8.
    NotUtf8 = 1007,
    /// No hello, a bad token, silence, or ten faulty frames in a row.
    Policy = 1008,
    /// A frame above 64 KiB.
    TooBig = 1009,
    /// A fault of the node.
    Internal = 1011,
    /// The node is full, or this socket reads too slowly: reconnect and resume.
    TryAgain = 1013,
}

impl CloseCode {
    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_disconnects_has_a_close_code() {
        for code in ErrorCode::ALL {
            assert_eq!(code.disconnects(), code.close_code().is_some(), "{code}");
            assert_eq!(ErrorCode::from_text(code.as_str()), Some(*code));
        }
    }
}
