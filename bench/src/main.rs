//! Owns the command line of `everdesk-bench`. Does not measure. Invariant: what it started is ended, on Ctrl-C too.

mod target;

mod wire;

mod everdesk;

mod nats;

mod closed_loop;

mod figures;

mod compare;

mod failover;

mod drain;

mod desk;

mod balance;

mod dice;

mod idle;

mod backup;

mod search;

use std::time::Duration;

use clap::Parser;

/// Drives real WebSockets against three `everdesk` processes that it starts itself, and prints what came of it.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    target: target::TargetArgs,
    #[command(flatten)]
    failover: failover::FailoverArgs,
    #[command(flatten)]
    drain: drain::DrainArgs,
    #[command(flatten)]
    desk: desk::DeskArgs,
    #[command(flatten)]
    balance: balance::BalanceArgs,
    #[command(flatten)]
    idle: idle::IdleArgs,
    #[command(flatten)]
    backup: backup::BackupArgs,
    #[command(flatten)]
    search: search::SearchArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Other {
    /// The same load on NATS JetStream: three servers, replicas 3, fsync before every ack.
    Nats(NatsArgs),
    /// Everdesk and JetStream in turns, and the ratios.
    Compare(compare::CompareArgs),
}

#[derive(Debug, clap::Args)]
struct NatsArgs {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    nats: nats::NatsOptions,
}

/// The closed loop: so many messages under way, each replaced when its ack comes.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Messages under way, one level after the other. Default: 1,64,512,4096, or 512 with `--json`.
    #[arg(long, value_delimiter = ',')]
    levels: Vec<usize>,
    /// One level only.
    #[arg(long, conflicts_with = "levels")]
    in_flight: Option<usize>,
    /// Measured seconds per level.
    #[arg(long, default_value_t = 10)]
    secs: u64,
    /// Seconds before that, not measured.
    #[arg(long, default_value_t = 3)]
    warmup: u64,
    /// Sockets, each with a session of its own. Default: 32 in turn at 1 in flight, else one per message under way, 128 at most.
    #[arg(long, visible_alias = "sessions")]
    sockets: Option<usize>,
    /// Bytes of text per message.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Print JSON: one object per level, each on a line of its own.
    #[arg(long)]
    json: bool,
}

const LEVELS: [usize; 4] = [1, 64, 512, 4_096];
/// A script that names no level gets one object, of the level at which most of our figures are stated.
const LEVEL_FOR_SCRIPTS: usize = 512;
/// Sockets at 1 in flight: the sessions of all shards take turns, so that leaders near and far are met.
const SOCKETS_MIN: usize = 32;
const SOCKETS_MAX: usize = 128;

impl Load {
    pub fn levels(&self) -> Vec<usize> {
        match (self.in_flight, self.json) {
            (Some(level), _) => vec![level],
            (None, _) if !self.levels.is_empty() => self.levels.clone(),
            (None, true) => vec![LEVEL_FOR_SCRIPTS],
            (None, false) => LEVELS.to_vec(),
        }
    }

    pub fn sockets(&self, in_flight: usize) -> usize {
        self.sockets.unwrap_or_else(|| in_flight.clamp(SOCKETS_MIN, SOCKETS_MAX)).max(1)
    }

    pub fn warmup(&self) -> Duration {
        Duration::from_secs(self.warmup)
    }

    pub fn measured(&self) -> Duration {
        Duration::from_secs(self.secs.max(1))
    }

    fn validate(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.levels().iter().all(|&level| level > 0), "a level is at least 1");
        anyhow::ensure!((1..=16_384).contains(&self.size), "--size must be 1 to 16384 bytes");
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // A socket is an open file; the nodes inherit the limit.
    rlimit::increase_nofile_limit(u64::MAX)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let result = runtime.block_on(local.run_until(async {
        // Dropping the run drops its processes, which ends them by id.
        tokio::select! {
            result = Box::pin(run(args)) => result,
            stopped = stopped() => stopped.and(Err(anyhow::anyhow!("stopped"))),
        }
    }));
    drop(local);
    result
}

async fn run(args: Args) -> anyhow::Result<()> {
    match args.other {
        Some(Other::Nats(args)) => {
            args.load.validate()?;
            let levels = nats::measure(&args.load, &args.nats).await?;
            figures::print(&levels, &args.load)
        }
        Some(Other::Compare(args)) => compare::run(&args).await,
        None if args.failover.is_asked() => failover::run(&args.failover, &args.target, args.load.json).await,
        None if args.drain.is_asked() => drain::run(&args.drain, &args.target, args.load.json).await,
        None if args.desk.is_asked() => desk::run(&args.desk, &args.target, args.load.json).await,
        None if args.balance.is_asked() => balance::run(&args.balance, &args.target, args.load.json).await,
        None if args.backup.is_asked() => backup::run(&args.backup, &args.target, &args.load).await,
        None if args.search.is_asked() => search::run(&args.search),
        None if args.idle.is_asked() => idle::run(&args.idle, &args.target, args.load.json).await,
        None => {
            args.load.validate()?;
            let levels = everdesk::measure(&args.load, &args.target).await?;
            figures::print(&levels, &args.load)
        }
    }
}

async fn stopped() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
