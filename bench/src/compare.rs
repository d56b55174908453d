//! Owns the comparison in one run: systems in turns, medians, ratios. Does not drive either system itself.
//! Invariant: both get the same levels, sizes, sockets and seconds; only one of them runs at a time.

use serde_json::json;

use crate::Load;
use crate::everdesk;
use crate::figures::{Level, round};
use crate::nats::{self, NatsOptions};
use crate::target::TargetArgs;

#[derive(Debug, Clone, clap::Args)]
pub struct CompareArgs {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    nats: NatsOptions,
    /// Turns of each system; the median of a level counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Runs and prints.
/// # Errors
/// A system does not start or broke a promise.
pub async fn run(args: &CompareArgs) -> anyhow::Result<()> {
    args.load.validate()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..args.rounds.max(1) {
        // The one that begins changes, so that a warm disk or a hot machine favours neither.
        for turn in 0..2 {
            if (round + turn).is_multiple_of(2) {
                ours.push(Box::pin(everdesk::measure(&args.load, &args.target)).await?);
            } else {
                theirs.push(Box::pin(nats::measure(&args.load, &args.nats)).await?);
            }
        }
    }
    let pairs: Vec<(Level, Level)> =
        (0..args.load.levels().len()).map(|at| (median(&ours, at), median(&theirs, at))).collect();
    for (our, their) in &pairs {
        if args.load.json {
            println!("{}", as_json(our, their));
            continue;
        }
        println!("everdesk  {our}");
        println!("jetstream {their}");
        println!(
            "          ratio of acked/s {:.2}   of p50 {:.2}   of CPU {:.2}",
            ratio(our, their),
            our.p50_ms / their.p50_ms,
            cpu_ratio(our, their)
        );
    }
    Ok(())
}

/// The turn with the median throughput at a level, whole: figures of one turn belong together.
fn median(turns: &[Vec<Level>], at: usize) -> Level {
    let mut levels: Vec<&Level> = turns.iter().map(|turn| &turn[at]).collect();
    levels.sort_by(|a, b| a.acked_per_s.total_cmp(&b.acked_per_s));
    levels[levels.len() / 2].clone()
}

fn ratio(our: &Level, their: &Level) -> f64 {
    round(our.acked_per_s / their.acked_per_s, 3)
}

fn cpu_ratio(our: &Level, their: &Level) -> f64 {
    our.cpu_us_per_msg.unwrap_or(f64::NAN) / their.cpu_us_per_msg.unwrap_or(f64::NAN)
}

fn as_json(our: &Level, their: &Level) -> serde_json::Value {
    let mut object = json!(our);
    object["ratio_vs_jetstream"] = json!(ratio(our, their));
    object["jetstream"] = json!(their);
    object
}
