//! Owns what is seen of the cluster from outside, again and again: leaders and states as the nodes tell them. Does not act.
//! Invariant: what a node said long ago counts as unseen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;

use super::admin::Admin;
use super::ways::{Address, Ids};
use crate::cluster::{ShardStatus, Status};
use crate::history::{Body, Epoch, NodeId, Recorder, ShardId};
use crate::{http, wait};

const LOOK_EVERY: Duration = Duration::from_millis(200);
const ANSWERS_WITHIN: Duration = Duration::from_millis(1_500);
/// An answer older than this says nothing of now.
const FRESH_FOR: Duration = Duration::from_millis(2_500);

/// What was seen.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// By machine.
    views: BTreeMap<u64, (Instant, Status)>,
}

/// The latest sight of all machines.
#[derive(Clone)]
pub struct Eyes {
    seen: Arc<Mutex<Seen>>,
    pub ids: Ids,
}

/// Who leads a shard, as it says itself.
#[derive(Debug, Clone)]
pub struct Led {
    pub machine: u64,
    pub view: ShardStatus,
}

impl Eyes {
    pub fn new(ids: Ids) -> Eyes {
        Eyes { seen: Arc::default(), ids }
    }

    /// Looks until dropped, and writes changes of leaders into the book.
    pub async fn watch(self, machines: Vec<Address>, admin: Admin, book: Recorder) {
        let mut leaders = BTreeMap::<u64, (Option<u64>, u64)>::new();
        loop {
            let looks = machines.iter().map(|machine| self.look(machine, &admin));
            futures_util::future::join_all(looks).await;
            self.note_leaders(&mut leaders, &book);
            wait::pause(LOOK_EVERY).await;
        }
    }

    async fn look(&self, machine: &Address, admin: &Admin) {
        let answer = tokio::time::timeout(ANSWERS_WITHIN, admin.status(&machine.admin)).await;
        let Ok(Ok(status)) = answer else { return };
        self.ids.lock().insert(status.node, machine.machine);
        self.seen.lock().views.insert(machine.machine, (Instant::now(), status));
    }

    fn note_leaders(&self, leaders: &mut BTreeMap<u64, (Option<u64>, u64)>, book: &Recorder) {
        let now = self.led();
        for shard in self.shards() {
            let before = leaders.entry(shard).or_insert((None, 0));
            let led = now.get(&shard).filter(|led| led.view.epoch >= before.1);
            let next = led.map_or((None, before.1), |led| (Some(led.machine), led.view.epoch));
            if *before != next {
                *before = next;
                let node = next.0.map(NodeId);
                book.record(Body::Leader { shard: ShardId(shard), node, epoch: Epoch(next.1) });
            }
        }
    }

    /// What each machine said last, if that is not long ago.
    pub fn views(&self) -> BTreeMap<u64, Status> {
        let seen = self.seen.lock();
        let fresh = seen.views.iter().filter(|(_, (at, _))| at.elapsed() < FRESH_FOR);
        fresh.map(|(machine, (_, status))| (*machine, status.clone())).collect()
    }

    /// Forgets what was seen before: after a fault only what comes now counts.
    pub fn blink(&self) {
        self.seen.lock().views.clear();
    }

    /// The id by which the cluster knows a machine.
    pub fn id(&self, machine: u64) -> Option<u64> {
        let ids = self.ids.lock();
        ids.iter().filter(|(_, of)| **of == machine).map(|(id, _)| *id).max()
    }

    fn shards(&self) -> Vec<u64> {
        let seen = self.seen.lock();
        let longest = seen.views.values().map(|(_, status)| &status.shards).max_by_key(|shards| shards.len());
        longest.into_iter().flatten().map(|shard| shard.shard).collect()
    }

    /// By shard, the one with the newest epoch of those who say that they serve it.
    pub fn led(&self) -> BTreeMap<u64, Led> {
        let mut led = BTreeMap::<u64, Led>::new();
        for (machine, status) in self.views() {
            for view in status.shards.into_iter().filter(|shard| shard.serving) {
                let known = led.get(&view.shard);
                if known.is_none_or(|known| known.view.epoch < view.epoch) {
                    led.insert(view.shard, Led { machine, view });
                }
            }
        }
        led
    }

    /// The machine that leads most data shards.
    pub fn busiest(&self) -> Option<u64> {
        let mut counts = BTreeMap::<u64, usize>::new();
        for (_, led) in self.led().into_iter().filter(|(shard, _)| *shard > 0) {
            *counts.entry(led.machine).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(machine, _)| machine)
    }

    /// Why the cluster of these machines is not whole; `None` when it is: all are ready, every shard is served and has its
    /// voters, on these machines and nowhere else.
    pub fn lacks(&self, machines: &[u64]) -> Option<String> {
        let views = self.views();
        for machine in machines {
            match views.get(machine) {
                None => return Some(format!("machine {machine} does not answer")),
                Some(view) if view.raw["ready"] != Value::Bool(true) => {
                    return Some(format!("machine {machine} is not ready"));
                }
                Some(_) => {}
            }
        }
        let led = self.led();
        let ids = self.ids.lock().clone();
        let shards = views.values().map(|view| view.shards.len()).max().unwrap_or(0);
        if led.len() < shards || shards == 0 {
            return Some(format!("{} of {shards} groups say who serves them", led.len()));
        }
        for (shard, led) in &led {
            let voters: Vec<u64> = led.view.replicas.iter().filter(|one| one.voter).map(|one| one.node).collect();
            let wanted = if *shard == 0 && machines.len() >= 5 { 5 } else { machines.len().min(3) };
            let is_here = |id: &u64| {
                let machine = ids.get(id);
                machine.is_some_and(|machine| {
                    machines.contains(machine) && views.get(machine).map(|v| v.node) == Some(*id)
                })
            };
            if voters.len() != wanted || led.view.replicas.len() != wanted || !voters.iter().all(is_here) {
                return Some(format!("g{shard} has the voters {voters:?} of {:?}", led.view.replicas));
            }
        }
        None
    }
}

/// Whether a node says that clients may come.
pub async fn is_ready(client: &str) -> bool {
    let asked = tokio::time::timeout(ANSWERS_WITHIN, http::get(client, "/health/ready", &[("Connection", "close")]));
    matches!(asked.await, Ok(Ok(answer)) if answer.status == 200)
}
