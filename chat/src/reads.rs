//! Owns what may be read of a shard. Does not change or cache anything. Invariant: a read sees every applied command,
//! whether its objects are in memory or in rows.

use crate::agent;
use crate::apply::Shard;
use crate::desk::{Desk, Seat};
use crate::device::Device;
use crate::find;
use crate::keys;
use crate::message::REFUSED_SEQ;
use crate::outcome::ApplyError;
use crate::rows::{self, AgentRow, CursorRow, Rows};
use crate::session::Session;
use proto::act::Whose;
use proto::command::{Mail, Party, TokenHash};
use proto::desk::{Channel, SeatRules, SeatState, SiteRules, TeamRules};
use proto::ids::{AgentId, SessionId, ShardId, SiteId, TeamId, VisitorId};
use proto::search::Standing;
use std::collections::BTreeMap;

/// A session's facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    pub site: SiteId,
    pub visitor: VisitorId,
    /// The last seq.
    pub head: u64,
    pub open: Option<OpenView>,
    pub standing: Standing,
    /// Of the open conversation, or of the last one; ascending.
    pub labels: Vec<String>,
    /// Whose, name and value; ascending.
    pub attributes: Vec<(Whose, String, String)>,
    /// The visitor's last one: of which conversation, and 1 to 5.
    pub rating: Option<(u64, u8)>,
    /// Nothing is taken from the visitor until then, milliseconds since 1970.
    pub blocked_ms: Option<u64>,
    /// Events up to here are gone, but for their places.
    pub erased: u64,
    /// The visitor proved who they are.
    pub is_identified: bool,
    /// Sessions that the visitor had before they said who they are, oldest first.
    pub merged: Vec<SessionId>,
    /// The visitor has that one since they said who they are.
    pub merged_into: Option<SessionId>,
    /// What is known of the visitor.
    pub facts: Vec<(String, String)>,
    /// By which way the visitor writes.
    pub channel: Channel,
    /// Triggers that have spoken: when last, in milliseconds since 1970, and in which visit; ascending by name.
    pub prompts: Vec<(String, u64, u64)>,
    /// The last invitation, unless it was answered: whose, its seq, and until when, in milliseconds since 1970.
    pub invite: Option<(AgentId, u64, u64)>,
    /// Conversations so far; the number of the last one.
    pub conversations: u64,
    /// The last agent who had a conversation here.
    pub last_agent: Option<AgentId>,
    /// Of the open conversation, or of the last one: for whom the desk had it wait, to which somebody gave it, or which the visitor chose.
    pub team: Option<TeamId>,
    pub visitor_cursor: CursorView,
    /// The cursor of whoever is or was the agent.
    pub agent_cursor: CursorView,
    /// SHA-256 of the visitor's tokens, oldest first; compare in constant time.
    pub tokens: Vec<TokenHash>,
}

/// The open conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenView {
    pub number: u64,
    /// The first event that its agent follows.
    pub first_seq: u64,
    pub agent: Option<AgentId>,
    /// How often it has gone from one agent to another, back to the desk, or out of the way.
    pub part: u64,
    /// Laid aside by that agent until then, milliseconds since 1970.
    pub snoozed: Option<(AgentId, u64)>,
}

/// Seqs up to which a party has received and read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CursorView {
    pub received: u64,
    pub read: u64,
}

/// An agent's facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentView {
    pub site: SiteId,
    pub name: String,
    /// A socket is open.
    pub online: bool,
    /// What the person says; never `Offline`.
    pub state: SeatState,
    /// Grows with every change of `open`, `offers` and `state`.
    pub version: u64,
    /// Session and conversation, ascending.
    pub open: Vec<(SessionId, u64)>,
    /// To be accepted: session, offer, and until when in milliseconds since 1970; ascending.
    pub offers: Vec<(SessionId, u64, u64)>,
    /// Notes that mention the agent, and were not seen to: session and seq, oldest first.
    pub mentions: Vec<(SessionId, u64)>,
    /// SHA-256 of the agent's tokens, oldest first; compare in constant time.
    pub tokens: Vec<TokenHash>,
}

/// A site's roster and queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeskView {
    /// Ascending by agent.
    pub seats: Vec<SeatView>,
    /// Ascending.
    pub teams: Vec<(TeamId, TeamRules)>,
    /// Conversations that wait.
    pub queue_len: u64,
    /// How many of them their only agents have declined: they are asked again in a moment.
    pub aside: u64,
    /// Outside of the site's hours: until when, milliseconds since 1970; 0: nobody knows.
    pub closed: Option<u64>,
    pub rules: SiteRules,
}

/// An agent on a site's roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatView {
    pub agent: AgentId,
    pub state: SeatState,
    /// Conversations offered and assigned.
    pub open: u32,
    /// How many of them are offered.
    pub offered: usize,
    pub rules: SeatRules,
}

impl From<CursorRow> for CursorView {
    fn from(row: CursorRow) -> CursorView {
        CursorView { received: row.received, read: row.read }
    }
}

impl Shard {
    /// The chain over every outcome since genesis; equal on replicas at the same applied index.
    pub fn state_hash(&self) -> u64 {
        self.work.journal.hash
    }

    /// Milliseconds since 1970; never goes back.
    pub fn clock_ms(&self) -> u64 {
        self.work.clock_ms
    }

