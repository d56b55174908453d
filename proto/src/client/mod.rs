//! Owns the browser protocol v1: the frames of `everdesk.v1.json`, their limits and their error codes.
//! Does not know sockets, shards or storage. Invariant: what `parse` lets through is within every limit below.

pub mod acts;
pub mod attachment;
pub mod code;
pub mod encode;
pub mod event;
pub mod http;
pub mod limits;
pub mod parse;
pub mod party;
mod reader;
pub mod reply;
pub mod request;
mod scan;
mod visit;

pub use crate::act::Act;
pub use crate::desk::SeatState;
pub use acts::Content;
pub use attachment::Attachment;
pub use code::{CloseCode, ErrorCode};
pub use event::{EVENT_KINDS, Event, EventKind};
pub use parse::{FrameError, parse};
pub use party::{Party, SessionHead, SessionSeq};
pub use reply::{
    Ack, CursorState, Drain, ErrorInfo, HistoryPage, Mention, Offered, Place, Pong, Presence, Queue, Reply, Seat,
    ServerFrame, TriggerWaits, Triggers, TypingNotice, Waiting, Welcome,
};
pub use request::{
    About, ClientFrame, Close, Cursor, Dismiss, Hello, History, HistoryFrom, Offer, PageSeen, Ping, QueueAsk, SeatSaid,
    Send, Take, Transfer, TransferTo, Trigger, Typing, Verb, Visit, Watch,
};

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod parse_tests;
#[cfg(test)]
mod round_trip_tests;
