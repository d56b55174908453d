//! Owns what a socket follows: attaching sessions to it, and an agent's open conversations. Does not read history.
//! Invariant: events flow to a socket only after its welcome, from the place that the leader named.

use super::hub::{Hub, RETRY_AFTER};
use crate::connection::Socket;
use proto::client::{Mention, Offered, Reply, Seat, ServerFrame};
use proto::command::Target;
use proto::ids::{AgentId, SessionId};
use proto::peer::{AgentState, SessionState, ShardCall, ShardReply};
use std::sync::Arc;

/// Call it under the lock of the seats: an older one must not come after a newer one.
fn tell_seat(seat: Option<&Seat>, socket: &Socket) {
    if let Some(seat) = seat
        && socket.with(|state| state.welcomed)
    {
        socket.write(&ServerFrame { id: None, body: Reply::Seat(seat.clone()) });
    }
}

impl Hub {
    pub fn agent_changed(self: &Arc<Self>, agent: AgentId, state: AgentState) {
        let AgentState { version, open, offers, state, mentions, .. } = state;
        let offers = offers.into_iter().map(|(session, offer, until)| Offered { session, offer, until });
        let mentions = mentions.into_iter().map(|(session, seq)| Mention { session, seq }).collect();
        let seat = Seat { state, offers: offers.collect(), mentions };
        let sockets = {
            let mut maps = self.maps.lock();
            let Some(entry) = maps.agents.get_mut(&agent) else { return };
            tracing::debug!(%agent, version, known = entry.version, open = open.len(), "an agent's conversations");
            if version < entry.version {
                return;
            }
            entry.version = version;
            entry.open = open.into_iter().map(|(session, _)| session).collect();
            if entry.seat.as_ref() != Some(&seat) {
                entry.seat = Some(seat);
                entry.sockets.iter().for_each(|socket| tell_seat(entry.seat.as_ref(), socket));
            }
            entry.sockets.clone()
        };
        for socket in sockets {
            self.follow_open(&socket, agent);
        }
    }

    /// Tells a socket that was just welcomed what is offered to its agent.
    pub fn tell_seat(&self, socket: &Socket, agent: AgentId) {
        let maps = self.maps.lock();
        tell_seat(maps.agents.get(&agent).and_then(|entry| entry.seat.as_ref()), socket);
    }

    fn is_watched(&self, socket: &Socket, session: SessionId) -> bool {
        socket.with(|state| state.subscription(session).is_some_and(|sub| sub.watching))
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
            match self.attach_session(socket, session, None, None, false).await {
                Ok(found) if found.agent == Some(agent) => return self.settle(socket, session),
                // It is watched meanwhile, whoever has it.
                Ok(_) if self.is_watched(socket, session) => return self.settle(socket, session),
                // Closed or handed on since the list was made.
                Ok(_) => return self.detach(socket, session),
                // Attached by another list, or not there any more.
                Err(ShardReply::Done | ShardReply::Refused(_)) => return,
                Err(_) if socket.with(|state| state.closed) => return,
                Err(_) => tokio::time::sleep(RETRY_AFTER).await,
            }
        }
    }

    /// Subscribes a socket to a session and places its cursor; events wait until [`Hub::settle`]. `watching`: it does not end with an
    /// agent's part.
    /// # Errors
    /// The leader's refusal, or the lack of a leader.
    pub async fn attach_session(
        self: &Arc<Self>,
        socket: &Arc<Socket>,
        session: SessionId,
        token: Option<proto::command::TokenHash>,
        after: Option<u64>,
        watching: bool,
    ) -> Result<SessionState, ShardReply> {
        let Some(router) = self.router() else { return Err(ShardReply::Unknown) };
        let fresh = socket.with(|state| {
            let fresh = state.subscription(session).is_none() && !state.closed;
            if fresh {
                // A visitor has one, and there are many visitors.
                state.sessions.reserve_exact(usize::from(state.sessions.is_empty()));
                state.sessions.push(crate::connection::Subscription::new(session, watching));
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
                        sub.begins(found.head, found.open_from, found.agent);
                        sub.head = sub.head.max(found.head);
                        sub.start_after(after);
                    }
                });
                for event in &found.events {
                    socket.deliver(session, event);
                }
                self.watch_place(socket, session);
                self.unfollow_if_left(session);
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
        // The head that the attach named, or that came since.
        self.read_on(socket.clone(), session, 0);
    }
}
