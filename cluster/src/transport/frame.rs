//! Owns the layout of frames: `length u32`, then messages of `length u32, kind u8, group u32, call u64, body`.
//! Does not read sockets. Invariant: a hostile length is refused before anything is allocated for it.

use bytes::{Buf, Bytes, BytesMut};
use proto::peer::FRAME_BYTES_MAX;

/// Bytes before a message's body.
pub const MESSAGE_HEAD_BYTES: usize = 4 + 1 + 4 + 8;
/// Most bytes that may wait in one lane; over it the sender is refused.
pub const LANE_BYTES_MAX: usize = 6 << 20;

/// What may overtake what: a lower lane goes first into each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Lane {
    /// Heartbeats, votes and every short answer to them.
    Pulse = 0,
    Append = 1,
    App = 2,
    Snapshot = 3,
}

/// How many lanes there are.
pub const LANES: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageKind {
    Answer = 0,
    Append = 1,
    Vote = 2,
    PreVote = 3,
    Transfer = 4,
    Lost = 5,
    Snapshot = 6,
    ShardCall = 7,
    ShardReply = 8,
    Pushes = 9,
    MetaCall = 10,
    /// The sender leads the group, in the epoch that stands where calls have their number.
    Leads = 11,
    /// A backup asks for rows.
    Cut = 12,
    /// A question of an administrator to this one node, in the form that the node above gave it.
    NodeCall = 13,
    /// Of the next release, in tests of upgrades.
    #[cfg(feature = "next")]
    Tallied = 240,
}

impl MessageKind {
    fn from_byte(byte: u8) -> Option<Self> {
        use MessageKind as K;
        const ALL: &[MessageKind] = &[
            K::Answer,
            K::Append,
            K::Vote,
            K::PreVote,
            K::Transfer,
            K::Lost,
            K::Snapshot,
            K::ShardCall,
            K::ShardReply,
            K::Pushes,
            K::MetaCall,
            K::Leads,
            K::Cut,
            K::NodeCall,
        ];
        #[cfg(feature = "next")]
        if byte == K::Tallied as u8 {
            return Some(K::Tallied);
        }
        ALL.get(usize::from(byte)).copied()
    }
}

/// One message as it arrived; the body shares the frame's memory.
#[derive(Debug, Clone)]
pub struct Message {
    pub kind: MessageKind,
    pub group: u32,
    /// Chosen by the caller, echoed by the answer.
    pub call: u64,
    pub body: Bytes,
}

/// Appends one message; `body` writes straight into the lane's buffer.
pub fn put_message(out: &mut Vec<u8>, kind: MessageKind, group: u32, call: u64, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(kind as u8);
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&call.to_le_bytes());
    body(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Why a frame was refused; the link is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame of {0} bytes is longer than the limit of {FRAME_BYTES_MAX}")]
    TooLong(usize),
    #[error("frame is cut short")]
    Short,
    #[error("unknown message kind {0}")]
    UnknownKind(u8),
}

/// Checks the length that opens a frame.
/// # Errors
/// `TooLong` for what no honest peer sends.
pub fn frame_length(head: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(head) as usize;
    if length > FRAME_BYTES_MAX { Err(FrameError::TooLong(length)) } else { Ok(length) }
}

/// Bytes that are reserved at once for a frame under way.
const RESERVE_BYTES_MAX: usize = 256 << 10;

/// Takes the next frame off what has arrived, without its length; `None` until it is whole.
/// # Errors
/// `TooLong` for what no honest peer sends.
pub fn next_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = frame_length(*head)?;
    if buffer.len() < 4 + length {
        // Grow with what really arrives: a length alone must not reserve 24 MiB.
        buffer.reserve((4 + length - buffer.len()).min(RESERVE_BYTES_MAX));
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Splits a whole frame into its messages.
/// # Errors
/// `Short` or `UnknownKind`; what came before them is dropped with the link.
pub fn messages(mut frame: Bytes) -> Result<Vec<Message>, FrameError> {
    let mut found = Vec::new();
    while !frame.is_empty() {
        if frame.len() < MESSAGE_HEAD_BYTES {
            return Err(FrameError::Short);
        }
        let length = frame.get_u32_le() as usize;
        if length < MESSAGE_HEAD_BYTES - 4 || length > frame.len() {
            return Err(FrameError::Short);
        }
        let mut message = frame.split_to(length);
        let kind = message.get_u8();
        let kind = MessageKind::from_byte(kind).ok_or(FrameError::UnknownKind(kind))?;
        let group = message.get_u32_le();
        let call = message.get_u64_le();
        found.push(Message { kind, group, call, body: message });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_frame_keep_their_order_and_bodies() {
        let mut out = Vec::new();
        put_message(&mut out, MessageKind::Append, 3, 77, |out| out.extend_from_slice(b"abc"));
        put_message(&mut out, MessageKind::Answer, 0, 1, |_| {});
        let found = messages(out.into()).expect("own bytes");
        assert_eq!((found[0].kind, found[0].group, found[0].call), (MessageKind::Append, 3, 77));
        assert_eq!(&found[0].body[..], b"abc");
        assert_eq!((found[1].kind, found[1].body.len()), (MessageKind::Answer, 0));
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!(frame_length([0xff; 4]), Err(FrameError::TooLong(u32::MAX as usize)));
        assert_eq!(messages(Bytes::from_static(b"abc")).unwrap_err(), FrameError::Short);
        let mut out = Vec::new();
        put_message(&mut out, MessageKind::Answer, 0, 1, |_| {});
        out[4] = 99;
        assert_eq!(messages(out.clone().into()).unwrap_err(), FrameError::UnknownKind(99));
        out[0] = 200;
        assert_eq!(messages(out.into()).unwrap_err(), FrameError::Short);
    }
}
