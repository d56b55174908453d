//! Owns the write-back tables: what is cached, what changed, what a checkpoint is writing. Does not know rows or rules.
//! Invariant: a value that is not yet in rows is never dropped.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Deref;

/// How a cached value stands to its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mark {
    #[default]
    Clean,
    Dirty,
    /// The checkpoint under way holds this value.
    Writing,
    /// The checkpoint under way holds an older value.
    Rewritten,
}

impl Mark {
    /// Notes a change; true when the next checkpoint did not know of this value yet.
    pub(crate) fn touch(&mut self) -> bool {
        let (next, news) = match self {
            Mark::Clean => (Mark::Dirty, true),
            Mark::Writing => (Mark::Rewritten, true),
            Mark::Dirty => (Mark::Dirty, false),
            Mark::Rewritten => (Mark::Rewritten, false),
        };
        *self = next;
        news
    }

    /// A checkpoint begins; true when it must take the value.
    pub(crate) fn begin(&mut self) -> bool {
        let dirty = *self == Mark::Dirty;
        if dirty {
            *self = Mark::Writing;
        }
        dirty
    }

    /// The checkpoint ended.
    pub(crate) fn end(&mut self, written: bool) {
        *self = match (*self, written) {
            (Mark::Writing, true) | (Mark::Clean, _) => Mark::Clean,
            _ => Mark::Dirty,
        };
    }

    pub(crate) fn is_clean(self) -> bool {
        self == Mark::Clean
    }
}

/// The bytes of memory that a cached value holds, roughly and in O(1).
pub(crate) trait Weight {
    fn bytes(&self) -> usize;
    /// Once it is clean it need not stay: a deleted row, or one that is too large to keep.
    fn is_void(&self) -> bool {
        false
    }
}

/// A row that may be absent: `None` is a deletion to be written, or known absence.
impl<T: Weight> Weight for Option<T> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, Weight::bytes)
    }
    fn is_void(&self) -> bool {
        self.is_none()
    }
}

/// A key, a map entry and the mark.
const SLOT_BYTES: usize = 64;
/// What a changed value adds to the next checkpoint before its contents are counted.
const ROW_BYTES: usize = 256;

struct Slot<V> {
    value: V,
    mark: Mark,
    used: u64,
}

/// Values by key, with the lists that make a checkpoint cost what changed and not what is cached.
pub(crate) struct Table<K, V> {
    slots: BTreeMap<K, Slot<V>>,
    book: Book<K>,
}

struct Book<K> {
    dirty: Vec<K>,
    writing: Vec<K>,
    bytes: usize,
    dirty_bytes: usize,
    writing_bytes: usize,
}

/// A cached value in use. Dropping it brings the byte counts up to date.
pub(crate) struct Hold<'a, K: Copy + Ord, V: Weight> {
    key: K,
    slot: &'a mut Slot<V>,
    book: &'a mut Book<K>,
    before: usize,
}

impl<K: Copy + Ord, V: Weight> Hold<'_, K, V> {
    /// The value, to be changed: the next checkpoint writes it.
    pub(crate) fn change(&mut self) -> &mut V {
        if self.slot.mark.touch() {
            self.book.dirty.push(self.key);
            self.book.dirty_bytes += ROW_BYTES;
        }
        &mut self.slot.value
    }

    /// The value, to be completed with what rows hold already: nothing for a checkpoint.
    pub(crate) fn fill(&mut self) -> &mut V {
        &mut self.slot.value
    }
}

impl<K: Copy + Ord, V: Weight> Deref for Hold<'_, K, V> {
    type Target = V;
    fn deref(&self) -> &V {
        &self.slot.value
    }
}

impl<K: Copy + Ord, V: Weight> Drop for Hold<'_, K, V> {
    fn drop(&mut self) {
        let after = self.slot.value.bytes();
        self.book.bytes = (self.book.bytes + after).saturating_sub(self.before);
        if !self.slot.mark.is_clean() {
            self.book.dirty_bytes += after.saturating_sub(self.before);
        }
    }
}

impl<K: Copy + Ord, V: Weight> Table<K, V> {
    pub(crate) fn new() -> Self {
        let book = Book { dirty: Vec::new(), writing: Vec::new(), bytes: 0, dirty_bytes: 0, writing_bytes: 0 };
        Table { slots: BTreeMap::new(), book }
    }

    pub(crate) fn peek(&self, key: &K) -> Option<&V> {
        self.slots.get(key).map(|slot| &slot.value)
    }

    /// The value, for what is not part of its row or its weight.
    pub(crate) fn peek_mut(&mut self, key: &K) -> Option<&mut V> {
        self.slots.get_mut(key).map(|slot| &mut slot.value)
    }

