//! Owns which sockets of this node follow which sessions and agents. Does not know leaders' rules.
//! Invariant: a socket is known here before its attach is sent, so that no push can slip between.

use super::super::connection::{Socket, WAITING_BYTES_MAX};
use crate::metrics::StageMetrics;
use cluster::node::ClusterNode;
use cluster::router::{ReplyTo, Router};
use parking_lot::{Mutex, RwLock};
use proto::client::{CursorState, Reply, ServerFrame, TypingNotice};
use proto::command::{Event, Party, Target};
use proto::ids::{AgentId, NodeId, SessionId, ShardId};
use proto::peer::{Page, Push, Pushes, Refused, SessionState, ShardCall, ShardReply};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Events of one repair page.
const PAGE: u32 = 200;
/// Pause after a read that found no leader.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Pause before the next look at a socket that has not read what it was given.
const READ_ON_AFTER: Duration = Duration::from_millis(20);
/// Sockets of one node; over it an upgrade is refused.
pub const SOCKETS_MAX: usize = 150_000;

type Sockets = Vec<Arc<Socket>>;

#[derive(Default)]
struct Maps {
    sessions: HashMap<SessionId, Sockets>,
    agents: HashMap<AgentId, AgentSockets>,
}

#[derive(Default)]
struct AgentSockets {
    sockets: Sockets,
    /// The newest known list of open conversations, and its version.
    open: Vec<SessionId>,
    version: u64,
}

/// The sockets of this node.
pub struct Hub {
    pub metrics: StageMetrics,
    maps: Mutex<Maps>,
    all: Mutex<HashMap<usize, Weak<Socket>>>,
    node: RwLock<Weak<ClusterNode>>,
    runtime: Handle,
    me: Weak<Hub>,
    pub(crate) tasks: TaskTracker,
}

