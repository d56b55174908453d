//! Owns the agent actors at the shards that this node leads: who is online. Does not assign conversations.
//! Invariant: presence in the log follows the sockets: online with the first, offline a grace after the last.

mod actor;

use crate::auth::same_hash;
use crate::push::Subscribers;
pub use actor::stands;
use actor::{Agent, AgentArguments, AgentMessage};
use cluster::router::{Guarded, ReplyTo};
use cluster::shard::Shard;
use parking_lot::Mutex;
use proto::command::TokenHash;
use proto::ids::{AgentId, NodeId, ShardId};
use proto::peer::{Refused, ShardCall, ShardReply};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio::runtime::Handle;

/// Agent actors on one node.
const ACTORS_MAX: usize = 100_000;

struct Active {
    actor: ActorRef<AgentMessage>,
    shard: ShardId,
}

/// The agent actors of this node.
pub struct Agents {
    active: Mutex<HashMap<AgentId, Active>>,
    subscribers: Arc<Subscribers>,
    supervisor: Mutex<Option<ActorRef<()>>>,
}

impl Agents {
    pub fn start(subscribers: Arc<Subscribers>, runtime: &Handle) -> Arc<Agents> {
        let _entered = runtime.enter();
        let agents = Arc::new(Agents { active: Mutex::default(), subscribers, supervisor: Mutex::new(None) });
        let supervisor = AgentSupervisor { agents: Arc::downgrade(&agents) };
        match ractor::ActorRuntime::spawn_instant(None, supervisor, ()) {
            Ok((actor, _)) => *agents.supervisor.lock() = Some(actor),
            Err(error) => tracing::error!(%error, "agent supervisor does not start"),
        }
        agents
    }

    pub fn deliver(&self, agent: AgentId, shard: &Arc<Shard>, caller: NodeId, call: Arc<ShardCall>, reply: ReplyTo) {
        let Some(actor) = self.activate(agent, shard) else {
            return reply.send(ShardReply::Overloaded { retry_after_ms: 1_000 });
        };
        if actor.send_message(AgentMessage::Call { caller, call, reply: Guarded::new(reply) }).is_err() {
            // The message told its caller to come again when it was dropped; the next call finds a new actor.
            self.ended(actor.get_id());
        }
    }

    fn activate(&self, agent: AgentId, shard: &Arc<Shard>) -> Option<ActorRef<AgentMessage>> {
        let mut active = self.active.lock();
        if let Some(found) = active.get(&agent) {
            return Some(found.actor.clone());
        }
        if active.len() >= ACTORS_MAX {
            return None;
        }
        let supervisor = self.supervisor.lock().as_ref()?.get_cell();
        let arguments = AgentArguments { agent, shard: shard.clone(), subscribers: self.subscribers.clone() };
        let spawned = ractor::ActorRuntime::spawn_linked_instant(None, Agent, arguments, supervisor);
        let (actor, _) = spawned.map_err(|error| tracing::error!(%error, "agent actor does not start")).ok()?;
        active.insert(agent, Active { actor: actor.clone(), shard: shard.id });
        metrics::gauge!("chat_agent_actors_count").set(active.len() as f64);
        Some(actor)
    }

    /// This node serves the shard now: agents that are online but have no socket any more go offline after the grace.
    pub fn took_over(&self, shard: &Arc<Shard>) {
        let online = shard.peek(|state, rows| state.online_agents(rows));
        match online {
            Ok(online) => {
                for agent in online {
                    self.activate(agent, shard);
                }
            }
            Err(error) => {
                shard.halt(&error.to_string());
            }
        }
    }

    pub fn left(&self, shard: ShardId) {
        let mut active = self.active.lock();
        active.retain(|_, one| {
            if one.shard == shard {
                // An actor that ended already is as good.
                let _ = one.actor.send_message(AgentMessage::Leave);
            }
            one.shard != shard
        });
        metrics::gauge!("chat_agent_actors_count").set(active.len() as f64);
    }

    /// A node's sockets are gone: agents that were only there may have left.
    pub fn node_down(&self, _node: NodeId) {
        for one in self.active.lock().values() {
            // An actor that ended already has no presence to correct.
            let _ = one.actor.send_message(AgentMessage::Look);
        }
    }

    fn ended(&self, who: ractor::ActorId) {
        let mut active = self.active.lock();
        active.retain(|_, one| one.actor.get_id() != who);
        metrics::gauge!("chat_agent_actors_count").set(active.len() as f64);
    }
}

/// Whether the token is the agent's, as this leader knows it.
pub fn has_token(shard: &Shard, agent: AgentId, token: &TokenHash) -> ShardReply {
    if shard.serving().is_none() {
        return shard.not_leader();
    }
    match shard.peek(|state, rows| state.agent(rows, agent)) {
        Ok(Some(view)) if view.tokens.iter().any(|known| same_hash(known, token)) => ShardReply::Done,
        Ok(_) => ShardReply::Refused(Refused::BadToken),
        Err(error) => shard.halt(&error.to_string()),
    }
}

/// Outlives every agent actor.
struct AgentSupervisor {
    agents: Weak<Agents>,
}

impl Actor for AgentSupervisor {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let who = match event {
            SupervisionEvent::ActorFailed(who, error) => {
                tracing::error!(actor = %who.get_id(), %error, "agent actor failed; the next call activates it anew");
                who
            }
            SupervisionEvent::ActorTerminated(who, ..) => who,
            _ => return Ok(()),
        };
        if let Some(agents) = self.agents.upgrade() {
            agents.ended(who.get_id());
        }
        Ok(())
    }
}
