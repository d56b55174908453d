//! Owns what a peer's raft calls do here. Does not send calls. Invariant: appends of one group from one link reach raft
//! in the order in which they were sent.

use super::group::Group;
use super::machine::SnapshotData;
use super::types::{SnapshotMeta, applied_state, point, vote, vote_row};
use super::wire;
use crate::transport::{Caller, Lane, Message, MessageKind, Peer};
use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use openraft::storage::Snapshot;
use proto::codec::{self, Frozen};
use proto::failpoints::FailPoint;
use proto::peer::{AppendReply, AppliedRow, LostCall, LostReply, SnapshotCall, SnapshotReply, TransferCall, VoteCall};
use std::sync::Arc;
use std::time::Duration;
use storage::Installer;
use tokio::sync::mpsc;

/// Appends of one group that may wait for raft; a leader never has more under way.
const APPENDS_WAITING_MAX: usize = 256;
/// How long a voter waits for its own link to the leader to break before it says that the leader lives.
const LOST_WITHIN: Duration = Duration::from_millis(40);

/// Splits the replica id that precedes every raft call.
pub fn take_replica(message: &mut Message) -> Option<u32> {
    (message.body.len() >= 4).then(|| message.body.get_u32_le())
}

fn answer<T: Frozen>(caller: &Caller, message: &Message, value: &T) {
    caller.answer(Lane::Pulse, MessageKind::Answer, message.group, message.call, |out| codec::encode_into(value, out));
}

/// Feeds one group with the appends of one link, in order.
pub struct AppendFeed {
    queue: mpsc::Sender<(Caller, Message)>,
}

impl AppendFeed {
    pub fn start(group: Arc<Group>, tasks: &tokio_util::task::TaskTracker) -> Self {
        let (queue, waiting) = mpsc::channel(APPENDS_WAITING_MAX);
        tasks.spawn(feed(group, waiting));
        AppendFeed { queue }
    }

    /// A full queue drops the call: the leader repeats it.
    pub fn push(&self, caller: &Caller, message: Message) {
        if self.queue.try_send((caller.clone(), message)).is_err() {
            tracing::warn!("append queue is full, call dropped");
        }
    }
}

async fn feed(group: Arc<Group>, mut waiting: mpsc::Receiver<(Caller, Message)>) {
    let mut under_way: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            // Polling in order hands each append to raft's queue before the next one is taken.
            biased;
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            next = waiting.recv() => match next {
                Some((caller, message)) => {
                    let mut call: BoxFuture<'static, ()> = Box::pin(append(group.clone(), caller, message));
                    if futures_util::poll!(call.as_mut()).is_pending() {
                        under_way.push(call);
                    }
                }
                None => return,
            },
        }
    }
}

async fn append(group: Arc<Group>, caller: Caller, message: Message) {
    let reply = match wire::get_append(message.body.clone()) {
        Err(reason) => {
            tracing::error!(shard = %group.shard, reason, "append not understood");
            AppendReply::Gone
        }
        Ok(request) => {
            FailPoint::AppendCame.pass();
            let appended = group.raft.append_entries(request).await;
            FailPoint::BeforeAppendAnswer.pass();
            appended.map_or(AppendReply::Gone, |response| wire::append_reply(&response))
        }
    };
    answer(&caller, &message, &reply);
}

/// Answers a call for a replica that is not here.
pub fn refuse(caller: &Caller, message: &Message) {
    if message.kind == MessageKind::Append {
        answer(caller, message, &AppendReply::Gone);
    }
    // Other callers wait for their time-out: a wrong vote answer would be worse than none.
}

/// Votes and leadership calls.
pub async fn election(group: Arc<Group>, caller: Caller, message: Message, leader_link_down: bool) {
    let done = match message.kind {
        MessageKind::Vote | MessageKind::PreVote => vote_call(&group, &caller, &message).await,
        MessageKind::Transfer => transfer(&group, &caller, &message).await,
        MessageKind::Lost => lost(&group, &caller, &message, leader_link_down),
        _ => Err("not an election call".into()),
    };
    if let Err(reason) = done {
        tracing::warn!(shard = %group.shard, peer = %caller.peer.node, reason, "election call failed");
    }
}

async fn vote_call(group: &Group, caller: &Caller, message: &Message) -> Result<(), String> {
    let call: VoteCall = codec::decode(&message.body).map_err(|error| error.to_string())?;
    let request = wire::vote_request(&call);
    let response = if message.kind == MessageKind::Vote {
        group.raft.vote(request).await
    } else {
        group.raft.pre_vote(request).await
    };
    FailPoint::BeforeVoteAnswer.pass();
    answer(caller, message, &wire::vote_reply(&response.map_err(|error| error.to_string())?));
    Ok(())
}

