//! Owns the opening through which the fuzz targets reach rows and slots. Does not serve the product. Invariant: what is read is
//! written and read again as the same.

use crate::StorageError;
use crate::engine::Family;
use crate::keys::{Tag, log_key, meta_key, state_prefix};
use crate::tables::*;
use crate::watermark_file;
use proto::ids::ReplicaId;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Reads bytes as each row of the log and of its meta family.
/// # Panics
/// A row is another one when it is read again.
pub fn rows(bytes: &[u8]) {
    if let Ok((term, hash, body)) = decode_log_row(bytes) {
        let again = [&log_row_head(term, hash)[..], body].concat();
        assert_eq!(decode_log_row(&again), Ok((term, hash, body)));
    }
    if let Ok((counter, vote)) = decode_vote(bytes) {
        assert_eq!(decode_vote(&encode_vote(counter, vote)), Ok((counter, vote)));
    }
    if let Ok(committed) = decode_committed(bytes) {
        assert_eq!(decode_committed(&encode_committed(committed)), Ok(committed));
    }
    if let Ok(point) = decode_purge_point(bytes) {
        assert_eq!(decode_purge_point(&encode_purge_point(point)), Ok(point));
    }
    if let Ok(incarnation) = decode_birth(bytes) {
        assert_eq!(decode_birth(&encode_birth(incarnation)), Ok(incarnation));
    }
    if let Ok(generation) = decode_state_pointer(bytes) {
        assert_eq!(decode_state_pointer(&encode_state_pointer(generation)), Ok(generation));
    }
}

/// The same bytes with the check sum that a vote of their counter has.
pub fn with_vote_sum(mut row: Vec<u8>) -> Vec<u8> {
    if let Some((head, vote)) = row.split_first_chunk_mut::<17>() {
        let counter = u64::from_le_bytes(*head[1..].first_chunk().expect("17 bytes hold one and eight"));
        head[9..].copy_from_slice(&xxh3_64_with_seed(vote, counter).to_le_bytes());
    }
    row
}

/// Reads bytes as a slot of the watermark file.
/// # Errors
/// They are none.
/// # Panics
/// The slot is another one when it is read again.
pub fn slot(bytes: &[u8]) -> Result<(), StorageError> {
    let (sequence, records) = watermark_file::decode(bytes)?;
    let mut again = Vec::new();
    watermark_file::encode(sequence, &records, &mut again);
    assert_eq!(watermark_file::decode(&again), Ok((sequence, records)));
    Ok(())
}

/// The same bytes with the check sum of the records that they say they have.
pub fn with_slot_sum(mut slot: Vec<u8>) -> Vec<u8> {
    let count = slot.get(17..19).map_or(0, |count| usize::from(u16::from_le_bytes([count[0], count[1]])));
    if let Some(covered) = slot.get(8..19 + 45 * count) {
        let sum = xxh3_64(covered).to_le_bytes();
        slot[..8].copy_from_slice(&sum);
    }
    slot
}

/// The same bytes with the check sum of a snapshot chunk in the place of the last eight.
pub fn with_chunk_sum(mut chunk: Vec<u8>) -> Vec<u8> {
    if let Some((body, sum)) = chunk.split_last_chunk_mut::<8>() {
        *sum = xxh3_64(body).to_le_bytes();
    }
    chunk
}

/// Where a row of a replica lies: `number` 0 to 4 is one of meta, 5 a log entry, 6 the header of the state.
pub fn place(replica: ReplicaId, number: u8, index: u64) -> (Family, Vec<u8>) {
    let tags = [Tag::Birth, Tag::Vote, Tag::Committed, Tag::PurgePoint, Tag::StatePointer];
    match (tags.into_iter().nth(usize::from(number)), number) {
        (Some(tag), _) => (Family::Meta, meta_key(replica, tag).to_vec()),
        (None, 5) => (Family::Log, log_key(replica, index).to_vec()),
        (None, _) => (Family::State, state_prefix(replica, 0).to_vec()),
    }
}

/// A log row that follows the one with the hash `before`, and its own hash.
pub fn chained(before: u64, index: u64, term: u64, body: &[u8]) -> (Vec<u8>, u64) {
    let hash = chain_hash(before, index, term, body);
    ([&log_row_head(term, hash)[..], body].concat(), hash)
}
