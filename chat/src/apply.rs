//! Owns the state of one data shard and the one way to change it. Does not write rows (see `checkpoint.rs`).
//! Invariant: an outcome depends on the commands before it and on nothing else.

use crate::agent::Agent;
use crate::attachment::Attachments;
use crate::audit::Entries;
use crate::cache::Table;
use crate::desk::{Desk, Wants, lane::Queue};
use crate::due::Dues;
use crate::email::Emails;
use crate::feed::Feed;
use crate::journal::{Journal, Note};
use crate::keys;
use crate::limits::{DUE_PER_COMMAND_MAX, SWEEPS_PER_COMMAND_MAX, UNSENT_PER_COMMAND_MAX};
use crate::message::{Said, Sender};
use crate::objects::Objects;
use crate::outbox::Outbox;
use crate::outcome::{ApplyError, Effect, Outcome, Refusal, Reply};
use crate::rollup::{Rollups, Tallies};
use crate::rows::{self, ChainRow, DueRow, HeaderRow, ItemRow, Rows, ShelfRow, StintRow, VersionRow, WebhookRow};
use crate::session::Session;
use crate::shelf::ItemKey;
use proto::command::{Command, Event, Mail, Target};
use proto::ids::{AgentId, AttachmentId, SessionId, ShardId, SiteId, WebhookId};
use proto::mutants::Mutant;
use proto::report::hour_of;
use proto::shelf::ItemKind;
use proto::version::Versions;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The version of a shard that has not been told of another.
pub(crate) const VERSION_FIRST: u16 = 1;

/// The state of one data shard: cached objects over rows.
pub struct Shard {
    pub(crate) me: ShardId,
    pub(crate) sessions: Table<SessionId, Session>,
    pub(crate) agents: Table<AgentId, Agent>,
    pub(crate) desks: Table<SiteId, Desk>,
    /// What a desk knows of a session's conversation.
    pub(crate) wants: Wants,
    /// Waiting conversations by lane and ticket.
    pub(crate) queue: Queue,
    /// What desks do at a time.
    pub(crate) dues: Dues,
    /// How far each webhook has got; `None`: it is no more.
    pub(crate) webhooks: Table<WebhookId, Option<WebhookRow>>,
    /// What sites keep for their people; `None`: it was taken off.
    pub(crate) items: Table<ItemKey, Option<ItemRow>>,
    pub(crate) shelves: Table<(SiteId, ItemKind), ShelfRow>,
    /// Where audit chains stand, and their newest entries.
    pub(crate) chains: Table<SiteId, ChainRow>,
    pub(crate) audits: Entries,
    /// Files that go with messages.
    pub(crate) attachments: Attachments,
    /// What reports are made of, and what agents are doing since when; `None`: nothing.
    pub(crate) rollups: Rollups,
    pub(crate) stints: Table<AgentId, Option<StintRow>>,
    /// Objects of the archive that nothing names; `None`: it is no more, or a range names it.
    pub(crate) objects: Objects,
    pub(crate) emails: Emails,
    /// The last mail applied of each shard.
    pub(crate) inbox: BTreeMap<ShardId, u64>,
    pub(crate) work: Work,
    /// A checkpoint is under way.
    pub(crate) writing: bool,
}

/// What every command needs, beside the objects that it changes.
pub(crate) struct Work {
    shards: u32,
    pub clock_ms: u64,
    /// In force here: what apply may write.
    pub version: u16,
    /// Counts commands; the age of cached objects.
    pub tick: u64,
    pub journal: Journal,
    pub outbox: Outbox,
    pub feed: Feed,
    /// What this command counts.
    pub tallies: Tallies,
    /// From this hour on there were no roll-ups before this command.
    pub fresh_hour: u32,
    effects: Vec<Effect>,
}

impl Work {
    /// Posts a mail through the outbox, also to an actor of this shard: one way for all.
    pub(crate) fn mail(&mut self, mail: Mail) {
        let to = mail.target().shard(self.shards);
        let seq = self.outbox.push(to, mail.clone());
        self.journal.note_mail(to, seq, &mail);
        let effect = Effect::Outbox { to };
        if !self.effects.contains(&effect) {
            self.effects.push(effect);
        }
    }

    fn note_refusal(&mut self, reply: &Reply) {
        if let Reply::Rejected(refusal) = reply {
            let (code, detail) = refusal.code();
            self.journal.note(Note::Refused, &[u64::from(code), detail]);
        }
    }

