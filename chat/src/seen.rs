//! Owns commands that are for the conversation as their caller saw it. Does not close or assign itself.
//! Invariant: however late such a command comes, and however often, it never touches a later conversation or a later part of one.

use crate::apply::Shard;
use crate::history::HistoryRange;
use crate::limits::SEEN_LOOK_MAX;
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::Rows;
use proto::act::Act;
use proto::command::{EventBody, Party};
use proto::ids::{AgentId, SessionId, TeamId};

/// What became of a conversation.
enum Change {
    Closed,
    Assigned(AgentId),
    Queued,
    Snoozed,
}

/// So many of the events that a caller saw are looked at for whether a conversation was open.
const SEEN_BACK: u64 = 64;

/// What a caller cannot know who saw no more than that.
struct Since {
    /// Something has come since, and before it no conversation was open.
    none_was_open: bool,
    /// Oldest first.
    changes: Vec<Change>,
}

impl Shard {
    /// A repeated close whose conversation has ended is done, whatever has begun since, and so is one of a visitor who saw that none
    /// was open. An agent who was given the conversation after what it saw did not mean that part: the close was refused then, or
    /// would have been; any other agent is refused as ever.
    pub(crate) fn close_seen(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        by: Party,
        seen: u64,
        reason: String,
    ) -> Result<Reply, ApplyError> {
        let Since { none_was_open, changes } = self.since(rows, id, seen)?;
        if changes.iter().any(|change| matches!(change, Change::Closed)) {
            return Ok(Reply::Closed { seq: None });
        }
        if let Party::Agent(agent) = by
            && changes.iter().any(|change| matches!(change, Change::Assigned(to) if *to == agent))
        {
            return Ok(Reply::Rejected(Refusal::NotYours));
        }
        if none_was_open && !matches!(by, Party::Agent(_)) {
            return Ok(Reply::Closed { seq: None });
        }
        self.close(rows, id, by, reason)
    }

    /// A repeated move that was done is done, whatever came after it; one that comes after another change is refused.
    pub(crate) fn reassign_seen(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        agent: AgentId,
        seen: u64,
    ) -> Result<Reply, ApplyError> {
        let since = self.since(rows, id, seen)?;
        // If this move was done before, then it was the first change.
        match since.changes.first() {
            None if since.none_was_open => Ok(Reply::Rejected(Refusal::ConversationClosed)),
            None => self.reassign(rows, id, agent),
            Some(Change::Assigned(to)) if *to == agent => Ok(Reply::Done),
            Some(_) => Ok(Reply::Rejected(Refusal::Changed)),
        }
    }

    /// As a move: one that was done is done, and one that comes after another change is refused.
    pub(crate) fn release_seen(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        by: Party,
        seen: u64,
        team: Option<TeamId>,
    ) -> Result<Reply, ApplyError> {
        let since = self.since(rows, id, seen)?;
        match since.changes.first() {
            None if since.none_was_open => Ok(Reply::Rejected(Refusal::ConversationClosed)),
            None => self.release(rows, id, by, team),
            Some(Change::Queued) => Ok(Reply::Done),
            Some(_) => Ok(Reply::Rejected(Refusal::Changed)),
        }
    }

    /// What has come above `seen`; nothing when there is no such session.
    fn since(&self, rows: &dyn Rows, id: SessionId, seen: u64) -> Result<Since, ApplyError> {
        let ends = self.with_session(rows, id, |session| (session.log.head(), session.log.cold.last()))?;
        let (head, cold) = ends.unwrap_or((0, 0));
        if seen < cold {
            // What the archive has was over when it was moved there.
            return Ok(Since { none_was_open: false, changes: vec![Change::Closed] });
        }
        let from = seen.max(head.saturating_sub(SEEN_LOOK_MAX));
        if from >= head {
            return Ok(Since { none_was_open: false, changes: Vec::new() });
        }
        // With the last that were seen: after a close, and before all, none is open. Acts do not say; then it is looked further back.
        let near = self.looked_at(rows, id, (cold, from, head), SEEN_BACK)?;
        let (was_open, changes) = match near {
            (None, _) => self.looked_at(rows, id, (cold, from, head), SEEN_LOOK_MAX)?,
            known => known,
        };
        Ok(Since { none_was_open: was_open == Some(false), changes })
    }

    /// Whether a conversation was open after event `from`, if that many events up to it say so; and what has come since.
    fn looked_at(
        &self,
        rows: &dyn Rows,
        id: SessionId,
        (cold, from, head): (u64, u64, u64),
        back: u64,
    ) -> Result<(Option<bool>, Vec<Change>), ApplyError> {
        let after = from.saturating_sub(back).max(cold);
        let limit = usize::try_from(head - after).expect("SEEN_LOOK_MAX is small");
        let page = self.history(rows, id, HistoryRange::After(after), limit, usize::MAX)?;
        let mut was_open = (after == cold).then_some(false);
        let mut changes = Vec::new();
        for event in page.into_iter().flat_map(|page| page.events) {
            if event.seq <= from {
                was_open = is_open_after(&event.body).or(was_open);
                continue;
            }
            match event.body {
                EventBody::Closed { .. } => changes.push(Change::Closed),
                EventBody::Assigned { agent, .. } => changes.push(Change::Assigned(agent)),
                EventBody::Queued { .. } => changes.push(Change::Queued),
                EventBody::Act { act: Act::Snooze { .. }, .. } => changes.push(Change::Snoozed),
                EventBody::Act { .. } | EventBody::Message { .. } | EventBody::Gone | EventBody::Erased { .. } => {}
            }
        }
        Ok((was_open, changes))
    }
}

/// Whether an event leaves a conversation open; `None`: it does not say.
fn is_open_after(body: &EventBody) -> Option<bool> {
    match body {
        EventBody::Closed { .. } => Some(false),
        EventBody::Message { from: Party::System, .. } => None,
        EventBody::Message { .. } | EventBody::Assigned { .. } | EventBody::Queued { .. } => Some(true),
        EventBody::Act { act: Act::Reopen { .. } | Act::Snooze { .. }, .. } => Some(true),
        EventBody::Act { .. } | EventBody::Gone | EventBody::Erased { .. } => None,
    }
}