async fn transfer(group: &Group, caller: &Caller, message: &Message) -> Result<(), String> {
    let call: TransferCall = codec::decode(&message.body).map_err(|error| error.to_string())?;
    let taken = group.raft.handle_transfer_leader(wire::transfer_request(&call)).await;
    let taken = matches!(taken, Ok(Ok(())));
    caller.answer(Lane::Pulse, MessageKind::Answer, message.group, message.call, |out| out.push(u8::from(taken)));
    Ok(())
}

fn lost(group: &Group, caller: &Caller, message: &Message, leader_link_down: bool) -> Result<(), String> {
    let call: LostCall = codec::decode(&message.body).map_err(|error| error.to_string())?;
    let same_term = group.leadership().epoch.0 == call.term;
    let reply = LostReply { lost: leader_link_down && same_term, last: group.last_log().as_ref().map(point) };
    answer(caller, message, &reply);
    Ok(())
}

/// Waits a moment for the link to the leader to break here too: a killed node's links close within milliseconds,
/// but not in the same one.
pub async fn wait_link_down(leader: Option<Arc<Peer>>) -> bool {
    let Some(leader) = leader else { return false };
    let mut link = leader.watch_link();
    tokio::time::timeout(LOST_WITHIN, link.wait_for(Option::is_none)).await.is_ok_and(|found| found.is_ok())
}

/// Receives the snapshots that one link sends to one group.
pub struct SnapshotFeed {
    queue: mpsc::Sender<(Caller, Message)>,
}

impl SnapshotFeed {
    pub fn start(group: Arc<Group>, tasks: &tokio_util::task::TaskTracker) -> Self {
        // The sender waits for each answer: one part is under way.
        let (queue, waiting) = mpsc::channel(4);
        tasks.spawn(receive(group, waiting));
        SnapshotFeed { queue }
    }

    pub fn push(&self, caller: &Caller, message: Message) {
        if self.queue.try_send((caller.clone(), message)).is_err() {
            tracing::warn!("snapshot queue is full, part dropped");
        }
    }
}

/// A snapshot that is arriving.
struct Arriving {
    applied: AppliedRow,
    installer: Installer,
    chunks: u32,
}

async fn receive(group: Arc<Group>, mut waiting: mpsc::Receiver<(Caller, Message)>) {
    let mut arriving: Option<Arriving> = None;
    while let Some((caller, message)) = waiting.recv().await {
        let (next, reply) = match take_part(&group, arriving.take(), message.body.clone()).await {
            Ok((next, reply)) => (next, reply),
            Err(reason) => {
                tracing::warn!(shard = %group.shard, reason, "snapshot not installed");
                (None, SnapshotReply::Failed { reason })
            }
        };
        arriving = next;
        answer(&caller, &message, &reply);
    }
}

async fn take_part(
    group: &Arc<Group>,
    arriving: Option<Arriving>,
    body: Bytes,
) -> Result<(Option<Arriving>, SnapshotReply), String> {
    let part: SnapshotCall = codec::decode(&body).map_err(|error| error.to_string())?;
    match (part, arriving) {
        (SnapshotCall::Begin { vote: from, applied }, _) => {
            let current =
                group.raft.with_raft_state(|state| *state.vote_ref()).await.map_err(|error| error.to_string())?;
            if vote(&from) < current {
                return Ok((None, SnapshotReply::HigherVote { vote: vote_row(&current) }));
            }
            let table = group.core.table.clone();
            let installer = blocking(move || table.install()).await?;
            FailPoint::SnapshotBegins.pass();
            Ok((Some(Arriving { applied, installer, chunks: 0 }), SnapshotReply::Next))
        }
        (SnapshotCall::Chunk { number, rows }, Some(mut arriving)) if number == arriving.chunks => {
            let arriving = blocking(move || {
                arriving.installer.put_chunk(&rows)?;
                arriving.chunks += 1;
                Ok(arriving)
            })
            .await?;
            Ok((Some(arriving), SnapshotReply::Next))
        }
        (SnapshotCall::End { vote: from, chunks }, Some(arriving)) if chunks == arriving.chunks => {
            let (last_log_id, last_membership) = applied_state(&arriving.applied)?;
            let meta = SnapshotMeta { last_log_id, last_membership };
            let snapshot = Snapshot { meta, snapshot: SnapshotData::Received(arriving.installer) };
            let response = group.raft.install_full_snapshot(vote(&from), snapshot).await;
            let response = response.map_err(|error| error.to_string())?;
            Ok((None, SnapshotReply::Installed { vote: vote_row(&response.vote) }))
        }
        _ => Err("snapshot parts are out of order".into()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, storage::StorageError> + Send + 'static,
) -> Result<T, String> {
    crate::blocking(work).await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
