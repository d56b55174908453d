//! Owns a visitor's session: its conversations, cursors and tokens. Does not know agents' seats or queues, only the agent
//! it was given. Invariant: at most one conversation is open, with at most one agent.

use crate::apply::{Shard, Work};
use crate::cache::{Hold, Table, Weight};
use crate::device::{Devices, Known};
use crate::journal::Note;
use crate::keys;
use crate::limits::{REASON_BYTES_MAX, TOKENS_MAX};
use crate::log::Log;
use crate::outcome::{ApplyError, Effect, Refusal, Reply};
use crate::reach::Reach;
use crate::rows::{self, AttributeRow, Changes, CursorRow, OpenRow, ProofRow, RatingRow, Rows, SessionRow};
use crate::talk::Talk;
use proto::act::Whose;
use proto::command::{Command, EventBody, Mail, Party, TokenHash};
use proto::desk::{About, Ask};
use proto::ids::{AgentId, SessionId, SiteId, TeamId, VisitorId};

/// A visitor's session in memory.
pub(crate) struct Session {
    pub site: SiteId,
    pub visitor: VisitorId,
    pub tokens: Vec<TokenHash>,
    pub conversations: u64,
    pub open: Option<OpenRow>,
    pub last_agent: Option<AgentId>,
    pub closed_ms: u64,
    pub visitor_cursor: CursorRow,
    pub agent_cursor: CursorRow,
    pub log: Log,
    pub devices: Devices,
    /// What is known of the visitor.
    pub about: About,
    /// Of the open conversation, or of the last one; ascending.
    pub labels: Vec<String>,
    /// `OpenRow::part` of the last conversation, when it was closed.
    pub last_part: u64,
    /// Ascending by whose they are and name.
    pub attributes: Vec<AttributeRow>,
    /// The visitor's last one.
    pub rating: Option<RatingRow>,
    /// Nothing is taken from the visitor until then.
    pub blocked_ms: Option<u64>,
    /// Events up to here are gone, but for their places.
    pub erased: u64,
    /// Proofs of who the visitor is, oldest first.
    pub proofs: Vec<ProofRow>,
    /// Sessions that the visitor had before they said who they are, oldest first.
    pub merged: Vec<SessionId>,
    /// It is the visitor's no longer: they have that one.
    pub merged_into: Option<SessionId>,
    /// What is to be counted of the last conversation.
    pub talk: Talk,
    /// What was said to the visitor first.
    pub reach: Reach,
    #[cfg(feature = "next")]
    pub tally: u64,
}

pub(crate) type SessionHold<'a> = Hold<'a, SessionId, Session>;

impl Weight for Session {
    fn bytes(&self) -> usize {
        let about: usize = self.about.facts.iter().map(|(name, value)| 48 + name.len() + value.len()).sum();
        let tokens = self.tokens.capacity() * size_of::<TokenHash>();
        let labels: usize = self.labels.iter().map(|label| 24 + label.len()).sum();
        let attributes: usize = self.attributes.iter().map(|row| 56 + row.name.len() + row.value.len()).sum();
        size_of::<Session>()
            + tokens
            + about
            + labels
            + attributes
            + self.proofs.capacity() * size_of::<ProofRow>()
            + self.merged.capacity() * size_of::<SessionId>()
            + self.reach.bytes()
            + self.log.bytes()
            + self.devices.bytes()
    }
}

impl Session {
    /// The open conversation is the agent's from now on, and in that part.
    fn give(&mut self, work: &mut Work, id: SessionId, open: OpenRow, agent: AgentId, part: u64) {
        self.count_given(work, &open, agent);
        let event = self.log.append(work.clock_ms, EventBody::Assigned { agent, conversation: open.number });
        self.open = Some(OpenRow { part, ..open.given_to(agent, event.seq) });
        self.last_agent = Some(agent);
        work.event(self.site, id, event);
        if let Some(before) = open.agent {
            work.mail(Mail::Unassigned { agent: before, session: id, conversation: open.number });
        }
        work.mail(Mail::Assigned { agent, session: id, conversation: open.number });
    }
}

impl OpenRow {
    /// Whose it is, or was when it was put off.
    pub(crate) fn had_by(&self) -> Option<AgentId> {
        self.agent.or(self.snoozed.map(|snoozed| snoozed.agent))
    }

    /// Who takes a conversation that another agent had begins with the event that says so, or, when it waited in between, behind the
    /// one that says that: an earlier one would end the subscription.
    fn given_to(self, agent: AgentId, seq: u64) -> OpenRow {
        let first_seq = match self.had_by() {
            Some(_) => seq,
            None => self.first_seq + u64::from(self.waits_again),
        };
        OpenRow { agent: Some(agent), first_seq, waits_again: false, snoozed: None, ..self }
    }
}

