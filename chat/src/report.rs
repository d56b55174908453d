//! Owns reading roll-ups: sums over stretches of hours. Does not change or cache anything. Invariant: a page is bounded by the rows that it
//! looks at, ends between two hours, and has all that was applied, what is under way included.

use crate::apply::Shard;
use crate::keys;
use crate::outcome::ApplyError;
use crate::rollup::{self, OTHER_LABELS, RollupKey, label_id};
use crate::rows::{self, RollupRow, Rows, StintRow};
use crate::stint;
use proto::ids::AgentId;
use proto::report::{Figures, ReportAsk, ReportKind, ReportPage, ReportSum};
use std::collections::BTreeMap;

/// Sums by stretch and id.
type Sums = BTreeMap<(u32, u128), (String, Figures)>;

/// The stretch in which an hour lies.
fn stretch_of(ask: &ReportAsk, hour: u32) -> Option<u32> {
    let behind = ask.starts.partition_point(|start| *start <= hour);
    u32::try_from(behind).ok()?.checked_sub(1).filter(|_| hour < ask.end)
}

impl Shard {
    /// Sums of figures over the hours from `ask.from` on. After about `rows_max` roll-ups the page ends with an hour.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn report(&self, rows: &dyn Rows, ask: &ReportAsk, rows_max: usize) -> Result<ReportPage, ApplyError> {
        let (found, next) = self.rollups_between(rows, ask, rows_max)?;
        let of_label = ask.label.as_deref().map(|label| if label.is_empty() { OTHER_LABELS } else { label_id(label) });
        let only = ask.id.map(u128::from).or(of_label);
        let is_asked = |id: u128| only.is_none_or(|only| only == id);
        let mut sums = Sums::new();
        let mut sum = |hour, id, label: &str, add: &dyn Fn(&mut Figures)| {
            let Some(stretch) = stretch_of(ask, hour).filter(|_| is_asked(id)) else { return };
            let (known, figures) = sums.entry((stretch, id)).or_default();
            if known.is_empty() {
                label.clone_into(known);
            }
            add(figures);
        };
        for (key, row) in &found {
            sum(key.hour, key.id, &row.label, &|figures| figures.merge(&row.figures));
        }
        let now_ms = ask.now_ms.max(self.work.clock_ms);
        let end = next.unwrap_or(ask.end);
        for (agent, stint) in self.stints_of(rows, ask)? {
            let id = if ask.kind == ReportKind::Agent { u128::from(agent.0) } else { 0 };
            for (hour, ms) in stint.hours(now_ms).filter(|(hour, _)| (ask.from..end).contains(hour)) {
                sum(hour, id, "", &|figures| stint.count(ms, figures, ask.kind));
            }
        }
        let sums = sums.into_iter().map(|((stretch, id), (label, figures))| ReportSum { stretch, id, label, figures });
        Ok(ReportPage { sums: sums.collect(), next })
    }

    fn rollups_between(
        &self,
        rows: &dyn Rows,
        ask: &ReportAsk,
        rows_max: usize,
    ) -> Result<(BTreeMap<RollupKey, RollupRow>, Option<u32>), ApplyError> {
        let first = RollupKey { site: ask.site, kind: ask.kind, hour: ask.from, id: 0 };
        let (mut found, mut next, mut failed, mut last) = (BTreeMap::new(), None, None, ask.from);
        rows.scan(&keys::rollups(ask.site, ask.kind), Some(&keys::rollup(first)), false, &mut |key, value| {
            let Some((hour, id)) = keys::last_hour(key).filter(|(hour, _)| *hour < ask.end) else { return false };
            if found.len() >= rows_max && hour > last {
                next = Some(hour);
                return false;
            }
            last = hour;
            match rows::decode("roll-up", value).and_then(rollup::checked) {
                Ok(row) => drop(found.insert(RollupKey { hour, id, ..first }, row)),
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let end = next.unwrap_or(ask.end);
        let is_asked = |key: &RollupKey| (key.site, key.kind) == (ask.site, ask.kind) && key.hour < end;
        for (key, row) in self.rollups.range(first).take_while(|(key, _)| is_asked(key)) {
            match row {
                Some(row) => drop(found.insert(*key, row.clone())),
                None => drop(found.remove(key)),
            }
        }
        found.retain(|_, row| *row != RollupRow::default());
        Ok((found, next))
    }

    /// What the site's agents of this shard are doing, when that is asked for.
    fn stints_of(&self, rows: &dyn Rows, ask: &ReportAsk) -> Result<BTreeMap<AgentId, StintRow>, ApplyError> {
        let mut found = BTreeMap::new();
        if !matches!(ask.kind, ReportKind::Site | ReportKind::Agent) {
            return Ok(found);
        }
        rows::each(rows, "stint", keys::STINTS, usize::MAX, |key, row: StintRow| {
            stint::check(&row)?;
            found.insert(AgentId(keys::last_number(key).unwrap_or(0)), row);
            Ok(())
        })?;
        for (agent, stint) in self.stints.range(AgentId(0)) {
            match stint {
                Some(stint) => drop(found.insert(*agent, *stint)),
                None => drop(found.remove(agent)),
            }
        }
        found.retain(|_, stint| stint.site == ask.site);
        Ok(found)
    }
}
