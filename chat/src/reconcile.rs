//! Owns the repair of a cluster whose shards were cut at different moments: desks and agents follow the sessions again. Does
//! not touch a session. Invariant: a session alone knows its open conversation and who has it; all else is derived from that.
//!
//! Cuts of two shards at different times break their mail in both directions. A source that is newer may have forgotten mails
//! which its older target never saw; a target that is newer has seen seqs that its older source will give to other mails. So
//! no outbox is kept. What each kind of mail would have told is told by the rows themselves.

use crate::agent;
use crate::attachment::OF_ATTACHMENTS;
use crate::desk::Desk;
use crate::keys;
use crate::log::Log;
use crate::outcome::ApplyError;
use crate::rows::{self, AgentRow, Changes, DueRow, HeaderRow, NeedRow, PlaceRow, QueuedRow, Rows, WantRow};
use crate::session::Session;
use proto::command::{Mail, Target};
use proto::desk::{About, Ask};
use proto::ids::{AgentId, SessionId, ShardId, SiteId};
use std::collections::{BTreeMap, BTreeSet};

/// What was read of all shards, and what follows from it. Memory grows with open conversations and agents, not with messages.
pub struct Reconciliation {
    shards: u32,
    /// Open conversations by site.
    talks: BTreeMap<SiteId, Vec<Talk>>,
    desks: BTreeSet<SiteId>,
    /// The highest agent on a roster.
    seat_max: u64,
    /// What the desks knew of conversations: ticket, since when in milliseconds since 1970, and need.
    wants: BTreeMap<(SiteId, SessionId, u64), (u64, u64, NeedRow)>,
    agents: BTreeSet<AgentId>,
    sessions: u64,
    /// Conversations that were laid aside.
    snoozed: Vec<Snoozed>,
}

/// A conversation that was laid aside, and comes back.
struct Snoozed {
    site: SiteId,
    session: SessionId,
    agent: AgentId,
    /// Milliseconds since 1970.
    until_ms: u64,
    wake: DueRow,
}

/// An open conversation, as its session has it.
struct Talk {
    session: SessionId,
    number: u64,
    agent: Option<AgentId>,
    /// When it was opened; only of one that waits.
    since_ms: u64,
    part: u64,
    about: About,
}

/// What came out, for the operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reconciled {
    pub sessions: u64,
    /// Conversations that are open: with an agent, and waiting.
    pub assigned: u64,
    pub waiting: u64,
    /// Mails that were under way between shards, and are told by the rows now.
    pub mails: u64,
}

/// The highest ids in use, so that none is given out again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IdsSeen {
    pub agent: u64,
    pub site: u32,
}

impl Reconciliation {
    pub fn new(shards: u32) -> Reconciliation {
        Reconciliation {
            shards,
            talks: BTreeMap::new(),
            desks: BTreeSet::new(),
            seat_max: 0,
            wants: BTreeMap::new(),
            agents: BTreeSet::new(),
            sessions: 0,
            snoozed: Vec::new(),
        }
    }

