//! Owns a read point of the database that outlives the call that made it. Does not write.
//! Invariant: the database is open for as long as the read point exists. The only file of the crate with `unsafe`.

use std::sync::Arc;

use rocksdb::{DB, Snapshot};

use crate::engine::{Family, View, Visit};
use crate::error::StorageError;
use crate::rocks::{Families, from_rocks, read_options, scan, scan_back};

/// A RocksDB snapshot together with the database it belongs to.
pub(crate) struct RocksView {
    /// Borrows from `db`; declared, and so dropped, before it.
    snapshot: Snapshot<'static>,
    db: Arc<DB>,
}

impl RocksView {
    #[allow(unsafe_code)]
    pub(crate) fn new(db: Arc<DB>) -> RocksView {
        let snapshot = db.snapshot();
        // SAFETY: only the lifetime changes. The snapshot borrows the `DB` inside the `Arc`, whose address never changes and which this
        // struct keeps alive: `db` is private, never replaced, and dropped after `snapshot` because fields drop in the order of their
        // declaration. `snapshot` is private and no method hands it, or a borrow of it, out.
        let snapshot = unsafe { std::mem::transmute::<Snapshot<'_>, Snapshot<'static>>(snapshot) };
        RocksView { snapshot, db }
    }
}

impl View for RocksView {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let handle = Families::of(&self.db).handle(family);
        self.snapshot.get_cf(handle, key).map_err(|error| from_rocks("read", &error))
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from >= to {
            return Ok(());
        }
        let handle = Families::of(&self.db).handle(family);
        scan(self.snapshot.raw_iterator_cf_opt(handle, read_options(from, to)), from, visit)
    }

    fn scan_back(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from >= to {
            return Ok(());
        }
        let handle = Families::of(&self.db).handle(family);
        scan_back(self.snapshot.raw_iterator_cf_opt(handle, read_options(from, to)), visit)
    }
}
