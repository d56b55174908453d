//! Owns how a group's leader reaches its replicas: calls over the peer links. Does not own sockets.
//! Invariant: append calls of one stream leave in order and are answered in order.

use super::machine::SnapshotData;
use super::types::{TypeConfig, Vote, applied_row, point, vote, vote_row};
use super::wire;
use crate::transport::{CallError, Lane, MessageKind, Transport};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use proto::codec;
use proto::failpoints::FailPoint;
use proto::ids::{NodeId, ShardId};
use proto::mutants::Mutant;
use proto::peer::{AppendReply, SnapshotCall, SnapshotReply, VoteReply};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Append calls of one stream that may be under way.
const APPENDS_IN_FLIGHT_MAX: usize = 64;
/// An append that is not answered by then is repeated. Well above a slow disk's flush.
const APPEND_WITHIN: Duration = Duration::from_secs(2);
/// The next heartbeat waits for the answer to the last: before a follower would miss it.
const PULSE_WITHIN: Duration = Duration::from_millis(500);
/// A vote that takes longer than the shortest election timeout is of no use.
const VOTE_WITHIN: Duration = Duration::from_millis(500);
/// Bytes of rows in one snapshot chunk.
const CHUNK_BYTES: usize = 256 << 10;
/// Storing one chunk, and the flip at the end, must be done by then.
const CHUNK_WITHIN: Duration = Duration::from_secs(30);
/// Pause before a failed target is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Makes connections to a group's replicas.
pub struct Networks {
    pub shard: ShardId,
    pub transport: Arc<Transport>,
}

impl RaftNetworkFactory<TypeConfig> for Networks {
    type Network = Network;

    async fn new_client(&mut self, replica: u64, node: &NodeId) -> Network {
        let (shard, transport) = (self.shard, self.transport.clone());
        Network { shard, replica, node: *node, transport, append_within: APPEND_WITHIN, taken: Arc::default() }
    }

    async fn new_heartbeat_client(&mut self, replica: u64, node: &NodeId) -> Network {
        Network { append_within: PULSE_WITHIN, ..self.new_client(replica, node).await }
    }
}

/// The way to one replica.
#[derive(Clone)]
pub struct Network {
    shard: ShardId,
    replica: u64,
    node: NodeId,
    transport: Arc<Transport>,
    append_within: Duration,
    /// Of a mutant: the link over which the replica has taken entries.
    taken: Arc<AtomicU64>,
}

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

