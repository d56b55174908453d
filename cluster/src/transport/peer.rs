//! Owns what waits to be sent to one peer and who waits for its answers. Does not own the socket.
//! Invariant: every waiter is told exactly once: by the answer, or by the link's end.

use super::frame::{LANE_BYTES_MAX, LANES, Lane, Message, MessageKind, put_message};
use bytes::Bytes;
use parking_lot::Mutex;
use proto::ids::NodeId;
use proto::mutants::Mutant;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Why a call got no answer. The outcome is open unless the lane was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("the link is down")]
    Down,
    #[error("the lane is full")]
    Full,
    #[error("no answer in time")]
    Timeout,
}

/// Whoever asked something over a link. The answer goes back over that link or not at all: a node that was started again
/// counts its calls anew, and would take an answer to its former self for one to the call that has the number now.
#[derive(Clone)]
pub struct Caller {
    pub peer: Arc<Peer>,
    pub(super) link: u64,
}

impl Caller {
    /// Number of the link, unique in this process.
    pub fn link(&self) -> u64 {
        self.link
    }

    /// Queues the answer to a call. One that is lost with its link needs no notice: the caller has been told of the link's end.
    pub fn answer(&self, lane: Lane, kind: MessageKind, group: u32, call: u64, body: impl FnOnce(&mut Vec<u8>)) {
        let only = (!Mutant::AnswerToNewLink.is_on()).then_some(self.link);
        let _ = self.peer.queue(only, lane, kind, group, call, body);
    }
}

/// One other node.
pub struct Peer {
    pub node: NodeId,
    out: Mutex<Outgoing>,
    pub(super) wake: Notify,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Bytes>>>,
    next_call: AtomicU64,
    /// Number of the current link, `None` while there is none.
    link: watch::Sender<Option<u64>>,
    /// Held while the node is told of a link's begin or end: one link ends before the next begins, for everybody.
    pub(super) turn: Mutex<()>,
    /// This node forgot the peer: its link ends.
    pub(super) gone: CancellationToken,
    /// When something came over the link, last.
    heard: Mutex<Instant>,
    /// A drill: nothing is sent or taken until then.
    paused: watch::Sender<Option<Instant>>,
}

#[derive(Default)]
struct Outgoing {
    lanes: [Vec<u8>; LANES],
    link: Option<u64>,
}

impl Peer {
    pub(super) fn new(node: NodeId) -> Self {
        Peer {
            node,
            out: Mutex::default(),
            wake: Notify::new(),
            waiting: Mutex::default(),
            next_call: AtomicU64::new(1),
            link: watch::channel(None).0,
            turn: Mutex::default(),
            gone: CancellationToken::new(),
            heard: Mutex::new(Instant::now()),
            paused: watch::channel(None).0,
        }
    }

    /// A drill: for so long this node neither sends to the peer nor takes what it sends.
    pub fn pause(&self, for_how_long: Duration) {
        self.paused.send_replace(Some(Instant::now() + for_how_long));
    }

