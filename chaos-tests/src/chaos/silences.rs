//! Owns the table of how long faults of a kind kept a shard silent, over one run or several. Does not judge.
//! Invariant: a fault is counted once, by its kind's name; what is not a kind of ours is left out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::Context;

use super::kinds::Kind;
use crate::report::{Fault, Gaps, Impact, Run, Spread, judged};

/// Faults and their silences, summed up.
#[derive(Default)]
pub struct Silences {
    by_kind: BTreeMap<String, (usize, Vec<Impact>)>,
    /// Longest silence that touches no fault, in microseconds.
    calm_us: u64,
    acked: u64,
}

impl Silences {
    /// Adds what happened in one run; of a fault that does not count, only the silence.
    pub fn add(&mut self, run: &Run, gaps: &Gaps, counts: impl Fn(&Fault) -> bool) {
        for (fault, impact) in gaps.by_fault(run) {
            let (count, impacts) = self.by_kind.entry(fault.kind.clone()).or_default();
            *count += usize::from(counts(fault));
            impacts.extend(impact);
        }
        self.calm_us = self.calm_us.max(gaps.without_fault(run).part_us);
        self.acked += run.messages;
    }

    /// One line per kind; p50, p99 and max in milliseconds.
    pub fn table(&self) -> String {
        let mut out =
            format!("{:<20} {:>5}   silence of a shard: {:>9} {:>9} {:>9}\n", "fault", "count", "p50", "p99", "max");
        let mut row = |name: &str, count: usize, impacts: &[Impact]| {
            let spread = Spread::of(impacts.iter().map(|impact| impact.part_us).collect());
            let [p50, p99, max] =
                spread.map_or([(); 3].map(|()| "-".to_owned()), |one| [one.p50, one.p99, one.max].map(ms));
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name:<20} {count:>5}   {:<19} {p50:>9} {p99:>9} {max:>9}", "");
        };
        let (mut count_all, mut all) = (0, Vec::new());
        for (name, (count, impacts)) in Kind::ALL.iter().filter_map(|kind| self.by_kind.get_key_value(kind.name())) {
            row(name, *count, impacts);
            count_all += count;
            all.extend(impacts.iter().copied());
        }
        row("all", count_all, &all);
        let _ = writeln!(
            out,
            "{:<20} {:>5}   {:<19} {:>9} {:>9} {:>9}",
            "outside of faults",
            "",
            "",
            "",
            "",
            ms(self.calm_us)
        );
        out
    }
}

/// The table of these histories together, and what was acknowledged in all of them.
/// # Errors
/// A file cannot be read.
pub fn sum(histories: &[PathBuf]) -> anyhow::Result<String> {
    let mut silences = Silences::default();
    for path in histories {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let run = Run::read(BufReader::new(file), Some(judged::shard_of))?;
        // Which of them did nothing is not in a history.
        silences.add(&run, &Gaps::of(&run), |_| true);
    }
    Ok(format!("{}{} runs, {} sends acked", silences.table(), histories.len(), silences.acked))
}

/// Whole milliseconds.
pub fn ms(us: u64) -> String {
    format!("{} ms", us / 1_000)
}
