//! Owns the making of a backup: cuts every group, turns its rows into chunks, stores those that are not there yet, and says so
//! in a manifest. Does not know who asked. Invariant: the manifest is the last thing that is written.

use super::chunk::{self, Chunk};
use super::manifest::{self, ChunkRef, FORMAT, Group, Manifest};
use super::work::{Job, Progress, Work, mark, unmark};
use super::{BackupError, Place};
use cluster::meta::SECRET_KINDS;
use cluster::node::{ClusterNode, CutError, OpenCut};
use cluster::shard::now_ms;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use parking_lot::Mutex;
use proto::ids::{META_SHARD, ShardId};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Chunks that are on their way to the place at once.
const UPLOADS_MAX: usize = 4;
/// Times that a group is cut anew after its leader went away.
const TRIES_MAX: u32 = 5;
/// Pause before that.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A backup that takes longer is given up: its mark would soon protect it no more.
const WITHIN: Duration = Duration::from_secs(12 * 3600);

/// How a backup is to be made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Order {
    /// Store every chunk, also those that seem to be there: heals a place that was damaged.
    pub full: bool,
    /// Bytes of rows that are read per second at most.
    pub bytes_per_s_max: Option<u64>,
}

/// Backs the whole cluster up.
/// # Errors
/// `Cut`: a group has no leader. `Place`. `Busy`: chunks are being deleted there.
pub async fn create(
    node: Arc<ClusterNode>,
    place: Place,
    order: Order,
    job: Arc<Job>,
) -> Result<Manifest, BackupError> {
    let started_ms = now_ms();
    mark(&place, Work::Backup, &job.id, started_ms).await?;
    let work = Box::pin(run(&node, &place, order, &job, started_ms));
    let done = tokio::time::timeout(WITHIN, work).await;
    let unmarked = unmark(&place, Work::Backup, &job.id).await;
    let manifest = done.map_err(|_| BackupError::Busy("it was not done in 12 hours".into()))??;
    unmarked.map(|()| manifest)
}

async fn run(
    node: &Arc<ClusterNode>,
    place: &Place,
    order: Order,
    job: &Arc<Job>,
    started_ms: u64,
) -> Result<Manifest, BackupError> {
    let about = node.with_meta(|state| Some((state.name()?, state.cluster.as_ref()?.version))).flatten();
    let (name, cluster_version) =
        about.ok_or_else(|| BackupError::Busy("this node does not know its cluster yet".into()))?;
    let mut known = HashSet::new();
    if !order.full {
        known.extend(referenced(place).await?);
    }
    let maker = Maker {
        node: node.clone(),
        place: place.clone(),
        known: Arc::new(Mutex::new(known)),
        job: job.clone(),
        order,
        begun: Instant::now(),
    };
    let mut groups = Vec::new();
    // Meta last: it then has every site and account that the shards name.
    for shard in (1..=node.shards).map(ShardId).chain([META_SHARD]) {
        groups.push(maker.group(shard).await?);
    }
    let manifest = Manifest {
        format: FORMAT,
        id: job.id.clone(),
        started_ms,
        finished_ms: now_ms(),
        everdesk: env!("CARGO_PKG_VERSION").to_owned(),
        cluster_version,
        cluster: node.cluster,
        name,
        shards: node.shards,
        groups,
    };
    manifest.write(place).await?;
    Ok(manifest)
}

/// The chunks of other backups that are there. Others may be left-overs: they are not relied upon.
async fn referenced(place: &Place) -> Result<HashSet<String>, BackupError> {
    let names = place.list("chunks/").await?;
    let there: HashSet<&str> = names.iter().filter_map(|name| chunk::name_of(name)).collect();
    let mut found = HashSet::new();
    for id in manifest::ids(place).await? {
        // One that is damaged must not keep new backups from being made.
        let Ok(manifest) = Manifest::read(place, &id).await else { continue };
        let names = manifest.chunks().map(|(_, chunk)| chunk.name.as_str());
        found.extend(names.filter(|name| there.contains(name)).map(str::to_owned));
    }
    Ok(found)
}

struct Maker {
    node: Arc<ClusterNode>,
    place: Place,
    /// Chunks that are stored.
    known: Arc<Mutex<HashSet<String>>>,
    job: Arc<Job>,
    order: Order,
    begun: Instant,
}

type Upload = BoxFuture<'static, Result<(), BackupError>>;