    /// Takes in one shard. Read every shard before the first call of [`Reconciliation::changes`].
    /// # Errors
    /// `ApplyError` when a row cannot be read.
    pub fn read(&mut self, rows: &dyn Rows) -> Result<(), ApplyError> {
        let mut waiting = Vec::new();
        each(rows, keys::SESSIONS, &mut |key, value| {
            let row = Session::facts(value)?;
            self.sessions += 1;
            let Some(open) = row.open else { return Ok(()) };
            let session = keys::last_session(key).ok_or_else(|| rows::corrupt("session", "its key is too short"))?;
            if let Some(snoozed) = open.snoozed {
                let wake = DueRow::Wake { conversation: open.number, part: open.part };
                let (site, agent, until_ms) = (row.site, snoozed.agent, snoozed.until_ms);
                self.snoozed.push(Snoozed { site, session, agent, until_ms, wake });
                return Ok(());
            }
            let talk = Talk {
                session,
                number: open.number,
                agent: open.agent,
                since_ms: 0,
                part: open.part,
                about: row.about,
            };
            match talk.agent {
                None => waiting.push((row.site, open.first_seq, talk)),
                Some(_) => self.talks.entry(row.site).or_default().push(talk),
            }
            Ok(())
        })?;
        for (site, first_seq, talk) in waiting {
            let since_ms = Log::time_of(rows, talk.session, first_seq)?;
            self.talks.entry(site).or_default().push(Talk { since_ms, ..talk });
        }
        each(rows, keys::AGENTS, &mut |key, _| {
            self.agents.insert(AgentId(keys::last_number(key).unwrap_or(0)));
            Ok(())
        })?;
        each(rows, keys::DESKS, &mut |key, value| {
            Desk::row(value)?;
            self.desks.insert(keys::site_of(key));
            Ok(())
        })?;
        each(rows, keys::SEATS, &mut |key, _| {
            self.seat_max = self.seat_max.max(keys::last_number(key).unwrap_or(0));
            self.desks.insert(keys::site_of(key));
            Ok(())
        })?;
        each(rows, keys::WANTS, &mut |key, value| {
            let WantRow { conversation, need, ticket, since_ms, .. } = rows::decode("want", value)?;
            let session = keys::last_session(key).ok_or_else(|| rows::corrupt("want", "its key is too short"))?;
            self.wants.insert((keys::site_of(key), session, conversation), (ticket, since_ms, need));
            Ok(())
        })
    }

    /// The highest ids that any row names.
    pub fn ids(&self) -> IdsSeen {
        let of_talks = self.talks.values().flatten().filter_map(|talk| talk.agent);
        let of_snoozed = self.snoozed.iter().map(|one| one.agent);
        let agents = self.agents.iter().copied().chain(of_talks).chain(of_snoozed);
        let agent = agents.map(|id| id.0).chain([self.seat_max]).max();
        let of_snoozed = self.snoozed.iter().map(|one| &one.site);
        let site = self.talks.keys().chain(&self.desks).chain(of_snoozed).map(|id| id.0).max();
        IdsSeen { agent: agent.unwrap_or(0), site: site.unwrap_or(0) }
    }

    /// The agents that have a row or a conversation.
    pub fn agents(&self) -> impl Iterator<Item = AgentId> {
        let of_talks = self.talks.values().flatten().filter_map(|talk| talk.agent);
        self.agents.iter().copied().chain(of_talks).collect::<BTreeSet<AgentId>>().into_iter()
    }

    /// What must change in the rows of `shard`; in order, and all of it before the shard is opened. `name` knows the accounts: an
    /// agent may have taken a conversation without having a row in an older cut.
    /// # Errors
    /// `ApplyError` when a row cannot be read.
    pub fn changes(
        &self,
        shard: ShardId,
        rows: &dyn Rows,
        name: &dyn Fn(AgentId) -> Option<String>,
    ) -> Result<(Changes, Reconciled), ApplyError> {
        let mut out = BTreeMap::new();
        let mut told = Reconciled::default();
        // What agents were doing at the cut nobody was there to count.
        for kind in [keys::QUEUES, keys::WANTS, keys::DUES, keys::OUTBOX, keys::STINTS] {
            each(rows, kind, &mut |key, value| {
                // What becomes of uploads, their own shard knows alone.
                if kind == keys::DUES && keys::read_due(key).is_some_and(|(_, site, _)| site == OF_ATTACHMENTS) {
                    return Ok(());
                }
                if kind == keys::OUTBOX {
                    told.mails += 1;
                    is_told_by_rows(&rows::decode("mail", value)?);
                }
                out.insert(key.to_vec(), None);
                Ok(())
            })?;
        }
        let sites: BTreeSet<SiteId> = self.talks.keys().chain(&self.desks).copied().collect();
        for site in sites.into_iter().filter(|site| Target::Desk(*site).shard(self.shards) == shard) {
            self.settle_desk(site, rows, &mut out, &mut told)?;
        }
        self.settle_agents(shard, rows, name, &mut out)?;
        let here = |session| Target::Session(session).shard(self.shards) == shard;
        for one in self.snoozed.iter().filter(|one| here(one.session)) {
            let key = keys::due(one.until_ms, crate::snooze::NO_SITE, one.session);
            out.insert(key, Some(proto::codec::encode(&one.wake)));
        }
        if let Some(header) = rows::read::<HeaderRow>(rows, "header", keys::HEADER)? {
            // The seqs of mails begin anew on both sides.
            let header = HeaderRow { outbox: Vec::new(), inbox: Vec::new(), ..header };
            out.insert(keys::HEADER.to_vec(), Some(proto::codec::encode(&header)));
        }
        told.sessions = self.sessions;
        Ok((out.into_iter().collect(), told))
    }

