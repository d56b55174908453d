//! Owns one session at its leader: puts its calls in order and answers its reads. Does not own the session's rows.
//! Invariant: a command is proposed in the order in which it arrived here.

use crate::push::Subscribers;
use cluster::node::ClusterNode;
use cluster::router::Guarded;
use cluster::shard::Shard;
use futures_util::FutureExt;
use proto::command::{Party, TokenHash};
use proto::ids::{NodeId, SessionId};
use proto::peer::{Page, Pushes, Refused, SessionState, ShardCall, ShardReply};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;

/// Events in the answer to an attach; the rest follows by history pages.
const ATTACH_EVENTS_MAX: usize = 200;
/// Bytes of those events.
const ATTACH_BYTES_MAX: usize = 256 << 10;

/// What a session actor is told.
pub enum SessionMessage {
    Call {
        caller: NodeId,
        call: Arc<ShardCall>,
        reply: Guarded,
        place: OwnedSemaphorePermit,
    },
    /// Drain. A message, because ractor drops an actor that is drained before it has started, and its mailbox with it.
    Leave,
}

/// The actor; its state is [`SessionActorState`].
pub struct Session;

pub struct SessionArguments {
    pub session: SessionId,
    pub shard: Arc<Shard>,
    pub subscribers: Arc<Subscribers>,
    pub node: Weak<ClusterNode>,
}

pub struct SessionActorState {
    here: Arc<SessionArguments>,
    reads: TaskTracker,
}

impl Actor for Session {
    type Msg = SessionMessage;
    type State = SessionActorState;
    type Arguments = SessionArguments;

    async fn pre_start(
        &self,
        _: ActorRef<SessionMessage>,
        here: SessionArguments,
    ) -> Result<SessionActorState, ActorProcessingErr> {
        Ok(SessionActorState { here: Arc::new(here), reads: TaskTracker::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<SessionMessage>,
        message: SessionMessage,
        state: &mut SessionActorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SessionMessage::Call { caller, call, reply, place } => state.take(caller, call, reply, place),
            // Unlike `stop`, it lets the calls finish that came meanwhile.
            SessionMessage::Leave => myself.drain()?,
        }
        Ok(())
    }
}

impl SessionActorState {
    fn take(&self, caller: NodeId, call: Arc<ShardCall>, reply: Guarded, place: OwnedSemaphorePermit) {
        let here = &self.here;
        #[cfg(test)]
        super::tests::panic_if_asked(&call, super::tests::Where::Actor);
        match call.as_ref() {
            ShardCall::Propose(command) => here.shard.propose(command, reply.into_inner()),
            ShardCall::Detach { session } => {
                here.subscribers.remove_session(*session, caller);
                reply.send(ShardReply::Done);
            }
            ShardCall::Typing { session, party, on, draft } => {
                if !may_type(here, *party) {
                    return reply.send(ShardReply::Refused(Refused::NotYours));
                }
                let rounds = here.subscribers.typing(*session, *party, *on, draft.clone());
                if let (Some(node), Some(epoch)) = (here.node.upgrade(), here.shard.serving()) {
                    for (to, items) in rounds {
                        // Typing may be lost.
                        let _ = node.push(to, Pushes { shard: here.shard.id, epoch: epoch.0, items });
                    }
                }
                reply.send(ShardReply::Done);
            }
            ShardCall::Attach { token, after, .. } => {
                let (here, token, after) = (here.clone(), *token, *after);
                self.read(reply, place, async move { attach(&here, caller, token, after).await });
            }
            ShardCall::History { page, limit, site, .. } => {
                let (here, page, limit, site) = (here.clone(), *page, *limit as usize, *site);
                self.read(reply, place, async move {
                    #[cfg(test)]
                    super::tests::panic_if_asked(&call, super::tests::Where::Read);
                    history(&here, page, limit, site).await
                });
            }
            ShardCall::AttachAgent { .. }
            | ShardCall::DetachAgent { .. }
            | ShardCall::Queue { .. }
            | ShardCall::Places { .. }
            | ShardCall::Hours { .. }
            | ShardCall::Feed { .. }
            | ShardCall::Webhook { .. }
            | ShardCall::AgentToken { .. }
            | ShardCall::Shelf { .. }
            | ShardCall::Audit { .. }
            | ShardCall::Attachment { .. }
            | ShardCall::AttachmentChunk { .. }
            | ShardCall::Emails { .. }
            | ShardCall::Search(_)
            | ShardCall::Report(_) => reply.send(ShardReply::Unknown),
        }
    }

