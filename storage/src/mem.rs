//! Owns a database in memory on a simulated disk that can lose, fail and fill up. Does not know RocksDB; for tests only.
//! Invariant: `durable` holds exactly what a power cut would leave, as [`Durability`] promises it.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::batch::{Batch, Op};
use crate::engine::{Durability, Engine, Family, View, Visit};
use crate::error::StorageError;
use crate::mem_disk::{Disk, MemFile};

type Rows = BTreeMap<Vec<u8>, Bytes>;

#[derive(Debug, Clone, Default)]
struct Families {
    rows: [Rows; Family::ALL.len()],
}

impl Families {
    fn apply(&mut self, batch: &Batch) {
        for op in batch.ops() {
            match op {
                Op::Put { family, key, value } => {
                    self.rows[family as usize].insert(key.to_vec(), Bytes::copy_from_slice(value));
                }
                Op::Delete { family, key } => {
                    self.rows[family as usize].remove(key);
                }
                Op::DeleteRange { family, from, to } => {
                    let gone: Vec<Vec<u8>> = self.range(family, from, to).map(|(key, _)| key.clone()).collect();
                    for key in gone {
                        self.rows[family as usize].remove(&key);
                    }
                }
            }
        }
    }

    /// As [`Families::apply`], for the rows of some families only.
    fn apply_to(&mut self, batch: &Batch, takes: impl Fn(Family) -> bool) {
        self.apply(&part_of(batch, takes));
    }

    fn bytes(&self) -> usize {
        self.rows.iter().flatten().map(|(key, value)| key.len() + value.len()).sum()
    }

    fn range(&self, family: Family, from: &[u8], to: &[u8]) -> impl DoubleEndedIterator<Item = (&Vec<u8>, &Bytes)> {
        // BTreeMap panics on an inverted range; RocksDB finds nothing in it.
        self.rows[family as usize].range::<[u8], _>((Bound::Included(from), Bound::Excluded(to.max(from))))
    }
}

