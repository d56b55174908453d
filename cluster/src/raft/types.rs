//! Owns openraft's type configuration and the two-way mapping between openraft's types and our frozen ones.
//! Does not do I/O. Invariant: no openraft type is ever stored or sent.

use bytes::Bytes;
use openraft::impls::leader_id_std;
use openraft::vote::{RaftLeaderId, RaftVote};
use proto::codec;
use proto::codec::Frozen;
use proto::ids::NodeId;
use proto::peer::{AppliedRow, LogPoint, MembershipRow, VoteRow};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use storage::LogEntry;

/// The bytes of one normal entry: an encoded `Batch` or `MetaBatch`, shared by log, network and apply.
#[derive(Clone)]
pub struct Data(pub Bytes);

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What applying one entry answers to its proposer.
#[derive(Debug)]
pub enum Applied {
    /// Blank and membership entries.
    Nothing,
    /// One outcome per command of a data shard's batch, in order, and how long the rules took.
    Shard { outcomes: Vec<chat::Outcome>, took: std::time::Duration },
    /// One reply per command of a meta batch, in order.
    Meta(Vec<proto::peer::MetaReply>),
}

/// Calls back exactly once: with the result, or with `None` when raft dropped the entry and its fate is unknown.
pub struct Callback<T>(Option<Box<dyn FnOnce(Option<T>) + Send>>);

impl<T> Callback<T> {
    pub fn new(done: impl FnOnce(Option<T>) + Send + 'static) -> Self {
        Callback(Some(Box::new(done)))
    }
}
impl<T> Drop for Callback<T> {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(None);
        }
    }
}
impl<T: Send + 'static> openraft::raft::responder::Responder<TypeConfig, T> for Callback<T> {
    fn on_complete(mut self, result: T) {
        if let Some(done) = self.0.take() {
            done(Some(result));
        }
    }
}

#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Data;
    type R = Applied;
    type NodeId = u64;
    type Node = NodeId;
    type Term = u64;
    // One leader per term: the term alone is the epoch that fences proposals and pushes.
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Data, u64, NodeId>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type Responder<T>
        = Callback<T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type AsyncRuntime = super::runtime::GridRuntime;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub type Membership = openraft::Membership<u64, NodeId>;
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

/// The body of a blank entry. Bodies of other kinds begin with the tag of what they hold.
const BLANK: u8 = 0;

pub fn log_id(point: LogPoint) -> LogId {
    LogId::new(openraft::type_config::alias::CommittedLeaderIdOf::<TypeConfig>::new(point.term), point.index)
}

pub fn point(id: &LogId) -> LogPoint {
    LogPoint { term: id.committed_leader_id().term, index: id.index }
}

pub fn vote_row(vote: &Vote) -> VoteRow {
    let leader = vote.leader_id();
    VoteRow { term: leader.term, replica: leader.voted_for, committed: vote.is_committed() }
}

pub fn vote(row: &VoteRow) -> Vote {
    let leader = leader_id_std::LeaderId::new(row.term, row.replica);
    Vote::from_leader_id(leader, row.committed)
}

pub fn membership_row(membership: &Membership) -> MembershipRow {
    MembershipRow {
        configs: membership.get_joint_config().iter().map(|set| set.iter().copied().collect()).collect(),
        members: membership.nodes().map(|(id, node)| (*id, *node)).collect(),
    }
}

/// # Errors
/// A row that no openraft membership can have been made from, e.g. a voter that is no member.
pub fn membership(row: &MembershipRow) -> Result<Membership, String> {
    let configs = row.configs.iter().map(|set| set.iter().copied().collect::<BTreeSet<_>>()).collect();
    let members: BTreeMap<u64, NodeId> = row.members.iter().copied().collect();
    Membership::new(configs, members).map_err(|error| error.to_string())
}

pub fn applied_row(applied: Option<&LogId>, stored: &StoredMembership) -> AppliedRow {
    AppliedRow {
        applied: applied.map(point),
        membership_at: stored.log_id().as_ref().map(point),
        membership: membership_row(stored.membership()),
    }
}

/// # Errors
/// See [`membership`].
pub fn applied_state(row: &AppliedRow) -> Result<(Option<LogId>, StoredMembership), String> {
    let stored = if row.membership_at.is_none() && row.membership.members.is_empty() {
        StoredMembership::default()
    } else {
        StoredMembership::new(row.membership_at.map(log_id), membership(&row.membership)?)
    };
    Ok((row.applied.map(log_id), stored))
}

/// An entry as the log and the wire hold it. Bodies of normal entries are shared, not copied.
pub fn to_log(entry: &Entry) -> LogEntry {
    let body = match &entry.payload {
        openraft::EntryPayload::Blank => Bytes::from_static(&[BLANK]),
        openraft::EntryPayload::Normal(data) => data.0.clone(),
        openraft::EntryPayload::Membership(membership) => codec::encode(&membership_row(membership)).into(),
    };
    let at = point(&entry.log_id);
    LogEntry { index: at.index, term: at.term, body }
}

/// # Errors
/// A body of no known kind: the replica must halt, never skip.
pub fn from_log(entry: LogEntry) -> Result<Entry, String> {
    let payload = match entry.body.first() {
        Some(&BLANK) if entry.body.len() == 1 => openraft::EntryPayload::Blank,
        Some(&MembershipRow::TAG) => {
            let row = codec::decode(&entry.body).map_err(|error| error.to_string())?;
            openraft::EntryPayload::Membership(membership(&row)?)
        }
        Some(&proto::command::Batch::TAG | &proto::command::MetaBatch::TAG) => {
            openraft::EntryPayload::Normal(Data(entry.body))
        }
        other => return Err(format!("log entry {} has unknown kind {other:?}", entry.index)),
    };
    Ok(Entry { log_id: log_id(LogPoint { term: entry.term, index: entry.index }), payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> MembershipRow {
        MembershipRow {
            configs: vec![vec![1, 2], vec![2, 3]],
            members: vec![(1, NodeId(1)), (2, NodeId(2)), (3, NodeId(3))],
        }
    }

    #[test]
    fn openraft_types_survive_our_rows() {
        let membership = membership(&row()).expect("valid");
        assert_eq!(membership_row(&membership), row());
        let at = VoteRow { term: 4, replica: 9, committed: true };
        assert_eq!(vote_row(&vote(&at)), at);
        let applied = AppliedRow {
            applied: Some(LogPoint { term: 3, index: 8 }),
            membership_at: Some(LogPoint { term: 1, index: 2 }),
            membership: row(),
        };
        let (id, stored) = applied_state(&applied).expect("valid");
        assert_eq!(applied_row(id.as_ref(), &stored), applied);
    }

    #[test]
    fn an_entry_of_unknown_kind_is_refused() {
        let entry = LogEntry { index: 1, term: 1, body: Bytes::from_static(&[200, 1]) };
        assert!(from_log(entry).is_err());
    }
}
