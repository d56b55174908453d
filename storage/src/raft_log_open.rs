//! Owns the check of a replica's rows at start: is everything there that was ever acknowledged? Does not write entries.
//! Invariant: a log that is behind its watermark, or that has a hole or a changed byte, is never opened.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::ControlFlow;

use bytes::Bytes;
use proto::ids::ReplicaId;
use proto::mutants::Mutant;

use crate::batch::Batch;
use crate::engine::{Durability, Engine, Family};
use crate::error::StorageError;
use crate::keys::{Tag, log_end, log_index, log_key, meta_key};
use crate::raft_log::{Chain, Inner};
use crate::tables::{
    HASH_SEED, LOG_ROW_HEAD_LEN, Point, decode_birth, decode_committed, decode_purge_point, decode_vote, encode_birth,
};
use crate::tail::LogEntry;
use crate::watermark::{Record, Watermarks};

/// Why a replica is not opened that this node was told to forget.
pub const RETIRED_TEXT: &str = "it was removed from this node";

/// What was found, or why the replica must not go on.
pub(crate) type Verdict<T> = Result<T, String>;

/// Reads and checks a replica, or gives birth to it.
pub(crate) fn load(
    engine: &dyn Engine,
    watermarks: &Watermarks,
    replica: ReplicaId,
    tail_bytes_max: usize,
) -> Result<Verdict<Inner>, StorageError> {
    match try_load(engine, watermarks, replica, tail_bytes_max) {
        // A damaged row is a lost row.
        Err(StorageError::Corrupt { what }) => Ok(Err(what)),
        verdict => verdict,
    }
}

fn try_load(
    engine: &dyn Engine,
    watermarks: &Watermarks,
    replica: ReplicaId,
    tail_bytes_max: usize,
) -> Result<Verdict<Inner>, StorageError> {
    let record = watermarks.record(replica);
    let meta = |tag| engine.get(Family::Meta, &meta_key(replica, tag));
    if meta(Tag::Retired)?.is_some() && !Mutant::ReplicaIdReused.is_on() {
        return Ok(Err(RETIRED_TEXT.to_owned()));
    }
    let birth = meta(Tag::Birth)?.map(|row| decode_birth(&row)).transpose()?;
    let mut inner = Inner::default();
    if let Some(row) = meta(Tag::PurgePoint)? {
        inner.purged = Some(decode_purge_point(&row)?);
    }
    if let Some(row) = meta(Tag::Vote)? {
        let (counter, vote) = decode_vote(&row)?;
        inner.vote_counter = counter;
        inner.vote = Some(Bytes::copy_from_slice(vote));
    }
    if let Some(row) = meta(Tag::Committed)? {
        inner.committed = Some(Bytes::copy_from_slice(decode_committed(&row)?));
    }
    let marked = record.and_then(|record| record.last);
    let at_mark = read_rows(engine, replica, &mut inner, marked, tail_bytes_max)?;
    let has_rows = inner.last.is_some() || inner.vote.is_some();
    Ok(match (birth, record) {
        (Some(incarnation), Some(record)) => check(&inner, incarnation, record, at_mark).map(|()| inner),
        (None, Some(_)) => Err("there is a watermark but no row".to_owned()),
        (_, None) if has_rows => Err("there are rows but no watermark".to_owned()),
        (birth, None) => {
            give_birth(engine, watermarks, replica, birth)?;
            Ok(inner)
        }
    })
}

fn give_birth(
    engine: &dyn Engine,
    watermarks: &Watermarks,
    replica: ReplicaId,
    birth: Option<u64>,
) -> Result<(), StorageError> {
    // The keys of RandomState are random, which is all that an incarnation needs to be.
    let incarnation = birth.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let mut batch = Batch::new();
    batch.put(Family::Meta, &meta_key(replica, Tag::Birth), &encode_birth(incarnation));
    engine.write(batch, Durability::Synced)?;
    watermarks.admit(replica, incarnation)
}

/// Walks all rows from the purge point and keeps the newest in the tail. Returns the hash at the marked index, if there is a row.
fn read_rows(
    engine: &dyn Engine,
    replica: ReplicaId,
    inner: &mut Inner,
    marked: Option<Point>,
    tail_bytes_max: usize,
) -> Result<Option<Point>, StorageError> {
    let base = inner.purged.map_or(HASH_SEED, |purged| purged.hash);
    inner.first = inner.purged.map_or(0, |purged| purged.index.saturating_add(1));
    inner.last = inner.purged;
    let mut at_mark = inner.purged.filter(|purged| marked.is_some_and(|marked| marked.index == purged.index));
    let mut chain = Chain { next: inner.first, hash: Some(base) };
    let mut failed = None;
    let mut virgin = inner.purged.is_none();
    engine.scan(Family::Log, &log_key(replica, inner.first), &log_end(replica), &mut |key, row| {
        // A log that was never purged may start anywhere; the seed of the hash shows whether this is its first row.
        if std::mem::take(&mut virgin) {
            inner.first = log_index(key).unwrap_or_default();
            chain.next = inner.first;
        }
        match chain.check(key, row) {
            Ok(point) => {
                if marked.is_some_and(|marked| marked.index == point.index) {
                    at_mark = Some(point);
                }
                inner.last = Some(point);
                let body = Bytes::copy_from_slice(&row[LOG_ROW_HEAD_LEN..]);
                inner.tail.push(LogEntry { index: point.index, term: point.term, body }, point.hash, 0);
                inner.tail.evict(tail_bytes_max, 0);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(at_mark), Err)
}

/// Whether a log is what its watermark knows of.
pub(crate) fn check(inner: &Inner, incarnation: u64, record: Record, at_mark: Option<Point>) -> Verdict<()> {
    if incarnation != record.incarnation {
        return Err("the watermark belongs to another incarnation".to_owned());
    }
    if inner.vote_counter < record.vote_counter {
        return Err(format!("{} votes are stored, the watermark knows of {}", inner.vote_counter, record.vote_counter));
    }
    let Some(marked) = record.last else { return Ok(()) };
    let Some(last) = inner.last.filter(|last| last.index >= marked.index) else {
        let last = inner.last.map_or_else(|| "nothing".to_owned(), |last| last.index.to_string());
        return Err(format!("the log ends at {last}, the watermark knows of {}", marked.index));
    };
    // Without a row the mark lies below the purge point, which proves that the log once went further.
    if at_mark.is_some_and(|point| point != marked) {
        return Err(format!("entry {} of {} is not the one that the watermark knows of", marked.index, last.index));
    }
    Ok(())
}