impl View for Families {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.rows[family as usize].get(key).map(|value| value.to_vec()))
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        let _ = self.range(family, from, to).try_for_each(|(key, value)| visit(key, value));
        Ok(())
    }

    fn scan_back(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        let _: ControlFlow<()> = self.range(family, from, to).rev().try_for_each(|(key, value)| visit(key, value));
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Inner {
    live: Arc<Families>,
    /// What is on the disk for certain. Its state rows are those of the last flush; `tail` tells what came after.
    durable: Families,
    /// Batches since the last flush that touch state rows, and those that no sync has covered yet.
    tail: Vec<(Batch, Durability)>,
    capacity_bytes: Option<usize>,
}

impl Inner {
    /// Every batch so far is covered by a sync.
    fn synced(&mut self) {
        for (batch, durability) in &mut self.tail {
            if *durability == Durability::Logged {
                *durability = Durability::Synced;
                self.durable.apply_to(batch, |family| family != Family::State);
            }
        }
        self.tail.retain(|(batch, _)| touches_state(batch));
    }

    /// What a power cut leaves: all that was synced, the first `logged` batches that were not, and of the state rows also what a flush
    /// of RocksDB's own would have written after the first `flushed` batches.
    fn survivors(&self, logged: usize, flushed: usize) -> Families {
        let mut left = self.durable.clone();
        let mut unsynced = 0;
        for (number, (batch, durability)) in self.tail.iter().enumerate() {
            let in_log = match durability {
                Durability::Synced => true,
                Durability::Logged => {
                    unsynced += 1;
                    unsynced <= logged
                }
                Durability::Buffered => false,
            };
            if in_log && *durability == Durability::Logged {
                left.apply_to(batch, |family| family != Family::State);
            }
            if in_log || number < flushed {
                left.apply_to(batch, |family| family == Family::State);
            }
        }
        left
    }
}

/// The operations on some families.
fn part_of(batch: &Batch, takes: impl Fn(Family) -> bool) -> Batch {
    let mut part = Batch::new();
    for op in batch.ops() {
        match op {
            Op::Put { family, key, value } if takes(family) => part.put(family, key, value),
            Op::Delete { family, key } if takes(family) => part.delete(family, key),
            Op::DeleteRange { family, from, to } if takes(family) => part.delete_range(family, from, to),
            _ => {}
        }
    }
    part
}

fn touches_state(batch: &Batch) -> bool {
    batch.ops().any(|op| match op {
        Op::Put { family, .. } | Op::Delete { family, .. } | Op::DeleteRange { family, .. } => family == Family::State,
    })
}

/// The database in memory. Share it in an `Arc`; [`MemEngine::restart`] gives what the next process would find.
#[derive(Debug)]
pub struct MemEngine {
    inner: Mutex<Inner>,
    file: MemFile,
}

impl Default for MemEngine {
    fn default() -> MemEngine {
        MemEngine { inner: Mutex::default(), file: MemFile { bytes: Arc::default(), disk: Arc::default() } }
    }
}

impl MemEngine {
    /// An empty database on an empty disk.
    #[must_use]
    pub fn new() -> Arc<MemEngine> {
        Arc::new(MemEngine::default())
    }

    /// Drops every `Logged` batch that was not synced and every `Buffered` one that was not flushed, as kill -9 and a power cut
    /// together would. The handle goes on as the restarted machine, with power and without pending faults.
    pub fn crash(&self) {
        let mut inner = self.inner.lock();
        let left = inner.survivors(0, 0);
        inner.tail.clear();
        inner.live = Arc::new(left.clone());
        inner.durable = left;
        *self.file.disk.lock() = Disk::default();
    }

    /// As [`MemEngine::crash`], but returns the restarted machine as a new engine and leaves this handle without power, so that threads
    /// of the "killed process" can no longer change the disk.
    #[must_use]
    pub fn restart(&self) -> Arc<MemEngine> {
        self.restart_with(&mut |_| 0)
    }

    /// As [`MemEngine::restart`], but the disk may have kept more than it had to: `choose(n)` says how many of the next `n` batches, 0
    /// to `n`. It is asked twice: for batches of the write-ahead log, and for those whose state rows were written in passing.
    #[must_use]
    pub fn restart_with(&self, choose: &mut dyn FnMut(usize) -> usize) -> Arc<MemEngine> {
        let inner = self.inner.lock();
        let logged = inner.tail.iter().filter(|(_, durability)| *durability == Durability::Logged).count();
        let (logged, flushed) = (choose(logged), choose(inner.tail.len()));
        self.reborn(&inner, inner.survivors(logged, flushed))
    }

    /// As [`MemEngine::restart`] after kill -9 alone: the operating system lives and has every write, but for what the process itself
    /// kept in memory; of that, `choose` says how much was flushed in passing.
    #[must_use]
    pub fn restart_killed(&self, choose: &mut dyn FnMut(usize) -> usize) -> Arc<MemEngine> {
        let inner = self.inner.lock();
        let flushed = choose(inner.tail.len());
        self.reborn(&inner, inner.survivors(usize::MAX, flushed))
    }

    fn reborn(&self, inner: &Inner, durable: Families) -> Arc<MemEngine> {
        let mut disk = self.file.disk.lock();
        disk.syncs_left = Some(0);
        let next =
            Inner { live: Arc::new(durable.clone()), durable, tail: Vec::new(), capacity_bytes: inner.capacity_bytes };
        let file = MemFile { bytes: Arc::new(Mutex::new(self.file.read())), disk: Arc::default() };
        Arc::new(MemEngine { inner: Mutex::new(next), file })
    }

    /// The next sync, of the database or of the watermark file, fails; what it should have made durable is lost at a crash.
    pub fn fail_next_sync(&self) {
        self.file.disk.lock().fail_next_sync = true;
    }

    /// After `syncs` more successful syncs, of the database or of the watermark file, every access fails until the next crash or restart.
    pub fn power_off_after(&self, syncs: u64) {
        self.file.disk.lock().syncs_left = Some(syncs);
    }

    /// The same, and the write that finds the power gone is torn: a batch may be there or not, and of a slot of the watermark file a part is.
    pub fn tear_after(&self, syncs: u64) {
        let mut disk = self.file.disk.lock();
        (disk.syncs_left, disk.tears) = (Some(syncs), true);
    }

    /// Syncs so far, of the database and of the watermark file.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.file.disk.lock().syncs
    }

    /// Writes fail with `NoSpace` when keys and values would exceed `bytes`; `None`: there is room again.
    pub fn set_capacity(&self, bytes: impl Into<Option<usize>>) {
        self.inner.lock().capacity_bytes = bytes.into();
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.inner.lock().live.bytes()
    }

    /// Flips the lowest bit of the last byte of a stored row, live and durable; false when there is no such row.
    pub fn flip_bit(&self, family: Family, key: &[u8]) -> bool {
        let mut inner = self.inner.lock();
        let flip = |families: &mut Families| {
            let Some(value) = families.rows[family as usize].get_mut(key) else { return false };
            let mut bytes = value.to_vec();
            let Some(last) = bytes.last_mut() else { return false };
            *last ^= 1;
            *value = Bytes::from(bytes);
            true
        };
        let live = flip(Arc::make_mut(&mut inner.live));
        // What a restart finds must be flipped as well, wherever it lies.
        let left = inner.survivors(0, usize::MAX);
        inner.durable = left;
        inner.tail.retain(|(_, durability)| *durability == Durability::Logged);
        flip(&mut inner.durable) || live
    }

    /// Empties the database and keeps the watermark file, as when someone deletes the write-ahead log.
    pub fn wipe_rows(&self) {
        let mut inner = self.inner.lock();
        inner.live = Arc::default();
        inner.durable = Families::default();
        inner.tail.clear();
    }

    pub(crate) fn file(&self) -> MemFile {
        self.file.clone()
    }

    fn live(&self) -> Result<Arc<Families>, StorageError> {
        self.file.disk.lock().power()?;
        Ok(self.inner.lock().live.clone())
    }
}

