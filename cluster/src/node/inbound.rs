//! Owns what a link's messages do on this node: to which replica, call or subscriber they go. Does not decode raft's.
//! Invariant: messages of one group and kind are handed over in the order in which they arrived.

use super::ClusterNode;
use super::identity::REMOVED_TEXT;
use crate::raft::Group;
use crate::raft::inbound::{AppendFeed, SnapshotFeed, election, refuse, take_replica, wait_link_down};
use crate::transport::{Caller, Inbound, Lane, Message, MessageKind, Peer};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use proto::codec;
use proto::command::NodeState;
use proto::cut::{CutCall, CutReply};
use proto::ids::{Epoch, META_SHARD, NodeId, ReplicaId, ShardId};
use proto::peer::{Hello, HelloReply, MetaCall, MetaReply, Pushes};
use proto::version::{VERSION_MIN, version_text};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// The transport's view of the node.
pub struct NodeInbound {
    node: Weak<ClusterNode>,
    feeds: Mutex<HashMap<(u64, ReplicaId), Feeds>>,
}

/// What one link feeds into one replica.
struct Feeds {
    appends: AppendFeed,
    snapshots: SnapshotFeed,
}

impl NodeInbound {
    pub fn new(node: Weak<ClusterNode>) -> Self {
        NodeInbound { node, feeds: Mutex::default() }
    }

    fn raft_message(&self, node: &Arc<ClusterNode>, caller: &Caller, mut message: Message) {
        let Some(replica) = take_replica(&mut message).map(ReplicaId) else { return };
        let Some(group) = node.group_of(replica) else {
            refuse(caller, &message);
            if message.group == META_SHARD.0 && message.kind == MessageKind::Append {
                node.clone().adopt_meta_replica(replica);
            }
            return;
        };
        match message.kind {
            MessageKind::Append | MessageKind::Snapshot => {
                let mut feeds = self.feeds.lock();
                let feed = feeds.entry((caller.link(), replica)).or_insert_with(|| Feeds {
                    appends: AppendFeed::start(group.clone(), &node.tasks),
                    snapshots: SnapshotFeed::start(group.clone(), &node.tasks),
                });
                if message.kind == MessageKind::Append {
                    feed.appends.push(caller, message);
                } else {
                    feed.snapshots.push(caller, message);
                }
            }
            _ => {
                let (node, caller) = (node.clone(), caller.clone());
                node.clone().tasks.spawn(async move {
                    let lost = message.kind == MessageKind::Lost && node.leader_link_down(&group).await;
                    election(group, caller, message, lost).await;
                });
            }
        }
    }

    fn meta_call(node: &Arc<ClusterNode>, caller: &Caller, message: Message) {
        let (me, body) = (node.clone(), message.body.clone());
        answer(node, caller, &message, Lane::App, async move {
            let reply = match codec::decode::<MetaCall>(&body) {
                Ok(call) => me.serve_meta(call).await,
                Err(error) => MetaReply::Refused { reason: error.to_string() },
            };
            codec::encode(&reply)
        });
    }

    fn cut_call(node: &Arc<ClusterNode>, caller: &Caller, message: Message) {
        let (me, body) = (node.clone(), message.body.clone());
        answer(node, caller, &message, Lane::Snapshot, async move {
            let reply = match codec::decode::<CutCall>(&body) {
                Ok(call) => me.serve_cut(call).await,
                Err(error) => CutReply::Failed { reason: error.to_string() },
            };
            codec::encode(&reply)
        });
    }

    fn node_call(node: &Arc<ClusterNode>, caller: &Caller, message: Message) {
        answer(node, caller, &message, Lane::App, node.hooks.asked(message.body.clone()));
    }
}

/// Sends the bytes of an answer once there are any.
fn answer(
    node: &ClusterNode,
    caller: &Caller,
    message: &Message,
    lane: Lane,
    bytes: impl Future<Output = Vec<u8>> + Send + 'static,
) {
    let (caller, group, call) = (caller.clone(), message.group, message.call);
    node.tasks.spawn(async move {
        let bytes = bytes.await;
        // A broken link makes the caller ask again, or say that this node does not answer.
        caller.answer(lane, MessageKind::Answer, group, call, |out| out.extend_from_slice(&bytes));
    });
}

impl Inbound for NodeInbound {
    fn messages(&self, caller: &Caller, messages: Vec<Message>) {
        let Some(node) = self.node.upgrade() else { return };
        let peer = &caller.peer;
        for message in messages {
            match message.kind {
                MessageKind::Append
                | MessageKind::Snapshot
                | MessageKind::Vote
                | MessageKind::PreVote
                | MessageKind::Transfer
                | MessageKind::Lost => self.raft_message(&node, caller, message),
                MessageKind::ShardCall => node.router.asked(caller, message),
                MessageKind::ShardReply => node.router.answered(peer.node, &message),
                MessageKind::MetaCall => Self::meta_call(&node, caller, message),
                MessageKind::Pushes => match codec::decode::<Pushes>(&message.body) {
                    Ok(pushes) => node.hooks.pushes(peer.node, pushes),
                    Err(error) => tracing::error!(peer = %peer.node, %error, "pushes not understood"),
                },
                MessageKind::Leads => {
                    node.router.leader_announced(ShardId(message.group), peer.node, Epoch(message.call));
                }
                MessageKind::Cut => Self::cut_call(&node, caller, message),
                MessageKind::NodeCall => Self::node_call(&node, caller, message),
                MessageKind::Answer => {}
                #[cfg(feature = "next")]
                MessageKind::Tallied => metrics::counter!("chat_next_tallied_total").increment(message.call),
            }
        }
    }

