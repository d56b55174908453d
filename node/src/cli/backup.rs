//! Owns `everdesk backup`. Does not do the work. Invariant: damage is an exit status other than 0.

use super::{Target, call, new_directory};
use crate::auth;
use crate::backup::{self, Manifest, Place};
use anyhow::{Context, bail};
use cluster::meta::Fresh;
use cluster::shard::now_ms;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// How often a running backup is asked after.
const ASK_EVERY: Duration = Duration::from_millis(500);
const MIB: f64 = (1 << 20) as f64;

/// A place is a directory (`/dir`, `file:///dir`) or `s3://BUCKET/PREFIX` with the `AWS_…` variables.
#[derive(Debug, clap::Subcommand)]
pub enum BackupCommand {
    /// Have a node back the whole cluster up, and wait for it. What is at the place already is not stored again.
    Create {
        /// As the node sees it: a directory of its machine, or a store with the variables of its environment.
        place: String,
        /// Store everything anew, also what seems to be there.
        #[arg(long)]
        full: bool,
        /// Read at most so many MiB of rows per second.
        #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
        #[command(flatten)]
        target: Target,
    },
    /// The backups at a place, oldest first.
    List { place: String },
    /// Read every chunk of one backup, or of all, and name what is damaged.
    Verify { place: String, id: Option<String> },
    /// Delete all but the newest backups, and what only they need.
    Prune {
        place: String,
        /// How many stay.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        keep: u32,
    },
    /// Make the data directory of a new cluster of one node out of a backup, the newest unless one is named.
    Restore {
        place: String,
        id: Option<String>,
        /// A new directory.
        #[arg(long)]
        data_dir: PathBuf,
    },
}

pub fn main(command: BackupCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match command {
            BackupCommand::Create { place, full, rate, target } => create(&target, &place, full, rate).await,
            BackupCommand::List { place } => list(&place).await,
            BackupCommand::Verify { place, id } => verify(&place, id.as_deref()).await,
            BackupCommand::Prune { place, keep } => prune(&place, keep as usize).await,
            BackupCommand::Restore { place, id, data_dir } => restore(&place, id.as_deref(), data_dir).await,
        }
    })
}

async fn create(target: &Target, place: &str, full: bool, rate: Option<u32>) -> anyhow::Result<()> {
    let body = json!({ "to": place, "full": full, "rate_mib_s": rate });
    let begun = call(target, "POST", "/admin/v1/backups", Some(body))?;
    let id = begun["id"].as_str().context("the answer holds no id")?.to_owned();
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        let body = call(target, "GET", "/admin/v1/backups", None)?;
        let job = &body["backup"];
        if job["id"] != id.as_str() {
            bail!("the node was restarted, or makes another backup: {id} is not there");
        }
        match job["state"].as_str() {
            Some("running") => {}
            Some("done") => {
                println!("{}", summary(&id, job));
                return Ok(());
            }
            _ => bail!("{}", job["error"].as_str().unwrap_or("the backup failed")),
        }
    }
}

fn summary(id: &str, job: &Value) -> String {
    let number = |field: &str| job[field].as_u64().unwrap_or(0);
    let (bytes, stored) = (number("bytes") as f64 / MIB, number("bytes_stored") as f64 / MIB);
    let seconds = number("took_ms") as f64 / 1e3;
    format!(
        "{id}: {} rows, {bytes:.1} MiB in {} chunks, {} of them new ({stored:.1} MiB stored), in {seconds:.1} s",
        number("rows"),
        number("chunks"),
        number("chunks_new"),
    )
}

fn time(ms: u64) -> String {
    super::time_text(Some(ms))
}

async fn list(place: &str) -> anyhow::Result<()> {
    let place = Place::open(place, false)?;
    println!("{:<26} {:<20} {:>7} {:>12} {:>10}  cluster", "backup", "begun (UTC)", "shards", "rows", "MiB");
    let mut damaged = 0;
    for id in backup::ids(&place).await? {
        match Manifest::read(&place, &id).await {
            Ok(manifest) => println!(
                "{id:<26} {:<20} {:>7} {:>12} {:>10.1}  {}",
                time(manifest.started_ms),
                manifest.shards,
                manifest.rows(),
                manifest.bytes() as f64 / MIB,
                manifest.name
            ),
            Err(error) => {
                damaged += 1;
                println!("{id:<26} {error}");
            }
        }
    }
    if damaged > 0 {
        bail!("{damaged} manifests are damaged");
    }
    Ok(())
}

async fn verify(place: &str, id: Option<&str>) -> anyhow::Result<()> {
    let place = Place::open(place, false)?;
    let verified = backup::verify(&place, id).await?;
    verified.damage.iter().for_each(|line| println!("{line}"));
    let (backups, chunks) = (verified.backups, verified.chunks);
    if !verified.damage.is_empty() {
        bail!("{} damaged in {backups} backups of {chunks} chunks", verified.damage.len());
    }
    println!(
        "{backups} backups, {chunks} chunks, {:.1} MiB of rows: all as they were stored",
        verified.bytes as f64 / MIB
    );
    Ok(())
}

async fn prune(place: &str, keep: usize) -> anyhow::Result<()> {
    // The mark of this work is written there, whole.
    let place = Place::open(place, true)?;
    let pruned = backup::prune(&place, keep, now_ms()).await?;
    println!(
        "deleted {} backups and {} chunks; {} backups and {} chunks stay",
        pruned.deleted.len(),
        pruned.chunks_deleted,
        pruned.kept.len(),
        pruned.chunks_kept
    );
    Ok(())
}

async fn restore(place: &str, id: Option<&str>, dir: PathBuf) -> anyhow::Result<()> {
    let place = Place::open(place, false)?;
    let _claim = new_directory(&dir)?;
    let token = auth::mint_plain_token("admin")?;
    let cluster = super::random_u128()?;
    let fresh = Fresh { cluster, at_ms: now_ms(), restored: true, admin_token: Some(token.hash()) };
    let (manifest, drafted) = backup::restore(&place, id, &dir, &fresh).await?;
    crate::run::save_credential(&dir, "", &token)?;
    println!("restored {} of {} into {}", manifest.id, time(manifest.started_ms), dir.display());
    super::print_drafted(&drafted, &dir);
    println!(
        "The admin token in {} is new; the admin password is that of the backup.",
        dir.join(crate::run::CREDENTIAL).display()
    );
    Ok(())
}