    /// Roster and line of a site. Who waited keeps the place; who is new to the desk comes after, by age.
    fn settle_desk(
        &self,
        site: SiteId,
        rows: &dyn Rows,
        out: &mut BTreeMap<Vec<u8>, Option<Vec<u8>>>,
        told: &mut Reconciled,
    ) -> Result<(), ApplyError> {
        let mut desk = Desk::load(rows, site)?;
        desk.clear();
        let mut line = Vec::new();
        for talk in self.talks.get(&site).into_iter().flatten() {
            let known = self.wants.get(&(site, talk.session, talk.number)).cloned();
            // The mail by which a session asked may not have reached the desk's cut.
            let ask = || Ask::of(&talk.about, None);
            let (ticket, since_ms, need) =
                known.unwrap_or_else(|| (u64::MAX, talk.since_ms, desk.need(&ask(), talk.session)));
            let Some(agent) = talk.agent else {
                line.push((ticket, since_ms, talk.session, (talk.number, talk.part), need));
                continue;
            };
            desk.seat_again(agent, &need);
            let place = PlaceRow::Assigned { agent, offer: 0, turn: 0 };
            let (conversation, part, ticket) = (talk.number, talk.part, desk.draw_ticket());
            put_want(out, site, talk.session, WantRow { conversation, need, ticket, since_ms, part, place });
            told.assigned += 1;
        }
        line.sort_unstable();
        told.waiting += line.len() as u64;
        for (_, since_ms, session, (conversation, part), need) in line {
            let (lane, need, ticket) = desk.line_up(need);
            let queued = QueuedRow { session, conversation, since_ms, part };
            out.insert(keys::queued(site, lane, ticket), Some(proto::codec::encode(&queued)));
            put_want(
                out,
                site,
                session,
                WantRow { conversation, need, ticket, since_ms, part, place: PlaceRow::Queued { lane } },
            );
        }
        let now_ms = rows::read::<HeaderRow>(rows, "header", keys::HEADER)?.map_or(0, |header| header.clock_ms);
        for (due_ms, agent, due) in desk.nobody_is_here(now_ms) {
            out.insert(keys::due(due_ms, site, SessionId(agent.0.into())), Some(proto::codec::encode(&due)));
        }
        let mut changes = Changes::new();
        desk.save(site, &mut changes);
        out.extend(changes);
        Ok(())
    }

