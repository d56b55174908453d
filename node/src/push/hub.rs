//! Owns which sockets of this node follow which sessions and agents. Does not know leaders' rules.
//! Invariant: a socket is known here before its attach is sent, so that no push can slip between.

use super::places::Places;
use crate::blocklist::Blocklists;
use crate::connection::{Socket, Who};
use crate::metrics::StageMetrics;
use crate::trace::Trace;
use crate::triggers::Triggers;
use cluster::node::ClusterNode;
use cluster::router::{ReplyTo, Router};
use parking_lot::{Mutex, RwLock};
use proto::client::{CloseCode, ErrorCode, ErrorInfo, Presence, Reply, Seat, ServerFrame};
use proto::command::{Event, Party, Target, TokenHash};
use proto::ids::{AgentId, NodeId, SessionId, ShardId};
use proto::peer::{Push, Pushes, ShardCall};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Pause after a read that found no leader.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Sockets of one node; over it an upgrade is refused.
pub const SOCKETS_MAX: usize = 150_000;

type Sockets = Vec<Arc<Socket>>;

#[derive(Default)]
pub(super) struct Maps {
    pub sessions: HashMap<SessionId, Sockets>,
    pub agents: HashMap<AgentId, AgentSockets>,
}

#[derive(Default)]
pub(super) struct AgentSockets {
    pub sockets: Sockets,
    /// The newest known list of open conversations, and its version.
    pub open: Vec<SessionId>,
    pub version: u64,
    /// What is offered to the agent, and their state, as their sockets were told.
    pub seat: Option<Seat>,
    /// A new leader was not told of them, because none had finished its hello.
    pub untold: bool,
}

/// The sockets of this node.
pub struct Hub {
    pub metrics: StageMetrics,
    pub trace: Trace,
    /// What sites do not let through.
    pub(crate) blocklists: Blocklists,
    pub(crate) triggers: Triggers,
    pub(super) maps: Mutex<Maps>,
    pub(super) places: Places,
    /// By number, which grows: pages of a list stay in order.
    all: Mutex<BTreeMap<u64, Weak<Socket>>>,
    last_socket: AtomicU64,
    node: RwLock<Weak<ClusterNode>>,
    runtime: Handle,
    me: Weak<Hub>,
    pub(crate) tasks: TaskTracker,
}

impl Hub {
    pub fn new(runtime: Handle) -> Arc<Hub> {
        Arc::new_cyclic(|me| Hub {
            metrics: StageMetrics::new(),
            trace: Trace::default(),
            blocklists: Blocklists::default(),
            triggers: Triggers::default(),
            maps: Mutex::default(),
            places: Places::default(),
            all: Mutex::default(),
            last_socket: AtomicU64::new(0),
            node: RwLock::new(Weak::new()),
            runtime,
            me: me.clone(),
            tasks: TaskTracker::new(),
        })
    }

    /// The node is up: calls have somewhere to go.
    pub fn attach(&self, node: &Arc<ClusterNode>) {
        *self.node.write() = Arc::downgrade(node);
    }

    pub fn node(&self) -> Option<Arc<ClusterNode>> {
        self.node.read().upgrade()
    }

    pub fn router(&self) -> Option<Arc<Router>> {
        self.node().map(|node| node.router.clone())
    }

