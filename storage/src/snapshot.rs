//! Owns the chunks a replica's state travels in. Does not know who sends them. Invariant: all chunks of one snapshot are of one
//! moment, and a chunk is read whole or refused.
//!
//! Chunk, little-endian: version u8, rows u32, then per row key length u32, key, value length u32, value; at the end a checksum u64
//! (xxh3 of all before it).

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use proto::ids::ReplicaId;
use proto::mutants::Mutant;
use xxhash_rust::xxh3::xxh3_64;

use crate::engine::{Family, View};
use crate::error::StorageError;
use crate::keys::{STATE_PREFIX_LEN, prefix_end, state_prefix};
use crate::state_table::{ROW_KEY_BYTES_MAX, ROW_VALUE_BYTES_MAX};
use crate::tables::Reader;

const VERSION: u8 = 1;
const HEAD_LEN: usize = 5;
const CHECKSUM_LEN: usize = 8;
/// Bytes of the two lengths of a row.
const ROW_OVERHEAD: usize = 8;

/// Longest chunk that is made or accepted, in bytes: one row of the largest size and as much again.
pub const CHUNK_BYTES_MAX: usize =
    2 * (ROW_VALUE_BYTES_MAX + ROW_KEY_BYTES_MAX + ROW_OVERHEAD) + HEAD_LEN + CHECKSUM_LEN;

/// Rows and header of one replica at one moment. It pins disk space until it is dropped.
pub struct StateSnapshot {
    view: Arc<dyn View>,
    header: Option<Vec<u8>>,
    /// Full key of the first row of the next chunk; `None`: all rows were given.
    next: Option<Vec<u8>>,
    end: Vec<u8>,
}

impl StateSnapshot {
    pub(crate) fn new(view: Arc<dyn View>, replica: ReplicaId, generation: u32) -> Result<StateSnapshot, StorageError> {
        let prefix = state_prefix(replica, generation);
        let header = view.get(Family::State, &prefix)?;
        let next = Some([&prefix[..], &[0]].concat());
        Ok(StateSnapshot { view, header, next, end: prefix_end(&prefix) })
    }

    /// The header that belongs to the rows; `None` for a table without a checkpoint.
    #[must_use]
    pub fn header(&self) -> Option<&[u8]> {
        self.header.as_deref()
    }

    /// The next rows, as one chunk of about `bytes_max` bytes (at least one row, at most [`CHUNK_BYTES_MAX`]); `None` after the last.
    /// # Errors
    /// `Io`, `Corrupt`; the same chunk may be asked for again.
    pub fn next_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, StorageError> {
        let Some(start) = self.next.clone() else { return Ok(None) };
        let bytes_max = bytes_max.min(CHUNK_BYTES_MAX) - CHECKSUM_LEN.min(bytes_max);
        let mut chunk = vec![VERSION, 0, 0, 0, 0];
        let mut rows: u32 = 0;
        let mut next = None;
        self.view.scan(Family::State, &start, &self.end, &mut |full, value| {
            let key = &full[STATE_PREFIX_LEN..];
            if Mutant::DedupeNotInSnapshot.is_on() && matches!(key.first(), Some(b'D' | b'P' | b'C')) {
                return ControlFlow::Continue(());
            }
            if rows > 0 && chunk.len() + key.len() + value.len() + ROW_OVERHEAD > bytes_max {
                next = Some(full.to_vec());
                return ControlFlow::Break(());
            }
            for part in [key, value] {
                let len = u32::try_from(part.len())
                    .expect("checkpoint() and put_chunk() keep rows below ROW_VALUE_BYTES_MAX");
                chunk.extend_from_slice(&len.to_le_bytes());
                chunk.extend_from_slice(part);
            }
            rows += 1;
            ControlFlow::Continue(())
        })?;
        self.next = next;
        if rows == 0 {
            return Ok(None);
        }
        chunk[1..HEAD_LEN].copy_from_slice(&rows.to_le_bytes());
        let checksum = xxh3_64(&chunk);
        chunk.extend_from_slice(&checksum.to_le_bytes());
        Ok(Some(Bytes::from(chunk)))
    }
}

