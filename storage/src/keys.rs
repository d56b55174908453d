//! Owns the layout of every key. Does not know values. Invariant: big-endian numbers, so that key order is number order,
//! and the replica comes first, so that a replica's rows lie together.
//!
//! | family | key |
//! |---|---|
//! | log | replica u32, index u64 |
//! | meta | replica u32, tag u8 |
//! | state | replica u32, generation u32, row key (empty: the header) |

use proto::ids::ReplicaId;

/// Bytes before the row key in the state family.
pub(crate) const STATE_PREFIX_LEN: usize = 8;

/// What a meta row holds. Numbers are frozen; append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    Birth = 1,
    Vote = 2,
    Committed = 3,
    PurgePoint = 4,
    StatePointer = 5,
    /// The replica was removed from this node; the row stays.
    Retired = 6,
}

/// Key of a log row.
pub(crate) fn log_key(replica: ReplicaId, index: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&replica.0.to_be_bytes());
    key[4..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Smallest key after every log row of the replica.
pub(crate) fn log_end(replica: ReplicaId) -> [u8; 13] {
    let mut key = [0; 13];
    key[..12].copy_from_slice(&log_key(replica, u64::MAX));
    key
}

/// The index of a log row's key; `None` for a key of another length.
pub(crate) fn log_index(key: &[u8]) -> Option<u64> {
    let index: [u8; 8] = key.get(4..)?.try_into().ok()?;
    Some(u64::from_be_bytes(index))
}

/// Key of a meta row.
pub(crate) fn meta_key(replica: ReplicaId, tag: Tag) -> [u8; 5] {
    let mut key = [0; 5];
    key[..4].copy_from_slice(&replica.0.to_be_bytes());
    key[4] = tag as u8;
    key
}

/// What the rows of one generation start with; by itself the key of the header.
pub(crate) fn state_prefix(replica: ReplicaId, generation: u32) -> [u8; STATE_PREFIX_LEN] {
    let mut key = [0; STATE_PREFIX_LEN];
    key[..4].copy_from_slice(&replica.0.to_be_bytes());
    key[4..].copy_from_slice(&generation.to_be_bytes());
    key
}

/// Smallest state key after every generation of the replica.
pub(crate) fn state_end(replica: ReplicaId) -> Vec<u8> {
    prefix_end(&replica.0.to_be_bytes())
}

/// The generation in a state key; `None` for a key that is too short.
pub(crate) fn state_generation(key: &[u8]) -> Option<u32> {
    let generation: [u8; 4] = key.get(4..STATE_PREFIX_LEN)?.try_into().ok()?;
    Some(u32::from_be_bytes(generation))
}

/// Smallest key above every key that starts with `prefix`.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // All bytes are 0xff: nothing sorts above every key with this prefix, so go beyond the longest key there is.
    vec![u8::MAX; STATE_PREFIX_LEN + crate::state_table::ROW_KEY_BYTES_MAX + 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_have_their_golden_bytes() {
        let replica = ReplicaId(0x0102_0304);
        assert_eq!(log_key(replica, 0x0a0b), [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0x0a, 0x0b]);
        assert_eq!(log_end(ReplicaId(1)), [0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255, 0]);
        assert_eq!(state_prefix(replica, 7), [1, 2, 3, 4, 0, 0, 0, 7]);
        let tags = [Tag::Birth, Tag::Vote, Tag::Committed, Tag::PurgePoint, Tag::StatePointer, Tag::Retired];
        assert_eq!(tags.map(|tag| meta_key(replica, tag)[4]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(meta_key(replica, Tag::Vote)[..4], [1, 2, 3, 4]);
    }

    proptest! {
        #[test]
        fn log_keys_sort_like_their_indexes(a: u64, b: u64, replica: u32) {
            let (ka, kb) = (log_key(ReplicaId(replica), a), log_key(ReplicaId(replica), b));
            prop_assert_eq!(a.cmp(&b), ka.cmp(&kb));
            prop_assert_eq!(log_index(&ka), Some(a));
            prop_assert!(ka[..] < log_end(ReplicaId(replica))[..]);
        }

        #[test]
        fn prefix_end_is_above_the_prefix_and_all_below_it(prefix: Vec<u8>, rest in prop::collection::vec(any::<u8>(), 0..64)) {
            let key = [&prefix[..], &rest[..]].concat();
            prop_assert!(key < prefix_end(&prefix));
        }

        #[test]
        fn garbage_keys_do_not_panic(key: Vec<u8>) {
            let _ = (log_index(&key), state_generation(&key));
        }
    }
}
