//! Owns the way from this node to the leader of every shard. Does not apply or push.
//! Invariant: calls of one lane reach a leader in the order in which they were made, also when they are repeated.

mod lane;
mod reply;
mod told;

pub use lane::Lane;
pub use reply::{Guarded, ReplySink, ReplyTo};

use crate::hooks::Hooks;
use crate::shard::Shard;
use crate::transport::{Caller, Message, Transport};
use parking_lot::{Mutex, RwLock};
use proto::command::Target;
use proto::ids::{Epoch, NodeId, ReplicaId, ShardId};
use proto::peer::{ShardCall, ShardReply};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// How often lanes look for calls that are overdue, and how often when there are none.
const LANE_TICK: Duration = Duration::from_millis(20);
const RESTING_TICK: Duration = Duration::from_millis(100);

/// The lanes of this node, one per data shard.
pub struct Router {
    pub me: NodeId,
    pub shards: u32,
    lanes: Vec<Arc<Lane>>,
    local: RwLock<BTreeMap<ShardId, Arc<Shard>>>,
    transport: Arc<Transport>,
    hooks: Arc<dyn Hooks>,
    /// The last leader told to the node above, per shard.
    told: Mutex<told::Told>,
    /// The newest announcement of each shard's leaders, also where a replica here knew better.
    announced: Mutex<BTreeMap<ShardId, (NodeId, Epoch)>>,
    /// The ticker sleeps long: nothing is under way.
    resting: AtomicBool,
    wake: Notify,
}

impl Router {
    pub fn new(me: NodeId, shards: u32, transport: Arc<Transport>, hooks: Arc<dyn Hooks>) -> Arc<Self> {
        let lanes = (1..=shards).map(|id| Arc::new(Lane::new(ShardId(id)))).collect();
        Arc::new(Router {
            me,
            shards,
            lanes,
            local: RwLock::default(),
            transport,
            hooks,
            told: Mutex::default(),
            announced: Mutex::default(),
            resting: AtomicBool::new(false),
            wake: Notify::new(),
        })
    }

    /// The shard of an actor.
    pub fn shard_of(&self, target: Target) -> ShardId {
        target.shard(self.shards)
    }

    /// Every data shard, ascending.
    pub fn shards(&self) -> Vec<ShardId> {
        (1..=self.shards).map(ShardId).collect()
    }

    /// A replica of the shard now runs here.
    pub fn add_local(&self, shard: Arc<Shard>) {
        self.local.write().insert(shard.id, shard);
    }

    /// The replica is gone; its successor may run here already.
    pub fn remove_local(self: &Arc<Self>, shard: ShardId, replica: ReplicaId) {
        {
            let mut local = self.local.write();
            if local.get(&shard).is_some_and(|known| known.group.replica == replica) {
                local.remove(&shard);
            }
        }
        // Said once, while the replica was still thought to know better.
        let announced = self.announced.lock().get(&shard).copied();
        if let Some((leader, epoch)) = announced {
            self.leader_announced(shard, leader, epoch);
        }
    }

    pub fn local(&self, shard: ShardId) -> Option<Arc<Shard>> {
        self.local.read().get(&shard).cloned()
    }

    pub fn locals(&self) -> Vec<Arc<Shard>> {
        self.local.read().values().cloned().collect()
    }

    fn lane(&self, shard: ShardId) -> Option<&Arc<Lane>> {
        self.lanes.get((shard.0 as usize).checked_sub(1)?)
    }

