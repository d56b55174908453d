//! Owns `everdesk recover`: shows what is left of a cluster, asks for its name, and has a new one made of it. Does not choose.
//! Invariant: nothing is written before the name was given, and never into a directory that was read.

use super::{new_directory, print_drafted, time_text};
use crate::data_dir::DataDir;
use anyhow::{Context, bail};
use cluster::meta::Fresh;
use cluster::offline::{Accepted, Choice, Survivors};
use cluster::shard::now_ms;
use proto::ids::{META_SHARD, ShardId};
use proto::peer::LogPoint;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

/// Make a new cluster of one node out of what a lost quorum left. Last resort: acknowledged messages may be lost.
#[derive(Debug, clap::Args)]
pub struct RecoverArgs {
    /// The data directory of a stopped node, or a copy of it. Give all that there are.
    #[arg(long = "data-dir", value_name = "DIR", required = true)]
    data_dirs: Vec<PathBuf>,
    /// A new directory, for the node that goes on.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// The cluster's name, instead of typing it.
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
    /// Begin this shard empty: no replica of it is left. E.g. g3.
    #[arg(long, value_name = "SHARD")]
    accept_empty: Vec<ShardId>,
    /// Take what can be read of this group's log although it lost entries. E.g. g3.
    #[arg(long, value_name = "SHARD")]
    accept_damaged: Vec<ShardId>,
}

pub fn main(args: RecoverArgs) -> anyhow::Result<()> {
    // While they are read no node may start from them.
    let held = args.data_dirs.iter().map(|dir| DataDir::hold_still(dir)).collect::<Result<Vec<_>, _>>()?;
    let survivors = Survivors::read(&args.data_dirs)?;
    let accepted =
        Accepted { empty: args.accept_empty.into_iter().collect(), damaged: args.accept_damaged.into_iter().collect() };
    print_survivors(&survivors);
    survivors.check(&accepted)?;
    confirm(&survivors.name.to_string(), args.confirm.as_deref())?;
    let _claim = new_directory(&args.into)?;
    let fresh = Fresh { cluster: super::random_u128()?, at_ms: now_ms(), restored: false, admin_token: None };
    let drafted = survivors.recover(&args.into, &accepted, &fresh)?;
    let credential = copy_credential(&args.data_dirs, &args.into)?;
    drop(held);
    println!("recovered into {}", args.into.display());
    print_drafted(&drafted, &args.into);
    if !credential {
        println!(
            "No directory had a file admin.json: the commands on this machine get a token of their own at the start."
        );
    }
    println!(
        "The nodes of before never come back into it. Do not start them: a majority of them would be the old cluster again."
    );
    Ok(())
}

fn print_survivors(survivors: &Survivors) {
    println!("cluster {}", survivors.name);
    println!(
        "{:<6} {:<10} {:<16} {:<16} {:<20} lost voters",
        "group", "from", "last entry", "committed", "last command (UTC)"
    );
    let mut oldest = None;
    for shard in survivors.groups() {
        let name = if shard == META_SHARD { "meta".to_owned() } else { shard.to_string() };
        let Some(choice) = survivors.choose(shard) else {
            println!("{name:<6} none: all of it is lost");
            continue;
        };
        println!("{}", row(&name, &choice));
        if choice.missing > 0 && shard != META_SHARD {
            oldest = [oldest, choice.last_ms].into_iter().flatten().min();
        }
    }
    println!();
    println!(
        "Entries are named term/index. Every entry of these logs is kept, also the last ones, which may never have been"
    );
    println!(
        "acknowledged. What may be lost: whatever the lost voters acknowledged without these replicas, after the times"
    );
    println!(
        "above. How much that is nobody can tell{}.",
        match oldest {
            Some(ms) => format!("; the earliest of them is {}", time_text(Some(ms))),
            None => String::new(),
        }
    );
}

fn row(name: &str, choice: &Choice) -> String {
    let from = format!("{} {}", choice.node, choice.replica);
    let point = |at: LogPoint| format!("{}/{}", at.term, at.index);
    let (last, at) = (point(choice.last), time_text(choice.last_ms));
    let committed = choice.committed.map_or_else(|| "-".into(), point);
    let learner = if choice.is_voter { "" } else { ", from a learner" };
    let damage = choice.damage.as_ref().map(|why| format!(", DAMAGED: {why}")).unwrap_or_default();
    let (missing, voters) = (choice.missing, choice.voters);
    format!("{name:<6} {from:<10} {last:<16} {committed:<16} {at:<20} {missing} of {voters}{learner}{damage}")
}

/// The name is long: it is pasted, and whoever pastes it has looked at it.
fn confirm(name: &str, given: Option<&str>) -> anyhow::Result<()> {
    let typed = match given {
        Some(given) => given.to_owned(),
        None => {
            print!("Type the cluster's name to go on: ");
            std::io::stdout().flush()?;
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).context("no name was given")?;
            line
        }
    };
    if typed.trim() != name {
        bail!("that is not the cluster's name: nothing was done");
    }
    Ok(())
}

/// Takes the token along that the commands used.
fn copy_credential(from: &[PathBuf], into: &Path) -> anyhow::Result<bool> {
    for dir in from {
        let path = dir.join(crate::run::CREDENTIAL);
        if path.is_file() {
            // Permissions go along: its owner only.
            std::fs::copy(&path, into.join(crate::run::CREDENTIAL))
                .with_context(|| format!("copy {}", path.display()))?;
            return Ok(true);
        }
    }
    Ok(false)
}
