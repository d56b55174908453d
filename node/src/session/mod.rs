//! Owns the session actors at the shards that this node leads: activated by a call, passivated when idle.
//! Does not hold state of its own. Invariant: an actor holds nothing that the rows do not; losing one loses nothing.

mod actor;
mod attachments;
#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod tests;

pub use attachments::{attachment, attachment_chunk};

use crate::push::Subscribers;
use actor::{Session, SessionArguments, SessionMessage};
use cluster::config::OVERLOADED_RETRY_MS;
use cluster::node::ClusterNode;
use cluster::router::{Guarded, ReplyTo};
use cluster::shard::Shard;
use parking_lot::Mutex;
use proto::ids::{NodeId, SessionId, ShardId};
use proto::peer::{ShardCall, ShardReply};
use ractor::{Actor, ActorProcessingErr, ActorRef, MessagingErr, SupervisionEvent};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Session actors on one node; over it the longest idle go first.
const ACTORS_MAX: usize = 50_000;
/// Calls that may wait in mailboxes or be under way, over all sessions of a node.
const CALLS_MAX: usize = 16 << 10;
/// An actor without a call for so long is passivated: it takes 7 KiB, most of it its four mailboxes.
/// Setting: the same, in seconds.
pub const IDLE: &str = "session_idle_s";
/// How often idle actors are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

struct Active {
    actor: ActorRef<SessionMessage>,
    shard: ShardId,
    used: Instant,
}

/// The session actors of this node.
pub struct Sessions {
    active: Mutex<HashMap<SessionId, Active>>,
    places: Arc<Semaphore>,
    subscribers: Arc<Subscribers>,
    node: Weak<ClusterNode>,
    supervisor: Mutex<Option<ActorRef<()>>>,
}

impl Sessions {
    pub fn start(subscribers: Arc<Subscribers>, node: Weak<ClusterNode>, runtime: &Handle) -> Arc<Sessions> {
        let _entered = runtime.enter();
        let sessions = Arc::new(Sessions {
            active: Mutex::default(),
            places: Arc::new(Semaphore::new(CALLS_MAX)),
            subscribers,
            node,
            supervisor: Mutex::new(None),
        });
        let supervisor = SessionSupervisor { sessions: Arc::downgrade(&sessions) };
        match ractor::ActorRuntime::spawn_instant(None, supervisor, ()) {
            Ok((actor, _)) => *sessions.supervisor.lock() = Some(actor),
            Err(error) => tracing::error!(%error, "session supervisor does not start"),
        }
        sessions
    }

    /// Hands a call to the session's actor. A node that is full answers at once.
    pub fn deliver(
        &self,
        session: SessionId,
        shard: &Arc<Shard>,
        caller: NodeId,
        call: Arc<ShardCall>,
        reply: ReplyTo,
    ) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return reply.send(ShardReply::Overloaded { retry_after_ms: OVERLOADED_RETRY_MS });
        };
        let mut message = SessionMessage::Call { caller, call, reply: Guarded::new(reply), place };
        // The second try is for an actor that was passivated between look-up and send.
        for _ in 0..2 {
            let Some(actor) = self.activate(session, shard) else { break };
            match actor.send_message(message) {
                Ok(()) => return,
                Err(MessagingErr::SendErr(back)) => {
                    message = back;
                    let mut active = self.active.lock();
                    // Another caller may have activated the next one meanwhile.
                    if active.get(&session).is_some_and(|one| one.actor.get_id() == actor.get_id()) {
                        active.remove(&session);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "session actor does not take calls");
                    return;
                }
            }
        }
        // Dropped here, the message tells its caller to come again.
    }

    fn activate(&self, session: SessionId, shard: &Arc<Shard>) -> Option<ActorRef<SessionMessage>> {
        let mut active = self.active.lock();
        if let Some(found) = active.get_mut(&session) {
            found.used = Instant::now();
            return Some(found.actor.clone());
        }
        let supervisor = self.supervisor.lock().as_ref()?.get_cell();
        let arguments = SessionArguments {
            session,
            shard: shard.clone(),
            subscribers: self.subscribers.clone(),
            node: self.node.clone(),
        };
        let spawned = ractor::ActorRuntime::spawn_linked_instant(None, Session, arguments, supervisor);
        let (actor, _) = spawned.map_err(|error| tracing::error!(%error, "session actor does not start")).ok()?;
        active.insert(session, Active { actor: actor.clone(), shard: shard.id, used: Instant::now() });
        metrics::gauge!("chat_session_actors_count").set(active.len() as f64);
        Some(actor)
    }

    /// This node no longer leads the shard.
    pub fn left(&self, shard: ShardId) {
        self.passivate(|active| active.shard == shard);
    }

    /// Whether the session's actor runs here.
    pub fn is_active(&self, session: SessionId) -> bool {
        self.active.lock().contains_key(&session)
    }

    fn sweep(&self) {
        let now = Instant::now();
        let Some(node) = self.node.upgrade() else { return };
        let idle_max = Duration::from_secs(crate::admin::settings::number(&node, IDLE));
        self.passivate(|active| now.duration_since(active.used) > idle_max);
        let over = self.active.lock().len().saturating_sub(ACTORS_MAX);
        if over > 0 {
            let mut ages: Vec<Instant> = self.active.lock().values().map(|active| active.used).collect();
            ages.sort_unstable();
            let oldest = ages[over.min(ages.len() - 1)];
            self.passivate(|active| active.used <= oldest);
        }
    }

    fn passivate(&self, is_due: impl Fn(&Active) -> bool) {
        let due: Vec<ActorRef<SessionMessage>> = {
            let mut active = self.active.lock();
            let keys: Vec<SessionId> = active.iter().filter(|(_, one)| is_due(one)).map(|(id, _)| *id).collect();
            keys.into_iter().filter_map(|key| active.remove(&key)).map(|one| one.actor).collect()
        };
        for actor in due {
            // An actor that ended already is as good.
            let _ = actor.send_message(SessionMessage::Leave);
        }
        metrics::gauge!("chat_session_actors_count").set(self.active.lock().len() as f64);
    }

    fn ended(&self, who: ractor::ActorId) {
        let mut active = self.active.lock();
        active.retain(|_, active| active.actor.get_id() != who);
        metrics::gauge!("chat_session_actors_count").set(active.len() as f64);
    }
}

/// Outlives every session: one actor's end, or panic, is an entry in the log and nothing more.
struct SessionSupervisor {
    sessions: Weak<Sessions>,
}

impl Actor for SessionSupervisor {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        // A tick that outlives the node ends with its runtime.
        drop(myself.send_interval(SWEEP_EVERY, || ()));
        Ok(())
    }

    async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
        if let Some(sessions) = self.sessions.upgrade() {
            sessions.sweep();
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(who, error) = event {
            metrics::counter!("chat_session_panics_total").increment(1);
            tracing::error!(actor = %who.get_id(), %error, "session actor failed; the next call activates it anew");
            if let Some(sessions) = self.sessions.upgrade() {
                sessions.ended(who.get_id());
            }
        }
        Ok(())
    }
}