fn unreachable(error: impl std::error::Error + 'static) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&error))
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Text(String);

impl Network {
    /// Number of the link, 0 while it is down.
    fn link(&self) -> u64 {
        let link = self.transport.peer(self.node).and_then(|peer| *peer.watch_link().borrow());
        link.unwrap_or(0)
    }

    /// Queues the call now and returns its answer's future: callers decide how many are under way.
    fn start(
        &self,
        lane: Lane,
        kind: MessageKind,
        within: Duration,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> BoxFuture<'static, Rpc<Bytes>> {
        let peer = self.transport.peer(self.node).filter(|_| !self.transport.is_muted(self.shard));
        let pending = peer.map(|peer| {
            peer.start_call(lane, kind, self.shard.0, |out| {
                // The replica id comes first: a node may have replaced its replica since.
                out.extend_from_slice(&(self.replica as u32).to_le_bytes());
                body(out);
            })
        });
        Box::pin(async move {
            let pending = pending.ok_or_else(|| unreachable(CallError::Down))?;
            pending.wait(within).await.map_err(unreachable)
        })
    }

    fn start_append(
        &self,
        lane: Lane,
        request: &AppendEntriesRequest<TypeConfig>,
    ) -> BoxFuture<'static, Rpc<AppendEntriesResponse<TypeConfig>>> {
        if !request.entries.is_empty() {
            FailPoint::BeforeAppendSent.pass();
        }
        let answer = self.start(lane, MessageKind::Append, self.append_within, |out| wire::put_append(request, out));
        let is_early = Mutant::AckBeforeCommit.is_on() && !request.entries.is_empty();
        let (taken, link) = (self.taken.clone(), if is_early { self.link() } else { 0 });
        if is_early && link != 0 && taken.load(Ordering::Relaxed) == link {
            return Box::pin(std::future::ready(Ok(AppendEntriesResponse::Success)));
        }
        Box::pin(async move {
            let reply: AppendReply = decode(&answer.await?)?;
            if is_early && reply == AppendReply::Success {
                taken.store(link, Ordering::Relaxed);
            }
            wire::append_response(reply).ok_or_else(|| unreachable(Text("no such replica there".into())))
        })
    }

    async fn send_vote(&self, kind: MessageKind, request: &VoteRequest<TypeConfig>) -> Rpc<VoteResponse<TypeConfig>> {
        let call = wire::vote_call(request);
        FailPoint::BeforeVoteSent.pass();
        let answer = self.start(Lane::Pulse, kind, VOTE_WITHIN, |out| codec::encode_into(&call, out)).await?;
        let reply: VoteReply = decode(&answer)?;
        Ok(wire::vote_response(&reply))
    }

    async fn send_chunks(&self, from: Vote, snapshot: SnapshotOf<TypeConfig, SnapshotData>) -> Result<Vote, String> {
        let SnapshotData::Local(mut rows) = snapshot.snapshot else {
            return Err("only a local snapshot can be sent".into());
        };
        let applied = applied_row(snapshot.meta.last_log_id.as_ref(), &snapshot.meta.last_membership);
        let mut reply = self.send_part(&SnapshotCall::Begin { vote: vote_row(&from), applied }).await?;
        let mut chunks = 0;
        while reply == SnapshotReply::Next {
            let read = move || {
                let chunk = rows.next_chunk(CHUNK_BYTES);
                (rows, chunk)
            };
            let (back, chunk) = crate::blocking(read).await.map_err(|error| error.to_string())?;
            rows = back;
            match chunk.map_err(|error| error.to_string())? {
                Some(chunk) => {
                    reply = self.send_part(&SnapshotCall::Chunk { number: chunks, rows: chunk.to_vec() }).await?;
                    chunks += 1;
                }
                None => {
                    reply = self.send_part(&SnapshotCall::End { vote: vote_row(&from), chunks }).await?;
                    break;
                }
            }
        }
        match reply {
            SnapshotReply::Installed { vote: row } | SnapshotReply::HigherVote { vote: row } => Ok(vote(&row)),
            SnapshotReply::Failed { reason } => Err(reason),
            SnapshotReply::Next => Err("snapshot was not installed".into()),
        }
    }

    async fn send_part(&self, part: &SnapshotCall) -> Result<SnapshotReply, String> {
        let answer =
            self.start(Lane::Snapshot, MessageKind::Snapshot, CHUNK_WITHIN, |out| codec::encode_into(part, out));
        let answer = answer.await.map_err(|error| error.to_string())?;
        codec::decode(&answer).map_err(|error| error.to_string())
    }
}

fn decode<T: codec::Frozen>(body: &[u8]) -> Rpc<T> {
    codec::decode(body).map_err(unreachable)
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        // Heartbeats must not wait behind a megabyte of entries.
        let lane = if request.entries.is_empty() { Lane::Pulse } else { Lane::Append };
        self.start_append(lane, &request).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let network = self.clone();
        let answers = input
            .map(move |request| {
                let prev = request.prev_log_id;
                let last = request.entries.last().map(|entry| entry.log_id).or(prev);
                // Without entries, too: one that overtook the entries which it stands on would find them missing, and the leader
                // take that for a log that lost them.
                let answer = network.start_append(Lane::Append, &request);
                async move { Ok(answer.await?.into_stream_result(prev, last)) }
            })
            .buffered(APPENDS_IN_FLIGHT_MAX);
        Box::pin(async move { Ok(Box::pin(answers) as BoxStream<'s, _>) })
    }

    async fn vote(&mut self, request: VoteRequest<TypeConfig>, _option: RPCOption) -> Rpc<VoteResponse<TypeConfig>> {
        self.send_vote(MessageKind::Vote, &request).await
    }

    async fn pre_vote(&mut self, request: VoteRequest<TypeConfig>, _: RPCOption) -> Rpc<VoteResponse<TypeConfig>> {
        self.send_vote(MessageKind::PreVote, &request).await
    }

    async fn full_snapshot(
        &mut self,
        from: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let at = snapshot.meta.last_log_id.as_ref().map(point);
        tracing::info!(shard = %self.shard, replica = self.replica, ?at, "sending snapshot");
        tokio::select! {
            sent = self.send_chunks(from, snapshot) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(reason) => {
                    tracing::warn!(shard = %self.shard, replica = self.replica, reason, "snapshot was not sent");
                    Err(StreamingError::Unreachable(Unreachable::new(&Text(reason))))
                }
            },
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        let call = wire::transfer_call(&request);
        let answer =
            self.start(Lane::Pulse, MessageKind::Transfer, VOTE_WITHIN, |out| codec::encode_into(&call, out)).await?;
        // One byte: 1 = taken up, 0 = not; a target that cannot take over says so by staying a follower.
        if answer.first() == Some(&1) { Ok(Ok(())) } else { Err(unreachable(Text("transfer was not taken up".into()))) }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RETRY_EVERY)))
    }
}