impl Session {
    fn new(site: SiteId, visitor: VisitorId) -> Session {
        Session {
            site,
            visitor,
            tokens: Vec::new(),
            conversations: 0,
            open: None,
            last_agent: None,
            closed_ms: 0,
            visitor_cursor: CursorRow::default(),
            agent_cursor: CursorRow::default(),
            log: Log::new(),
            devices: Devices::default(),
            about: About::default(),
            labels: Vec::new(),
            last_part: 0,
            attributes: Vec::new(),
            rating: None,
            blocked_ms: None,
            erased: 0,
            proofs: Vec::new(),
            merged: Vec::new(),
            merged_into: None,
            talk: Talk::default(),
            reach: Reach::default(),
            #[cfg(feature = "next")]
            tally: 0,
        }
    }

    pub(crate) fn load(rows: &dyn Rows, id: SessionId) -> Result<Option<Session>, ApplyError> {
        let Some(bytes) = rows.get(&keys::session(id))? else { return Ok(None) };
        #[cfg(feature = "next")]
        if bytes.first() == Some(&<crate::next::TalliedRow as proto::codec::Frozen>::TAG) {
            let row: crate::next::TalliedRow = rows::decode("session", &bytes)?;
            let session = Session::of_row(rows, id, row.session)?;
            return Ok(Some(Session { tally: row.tally, ..session }));
        }
        Session::of_row(rows, id, rows::decode("session", &bytes)?).map(Some)
    }

    /// A session's row, whichever version wrote it.
    pub(crate) fn facts(bytes: &[u8]) -> Result<SessionRow, ApplyError> {
        #[cfg(feature = "next")]
        if bytes.first() == Some(&<crate::next::TalliedRow as proto::codec::Frozen>::TAG) {
            return rows::decode::<crate::next::TalliedRow>("session", bytes).map(|row| row.session);
        }
        rows::decode("session", bytes)
    }

    fn of_row(rows: &dyn Rows, id: SessionId, row: SessionRow) -> Result<Session, ApplyError> {
        rows::counted("session", &[row.conversations, row.erased])?;
        if row.open.is_some_and(|open| !(1..=row.head).contains(&open.first_seq)) {
            return Err(rows::corrupt("session", "the open conversation begins at no event"));
        }
        Ok(Session {
            site: row.site,
            visitor: row.visitor,
            tokens: row.tokens,
            conversations: row.conversations,
            open: row.open,
            last_agent: row.last_agent,
            closed_ms: row.closed_ms,
            visitor_cursor: row.visitor_cursor,
            agent_cursor: row.agent_cursor,
            log: Log::load(rows, id, row.head, row.block_first)?,
            devices: Devices::with_total(row.devices),
            about: row.about,
            labels: row.labels,
            last_part: row.last_part,
            attributes: row.attributes,
            rating: row.rating,
            blocked_ms: row.blocked_ms,
            erased: row.erased,
            proofs: row.proofs,
            merged: row.merged,
            merged_into: row.merged_into,
            talk: Talk::load(rows, id)?,
            reach: Reach::load(rows, id)?,
            #[cfg(feature = "next")]
            tally: 0,
        })
    }

    pub(crate) fn save(&mut self, id: SessionId, out: &mut Changes) {
        self.log.save(id, out);
        self.devices.save(id, out);
        self.talk.save(id, out);
        self.reach.save(id, out);
        let row = SessionRow {
            site: self.site,
            visitor: self.visitor,
            tokens: self.tokens.clone(),
            head: self.log.head(),
            block_first: self.log.block_first(),
            conversations: self.conversations,
            open: self.open,
            last_agent: self.last_agent,
            closed_ms: self.closed_ms,
            visitor_cursor: self.visitor_cursor,
            agent_cursor: self.agent_cursor,
            devices: self.devices.total,
            about: self.about.clone(),
            labels: self.labels.clone(),
            last_part: self.last_part,
            attributes: self.attributes.clone(),
            rating: self.rating,
            blocked_ms: self.blocked_ms,
            erased: self.erased,
            proofs: self.proofs.clone(),
            merged: self.merged.clone(),
            merged_into: self.merged_into,
        };
        #[cfg(feature = "next")]
        if self.tally > 0 {
            let row = crate::next::TalliedRow { session: row, tally: self.tally };
            return rows::save(out, keys::session(id), &row);
        }
        rows::save(out, keys::session(id), &row);
    }

    pub(crate) fn saved(&mut self, written: bool) {
        self.log.saved(written);
        self.devices.saved(written);
        self.talk.saved(written);
        self.reach.saved(written);
    }

