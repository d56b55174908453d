//! Owns the roll-ups: what happened in each hour (UTC) at a site, with a team, to an agent, under a label. Does not know what is counted when:
//! whoever changes something says so. Invariant: what a command counts is in memory when it ends, and each row is written once per
//! checkpoint, however often it changed; there are numbers and labels in them, and nothing that a visitor said.

use crate::apply::{Shard, Work};
use crate::cache::{Hold, Table, Weight};
use crate::due::Due;
use crate::keys;
use crate::limits::{ROLLUP_HOURS_KEPT, ROLLUP_LABELS_MAX, ROLLUP_SWEEP_AFTER_MS, ROLLUP_SWEEP_MAX};
use crate::outcome::ApplyError;
use crate::rows::{self, DueRow, RollupRow, Rows, SomeRow, corrupt};
use proto::ids::{AgentId, SessionId, SiteId, TeamId};
use proto::report::{Figures, ReportKind, hour_ms, hour_of};
use std::collections::BTreeSet;
use xxhash_rust::xxh3::xxh3_128;

/// Of whom a roll-up is, and of which hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RollupKey {
    pub site: SiteId,
    pub kind: ReportKind,
    /// Since 1970, UTC.
    pub hour: u32,
    /// The number of the team or agent, or the hash of the label; 0 of the site.
    pub id: u128,
}

/// `None`: it was swept.
pub(crate) type Rollups = Table<RollupKey, Option<RollupRow>>;

/// Labels that were too many to have rows of their own.
pub(crate) const OTHER_LABELS: u128 = 0;
/// No session has this number: what is due about a site's roll-ups stands in its place.
const SWEEP: SessionId = SessionId(u128::MAX);

impl Weight for RollupRow {
    fn bytes(&self) -> usize {
        let of = &self.figures;
        let times = [&of.first_response, &of.response, &of.resolution, &of.wait, &of.abandonment];
        size_of::<RollupRow>() + self.label.len() + times.iter().map(|times| 16 * times.spread.len()).sum::<usize>()
    }
}

pub(crate) fn label_id(label: &str) -> u128 {
    xxh3_128(label.as_bytes())
}

/// Something that is counted. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tally {
    Opened,
    Reopened,
    Closed,
    Unanswered,
    /// After so long.
    Abandoned(u64),
    Assigned,
    Transferred,
    Requeued,
    Labelled,
    FromVisitors(u64),
    FromAgents(u64),
    FromSystem,
    /// From 1 on, and by how many more.
    Score(u8, i64),
    FirstResponse(u64),
    Response(u64),
    Resolution(u64),
    Wait(u64),
    Responses(SomeRow),
    Waits(SomeRow),
}

fn add(to: &mut Figures, tally: Tally) {
    match tally {
        Tally::Opened => to.opened += 1,
        Tally::Reopened => to.reopened += 1,
        Tally::Closed => to.closed += 1,
        Tally::Unanswered => to.unanswered += 1,
        Tally::Abandoned(ms) => {
            to.abandoned += 1;
            to.abandonment.add(ms);
        }
        Tally::Assigned => to.assigned += 1,
        Tally::Transferred => to.transferred += 1,
        Tally::Requeued => to.requeued += 1,
        Tally::Labelled => to.labelled += 1,
        Tally::FromVisitors(count) => to.from_visitors += count,
        Tally::FromAgents(count) => to.from_agents += count,
        Tally::FromSystem => to.from_system += 1,
        Tally::Score(score, by) => {
            if let Some(known) = to.scores.get_mut(usize::from(score).wrapping_sub(1)) {
                *known += by;
            }
        }
        Tally::FirstResponse(ms) => to.first_response.add(ms),
        Tally::Response(ms) => to.response.add(ms),
        Tally::Resolution(ms) => to.resolution.add(ms),
        Tally::Wait(ms) => to.wait.add(ms),
        Tally::Responses(SomeRow { count, sum_ms, max_ms }) => to.response.add_sum(count, sum_ms, max_ms),
        Tally::Waits(SomeRow { count, sum_ms, max_ms }) => to.wait.add_sum(count, sum_ms, max_ms),
    }
}

/// Where something is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    pub site: SiteId,
    pub whole_site: bool,
    pub team: Option<TeamId>,
    pub agent: Option<AgentId>,
    /// Its place among those that the command named.
    label: Option<usize>,
}

