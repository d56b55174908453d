//! Owns many seeds: a process each, some of them twice, and the sum of it. Does not simulate.
//! Invariant: a seed that gave no verdict counts as failed.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use proto::failpoints::FailPoint;

use crate::Args;
use crate::one::Line;

/// A seed that takes longer hangs; most take a second or two.
const SEED_WITHIN: Duration = Duration::from_secs(120);

struct Done {
    seed: u64,
    line: anyhow::Result<Line>,
    /// The trace of the second run.
    again: Option<anyhow::Result<Line>>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let began = Instant::now();
    let jobs = if args.jobs > 0 { args.jobs } else { std::thread::available_parallelism().map_or(1, usize::from) };
    let next = AtomicU64::new(args.from);
    let (tell, told) = sync_channel(jobs);
    let mut failed = Vec::new();
    let mut sum = Sum::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let tell = tell.clone();
            scope.spawn(|| work(args, &next, tell));
        }
        drop(tell);
        for done in told {
            if let Some(why) = sum.add(&done) {
                println!("seed {} FAILED: {why}", done.seed);
                println!("  again: everdesk-sim --seed {} --seconds {}", done.seed, args.seconds);
                failed.push(done.seed);
            }
        }
    });
    println!("{}", sum.text(began.elapsed()));
    if !failed.is_empty() {
        failed.sort_unstable();
        bail!(
            "{} of {} seeds failed: {failed:?}; pages and histories of failed runs are in {}",
            failed.len(),
            args.seeds,
            args.out.display()
        );
    }
    Ok(())
}

fn work(args: &Args, next: &AtomicU64, tell: SyncSender<Done>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= args.from + args.seeds {
            return;
        }
        let line = simulate(args, seed);
        let is_twice = seed.wrapping_mul(2_654_435_761) % 100 < args.twice;
        let again = is_twice.then(|| simulate(args, seed));
        // Whoever listens is there until all have told.
        let _ = tell.send(Done { seed, line, again });
    }
}

fn simulate(args: &Args, seed: u64) -> anyhow::Result<Line> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--seed", &seed.to_string(), "--seconds", &args.seconds.to_string()]);
    command.args(["--nodes", &args.nodes.to_string(), "--out"]).arg(&args.out);
    if args.keep {
        command.arg("--keep");
    }
    if let Some(mutant) = &args.mutant {
        command.args(["--mutant", mutant]);
    }
    let out = tempfile::NamedTempFile::new()?;
    let mut child = command.stdin(Stdio::null()).stdout(out.reopen()?).stderr(Stdio::null()).spawn()?;
    let deadline = Instant::now() + SEED_WITHIN;
    loop {
        if child.try_wait()?.is_some() {
            break;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("it hangs: no end within {SEED_WITHIN:?}");
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let text = std::fs::read_to_string(out.path())?;
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| text.lines().take(40).collect::<Vec<_>>().join("\n"))
}

/// The sum over all seeds.
#[derive(Default)]
struct Sum {
    seeds: u64,
    twice: u64,
    simulated: Duration,
    acks: u64,
    faults: BTreeMap<String, u64>,
    points: BTreeMap<String, u64>,
}

impl Sum {
    /// Counts one; why it failed, if it did.
    fn add(&mut self, done: &Done) -> Option<String> {
        self.seeds += 1;
        let line = match &done.line {
            Ok(line) => line,
            Err(error) => return Some(format!("{error:#}")),
        };
        self.simulated += Duration::from_millis(line.simulated_ms);
        self.acks += line.acks;
        for (sum, counts) in [(&mut self.faults, &line.faults), (&mut self.points, &line.points)] {
            for (name, count) in counts {
                *sum.entry(name.clone()).or_insert(0) += count;
            }
        }
        if let Some(again) = &done.again {
            self.twice += 1;
            match again {
                Ok(again) if again.trace == line.trace => {}
                Ok(again) => return Some(format!("the same seed gave two traces: {} and {}", line.trace, again.trace)),
                Err(error) => return Some(format!("the second run: {error:#}")),
            }
        }
        (!line.ok).then(|| line.verdict.clone())
    }

    fn text(&self, took: Duration) -> String {
        let list = |counts: &BTreeMap<String, u64>| {
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        let never = FailPoint::ALL.iter().map(|point| point.name()).filter(|name| !self.points.contains_key(*name));
        let ratio = self.simulated.as_secs_f64() / took.as_secs_f64().max(0.001);
        format!(
            "{} seeds, {} of them twice with the same trace; {:.0} s simulated in {:.0} s ({ratio:.0} s a second); {} sends acked; faults: {} ({}); crashed at {} of {} points ({}), never at: {}",
            self.seeds,
            self.twice,
            self.simulated.as_secs_f64(),
            took.as_secs_f64(),
            self.acks,
            self.faults.values().sum::<u64>(),
            list(&self.faults),
            self.points.len(),
            FailPoint::ALL.len(),
            list(&self.points),
            never.collect::<Vec<_>>().join(", "),
        )
    }
}
