//! Owns the look at a stopped node's disk: which replicas lie there, how far each got, whether its log is whole. Does not
//! change a byte of it. Invariant: a log that lost something is told, and what is read of it ends before the loss.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proto::ids::ReplicaId;

use crate::engine::{Family, View, Visit};
use crate::error::StorageError;
use crate::keys::{STATE_PREFIX_LEN, Tag, log_end, log_index, log_key, meta_key, prefix_end, state_prefix};
use crate::raft_log::{Chain, Inner};
use crate::raft_log_open::{Verdict, check};
use crate::rocks::RocksEngine;
use crate::tables::{
    HASH_SEED, LOG_ROW_HEAD_LEN, decode_birth, decode_committed, decode_purge_point, decode_state_pointer, decode_vote,
};
use crate::tail::LogEntry;
use crate::watermark_file::{Records, SlotFile};

/// The disk of a node that does not run.
pub struct StoppedNode {
    view: Arc<dyn View>,
    marks: Records,
}

/// What one replica left.
#[derive(Debug, Clone)]
pub struct Survey {
    pub replica: ReplicaId,
    /// The last purged entry as `(index, term)`.
    pub purged: Option<(u64, u64)>,
    /// The last readable entry; the purged one when there is none after it.
    pub last: Option<(u64, u64)>,
    /// The committed position as it was last stored, in the caller's form.
    pub committed: Option<Bytes>,
    /// The header of the state rows; `None`: no checkpoint was written.
    pub header: Option<Vec<u8>>,
    /// Why the log may lack what it promised to keep; `None`: it is whole.
    pub damage: Option<String>,
    generation: u32,
}

impl StoppedNode {
    /// Opens the data directory of a node; the caller sees to it that no process has it.
    /// # Errors
    /// `Io`, `Corrupt`: there is no database, or RocksDB refuses it.
    pub fn open(dir: &Path) -> Result<StoppedNode, StorageError> {
        Ok(StoppedNode { view: RocksEngine::open_read_only(&dir.join("db"))?, marks: SlotFile::read(dir)? })
    }

    /// The replicas that were born here and not removed, also those of which only the watermark is left, ascending.
    /// # Errors
    /// `Io`, `Corrupt`.
    pub fn replicas(&self) -> Result<Vec<ReplicaId>, StorageError> {
        let mut found: BTreeSet<ReplicaId> = self.marks.keys().copied().collect();
        self.view.scan(Family::Meta, &[], &[u8::MAX; 6], &mut |key, _| {
            if let (Some(id), Some(tag)) = (key.first_chunk::<4>(), key.get(4))
                && *tag == Tag::Birth as u8
            {
                found.insert(ReplicaId(u32::from_be_bytes(*id)));
            }
            ControlFlow::Continue(())
        })?;
        Ok(found.into_iter().collect())
    }

    /// Reads the whole log of a replica, hands each readable entry to `entry`, and says what is left of the replica.
    /// # Errors
    /// `Io`; `Corrupt` when not even the rows about the log can be read. A damaged log is not an error but told.
    pub fn survey(&self, replica: ReplicaId, entry: &mut dyn FnMut(u64, u64, &[u8])) -> Result<Survey, StorageError> {
        let meta = |tag| self.view.get(Family::Meta, &meta_key(replica, tag));
        let mut inner = Inner::default();
        if let Some(row) = meta(Tag::PurgePoint)? {
            inner.purged = Some(decode_purge_point(&row)?);
        }
        if let Some(row) = meta(Tag::Vote)? {
            inner.vote_counter = decode_vote(&row)?.0;
        }
        let committed = meta(Tag::Committed)?;
        let committed = committed.map(|row| decode_committed(&row).map(Bytes::copy_from_slice)).transpose()?;
        let generation = meta(Tag::StatePointer)?.map_or(Ok(0), |row| decode_state_pointer(&row))?;
        let header = self.view.get(Family::State, &state_prefix(replica, generation))?;
        let birth = meta(Tag::Birth)?.map(|row| decode_birth(&row)).transpose()?;
        let damage = self.walk(replica, &mut inner, birth, entry)?.err();
        let pair = |point: crate::tables::Point| (point.index, point.term);
        let (purged, last) = (inner.purged.map(pair), inner.last.map(pair));
        Ok(Survey { replica, purged, last, committed, header, damage, generation })
    }

    fn walk(
        &self,
        replica: ReplicaId,
        inner: &mut Inner,
        birth: Option<u64>,
        entry: &mut dyn FnMut(u64, u64, &[u8]),
    ) -> Result<Verdict<()>, StorageError> {
        let record = self.marks.get(&replica).copied();
        let marked = record.and_then(|record| record.last);
        inner.first = inner.purged.map_or(0, |purged| purged.index.saturating_add(1));
        inner.last = inner.purged;
        let mut at_mark = inner.purged.filter(|purged| marked.is_some_and(|marked| marked.index == purged.index));
        let mut chain = Chain { next: inner.first, hash: Some(inner.purged.map_or(HASH_SEED, |purged| purged.hash)) };
        let mut virgin = inner.purged.is_none();
        let mut broken = None;
        self.view.scan(Family::Log, &log_key(replica, inner.first), &log_end(replica), &mut |key, row| {
            if std::mem::take(&mut virgin) {
                chain.next = log_index(key).unwrap_or_default();
            }
            match chain.check(key, row) {
                Ok(point) => {
                    if marked.is_some_and(|marked| marked.index == point.index) {
                        at_mark = Some(point);
                    }
                    inner.last = Some(point);
                    entry(point.index, point.term, &row[LOG_ROW_HEAD_LEN..]);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    broken = Some(error.to_string());
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(why) = broken {
            return Ok(Err(why));
        }
        Ok(match (birth, record) {
            (Some(incarnation), Some(record)) => check(inner, incarnation, record, at_mark),
            (None, Some(_)) => Err("there is a watermark but no row".to_owned()),
            (_, None) => Err("there are rows but no watermark".to_owned()),
        })
    }

    /// Visits the state rows of a surveyed replica in ascending order, without the header.
    /// # Errors
    /// `Io`, `Corrupt`.
    pub fn rows(&self, survey: &Survey, visit: Visit<'_>) -> Result<(), StorageError> {
        let prefix = state_prefix(survey.replica, survey.generation);
        let start = [&prefix[..], &[0]].concat();
        self.view
            .scan(Family::State, &start, &prefix_end(&prefix), &mut |key, value| visit(&key[STATE_PREFIX_LEN..], value))
    }

    /// Visits the readable entries of a surveyed replica from `first` on; `Break` ends it.
    /// # Errors
    /// `Io`; `Corrupt` when the log ends earlier than it did in the survey.
    pub fn entries(
        &self,
        survey: &Survey,
        first: u64,
        visit: &mut dyn FnMut(LogEntry) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let Some((last, _)) = survey.last.filter(|(last, _)| *last >= first) else { return Ok(()) };
        let mut chain = Chain { next: first, hash: None };
        let mut broken = None;
        let (from, to) = (log_key(survey.replica, first), log_key(survey.replica, last.saturating_add(1)));
        self.view.scan(Family::Log, &from, &to, &mut |key, row| match chain.check(key, row) {
            Ok(point) => {
                let body = Bytes::copy_from_slice(&row[LOG_ROW_HEAD_LEN..]);
                visit(LogEntry { index: point.index, term: point.term, body })
            }
            Err(error) => {
                broken = Some(error);
                ControlFlow::Break(())
            }
        })?;
        broken.map_or(Ok(()), Err)
    }
}