impl View for MemEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.live()?.get(family, key)
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.live()?.scan(family, from, to, visit)
    }

    fn scan_back(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.live()?.scan_back(family, from, to, visit)
    }
}

impl Engine for MemEngine {
    fn write_ref(&self, batch: &Batch, durability: Durability) -> Result<(), StorageError> {
        check_families(batch, durability)?;
        let mut inner = self.inner.lock();
        if let Some(capacity) = inner.capacity_bytes
            && inner.live.bytes() + batch.bytes() > capacity
        {
            return Err(StorageError::NoSpace { cause: format!("capacity of {capacity} bytes") });
        }
        if let Err(error) = self.file.disk.lock().powered(durability) {
            if error.is_torn {
                inner.tail.push((batch.clone(), Durability::Logged));
            }
            return Err(error.cause);
        }
        // The live rows change even when the sync fails: what a failed sync leaves behind is unknown, and a reader may see it.
        Arc::make_mut(&mut inner.live).apply(batch);
        match durability {
            Durability::Buffered | Durability::Logged => inner.tail.push((batch.clone(), durability)),
            Durability::Synced => {
                self.file.disk.lock().sync()?;
                inner.synced();
                inner.durable.apply_to(batch, |family| family != Family::State);
                if touches_state(batch) {
                    inner.tail.push((batch.clone(), Durability::Synced));
                }
            }
        }
        Ok(())
    }

    fn flush_state(&self) -> Result<(), StorageError> {
        let mut inner = self.inner.lock();
        self.file.disk.lock().sync()?;
        let rows = inner.live.rows[Family::State as usize].clone();
        inner.durable.rows[Family::State as usize] = rows;
        inner.tail.retain(|(_, durability)| *durability == Durability::Logged);
        for (batch, _) in &mut inner.tail {
            *batch = part_of(batch, |family| family != Family::State);
        }
        Ok(())
    }

