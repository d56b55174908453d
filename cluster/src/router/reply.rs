//! Owns where an answer goes. Does not make answers. Invariant: one call, one answer.

use super::{Lane, Router};
use crate::config::OVERLOADED_RETRY_MS;
use crate::transport::{Caller, Lane as LinkLane, MessageKind};
use proto::codec;
use proto::ids::{NodeId, ShardId};
use proto::peer::ShardReply;
use std::sync::{Arc, Weak};
use tokio::sync::oneshot;

/// What a sink for answers of many calls does with one of them; runs on raft's or a link's task and must not block.
pub trait ReplySink: Send + Sync {
    fn reply(&self, key: u64, reply: ShardReply);
}

/// Whom to tell.
pub enum ReplyTo {
    /// A future on this node.
    Once(oneshot::Sender<ShardReply>),
    /// A call of this node's own lane.
    Lane { router: Weak<Router>, lane: Arc<Lane>, call: u64 },
    /// A call that came over a link.
    Peer { caller: Caller, shard: ShardId, call: u64 },
    /// Many calls of one socket; `key` tells them apart.
    Sink { sink: Arc<dyn ReplySink>, key: u64 },
    /// Nobody waits.
    Nobody,
}

/// An answer that is given even if its holder panics, or is dropped with a mailbox: then the caller is told to come again. Only
/// for as long as nothing was logged for the call: who proposes takes the answer out.
pub struct Guarded(Option<ReplyTo>);

impl Guarded {
    pub fn new(reply: ReplyTo) -> Self {
        Guarded(Some(reply))
    }

    pub fn send(self, reply: ShardReply) {
        self.into_inner().send(reply);
    }

    pub fn into_inner(mut self) -> ReplyTo {
        self.0.take().expect("taken only by the calls that consume it")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply.send(ShardReply::Overloaded { retry_after_ms: OVERLOADED_RETRY_MS });
        }
    }
}

impl ReplyTo {
    /// The node whose call this answers.
    pub fn caller(&self) -> Option<NodeId> {
        match self {
            ReplyTo::Lane { router, .. } => router.upgrade().map(|router| router.me),
            ReplyTo::Peer { caller, .. } => Some(caller.peer.node),
            ReplyTo::Once(_) | ReplyTo::Sink { .. } | ReplyTo::Nobody => None,
        }
    }

    pub fn send(self, reply: ShardReply) {
        match self {
            // A caller that gave up needs no answer.
            ReplyTo::Once(waiter) => drop(waiter.send(reply)),
            ReplyTo::Lane { router, lane, call } => {
                if let Some(router) = router.upgrade() {
                    lane.answered(&router, router.me, call, reply);
                }
            }
            ReplyTo::Peer { caller, shard, call } => {
                // A broken link makes the caller repeat the call; so does a full lane, when its time is up.
                caller.answer(LinkLane::App, MessageKind::ShardReply, shard.0, call, |out| {
                    codec::encode_into(&reply, out);
                });
            }
            ReplyTo::Sink { sink, key } => sink.reply(key, reply),
            ReplyTo::Nobody => {}
        }
    }
}
