//! Owns what the cluster asks of this node: calls go to actors, effects to subscribers, pushes to sockets.
//! Does not decide anything. Invariant: nothing here waits.

use crate::agent::Agents;
use crate::archive::Archive;
use crate::egress::Allowed;
use crate::email::Mailer;
use crate::push::{Hub, Missed, Subscribers};
use crate::retention::Aging;
use crate::search::Indexes;
use crate::session::Sessions;
use crate::trace::Step;
use bytes::Bytes;
use chat::{Archived, Effect};
use cluster::hooks::Hooks;
use cluster::node::ClusterNode;
use cluster::router::ReplyTo;
use cluster::shard::Shard;
use futures_util::future::BoxFuture;
use proto::archive::ArchivedObject;
use proto::command::{Command, Target};
use proto::ids::{AgentId, Epoch, NodeId, SessionId, ShardId};
use proto::peer::{Push, Pushes, ShardCall};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Instant;
use tokio::runtime::Handle;

/// Implements the cluster's hooks over this node's actors and sockets.
pub struct NodeHooks {
    node: Weak<ClusterNode>,
    hub: Arc<Hub>,
    subscribers: Arc<Subscribers>,
    sessions: Arc<Sessions>,
    agents: Arc<Agents>,
    missed: Arc<Missed>,
    indexes: Arc<Indexes>,
    archive: Arc<Archive>,
    runtime: Handle,
    allow_drills: bool,
}

impl NodeHooks {
    /// `allow_drills`: faults may be caused here on purpose.
    /// `indexes`: in which searches look.
    pub fn new(
        node: Weak<ClusterNode>,
        hub: Arc<Hub>,
        runtime: Handle,
        allow_drills: bool,
        outside: Outside,
        indexes: Arc<Indexes>,
    ) -> Arc<NodeHooks> {
        let subscribers = Arc::new(Subscribers::default());
        let sessions = Sessions::start(subscribers.clone(), node.clone(), &runtime);
        let agents = Agents::start(subscribers.clone(), &runtime);
        let missed = Missed::start(node.clone(), &hub);
        hub.watch_places();
        hub.spawn(crate::hours::watch(Arc::downgrade(&hub)));
        hub.spawn(crate::blocklist::watch(Arc::downgrade(&hub)));
        hub.spawn(crate::triggers::watch(Arc::downgrade(&hub)));
        let Outside { allowed, mailer, aging: Aging { day, archive } } = outside;
        hub.spawn(crate::retention::watch(Arc::downgrade(&hub), day));
        hub.spawn(crate::archive::watch(Arc::downgrade(&hub), archive.clone(), day));
        hub.spawn(crate::archive::watch_files(Arc::downgrade(&hub), archive.clone(), day));
        hub.spawn(crate::webhooks::watch(Arc::downgrade(&hub), allowed));
        hub.spawn(crate::email::watch(Arc::downgrade(&hub), mailer));
        hub.spawn(crate::search::watch(Arc::downgrade(&hub), indexes.clone()));
        Arc::new(NodeHooks {
            node,
            hub,
            subscribers,
            sessions,
            agents,
            missed,
            indexes,
            archive,
            runtime,
            allow_drills,
        })
    }
}

/// What goes out of the house.
pub struct Outside {
    /// Where webhooks may go.
    pub allowed: Arc<Allowed>,
    /// `None`: no e-mails.
    pub mailer: Option<Arc<Mailer>>,
    pub aging: Aging,
}

impl Outside {
    /// Nothing goes anywhere.
    #[cfg(any(test, feature = "sim"))]
    pub fn nowhere() -> Outside {
        Outside { allowed: Default::default(), mailer: None, aging: Aging::nowhere() }
    }
}

/// What an administrator may look at on this node.
pub struct Local {
    pub node: Weak<ClusterNode>,
    pub hub: Arc<Hub>,
    pub subscribers: Arc<Subscribers>,
    pub sessions: Arc<Sessions>,
    pub allow_drills: bool,
}

impl NodeHooks {
    pub fn local(&self) -> Local {
        Local {
            node: self.node.clone(),
            hub: self.hub.clone(),
            subscribers: self.subscribers.clone(),
            sessions: self.sessions.clone(),
            allow_drills: self.allow_drills,
        }
    }

