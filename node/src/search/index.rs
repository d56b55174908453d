//! Owns one index on the disk: what it holds, how far that goes, and searching it. Does not know shards. Invariant: what it holds and how
//! far that goes come from one commit, so they never disagree, whenever the process ends.

use super::collect::{Candidate, Newest};
use super::disk::Unsynced;
use super::query::{Wanted, query};
use super::schema::{FORM, Fields, Said, first_of};
use proto::ids::{SessionId, SiteId};
use proto::search::{SaidBy, SearchPlace};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tantivy::index::SegmentId;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy, PreparedCommit};
use tantivy::{Index as Tantivy, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, TantivyError};

/// What a writer collects in memory before it writes a segment, in bytes.
const WRITER_BYTES: usize = 16 << 20;
/// Segments of about one size that become one.
const MERGE_SEGMENTS_MIN: usize = 8;
/// Larger segments are left alone, in documents: merging one again and again would be most of the work.
const MERGE_DOCUMENTS_MAX: usize = 2_000_000;

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Throw it away and build it anew.
    #[error("the index is damaged: {0}")]
    Damaged(String),
    /// Something is in the archive, which does not give it now: go on later from here.
    #[error("the archive does not give what is to be indexed")]
    Away,
    /// Try again.
    #[error("the index cannot be used: {0}")]
    Failed(String),
}

impl From<TantivyError> for IndexError {
    fn from(error: TantivyError) -> IndexError {
        match error {
            TantivyError::DataCorruption(_)
            | TantivyError::IncompatibleIndex(_)
            | TantivyError::SchemaError(_)
            | TantivyError::OpenReadError(_) => IndexError::Damaged(error.to_string()),
            _ => IndexError::Failed(error.to_string()),
        }
    }
}

/// How far an index goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// The histories of the sessions up to this one are in it; what has happened since the feed was at `from` is still to be read.
    /// `seen`: as far was the feed when the last of them was read, or further.
    Walk { after: Option<u128>, from: u64, seen: u64 },
    /// The events up to that number of the feed are in it. Those up to `again` may be in it already.
    Feed { after: u64, again: u64 },
}

/// What is written with every commit.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    form: u32,
    /// Whose events these are: cluster, shard and replica.
    of: String,
    progress: Progress,
}

/// What a search is about.
pub struct Search<'a> {
    pub site: SiteId,
    pub wanted: Option<&'a Wanted>,
    pub by: Option<SaidBy>,
    pub from_ms: Option<u64>,
    pub to_ms: Option<u64>,
    pub after: Option<SearchPlace>,
    pub limit: usize,
}

/// An index that is open.
pub struct Index {
    of: String,
    fields: Fields,
    inner: Tantivy,
    reader: IndexReader,
}

impl Index {
    /// Opens the index of that directory, or makes one. How far it goes; `None`: it is empty.
    /// # Errors
    /// `IndexError`.
    pub fn open(dir: &Path, of: &str) -> Result<(Index, Option<Progress>), IndexError> {
        let failed = |error: &dyn std::fmt::Display| IndexError::Failed(error.to_string());
        std::fs::create_dir_all(dir).map_err(|error| failed(&error))?;
        let files = Unsynced::open(dir).map_err(|error| failed(&error))?;
        let fields = Fields::new();
        let inner = if Tantivy::exists(&files).map_err(|error| failed(&error))? {
            Tantivy::open(files)?
        } else {
            Tantivy::create(files, fields.schema.clone(), IndexSettings::default())?
        };
        if inner.schema() != fields.schema {
            return Err(IndexError::Damaged("it has other fields".to_owned()));
        }
        // After a loss of power a file may have its length and not its bytes.
        let harmed = inner.validate_checksum()?;
        if let Some(first) = harmed.iter().next() {
            return Err(IndexError::Damaged(format!("{} is not as it was written", first.display())));
        }
        let reader = inner.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let index = Index { of: of.to_owned(), fields, inner, reader };
        let progress = index.progress()?;
        Ok((index, progress))
    }

    fn progress(&self) -> Result<Option<Progress>, IndexError> {
        let Some(text) = self.inner.load_metas()?.payload else { return Ok(None) };
        let payload: Payload = serde_json::from_str(&text).map_err(|error| IndexError::Damaged(error.to_string()))?;
        if payload.form != FORM || payload.of != self.of {
            return Err(IndexError::Damaged(format!("it is form {} of {}", payload.form, payload.of)));
        }
        Ok(Some(payload.progress))
    }