    pub(crate) fn event(&mut self, site: SiteId, session: SessionId, event: Arc<Event>) {
        self.journal.note_event(session, &event);
        self.feed.push(site, session, event.seq);
        self.effect(Effect::Event { session, event });
    }

    /// A shard's part of what there may be of something in all.
    pub(crate) fn share(&self, all: u64) -> u64 {
        all.div_ceil(u64::from(self.shards.max(1)))
    }

    /// Most commands have one effect: no room for more is taken before it is needed.
    pub(crate) fn effect(&mut self, effect: Effect) {
        if self.effects.is_empty() {
            self.effects.reserve_exact(1);
        }
        self.effects.push(effect);
    }
}

impl Shard {
    /// The shard as of its last checkpoint; only the header row is read. No header: a new shard.
    /// # Errors
    /// `ApplyError` when the header cannot be read.
    pub fn open(me: ShardId, shards: u32, rows: &dyn Rows) -> Result<Shard, ApplyError> {
        let header: HeaderRow = rows::read(rows, "header", keys::HEADER)?.unwrap_or_default();
        header.inbox.iter().try_for_each(|(_, seen)| rows::counted("header", &[*seen]))?;
        let version =
            rows::read::<VersionRow>(rows, "version", keys::VERSION)?.map_or(VERSION_FIRST, |row| row.version);
        check_version(version)?;
        Ok(Shard {
            me,
            sessions: Table::new(),
            agents: Table::new(),
            desks: Table::new(),
            wants: Table::new(),
            queue: Table::new(),
            dues: Dues::new(),
            webhooks: Table::new(),
            items: Table::new(),
            shelves: Table::new(),
            chains: Table::new(),
            audits: Table::new(),
            attachments: Attachments::new(),
            rollups: Table::new(),
            stints: Table::new(),
            objects: Table::new(),
            emails: Emails::new(),
            inbox: header.inbox.iter().copied().collect(),
            work: Work {
                shards,
                clock_ms: header.clock_ms,
                version,
                tick: 0,
                journal: Journal::new(header.state_hash),
                outbox: Outbox::load(&header.outbox)?,
                feed: Feed::load(rows, header.feed)?,
                tallies: Tallies::default(),
                fresh_hour: 0,
                effects: Vec::new(),
            },
            writing: false,
        })
    }