    /// Remembers what an effect means for the trace; session and seq if it is an event.
    fn note(&self, epoch: Epoch, index: Option<u64>, effect: &Effect) -> Option<(SessionId, u64)> {
        let trace = &self.hub.trace;
        match effect {
            Effect::Event { session, event } => {
                trace.note(*session, event.seq, Step::Committed { epoch: epoch.0, index });
                Some((*session, event.seq))
            }
            Effect::Cursor { session, party, received, read } => {
                trace.note(*session, *received, Step::Received { by: *party });
                trace.note(*session, *read, Step::Read { by: *party });
                None
            }
            _ => None,
        }
    }
}

/// The actor that a call is for.
fn target(call: &ShardCall) -> Option<Target> {
    match call {
        ShardCall::Propose(command) => match command.target() {
            Some(Target::Session(session)) => Some(Target::Session(session)),
            _ => None,
        },
        ShardCall::Attach { session, .. }
        | ShardCall::Detach { session }
        | ShardCall::History { session, .. }
        | ShardCall::Typing { session, .. } => Some(Target::Session(*session)),
        ShardCall::AttachAgent { agent, .. } | ShardCall::DetachAgent { agent } => Some(Target::Agent(*agent)),
        ShardCall::Queue { .. }
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
        | ShardCall::Report(_) => None,
    }
}

impl Hooks for NodeHooks {
    fn call(&self, shard: &Arc<Shard>, caller: NodeId, call: Arc<ShardCall>, reply: ReplyTo) {
        // Calls of this node's own sockets come from HTTP threads; actors live on the cluster's runtime.
        let _entered = self.runtime.enter();
        match target(&call) {
            Some(Target::Session(session)) => self.sessions.deliver(session, shard, caller, call, reply),
            Some(Target::Agent(agent)) => self.agents.deliver(agent, shard, caller, call, reply),
            _ => match call.as_ref() {
                // Mail and logins need no actor: the rules alone decide.
                ShardCall::Propose(command) => propose(shard, command, reply),
                ShardCall::Queue { site, limit } => {
                    let (shard, site, limit) = (shard.clone(), *site, *limit);
                    self.hub.spawn(async move { reply.send(crate::desk::queue(&shard, site, limit).await) });
                }
                ShardCall::Places { site, sessions } => reply.send(crate::desk::places(shard, *site, sessions)),
                ShardCall::Feed { site, after, limit } => {
                    let (shard, site, after, limit) = (shard.clone(), *site, *after, *limit);
                    self.hub.spawn(async move { reply.send(crate::desk::feed(&shard, site, after, limit).await) });
                }
                ShardCall::Webhook { webhook } => {
                    let (shard, webhook) = (shard.clone(), *webhook);
                    self.hub.spawn(async move { reply.send(crate::webhooks::state(&shard, webhook).await) });
                }
                ShardCall::Shelf { site, kind } => {
                    let (shard, site, kind) = (shard.clone(), *site, *kind);
                    self.hub.spawn(async move { reply.send(crate::desk::shelf(&shard, site, kind).await) });
                }
                ShardCall::Audit { site, after, limit } => {
                    let (shard, site, after, limit) = (shard.clone(), *site, *after, *limit);
                    self.hub.spawn(async move { reply.send(crate::desk::audit(&shard, site, after, limit).await) });
                }
                ShardCall::Attachment { session, attachment, token } => {
                    let (shard, session, attachment, token) = (shard.clone(), *session, *attachment, *token);
                    self.hub.spawn(async move {
                        reply.send(crate::session::attachment(&shard, session, attachment, token).await);
                    });
                }
                ShardCall::AttachmentChunk { session, attachment, variant, number } => {
                    let (shard, session, attachment) = (shard.clone(), *session, *attachment);
                    let of = (*variant, *number);
                    self.hub.spawn(async move {
                        reply.send(crate::session::attachment_chunk(&shard, session, attachment, of).await);
                    });
                }
                ShardCall::Search(ask) => {
                    let (shard, ask, indexes) = (shard.clone(), ask.clone(), self.indexes.clone());
                    self.hub.spawn(async move { indexes.search(&shard, &ask, reply).await });
                }
                ShardCall::Report(ask) => {
                    let (shard, ask) = (shard.clone(), ask.clone());
                    self.hub.spawn(async move { reply.send(crate::reports::report(&shard, &ask).await) });
                }
                ShardCall::Emails { site, limit } => {
                    let (shard, site, limit) = (shard.clone(), *site, *limit);
                    self.hub.spawn(async move { reply.send(crate::email::waiting(&shard, site, limit).await) });
                }
                ShardCall::AgentToken { agent, token } => reply.send(crate::agent::has_token(shard, *agent, token)),
                ShardCall::Hours { site } => reply.send(crate::desk::hours(shard, *site)),
                _ => reply.send(proto::peer::ShardReply::Unknown),
            },
        }
    }

