//! Owns the bytes of every stored value. Does not know keys or when a row is written.
//! Invariant: the first byte is the version; a decoder checks version and length and never panics.
//!
//! All numbers are little-endian. Version 1 of each form:
//!
//! | row | after the version byte |
//! |---|---|
//! | log | term u64, chain hash u64, body |
//! | vote | counter u64, checksum u64 (xxh3 over counter and vote), vote |
//! | committed | bytes of the caller |
//! | purge point | index u64, term u64, chain hash u64 |
//! | birth | incarnation u64 |
//! | state pointer | generation u32 |

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64, xxh3_64_with_seed};

use crate::error::StorageError;

const VERSION: u8 = 1;
/// Bytes before the body in a log row.
pub(crate) const LOG_ROW_HEAD_LEN: usize = 17;

/// A position in a log with the running hash up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub index: u64,
    pub term: u64,
    pub hash: u64,
}

/// Running hash of a log's first entry's predecessor.
pub(crate) const HASH_SEED: u64 = 0;

/// Bodies shorter than this are hashed from one stack buffer in one shot, which is several times faster than streaming.
const SHORT_BODY_LEN: usize = 200;

/// The running hash after an entry: xxh3 over the previous hash, index, term and body.
pub(crate) fn chain_hash(previous: u64, index: u64, term: u64, body: &[u8]) -> u64 {
    let mut head = [0; 24 + SHORT_BODY_LEN];
    head[..8].copy_from_slice(&previous.to_le_bytes());
    head[8..16].copy_from_slice(&index.to_le_bytes());
    head[16..24].copy_from_slice(&term.to_le_bytes());
    if body.len() <= SHORT_BODY_LEN {
        head[24..24 + body.len()].copy_from_slice(body);
        return xxh3_64(&head[..24 + body.len()]);
    }
    let mut hasher = Xxh3Default::new();
    hasher.update(&head[..24]);
    hasher.update(body);
    hasher.digest()
}

/// The hash a chain goes on from when a snapshot replaced entries that this replica never had.
pub(crate) fn snapshot_hash(index: u64, term: u64) -> u64 {
    xxh3_64_with_seed(&term.to_le_bytes(), index)
}

/// What stands before the body in a log row.
pub(crate) fn log_row_head(term: u64, hash: u64) -> [u8; LOG_ROW_HEAD_LEN] {
    let mut head = [VERSION; LOG_ROW_HEAD_LEN];
    head[1..9].copy_from_slice(&term.to_le_bytes());
    head[9..].copy_from_slice(&hash.to_le_bytes());
    head
}

/// Term, chain hash and body of a log row.
pub(crate) fn decode_log_row(row: &[u8]) -> Result<(u64, u64, &[u8]), StorageError> {
    let mut reader = Reader::open(row, "log row")?;
    Ok((reader.u64()?, reader.u64()?, reader.rest()))
}

pub(crate) fn encode_vote(counter: u64, vote: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(17 + vote.len());
    row.push(VERSION);
    row.extend_from_slice(&counter.to_le_bytes());
    row.extend_from_slice(&xxh3_64_with_seed(vote, counter).to_le_bytes());
    row.extend_from_slice(vote);
    row
}

/// Counter and vote.
pub(crate) fn decode_vote(row: &[u8]) -> Result<(u64, &[u8]), StorageError> {
    let mut reader = Reader::open(row, "vote row")?;
    let (counter, checksum, vote) = (reader.u64()?, reader.u64()?, reader.rest());
    if checksum != xxh3_64_with_seed(vote, counter) {
        return Err(StorageError::corrupt("vote row: checksum"));
    }
    Ok((counter, vote))
}

pub(crate) fn encode_committed(committed: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + committed.len());
    row.push(VERSION);
    row.extend_from_slice(committed);
    row
}

pub(crate) fn decode_committed(row: &[u8]) -> Result<&[u8], StorageError> {
    Ok(Reader::open(row, "committed row")?.rest())
}

pub(crate) fn encode_purge_point(point: Point) -> Vec<u8> {
    let mut row = vec![VERSION];
    for number in [point.index, point.term, point.hash] {
        row.extend_from_slice(&number.to_le_bytes());
    }
    row
}

pub(crate) fn decode_purge_point(row: &[u8]) -> Result<Point, StorageError> {
    let mut reader = Reader::open(row, "purge point row")?;
    let point = Point { index: reader.u64()?, term: reader.u64()?, hash: reader.u64()? };
    reader.end()?;
    if point.index == u64::MAX {
        return Err(StorageError::corrupt("purge point row: beyond the last index"));
    }
    Ok(point)
}

pub(crate) fn encode_birth(incarnation: u64) -> Vec<u8> {
    let mut row = vec![VERSION];
    row.extend_from_slice(&incarnation.to_le_bytes());
    row
}

pub(crate) fn decode_birth(row: &[u8]) -> Result<u64, StorageError> {
    let mut reader = Reader::open(row, "birth row")?;
    let incarnation = reader.u64()?;
    reader.end()?;
    Ok(incarnation)
}

