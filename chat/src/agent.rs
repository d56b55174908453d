//! Owns an agent: logins, presence and the set of conversations that are theirs. Does not choose who gets what.
//! Invariant: `open` follows the sessions' own mails, in their order; `version` grows with each of its changes.

use crate::apply::Shard;
use crate::cache::{Hold, Weight};
use crate::journal::Note;
use crate::keys;
use crate::limits::MENTIONS_PER_AGENT_MAX;
use crate::outcome::{ApplyError, Effect, Refusal, Reply};
use crate::rows::{self, AgentRow, Rows};
use crate::session::add_token;
use proto::command::{Mail, TokenHash};
use proto::desk::SeatState;
use proto::ids::{AgentId, SessionId, SiteId};

/// An agent in memory: as in its row.
pub(crate) type Agent = AgentRow;

impl Weight for Agent {
    fn bytes(&self) -> usize {
        let heap = self.name.capacity() + self.tokens.capacity() * 32;
        let heap = heap + self.open.capacity() * 32 + self.offers.capacity() * 32 + self.mentions.capacity() * 32;
        size_of::<Agent>() + heap
    }
}

/// An agent who has never been here.
pub(crate) fn new(site: SiteId, name: String) -> Agent {
    let (open, offers, mentions) = (Vec::new(), Vec::new(), Vec::new());
    Agent {
        site,
        name,
        tokens: Vec::new(),
        online: false,
        state: SeatState::Online,
        version: 0,
        open,
        offers,
        mentions,
    }
}

/// What the desk is told.
fn seat_state(agent: &Agent) -> SeatState {
    if agent.online { agent.state } else { SeatState::Offline }
}

pub(crate) fn load(rows: &dyn Rows, agent: AgentId) -> Result<Option<Agent>, ApplyError> {
    let row: Option<Agent> = rows::read(rows, "agent", &keys::agent(agent))?;
    row.iter().try_for_each(|row| rows::counted("agent", &[row.version]))?;
    Ok(row)
}

