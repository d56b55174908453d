//! Owns commands that are for the conversation as their caller saw it. Does not close or assign itself.
//! Invariant: however late such a command comes, and however often, it never touches a later conversation or a later part of one.

use crate::apply::Shard;
use crate::history::HistoryRange;
use crate::limits::SEEN_LOOK_MAX;
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::Rows;
use proto::command::{EventBody, Party};
use proto::ids::{AgentId, SessionId};

/// What became of a conversation.
enum Change {
    Closed,
    Assigned(AgentId),
}

impl Shard {
    /// A repeated close whose conversation has ended is done, whatever has begun since. An agent who was given the conversation after
    /// what it saw did not mean that part: the close was refused then, or would have been.
    pub(crate) fn close_seen(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        by: Party,
        seen: u64,
    ) -> Result<Reply, ApplyError> {
        let changes = self.changes_after(rows, id, seen)?;
        if changes.iter().any(|change| matches!(change, Change::Closed)) {
            return Ok(Reply::Closed { seq: None });
        }
        if let Party::Agent(agent) = by
            && changes.iter().any(|change| matches!(change, Change::Assigned(to) if *to == agent))
        {
            return Ok(Reply::Rejected(Refusal::NotYours));
        }
        self.close(rows, id, by)
    }

    /// A repeated move that was done is done, whatever came after it; one that comes after another change is refused.
    pub(crate) fn reassign_seen(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        agent: AgentId,
        seen: u64,
    ) -> Result<Reply, ApplyError> {
        // If this move was done before, then it was the first change.
        match self.changes_after(rows, id, seen)?.first() {
            None => self.reassign(rows, id, agent),
            Some(Change::Assigned(to)) if *to == agent => Ok(Reply::Done),
            Some(_) => Ok(Reply::Rejected(Refusal::Changed)),
        }
    }

    /// The changes among the events above `seen`, oldest first; none when there is no such session.
    fn changes_after(&self, rows: &dyn Rows, id: SessionId, seen: u64) -> Result<Vec<Change>, ApplyError> {
        let head = self.with_session(rows, id, |session| session.log.head())?.unwrap_or(0);
        let after = seen.max(head.saturating_sub(SEEN_LOOK_MAX));
        if after >= head {
            return Ok(Vec::new());
        }
        let limit = usize::try_from(head - after).expect("SEEN_LOOK_MAX is small");
        let page = self.history(rows, id, HistoryRange::After(after), limit, usize::MAX)?;
        let changes = page.into_iter().flat_map(|page| page.events).filter_map(|event| match event.body {
            EventBody::Closed { .. } => Some(Change::Closed),
            EventBody::Assigned { agent, .. } => Some(Change::Assigned(agent)),
            EventBody::Message { .. } => None,
        });
        Ok(changes.collect())
    }
}
