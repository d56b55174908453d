//! Owns conversations that leave the desk for a while, and those that come back to it: snoozed, woken, reopened. Does not choose who
//! gets them: the desk does, and whoever had it comes first. Invariant: a snoozed conversation is with nobody and on no desk, and
//! something brings it back: its time, its visitor, or whoever takes it.

use crate::apply::{Shard, Work};
use crate::due::{Due, Dues};
use crate::outcome::ApplyError;
use crate::rows::{DueRow, OpenRow, Rows, SnoozeRow};
use crate::session::{self, Session};
use proto::command::{EventBody, Mail, Party};
use proto::desk::Ask;
use proto::ids::{AgentId, SessionId, SiteId};

/// No site has this number: what a desk does about the session at the same time, if both live in one shard, is another row.
pub(crate) const NO_SITE: SiteId = SiteId(0);

fn wake_at(due_ms: u64, session: SessionId) -> Due {
    Due { due_ms, site: NO_SITE, session }
}

impl Session {
    /// The agent lays the open conversation aside.
    pub(crate) fn snooze(&mut self, id: SessionId, work: &mut Work, dues: &mut Dues, until_ms: u64) {
        let Some((open, agent)) = self.open.and_then(|open| Some((open, open.agent?))) else { return };
        let (conversation, part) = (open.number, open.part + 1);
        let snoozed = Some(SnoozeRow { agent, until_ms });
        self.open = Some(OpenRow { agent: None, part, snoozed, ..open });
        dues.put(wake_at(until_ms, id), work.tick, DueRow::Wake { conversation, part });
        // For the desk it is over.
        work.mail(Mail::Done { site: self.site, session: id, conversation, agent: Some(agent) });
        work.mail(Mail::Unassigned { agent, session: id, conversation });
    }

    /// A snoozed conversation is that no longer; whose it was. What becomes of it is the caller's.
    pub(crate) fn unsnooze(&mut self, id: SessionId, work: &Work, dues: &mut Dues) -> Option<AgentId> {
        let snoozed = self.open.as_mut()?.snoozed.take()?;
        dues.remove(wake_at(snoozed.until_ms, id), work.tick);
        Some(snoozed.agent)
    }

    /// A snoozed conversation waits again, first for whoever laid it aside.
    pub(crate) fn wake(&mut self, id: SessionId, work: &mut Work, dues: &mut Dues) {
        let Some(agent) = self.unsnooze(id, work, dues) else { return };
        let Some(open) = self.open else { return };
        let (conversation, by) = (open.number, Party::System);
        let event = self.log.append(work.clock_ms, EventBody::Queued { by, conversation });
        let first_seq = event.seq;
        self.count_waits(work);
        work.event(self.site, id, event);
        self.wait_again(id, work, OpenRow { first_seq, part: open.part + 1, ..open }, agent);
    }

    /// The last conversation is open again, by the event at `first_seq`.
    pub(crate) fn reopen(&mut self, id: SessionId, work: &mut Work, (number, first_seq): (u64, u64), agent: AgentId) {
        let part = self.last_part + 1;
        self.count_reopened(work, agent);
        self.wait_again(
            id,
            work,
            OpenRow { number, first_seq, agent: None, waits_again: true, part, snoozed: None, team: None },
            agent,
        );
    }

    /// What the desk is asked for a conversation that it had before.
    pub(crate) fn ask_again(&self, open: &OpenRow) -> Ask {
        Ask { team: open.team.or(self.about.team), ..self.ask(None) }
    }

    fn wait_again(&mut self, id: SessionId, work: &mut Work, open: OpenRow, back: AgentId) {
        let OpenRow { number: conversation, part, .. } = open;
        self.open = Some(OpenRow { agent: None, waits_again: true, ..open });
        let ask = Box::new(Ask { back: Some(back), ..self.ask_again(&open) });
        work.mail(Mail::Requeued { site: self.site, session: id, conversation, part, ask });
    }
}

impl Shard {
    /// The time of a snoozed conversation has come, unless something else came before.
    pub(crate) fn wake_due(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        conversation: u64,
        part: u64,
    ) -> Result<(), ApplyError> {
        let work = &mut self.work;
        let Some(mut session) = session::hold(&mut self.sessions, rows, id, work.tick)? else { return Ok(()) };
        let is_it = |open: &OpenRow| (open.number, open.part) == (conversation, part) && open.snoozed.is_some();
        if session.open.is_some_and(|open| is_it(&open)) {
            session.change().wake(id, work, &mut self.dues);
        }
        Ok(())
    }

    /// The agent who has the conversation has been away for too long.
    pub(crate) fn release_absent(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        conversation: u64,
        agent: AgentId,
    ) -> Result<(), ApplyError> {
        let has_it = |session: &Session| {
            session.open.is_some_and(|open| (open.number, open.agent) == (conversation, Some(agent)))
        };
        if self.with_session(rows, id, has_it)? == Some(true) {
            self.release(rows, id, Party::System, None)?;
        }
        Ok(())
    }
}