    /// Whether what a send looks at in the session is in memory.
    pub(crate) fn is_warm(&self, command: &Command) -> bool {
        match command {
            Command::Send { from, device, n, cid, reply_to, .. } => {
                self.knows_send(*from, device, *n, cid) && reply_to.is_none_or(|seq| self.log.get(seq).is_some())
            }
            Command::Bar { from, device, n, cid, .. } => self.knows_send(*from, device, *n, cid),
            Command::Act { from, device, n, cid, act, .. } => {
                self.knows_send(*from, device, *n, cid) && self.has_target(act)
            }
            _ => false,
        }
    }

    /// Whether a send can be judged without rows.
    fn knows_send(&self, from: Party, device: &str, n: u64, cid: &str) -> bool {
        match self.devices.find(from, device) {
            Ok(at) => !matches!(self.devices.get(at).known(n, cid), Known::Unread),
            Err(_) => self.devices.is_complete(),
        }
    }

    /// What the desk is asked for a conversation: routes look at what agents said of the visitor, too.
    pub(crate) fn ask(&self, last: Option<(AgentId, u64)>) -> Ask {
        let mut ask = Ask::of(&self.about, last);
        let known = self.attributes.iter().filter(|row| row.whose == Whose::Visitor);
        ask.facts.extend(known.map(|row| (format!("attribute.{}", row.name), row.value.clone())));
        ask.facts.sort();
        ask
    }

    /// Whether the agent may move the agents' cursor: theirs is the open conversation, or was the last one.
    fn is_agent(&self, agent: AgentId) -> bool {
        match self.open {
            Some(open) => open.agent == Some(agent),
            None => self.last_agent == Some(agent),
        }
    }
}

pub(crate) fn hold<'a>(
    sessions: &'a mut Table<SessionId, Session>,
    rows: &dyn Rows,
    id: SessionId,
    tick: u64,
) -> Result<Option<SessionHold<'a>>, ApplyError> {
    sessions.hold(id, tick, || Session::load(rows, id))
}

/// Keeps the newest tokens; true when the set changed.
pub(crate) fn add_token(tokens: &mut Vec<TokenHash>, token: TokenHash) -> bool {
    if tokens.contains(&token) {
        return false;
    }
    if tokens.len() >= TOKENS_MAX {
        tokens.remove(0);
    }
    // Most visitors keep one device, and there are many visitors.
    tokens.reserve_exact(usize::from(tokens.is_empty()));
    tokens.push(token);
    true
}

impl Shard {
    pub(crate) fn open_session(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        site: SiteId,
        visitor: VisitorId,
        token: TokenHash,
    ) -> Result<Reply, ApplyError> {
        let work = &mut self.work;
        let load =
            || Ok::<_, ApplyError>(Some(Session::load(rows, id)?.unwrap_or_else(|| Session::new(site, visitor))));
        let Some(mut session) = self.sessions.hold(id, work.tick, load)? else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        if (session.site, session.visitor) != (site, visitor) {
            return Ok(Reply::Rejected(Refusal::SiteMismatch));
        }
        if !session.tokens.contains(&token) {
            add_token(&mut session.change().tokens, token);
            work.journal.note_session(Note::Token, id, &[]);
            work.journal.note_bytes(Note::Token, u64::from(site.0), &token);
        }
        Ok(Reply::Opened { session: id })
    }

    pub(crate) fn cursor(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        party: Party,
        received: u64,
        read: u64,
    ) -> Result<Reply, ApplyError> {
        let work = &mut self.work;
        let Some(mut session) = hold(&mut self.sessions, rows, id, work.tick)? else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        let before = match party {
            Party::Visitor => session.visitor_cursor,
            Party::Agent(agent) if session.is_agent(agent) => session.agent_cursor,
            Party::Agent(_) | Party::System => return Ok(Reply::Rejected(Refusal::NotYours)),
        };
        let head = session.log.head();
        let read = before.read.max(read.min(head));
        let after = CursorRow { received: before.received.max(received.min(head)).max(read), read };
        if after != before {
            let session = session.change();
            let cursor = if party == Party::Visitor { &mut session.visitor_cursor } else { &mut session.agent_cursor };
            *cursor = after;
            work.journal.note_cursor(id, party, after.received, after.read);
            work.effect(Effect::Cursor { session: id, party, received: after.received, read: after.read });
        }
        Ok(Reply::Cursor { received: after.received, read: after.read })
    }