    /// Applies one committed command. `now_ms`: the leader's clock out of the log.
    /// # Errors
    /// `ApplyError` when this replica cannot apply: it must stop, the state is no longer to be used. A command that is
    /// merely not allowed is answered with `Reply::Rejected`.
    pub fn apply(&mut self, rows: &dyn Rows, now_ms: u64, command: Command) -> Result<Outcome, ApplyError> {
        self.check_target(&command)?;
        self.work.fresh_hour = hour_of(self.work.clock_ms).saturating_add(1);
        self.work.clock_ms = self.work.clock_ms.max(now_ms);
        self.work.tick += 1;
        self.work.journal.begin(self.work.clock_ms);
        let reply = match command {
            Command::Send { session, from, device, n, cid, text, reply_to, attachments } => {
                let sender = Sender { from, site: None, device, n, cid };
                self.send(rows, session, sender, Said::Message { text, reply_to, attachments })?
            }
            Command::Act { session, site, from, device, n, cid, act } => {
                self.send(rows, session, Sender { from, site, device, n, cid }, Said::Act(act))?
            }
            Command::Bar { session, from, device, n, cid } => {
                self.send(rows, session, Sender { from, site: None, device, n, cid }, Said::Barred)?
            }
            Command::Cursor { session, party, received, read } => self.cursor(rows, session, party, received, read)?,
            Command::OpenSession { session, site, visitor, token } => {
                self.open_session(rows, session, site, visitor, token)?
            }
            Command::Close { session, by } => self.close(rows, session, by, String::new())?,
            Command::Reassign { session, agent } => self.reassign(rows, session, agent)?,
            Command::CloseSeen { session, by, seen, reason } => self.close_seen(rows, session, by, seen, reason)?,
            Command::ReassignSeen { session, agent, seen } => self.reassign_seen(rows, session, agent, seen)?,
            Command::AgentLogin { agent, site, name, token } => self.agent_login(rows, agent, site, name, token)?,
            Command::AgentPresence { agent, online } => self.agent_presence(rows, agent, online)?,
            Command::Inbox { from, seq, message } => self.receive(rows, from, seq, message)?,
            Command::OutboxAcked { to, upto } => self.outbox_acked(to, upto),
            Command::SetShardVersion { version } => self.set_version(version)?,
            Command::PutTeam { site, team, rules } => self.desk_put_team(rows, site, team, rules)?,
            Command::PutSeat { site, agent, rules } => self.desk_put_seat(rows, site, agent, rules)?,
            Command::PutSite { site, rules } => self.desk_put_site(rows, site, rules)?,
            Command::Accept { site, agent, session, offer } => self.desk_accept(rows, site, agent, session, offer)?,
            Command::Decline { site, agent, session, offer } => self.desk_decline(rows, site, agent, session, offer)?,
            Command::Take { site, agent, session, conversation } => {
                self.desk_take(rows, site, agent, session, conversation)?
            }
            Command::AgentState { agent, state } => self.agent_state(rows, agent, state)?,
            Command::Tick => self.do_what_is_due(rows)?,
            Command::About { session, about } => self.about(rows, session, about)?,
            Command::Release { session, by, seen, team } => self.release_seen(rows, session, by, seen, team)?,
            Command::Hand { site, agent, session, conversation, part, to } => {
                self.desk_hand(rows, site, agent, session, (conversation, part), to)?
            }
            Command::Hours { site, closed } => self.desk_hours(rows, site, closed)?,
            Command::Shelve { site, kind, name, text } => self.shelve(rows, site, kind, name, text)?,
            Command::Audit { site, act } => self.audit_act(rows, site, *act)?,
            Command::AttachmentChunk { session, attachment, by, variant, number, bytes } => {
                self.attachment_chunk(rows, (session, attachment), by, (variant, number), bytes.0)?
            }
            Command::AttachmentDone { session, by, attachment, source, sha256 } => {
                self.attachment_done(rows, session, by, attachment, (source, sha256))?
            }
            Command::Webhook { webhook, change } => self.webhook_change(rows, webhook, change)?,
            Command::Dismiss { agent, session, seq } => self.agent_dismisses(rows, agent, session, seq)?,
            Command::Identify { session, site, visitor, token, proof, until_ms } => {
                self.identify(rows, session, (site, visitor, token), proof, until_ms)?
            }
            Command::Logout { session, token } => self.logout(rows, session, token)?,
            Command::Merge { session, token, into } => self.merge(rows, session, token, into)?,
            Command::Prompt { session, site, prompt } => self.prompt(rows, session, site, *prompt)?,
            Command::Block { session, until_ms } => self.block(rows, session, until_ms)?,
            Command::Erase { session, upto, forget } => self.erase(rows, session, upto, forget)?,
            Command::Archive { session, change } => self.archive(rows, session, *change)?,
            Command::Email { change } => self.email_change(rows, change)?,
            #[cfg(feature = "next")]
            Command::Tally { session } => self.tally(rows, session)?,
        };
        self.roll_up(rows)?;
        self.work.note_refusal(&reply);
        self.work.journal.end();
        Ok(Outcome { reply, effects: std::mem::take(&mut self.work.effects) })
    }

    /// That version is in force from here on, if it is newer.
    fn set_version(&mut self, version: u16) -> Result<Reply, ApplyError> {
        check_version(version)?;
        self.work.version = self.work.version.max(version);
        self.work.journal.note(Note::Version, &[u64::from(self.work.version)]);
        Ok(Reply::Done)
    }

    /// Those mails have arrived.
    fn outbox_acked(&mut self, to: ShardId, upto: u64) -> Reply {
        let acked = self.work.outbox.acked(to, upto);
        self.work.journal.note(Note::Acked, &[u64::from(to.0), acked]);
        Reply::Done
    }

    /// The version in force for this shard.
    pub fn version(&self) -> u16 {
        self.work.version
    }

    /// Whether apply would read no row. A hint for the caller that must not block; apply is right either way.
    pub fn is_warm(&self, command: &Command) -> bool {
        self.is_known(command) && self.is_count_warm(command)
    }