pub(crate) fn encode_state_pointer(generation: u32) -> Vec<u8> {
    let mut row = vec![VERSION];
    row.extend_from_slice(&generation.to_le_bytes());
    row
}

pub(crate) fn decode_state_pointer(row: &[u8]) -> Result<u32, StorageError> {
    let mut reader = Reader::open(row, "state pointer row")?;
    let generation = reader.u32()?;
    reader.end()?;
    Ok(generation)
}

/// Reads numbers off the front of untrusted bytes.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Checks the version byte.
    pub(crate) fn open(bytes: &'a [u8], what: &'static str) -> Result<Reader<'a>, StorageError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => Ok(Reader { rest, what }),
            Some((version, _)) => Err(StorageError::corrupt(format!("{what}: version {version} is unknown"))),
            None => Err(StorageError::corrupt(format!("{what}: empty"))),
        }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], StorageError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, StorageError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*head))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, StorageError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*head))
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Refuses bytes that no field accounts for.
    pub(crate) fn end(&self) -> Result<(), StorageError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(StorageError::corrupt(format!("{}: bytes left over", self.what)))
        }
    }

    fn short(&self) -> StorageError {
        StorageError::corrupt(format!("{}: too short", self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A number whose eight bytes are all different, so that a swapped order shows.
    const N: u64 = 0x0807_0605_0403_0201;

    #[test]
    fn rows_have_their_golden_bytes() {
        assert_eq!(log_row_head(N, 9), [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode_committed(b"c"), b"\x01c");
        assert_eq!(encode_birth(N), [1, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(encode_state_pointer(0x0403_0201), [1, 1, 2, 3, 4]);
        let point = encode_purge_point(Point { index: N, term: 2, hash: 3 });
        assert_eq!(point, [1, 1, 2, 3, 4, 5, 6, 7, 8, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        let vote = encode_vote(5, b"vote");
        assert_eq!(vote[..9], [1, 5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(u64::from_le_bytes(vote[9..17].try_into().unwrap()), GOLDEN_VOTE_CHECKSUM);
        assert_eq!(vote[17..], *b"vote");
    }

    const GOLDEN_VOTE_CHECKSUM: u64 = 2_620_755_239_051_822_197;

    const GOLDEN_HASHES: [u64; 3] =
        [13_477_618_595_900_612_199, 15_258_785_648_534_608_609, 17_112_618_351_056_632_399];

    #[test]
    fn hashes_are_frozen() {
        let hashes = [chain_hash(HASH_SEED, 1, 2, b"body"), chain_hash(7, 1, 2, &[0xab; 300]), snapshot_hash(10, 3)];
        assert_eq!(hashes, GOLDEN_HASHES);
    }

    #[test]
    fn short_and_long_bodies_are_hashed_alike() {
        for len in [0, 1, SHORT_BODY_LEN - 1, SHORT_BODY_LEN, SHORT_BODY_LEN + 1, 5000] {
            let body = vec![7; len];
            let joined = [&3u64.to_le_bytes()[..], &4u64.to_le_bytes(), &5u64.to_le_bytes(), &body].concat();
            assert_eq!(chain_hash(3, 4, 5, &body), xxh3_64(&joined), "{len}");
        }
    }

    /// An append to such a log would count on from it.
    #[test]
    fn nothing_is_purged_up_to_the_last_index() {
        let point = |index| decode_purge_point(&encode_purge_point(Point { index, term: 1, hash: 2 }));
        assert!(point(u64::MAX - 1).is_ok());
        assert!(matches!(point(u64::MAX), Err(StorageError::Corrupt { .. })));
    }

    proptest! {
        #[test]
        fn rows_round_trip(a in 0..u64::MAX, b: u64, c: u64, d: u32, body: Vec<u8>) {
            let row = [&log_row_head(a, b)[..], &body].concat();
            prop_assert_eq!(decode_log_row(&row), Ok((a, b, &body[..])));
            let (vote, committed) = (encode_vote(a, &body), encode_committed(&body));
            prop_assert_eq!(decode_vote(&vote), Ok((a, &body[..])));
            prop_assert_eq!(decode_committed(&committed), Ok(&body[..]));
            let point = Point { index: a, term: b, hash: c };
            prop_assert_eq!(decode_purge_point(&encode_purge_point(point)), Ok(point));
            prop_assert_eq!(decode_birth(&encode_birth(a)), Ok(a));
            prop_assert_eq!(decode_state_pointer(&encode_state_pointer(d)), Ok(d));
        }

        #[test]
        fn garbage_is_refused_without_a_panic(mut garbage: Vec<u8>, version_is_right: bool) {
            if version_is_right && let Some(first) = garbage.first_mut() {
                *first = VERSION;
            }
            let _ = decode_log_row(&garbage);
            let _ = decode_vote(&garbage);
            let _ = decode_committed(&garbage);
            let _ = decode_purge_point(&garbage);
            let _ = decode_birth(&garbage);
            let _ = decode_state_pointer(&garbage);
        }
    }
}
