//! Faults on real nodes, as a program: one seed, for so many minutes. See `chaos_tests::chaos`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use chaos_tests::chaos::kinds::Kind;
use chaos_tests::chaos::{Abilities, Ended, Settings, run, sum};
use clap::Parser;

/// A run at least so long must have had every group of faults that is possible here.
const ALL_GROUPS_FROM: Duration = Duration::from_secs(5 * 60);

/// Runs real nodes, breaks them by a seed while people talk, and judges what the people were told.
/// Exit status: 0 passed, 1 a promise was broken, 2 the run proves nothing.
#[derive(Debug, Parser)]
#[command(name = "everdesk-chaos")]
struct Args {
    /// What happens follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long faults are made; founding, healing and reading come on top.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Machines of the cluster: 3 or 5.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=5))]
    nodes: u64,
    /// Visitors, each with a session.
    #[arg(long, default_value_t = 200)]
    sessions: usize,
    /// Agents who answer them.
    #[arg(long, default_value_t = 12)]
    agents: usize,
    /// Mean pause between two things that a person does, in milliseconds.
    #[arg(long, default_value_t = 400)]
    pace_ms: u64,
    /// End after so many faults, if the minutes are not over before.
    #[arg(long)]
    faults: Option<u64>,
    /// The longest that a fault lasts, in seconds.
    #[arg(long, default_value_t = 60)]
    lasts_max_s: u64,
    /// Only these kinds or groups of faults.
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    only: Vec<String>,
    /// The run is invalid with fewer of these; a kind or a group.
    #[arg(long, value_delimiter = ',', value_name = "KIND=N")]
    require: Vec<String>,
    /// Where history, page and logs go.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print how long the faults of these histories kept shards silent, all together, and end.
    #[arg(long, num_args = 1.., value_name = "HISTORY")]
    sum: Vec<PathBuf>,
    /// List the kinds of faults and what is missing for them, and end.
    #[arg(long)]
    list: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.list {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    if !args.sum.is_empty() {
        println!("{}", sum(&args.sum)?);
        return Ok(ExitCode::SUCCESS);
    }
    let ended = run(settings(args)?)?;
    Ok(match ended {
        Ended::Passed => ExitCode::SUCCESS,
        Ended::Failed => ExitCode::from(1),
        Ended::Invalid => ExitCode::from(2),
    })
}

fn list() {
    let abilities = Abilities::look();
    for kind in Kind::ALL {
        let possible = kind.possible(&abilities).err().unwrap_or_else(|| "possible here".to_owned());
        println!("{:<20} {:<8} {possible}", kind.name(), kind.group());
    }
}

fn settings(args: Args) -> anyhow::Result<Settings> {
    let mut kinds = Vec::new();
    for word in &args.only {
        let named = Kind::named(word);
        ensure!(!named.is_empty(), "there is no kind or group of faults {word}: see --list");
        kinds.extend(named);
    }
    let mut required = Vec::new();
    for text in &args.require {
        let (word, count) = text.split_once('=').with_context(|| format!("{text}: want KIND=N"))?;
        ensure!(!Kind::named(word).is_empty(), "there is no kind or group of faults {word}: see --list");
        required.push((word.to_owned(), count.parse()?));
    }
    let faults_for = Duration::from_secs_f64(args.minutes * 60.0);
    if kinds.is_empty() {
        kinds = Kind::ALL.to_vec();
        if faults_for >= ALL_GROUPS_FROM && args.require.is_empty() {
            let abilities = Abilities::look();
            let possible = kinds.iter().filter(|kind| kind.possible(&abilities).is_ok());
            let groups: std::collections::BTreeSet<&str> = possible.map(|kind| kind.group()).collect();
            required.extend(groups.into_iter().map(|group| (group.to_owned(), 1)));
        }
    }
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let out = args.out.unwrap_or_else(|| format!("target/chaos/seed-{}-{}-nodes", args.seed, args.nodes).into());
    Ok(Settings {
        seed: args.seed,
        faults_for,
        faults_max: args.faults,
        nodes: args.nodes,
        sessions: args.sessions,
        agents: args.agents,
        pace: Duration::from_millis(args.pace_ms),
        lasts_max: Duration::from_secs(args.lasts_max_s),
        kinds,
        required,
        out,
        command: format!("everdesk-chaos {command}"),
    })
}