    fn link(&self, peer: &Arc<Peer>, link: u64, up: bool) {
        let Some(node) = self.node.upgrade() else { return };
        if !up {
            self.feeds.lock().retain(|(of, _), _| *of != link);
            node.leader_links_broke(peer.node);
        }
        node.router.peer_changed(peer.node, up);
        if up {
            for local in node.router.locals() {
                // As it was announced to the others, though the calls may still find it not ready.
                let now = local.group.leadership();
                if now.serving {
                    announce(peer, local.id, now.epoch);
                }
            }
        }
    }

    fn join(&self, hello: Hello) -> BoxFuture<'static, HelloReply> {
        let node = self.node.upgrade();
        Box::pin(async move {
            match node {
                Some(node) => node.let_join(hello).await,
                None => HelloReply::Refused { reason: "this node is stopping".into() },
            }
        })
    }

    fn version(&self) -> u16 {
        self.node.upgrade().map_or(VERSION_MIN, |node| node.version())
    }

    fn outdated(&self, version: u16) {
        if let Some(node) = self.node.upgrade() {
            node.end(&version_text(version));
        }
    }

    fn refusal(&self, id: NodeId) -> Option<&'static str> {
        let Some(node) = self.node.upgrade() else { return Some("this node is stopping") };
        match node.wanted_of(id) {
            Some(NodeState::Removed) => Some(REMOVED_TEXT),
            Some(_) => None,
            None if node.identity.lock().peers.iter().any(|(peer, _)| *peer == id) => None,
            None => Some("not a member of this cluster"),
        }
    }
}

/// Tells a peer that this node leads a shard: one without a replica of it would not know.
fn announce(peer: &Peer, shard: ShardId, epoch: Epoch) {
    // A link that is down hears it when it is up again.
    let _ = peer.send(Lane::Pulse, MessageKind::Leads, shard.0, epoch.0, |_| {});
}

impl ClusterNode {
    /// Tells every peer that this node leads a shard.
    pub(super) fn announce_to_all(&self, shard: ShardId, epoch: Epoch) {
        for peer in self.transport.peers() {
            announce(&peer, shard, epoch);
        }
    }

    pub(crate) fn group_of(&self, replica: ReplicaId) -> Option<Arc<Group>> {
        self.running.read().get(&replica).map(|running| running.group.clone())
    }

    /// Whether this node's own link to the group's leader is down or silent, or goes down within a moment.
    async fn leader_link_down(&self, group: &Group) -> bool {
        match group.leadership().leader {
            Some((_, node)) if node != self.me => {
                let peer = self.transport.peer(node);
                // The one that asks was first to notice; this node is about to.
                let silent = self.timings.election_max.saturating_sub(self.timings.heartbeat * 2);
                peer.as_ref().is_some_and(|peer| peer.silent_for() >= silent) || wait_link_down(peer).await
            }
            _ => false,
        }
    }

    /// A process that was stopped keeps its links: after an election time-out without a byte it is treated like one whose links
    /// broke. The link stays, for the day it wakes.
    pub(crate) fn suspect_the_silent(self: &Arc<Self>) {
        for peer in self.transport.peers() {
            let silent = peer.is_up() && peer.silent_for() >= self.timings.election_max;
            let is_new = {
                let mut suspects = self.suspects.lock();
                if !silent {
                    suspects.remove(&peer.node);
                }
                silent && suspects.insert(peer.node)
            };
            if is_new {
                tracing::warn!(peer = %peer.node, "peer is silent");
                self.leader_links_broke(peer.node);
            }
        }
    }

    /// The link to `dead` broke: every group that it led here may need a leader.
    fn leader_links_broke(self: &Arc<Self>, dead: NodeId) {
        for running in self.running() {
            if running.group.leadership().leader.is_some_and(|(_, node)| node == dead) {
                let transport = self.transport.clone();
                self.tasks.spawn(crate::shard::fast_election(running.group, transport, self.me, dead));
            }
        }
    }

    /// The meta leader replicates to a replica that this node does not run yet: it was allotted after this node joined.
    fn adopt_meta_replica(self: Arc<Self>, replica: ReplicaId) {
        if self.meta.read().is_some() {
            return;
        }
        let lost = self.amnesiac.lock().iter().any(|(lost, _, _)| *lost == replica);
        if lost {
            return;
        }
        let node = self.clone();
        self.tasks.spawn(async move {
            if let Err(error) = node.start_meta_replica(replica).await {
                node.does_not_start(replica, META_SHARD, &error);
            }
        });
    }
}