    /// The cached values from `from` on, ascending.
    pub(crate) fn range(&self, from: K) -> impl Iterator<Item = (&K, &V)> {
        self.slots.range(from..).map(|(key, slot)| (key, &slot.value))
    }

    /// The value of `key`, loaded when it is not cached; `None` when `load` finds none.
    pub(crate) fn hold<E>(
        &mut self,
        key: K,
        tick: u64,
        load: impl FnOnce() -> Result<Option<V>, E>,
    ) -> Result<Option<Hold<'_, K, V>>, E> {
        let slot = match self.slots.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let Some(value) = load()? else { return Ok(None) };
                self.book.bytes += SLOT_BYTES + value.bytes();
                entry.insert(Slot { value, mark: Mark::Clean, used: tick })
            }
        };
        slot.used = tick;
        let before = slot.value.bytes();
        Ok(Some(Hold { key, slot, book: &mut self.book, before }))
    }

    /// Sets the value whatever its row says.
    pub(crate) fn put(&mut self, key: K, tick: u64, value: V) {
        self.book.bytes += value.bytes();
        let slot = match self.slots.entry(key) {
            Entry::Occupied(entry) => {
                let slot = entry.into_mut();
                self.book.bytes = self.book.bytes.saturating_sub(slot.value.bytes());
                slot.value = value;
                slot
            }
            Entry::Vacant(entry) => {
                self.book.bytes += SLOT_BYTES;
                entry.insert(Slot { value, mark: Mark::Clean, used: tick })
            }
        };
        slot.used = tick;
        if slot.mark.touch() {
            self.book.dirty.push(key);
            self.book.dirty_bytes += ROW_BYTES;
        }
    }

    /// Caches what a row says, unless something newer is cached.
    pub(crate) fn fill(&mut self, key: K, tick: u64, value: V) {
        self.slots.entry(key).or_insert_with(|| {
            self.book.bytes += SLOT_BYTES + value.bytes();
            Slot { value, mark: Mark::Clean, used: tick }
        });
    }

    /// Hands every changed value to `save`.
    pub(crate) fn begin_checkpoint(&mut self, mut save: impl FnMut(K, &mut V)) {
        self.book.writing = std::mem::take(&mut self.book.dirty);
        self.book.writing_bytes = std::mem::take(&mut self.book.dirty_bytes);
        for key in &self.book.writing {
            let slot = self.slots.get_mut(key).expect("a changed value is never dropped");
            if slot.mark.begin() {
                save(*key, &mut slot.value);
            }
        }
    }

    /// Hands every value of the ended checkpoint to `saved`, which may shed what rows hold now.
    pub(crate) fn end_checkpoint(&mut self, written: bool, mut saved: impl FnMut(&mut V)) {
        for key in std::mem::take(&mut self.book.writing) {
            let slot = self.slots.get_mut(&key).expect("a value being written is never dropped");
            let before = slot.value.bytes();
            if !written && slot.mark == Mark::Writing {
                self.book.dirty.push(key);
            }
            slot.mark.end(written);
            saved(&mut slot.value);
            self.book.bytes = (self.book.bytes + slot.value.bytes()).saturating_sub(before);
            if slot.mark.is_clean() && slot.value.is_void() {
                self.book.bytes = self.book.bytes.saturating_sub(SLOT_BYTES + slot.value.bytes());
                self.slots.remove(&key);
            }
        }
        let writing_bytes = std::mem::take(&mut self.book.writing_bytes);
        if !written {
            self.book.dirty_bytes += writing_bytes;
        }
    }

    /// Adds (last use, bytes) of everything that may be dropped.
    pub(crate) fn droppable(&self, uses: &mut Vec<(u64, usize)>) {
        let clean = self.slots.values().filter(|slot| slot.mark.is_clean());
        uses.extend(clean.map(|slot| (slot.used, SLOT_BYTES + slot.value.bytes())));
    }

    /// Drops clean values last used at `used` or before.
    pub(crate) fn drop_unused(&mut self, used: u64, mut dropped: impl FnMut(K)) {
        let bytes = &mut self.book.bytes;
        self.slots.retain(|key, slot| {
            let stays = !slot.mark.is_clean() || slot.used > used;
            if !stays {
                *bytes = bytes.saturating_sub(SLOT_BYTES + slot.value.bytes());
                dropped(*key);
            }
            stays
        });
    }

    pub(crate) fn bytes(&self) -> usize {
        self.book.bytes
    }

    pub(crate) fn dirty_bytes(&self) -> usize {
        self.book.dirty_bytes
    }

    #[cfg(test)]
    pub(crate) fn recount(&self) -> usize {
        self.slots.values().map(|slot| SLOT_BYTES + slot.value.bytes()).sum()
    }
}
