//! Owns rows as a reader sees them who was given objects of the archive. Does not fetch objects. Invariant: it knows which losses the read
//! has met: only what is still named can be lost.

use crate::archive::Archived;
use crate::rows::{Rows, RowsError};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Rows for one read, and the objects that the reader has by now.
pub struct WithObjects<'a> {
    rows: &'a dyn Rows,
    objects: &'a BTreeMap<String, Archived>,
    lost: RefCell<BTreeSet<String>>,
}

impl<'a> WithObjects<'a> {
    pub fn new(rows: &'a dyn Rows, objects: &'a BTreeMap<String, Archived>) -> WithObjects<'a> {
        WithObjects { rows, objects, lost: RefCell::default() }
    }

    /// Names of the objects that the read asked for and that are lost.
    pub fn into_lost(self) -> BTreeSet<String> {
        self.lost.into_inner()
    }
}

impl Rows for WithObjects<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        self.rows.get(key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), RowsError> {
        self.rows.scan(prefix, from, reverse, visit)
    }

    fn archived(&self, object: &str) -> Option<Archived> {
        let held = self.objects.get(object).cloned();
        if matches!(held, Some(Archived::Lost)) {
            self.lost.borrow_mut().insert(object.to_owned());
        }
        held
    }
}
