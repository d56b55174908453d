//! Owns the seam to the node above: what it must do for the cluster. Does not know actors or sockets.
//! Invariant: hooks never block and never wait; they run on raft's and the links' tasks.

use crate::router::ReplyTo;
use crate::shard::Shard;
use bytes::Bytes;
use chat::{Archived, Effect};
use futures_util::future::BoxFuture;
use proto::archive::ArchivedObject;
use proto::ids::{Epoch, NodeId, ShardId};
use proto::peer::{Pushes, ShardCall};
use std::sync::Arc;

/// Implemented by the node.
pub trait Hooks: Send + Sync + 'static {
    /// A call reached a shard that this node leads.
    fn call(&self, shard: &Arc<Shard>, caller: NodeId, call: Arc<ShardCall>, reply: ReplyTo);
    /// Applies at a serving leader had these effects, in order. With each goes the node whose call caused it, if it was
    /// called: that node learns of the effect from its answer and needs no push.
    /// `index`: of the entry, when it was proposed here.
    fn effects(&self, shard: &Arc<Shard>, epoch: Epoch, index: Option<u64>, effects: Vec<(Option<NodeId>, Effect)>);
    /// This node began (`Some`) or ceased to serve the shard.
    fn serving(&self, shard: &Arc<Shard>, epoch: Option<Epoch>);
    /// A shard's leader pushed to this node's subscribers. Also called for pushes of this node itself.
    fn pushes(&self, from: NodeId, pushes: Pushes);
    /// This node learnt of a shard's leader, or that the link to it is new: subscriptions must be made again.
    fn leader_changed(&self, shard: ShardId, leader: NodeId);
    /// The link to a peer came up or broke; its subscriptions are gone when it broke.
    fn peer_changed(&self, peer: NodeId, up: bool);
    /// Answers an administrator's question that another node passes on. The future runs on a task of its own.
    fn asked(&self, question: Bytes) -> BoxFuture<'static, Vec<u8>>;
    /// What is known of an object of the archive; `None`: it does not come now. The future ends in bounded time.
    fn archived(&self, object: ArchivedObject) -> BoxFuture<'static, Option<Archived>>;
    /// The archive answers, does not have an object, and somebody who was told so still found it named.
    fn lost(&self, object: &str);
}
