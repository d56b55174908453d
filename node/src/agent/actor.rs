//! Owns one agent at its leader: logs presence as sockets come and go. Does not own the agent's rows.
//! Invariant: one change of presence is under way at a time.

use crate::push::Subscribers;
use chat::AgentView;
use cluster::router::{Guarded, ReplyTo};
use cluster::shard::Shard;
use proto::client::limits::PRESENCE_GRACE;
use proto::command::{Command, TokenHash};
use proto::ids::{AgentId, NodeId};
use proto::peer::{AgentState, Refused, ShardCall, ShardReply};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use tokio_util::task::TaskTracker;

pub enum AgentMessage {
    Call {
        caller: NodeId,
        call: Arc<ShardCall>,
        reply: Guarded,
    },
    /// Sockets may have gone: start the grace if none is left.
    Look,
    /// The grace of this number is over.
    GraceOver(u64),
    /// Drain. A message, because ractor drops an actor that is drained before it has started, and its mailbox with it.
    Leave,
}

/// The actor; its state is [`AgentActorState`].
pub struct Agent;

pub struct AgentArguments {
    pub agent: AgentId,
    pub shard: Arc<Shard>,
    pub subscribers: Arc<Subscribers>,
}

pub struct AgentActorState {
    here: Arc<AgentArguments>,
    /// Counts graces, so that an old one's end is told from the newest's.
    grace: u64,
    waiting: bool,
    reads: TaskTracker,
}

impl Actor for Agent {
    type Msg = AgentMessage;
    type State = AgentActorState;
    type Arguments = AgentArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<AgentMessage>,
        here: AgentArguments,
    ) -> Result<AgentActorState, ActorProcessingErr> {
        // After a fail-over nobody is attached yet: look once the nodes had their chance.
        let _ = myself.send_message(AgentMessage::Look);
        Ok(AgentActorState { here: Arc::new(here), grace: 0, waiting: false, reads: TaskTracker::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<AgentMessage>,
        message: AgentMessage,
        state: &mut AgentActorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AgentMessage::Call { caller, call, reply } => state.take(&myself, caller, call, reply),
            AgentMessage::Look => state.look(&myself),
            AgentMessage::GraceOver(number) => state.grace_over(number),
            // Unlike `stop`, it lets the calls finish that came meanwhile.
            AgentMessage::Leave => myself.drain()?,
        }
        Ok(())
    }
}

impl AgentActorState {
    fn take(&mut self, myself: &ActorRef<AgentMessage>, caller: NodeId, call: Arc<ShardCall>, reply: Guarded) {
        match call.as_ref() {
            ShardCall::AttachAgent { agent, token } => {
                self.waiting = false;
                let (here, agent, token) = (self.here.clone(), *agent, *token);
                self.reads.spawn(async move { reply.send(attach(&here, agent, token, caller).await) });
            }
            ShardCall::DetachAgent { agent } => {
                if self.here.subscribers.remove_agent(*agent, caller) {
                    self.look(myself);
                }
                reply.send(ShardReply::Done);
            }
            _ => reply.send(ShardReply::Unknown),
        }
    }

    fn look(&mut self, myself: &ActorRef<AgentMessage>) {
        if self.waiting || self.here.subscribers.has_agent(self.here.agent) {
            return;
        }
        self.waiting = true;
        self.grace += 1;
        let number = self.grace;
        // The timer ends with the actor.
        drop(myself.send_after(PRESENCE_GRACE, move || AgentMessage::GraceOver(number)));
    }

    fn grace_over(&mut self, number: u64) {
        if number != self.grace || !self.waiting {
            return;
        }
        self.waiting = false;
        if !self.here.subscribers.has_agent(self.here.agent) {
            let command = Command::AgentPresence { agent: self.here.agent, online: false };
            self.here.shard.propose(&command, ReplyTo::Nobody);
        }
    }
}

/// What nodes with the agent's sockets are told.
pub fn stands(view: AgentView) -> AgentState {
    let AgentView { site, name, version, open, offers, state, mentions, .. } = view;
    AgentState { site, name, version, open, offers, state, mentions }
}

async fn attach(here: &AgentArguments, agent: AgentId, token: Option<TokenHash>, caller: NodeId) -> ShardReply {
    let view = match here.shard.read(|state, rows| state.agent(rows, agent)).await {
        Err(reply) => return reply,
        Ok(Err(error)) => return here.shard.halt(&error.to_string()),
        Ok(Ok(None)) => return ShardReply::Refused(Refused::UnknownAgent),
        Ok(Ok(Some(view))) => view,
    };
    if token.is_some_and(|token| !view.tokens.iter().any(|known| crate::auth::same_hash(known, &token))) {
        return ShardReply::Refused(Refused::BadToken);
    }
    here.subscribers.add_agent(here.shard.id, agent, caller);
    // Idempotent: apply changes only what is different.
    let command = Command::AgentPresence { agent, online: true };
    let (tx, rx) = tokio::sync::oneshot::channel();
    here.shard.propose(&command, ReplyTo::Once(tx));
    match rx.await {
        Ok(ShardReply::Done) => {}
        Ok(other) => return other,
        Err(_) => return ShardReply::Unknown,
    }
    // Read again: what was assigned before the subscription must be in the answer.
    match here.shard.peek(|state, rows| state.agent(rows, agent)) {
        Ok(Some(view)) => ShardReply::AgentAttached(stands(view)),
        Ok(None) => ShardReply::Refused(Refused::UnknownAgent),
        Err(error) => here.shard.halt(&error.to_string()),
    }
}
