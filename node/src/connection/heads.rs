//! Owns the look at frame heads before the WebSocket codec has them. Does not decode frames.
//! Invariant: nothing behind the head of a frame above the limit reaches the codec, which would first gather the whole frame.

use super::socket::Socket;
use actix_web::error::PayloadError;
use actix_web::web::{Bytes, Payload};
use futures_util::Stream;
use proto::client::limits::FRAME_BYTES_MAX;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Bytes of a head up to its mask.
const HEAD_BYTES_MAX: usize = 10;
const MASK_BYTES: u64 = 4;

/// A socket's bytes, as long as its frames stay within the limit; what follows is read and dropped until the socket is closed.
pub struct Checked {
    inner: Payload,
    heads: Heads,
    over: bool,
    socket: Arc<Socket>,
}

impl Checked {
    pub fn new(inner: Payload, socket: Arc<Socket>) -> Self {
        Checked { inner, heads: Heads::default(), over: false, socket }
    }
}

impl Stream for Checked {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let bytes = match ready!(Pin::new(&mut self.inner).poll_next(task)) {
                Some(Ok(_)) if self.over => continue,
                Some(Ok(bytes)) => bytes,
                end => return Poll::Ready(end),
            };
            let Some(good) = self.heads.take(&bytes) else { return Poll::Ready(Some(Ok(bytes))) };
            self.over = true;
            self.socket.frame_too_large();
            return Poll::Ready(Some(Ok(bytes.slice(..good))));
        }
    }
}

/// Where in the stream of frames the next byte lies.
#[derive(Default)]
pub(crate) struct Heads {
    head: [u8; HEAD_BYTES_MAX],
    have: usize,
    /// Bytes of mask and payload that are still to come.
    left: u64,
}

impl Heads {
    /// Goes over the next bytes. `Some`: so many may pass, then a frame that is too long begins.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.left > 0 {
                let step = self.left.min((bytes.len() - at) as u64);
                self.left -= step;
                at += step as usize;
                continue;
            }
            self.head[self.have] = bytes[at];
            self.have += 1;
            at += 1;
            if let Some(payload) = payload_bytes(&self.head[..self.have]) {
                if payload > FRAME_BYTES_MAX as u64 {
                    return Some(at);
                }
                let masked = self.head[1] & 0x80 != 0;
                self.left = payload + if masked { MASK_BYTES } else { 0 };
                self.have = 0;
            }
        }
        None
    }
}

/// The announced length, once the head is long enough to tell.
/// Source: RFC 6455, section 5.2.
fn payload_bytes(head: &[u8]) -> Option<u64> {
    match head.get(1)? & 0x7f {
        126 => Some(u16::from_be_bytes(head.get(2..4)?.try_into().ok()?).into()),
        127 => Some(u64::from_be_bytes(head.get(2..10)?.try_into().ok()?)),
        short => Some(short.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: usize) -> Vec<u8> {
        let mut bytes = vec![0x81];
        match payload {
            0..=125 => bytes.push(0x80 | payload as u8),
            126..=0xffff => {
                bytes.push(0xfe);
                bytes.extend_from_slice(&(payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0xff);
                bytes.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        bytes.resize(bytes.len() + 4 + payload, 0xff);
        bytes
    }

    #[test]
    fn frames_within_the_limit_pass_however_they_are_cut() {
        let bytes: Vec<u8> = [0, 125, 126, 3, FRAME_BYTES_MAX, 0, 200].into_iter().flat_map(frame).collect();
        for step in [1, 2, 3, 7, 1_000, bytes.len()] {
            let mut heads = Heads::default();
            assert!(bytes.chunks(step).all(|chunk| heads.take(chunk).is_none()), "in steps of {step}");
            assert_eq!((heads.have, heads.left), (0, 0));
        }
    }

    #[test]
    fn a_frame_above_the_limit_is_known_by_its_head() {
        for payload in [FRAME_BYTES_MAX + 1, 1 << 30] {
            let good = frame(5);
            let bytes = [&good[..], &frame(0)[..1], &[0xff], &(payload as u64).to_be_bytes()].concat();
            assert_eq!(Heads::default().take(&bytes), Some(bytes.len()), "{payload}");
            let mut heads = Heads::default();
            let (last, rest) = bytes.split_last().expect("not empty");
            assert_eq!(heads.take(rest), None);
            assert_eq!(heads.take(&[*last]), Some(1));
        }
    }
}
