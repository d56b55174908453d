//! Owns calls to the meta group's leader, from wherever. Does not know the commands' rules.
//! Invariant: a call is repeated only if its command is idempotent: every meta command is.

use super::{ClusterNode, StartError};
use crate::raft::Group;
use crate::raft::types::Applied;
use crate::shard::now_ms;
use crate::transport::{Lane, MessageKind};
use proto::codec;
use proto::command::{MetaBatch, MetaCommand};
use proto::ids::{META_SHARD, NodeId, ReplicaId};
use proto::peer::{MetaCall, MetaReply};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// One try of a meta call.
const TRY_WITHIN: Duration = Duration::from_secs(3);
/// Pause between tries.
const RETRY_AFTER: Duration = Duration::from_millis(50);

impl ClusterNode {
    /// Logs a command in the meta group, through its leader, and waits until this node's replica has applied it too.
    pub async fn meta_propose(&self, command: MetaCommand, within: Duration) -> MetaReply {
        let reply = self.meta_call(MetaCall::Propose(command), within).await;
        if !matches!(reply, MetaReply::Refused { .. } | MetaReply::Unknown | MetaReply::NotLeader { .. }) {
            self.meta_catch_up(within).await;
        }
        reply
    }

    /// Waits until this node's meta state holds everything acknowledged before the call. False: it could not be proved.
    pub async fn meta_catch_up(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let MetaReply::At { index } = self.meta_call(MetaCall::Barrier, within).await else { return false };
        let Some(group) = self.meta_group() else { return false };
        while group.core.applied_index() < index {
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    async fn meta_call(&self, call: MetaCall, within: Duration) -> MetaReply {
        let until = Instant::now() + within;
        let mut target: Option<NodeId> = None;
        let mut last = MetaReply::Unknown;
        while Instant::now() < until {
            let node = target.take().or_else(|| self.meta_leader()).or_else(|| self.any_peer());
            let reply = match node {
                Some(node) if node == self.me => self.serve_meta(call.clone()).await,
                Some(node) => self.ask_meta(node, &call).await,
                None => self.serve_meta(call.clone()).await,
            };
            match reply {
                MetaReply::NotLeader { hint } => {
                    target = hint.filter(|hint| node != Some(*hint));
                    last = reply;
                }
                MetaReply::Unknown => last = reply,
                reply => return reply,
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
        last
    }

    /// The leader of the meta group, as this node's replica knows it.
    pub(super) fn meta_leader(&self) -> Option<NodeId> {
        self.meta_group()?.leadership().leader.map(|(_, node)| node)
    }

    fn any_peer(&self) -> Option<NodeId> {
        self.transport.peers().into_iter().find(|peer| peer.is_up()).map(|peer| peer.node)
    }

    async fn ask_meta(&self, node: NodeId, call: &MetaCall) -> MetaReply {
        let Some(peer) = self.transport.peer(node) else { return MetaReply::Unknown };
        let pending = peer.start_call(Lane::App, MessageKind::MetaCall, META_SHARD.0, |out| {
            codec::encode_into(call, out);
        });
        match pending.wait(TRY_WITHIN).await {
            Ok(answer) => codec::decode(&answer).unwrap_or(MetaReply::Unknown),
            Err(_) => MetaReply::Unknown,
        }
    }

    /// Answers a meta call if this node leads the meta group.
    pub(crate) async fn serve_meta(&self, call: MetaCall) -> MetaReply {
        let Some(group) = self.meta_group() else { return MetaReply::NotLeader { hint: None } };
        let leadership = group.leadership();
        if !leadership.serving {
            return MetaReply::NotLeader { hint: leadership.leader.map(|(_, node)| node) };
        }
        match call {
            MetaCall::Propose(command) => propose(&group, command).await,
            MetaCall::Barrier => match group.read_barrier().await {
                Ok(()) => MetaReply::At { index: group.core.applied_index() },
                Err(_) => MetaReply::Unknown,
            },
        }
    }

    /// Starts the replica of meta that was allotted to this node after it joined.
    pub(crate) async fn start_meta_replica(self: &Arc<Self>, replica: ReplicaId) -> Result<(), StartError> {
        let identity = {
            let mut identity = self.identity.lock();
            if identity.meta_replica.is_some_and(|known| known >= replica) {
                return Ok(());
            }
            identity.meta_replica = Some(replica);
            identity.clone()
        };
        self.save_identity(identity).await?;
        self.start_replica(replica, META_SHARD, false).await
    }
}

async fn propose(group: &Arc<Group>, command: MetaCommand) -> MetaReply {
    let (tx, rx) = oneshot::channel();
    let body = codec::encode(&MetaBatch { now_ms: now_ms(), commands: vec![command] });
    let done = move |result| {
        // The caller may have stopped waiting; the command stands all the same.
        let _ = tx.send(result);
    };
    group.propose(group.leadership().epoch, body.into(), done).await;
    match tokio::time::timeout(TRY_WITHIN, rx).await {
        Ok(Ok(Ok((_, Applied::Meta(mut replies))))) => replies.pop().unwrap_or(MetaReply::Unknown),
        Ok(Ok(Err(crate::raft::group::ProposeError::NotLeader))) => MetaReply::NotLeader { hint: None },
        _ => MetaReply::Unknown,
    }
}