impl Hub {
    pub fn new(runtime: Handle) -> Arc<Hub> {
        Arc::new_cyclic(|me| Hub {
            metrics: StageMetrics::new(),
            maps: Mutex::default(),
            all: Mutex::default(),
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

    /// Sockets that are open.
    pub fn len(&self) -> usize {
        self.all.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// False: this node has as many sockets as it can have.
    pub fn opened(&self, socket: &Arc<Socket>) -> bool {
        let mut all = self.all.lock();
        if all.len() >= SOCKETS_MAX {
            return false;
        }
        all.insert(Arc::as_ptr(socket) as usize, Arc::downgrade(socket));
        metrics::gauge!("chat_active_connections").set(all.len() as f64);
        true
    }

    /// Forgets a socket and ends its subscriptions.
    pub fn closed(&self, socket: &Arc<Socket>) {
        socket.with(|state| state.closed = true);
        self.forget(socket);
        let mut all = self.all.lock();
        all.remove(&(Arc::as_ptr(socket) as usize));
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

    /// Tells every socket to go elsewhere, then closes it.
    pub fn drain(&self, retry: Duration) {
        let sockets: Vec<Arc<Socket>> = self.all.lock().values().filter_map(Weak::upgrade).collect();
        let drain = proto::client::Drain { retry_ms: retry.as_millis() as u64 };
        for socket in sockets {
            socket.write(&ServerFrame { id: None, body: Reply::Drain(drain) });
            socket.close(proto::client::CloseCode::GoingAway);
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
        let last = {
            let mut maps = self.maps.lock();
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
        if last && let Some(router) = self.router() {
            let shard = router.shard_of(Target::Agent(agent));
            router.send(shard, ShardCall::DetachAgent { agent }, ReplyTo::Nobody);
        }
    }

    /// Whether a socket of this node follows the session.
    pub fn follows(&self, session: SessionId) -> bool {
        self.maps.lock().sessions.contains_key(&session)
    }

    fn sockets_of(&self, session: SessionId) -> Sockets {
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
                    self.to_others(session, party, |from| Reply::Cursor(CursorState { session, from, received, read }));
                }
                Push::Typing { session, party, on } => {
                    self.to_others(session, party, |from| Reply::Typing(TypingNotice { session, from, on }));
                }
                Push::Agent { agent, version, open } => self.agent_changed(agent, version, open),
            }
        }
    }

    /// Writes an unnumbered frame to the sockets of everyone but the party itself.
    fn to_others(&self, session: SessionId, party: Party, frame: impl Fn(proto::client::Party) -> Reply<'static>) {
        for socket in self.sockets_of(session) {
            let visitor = socket.with(|state| {
                let other = state.who.is_some_and(|who| who.party() != party);
                state.subscription(session).filter(|sub| other && sub.cursor.is_some()).and_then(|sub| sub.visitor)
            });
            if let Some(visitor) = visitor {
                let from = crate::connection::client_party(party, visitor);
                socket.write(&ServerFrame { id: None, body: frame(from) });
            }
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

    /// The session has reached `seq`: sockets other than the author's that have not, read on.
    pub fn heard_of(&self, author: &Socket, session: SessionId, seq: u64) {
        for socket in self.sockets_of(session) {
            let behind = socket.with(|state| {
                let Some(sub) = state.subscription(session) else { return false };
                sub.head = sub.head.max(seq);
                sub.cursor.is_some_and(|cursor| cursor < seq)
            });
            if behind
                && !std::ptr::eq(Arc::as_ptr(&socket), author)
                && let Some(hub) = self.me.upgrade()
            {
                hub.repair(socket, session);
            }
        }
    }

    pub fn agent_changed(self: &Arc<Self>, agent: AgentId, version: u64, open: Vec<(SessionId, u64)>) {
        let sockets = {
            let mut maps = self.maps.lock();
            let Some(entry) = maps.agents.get_mut(&agent) else { return };
            if version < entry.version {
                return;
            }
            entry.version = version;
            entry.open = open.into_iter().map(|(session, _)| session).collect();
            entry.sockets.clone()
        };
        for socket in sockets {
            self.follow_open(&socket, agent);
        }
    }

    /// Subscribes an agent's socket to every conversation that is open with the agent.
    pub fn follow_open(self: &Arc<Self>, socket: &Arc<Socket>, agent: AgentId) {
        // Before the welcome the hello itself attaches what is open, and calls this after it.
        if !socket.with(|state| state.welcomed) {
            return;
        }
        let open = self.maps.lock().agents.get(&agent).map(|entry| entry.open.clone()).unwrap_or_default();
        for session in open {
            let known = socket.with(|state| state.subscription(session).is_some());
            if !known {
                let (hub, socket) = (self.clone(), socket.clone());
                self.spawn(async move { hub.follow_assigned(&socket, session, agent).await });
            }
        }
    }

    async fn follow_assigned(self: &Arc<Self>, socket: &Arc<Socket>, session: SessionId, agent: AgentId) {
        loop {
            match self.attach_session(socket, session, None, None).await {
                Ok(found) if found.agent == Some(agent) => return self.settle(socket, session),
                // Closed or handed on since the list was made.
                Ok(_) => return self.detach(socket, session),
                // Attached by another list, or not there any more.
                Err(ShardReply::Done | ShardReply::Refused(_)) => return,
                Err(_) if socket.with(|state| state.closed) => return,
                Err(_) => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    }

    /// Subscribes a socket to a session and places its cursor; events wait until [`Hub::settle`].
    /// # Errors
    /// The leader's refusal, or the lack of a leader.
    pub async fn attach_session(
        self: &Arc<Self>,
        socket: &Arc<Socket>,
        session: SessionId,
        token: Option<proto::command::TokenHash>,
        after: Option<u64>,
    ) -> Result<SessionState, ShardReply> {
        let Some(router) = self.router() else { return Err(ShardReply::Unknown) };
        let fresh = socket.with(|state| {
            let fresh = state.subscription(session).is_none() && !state.closed;
            if fresh {
                state.sessions.push(crate::connection::Subscription::new(session));
            }
            fresh
        });
        if !fresh {
            return Err(ShardReply::Done);
        }
        self.add_session(socket, session);
        let shard = router.shard_of(Target::Session(session));
        match router.call(shard, ShardCall::Attach { session, token, after }).await {
            ShardReply::Attached(found) => {
                let after = after.unwrap_or(found.open_from - 1).min(found.head);
                socket.with(|state| {
                    if let Some(sub) = state.subscription(session) {
                        sub.visitor = Some(found.visitor);
                        sub.head = sub.head.max(found.head);
                        sub.start_after(after);
                    }
                });
                for event in &found.events {
                    socket.deliver(session, event);
                }
                Ok(found)
            }
            other => {
                self.detach(socket, session);
                Err(other)
            }
        }
    }

    /// Lets the session's events flow to the socket, reading what the attach did not bring.
    pub fn settle(self: &Arc<Self>, socket: &Arc<Socket>, session: SessionId) {
        let pumped = socket.with(|state| {
            if let Some(sub) = state.subscription(session) {
                sub.settle();
            }
            state.pump(session)
        });
        socket.after(session, pumped);
        let behind = socket.with(|state| {
            state.subscription(session).is_some_and(|sub| sub.cursor.is_some_and(|cursor| cursor < sub.head))
        });
        if behind {
            self.repair(socket.clone(), session);
        }
    }

    /// Reads what is missing between the socket's cursor and the head.
    pub fn repair(self: &Arc<Self>, socket: Arc<Socket>, session: SessionId) {
        let started = socket.with(|state| match state.subscription(session) {
            Some(sub) if !sub.repairing => {
                sub.repairing = true;
                true
            }
            _ => false,
        });
        if started {
            let hub = self.clone();
            self.spawn(async move { hub.repair_loop(&socket, session).await });
        }
    }

    async fn repair_loop(self: Arc<Self>, socket: &Arc<Socket>, session: SessionId) {
        loop {
            // A page at a time, as fast as the client reads.
            let (closed, waiting) = socket.with(|state| (state.closed, state.frames.bytes()));
            if !closed && waiting > WAITING_BYTES_MAX / 2 {
                tokio::time::sleep(READ_ON_AFTER).await;
                continue;
            }
            let cursor = socket.with(|state| state.subscription(session).and_then(|sub| sub.cursor));
            let (Some(cursor), Some(router)) = (cursor, self.router()) else { return };
            let shard = router.shard_of(Target::Session(session));
            let call = ShardCall::History { session, page: Page::After(cursor), limit: PAGE, site: None };
            match router.call(shard, call).await {
                ShardReply::History { events, head } => {
                    for event in &events {
                        socket.deliver(session, event);
                    }
                    let done = socket.with(|state| {
                        let Some(sub) = state.subscription(session) else { return true };
                        sub.head = sub.head.max(head);
                        let moved = sub.cursor.is_none_or(|now| now > cursor);
                        let level = sub.cursor.is_none_or(|now| now >= head);
                        // An own event that waits for its ack holds the cursor: that ack will move it.
                        let done = level || !moved;
                        sub.repairing = !done;
                        done
                    });
                    if done {
                        let pumped = socket.with(|state| state.pump(session));
                        let moved = socket
                            .with(|state| state.subscription(session).is_some_and(|sub| sub.cursor != Some(cursor)));
                        // A gap that the history could not close yet is looked at again when the next event comes.
                        socket.after(session, crate::connection::Pumped { gap: pumped.gap && moved, ..pumped });
                        return;
                    }
                }
                ShardReply::Refused(Refused::UnknownSession) => return,
                _ => {
                    if socket.with(|state| state.closed) {
                        return;
                    }
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    /// The shard has a new leader, or the link to it is new: it must learn of this node's subscriptions again.
    pub fn attach_again(self: &Arc<Self>, shard: ShardId) {
        let Some(router) = self.router() else { return };
        let (sessions, agents) = {
            let maps = self.maps.lock();
            let of_shard = |target| router.shard_of(target) == shard;
            let sessions: Vec<SessionId> =
                maps.sessions.keys().filter(|id| of_shard(Target::Session(**id))).copied().collect();
            let agents: Vec<AgentId> = maps.agents.keys().filter(|id| of_shard(Target::Agent(**id))).copied().collect();
            (sessions, agents)
        };
        for session in sessions {
            let hub = self.clone();
            self.spawn(async move { hub.attach_session_again(shard, session).await });
        }
        for agent in agents {
            let hub = self.clone();
            self.spawn(async move { hub.attach_agent_again(shard, agent).await });
        }
    }

    async fn attach_session_again(self: Arc<Self>, shard: ShardId, session: SessionId) {
        loop {
            let sockets = self.sockets_of(session);
            let Some(router) = self.router().filter(|_| !sockets.is_empty()) else { return };
            let lowest = sockets
                .iter()
                .filter_map(|socket| socket.with(|state| state.subscription(session).and_then(|sub| sub.cursor)))
                .min();
            match router.call(shard, ShardCall::Attach { session, token: None, after: lowest.or(Some(u64::MAX)) }).await
            {
                ShardReply::Attached(found) => {
                    for socket in self.sockets_of(session) {
                        socket.with(|state| {
                            if let Some(sub) = state.subscription(session) {
                                sub.head = sub.head.max(found.head);
                            }
                        });
                        for event in &found.events {
                            socket.deliver(session, event);
                        }
                        let behind = socket.with(|state| {
                            state.subscription(session).is_some_and(|sub| sub.cursor.is_some_and(|at| at < found.head))
                        });
                        if behind {
                            self.repair(socket, session);
                        }
                    }
                    return;
                }
                ShardReply::Refused(_) => return,
                _ => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    }

    async fn attach_agent_again(self: Arc<Self>, shard: ShardId, agent: AgentId) {
        loop {
            // A socket that is still saying hello has not proved whose it is.
            let sockets = self.maps.lock().agents.get(&agent).map(|entry| entry.sockets.clone()).unwrap_or_default();
            let known = sockets.iter().any(|socket| socket.with(|state| state.welcomed));
            let Some(router) = self.router().filter(|_| known) else { return };
            match router.call(shard, ShardCall::AttachAgent { agent, token: None }).await {
                ShardReply::AgentAttached { version, open, .. } => return self.agent_changed(agent, version, open),
                ShardReply::Refused(_) => return,
                _ => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    }
}