impl Maker {
    async fn group(&self, shard: ShardId) -> Result<Group, BackupError> {
        let mut tries = 0;
        loop {
            let mut cut = self.node.open_cut(shard).await?;
            let read = self.read(&mut cut).await;
            self.node.close_cut(cut).await;
            tries += 1;
            match read {
                Err(BackupError::Cut(error)) if tries < TRIES_MAX => {
                    tracing::warn!(%shard, %error, "the group is cut anew");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                read => return read,
            }
        }
    }

    async fn read(&self, cut: &mut OpenCut) -> Result<Group, BackupError> {
        let shard = cut.shard;
        let gone = |reason: &str| CutError { shard, reason: reason.into() };
        let at = cut.applied.applied.ok_or_else(|| gone("nothing was applied yet"))?;
        let mut packer = Packer { shard, known: self.known.clone(), ..Packer::default() };
        let mut uploads = FuturesUnordered::<Upload>::new();
        loop {
            let page = self.node.next_chunk(cut).await?;
            let is_last = page.is_none();
            let pack = tokio::task::spawn_blocking(move || {
                let packed = packer.page(page.as_deref());
                (packer, packed)
            });
            let (back, packed) = pack.await.map_err(|error| gone(&error.to_string()))?;
            packer = back;
            for (name, stored) in packed.map_err(|reason| gone(&reason))? {
                while uploads.len() >= UPLOADS_MAX {
                    uploads.next().await.transpose()?;
                }
                uploads.push(self.upload(name, stored));
            }
            self.note(&mut packer);
            if is_last {
                break;
            }
            self.pace().await;
        }
        while uploads.next().await.transpose()?.is_some() {}
        let Packer { chunks, rows, bytes, state_hash, .. } = packer;
        let hash = chunk::hash_of(chunks.iter().map(|chunk| chunk.name.as_str()));
        Ok(Group { shard, node: cut.node, term: at.term, index: at.index, state_hash, rows, bytes, hash, chunks })
    }

    fn upload(&self, name: String, stored: Vec<u8>) -> Upload {
        let place = self.place.clone();
        Progress::add(&self.job.progress.chunks_new, 1);
        Progress::add(&self.job.progress.bytes_stored, stored.len() as u64);
        let known = self.known.clone();
        async move {
            place.put(&chunk::path(&name), stored).await?;
            known.lock().insert(name);
            Ok(())
        }
        .boxed()
    }

    fn note(&self, packer: &mut Packer) {
        let progress = &self.job.progress;
        Progress::add(&progress.rows, std::mem::take(&mut packer.rows_new));
        Progress::add(&progress.bytes, std::mem::take(&mut packer.bytes_new));
        Progress::add(&progress.chunks, std::mem::take(&mut packer.chunks_new));
    }

    /// Waits until no more was read than may be.
    async fn pace(&self) {
        let Some(rate) = self.order.bytes_per_s_max else { return };
        let read = self.job.progress.bytes.load(std::sync::atomic::Ordering::Relaxed);
        let due = Duration::from_secs_f64(read as f64 / rate.max(1) as f64);
        tokio::time::sleep_until(self.begun + due).await;
    }
}

/// Turns the pages of one group into chunks.
#[derive(Default)]
struct Packer {
    shard: ShardId,
    known: Arc<Mutex<HashSet<String>>>,
    /// Chunks that this try stores. Where it fails they may be missing: the next try stores them again.
    fresh: HashSet<String>,
    open: Chunk,
    chunks: Vec<ChunkRef>,
    rows: u64,
    bytes: u64,
    state_hash: Option<String>,
    /// Since the last look.
    rows_new: u64,
    bytes_new: u64,
    chunks_new: u64,
}

impl Packer {
    /// Takes one page, `None` after the last; returns the chunks that must be stored. Computes for milliseconds.
    fn page(&mut self, page: Option<&[u8]>) -> Result<Vec<(String, Vec<u8>)>, String> {
        let mut out = Vec::new();
        let Some(page) = page else {
            if self.open.rows > 0 {
                self.seal(&mut out);
            }
            return Ok(out);
        };
        let mut failed = None;
        let read = storage::decode_chunk(page, &mut |key, value| {
            if self.shard != META_SHARD && self.state_hash.is_none() {
                match chat::read_header(key, value) {
                    Ok(header) => self.state_hash = header.map(|(_, hash)| format!("{hash:016x}")),
                    Err(error) => failed = Some(error.to_string()),
                }
            }
            let is_secret = self.shard == META_SHARD && key.first().is_some_and(|kind| SECRET_KINDS.contains(kind));
            if !is_secret && self.open.push(key, value) {
                self.seal(&mut out);
            }
            Ok(())
        });
        read.map_err(|error| error.to_string())?;
        failed.map_or(Ok(out), Err)
    }

    fn seal(&mut self, out: &mut Vec<(String, Vec<u8>)>) {
        let chunk = std::mem::take(&mut self.open);
        let (name, rows, bytes) = (chunk.name(), chunk.rows, chunk.bytes.len() as u64);
        self.rows += rows;
        self.bytes += bytes;
        self.rows_new += rows;
        self.bytes_new += bytes;
        self.chunks_new += 1;
        let is_stored = self.known.lock().contains(&name);
        if !is_stored && self.fresh.insert(name.clone()) {
            out.push((name.clone(), chunk.pack()));
        }
        self.chunks.push(ChunkRef { name, rows, bytes });
    }
}