    pub(crate) fn close(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        by: Party,
        reason: String,
    ) -> Result<Reply, ApplyError> {
        let work = &mut self.work;
        let Some(mut session) = hold(&mut self.sessions, rows, id, work.tick)? else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        let Some(open) = session.open else { return Ok(Reply::Closed { seq: None }) };
        let had_it = open.had_by();
        if let Party::Agent(agent) = by
            && had_it != Some(agent)
        {
            return Ok(Reply::Rejected(Refusal::NotYours));
        }
        if reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
            return Ok(Reply::Rejected(Refusal::ActInvalid));
        }
        let session = session.change();
        session.unsnooze(id, work, &mut self.dues);
        session.count_closed(work, &open, had_it);
        session.open = None;
        session.reach.close();
        session.last_part = open.part;
        if had_it.is_some() {
            session.closed_ms = work.clock_ms;
        }
        let conversation = open.number;
        let event = session.log.append(work.clock_ms, EventBody::Closed { by, conversation, reason });
        let seq = event.seq;
        work.event(session.site, id, event);
        work.mail(Mail::Done { site: session.site, session: id, conversation, agent: open.agent });
        if let Some(agent) = open.agent {
            work.mail(Mail::Unassigned { agent, session: id, conversation });
        }
        Ok(Reply::Closed { seq: Some(seq) })
    }

    /// An operator gives the open conversation to another agent, who follows it from here; who had it does so no longer.
    pub(crate) fn reassign(&mut self, rows: &dyn Rows, id: SessionId, agent: AgentId) -> Result<Reply, ApplyError> {
        let work = &mut self.work;
        let Some(mut session) = hold(&mut self.sessions, rows, id, work.tick)? else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        let Some(open) = session.open else { return Ok(Reply::Rejected(Refusal::ConversationClosed)) };
        if open.agent == Some(agent) {
            return Ok(Reply::Done);
        }
        let (site, conversation, part) = (session.site, open.number, open.part + 1);
        let session = session.change();
        if session.unsnooze(id, work, &mut self.dues).is_some() {
            // The desk does not know of it; what it does about it comes too late.
            let ask = Box::new(session.ask_again(&open));
            work.mail(Mail::Requeued { site, session: id, conversation, part: open.part, ask });
        }
        session.give(work, id, open, agent, part);
        work.mail(Mail::Reassigned { site, session: id, conversation, part, agent });
        Ok(Reply::Done)
    }

    /// The desk gives this conversation an agent, in place of `from` who asked for it, or of nobody. Whatever comes too late goes
    /// back, so that the seat becomes free.
    pub(crate) fn assign(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        (conversation, part): (u64, u64),
        from: Option<AgentId>,
        (agent, turn, team): (AgentId, u64, Option<TeamId>),
    ) -> Result<(), ApplyError> {
        let work = &mut self.work;
        let Some(mut session) = hold(&mut self.sessions, rows, id, work.tick)? else { return Ok(()) };
        // It begins a part of its own when it goes from one agent to another.
        let is_it = |open: &OpenRow| {
            (open.number, open.part + u64::from(from.is_some()), open.agent) == (conversation, part, from)
        };
        match session.open.filter(is_it) {
            Some(open) => {
                let session = session.change();
                team.into_iter().for_each(|team| session.note_team(team));
                session.give(work, id, open, agent, part);
            }
            None => work.mail(Mail::Returned { site: session.site, session: id, turn }),
        }
        Ok(())
    }

    /// The open conversation goes back to the desk. `team`: for whom it waits now.
    pub(crate) fn release(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        by: Party,
        team: Option<TeamId>,
    ) -> Result<Reply, ApplyError> {
        let work = &mut self.work;
        let Some(mut session) = hold(&mut self.sessions, rows, id, work.tick)? else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        let Some(open) = session.open else { return Ok(Reply::Rejected(Refusal::ConversationClosed)) };
        let before = match (by, open.agent) {
            (Party::Agent(agent), held) if held != Some(agent) => return Ok(Reply::Rejected(Refusal::NotYours)),
            (Party::Visitor, _) => return Ok(Reply::Rejected(Refusal::NotYours)),
            (_, None) => return Ok(Reply::Done),
            (_, Some(before)) => before,
        };
        let (site, conversation) = (session.site, open.number);
        let session = session.change();
        session.count_requeued(work, before);
        let event = session.log.append(work.clock_ms, EventBody::Queued { by, conversation });
        let part = open.part + 1;
        let named = team.or(open.team);
        session.open =
            Some(OpenRow { agent: None, first_seq: event.seq, waits_again: true, part, team: named, ..open });
        let ask = Box::new(Ask { team, but: Some(before), ..session.ask(None) });
        work.event(session.site, id, event);
        work.mail(Mail::Unassigned { agent: before, session: id, conversation });
        work.mail(Mail::Requeued { site, session: id, conversation, part, ask });
        Ok(Reply::Done)
    }
}