impl Shard {
    fn hold_agent(&mut self, rows: &dyn Rows, id: AgentId) -> Result<Option<Hold<'_, AgentId, Agent>>, ApplyError> {
        self.agents.hold(id, self.work.tick, || load(rows, id))
    }

    pub(crate) fn agent_login(
        &mut self,
        rows: &dyn Rows,
        id: AgentId,
        site: SiteId,
        name: String,
        token: TokenHash,
    ) -> Result<Reply, ApplyError> {
        self.work.journal.note_bytes(Note::Login, id.0, name.as_bytes());
        if let Some(mut agent) = self.hold_agent(rows, id)? {
            if agent.site != site {
                return Ok(Reply::Rejected(Refusal::SiteMismatch));
            }
            if agent.name != name || !agent.tokens.contains(&token) {
                let agent = agent.change();
                add_token(&mut agent.tokens, token);
                agent.name = name;
            }
        } else {
            let agent = Agent { tokens: vec![token], ..new(site, name) };
            self.agents.put(id, self.work.tick, agent);
        }
        self.work.journal.note_bytes(Note::Login, id.0, &token);
        Ok(Reply::LoggedIn)
    }

    pub(crate) fn agent_presence(&mut self, rows: &dyn Rows, id: AgentId, online: bool) -> Result<Reply, ApplyError> {
        let Some(mut agent) = self.hold_agent(rows, id)? else {
            return Ok(Reply::Rejected(Refusal::UnknownAgent));
        };
        if agent.online != online {
            agent.change().online = online;
            let (site, state) = (agent.site, seat_state(&agent));
            drop(agent);
            self.agent_does(rows, id)?;
            self.work.journal.note(Note::Presence, &[id.0, u64::from(online)]);
            self.work.effect(Effect::AgentPresence { agent: id, site, online });
            self.work.mail(Mail::AgentState { site, agent: id, state });
        }
        Ok(Reply::Done)
    }

    /// The person says whether they take conversations. Said again it counts again: who missed an offer is back.
    pub(crate) fn agent_state(&mut self, rows: &dyn Rows, id: AgentId, state: SeatState) -> Result<Reply, ApplyError> {
        let Some(mut agent) = self.hold_agent(rows, id)? else {
            return Ok(Reply::Rejected(Refusal::UnknownAgent));
        };
        if state == SeatState::Offline {
            return Ok(Reply::Rejected(Refusal::RulesInvalid("offline is for sockets to say")));
        }
        let is_new = agent.state != state;
        agent.change().state = state;
        agent.change().version += u64::from(is_new);
        let (site, state, version) = (agent.site, seat_state(&agent), agent.version);
        drop(agent);
        self.agent_does(rows, id)?;
        self.work.journal.note(Note::Presence, &[id.0, 2 + state as u64]);
        if is_new {
            self.work.effect(Effect::AgentSessions { agent: id, version });
        }
        self.work.mail(Mail::AgentState { site, agent: id, state });
        Ok(Reply::Done)
    }

    /// The desk offers a conversation until then.
    pub(crate) fn agent_offered(
        &mut self,
        rows: &dyn Rows,
        id: AgentId,
        session: SessionId,
        offer: u64,
        until_ms: u64,
    ) -> Result<(), ApplyError> {
        let Some(mut agent) = self.hold_agent(rows, id)? else { return Ok(()) };
        if let Err(at) = agent.offers.binary_search_by_key(&(session, offer), |known| (known.0, known.1)) {
            agent.change().offers.insert(at, (session, offer, until_ms));
            drop(agent);
            return self.set_changed(rows, id, session, [offer, until_ms]);
        }
        Ok(())
    }

    /// The desk offers that no longer. Who let it pass is away until they say otherwise.
    pub(crate) fn agent_withdrawn(
        &mut self,
        rows: &dyn Rows,
        id: AgentId,
        session: SessionId,
        offer: u64,
        missed: bool,
    ) -> Result<(), ApplyError> {
        let Some(mut agent) = self.hold_agent(rows, id)? else { return Ok(()) };
        if let Ok(at) = agent.offers.binary_search_by_key(&(session, offer), |known| (known.0, known.1)) {
            let changed = agent.change();
            changed.offers.remove(at);
            if missed {
                changed.state = SeatState::Away;
            }
            let (site, state) = (agent.site, seat_state(&agent));
            drop(agent);
            if missed {
                self.agent_does(rows, id)?;
                // The person may have said something else in between, which the desk has heard by now.
                self.work.mail(Mail::AgentState { site, agent: id, state });
            }
            return self.set_changed(rows, id, session, [offer, u64::from(missed)]);
        }
        Ok(())
    }

    /// What is open with the agent or offered to them has changed.
    fn set_changed(
        &mut self,
        rows: &dyn Rows,
        id: AgentId,
        session: SessionId,
        how: [u64; 2],
    ) -> Result<(), ApplyError> {
        let Some(mut agent) = self.hold_agent(rows, id)? else { return Ok(()) };
        agent.change().version += 1;
        let version = agent.version;
        drop(agent);
        self.work.journal.note_session(Note::Open, session, &[how[0], id.0, version, how[1]]);
        self.work.effect(Effect::AgentSessions { agent: id, version });
        Ok(())
    }

    /// The site's rules take back what is open with an agent who is not there.
    pub(crate) fn agent_absent(&mut self, rows: &dyn Rows, id: AgentId) -> Result<(), ApplyError> {
        let Some(agent) = self.hold_agent(rows, id)? else { return Ok(()) };
        if agent.online {
            return Ok(());
        }
        let open = agent.open.clone();
        drop(agent);
        for (session, conversation) in open {
            self.work.mail(Mail::Release { session, conversation, agent: id });
        }
        Ok(())
    }

    /// A note mentions the agent. Whoever is not of the site is nobody here.
    pub(crate) fn agent_mentioned(
        &mut self,
        rows: &dyn Rows,
        id: AgentId,
        site: SiteId,
        session: SessionId,
        seq: u64,
    ) -> Result<(), ApplyError> {
        let Some(mut agent) = self.hold_agent(rows, id)?.filter(|agent| agent.site == site) else { return Ok(()) };
        let mentions = &mut agent.change().mentions;
        if mentions.len() >= MENTIONS_PER_AGENT_MAX {
            mentions.remove(0);
        }
        mentions.push((session, seq));
        drop(agent);
        self.work.journal.note_session(Note::Mention, session, &[id.0, seq]);
        self.set_changed(rows, id, session, [seq, 2])
    }

    /// The agent has seen to a mention.
    pub(crate) fn agent_dismisses(
        &mut self,
        rows: &dyn Rows,
        id: AgentId,
        session: SessionId,
        seq: u64,
    ) -> Result<Reply, ApplyError> {
        let Some(mut agent) = self.hold_agent(rows, id)? else {
            return Ok(Reply::Rejected(Refusal::UnknownAgent));
        };
        if agent.mentions.contains(&(session, seq)) {
            agent.change().mentions.retain(|known| *known != (session, seq));
            drop(agent);
            self.set_changed(rows, id, session, [seq, 3])?;
        }
        Ok(Reply::Done)
    }

    /// A session says that a conversation is (`theirs`) or is no longer the agent's.
    pub(crate) fn agent_assigned(
        &mut self,
        rows: &dyn Rows,
        id: AgentId,
        session: SessionId,
        conversation: u64,
        theirs: bool,
    ) -> Result<(), ApplyError> {
        let Some(mut held) = self.hold_agent(rows, id)? else { return Ok(()) };
        let place = held.open.binary_search(&(session, conversation));
        if place.is_ok() == theirs {
            return Ok(());
        }
        let agent = held.change();
        match place {
            Err(at) => agent.open.insert(at, (session, conversation)),
            Ok(at) => {
                agent.open.remove(at);
            }
        }
        drop(held);
        self.agent_does(rows, id)?;
        self.set_changed(rows, id, session, [conversation, u64::from(theirs)])
    }
}
