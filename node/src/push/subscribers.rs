//! Owns which nodes subscribed to the sessions and agents that this node leads. Does not know sockets.
//! Invariant: may hold a node too many, never one too few: nodes subscribe again after every change of leader or link.

use chat::Effect;
use cluster::shard::Shard;
use parking_lot::Mutex;
use proto::command::Party;
use proto::ids::{AgentId, NodeId, SessionId, ShardId};
use proto::peer::Push;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Subscriptions that one node's leaders keep; over it the oldest map is not grown and callers are refused.
const SUBSCRIPTIONS_MAX: usize = 2_000_000;

#[derive(Default)]
struct Maps {
    sessions: HashMap<SessionId, (ShardId, Vec<NodeId>)>,
    agents: HashMap<AgentId, (ShardId, Vec<NodeId>)>,
}

/// The subscriptions at the leaders on this node.
#[derive(Default)]
pub struct Subscribers {
    maps: Mutex<Maps>,
}

impl Subscribers {
    /// False: the table is full.
    pub fn add_session(&self, shard: ShardId, session: SessionId, node: NodeId) -> bool {
        let mut maps = self.maps.lock();
        if maps.sessions.len() >= SUBSCRIPTIONS_MAX && !maps.sessions.contains_key(&session) {
            return false;
        }
        let nodes = &mut maps.sessions.entry(session).or_insert_with(|| (shard, Vec::with_capacity(1))).1;
        if !nodes.contains(&node) {
            nodes.push(node);
        }
        true
    }

    pub fn remove_session(&self, session: SessionId, node: NodeId) {
        let mut maps = self.maps.lock();
        if let Some((_, nodes)) = maps.sessions.get_mut(&session) {
            nodes.retain(|known| *known != node);
            if nodes.is_empty() {
                maps.sessions.remove(&session);
            }
        }
    }

    pub fn add_agent(&self, shard: ShardId, agent: AgentId, node: NodeId) {
        let mut maps = self.maps.lock();
        let nodes = &mut maps.agents.entry(agent).or_insert_with(|| (shard, Vec::new())).1;
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }

    /// Returns whether no node is left.
    pub fn remove_agent(&self, agent: AgentId, node: NodeId) -> bool {
        let mut maps = self.maps.lock();
        let Some((_, nodes)) = maps.agents.get_mut(&agent) else { return true };
        nodes.retain(|known| *known != node);
        let empty = nodes.is_empty();
        if empty {
            maps.agents.remove(&agent);
        }
        empty
    }

    pub fn has_agent(&self, agent: AgentId) -> bool {
        self.maps.lock().agents.contains_key(&agent)
    }

    /// This node does not lead the shard any more; the next leader is told anew.
    pub fn forget_shard(&self, shard: ShardId) {
        let mut maps = self.maps.lock();
        maps.sessions.retain(|_, (of, _)| *of != shard);
        maps.agents.retain(|_, (of, _)| *of != shard);
    }

    /// The node's sockets are gone, or will subscribe again.
    pub fn forget_node(&self, node: NodeId) {
        let mut maps = self.maps.lock();
        maps.sessions.retain(|_, (_, nodes)| {
            nodes.retain(|known| *known != node);
            !nodes.is_empty()
        });
        maps.agents.retain(|_, (_, nodes)| {
            nodes.retain(|known| *known != node);
            !nodes.is_empty()
        });
    }

    /// Turns one effect into pushes for the nodes that subscribed, except the one that is told by its answer. Returns to how many
    /// nodes an event goes.
    pub fn route(
        &self,
        shard: &Arc<Shard>,
        told: Option<NodeId>,
        effect: Effect,
        rounds: &mut BTreeMap<NodeId, Vec<Push>>,
    ) -> u32 {
        match effect {
            Effect::Event { session, event } => {
                let maps = self.maps.lock();
                let Some((_, nodes)) = maps.sessions.get(&session) else { return 0 };
                for node in nodes.iter().filter(|node| Some(**node) != told) {
                    let push = Push::Event { session, event: event.as_ref().clone() };
                    rounds.entry(*node).or_default().push(push);
                }
                return nodes.iter().filter(|node| Some(**node) != told).count() as u32;
            }
            Effect::Cursor { session, party, received, read } => {
                self.to_session(session, &Push::Cursor { session, party, received, read }, rounds);
            }
            Effect::AgentSessions { agent, .. } => self.to_agent(shard, agent, rounds),
            Effect::LoggedOut { session, gone } => {
                self.to_session(session, &Push::LoggedOut { session, gone }, rounds);
            }
            // Told to every node: where the visitors' sockets are, other shards know.
            Effect::AgentPresence { .. } | Effect::Outbox { .. } => {}
        }
        0
    }

    /// The nodes whose sockets follow the session.
    pub fn of_session(&self, session: SessionId) -> Vec<NodeId> {
        self.maps.lock().sessions.get(&session).map(|(_, nodes)| nodes.clone()).unwrap_or_default()
    }

    fn to_session(&self, session: SessionId, push: &Push, rounds: &mut BTreeMap<NodeId, Vec<Push>>) {
        let maps = self.maps.lock();
        let Some((_, nodes)) = maps.sessions.get(&session) else { return };
        for node in nodes {
            rounds.entry(*node).or_default().push(push.clone());
        }
    }

    fn to_agent(&self, shard: &Arc<Shard>, agent: AgentId, rounds: &mut BTreeMap<NodeId, Vec<Push>>) {
        let nodes = match self.maps.lock().agents.get(&agent) {
            Some((_, nodes)) => nodes.clone(),
            None => return,
        };
        let view = shard.peek(|state, rows| state.agent(rows, agent));
        let Ok(Some(view)) = view else { return };
        tracing::debug!(%agent, version = view.version, ?nodes, "an agent's conversations changed");
        let state = crate::agent::stands(view);
        for node in nodes {
            let push = Push::Agent { agent, state: state.clone() };
            rounds.entry(node).or_default().push(push);
        }
    }

    /// Pushes that nobody logged: typing.
    pub fn typing(&self, session: SessionId, party: Party, on: bool, draft: String) -> BTreeMap<NodeId, Vec<Push>> {
        let mut rounds = BTreeMap::new();
        self.to_session(session, &Push::Typing { session, party, on, draft }, &mut rounds);
        rounds
    }
}
