//! The simulation as a program: one seed, or many of them, each in a process of its own. See docs/RELIABILITY.md.

mod many;
mod one;
mod system;

use std::path::PathBuf;

use clap::Parser;

/// Simulates a cluster with faults and judges what the clients were told.
#[derive(Debug, Clone, Parser)]
#[command(name = "everdesk-sim")]
pub struct Args {
    /// Simulate this seed alone, in this process.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to simulate.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Simulated seconds of each in which there are faults; what it takes to begin and to heal comes on top.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Nodes of the cluster. 0: 3, or 5 in one seed of four.
    #[arg(long, default_value_t = 0)]
    nodes: u64,
    /// Seeds at once. 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// So many of a hundred seeds are run twice, and must give the same trace.
    #[arg(long, default_value_t = 20)]
    twice: u64,
    /// Where histories of failed runs are kept.
    #[arg(long, default_value = "target/sim")]
    out: PathBuf,
    /// Keep every history, not only those of failed runs.
    #[arg(long)]
    keep: bool,
    /// Log what the nodes say to stderr.
    #[arg(long)]
    log: bool,
    /// What it logs at most: error, warn, info, debug or trace.
    #[arg(long, default_value_t = tracing::Level::INFO)]
    log_level: tracing::Level,
    /// A seeded bug to switch on, to see whether it is found.
    #[arg(long)]
    mutant: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.seed {
        Some(seed) => one::run(&args, seed),
        None => many::run(&args),
    }
}
