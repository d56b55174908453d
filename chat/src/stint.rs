//! Owns counting agents' time: with a socket, taking conversations or not, and how many they have. Does not rule who is there: the agent's row
//! does. Invariant: every millisecond is counted once, in the hour in which it passed; no command counts more than `STINT_MS_MAX`.

use crate::apply::Shard;
use crate::cache::Weight;
use crate::due::Due;
use crate::keys;
use crate::limits::STINT_MS_MAX;
use crate::outcome::ApplyError;
use crate::rollup::{RollupKey, Scope};
use crate::rows::{self, DueRow, Rows, StintRow};
use proto::desk::SeatState;
use proto::ids::{AgentId, SessionId, SiteId};
use proto::report::{Figures, ReportKind, hour_ms, hour_of};

impl Weight for StintRow {
    fn bytes(&self) -> usize {
        size_of::<StintRow>()
    }
}

/// What is due about an agent's stint stands in the place of a session that nobody has: an agent's absence has the number alone.
fn due_of(agent: AgentId, site: SiteId, due_ms: u64) -> Due {
    Due { due_ms, site, session: SessionId(1 << 127 | u128::from(agent.0)) }
}

/// The agent of a stint's due.
pub(crate) fn agent_of(due: Due) -> AgentId {
    AgentId(due.session.0 as u64)
}

impl StintRow {
    /// The hours of the stint up to then, and how much of each.
    pub(crate) fn hours(self, now_ms: u64) -> impl Iterator<Item = (u32, u64)> {
        let (from, to) = (self.since_ms, now_ms.min(self.since_ms.saturating_add(2 * STINT_MS_MAX)));
        let hours = hour_of(from)..=hour_of(to);
        hours.filter(move |_| from < to).filter_map(move |hour| {
            let (begins, ends) = (hour_ms(hour).max(from), hour_ms(hour.saturating_add(1)).min(to));
            (begins < ends).then(|| (hour, ends - begins))
        })
    }

    /// Adds a part of it that took so long.
    pub(crate) fn count(self, ms: u64, to: &mut Figures, kind: ReportKind) {
        match self.state {
            SeatState::Online => to.online_ms += ms,
            SeatState::Busy => to.busy_ms += ms,
            SeatState::Away => to.away_ms += ms,
            SeatState::Offline => {}
        }
        to.held_ms += self.held * ms;
        if kind == ReportKind::Agent {
            to.held_max = to.held_max.max(self.held);
        }
    }
}

pub(crate) fn load(rows: &dyn Rows, agent: AgentId) -> Result<Option<StintRow>, ApplyError> {
    let row: Option<StintRow> = rows::read(rows, "stint", &keys::stint(agent))?;
    row.iter().try_for_each(check)?;
    Ok(row)
}

pub(crate) fn check(row: &StintRow) -> Result<(), ApplyError> {
    // Held conversations are multiplied by time.
    let is_sound = row.held <= u64::from(u32::MAX);
    rows::counted("stint", &[row.since_ms, row.due_ms, if is_sound { 0 } else { u64::MAX }])
}

impl Shard {
    /// What the agent does has changed: counts what came before.
    pub(crate) fn agent_does(&mut self, rows: &dyn Rows, agent: AgentId) -> Result<(), ApplyError> {
        let Some(known) = self.agents.peek(&agent) else { return Ok(()) };
        let state = if known.online { known.state } else { SeatState::Offline };
        let (site, held) = (known.site, known.open.len() as u64);
        let before = self.stint(rows, agent)?;
        if before.map(|stint| (stint.state, stint.held)).unwrap_or_default() == (state, held) {
            return Ok(());
        }
        if let Some(stint) = before {
            self.count_stint(rows, agent, stint)?;
        }
        let (tick, now_ms) = (self.work.tick, self.work.clock_ms);
        let is_there = state != SeatState::Offline || held > 0;
        let due_ms = before.map_or(now_ms.saturating_add(STINT_MS_MAX), |stint| stint.due_ms);
        match before {
            None if is_there => self.dues.put(due_of(agent, site, due_ms), tick, DueRow::Stint),
            Some(stint) if !is_there => self.dues.remove(due_of(agent, stint.site, stint.due_ms), tick),
            _ => {}
        }
        let after = is_there.then_some(StintRow { site, since_ms: now_ms, due_ms, state, held });
        self.stints.put(agent, tick, after);
        Ok(())
    }

    /// The agent has been doing the same for long.
    pub(crate) fn stint_due(&mut self, rows: &dyn Rows, due: Due) -> Result<(), ApplyError> {
        let agent = agent_of(due);
        let Some(stint) = self.stint(rows, agent)?.filter(|stint| stint.due_ms == due.due_ms) else { return Ok(()) };
        self.count_stint(rows, agent, stint)?;
        let (since_ms, tick) = (self.work.clock_ms, self.work.tick);
        let due_ms = since_ms.saturating_add(STINT_MS_MAX);
        self.dues.put(due_of(agent, stint.site, due_ms), tick, DueRow::Stint);
        self.stints.put(agent, tick, Some(StintRow { since_ms, due_ms, ..stint }));
        Ok(())
    }

    fn stint(&mut self, rows: &dyn Rows, agent: AgentId) -> Result<Option<StintRow>, ApplyError> {
        let held = self.stints.hold(agent, self.work.tick, || load(rows, agent).map(Some))?;
        Ok(held.and_then(|stint| *stint))
    }

    fn count_stint(&mut self, rows: &dyn Rows, agent: AgentId, stint: StintRow) -> Result<(), ApplyError> {
        for (hour, ms) in stint.hours(self.work.clock_ms) {
            for (kind, id) in [(ReportKind::Agent, u128::from(agent.0)), (ReportKind::Site, 0)] {
                let key = RollupKey { site: stint.site, kind, hour, id };
                self.change_rollup(rows, key, |row| stint.count(ms, &mut row.figures, kind))?;
            }
        }
        Ok(())
    }

    /// Whether counting what the agent did reads no row.
    pub(crate) fn is_stint_warm(&self, agent: AgentId) -> bool {
        match self.stints.peek(&agent) {
            None => false,
            Some(None) => true,
            Some(Some(stint)) => {
                hour_of(stint.since_ms) == hour_of(self.work.clock_ms)
                    && self.is_rollup_warm(Scope::of(stint.site, None, Some(agent)), [])
            }
        }
    }
}