    /// The agents of a shard have what the sessions say, and nobody has a socket yet.
    fn settle_agents(
        &self,
        shard: ShardId,
        rows: &dyn Rows,
        name: &dyn Fn(AgentId) -> Option<String>,
        out: &mut BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    ) -> Result<(), ApplyError> {
        let mut open: BTreeMap<AgentId, (SiteId, Vec<(SessionId, u64)>)> = BTreeMap::new();
        for (site, talk) in self.talks.iter().flat_map(|(site, talks)| talks.iter().map(move |talk| (*site, talk))) {
            if let Some(agent) = talk.agent.filter(|agent| Target::Agent(*agent).shard(self.shards) == shard) {
                open.entry(agent).or_insert((site, Vec::new())).1.push((talk.session, talk.number));
            }
        }
        let here = self.agents.iter().filter(|agent| Target::Agent(**agent).shard(self.shards) == shard);
        let all: BTreeSet<AgentId> = here.chain(open.keys()).copied().collect();
        for id in all {
            let (site, mut theirs) = open.remove(&id).unwrap_or_default();
            theirs.sort_unstable();
            let known = agent::load(rows, id)?;
            let row = known.clone().unwrap_or_else(|| agent::new(site, name(id).unwrap_or_else(|| id.to_string())));
            let version = row.version + u64::from(row.open != theirs || !row.offers.is_empty());
            let settled = AgentRow { online: false, version, open: theirs, offers: Vec::new(), ..row };
            if known.as_ref() != Some(&settled) {
                out.insert(keys::agent(id), Some(proto::codec::encode(&settled)));
            }
        }
        Ok(())
    }
}

/// Every kind of mail must be told by the rows of sessions and agents, or it would be lost here. A new kind stops the build.
fn is_told_by_rows(mail: &Mail) {
    match mail {
        // An open conversation without agent waits; one that is not open is nowhere on the desk.
        Mail::Want { .. } | Mail::Done { .. } => {}
        // Nobody has a socket when a cluster begins anew; agents say so when they come.
        Mail::AgentState { .. } => {}
        // A session that was not told yet still waits.
        Mail::Assign { .. } => {}
        // The agent's set is read off the sessions.
        Mail::Assigned { .. } | Mail::Unassigned { .. } => {}
        // Whose seat it takes is read off the session, too.
        Mail::Reassigned { .. } => {}
        // What was offered waits again.
        Mail::Offered { .. } | Mail::Withdrawn { .. } | Mail::Onward { .. } => {}
        // Whose it is, or that it waits, is read off the session.
        Mail::Returned { .. } | Mail::Requeued { .. } | Mail::Handed { .. } | Mail::Release { .. } => {}
        // Nobody has been seen yet when a cluster begins anew; who does not come is absent again.
        Mail::Absent { .. } => {}
        // The note is in its session; that the agent was to be told of it ends here, as it would with the oldest mentions.
        Mail::Mentioned { .. } => {}
        // The session that was merged says so; the other one hears of it no more, and what was open waits for the visitor's next message.
        Mail::Merged { .. } => {}
        // A count of what happened in another cluster's last moments: nobody is the worse for it.
        Mail::Prompted { .. } => {}
    }
}

fn put_want(out: &mut BTreeMap<Vec<u8>, Option<Vec<u8>>>, site: SiteId, session: SessionId, want: WantRow) {
    out.insert(keys::want(site, session), Some(proto::codec::encode(&want)));
}

/// Takes the key and the value of a row.
type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), ApplyError>;

/// Visits all rows of a kind; the first error ends it.
fn each(rows: &dyn Rows, prefix: &[u8], visit: Visit<'_>) -> Result<(), ApplyError> {
    let mut failed = None;
    rows.scan(prefix, None, false, &mut |key, value| {
        failed = visit(key, value).err();
        failed.is_none()
    })?;
    failed.map_or(Ok(()), Err)
}

/// Clock and state hash of a shard, from its header row; `None` for a row of another kind.
/// # Errors
/// `ApplyError` for a header that cannot be read.
pub fn read_header(key: &[u8], value: &[u8]) -> Result<Option<(u64, u64)>, ApplyError> {
    if key != keys::HEADER {
        return Ok(None);
    }
    let header: HeaderRow = rows::decode("header", value)?;
    Ok(Some((header.clock_ms, header.state_hash)))
}