    /// Runs a task on the cluster's runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// A number that no other socket of this process has had.
    pub fn next_socket(&self) -> u64 {
        self.last_socket.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Up to `limit` sockets with a number above `after`, and how many there are.
    pub fn sockets(&self, after: u64, limit: usize) -> (Vec<Arc<Socket>>, usize) {
        let all = self.all.lock();
        let page = all.range((Bound::Excluded(after), Bound::Unbounded)).filter_map(|(_, socket)| socket.upgrade());
        (page.take(limit).collect(), all.len())
    }

    /// Looks at every socket, without holding up those that come and go.
    pub fn each_socket(&self, mut look: impl FnMut(&Socket)) {
        let all: Vec<Weak<Socket>> = self.all.lock().values().cloned().collect();
        all.iter().filter_map(Weak::upgrade).for_each(|socket| look(&socket));
    }

    /// Whether a socket of the visitor of that session is open here.
    pub fn has_visitor(&self, session: SessionId) -> bool {
        let sockets = self.maps.lock().sessions.get(&session).cloned().unwrap_or_default();
        let is_theirs = |socket: &Arc<Socket>| {
            socket.with(|state| {
                !state.closed && matches!(state.who, Some(Who::Visitor { session: own, .. }) if own == session)
            })
        };
        sockets.iter().any(is_theirs)
    }

    /// False: this node has as many sockets as it can have.
    pub fn opened(&self, socket: &Arc<Socket>) -> bool {
        let mut all = self.all.lock();
        if all.len() >= SOCKETS_MAX {
            return false;
        }
        all.insert(socket.number, Arc::downgrade(socket));
        metrics::gauge!("chat_active_connections").set(all.len() as f64);
        true
    }

    /// Forgets a socket and ends its subscriptions.
    pub fn closed(&self, socket: &Arc<Socket>) {
        socket.with(|state| state.closed = true);
        self.forget(socket);
        let mut all = self.all.lock();
        all.remove(&socket.number);
        metrics::gauge!("chat_active_connections").set(all.len() as f64);
    }

    /// Ends everything that the socket follows.
    pub fn forget(&self, socket: &Arc<Socket>) {
        let (listed, sessions) = socket
            .with(|state| (state.listed.take(), state.sessions.iter().map(|sub| sub.session).collect::<Vec<_>>()));
        for session in sessions {
            self.detach(socket, session);
        }
        if let Some(agent) = listed {
            self.remove_agent(socket, agent);
        }
    }

    /// Tells every socket to go elsewhere, then closes it; a few at a time over `over`, so that they do not all arrive
    /// elsewhere at once.
    pub async fn drain(&self, retry: Duration, over: Duration) {
        const STEPS: usize = 50;
        let sockets: Vec<Arc<Socket>> = self.all.lock().values().filter_map(Weak::upgrade).collect();
        let drain = proto::client::Drain { retry_ms: retry.as_millis() as u64 };
        for some in sockets.chunks(sockets.len().div_ceil(STEPS).max(1)) {
            for socket in some {
                socket.write(&ServerFrame { id: None, body: Reply::Drain(drain) });
                socket.close(proto::client::CloseCode::GoingAway);
            }
            if !over.is_zero() {
                tokio::time::sleep(over / STEPS as u32).await;
            }
        }
    }

    /// The socket follows the session from now on; its attach comes next.
    pub fn add_session(&self, socket: &Arc<Socket>, session: SessionId) {
        let mut maps = self.maps.lock();
        let sockets = maps.sessions.entry(session).or_insert_with(|| Vec::with_capacity(1));
        if !sockets.iter().any(|known| Arc::ptr_eq(known, socket)) {
            sockets.push(socket.clone());
        }
    }

    /// Ends one subscription; the leader is told when it was the node's last.
    pub fn detach(&self, socket: &Socket, session: SessionId) {
        socket.with(|state| state.sessions.retain(|sub| sub.session != session));
        self.ended(socket, session);
    }

    /// The socket's subscription is gone; unless a new one has taken its place, the hub forgets it too.
    pub fn ended(&self, socket: &Socket, session: SessionId) {
        let last = {
            let mut maps = self.maps.lock();
            // A new subscription is in the socket before it comes here for this lock.
            if socket.with(|state| state.subscription(session).is_some()) {
                return;
            }
            let Some(sockets) = maps.sessions.get_mut(&session) else { return };
            sockets.retain(|known| !std::ptr::eq(Arc::as_ptr(known), socket));
            let last = sockets.is_empty();
            if last {
                maps.sessions.remove(&session);
            }
            last
        };
        if last {
            self.unfollow(session);
        }
    }

    /// Tells the leader that no socket here follows the session.
    pub fn unfollow(&self, session: SessionId) {
        let Some(router) = self.router() else { return };
        let shard = router.shard_of(Target::Session(session));
        router.send(shard, ShardCall::Detach { session }, ReplyTo::Nobody);
        // Its attach may have been queued ahead of the detach, by another thread.
        if self.follows(session)
            && let Some(hub) = self.me.upgrade()
        {
            self.spawn(async move { hub.attach_session_again(shard, session).await });
        }
    }

    /// The leader may have noted an attach only after the detach that was sent behind it, when the socket was gone by then.
    pub(super) fn unfollow_if_left(&self, session: SessionId) {
        if !self.follows(session) {
            self.unfollow(session);
        }
    }

    pub fn add_agent(&self, socket: &Arc<Socket>, agent: AgentId) {
        socket.with(|state| state.listed = Some(agent));
        let mut maps = self.maps.lock();
        let entry = maps.agents.entry(agent).or_default();
        if !entry.sockets.iter().any(|known| Arc::ptr_eq(known, socket)) {
            entry.sockets.push(socket.clone());
        }
    }

    fn remove_agent(&self, socket: &Arc<Socket>, agent: AgentId) {
        let last = {
            let mut maps = self.maps.lock();
            let Some(entry) = maps.agents.get_mut(&agent) else { return };
            entry.sockets.retain(|known| !Arc::ptr_eq(known, socket));
            let last = entry.sockets.is_empty();
            if last {
                maps.agents.remove(&agent);
            }
            last
        };
        if last && let Some(shard) = self.leave_agent(agent) {
            // The attach of a new socket may have been queued ahead of the detach, by another thread.
            if self.maps.lock().agents.contains_key(&agent)
                && let Some(hub) = self.me.upgrade()
            {
                self.spawn(async move { hub.attach_agent_again(shard, agent).await });
            }
        }
    }

    /// The leader may have noted an attach only after the detach that was sent behind it, when the socket was gone by then.
    pub fn leave_agent_if_gone(&self, agent: AgentId) {
        if !self.maps.lock().agents.contains_key(&agent) {
            self.leave_agent(agent);
        }
    }

    /// Tells the agent's leader that this node has no socket of theirs; which shard that is.
    fn leave_agent(&self, agent: AgentId) -> Option<ShardId> {
        let router = self.router()?;
        let shard = router.shard_of(Target::Agent(agent));
        router.send(shard, ShardCall::DetachAgent { agent }, ReplyTo::Nobody);
        Some(shard)
    }

    /// Whether a socket of this node follows the session.
    pub fn follows(&self, session: SessionId) -> bool {
        self.maps.lock().sessions.contains_key(&session)
    }

    pub(super) fn sockets_of(&self, session: SessionId) -> Sockets {
        self.maps.lock().sessions.get(&session).cloned().unwrap_or_default()
    }

    /// Takes a leader's pushes.
    pub fn pushed(self: &Arc<Self>, _from: NodeId, pushes: Pushes) {
        for push in pushes.items {
            match push {
                Push::Event { session, event } => {
                    for socket in self.sockets_of(session) {
                        socket.deliver(session, &event);
                    }
                }
                Push::Cursor { session, party, received, read } => {
                    for socket in self.sockets_of(session) {
                        socket.tell_cursor(session, party, received, read);
                    }
                }
                Push::Typing { session, party, on, draft } => {
                    for socket in self.sockets_of(session) {
                        socket.tell_typing(session, party, on, &draft);
                    }
                }
                Push::Agent { agent, state } => self.agent_changed(agent, state),
                Push::Presence { agent, online, open } => {
                    for session in open {
                        self.to_others(session, Party::Agent(agent), |who| {
                            Reply::Presence(Presence { session, who, online })
                        });
                    }
                }
                Push::LoggedOut { session, gone } => {
                    self.log_out(&self.sockets_of(session), session, |token| gone.contains(token));
                }
            }
        }
    }

    /// Ends those of the sockets that are the visitor's, by a token that is good no longer.
    pub(super) fn log_out(&self, sockets: &Sockets, session: SessionId, is_gone: impl Fn(&TokenHash) -> bool) {
        for socket in sockets {
            let who = socket.with(|state| state.who);
            if let Some(Who::Visitor { session: own, token, .. }) = who
                && own == session
                && is_gone(&token)
            {
                self.forget(socket);
                socket.error(None, ErrorInfo::new(ErrorCode::Unauthorized, "the token is good no longer"));
                socket.close(CloseCode::Policy);
            }
        }
    }

    /// Writes an unnumbered frame to the sockets of everyone but the party itself.
    fn to_others(&self, session: SessionId, party: Party, frame: impl Fn(proto::client::Party) -> Reply<'static>) {
        for socket in self.sockets_of(session) {
            socket.tell_other(session, party, |_| true, &frame);
        }
    }

    /// An event that this node learnt from an answer, for its sockets other than the author's.
    pub fn deliver_from(&self, author: &Socket, session: SessionId, event: &Event) {
        for socket in self.sockets_of(session) {
            if !std::ptr::eq(Arc::as_ptr(&socket), author) {
                socket.deliver(session, event);
            }
        }
    }
}