    /// Sends `call` to the shard's leader, wherever it is, and repeats it until it is answered or overdue. It is queued
    /// when this returns; `reply` is told once.
    pub fn send(self: &Arc<Self>, shard: ShardId, call: ShardCall, reply: ReplyTo) {
        match self.lane(shard) {
            Some(lane) => lane.submit(self, call, reply),
            None => reply.send(ShardReply::Unknown),
        }
        if self.resting.load(Ordering::Relaxed) && self.resting.swap(false, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    /// Like [`Router::send`]; the future waits for the answer. `Unknown`: overdue, the outcome is open.
    pub fn call(self: &Arc<Self>, shard: ShardId, call: ShardCall) -> impl Future<Output = ShardReply> + Send + use<> {
        let (tx, rx) = oneshot::channel();
        self.send(shard, call, ReplyTo::Once(tx));
        async move { rx.await.unwrap_or(ShardReply::Unknown) }
    }

    /// The last leader that the node above was told of.
    pub fn told_leader(&self, shard: ShardId) -> Option<(NodeId, Epoch)> {
        self.told.lock().leader(shard)
    }

    #[cfg(feature = "next")]
    pub(crate) fn peers(&self) -> Vec<Arc<crate::transport::Peer>> {
        self.transport.peers()
    }

    /// Where the lane thinks that the shard's leader is.
    pub fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.lane(shard).and_then(|lane| lane.leader())
    }

    /// A replica here says who leads, and in which epoch.
    pub fn leader_is(self: &Arc<Self>, shard: ShardId, leader: Option<(NodeId, Epoch)>) {
        let Some(lane) = self.lane(shard) else { return };
        lane.leader_is(self, leader.map(|(node, _)| node));
        if let Some((node, epoch)) = leader {
            self.tell(shard, node, epoch);
        }
    }

    /// A peer says that it leads. A replica here that knows of a leader as new knows better.
    pub fn leader_announced(self: &Arc<Self>, shard: ShardId, leader: NodeId, epoch: Epoch) {
        {
            let mut announced = self.announced.lock();
            let newest = announced.entry(shard).or_insert((leader, epoch));
            if newest.1 <= epoch {
                *newest = (leader, epoch);
            }
        }
        let (known, is_lost) = {
            let told = self.told.lock();
            (told.leader(shard), told.is_lost(shard, leader))
        };
        if known.is_some_and(|(_, known)| known > epoch) {
            return;
        }
        let knows_better = self.local(shard).is_some_and(|local| {
            let now = local.group.leadership();
            now.leader.is_some() && now.epoch >= epoch
        });
        if !knows_better {
            self.leader_is(shard, Some((leader, epoch)));
        } else if is_lost {
            // The replica here has nothing new to say: it may not have noticed that the link was down.
            self.tell(shard, leader, epoch);
        }
    }

    /// The link to a peer came up or broke.
    pub fn peer_changed(self: &Arc<Self>, peer: NodeId, up: bool) {
        self.hooks.peer_changed(peer, up);
        if !up {
            self.told.lock().lose(peer);
            return;
        }
        for lane in self.lanes.iter().filter(|lane| lane.leader() == Some(peer)) {
            lane.resend(self);
            // The leader dropped this node's subscriptions with the old link.
            self.told.lock().find(lane.shard, peer);
            self.hooks.leader_changed(lane.shard, peer);
        }
    }

    /// Takes the answer to a call that went over a link.
    pub fn answered(self: &Arc<Self>, from: NodeId, message: &Message) {
        let Some(lane) = self.lane(ShardId(message.group)) else { return };
        let reply = proto::codec::decode(&message.body).unwrap_or_else(|error| {
            tracing::error!(%from, %error, "answer not understood");
            ShardReply::Unknown
        });
        lane.answered(self, from, message.call, reply);
    }

    /// A peer asks this node's replica.
    pub fn asked(self: &Arc<Self>, caller: &Caller, message: Message) {
        let shard = ShardId(message.group);
        let reply = ReplyTo::Peer { caller: caller.clone(), shard, call: message.call };
        match proto::codec::decode::<ShardCall>(&message.body) {
            Ok(call) => self.serve(caller.peer.node, shard, Arc::new(call), reply),
            Err(error) => {
                tracing::error!(peer = %caller.peer.node, %error, "call not understood");
                reply.send(ShardReply::Unknown);
            }
        }
    }

    /// Hands a call to the replica here, if it serves.
    fn serve(&self, caller: NodeId, shard: ShardId, call: Arc<ShardCall>, reply: ReplyTo) {
        match self.local(shard) {
            Some(local) if local.serving().is_some() => self.hooks.call(&local, caller, call, reply),
            Some(local) => reply.send(local.not_leader()),
            None => reply.send(ShardReply::NotLeader { hint: None }),
        }
    }

    /// Tells the node above about a leader, once per leadership. `Epoch(0)`: a hint that names no epoch.
    fn tell(&self, shard: ShardId, leader: NodeId, epoch: Epoch) {
        if self.told.lock().note(shard, leader, epoch) {
            self.hooks.leader_changed(shard, leader);
        }
    }

    /// Waits for the time of the next [`Router::tick`]: soon while calls are under way, seldom while there are none.
    pub async fn next_tick(&self) {
        if self.lanes.iter().any(|lane| !lane.is_idle()) {
            return tokio::time::sleep(LANE_TICK).await;
        }
        self.resting.store(true, Ordering::Release);
        // An error is the time-out, which is as good.
        let _ = tokio::time::timeout(RESTING_TICK, self.wake.notified()).await;
        self.resting.store(false, Ordering::Release);
    }

    /// Answers what is overdue and repeats what may be lost.
    pub fn tick(self: &Arc<Self>) {
        for lane in &self.lanes {
            lane.tick(self);
        }
    }
}