    /// Returns at once unless a drill has paused the link.
    pub(super) async fn unpaused(&self) {
        let until = *self.paused.borrow();
        if let Some(until) = until {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// Follows the link: its number, or `None` while it is down.
    pub fn watch_link(&self) -> watch::Receiver<Option<u64>> {
        self.link.subscribe()
    }

    pub fn is_up(&self) -> bool {
        self.link.borrow().is_some()
    }

    /// Queues a message that nobody waits for here.
    /// # Errors
    /// `Down` or `Full`; nothing was queued.
    pub fn send(
        &self,
        lane: Lane,
        kind: MessageKind,
        group: u32,
        call: u64,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), CallError> {
        self.queue(None, lane, kind, group, call, body)
    }

    /// The same, if `only` is the current link; `None`: whichever it is.
    fn queue(
        &self,
        only: Option<u64>,
        lane: Lane,
        kind: MessageKind,
        group: u32,
        call: u64,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), CallError> {
        {
            let mut out = self.out.lock();
            if out.link.is_none() || only.is_some_and(|only| out.link != Some(only)) {
                return Err(CallError::Down);
            }
            let buffer = &mut out.lanes[lane as usize];
            if buffer.len() > LANE_BYTES_MAX {
                return Err(CallError::Full);
            }
            put_message(buffer, kind, group, call, body);
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Queues a call now; [`PendingCall::wait`] only waits. Calls leave in the order in which they were started.
    pub fn start_call(
        self: &Arc<Self>,
        lane: Lane,
        kind: MessageKind,
        group: u32,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> PendingCall {
        let call = self.next_call.fetch_add(1, Ordering::Relaxed);
        let (tx, answer) = oneshot::channel();
        self.waiting.lock().insert(call, tx);
        let queued = self.send(lane, kind, group, call, body);
        PendingCall { peer: self.clone(), call, answer, queued }
    }

    /// Hands an answer to whoever waits for it. A late one is dropped.
    pub(super) fn answered(&self, message: Message) {
        let waiter = self.waiting.lock().remove(&message.call);
        if let Some(waiter) = waiter {
            // The caller may have given up between; then nobody needs the answer.
            let _ = waiter.send(message.body);
        }
    }

    /// Takes what waits, lanes in order: the next frame.
    pub(super) fn take(&self, link: u64, frame: &mut Vec<u8>) -> bool {
        frame.clear();
        let mut out = self.out.lock();
        if out.link != Some(link) {
            return false;
        }
        frame.extend_from_slice(&[0; 4]);
        for lane in &mut out.lanes {
            frame.extend_from_slice(lane);
            lane.clear();
            if lane.capacity() > (1 << 20) {
                lane.shrink_to(64 << 10);
            }
        }
        let length = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&length.to_le_bytes());
        true
    }

    /// How long nothing has come over the link; the other side says something every heartbeat.
    pub fn silent_for(&self) -> Duration {
        self.heard.lock().elapsed()
    }

    pub(super) fn hear(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// Makes `link` the current one; the caller has ended the one before.
    pub(super) fn link_up(&self, link: u64) {
        self.hear();
        *self.out.lock() = Outgoing { lanes: Default::default(), link: Some(link) };
        self.link.send_replace(Some(link));
    }

    pub(super) fn current_link(&self) -> Option<u64> {
        *self.link.borrow()
    }

    /// Ends link `link`, unless a newer one has taken its place. Returns whether it was the current one.
    pub(super) fn link_down(&self, link: u64) -> bool {
        {
            let mut out = self.out.lock();
            if out.link != Some(link) {
                return false;
            }
            *out = Outgoing::default();
        }
        self.link.send_replace(None);
        // Dropping the senders tells every waiter that its outcome is open.
        self.waiting.lock().clear();
        self.wake.notify_one();
        true
    }
}

/// A call that has been queued.
pub struct PendingCall {
    peer: Arc<Peer>,
    call: u64,
    answer: oneshot::Receiver<Bytes>,
    queued: Result<(), CallError>,
}

impl PendingCall {
    /// Waits for the answer.
    /// # Errors
    /// `Full`: it never left. `Down`, `Timeout`: the outcome is open.
    pub async fn wait(self, within: Duration) -> Result<Bytes, CallError> {
        let error = match self.queued {
            Err(error) => error,
            Ok(()) => match tokio::time::timeout(within, self.answer).await {
                Ok(Ok(body)) => return Ok(body),
                Ok(Err(_)) => return Err(CallError::Down),
                Err(_) => CallError::Timeout,
            },
        };
        self.peer.waiting.lock().remove(&self.call);
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::messages;
    use super::*;

    /// What the next frame over the link carries.
    fn taken(peer: &Peer, link: u64) -> Vec<Message> {
        let mut frame = Vec::new();
        assert!(peer.take(link, &mut frame), "{link} is the current link");
        messages(Bytes::from(frame.split_off(4))).expect("own bytes")
    }

    #[test]
    fn an_answer_does_not_go_to_the_node_that_was_started_again() {
        let peer = Arc::new(Peer::new(NodeId(2)));
        peer.link_up(7);
        let caller = Caller { peer: peer.clone(), link: 7 };
        caller.answer(Lane::App, MessageKind::ShardReply, 1, 5, |out| out.extend_from_slice(b"yes"));
        let sent = taken(&peer, 7);
        assert_eq!(sent.iter().map(|message| message.call).collect::<Vec<_>>(), [5]);
        assert!(peer.link_down(7));
        peer.link_up(8);
        caller.answer(Lane::App, MessageKind::ShardReply, 1, 6, |out| out.extend_from_slice(b"yes"));
        assert!(taken(&peer, 8).is_empty());
    }

    #[tokio::test]
    async fn a_call_over_a_link_that_ends_is_open() {
        let peer = Arc::new(Peer::new(NodeId(2)));
        peer.link_up(1);
        let call = peer.start_call(Lane::App, MessageKind::MetaCall, 0, |_| {});
        let number = taken(&peer, 1)[0].call;
        assert!(peer.link_down(1));
        peer.link_up(2);
        peer.answered(Message { kind: MessageKind::Answer, group: 0, call: number, body: Bytes::new() });
        assert_eq!(call.wait(Duration::from_secs(1)).await, Err(CallError::Down));
    }
}