    /// The same of everything but roll-ups.
    fn is_known(&self, command: &Command) -> bool {
        match command {
            Command::Send { session, .. } | Command::Act { session, .. } | Command::Bar { session, .. } => self
                .sessions
                .peek(session)
                .is_some_and(|known| known.is_warm(command) && self.attachments.is_warm(*session, named_by(command))),
            Command::OpenSession { session, .. }
            | Command::Block { session, .. }
            | Command::Identify { session, .. }
            | Command::Logout { session, .. }
            | Command::Cursor { session, .. }
            | Command::Close { session, .. }
            | Command::Reassign { session, .. }
            | Command::About { session, .. } => self.sessions.peek(session).is_some(),
            // Most look at no event, or at those in memory.
            Command::CloseSeen { session, seen, .. }
            | Command::ReassignSeen { session, seen, .. }
            | Command::Release { session, seen, .. } => {
                self.sessions.peek(session).is_some_and(|session| session.log.head() <= *seen)
            }
            Command::AgentLogin { agent, .. }
            | Command::AgentPresence { agent, .. }
            | Command::AgentState { agent, .. }
            | Command::Dismiss { agent, .. } => self.agents.peek(agent).is_some(),
            Command::PutTeam { site, .. }
            | Command::PutSeat { site, .. }
            | Command::PutSite { site, .. }
            | Command::Hours { site, .. } => self.is_desk_warm(*site),
            Command::Accept { site, session, .. }
            | Command::Decline { site, session, .. }
            | Command::Take { site, session, .. }
            | Command::Hand { site, session, .. } => {
                self.wants.peek(&(*site, *session)).is_some() && self.is_desk_warm(*site)
            }
            Command::Webhook { webhook, .. } => self.webhooks.peek(webhook).is_some(),
            // Rare.
            Command::Shelve { .. }
            | Command::Erase { .. }
            | Command::Archive { .. }
            | Command::Audit { .. }
            | Command::Email { .. }
            | Command::Merge { .. }
            | Command::Prompt { .. } => false,
            // The first piece looks for what is not there.
            Command::AttachmentChunk { .. } => false,
            Command::AttachmentDone { session, attachment, .. } => {
                self.attachments.is_warm(*session, std::slice::from_ref(&attachment.id))
            }
            // What is due names sessions whose wants may be cold.
            Command::Tick => false,
            Command::OutboxAcked { .. } | Command::SetShardVersion { .. } => true,
            #[cfg(feature = "next")]
            Command::Tally { session } => self.sessions.peek(session).is_some(),
            Command::Inbox { from, seq, message } => *seq != self.inbox_seen(*from) + 1 || self.is_mail_known(message),
        }
    }

    fn is_mail_known(&self, mail: &Mail) -> bool {
        match mail {
            Mail::Assign { session, .. } | Mail::Handed { session, .. } | Mail::Release { session, .. } => {
                self.sessions.peek(session).is_some()
            }
            Mail::Assigned { agent, .. }
            | Mail::Unassigned { agent, .. }
            | Mail::Offered { agent, .. }
            | Mail::Withdrawn { agent, .. }
            | Mail::Absent { agent }
            | Mail::Mentioned { agent, .. } => self.agents.peek(agent).is_some(),
            Mail::Want { site, session, .. }
            | Mail::Done { site, session, .. }
            | Mail::Reassigned { site, session, .. }
            | Mail::Returned { site, session, .. }
            | Mail::Requeued { site, session, .. } => {
                self.wants.peek(&(*site, *session)).is_some() && self.is_desk_warm(*site)
            }
            Mail::AgentState { site, agent, .. } => self.is_desk_warm(*site) && self.offers_nothing(*site, *agent),
            Mail::Onward { site, .. } => self.is_desk_warm(*site),
            // Rare.
            Mail::Prompted { .. } | Mail::Merged { .. } => false,
        }
    }

    fn check_target(&self, command: &Command) -> Result<(), ApplyError> {
        let target = command.target().map_or(self.me, |target: Target| target.shard(self.work.shards));
        if target == self.me { Ok(()) } else { Err(ApplyError::Misrouted { here: self.me, target }) }
    }