impl Scope {
    pub(crate) fn of(site: SiteId, team: Option<TeamId>, agent: Option<AgentId>) -> Scope {
        Scope { site, whole_site: true, team, agent, label: None }
    }

    /// Of the team alone.
    pub(crate) fn of_team(site: SiteId, team: TeamId) -> Scope {
        Scope { site, whole_site: false, team: Some(team), agent: None, label: None }
    }

    fn keys(self, hour: u32) -> impl Iterator<Item = RollupKey> {
        let key = move |kind, id| RollupKey { site: self.site, kind, hour, id };
        let site = self.whole_site.then(|| key(ReportKind::Site, 0));
        let team = self.team.map(|team| key(ReportKind::Team, u128::from(team.0)));
        let agent = self.agent.map(|agent| key(ReportKind::Agent, u128::from(agent.0)));
        [site, team, agent].into_iter().flatten()
    }
}

/// What a command counts. It is put into the roll-ups when the command ends, where rows may be read.
#[derive(Default)]
pub(crate) struct Tallies {
    pending: Vec<(Scope, Tally)>,
    labels: Vec<String>,
}

impl Work {
    pub(crate) fn tally(&mut self, scope: Scope, tally: Tally) {
        self.tallies.pending.push((scope, tally));
    }

    /// Where something is counted under a label, for as long as this command is applied.
    pub(crate) fn label_scope(&mut self, site: SiteId, label: &str) -> Scope {
        self.tallies.labels.push(label.to_owned());
        Scope { site, whole_site: false, team: None, agent: None, label: Some(self.tallies.labels.len() - 1) }
    }
}

impl Shard {
    /// Puts what the command counted into the roll-ups.
    pub(crate) fn roll_up(&mut self, rows: &dyn Rows) -> Result<(), ApplyError> {
        if self.work.tallies.pending.is_empty() {
            self.work.tallies.labels.clear();
            return Ok(());
        }
        let mut tallies = std::mem::take(&mut self.work.tallies);
        let hour = hour_of(self.work.clock_ms);
        for run in tallies.pending.chunk_by(|one, other| one.0 == other.0) {
            let scope = run[0].0;
            let of_label = match scope.label {
                Some(at) => Some(self.label_key(rows, scope.site, hour, &tallies.labels[at])?),
                None => None,
            };
            for key in scope.keys(hour).chain(of_label) {
                let figures = |row: &mut RollupRow| run.iter().for_each(|(_, tally)| add(&mut row.figures, *tally));
                self.change_rollup(rows, key, figures)?;
            }
        }
        tallies.pending.clear();
        tallies.labels.clear();
        self.work.tallies = tallies;
        Ok(())
    }

    pub(crate) fn change_rollup(
        &mut self,
        rows: &dyn Rows,
        key: RollupKey,
        change: impl FnOnce(&mut RollupRow),
    ) -> Result<(), ApplyError> {
        let mut held = self.hold_rollup(rows, key)?;
        let row = held.change().get_or_insert_default();
        let is_new = *row == RollupRow::default();
        change(row);
        drop(held);
        if is_new {
            let due_ms = hour_ms(hour_of(self.work.clock_ms).saturating_add(1)) + ROLLUP_SWEEP_AFTER_MS;
            self.dues.put(Due { due_ms, site: key.site, session: SWEEP }, self.work.tick, DueRow::Sweep);
        }
        Ok(())
    }

