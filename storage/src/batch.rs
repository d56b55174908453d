//! Owns a set of changes that reach the disk together. Does not know an engine.
//! Invariant: one buffer holds all keys and values, so a batch of thousands of rows costs two allocations.

use crate::engine::Family;

/// One change of a [`Batch`], in the order in which it was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    Put {
        family: Family,
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        family: Family,
        key: &'a [u8],
    },
    /// Deletes `from <= key < to`.
    DeleteRange {
        family: Family,
        from: &'a [u8],
        to: &'a [u8],
    },
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Put,
    Delete,
    DeleteRange,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    kind: Kind,
    family: Family,
    first_len: u32,
    second_len: u32,
}

/// Changes that are written all or not at all. Later changes win over earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    headers: Vec<Header>,
    buffer: Vec<u8>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.put_parts(family, key, &[value]);
    }

    /// Sets `key` to the concatenation of `parts`; spares the caller a buffer to join them in.
    pub fn put_parts(&mut self, family: Family, key: &[u8], parts: &[&[u8]]) {
        self.buffer.extend_from_slice(key);
        let start = self.buffer.len();
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        let value_len = self.buffer.len() - start;
        self.push(Kind::Put, family, key.len(), value_len);
    }

    /// Removes `key` if it is there.
    pub fn delete(&mut self, family: Family, key: &[u8]) {
        self.buffer.extend_from_slice(key);
        self.push(Kind::Delete, family, key.len(), 0);
    }

    /// Removes every key with `from <= key < to`. An empty range changes nothing.
    pub fn delete_range(&mut self, family: Family, from: &[u8], to: &[u8]) {
        // RocksDB refuses a range that ends before it starts, and a whole batch with it.
        if from >= to {
            return;
        }
        self.buffer.extend_from_slice(from);
        self.buffer.extend_from_slice(to);
        self.push(Kind::DeleteRange, family, from.len(), to.len());
    }

    /// Number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.headers.len()
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// True when nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Forgets all changes and keeps the buffers, for the next round of the log writer.
    pub fn clear(&mut self) {
        self.headers.clear();
        self.buffer.clear();
    }

    /// Drops the buffer when one large round has grown it beyond `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        if self.buffer.capacity() > bytes {
            self.buffer.shrink_to(bytes);
        }
    }

    /// The changes, in the order in which they were added.
    pub fn ops(&self) -> impl Iterator<Item = Op<'_>> {
        let mut rest = self.buffer.as_slice();
        self.headers.iter().map(move |header| {
            let (first, tail) = rest.split_at(header.first_len as usize);
            let (second, tail) = tail.split_at(header.second_len as usize);
            rest = tail;
            let family = header.family;
            match header.kind {
                Kind::Put => Op::Put { family, key: first, value: second },
                Kind::Delete => Op::Delete { family, key: first },
                Kind::DeleteRange => Op::DeleteRange { family, from: first, to: second },
            }
        })
    }

    fn push(&mut self, kind: Kind, family: Family, first_len: usize, second_len: usize) {
        let narrow = |len: usize| {
            u32::try_from(len).expect("keys are short and bodies are far below 4 GiB by the limits of every caller")
        };
        self.headers.push(Header { kind, family, first_len: narrow(first_len), second_len: narrow(second_len) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ops_come_back_as_they_were_added() {
        let mut batch = Batch::new();
        batch.put(Family::Log, b"k", b"value");
        batch.put_parts(Family::State, b"p", &[b"a", b"", b"bc"]);
        batch.delete(Family::Meta, b"d");
        batch.delete_range(Family::Log, b"b", b"a");
        batch.delete_range(Family::Log, b"a", b"b");
        let ops: Vec<Op<'_>> = batch.ops().collect();
        assert_eq!(
            ops,
            [
                Op::Put { family: Family::Log, key: b"k", value: b"value" },
                Op::Put { family: Family::State, key: b"p", value: b"abc" },
                Op::Delete { family: Family::Meta, key: b"d" },
                Op::DeleteRange { family: Family::Log, from: b"a", to: b"b" },
            ]
        );
        assert_eq!((batch.len(), batch.bytes()), (4, 13));
        batch.clear();
        assert!(batch.is_empty() && batch.ops().next().is_none());
    }
}
