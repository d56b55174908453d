//! Owns the end of a run: holds its history against the promises and writes the page. Does not decide what is promised.
//! Invariant: a required fault that did not happen makes a run invalid, never green.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::time::Duration;

use super::kinds::Kind;
use super::settings::Ended;
use super::stage::Stage;
use crate::checkers::check_all;
use crate::checkers::faults::{TooFewFaults, count_faults, require};
use crate::checkers::verdict::{Outcome, Verdict};
use crate::report::{self, Gaps, ReportInput, Run, judged};

/// A minority that is hit may keep a shard silent for so long: some elections, on two cores that all share.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// What is known in the end.
pub struct Judged {
    pub ended: Ended,
    pub verdict: Verdict,
    pub run: Run,
    pub gaps: Gaps,
    /// Why it failed or proves nothing.
    pub reasons: Vec<String>,
}

/// Judges what was recorded, and writes `report.html`.
/// # Errors
/// The files cannot be read or written.
pub fn judge(stage: &mut Stage) -> anyhow::Result<Judged> {
    let path = stage.history();
    let run = Run::read(BufReader::new(File::open(&path)?), Some(judged::shard_of))?;
    let gaps = Gaps::of(&run);
    let records = stage.book.lines();
    let counts = count_faults(&records, |fault| stage.duds.iter().all(|(dud, _)| *dud != fault));
    stage.say(&format!("judges {} lines", records.len()));
    let enough = enough(stage, &counts);
    let verdict = check_all(&records).with_faults(enough.clone());
    let mut reasons = stage.broken.clone();
    reasons.extend(stage.unexplained());
    reasons.extend(long_silences(&run, &gaps));
    if stage.stop.is_wanted() {
        reasons.push("interrupted: what follows is of a part of a run".to_owned());
    }
    let is_broken = !reasons.is_empty() || verdict.outcome() == Outcome::Failed;
    reasons.extend(verdict.broken().into_iter().map(|name| format!("{name} is broken")));
    let ended = match verdict.outcome() {
        _ if stage.stop.is_wanted() => Ended::Invalid,
        _ if is_broken => Ended::Failed,
        Outcome::Passed => Ended::Passed,
        _ => Ended::Invalid,
    };
    if let Err(few) = enough {
        reasons.push(few.to_string());
    }
    let idle: Vec<&str> = verdict.idle().filter(|name| !MAY_BE_IDLE.contains(name)).collect();
    let ended = match (ended, idle.is_empty()) {
        (Ended::Passed, false) => Ended::Invalid,
        (ended, _) => ended,
    };
    if !idle.is_empty() {
        reasons.push(format!("nothing to look at for {}", idle.join(", ")));
    }
    let outcome = match ended {
        Ended::Passed => report::Outcome::Pass,
        Ended::Failed => report::Outcome::Fail,
        Ended::Invalid => report::Outcome::Invalid,
    };
    let verdicts = judged::verdicts(&verdict);
    let command = stage.settings.command.clone();
    let input = ReportInput { run: &run, outcome, reasons: &reasons, verdicts: &verdicts, command: &command };
    std::fs::write(stage.settings.out.join("report.html"), report::render(&input))?;
    Ok(Judged { ended, verdict, run, gaps, reasons })
}

/// Properties that a run may have no occasion for.
const MAY_BE_IDLE: &[&str] = &["unknown-at-most-once"];

/// Whether the faults that the run was made for happened; a group counts by all its kinds.
fn enough(stage: &Stage, counts: &BTreeMap<String, usize>) -> Result<(), TooFewFaults> {
    let had = |word: &str| -> usize {
        Kind::named(word).iter().map(|kind| counts.get(kind.name()).copied().unwrap_or(0)).sum()
    };
    require(stage.settings.required.iter().map(|(word, due)| (word.as_str(), *due)), had)
}

/// Faults of a minority must not keep a shard silent for long, unless they meet another one.
fn long_silences(run: &Run, gaps: &Gaps) -> Vec<String> {
    let window = |fault: &report::Fault| (fault.began_us, run.fault_end_us(fault) + 15_000_000);
    let spares = |fault: &report::Fault| Kind::named(&fault.kind).iter().all(|kind| kind.spares_majority());
    let meets = |fault: &report::Fault| {
        let (from_us, to_us) = window(fault);
        run.faults.iter().any(|other| {
            let (began_us, ended_us) = window(other);
            other.id != fault.id && began_us < to_us && ended_us > from_us && !spares(other)
        })
    };
    let mut found = Vec::new();
    for (fault, impact) in gaps.by_fault(run) {
        let silent_us = impact.map_or(0, |impact| impact.part_us);
        if spares(fault) && !meets(fault) && u128::from(silent_us) > SILENCE_MAX.as_micros() {
            found.push(format!(
                "#{} {} on {:?} ({}) left a majority, and a shard was silent for {:.1} s",
                fault.id,
                fault.kind,
                fault.nodes,
                fault.note,
                silent_us as f64 / 1e6
            ));
        }
    }
    found
}
