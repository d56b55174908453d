//! Owns the limits of the browser protocol. Does not enforce those that need a clock. Invariant: each has its unit in its name.

use std::time::Duration;

/// The WebSocket subprotocol that a client offers and the node selects.
pub const SUBPROTOCOL: &str = "everdesk.v1.json";
/// One frame from a client, in bytes; a longer one is answered with `frame_too_large` and closes the socket.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// The text of one message, in bytes of UTF-8 after unescaping.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// A client's own id of one send, in bytes of UTF-8.
pub const CID_BYTES_MAX: usize = 64;
/// The name of a device, in bytes of UTF-8.
pub const DEVICE_BYTES_MAX: usize = 64;
/// A bearer token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 256;
/// Sessions in the `resume` list of one hello: the list with the longest numbers still fits in a frame.
pub const RESUME_SESSIONS_MAX: usize = 500;
/// Sessions in the `heads` list of one ping.
pub const HEADS_MAX: usize = 500;
/// Events in one history page.
pub const HISTORY_LIMIT_MAX: u64 = 200;
/// Events in one history page when the client names no limit.
pub const HISTORY_LIMIT_DEFAULT: u64 = 50;
/// Encoded events in one history page, in bytes; the page ends early above it but never holds less than one event.
pub const HISTORY_BYTES_MAX: usize = 256 * 1024;
/// Files of one message.
pub const ATTACHMENTS_PER_MESSAGE_MAX: usize = 8;
/// One file, in bytes.
pub const ATTACHMENT_BYTES_MAX: usize = 10 << 20;
/// The name of a file, in bytes of UTF-8.
pub const ATTACHMENT_NAME_BYTES_MAX: usize = 255;
/// Agents that one note mentions.
pub const MENTIONS_MAX: usize = 16;
/// A reaction, in bytes of UTF-8.
pub const EMOJI_BYTES_MAX: usize = 32;
/// A label, in bytes of UTF-8.
pub const LABEL_BYTES_MAX: usize = 64;
/// How good a conversation was, at best.
pub const SCORE_MAX: u8 = 5;
/// Why it was so, in bytes of UTF-8.
pub const COMMENT_BYTES_MAX: usize = 2_000;
/// The name of an attribute, in bytes of UTF-8.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 64;
/// The value of an attribute, in bytes of UTF-8.
pub const ATTRIBUTE_BYTES_MAX: usize = 256;
/// What a visitor has typed so far, in bytes of UTF-8.
pub const DRAFT_BYTES_MAX: usize = 1024;
/// Why a conversation was closed, in bytes of UTF-8.
pub const REASON_BYTES_MAX: usize = 256;
/// Conversations in one look at the queue.
pub const QUEUE_LIMIT_MAX: u64 = 200;
/// As above when the client names no limit.
pub const QUEUE_LIMIT_DEFAULT: u64 = 50;
/// Facts about a visitor.
pub const FACTS_MAX: usize = 32;
/// The name of a fact, in bytes of UTF-8.
pub const FACT_NAME_BYTES_MAX: usize = 64;
/// The value of a fact, in bytes of UTF-8.
pub const FACT_BYTES_MAX: usize = 1024;
/// Pages in a visitor's trail.
pub const TRAIL_MAX: usize = 20;
/// The address of a page, in bytes of UTF-8; a longer one is cut by the client.
pub const PAGE_URL_BYTES_MAX: usize = 512;
/// The title of a page, in bytes of UTF-8; a longer one is cut by the client.
pub const PAGE_TITLE_BYTES_MAX: usize = 128;
/// The name of a trigger, in bytes of UTF-8.
pub const TRIGGER_BYTES_MAX: usize = 64;
/// Triggers that wait on one page.
pub const TRIGGERS_WAITING_MAX: usize = 32;
/// Nesting of a client frame, in levels.
pub const DEPTH_MAX: usize = 16;
/// Faulty frames in a row before the socket is closed.
pub const FAULTS_IN_A_ROW_MAX: u32 = 10;
/// The body of an HTTP request, in bytes.
pub const HTTP_BODY_BYTES_MAX: usize = 16 * 1024;

/// A socket that has not said hello by then is closed.
pub const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// A client pings this often; `welcome.ping_s` carries it.
pub const PING_EVERY: Duration = Duration::from_secs(15);
/// A socket that was silent for so many ping intervals is closed.
pub const SILENT_PINGS_MAX: u32 = 3;
/// A connection whose client has taken nothing of what was sent to it for so long is ended.
pub const UNTAKEN_MAX: Duration = Duration::from_secs(45);
/// A client that hears nothing for so long while an answer is due takes its socket for dead.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// An agent stays online so long after its last socket closed.
pub const PRESENCE_GRACE: Duration = Duration::from_secs(30);
