//! Owns the cuts that backups read: a group's rows at one moment, held at its leader, given out chunk by chunk. Does not
//! know where they go. Invariant: a cut holds everything that was acknowledged before it was asked for.

use super::{ClusterNode, Running};
use crate::raft::Group;
use crate::transport::{Lane, MessageKind};
use bytes::Bytes;
use parking_lot::Mutex;
use proto::codec;
use proto::cut::{CutCall, CutReply};
use proto::ids::{NodeId, ShardId};
use proto::peer::AppliedRow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::StateSnapshot;

/// Cuts that a node holds at once: each keeps deleted rows on its disk.
const CUTS_MAX: usize = 8;
/// A cut that nobody asked for in this time goes: its backup is gone.
const UNUSED_MAX: Duration = Duration::from_secs(60);
/// Size of a chunk, in bytes; one row may be larger.
const CHUNK_BYTES: usize = 512 << 10;
/// One call for a cut or a chunk.
const CALL_WITHIN: Duration = Duration::from_secs(20);
/// Pause before a call is repeated.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How long a leader is looked for.
const LEADER_WITHIN: Duration = Duration::from_secs(30);

/// The open cuts of a node.
#[derive(Default)]
pub(crate) struct Cuts {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    given: u64,
    cuts: BTreeMap<u64, Held>,
}

struct Held {
    used: Instant,
    /// `None` while a chunk is being read.
    cut: Option<Cut>,
}

struct Cut {
    rows: StateSnapshot,
    /// The chunk that is next, counted from 0.
    next: u32,
    /// The one before it: its answer may have been lost.
    last: Option<Bytes>,
}

impl Cuts {
    /// Lets go of what no backup reads any more.
    pub(crate) fn drop_unused(&self) {
        self.open.lock().cuts.retain(|_, held| held.used.elapsed() < UNUSED_MAX);
    }

    /// `None`: too many are open.
    fn hold(&self, rows: StateSnapshot, incarnation: u64) -> Option<u64> {
        let mut open = self.open.lock();
        if open.cuts.len() >= CUTS_MAX {
            return None;
        }
        open.given += 1;
        // Numbers of an earlier start of this node must not name a cut of this one.
        let id = incarnation << 32 | open.given;
        let cut = Some(Cut { rows, next: 0, last: None });
        open.cuts.insert(id, Held { used: Instant::now(), cut });
        Some(id)
    }

    fn take(&self, id: u64) -> Result<Cut, CutReply> {
        let failed = |reason: &str| CutReply::Failed { reason: reason.into() };
        let mut open = self.open.lock();
        let held = open.cuts.get_mut(&id).ok_or_else(|| failed("no such cut: it was let go"))?;
        held.used = Instant::now();
        held.cut.take().ok_or_else(|| failed("this cut is being read"))
    }

    fn put_back(&self, id: u64, cut: Cut) {
        if let Some(held) = self.open.lock().cuts.get_mut(&id) {
            *held = Held { used: Instant::now(), cut: Some(cut) };
        }
    }
}

/// A cut at the node that was its group's leader.
#[derive(Debug)]
pub struct OpenCut {
    pub shard: ShardId,
    pub node: NodeId,
    /// What the rows hold: the log up to here.
    pub applied: AppliedRow,
    id: u64,
    next: u32,
}

/// Why a cut is not to be had. Begin the group anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shard}: {reason}")]
pub struct CutError {
    pub shard: ShardId,
    pub reason: String,
}