    /// Does what is due by the time of the log, up to a limit.
    fn do_what_is_due(&mut self, rows: &dyn Rows) -> Result<Reply, ApplyError> {
        let mut unsent = 0;
        for _ in 0..DUE_PER_COMMAND_MAX {
            if unsent >= UNSENT_PER_COMMAND_MAX {
                break;
            }
            let Some((due, what)) = self.dues.pop(rows, self.work.clock_ms, self.work.tick)? else { break };
            self.work.journal.note_session(Note::Due, due.session, &[due.due_ms, u64::from(due.site.0)]);
            match what {
                DueRow::Wake { conversation, part } => self.wake_due(rows, due.session, conversation, part)?,
                DueRow::Unsent { session } => {
                    unsent += 1;
                    let tables = (&mut self.dues, &mut self.objects);
                    self.attachments.unsent_due(rows, &mut self.work, tables, due, session)?;
                }
                DueRow::Sweep => {
                    unsent += UNSENT_PER_COMMAND_MAX / SWEEPS_PER_COMMAND_MAX;
                    self.sweep(rows, due.site)?;
                }
                DueRow::Stint => self.stint_due(rows, due)?,
                DueRow::Missed { .. } | DueRow::Again | DueRow::Absent { .. } => self.desk_due(rows, due, what)?,
            }
        }
        Ok(Reply::Done)
    }

    /// When something is due, milliseconds since 1970: propose a `Tick` then. 0 when nobody has looked yet.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.dues.next_ms()
    }

    /// A mail of another actor: each once, in the order of its shard's outbox.
    fn receive(&mut self, rows: &dyn Rows, from: ShardId, seq: u64, mail: Mail) -> Result<Reply, ApplyError> {
        let seen = self.inbox.entry(from).or_insert(0);
        if seq <= *seen && !Mutant::OutboxTwice.is_on() {
            return Ok(Reply::Done);
        }
        if seq > *seen + 1 {
            return Ok(Reply::Rejected(Refusal::InboxGap { expected: *seen + 1 }));
        }
        *seen = seq.max(*seen);
        self.work.journal.note(Note::Inbox, &[u64::from(from.0), seq]);
        match mail {
            Mail::Want { site, session, conversation, ask } => {
                self.desk_want(rows, site, session, conversation, &ask)?;
            }
            Mail::Done { site, session, conversation, agent } => {
                self.desk_done(rows, site, session, conversation, agent)?;
            }
            Mail::Reassigned { site, session, conversation, part, agent } => {
                self.desk_reassigned(rows, site, session, (conversation, part), agent)?;
            }
            Mail::AgentState { site, agent, state } => self.desk_agent_state(rows, site, agent, state)?,
            Mail::Onward { site, urgency, lane } => self.desk_onward(rows, site, urgency, lane)?,
            Mail::Offered { agent, session, offer, until_ms } => {
                self.agent_offered(rows, agent, session, offer, until_ms)?;
            }
            Mail::Withdrawn { agent, session, offer, missed } => {
                self.agent_withdrawn(rows, agent, session, offer, missed)?;
            }
            Mail::Returned { site, session, turn } => self.desk_returned(rows, site, session, turn)?,
            Mail::Requeued { site, session, conversation, part, ask } => {
                self.desk_requeued(rows, site, session, (conversation, part), &ask)?;
            }
            Mail::Prompted { site, trigger, answered } => self.count_prompt(rows, site, trigger, answered)?,
            Mail::Absent { agent } => self.agent_absent(rows, agent)?,
            Mail::Release { session, conversation, agent } => {
                self.release_absent(rows, session, conversation, agent)?;
            }
            Mail::Handed { session, conversation, part, from, agent, turn } => {
                self.assign(rows, session, (conversation, part), Some(from), (agent, turn, None))?;
            }
            Mail::Assign { session, conversation, part, agent, turn, team } => {
                self.assign(rows, session, (conversation, part), None, (agent, turn, Some(team)))?;
            }
            Mail::Mentioned { agent, site, session, seq } => {
                self.agent_mentioned(rows, agent, site, session, seq)?;
            }
            Mail::Merged { session, from, site, upto, carried } => {
                self.merged(rows, session, (from, site, upto), *carried)?;
            }
            Mail::Assigned { agent, session, conversation } => {
                self.agent_assigned(rows, agent, session, conversation, true)?;
            }
            Mail::Unassigned { agent, session, conversation } => {
                self.agent_assigned(rows, agent, session, conversation, false)?;
            }
        }
        Ok(Reply::Done)
    }
}

/// The attachments that a message names.
fn named_by(command: &Command) -> &[AttachmentId] {
    if let Command::Send { attachments, .. } = command { attachments } else { &[] }
}

/// A replica whose build does not speak the version in force stops: it must not skip what it cannot read.
fn check_version(version: u16) -> Result<(), ApplyError> {
    if version <= Versions::MINE.max { Ok(()) } else { Err(ApplyError::Version { version, speaks: Versions::MINE }) }
}
