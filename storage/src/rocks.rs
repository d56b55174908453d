//! Owns the one RocksDB of a node and its settings. Does not know replicas or row formats.
//! Invariant: three column families, whatever the number of shards; only the log writer's thread syncs the write-ahead log.
//!
//! Choices that are easy to undo by mistake:
//! - No FIFO compaction: it deletes the oldest file, which may hold rows of an idle shard that are still needed.
//! - Point-in-time recovery: RocksDB stops at the first damaged record of its write-ahead log and opens what was before it. It calls an
//!   emptied or shortened log whole, which is why the watermarks exist.
//! - No prefix bloom: every key of a replica has the same first eight bytes, so it would always say yes. The whole-key filter serves
//!   `get`, and each scan gives RocksDB both of its ends, so that it does not step through the tombstones of the neighbours.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator,
    DBRecoveryMode, ErrorKind, FlushOptions, Options, ReadOptions, WriteBatch, WriteOptions,
};

use crate::batch::{Batch, Op};
use crate::engine::{Durability, Engine, Family, View, Visit};
use crate::error::StorageError;
use crate::mem::check_families;
use crate::rocks_view::RocksView;

const MIB: usize = 1 << 20;

/// What zstd calls its own choice.
const ZSTD_WINDOW_DEFAULT: i32 = -14;
const ZSTD_LEVEL: i32 = 3;
/// The dictionary of a file of the last level, in bytes; it is kept in that file.
const DICTIONARY_BYTES: i32 = 16 << 10;
/// Rows that it is trained on, in bytes; a compaction holds them in memory.
const DICTIONARY_SAMPLE_BYTES: i32 = 100 * DICTIONARY_BYTES;

/// Sizes of a node's database. The default fits a node with 2 GiB of memory: at most about 400 MiB for buffers and cache.
#[derive(Debug, Clone)]
pub struct RocksOptions {
    /// Block cache shared by all families, in bytes. Default 64 MiB.
    pub block_cache_bytes: usize,
    /// Log rows in memory before they go to a file, in bytes; up to three such buffers exist. Default 64 MiB.
    pub log_buffer_bytes: usize,
    /// State rows in memory before they go to a file, in bytes; up to three such buffers exist. Default 32 MiB.
    pub state_buffer_bytes: usize,
    /// Write-ahead log files together, in bytes; beyond it the families that hold the oldest file are flushed. Default 256 MiB.
    pub wal_bytes_max: u64,
    /// Table files kept open. Default 512.
    pub open_files_max: i32,
    /// Threads for flushes and compactions. Default 2.
    pub background_jobs_max: i32,
}

impl Default for RocksOptions {
    fn default() -> RocksOptions {
        RocksOptions {
            block_cache_bytes: 64 * MIB,
            log_buffer_bytes: 64 * MIB,
            state_buffer_bytes: 32 * MIB,
            wal_bytes_max: 256 * MIB as u64,
            open_files_max: 512,
            background_jobs_max: 2,
        }
    }
}

/// The RocksDB of a node.
pub struct RocksEngine {
    db: Arc<DB>,
    synced: WriteOptions,
    logged: WriteOptions,
    buffered: WriteOptions,
}

impl RocksEngine {
    /// Opens the database in `dir`, or makes one when there is none. One process at a time: RocksDB locks the directory.
    /// # Errors
    /// `Io` when the directory cannot be used or another process has it; `Corrupt` when RocksDB refuses its files: the replicas of
    /// this node must then be rebuilt from their peers.
    pub fn open(dir: &Path, options: RocksOptions) -> Result<Arc<dyn Engine>, StorageError> {
        let cache = Cache::new_lru_cache(options.block_cache_bytes);
        let families = Family::ALL
            .map(|family| ColumnFamilyDescriptor::new(name(family), family_options(family, &options, &cache)));
        let db = DB::open_cf_descriptors(&db_options(&options), dir, families)
            .map_err(|error| from_rocks("open", &error))?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        let mut buffered = WriteOptions::default();
        buffered.disable_wal(true);
        Ok(Arc::new(RocksEngine { db: Arc::new(db), synced, logged: WriteOptions::default(), buffered }))
    }

    /// Opens the database of a stopped node to read it; no file in `dir` is changed.
    /// # Errors
    /// As [`RocksEngine::open`], and when there is no database.
    pub fn open_read_only(dir: &Path) -> Result<Arc<dyn View>, StorageError> {
        let options = RocksOptions::default();
        let cache = Cache::new_lru_cache(options.block_cache_bytes);
        let families = Family::ALL
            .map(|family| ColumnFamilyDescriptor::new(name(family), family_options(family, &options, &cache)));
        let mut settings = db_options(&options);
        settings.create_if_missing(false);
        settings.create_missing_column_families(false);
        let db = DB::open_cf_descriptors_read_only(&settings, dir, families, false)
            .map_err(|error| from_rocks("open", &error))?;
        let (synced, logged, buffered) = (WriteOptions::default(), WriteOptions::default(), WriteOptions::default());
        Ok(Arc::new(RocksEngine { db: Arc::new(db), synced, logged, buffered }))
    }

    fn handle(&self, family: Family) -> &ColumnFamily {
        Families::of(&self.db).handle(family)
    }
}

impl View for RocksEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.db.get_cf(self.handle(family), key).map_err(|error| from_rocks("read", &error))
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from >= to {
            return Ok(());
        }
        scan(self.db.raw_iterator_cf_opt(self.handle(family), read_options(from, to)), from, visit)
    }

    fn scan_back(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from >= to {
            return Ok(());
        }
        scan_back(self.db.raw_iterator_cf_opt(self.handle(family), read_options(from, to)), visit)
    }
}