/// Called with the key and the value of each row of a chunk.
pub type RowSink<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), StorageError>;

/// Gives each row of a chunk to `row`. The checksum is verified before the first.
/// # Errors
/// `Corrupt` for a chunk that is not what [`StateSnapshot::next_chunk`] made; what `row` returns.
pub fn decode_chunk(chunk: &[u8], row: RowSink<'_>) -> Result<(), StorageError> {
    if chunk.len() > CHUNK_BYTES_MAX {
        return Err(StorageError::corrupt("snapshot chunk: too long"));
    }
    let (body, checksum) =
        chunk.split_last_chunk::<CHECKSUM_LEN>().ok_or_else(|| StorageError::corrupt("snapshot chunk: too short"))?;
    if xxh3_64(body).to_le_bytes() != *checksum {
        return Err(StorageError::corrupt("snapshot chunk: checksum"));
    }
    let mut reader = Reader::open(body, "snapshot chunk")?;
    for _ in 0..reader.u32()? {
        let key_len = reader.u32()? as usize;
        let key = reader.take(key_len)?;
        let value_len = reader.u32()? as usize;
        row(key, reader.take(value_len)?)?;
    }
    reader.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemEngine, StateTable};
    use proptest::prelude::*;

    type Row = (Vec<u8>, Vec<u8>);

    fn rows_of(chunk: &[u8]) -> Result<Vec<Row>, StorageError> {
        let mut rows = Vec::new();
        decode_chunk(chunk, &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            Ok(())
        })?;
        Ok(rows)
    }

    fn chunks(rows: &[Row], bytes_max: usize) -> Vec<Bytes> {
        let (table, _) = StateTable::open(MemEngine::new(), ReplicaId(1)).unwrap();
        let rows = rows.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        table.checkpoint(rows, b"h".to_vec()).unwrap();
        let mut snapshot = table.snapshot().unwrap();
        std::iter::from_fn(|| snapshot.next_chunk(bytes_max).unwrap()).collect()
    }

    #[test]
    fn chunks_have_their_golden_bytes() {
        let chunks = chunks(&[(b"k".to_vec(), b"val".to_vec())], 1000);
        let (body, checksum) = chunks[0].split_last_chunk::<8>().unwrap();
        assert_eq!(body, [1, 1, 0, 0, 0, 1, 0, 0, 0, b'k', 3, 0, 0, 0, b'v', b'a', b'l']);
        assert_eq!(u64::from_le_bytes(*checksum), GOLDEN_CHUNK_CHECKSUM);
    }

    const GOLDEN_CHUNK_CHECKSUM: u64 = 954_532_531_932_430_127;

    proptest! {
        #[test]
        fn chunks_round_trip(
            rows in prop::collection::btree_map(prop::collection::vec(any::<u8>(), 1..20), any::<Vec<u8>>(), 0..50),
            bytes_max in 0usize..2000,
        ) {
            let rows: Vec<_> = rows.into_iter().collect();
            let chunks = chunks(&rows, bytes_max);
            let decoded: Vec<_> = chunks.iter().flat_map(|chunk| rows_of(chunk).unwrap()).collect();
            prop_assert_eq!(decoded, rows);
            for chunk in chunks {
                prop_assert!(chunk.len() <= bytes_max || rows_of(&chunk).unwrap().len() == 1);
            }
        }

        #[test]
        fn a_changed_chunk_is_refused(at in 0usize..25, bit in 0u8..8) {
            let mut chunk = chunks(&[(b"k".to_vec(), b"val".to_vec())], 1000)[0].to_vec();
            chunk[at] ^= 1 << bit;
            prop_assert!(rows_of(&chunk).is_err());
            prop_assert!(rows_of(&chunk[..at]).is_err());
        }

        #[test]
        fn garbage_with_a_good_checksum_does_not_panic(mut garbage: Vec<u8>) {
            if let Some(first) = garbage.first_mut() {
                *first = VERSION;
            }
            let checksum = xxh3_64(&garbage);
            garbage.extend_from_slice(&checksum.to_le_bytes());
            let _ = rows_of(&garbage);
        }
    }
}
