//! Owns one seed in this process: simulates, judges, prints one line of JSON. Does not start processes.
//! Invariant: every way in which a run can go wrong ends in an exit status other than 0.

use std::collections::BTreeMap;
use std::time::Duration;

use chaos_tests::checkers::check_all;
use chaos_tests::checkers::verdict::{Outcome, Verdict};
use chaos_tests::history::{Body, Record};
use chaos_tests::report;
use chaos_tests::sim::{Settings, run as simulate};
use serde::{Deserialize, Serialize};

use crate::Args;

/// What is printed of one seed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    pub seed: u64,
    pub ok: bool,
    /// Hash over all that happened.
    pub trace: String,
    /// Simulated time.
    pub simulated_ms: u64,
    pub acks: u64,
    pub faults: BTreeMap<String, u64>,
    /// Places in the code at which machines crashed.
    pub points: BTreeMap<String, u64>,
    /// What is wrong, or nothing.
    pub verdict: String,
}

pub fn run(args: &Args, seed: u64) -> anyhow::Result<()> {
    let parent = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
    let dir = tempfile::Builder::new().prefix("everdesk-sim-").tempdir_in(parent)?;
    let path = dir.path().to_path_buf();
    // A panic in any task of a node is a fault of the node, even where tokio would only end the task.
    std::panic::set_hook(Box::new(move |panic| {
        println!("PANIC {panic}\n{}", std::backtrace::Backtrace::force_capture());
        let _ = std::fs::remove_dir_all(&path);
        std::process::exit(101);
    }));
    if args.log {
        log(args.log_level);
    }
    if let Some(mutant) = &args.mutant {
        anyhow::ensure!(proto::mutants::switch_on(mutant), "there is no mutant {mutant}");
    }
    let settings = Settings {
        seed,
        faults_for: Duration::from_secs(args.seconds),
        nodes: if args.nodes > 0 { args.nodes } else { 3 + 2 * u64::from(seed.is_multiple_of(4)) },
        shards: 2,
        visitors: 8,
        agents: 3,
        dir: dir.path().to_path_buf(),
    };
    let (result, outcome) = simulate(&settings);
    let mut lines = String::new();
    for record in &outcome.records {
        lines.push_str(&serde_json::to_string(record)?);
        lines.push('\n');
    }
    let judged = check_all(&outcome.records);
    let verdict = match &result {
        Ok(()) if judged.outcome() == Outcome::Passed => String::new(),
        Ok(()) => judged.to_string(),
        Err(error) => format!("{error:#}"),
    };
    let line = Line {
        seed,
        ok: verdict.is_empty(),
        trace: format!("{:016x}", xxhash_rust::xxh3::xxh3_64(lines.as_bytes())),
        simulated_ms: outcome.took.as_millis() as u64,
        acks: outcome.acks,
        faults: count(&outcome.records, |kind, _| Some(kind)),
        points: count(&outcome.records, |kind, note| (kind == "crash-at").then_some(note)),
        verdict,
    };
    println!("{}", serde_json::to_string(&line)?);
    if args.keep || !line.ok {
        std::fs::create_dir_all(&args.out)?;
        let reasons: Vec<String> = result.err().map(|error| format!("{error:#}")).into_iter().collect();
        let mutant = args.mutant.as_ref().map_or_else(String::new, |mutant| format!(" --mutant {mutant}"));
        let command = format!("everdesk-sim --seed {seed} --seconds {}{mutant}", args.seconds);
        let page = page(&lines, &judged, &reasons, &command)?;
        std::fs::write(args.out.join(format!("seed-{seed}.html")), page)?;
        std::fs::write(args.out.join(format!("seed-{seed}.jsonl")), lines)?;
    }
    drop(dir);
    // Not by returning: tasks of the machines that are left would run their ends outside of simulated time.
    std::process::exit(i32::from(!line.ok))
}

/// Prints what the nodes log. No filter that hashes: the order of the nodes' own hash maps, and with it the run, would change.
fn log(level: tracing::Level) {
    use tracing_subscriber::prelude::*;
    let is_wanted = move |of: &tracing::Metadata<'_>| match of.target() {
        target if target.starts_with("openraft") => *of.level() <= tracing::Level::WARN,
        _ => *of.level() <= level,
    };
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(tracing_subscriber::filter::filter_fn(is_wanted))).init();
}

/// The page about the run; `lines`: its history.
fn page(lines: &str, judged: &Verdict, reasons: &[String], command: &str) -> anyhow::Result<String> {
    let run = report::Run::read(lines.as_bytes(), Some(report::judged::shard_of))?;
    let outcome = match judged.outcome() {
        Outcome::Passed if reasons.is_empty() => report::Outcome::Pass,
        _ => report::Outcome::Fail,
    };
    let verdicts = report::judged::verdicts(judged);
    Ok(report::render(&report::ReportInput { run: &run, outcome, reasons, verdicts: &verdicts, command }))
}

/// How often there were faults, by what `name` makes of their kind and note.
fn count(records: &[Record], name: for<'a> fn(&'a str, &'a str) -> Option<&'a str>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for record in records {
        if let Body::Fault { kind, note, .. } = &record.body
            && let Some(name) = name(kind, note)
        {
            *counts.entry(name.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}