    pub(crate) fn with_session<R>(
        &self,
        rows: &dyn Rows,
        id: SessionId,
        read: impl FnOnce(&Session) -> R,
    ) -> Result<Option<R>, ApplyError> {
        match self.sessions.peek(&id) {
            Some(session) => Ok(Some(read(session))),
            None => Ok(Session::load(rows, id)?.as_ref().map(read)),
        }
    }

    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn session(&self, rows: &dyn Rows, id: SessionId) -> Result<Option<SessionView>, ApplyError> {
        self.with_session(rows, id, |session| SessionView {
            site: session.site,
            visitor: session.visitor,
            head: session.log.head(),
            open: session.open.map(|open| OpenView {
                number: open.number,
                first_seq: open.first_seq,
                agent: open.agent,
                part: open.part,
                snoozed: open.snoozed.map(|snoozed| (snoozed.agent, snoozed.until_ms)),
            }),
            labels: session.labels.clone(),
            attributes: session.attributes.iter().map(|row| (row.whose, row.name.clone(), row.value.clone())).collect(),
            rating: session.rating.map(|rating| (rating.conversation, rating.score)),
            blocked_ms: session.blocked_ms,
            erased: session.erased,
            is_identified: !session.proofs.is_empty(),
            merged: session.merged.clone(),
            merged_into: session.merged_into,
            facts: session.about.facts.clone(),
            channel: session.about.channel,
            prompts: session.reach.prompts().map(|(trigger, ms, visit)| (trigger.to_owned(), ms, visit)).collect(),
            invite: session.reach.invite(),
            conversations: session.conversations,
            last_agent: session.last_agent,
            standing: find::standing(session.open),
            team: session.team(),
            visitor_cursor: session.visitor_cursor.into(),
            agent_cursor: session.agent_cursor.into(),
            tokens: session.tokens.clone(),
        })
    }

    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn agent(&self, rows: &dyn Rows, id: AgentId) -> Result<Option<AgentView>, ApplyError> {
        let row = match self.agents.peek(&id) {
            Some(agent) => Some(agent.clone()),
            None => agent::load(rows, id)?,
        };
        Ok(row.map(|row| AgentView {
            site: row.site,
            name: row.name,
            online: row.online,
            state: row.state,
            version: row.version,
            open: row.open,
            offers: row.offers,
            mentions: row.mentions,
            tokens: row.tokens,
        }))
    }

    /// The agents of this shard that are online, ascending.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn online_agents(&self, rows: &dyn Rows) -> Result<Vec<AgentId>, ApplyError> {
        let mut online = BTreeMap::new();
        let mut broken = None;
        rows.scan(keys::AGENTS, None, false, &mut |key, value| {
            match rows::decode::<AgentRow>("agent", value) {
                Ok(row) => drop(online.insert(AgentId(keys::last_number(key).unwrap_or(0)), row.online)),
                Err(error) => broken = Some(error),
            }
            broken.is_none()
        })?;
        if let Some(error) = broken {
            return Err(error);
        }
        // What is in memory is newer than its row.
        online.extend(self.agents.range(AgentId(0)).map(|(id, agent)| (*id, agent.online)));
        Ok(online.into_iter().filter(|(_, online)| *online).map(|(id, _)| id).collect())
    }

    /// An unknown site has an empty desk.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn desk(&self, rows: &dyn Rows, site: SiteId) -> Result<DeskView, ApplyError> {
        let seat = |(agent, seat): (&AgentId, &Seat)| SeatView {
            agent: *agent,
            state: seat.state,
            open: seat.open,
            offered: seat.offers.len(),
            rules: seat.rules.clone(),
        };
        let view = |desk: &Desk| DeskView {
            seats: desk.seats.iter().map(seat).collect(),
            teams: desk.teams.iter().map(|(team, rules)| (*team, rules.clone())).collect(),
            queue_len: desk.queued + desk.aside,
            aside: desk.aside,
            closed: desk.closed,
            rules: desk.rules.clone(),
        };
        self.read_desk(rows, site, |desk| Ok(view(desk)))
    }

    /// The seq and time of a send that was applied before; `n` 0: by `cid`.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn find_sent(
        &self,
        rows: &dyn Rows,
        id: SessionId,
        from: Party,
        device: &str,
        n: u64,
        cid: &str,
    ) -> Result<Option<(u64, u64)>, ApplyError> {
        let found = self.with_session(rows, id, |session| match session.devices.find(from, device) {
            Ok(at) => session.devices.get(at).sent(rows, id, n, cid),
            Err(_) if session.devices.is_complete() => Ok(None),
            Err(_) => match Device::load(rows, id, from, device)? {
                Some(device) => device.sent(rows, id, n, cid),
                None => Ok(None),
            },
        })?;
        let found = found.transpose()?.flatten().filter(|sent| sent.seq != REFUSED_SEQ);
        Ok(found.map(|sent| (sent.seq, sent.ts_ms)))
    }

    /// Up to `limit` mails for shard `to` with a seq above `after`, in order, acknowledged ones left out.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn outbox(
        &self,
        rows: &dyn Rows,
        to: ShardId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Mail)>, ApplyError> {
        self.work.outbox.read(rows, to, after, limit)
    }

    /// (target, lowest seq not acknowledged, head) of every shard for which mail waits.
    pub fn outbox_targets(&self) -> Vec<(ShardId, u64, u64)> {
        self.work.outbox.targets()
    }

    /// The last mail of shard `from` that was applied.
    pub fn inbox_seen(&self, from: ShardId) -> u64 {
        self.inbox.get(&from).copied().unwrap_or(0)
    }
}