    fn view(&self) -> Arc<dyn View> {
        self.inner.lock().live.clone()
    }

    fn bytes_of(&self, family: Family, from: &[u8], to: &[u8]) -> u64 {
        let mut bytes = 0;
        let counted = self.scan(family, from, to, &mut |key, value| {
            bytes += (key.len() + value.len()) as u64;
            ControlFlow::Continue(())
        });
        if counted.is_ok() { bytes } else { 0 }
    }
}

/// Refuses a buffered batch that would leave log or meta rows out of the write-ahead log.
pub(crate) fn check_families(batch: &Batch, durability: Durability) -> Result<(), StorageError> {
    let outside = |op: Op<'_>| match op {
        Op::Put { family, .. } | Op::Delete { family, .. } | Op::DeleteRange { family, .. } => family != Family::State,
    };
    if durability == Durability::Buffered && batch.ops().any(outside) {
        return Err(StorageError::invalid("a buffered batch may only touch the state family"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(engine: &MemEngine, family: Family, key: &[u8], durability: Durability) -> Result<(), StorageError> {
        let mut batch = Batch::new();
        batch.put(family, key, b"v");
        engine.write(batch, durability)
    }

    fn has(engine: &MemEngine, family: Family, key: &[u8]) -> bool {
        engine.get(family, key).unwrap().is_some()
    }

    #[test]
    fn a_crash_takes_what_was_not_synced() {
        let engine = MemEngine::new();
        put(&engine, Family::Log, b"early", Durability::Logged).unwrap();
        put(&engine, Family::Log, b"synced", Durability::Synced).unwrap();
        put(&engine, Family::Log, b"late", Durability::Logged).unwrap();
        engine.crash();
        assert!(has(&engine, Family::Log, b"early") && has(&engine, Family::Log, b"synced"));
        assert!(!has(&engine, Family::Log, b"late"));
    }

    #[test]
    fn a_crash_takes_state_that_was_not_flushed() {
        let engine = MemEngine::new();
        put(&engine, Family::State, b"a", Durability::Buffered).unwrap();
        engine.flush_state().unwrap();
        put(&engine, Family::State, b"b", Durability::Buffered).unwrap();
        put(&engine, Family::Log, b"l", Durability::Synced).unwrap();
        let engine = engine.restart();
        assert!(has(&engine, Family::State, b"a") && !has(&engine, Family::State, b"b"));
    }

    #[test]
    fn faults_are_given_once_and_a_full_disk_stays_full() {
        let engine = MemEngine::new();
        engine.fail_next_sync();
        assert!(matches!(put(&engine, Family::Log, b"a", Durability::Synced), Err(StorageError::Io { .. })));
        put(&engine, Family::Log, b"b", Durability::Synced).unwrap();
        engine.set_capacity(4);
        assert!(matches!(put(&engine, Family::Log, b"c", Durability::Synced), Err(StorageError::NoSpace { .. })));
        engine.power_off_after(0);
        assert!(engine.get(Family::Log, b"b").is_err());
        engine.crash();
        assert!(!has(&engine, Family::Log, b"a") && has(&engine, Family::Log, b"b"));
        assert!(matches!(put(&engine, Family::Meta, b"a", Durability::Buffered), Err(StorageError::Invalid { .. })));
    }

    #[test]
    fn a_view_does_not_change() {
        let engine = MemEngine::new();
        put(&engine, Family::Log, b"a", Durability::Synced).unwrap();
        let view = engine.view();
        put(&engine, Family::Log, b"b", Durability::Synced).unwrap();
        let mut seen = Vec::new();
        let visit: Visit<'_> = &mut |key, _| {
            seen.push(key.to_vec());
            ControlFlow::Continue(())
        };
        view.scan(Family::Log, b"", b"z", visit).unwrap();
        assert_eq!(seen, [b"a"]);
        view.scan(Family::Log, b"z", b"a", &mut |_, _| panic!("an inverted range is empty")).unwrap();
    }
}