    fn hold_rollup(
        &mut self,
        rows: &dyn Rows,
        key: RollupKey,
    ) -> Result<Hold<'_, RollupKey, Option<RollupRow>>, ApplyError> {
        // The clock never goes back: of an hour that has only begun with this command there is no row.
        let is_fresh = key.hour >= self.work.fresh_hour;
        let load = || {
            let row = if is_fresh { None } else { read(rows, key)? };
            Ok::<_, ApplyError>(Some(Some(row.unwrap_or_default())))
        };
        self.rollups.hold(key, self.work.tick, load)?.ok_or_else(|| corrupt("roll-up", "it cannot be absent"))
    }

    /// The row of a label, or that of all further ones.
    fn label_key(&mut self, rows: &dyn Rows, site: SiteId, hour: u32, label: &str) -> Result<RollupKey, ApplyError> {
        let key = RollupKey { site, kind: ReportKind::Label, hour, id: label_id(label) };
        let of_site = RollupKey { site, kind: ReportKind::Site, hour, id: 0 };
        let is_known = self.hold_rollup(rows, key)?.as_ref().is_some_and(|row| !row.label.is_empty());
        if is_known {
            return Ok(key);
        }
        let labels = self.hold_rollup(rows, of_site)?.as_ref().map_or(0, |row| row.labels);
        if labels >= ROLLUP_LABELS_MAX {
            return Ok(RollupKey { id: OTHER_LABELS, ..key });
        }
        self.change_rollup(rows, of_site, |row| row.labels += 1)?;
        self.change_rollup(rows, key, |row| label.clone_into(&mut row.label))?;
        Ok(key)
    }

    /// Whether what is counted there now is in memory.
    pub(crate) fn is_rollup_warm<'a>(&self, scope: Scope, labels: impl IntoIterator<Item = &'a String>) -> bool {
        let hour = hour_of(self.work.clock_ms);
        let of_label = |label: &String| {
            let key = RollupKey { site: scope.site, kind: ReportKind::Label, hour, id: label_id(label) };
            self.rollups.peek(&key).is_some_and(|row| row.as_ref().is_some_and(|row| !row.label.is_empty()))
        };
        scope.keys(hour).all(|key| self.rollups.peek(&key).is_some()) && labels.into_iter().all(of_label)
    }

    /// Removes what is older than roll-ups are kept, a limited number at once.
    pub(crate) fn sweep(&mut self, rows: &dyn Rows, site: SiteId) -> Result<(), ApplyError> {
        let first_kept = hour_of(self.work.clock_ms).saturating_sub(ROLLUP_HOURS_KEPT);
        let mut old = BTreeSet::new();
        for kind in [ReportKind::Site, ReportKind::Team, ReportKind::Agent, ReportKind::Label] {
            let room = ROLLUP_SWEEP_MAX.saturating_sub(old.len());
            old.extend(self.oldest(rows, site, kind, first_kept, room)?);
        }
        for key in &old {
            self.rollups.put(*key, self.work.tick, None);
        }
        if old.len() >= ROLLUP_SWEEP_MAX {
            let due_ms = self.work.clock_ms.saturating_add(1);
            self.dues.put(Due { due_ms, site, session: SWEEP }, self.work.tick, DueRow::Sweep);
        }
        Ok(())
    }

    /// The first roll-ups of a kind that are older than that, wherever they are.
    fn oldest(
        &self,
        rows: &dyn Rows,
        site: SiteId,
        kind: ReportKind,
        first_kept: u32,
        room: usize,
    ) -> Result<BTreeSet<RollupKey>, ApplyError> {
        let mut found = BTreeSet::new();
        if room == 0 {
            return Ok(found);
        }
        rows.scan(&keys::rollups(site, kind), None, false, &mut |key, _| {
            let Some((hour, id)) = keys::last_hour(key).filter(|(hour, _)| *hour < first_kept) else { return false };
            let key = RollupKey { site, kind, hour, id };
            // What was swept and is still in rows does not count.
            if self.rollups.peek(&key).is_none_or(Option::is_some) {
                found.insert(key);
            }
            found.len() < room
        })?;
        let of_kind = self.rollups.range(RollupKey { site, kind, hour: 0, id: 0 });
        let of_kind = of_kind.take_while(|(key, _)| (key.site, key.kind) == (site, kind) && key.hour < first_kept);
        found.extend(
            of_kind
                .filter(|(_, row)| row.as_ref().is_some_and(|row| *row != RollupRow::default()))
                .map(|(key, _)| *key),
        );
        Ok(found.into_iter().take(room).collect())
    }
}

/// A roll-up as rows have it.
pub(crate) fn read(rows: &dyn Rows, key: RollupKey) -> Result<Option<RollupRow>, ApplyError> {
    rows::read(rows, "roll-up", &keys::rollup(key))?.map(checked).transpose()
}

pub(crate) fn checked(row: RollupRow) -> Result<RollupRow, ApplyError> {
    rows::counted("roll-up", &[row.labels])?;
    if row.figures.is_sound() { Ok(row) } else { Err(corrupt("roll-up", "nobody counts that far")) }
}
