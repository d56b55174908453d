//! Owns looking through the sessions of a shard. Does not change or cache anything. Invariant: a page looks at a bounded number of
//! sessions, and what is in memory counts before its row.

use crate::apply::Shard;
use crate::keys;
use crate::outcome::ApplyError;
use crate::rows::{self, OpenRow, Rows, SessionRow};
use crate::session::Session;
use proto::ids::{AgentId, SessionId, SiteId, VisitorId};
use proto::search::Standing;
use std::collections::BTreeMap;

/// What an operator sees of one session in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionBrief {
    pub session: SessionId,
    pub site: SiteId,
    pub visitor: VisitorId,
    pub head: u64,
    pub standing: Standing,
    /// Whose it is, or was last.
    pub agent: Option<AgentId>,
}

impl SessionBrief {
    /// A conversation is open.
    pub fn is_open(&self) -> bool {
        self.standing != Standing::Closed
    }
}

pub(crate) fn standing(open: Option<OpenRow>) -> Standing {
    match open {
        Some(open) if open.agent.is_some() => Standing::Open,
        Some(open) if open.snoozed.is_some() => Standing::Snoozed,
        Some(_) => Standing::Waiting,
        None => Standing::Closed,
    }
}

/// Sessions in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionsPage {
    pub sessions: Vec<SessionBrief>,
    /// Go on after this one; `None`: there are no more.
    pub next: Option<SessionId>,
}

impl Shard {
    /// Looks at up to `scan_max` sessions with an id above `after` and returns those that `wanted` says yes to.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn find_sessions(
        &self,
        rows: &dyn Rows,
        after: Option<SessionId>,
        scan_max: usize,
        wanted: impl Fn(&SessionBrief) -> bool,
    ) -> Result<SessionsPage, ApplyError> {
        let Some(from) = after.map_or(Some(0), |after| after.0.checked_add(1)).map(SessionId) else {
            return Ok(SessionsPage { sessions: Vec::new(), next: None });
        };
        let mut found: BTreeMap<SessionId, SessionBrief> = BTreeMap::new();
        let mut broken = None;
        let mut is_cut = false;
        rows.scan(keys::SESSIONS, Some(&keys::session(from)), false, &mut |key, value| {
            if found.len() >= scan_max {
                is_cut = true;
                return false;
            }
            match (keys::last_session(key), Session::facts(value)) {
                (Some(id), Ok(row)) => drop(found.insert(id, of_row(id, &row))),
                (_, Err(error)) => broken = Some(error),
                (None, Ok(_)) => broken = Some(rows::corrupt("session", "its key is too short")),
            }
            broken.is_none()
        })?;
        if let Some(error) = broken {
            return Err(error);
        }
        let last = found.keys().next_back().copied().filter(|_| is_cut);
        // What is in memory is newer than its row, or has none yet.
        let in_memory = self.sessions.range(from).take_while(|(id, _)| last.is_none_or(|last| **id <= last));
        // One more than a page holds shows that there are more.
        for (id, session) in in_memory.take(scan_max.saturating_add(1)) {
            let brief = SessionBrief {
                session: *id,
                site: session.site,
                visitor: session.visitor,
                head: session.log.head(),
                standing: standing(session.open),
                agent: session.open.map_or(session.last_agent, |open| open.agent),
            };
            found.insert(*id, brief);
        }
        let is_cut = is_cut || found.len() > scan_max;
        let sessions: Vec<SessionBrief> = found.into_values().take(scan_max).collect();
        let next = sessions.last().map(|brief| brief.session).filter(|_| is_cut);
        Ok(SessionsPage { sessions: sessions.into_iter().filter(|brief| wanted(brief)).collect(), next })
    }
}

fn of_row(id: SessionId, row: &SessionRow) -> SessionBrief {
    SessionBrief {
        session: id,
        site: row.site,
        visitor: row.visitor,
        head: row.head,
        standing: standing(row.open),
        agent: row.open.map_or(row.last_agent, |open| open.agent),
    }
}