    /// Answers beside the mailbox: a read may wait for a quorum.
    fn read(
        &self,
        reply: Guarded,
        place: OwnedSemaphorePermit,
        work: impl Future<Output = ShardReply> + Send + 'static,
    ) {
        let session = self.here.session;
        self.reads.spawn(async move {
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(answer) => reply.send(answer),
                Err(_) => {
                    metrics::counter!("chat_session_panics_total").increment(1);
                    tracing::error!(%session, "a read of the session panicked; the caller is told to come again");
                }
            }
            drop(place);
        });
    }
}

/// A visitor's gateway has checked whose session it is; an agent types where the conversation is the agent's.
fn may_type(here: &SessionArguments, party: Party) -> bool {
    let Party::Agent(agent) = party else { return true };
    let view = here.shard.peek(|state, rows| state.session(rows, here.session));
    matches!(view, Ok(Some(view)) if view.open.is_some_and(|open| open.agent == Some(agent)))
}

async fn history(here: &SessionArguments, page: Page, limit: usize, site: Option<proto::ids::SiteId>) -> ShardReply {
    if let Some(site) = site {
        let view = here.shard.peek(|state, rows| state.session(rows, here.session));
        match view {
            Ok(Some(view)) if view.site != site => return ShardReply::Refused(Refused::NotYours),
            Ok(_) => {}
            Err(error) => return here.shard.halt(&error.to_string()),
        }
    }
    here.shard.history(here.session, page, limit).await
}

async fn attach(here: &SessionArguments, caller: NodeId, token: Option<TokenHash>, after: Option<u64>) -> ShardReply {
    let session = here.session;
    let read = here
        .shard
        .read(|state, rows| -> Result<ShardReply, chat::ApplyError> {
            let Some(view) = state.session(rows, session)? else {
                return Ok(ShardReply::Refused(Refused::UnknownSession));
            };
            if token.is_some_and(|token| !view.tokens.iter().any(|known| crate::auth::same_hash(known, &token))) {
                return Ok(ShardReply::Refused(Refused::BadToken));
            }
            // Only now: other sockets of that node may follow the session, and a refusal is none of theirs. The state is locked: what is
            // applied later is pushed, what was before is in the answer, and what is both the cursor drops.
            if !here.subscribers.add_session(here.shard.id, session, caller) {
                return Ok(ShardReply::Overloaded { retry_after_ms: 1_000 });
            }
            let open_from = view.open.map_or(view.head + 1, |open| open.first_seq);
            let after = after.unwrap_or(open_from - 1).min(view.head);
            let range = chat::HistoryRange::After(after);
            // Live messages never wait for the archive: who has not seen what is there asks for it.
            let page = match state.history(rows, session, range, ATTACH_EVENTS_MAX, ATTACH_BYTES_MAX) {
                Err(chat::ApplyError::Archived(_)) => None,
                page => page?,
            };
            Ok(ShardReply::Attached(SessionState {
                site: view.site,
                visitor: view.visitor,
                head: view.head,
                open_from,
                agent: view.open.and_then(|open| open.agent),
                conversation: view.conversations,
                part: view.open.map_or(0, |open| open.part),
                visitor_cursor: (view.visitor_cursor.received, view.visitor_cursor.read),
                agent_cursor: (view.agent_cursor.received, view.agent_cursor.read),
                is_identified: view.is_identified,
                tokens: view.tokens,
                events: page
                    .map(|page| page.events)
                    .unwrap_or_default()
                    .iter()
                    .map(|event| (**event).clone())
                    .collect(),
            }))
        })
        .await;
    match read {
        Ok(Ok(reply)) | Err(reply) => reply,
        Ok(Err(error)) => here.shard.halt(&error.to_string()),
    }
}