    fn effects(&self, shard: &Arc<Shard>, epoch: Epoch, index: Option<u64>, effects: Vec<(Option<NodeId>, Effect)>) {
        let started = Instant::now();
        let mut rounds: BTreeMap<NodeId, Vec<Push>> = BTreeMap::new();
        let Some(node) = self.node.upgrade() else { return };
        for (told, effect) in effects {
            if let Effect::AgentPresence { agent, online, .. } = effect {
                presence(&node, shard, agent, online, &mut rounds);
            }
            let message = self.note(epoch, index, &effect);
            let routed = self.subscribers.route(shard, told, effect, &mut rounds);
            if let Some((session, seq)) = message {
                self.hub.trace.note(session, seq, Step::Routed { nodes: routed });
            }
        }
        for (to, items) in rounds {
            let pushes = Pushes { shard: shard.id, epoch: epoch.0, items };
            if let Err(dropped) = node.push(to, pushes) {
                self.missed.add(to, dropped);
            }
        }
        metrics::histogram!("chat_stage_push_seconds").record(started.elapsed().as_secs_f64());
    }

    fn asked(&self, question: Bytes) -> BoxFuture<'static, Vec<u8>> {
        let local = self.local();
        Box::pin(async move { crate::admin::answer(&local, &question).await })
    }

    fn archived(&self, object: ArchivedObject) -> BoxFuture<'static, Option<Archived>> {
        let archive = self.archive.clone();
        Box::pin(async move { archive.fetched(object).await })
    }

    fn lost(&self, object: &str) {
        self.archive.tell_lost(object);
    }

    fn serving(&self, shard: &Arc<Shard>, epoch: Option<Epoch>) {
        let _entered = self.runtime.enter();
        match epoch {
            Some(_) => self.agents.took_over(shard),
            None => {
                // What the actors hold can be rebuilt by the next leader.
                self.subscribers.forget_shard(shard.id);
                self.sessions.left(shard.id);
                self.agents.left(shard.id);
            }
        }
    }

    fn pushes(&self, from: NodeId, pushes: Pushes) {
        self.hub.pushed(from, pushes);
    }

    fn leader_changed(&self, shard: ShardId, _leader: NodeId) {
        self.hub.attach_again(shard);
    }

    fn peer_changed(&self, peer: NodeId, up: bool) {
        if !up {
            self.subscribers.forget_node(peer);
            self.missed.forget_node(peer);
            self.agents.node_down(peer);
        }
    }
}

/// Tells every node of an agent's coming or going, if it concerns somebody.
fn presence(
    node: &ClusterNode,
    shard: &Arc<Shard>,
    agent: AgentId,
    online: bool,
    rounds: &mut BTreeMap<NodeId, Vec<Push>>,
) {
    let open: Vec<SessionId> = match shard.peek(|state, rows| state.agent(rows, agent)) {
        Ok(Some(view)) => view.open.into_iter().map(|(session, _)| session).collect(),
        _ => return,
    };
    if open.is_empty() {
        return;
    }
    let nodes: Vec<NodeId> = node.with_meta(|state| state.nodes.keys().copied().collect()).unwrap_or_default();
    for to in nodes {
        rounds.entry(to).or_default().push(Push::Presence { agent, online, open: open.clone() });
    }
}

fn propose(shard: &Arc<Shard>, command: &Command, reply: ReplyTo) {
    shard.propose(command, reply);
}
