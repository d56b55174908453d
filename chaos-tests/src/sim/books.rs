//! Owns the comparison of what sessions, agents and the desk say of each other once nothing is under way. Reads leaders' states.
//! Invariant: every open conversation is either with an agent who lists it and is counted for it, or waits in the queue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cluster::shard::Shard;
use proto::command::Target;
use proto::ids::{AgentId, SessionId, ShardId, SiteId};

use super::run::World;
use crate::cluster::SITE;

impl World {
    /// Empty once the books balance; else what differs.
    pub fn imbalance(&self, sessions: &[SessionId], agents: &[AgentId]) -> String {
        self.compare(sessions, agents).err().unwrap_or_default()
    }

    fn compare(&self, sessions: &[SessionId], agents: &[AgentId]) -> Result<(), String> {
        for shard in 1..=self.shards() {
            let leader = self.served(ShardId(shard))?;
            let waiting = leader.peek(|state, _| state.outbox_targets());
            if !waiting.is_empty() {
                let seen = |to: ShardId| {
                    let of = |leader: Arc<Shard>| leader.peek(|state, _| state.inbox_seen(ShardId(shard)));
                    self.served(to).map(of)
                };
                let seen: Vec<_> = waiting.iter().map(|(to, ..)| seen(*to)).collect();
                return Err(format!(
                    "g{shard} has mail that is not delivered: {waiting:?}, and its targets saw {seen:?}"
                ));
            }
        }
        let mut held = BTreeMap::<AgentId, BTreeSet<SessionId>>::new();
        let mut queued = 0;
        for &session in sessions {
            let view = self.at(Target::Session(session))?.peek(|state, rows| state.session(rows, session));
            let view = view.map_err(|error| error.to_string())?.ok_or_else(|| format!("{session} is not there"))?;
            match view.open.map(|open| open.agent) {
                None => {}
                Some(None) => queued += 1,
                Some(Some(agent)) => {
                    held.entry(agent).or_default().insert(session);
                }
            }
        }
        for &agent in agents {
            let view = self.at(Target::Agent(agent))?.peek(|state, rows| state.agent(rows, agent));
            let view = view.map_err(|error| error.to_string())?;
            let listed: BTreeSet<SessionId> =
                view.into_iter().flat_map(|view| view.open).map(|(session, _)| session).collect();
            let holds = held.get(&agent).cloned().unwrap_or_default();
            if listed != holds {
                return Err(format!("{agent} lists {listed:?}, and the sessions that name it are {holds:?}"));
            }
        }
        self.compare_desk(&held, queued)
    }

    fn compare_desk(&self, held: &BTreeMap<AgentId, BTreeSet<SessionId>>, queued: u64) -> Result<(), String> {
        let site = self.site().ok_or("no node knows the site")?;
        let desk = self.at(Target::Desk(site))?.peek(|state, rows| state.desk(rows, site));
        let desk = desk.map_err(|error| error.to_string())?;
        let offered: usize = desk.seats.iter().map(|seat| seat.offered).sum();
        if desk.queue_len + offered as u64 != queued {
            let queue_len = desk.queue_len;
            return Err(format!("{queue_len} conversations wait and {offered} are offered; {queued} sessions wait"));
        }
        for seat in &desk.seats {
            let holds = held.get(&seat.agent).map_or(0, BTreeSet::len);
            if seat.open as usize != holds + seat.offered {
                return Err(format!(
                    "the desk counts {} conversations with {}, who has {holds}",
                    seat.open, seat.agent
                ));
            }
        }
        Ok(())
    }

    fn site(&self) -> Option<SiteId> {
        self.machines.iter().find_map(|machine| {
            machine.node()?.with_meta(|state| state.site_by_name(SITE).map(|(site, _)| site)).flatten()
        })
    }

    fn at(&self, target: Target) -> Result<Arc<Shard>, String> {
        self.served(target.shard(self.shards()))
    }

    fn served(&self, shard: ShardId) -> Result<Arc<Shard>, String> {
        let leader = self.leader(shard.0).ok_or_else(|| format!("{shard} has no leader"))?;
        let node = self.machines[leader as usize - 1].node().ok_or_else(|| format!("n{leader} is down"))?;
        let running = node.running().into_iter().find(|running| running.group.shard == shard);
        running.and_then(|running| running.shard).ok_or_else(|| format!("{shard} is not at n{leader}"))
    }
}
