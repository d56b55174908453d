//! Owns looking for what was said: an index beside each replica, fed from its applied state. Does not own what was said: the shard does.
//! Invariant: nothing waits for an index. It may be behind or gone, and is built again; nothing in it is shown that the shard does not
//! have.

/// From texts to words.
pub mod words;

/// Words, places and facts of the index.
mod schema;

/// From what somebody types to a condition.
mod query;

mod collect;

mod disk;

mod index;

/// Where indexes are written.
mod aside;

mod pace;

/// From applied state into the index.
mod follow;

/// At the leader: from what is found to what is shown.
mod answer;

mod snippet;

#[cfg(test)]
mod follow_tests;
#[cfg(test)]
mod tests;

pub use index::{Index, Progress, Search, Writer};
pub use query::{QueryError, Wanted};
pub use schema::Said;

use crate::push::Hub;
use aside::Aside;
use cluster::router::ReplyTo;
use cluster::shard::Shard;
use follow::{Follower, Shared, Turn};
use parking_lot::RwLock;
use proto::ids::{ReplicaId, ShardId};
use proto::search::SearchAsk;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Searches that run on one node at once; each takes a thread of its own.
const SEARCHES_MAX: usize = 4;
/// An index whose replica has been gone for so long is removed.
const KEEP_GONE: Duration = Duration::from_secs(600);

/// The indexes of this node.
pub struct Indexes {
    /// `None`: there are none on this node, which is a simulated one.
    dir: Option<PathBuf>,
    open: RwLock<BTreeMap<ShardId, (ReplicaId, Arc<Shared>)>>,
    permits: Semaphore,
}

impl Indexes {
    /// `data_dir`: of the node; `None`: it has no indexes, and searches are refused.
    pub fn new(data_dir: Option<PathBuf>) -> Arc<Indexes> {
        let dir = data_dir.map(|dir| dir.join("search"));
        Arc::new(Indexes { dir, open: RwLock::default(), permits: Semaphore::new(SEARCHES_MAX) })
    }

    /// Looks for what was said in a shard that this node leads.
    pub async fn search(&self, shard: &Arc<Shard>, ask: &SearchAsk, reply: ReplyTo) {
        let started = Instant::now();
        let known = self.open.read().get(&shard.id).filter(|(replica, _)| *replica == shard.group.replica).cloned();
        reply.send(answer::answer(shard, known.map(|(_, shared)| shared), &self.permits, ask).await);
        metrics::histogram!("chat_search_seconds").record(started.elapsed().as_secs_f64());
    }
}

/// Keeps the indexes of this node's replicas, one after the other, until the node is gone.
pub async fn watch(hub: Weak<Hub>, indexes: Arc<Indexes>) {
    let Some(dir) = indexes.dir.clone() else { return };
    let aside = Aside::start();
    let mut followers: BTreeMap<ShardId, Follower> = BTreeMap::new();
    let mut gone: BTreeMap<PathBuf, Instant> = BTreeMap::new();
    let (mut is_busy, mut began, mut heard) = (false, Instant::now(), 0);
    loop {
        tokio::time::sleep(aside.pace.rest(began.elapsed(), is_busy)).await;
        let before = std::mem::replace(&mut began, Instant::now());
        is_busy = false;
        let Some(hub) = hub.upgrade() else { return };
        let Some(node) = hub.node() else {
            // A node that ends takes its replicas along.
            followers.clear();
            continue;
        };
        let locals = node.router.locals();
        let replicas: BTreeSet<ReplicaId> = locals.iter().map(|shard| shard.group.replica).collect();
        followers.retain(|_, follower| replicas.contains(&follower.replica()));
        indexes.open.write().retain(|_, (replica, _)| replicas.contains(replica));
        for shard in locals {
            let of = format!("{}/{}/{}", node.cluster, shard.id, shard.group.replica);
            let place = dir.join(shard.group.replica.to_string());
            let (id, replica) = (shard.id, shard.group.replica);
            let follower = followers
                .remove(&id)
                .unwrap_or_else(|| Follower::new(shard.clone(), place.clone(), of.clone(), aside.clone()));
            indexes.open.write().insert(id, (replica, follower.shared()));
            let turned = cluster::blocking(move || {
                let mut follower = follower;
                let turn = follower.turn(Instant::now());
                (follower, turn)
            });
            match turned.await {
                Ok((follower, turn)) => {
                    is_busy |= turn == Turn::Busy;
                    followers.insert(id, follower);
                }
                // A damaged file can do that, and the same file would do it again.
                Err(_) => followers.insert(id, Follower::anew(shard, place, of, aside.clone())).map_or((), drop),
            }
        }
        let events = figures(&indexes);
        aside.pace.heard(events.saturating_sub(heard), began - before);
        heard = events;
        if !is_busy {
            let (dir, known) = (dir.clone(), std::mem::take(&mut gone));
            gone = cluster::blocking(move || sweep(&dir, &replicas, known)).await.unwrap_or_default();
        }
    }
}

/// Says how far the index that is furthest behind is behind. Events that the shards have in all.
fn figures(indexes: &Indexes) -> u64 {
    let open = indexes.open.read();
    let behind = open.values().map(|(_, shared)| shared.behind()).max();
    metrics::gauge!("chat_search_behind_count").set(behind.unwrap_or(0) as f64);
    open.values().map(|(_, shared)| shared.head()).sum()
}

/// Removes what replicas left that are here no more.
fn sweep(dir: &Path, here: &BTreeSet<ReplicaId>, mut gone: BTreeMap<PathBuf, Instant>) -> BTreeMap<PathBuf, Instant> {
    let Ok(entries) = std::fs::read_dir(dir) else { return gone };
    let names: BTreeSet<String> = here.iter().map(ReplicaId::to_string).collect();
    let is_here = |path: &PathBuf| path.file_name().is_some_and(|name| names.contains(&*name.to_string_lossy()));
    let left: BTreeSet<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| !is_here(path)).collect();
    gone.retain(|path, _| left.contains(path));
    for path in left {
        let since = *gone.entry(path.clone()).or_insert_with(Instant::now);
        if since.elapsed() >= KEEP_GONE && std::fs::remove_dir_all(&path).is_ok() {
            tracing::info!(path = %path.display(), "the index of a replica that is gone was removed");
        }
    }
    gone
}
