//! Owns the way back to a whole stream: gaps are read from the history, new leaders are told what is followed here.
//! Does not order events: the socket does. Invariant: a dropped push costs a read, never an event.

use super::hub::{Hub, RETRY_AFTER};
use crate::connection::{Socket, WAITING_BYTES_MAX};
use proto::command::Target;
use proto::ids::{AgentId, SessionId, ShardId};
use proto::peer::{Page, Refused, ShardCall, ShardReply};
use std::sync::Arc;
use std::time::Duration;

/// Events per look into the history.
const PAGE: u32 = 200;
/// Pause before the next look at a socket that has not read what it was given.
const READ_ON_AFTER: Duration = Duration::from_millis(20);

impl Hub {
    /// The session has reached `seq`: the sockets here other than the author's, which got its ack, read on.
    pub fn heard_of(self: &Arc<Self>, author: &Socket, session: SessionId, seq: u64) {
        for socket in self.sockets_of(session) {
            if !std::ptr::eq(Arc::as_ptr(&socket), author) {
                self.read_on(socket, session, seq);
            }
        }
    }

    /// The same, said by nobody's socket.
    pub fn heard(self: &Arc<Self>, session: SessionId, seq: u64) {
        for socket in self.sockets_of(session) {
            self.read_on(socket, session, seq);
        }
    }

    /// The session has reached at least `seq`: a socket that has not, reads what lies between.
    pub(super) fn read_on(self: &Arc<Self>, socket: Arc<Socket>, session: SessionId, seq: u64) {
        let behind = socket.with(|state| {
            let Some(sub) = state.subscription(session) else { return false };
            sub.head = sub.head.max(seq);
            sub.cursor.is_some_and(|cursor| cursor < sub.head)
        });
        if behind {
            self.repair(socket, session);
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

    pub(super) async fn attach_session_again(self: Arc<Self>, shard: ShardId, session: SessionId) {
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
                    // A leader that died may have told nobody of a logout. Whose hello came after the question is not looked at.
                    self.log_out(&sockets, session, |token| !found.tokens.contains(token));
                    for socket in self.sockets_of(session) {
                        for event in &found.events {
                            socket.deliver(session, event);
                        }
                        self.read_on(socket, session, found.head);
                    }
                    return self.unfollow_if_left(session);
                }
                ShardReply::Refused(_) => return,
                _ => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    }

    /// A socket of the agent was welcomed: a leader that came while it said hello has not heard of it.
    pub fn attach_agent_missed(self: &Arc<Self>, agent: AgentId) {
        let is_untold = self.maps.lock().agents.get_mut(&agent).is_some_and(|entry| std::mem::take(&mut entry.untold));
        if is_untold && let Some(router) = self.router() {
            let (hub, shard) = (self.clone(), router.shard_of(Target::Agent(agent)));
            self.spawn(async move { hub.attach_agent_again(shard, agent).await });
        }
    }

    pub(super) async fn attach_agent_again(self: Arc<Self>, shard: ShardId, agent: AgentId) {
        loop {
            let known = {
                let mut maps = self.maps.lock();
                let Some(entry) = maps.agents.get_mut(&agent) else { return };
                // A socket that is still saying hello has not proved whose it is; it tells this leader when it has.
                let known = entry.sockets.iter().any(|socket| socket.with(|state| state.welcomed));
                entry.untold |= !known;
                known
            };
            let Some(router) = self.router().filter(|_| known) else { return };
            match router.call(shard, ShardCall::AttachAgent { agent, token: None }).await {
                ShardReply::AgentAttached(state) => {
                    self.agent_changed(agent, state);
                    return self.leave_agent_if_gone(agent);
                }
                ShardReply::Refused(_) => return,
                _ => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    }
}