impl Engine for RocksEngine {
    fn write_ref(&self, batch: &Batch, durability: Durability) -> Result<(), StorageError> {
        check_families(batch, durability)?;
        // Three look-ups by name for a batch instead of one for each row.
        let handles = Family::ALL.map(|family| self.handle(family));
        // A row's record has a tag, a family number and two lengths before its bytes.
        let mut rows = WriteBatch::with_capacity_bytes(64 + batch.bytes() + 12 * batch.len());
        for op in batch.ops() {
            match op {
                Op::Put { family, key, value } => rows.put_cf(handles[family as usize], key, value),
                Op::Delete { family, key } => rows.delete_cf(handles[family as usize], key),
                Op::DeleteRange { family, from, to } => rows.delete_range_cf(handles[family as usize], from, to),
            }
        }
        let options = match durability {
            Durability::Buffered => &self.buffered,
            Durability::Logged => &self.logged,
            Durability::Synced => &self.synced,
        };
        self.db.write_opt(rows, options).map_err(|error| from_rocks("write", &error))
    }

    fn flush_state(&self) -> Result<(), StorageError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cf_opt(self.handle(Family::State), &options).map_err(|error| from_rocks("flush", &error))
    }

    fn view(&self) -> Arc<dyn View> {
        Arc::new(RocksView::new(self.db.clone()))
    }

    fn bytes_of(&self, family: Family, from: &[u8], to: &[u8]) -> u64 {
        self.db.get_approximate_sizes_cf(self.handle(family), &[rocksdb::Range::new(from, to)]).into_iter().sum()
    }
}

/// Finds column families of an open database.
pub(crate) struct Families<'a>(&'a DB);

impl<'a> Families<'a> {
    pub(crate) fn of(db: &'a DB) -> Families<'a> {
        Families(db)
    }

    pub(crate) fn handle(&self, family: Family) -> &'a ColumnFamily {
        self.0.cf_handle(name(family)).expect("open() created every family of Family::ALL and nothing drops one")
    }
}

/// Reads that stay within `from <= key < to`.
pub(crate) fn read_options(from: &[u8], to: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    options
}

pub(crate) fn scan(mut rows: DBRawIterator<'_>, from: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
    rows.seek(from);
    while let Some((key, value)) = rows.item() {
        if visit(key, value) == ControlFlow::Break(()) {
            return Ok(());
        }
        rows.next();
    }
    rows.status().map_err(|error| from_rocks("scan", &error))
}

pub(crate) fn scan_back(mut rows: DBRawIterator<'_>, visit: Visit<'_>) -> Result<(), StorageError> {
    rows.seek_to_last();
    while let Some((key, value)) = rows.item() {
        if visit(key, value) == ControlFlow::Break(()) {
            return Ok(());
        }
        rows.prev();
    }
    rows.status().map_err(|error| from_rocks("scan", &error))
}

/// RocksDB tells a full disk only in the text of its error.
pub(crate) fn from_rocks(what: &'static str, error: &rocksdb::Error) -> StorageError {
    let cause = error.to_string();
    if cause.contains("No space left") || cause.contains("Space limit") {
        return StorageError::NoSpace { cause };
    }
    match error.kind() {
        ErrorKind::Corruption => StorageError::Corrupt { what: cause },
        _ => StorageError::Io { what, cause },
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::Log => "log",
        Family::State => "state",
        Family::Meta => "meta",
    }
}

fn db_options(options: &RocksOptions) -> Options {
    let mut db = Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    db.set_max_total_wal_size(options.wal_bytes_max);
    db.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    db.set_max_open_files(options.open_files_max);
    db.set_max_background_jobs(options.background_jobs_max);
    // Large background files reach the disk a megabyte at a time, so that they do not stall the log writer's sync at the end.
    db.set_bytes_per_sync(MIB as u64);
    db.set_keep_log_file_num(3);
    db.set_max_log_file_size(4 * MIB);
    db.set_stats_dump_period_sec(0);
    db
}

fn family_options(family: Family, options: &RocksOptions, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_format_version(5);
    // Index and filter blocks count against the cache, or memory would grow with the data.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut family_options = Options::default();
    family_options.set_level_compaction_dynamic_level_bytes(true);
    family_options.set_max_write_buffer_number(3);
    match family {
        Family::Log => {
            // Written once, mostly purged before it is compacted; bodies may be compressed by their sender. Nobody `get`s a row.
            table.set_block_size(32 << 10);
            family_options.set_write_buffer_size(options.log_buffer_bytes);
            family_options.set_compression_type(DBCompressionType::None);
        }
        Family::State => {
            table.set_block_size(8 << 10);
            table.set_bloom_filter(10.0, false);
            table.set_whole_key_filtering(true);
            family_options.set_write_buffer_size(options.state_buffer_bytes);
            family_options.set_compression_type(DBCompressionType::Lz4);
            family_options.set_bottommost_compression_type(DBCompressionType::Zstd);
            // What has come to the last level is old: each file there has a dictionary of its own rows. See docs/MEASUREMENTS.md.
            family_options.set_bottommost_compression_options(
                ZSTD_WINDOW_DEFAULT,
                ZSTD_LEVEL,
                0,
                DICTIONARY_BYTES,
                true,
            );
            family_options.set_bottommost_zstd_max_train_bytes(DICTIONARY_SAMPLE_BYTES, true);
        }
        Family::Meta => family_options.set_write_buffer_size(2 * MIB),
    }
    family_options.set_block_based_table_factory(&table);
    family_options
}
