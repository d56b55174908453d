//! Owns what a run prints in the end: one screen. Does not judge.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::judge::Judged;
use super::settings::Ended;
use super::silences::{Silences, ms};
use super::stage::Stage;
use crate::report::Spread;

const REMARKS_MAX: usize = 40;
/// The page shows more.
const EXCERPT_LINES_MAX: usize = 14;

/// The summary.
pub fn text(stage: &Stage, judged: &Judged) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, stage, judged);
    out
}

fn write(out: &mut String, stage: &Stage, judged: &Judged) -> std::fmt::Result {
    let (settings, run) = (&stage.settings, &judged.run);
    properties(out, judged)?;
    let mut silences = Silences::default();
    silences.add(run, &judged.gaps, |fault| stage.duds.iter().all(|(dud, _)| dud.0 != fault.id));
    writeln!(out, "\n{}", silences.table().trim_end())?;
    for (fault, why) in &stage.duds {
        writeln!(out, "  dud: #{} {why}", fault.0)?;
    }
    let mut ends = BTreeMap::<String, usize>::new();
    for end in stage.supervisor.ends() {
        *ends.entry(end.status.to_string()).or_default() += 1;
    }
    let ends: Vec<String> = ends.into_iter().map(|(status, count)| format!("{count} × {status}")).collect();
    writeln!(
        out,
        "ends of processes by themselves: {}",
        if ends.is_empty() { "none".to_owned() } else { ends.join(", ") }
    )?;
    for remark in stage.remarks.iter().take(REMARKS_MAX) {
        writeln!(out, "  {remark}")?;
    }
    for kind in &settings.kinds {
        if let Err(why) = kind.possible(&stage.abilities) {
            writeln!(out, "SKIPPED: {}: {why}", kind.name())?;
        }
    }
    let sends = run.sends().count();
    let seconds = run.end_us as f64 / 1e6;
    let latency = Spread::of(acked_us(judged)).map_or_else(String::new, |spread| {
        format!(", send to ack p50 {}, p99 {}, max {}", ms(spread.p50), ms(spread.p99), ms(spread.max))
    });
    writeln!(
        out,
        "{} nodes, {} sessions, {:.0} s: {sends} sends, {} acked{latency}; {} lines of history",
        settings.nodes, run.sessions, seconds, run.messages, run.lines
    )?;
    writeln!(out, "page: {}", settings.out.join("report.html").display())?;
    writeln!(out, "history: {}", stage.history().display())?;
    writeln!(out, "again: {}", settings.command)?;
    let word = match judged.ended {
        Ended::Passed => "PASSED",
        Ended::Failed => "FAILED",
        Ended::Invalid => "INVALID",
    };
    writeln!(out, "{word}, seed {}", settings.seed)?;
    for reason in &judged.reasons {
        writeln!(out, "  {reason}")?;
    }
    Ok(())
}

fn acked_us(judged: &Judged) -> Vec<u64> {
    let acked = judged.run.sends().filter(|op| op.end == crate::report::End::Ok);
    acked.filter_map(|op| op.ended_us.map(|ended_us| ended_us - op.invoked_us)).collect()
}

/// What was looked at, and of every broken promise the first proof.
fn properties(out: &mut String, judged: &Judged) -> std::fmt::Result {
    writeln!(out, "\n{:<24} {:>9} {:>7}", "property", "checked", "broken")?;
    for one in &judged.verdict.properties {
        let gave_up = if one.gave_up > 0 { format!("  gave up {}", one.gave_up) } else { String::new() };
        writeln!(out, "{:<24} {:>9} {:>7}{gave_up}", one.property, one.checked, one.broken)?;
    }
    let mut last = "";
    for (violation, lines) in judged.verdict.shown() {
        if violation.property == last {
            continue;
        }
        last = violation.property;
        let session = violation.session.as_ref().map_or(String::new(), |id| format!(", session {id}"));
        writeln!(out, "\n{}{session}: {}", violation.property, violation.text)?;
        for line in lines.iter().take(EXCERPT_LINES_MAX) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}