    /// # Errors
    /// `IndexError`: another writer is open, or there are no threads.
    pub fn writer(&self) -> Result<Writer, IndexError> {
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(WRITER_BYTES)
            .num_worker_threads(1)
            .num_merge_threads(1)
            .build();
        let inner: IndexWriter = self.inner.writer_with_options(options)?;
        let mut policy = LogMergePolicy::default();
        policy.set_min_num_segments(MERGE_SEGMENTS_MIN);
        policy.set_max_docs_before_merge(MERGE_DOCUMENTS_MAX);
        inner.set_merge_policy(Box::new(policy));
        Ok(Writer { of: self.of.clone(), fields: self.fields.clone(), inner })
    }

    /// Searches see what was committed until now.
    /// # Errors
    /// `IndexError`.
    pub fn reload(&self) -> Result<(), IndexError> {
        Ok(self.reader.reload()?)
    }

    /// The newest of what was said, as far as the index knows.
    /// # Errors
    /// `IndexError`.
    pub fn search(&self, search: &Search<'_>) -> Result<Vec<Candidate>, IndexError> {
        let query = query(&self.fields, search.site, search.wanted);
        let last = search.to_ms.map_or(Some(u64::MAX), |to_ms| first_of(to_ms).checked_sub(1));
        let Some(last) = last else { return Ok(Vec::new()) };
        let newest = Newest {
            limit: search.limit.max(1),
            orders: (search.from_ms.map_or(0, first_of), last),
            by: search.by,
            after: search.after,
        };
        Ok(self.reader.searcher().search(&*query, &newest)?)
    }

    /// Things said that are in the index.
    pub fn documents(&self) -> u64 {
        self.reader.searcher().num_docs()
    }

    /// Segments that still hold what was taken out of them.
    /// # Errors
    /// `IndexError`.
    pub fn segments_to_purge(&self) -> Result<Vec<SegmentId>, IndexError> {
        let metas = self.inner.searchable_segment_metas()?;
        Ok(metas.iter().filter(|meta| meta.num_deleted_docs() > 0).map(|meta| meta.id()).collect())
    }

    /// Whether a word of a site stands in the files at all, found or not.
    #[cfg(test)]
    pub fn holds(&self, site: SiteId, word: &str) -> bool {
        let term = self.fields.word(site, word);
        self.reader.searcher().segment_readers().iter().any(|segment| {
            let words = segment.inverted_index(term.field()).unwrap();
            words.terms().get(term.serialized_value_bytes()).unwrap().is_some()
        })
    }
}

/// The one that changes an index.
pub struct Writer {
    of: String,
    fields: Fields,
    inner: IndexWriter,
}

impl Writer {
    /// `again`: what stands there under the same session and seq goes.
    /// # Errors
    /// `IndexError`.
    pub fn put(&self, said: &Said<'_>, again: bool) -> Result<(), IndexError> {
        if again {
            self.remove(said.place.session, said.place.seq);
        }
        self.inner.add_document(self.fields.document(said))?;
        Ok(())
    }

    pub fn remove(&self, session: SessionId, seq: u64) {
        self.inner.delete_term(self.fields.place(session, seq));
    }

    /// All that was said in a session goes.
    pub fn remove_session(&self, session: SessionId) {
        self.inner.delete_term(self.fields.session(session));
    }

    /// Everything until now can be found after the next `reload`, and the index goes as far as `progress`.
    /// # Errors
    /// `IndexError`.
    pub fn commit(&mut self, progress: Progress) -> Result<(), IndexError> {
        self.prepare(progress)?.commit()?;
        Ok(())
    }

    /// Everything but the last step of a commit.
    pub(super) fn prepare(&mut self, progress: Progress) -> Result<PreparedCommit<'_>, IndexError> {
        let payload = Payload { form: FORM, of: self.of.clone(), progress };
        let text = serde_json::to_string(&payload).map_err(|error| IndexError::Failed(error.to_string()))?;
        let mut prepared = self.inner.prepare_commit()?;
        prepared.set_payload(&text);
        Ok(prepared)
    }

    /// Writes these segments anew without what was taken out of them, and removes the old files.
    /// # Errors
    /// `IndexError`: for example that one of them is being merged just now, which does the same.
    pub fn purge(&mut self, segments: &[SegmentId]) -> Result<(), IndexError> {
        for segment in segments {
            self.inner.merge(std::slice::from_ref(segment)).wait()?;
        }
        self.inner.garbage_collect_files().wait()?;
        Ok(())
    }

    /// Waits for merges that are under way.
    /// # Errors
    /// `IndexError`.
    pub fn finish(self) -> Result<(), IndexError> {
        Ok(self.inner.wait_merging_threads()?)
    }
}