impl ClusterNode {
    /// Has the group's leader hold its rows as they are now.
    /// # Errors
    /// No leader answers in time, or it cannot hold one more.
    pub async fn open_cut(&self, shard: ShardId) -> Result<OpenCut, CutError> {
        let until = Instant::now() + LEADER_WITHIN;
        let mut hint = None;
        let mut last = String::from("no leader");
        while Instant::now() < until {
            let leader = hint.take().or_else(|| self.leader_of(shard));
            let Some(node) = leader else {
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            };
            match self.call_cut(node, shard, CutCall::Open { shard }).await {
                Ok(CutReply::Opened { cut, applied }) => {
                    return Ok(OpenCut { shard, node, applied, id: cut, next: 0 });
                }
                Ok(CutReply::NotLeader { hint: other }) => hint = other.filter(|other| *other != node),
                Ok(CutReply::Failed { reason }) => last = reason,
                Ok(_) => last = "unexpected answer".into(),
                Err(error) => last = error,
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
        Err(CutError { shard, reason: last })
    }

    /// The next chunk of a cut, as [`storage::decode_chunk`] reads it; `None` after the last.
    /// # Errors
    /// The node that holds it is gone, or let go of it.
    pub async fn next_chunk(&self, cut: &mut OpenCut) -> Result<Option<Vec<u8>>, CutError> {
        let until = Instant::now() + CALL_WITHIN;
        let mut last = String::from("no answer");
        while Instant::now() < until {
            let call = CutCall::Next { cut: cut.id, number: cut.next };
            match self.call_cut(cut.node, cut.shard, call).await {
                Ok(CutReply::Chunk { rows }) => {
                    cut.next += 1;
                    return Ok(Some(rows));
                }
                Ok(CutReply::End) => return Ok(None),
                Ok(CutReply::Failed { reason }) => return Err(CutError { shard: cut.shard, reason }),
                Ok(_) => return Err(CutError { shard: cut.shard, reason: "unexpected answer".into() }),
                Err(error) => last = error,
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
        Err(CutError { shard: cut.shard, reason: last })
    }

    /// Lets go of a cut; if the call is lost, time does it.
    pub async fn close_cut(&self, cut: OpenCut) {
        let _ = self.call_cut(cut.node, cut.shard, CutCall::Close { cut: cut.id }).await;
    }

    async fn call_cut(&self, node: NodeId, shard: ShardId, call: CutCall) -> Result<CutReply, String> {
        if node == self.me {
            return Ok(self.serve_cut(call).await);
        }
        let peer = self.transport.peer(node).ok_or("no such node")?;
        let pending = peer.start_call(Lane::Snapshot, MessageKind::Cut, shard.0, |out| codec::encode_into(&call, out));
        let answer = pending.wait(CALL_WITHIN).await.map_err(|error| error.to_string())?;
        codec::decode(&answer).map_err(|error| error.to_string())
    }

    /// Answers a call of a backup that runs here or on another node.
    pub(crate) async fn serve_cut(&self, call: CutCall) -> CutReply {
        match call {
            CutCall::Open { shard } => self.cut_now(shard).await,
            CutCall::Next { cut, number } => self.read_cut(cut, number).await,
            CutCall::Close { cut } => {
                self.cuts.open.lock().cuts.remove(&cut);
                CutReply::Closed
            }
        }
    }

    async fn cut_now(&self, shard: ShardId) -> CutReply {
        let Some(Running { group, .. }) = self.running_of(shard) else { return CutReply::NotLeader { hint: None } };
        self.cuts.drop_unused();
        if self.cuts.open.lock().cuts.len() >= CUTS_MAX {
            return self.too_many_cuts();
        }
        let leadership = group.leadership();
        // The barrier asks a quorum: whatever was acknowledged before this call is applied here then.
        if !leadership.serving || group.read_barrier().await.is_err() {
            return CutReply::NotLeader { hint: leadership.leader.map(|(_, node)| node) };
        }
        let cut = crate::blocking(move || checkpointed(&group)).await;
        let (rows, applied) = match cut.map_err(|error| error.to_string()).flatten() {
            Ok(cut) => cut,
            Err(reason) => return CutReply::Failed { reason },
        };
        let incarnation = self.identity.lock().incarnation;
        // Others may have been opened meanwhile.
        self.cuts.hold(rows, incarnation).map_or_else(|| self.too_many_cuts(), |cut| CutReply::Opened { cut, applied })
    }

    fn too_many_cuts(&self) -> CutReply {
        CutReply::Failed { reason: format!("{} holds {CUTS_MAX} cuts already", self.me) }
    }

    async fn read_cut(&self, id: u64, number: u32) -> CutReply {
        let mut cut = match self.cuts.take(id) {
            Ok(cut) => cut,
            Err(failed) => return failed,
        };
        let again = cut.next.checked_sub(1) == Some(number);
        if let Some(last) = cut.last.clone().filter(|_| again) {
            self.cuts.put_back(id, cut);
            return CutReply::Chunk { rows: last.to_vec() };
        }
        if number != cut.next {
            self.cuts.put_back(id, cut);
            return CutReply::Failed { reason: format!("chunk {number} was not due") };
        }
        let read = crate::blocking(move || {
            let chunk = cut.rows.next_chunk(CHUNK_BYTES);
            (cut, chunk)
        });
        let Ok((mut cut, chunk)) = read.await else {
            return CutReply::Failed { reason: "the rows could not be read".into() };
        };
        let reply = match chunk {
            Ok(Some(rows)) => {
                cut.next += 1;
                cut.last = Some(rows.clone());
                CutReply::Chunk { rows: rows.to_vec() }
            }
            Ok(None) => CutReply::End,
            Err(error) => CutReply::Failed { reason: error.to_string() },
        };
        self.cuts.put_back(id, cut);
        reply
    }
}

/// What is in memory becomes rows; then the rows are held. Blocks on disk.
fn checkpointed(group: &Arc<Group>) -> Result<(StateSnapshot, AppliedRow), String> {
    group.core.checkpoint().map_err(|error| error.to_string())?;
    let rows = group.core.table.snapshot().map_err(|error| error.to_string())?;
    let header = rows.header().ok_or("nothing was applied yet")?;
    let applied = codec::decode(header).map_err(|error| error.to_string())?;
    Ok((rows, applied))
}
