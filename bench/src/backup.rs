//! Owns the measurement of backups: how fast they are, and what clients feel meanwhile. Does not check them.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::Load;
use crate::everdesk::measure_level;
use crate::target::{Target, TargetArgs};

/// What to measure of backups.
#[derive(Debug, Clone, clap::Args)]
pub struct BackupArgs {
    /// Store about so many MiB of messages, then measure the load without and with backups that follow each other.
    #[arg(long, value_name = "MIB")]
    backup: Option<u64>,
    /// With `--backup`: rows read per second, in MiB; as often as rates are to be measured. 0: as fast as it goes.
    #[arg(long, value_name = "MIB", value_delimiter = ',', default_value = "0")]
    backup_rate: Vec<u32>,
}

/// Bytes of a text while the cluster is filled.
const FILL_TEXT_BYTES: usize = 4_000;
/// Messages under way meanwhile.
const FILL_IN_FLIGHT: usize = 64;

impl BackupArgs {
    pub fn is_asked(&self) -> bool {
        self.backup.is_some()
    }
}

/// # Errors
/// The cluster does not start, or a backup fails.
pub async fn run(args: &BackupArgs, target: &TargetArgs, load: &Load) -> anyhow::Result<()> {
    let target = Target::Own(Box::new(Target::own(target).await?));
    let Target::Own(cluster) = &target else { anyhow::bail!("processes of its own") };
    fill(&target, load, args.backup.unwrap_or(0) << 20).await?;
    let in_flight = *load.levels().first().context("no level")?;
    println!("without: {}", measure_level(&target, load, in_flight).await?);
    for rate in &args.backup_rate {
        let place = cluster.dir().join(format!("backups-{rate}")).display().to_string();
        let said = RefCell::new(Vec::new());
        let backups = async {
            loop {
                let rate = rate.to_string();
                let mut command = vec!["backup", "create", &place, "--full"];
                if rate != "0" {
                    command.extend(["--rate", &rate]);
                }
                match cluster.command(&command, "").await {
                    Ok(text) => said.borrow_mut().push(text.trim().to_owned()),
                    Err(error) => break error,
                }
            }
        };
        let level = tokio::select! {
            level = measure_level(&target, load, in_flight) => level?,
            error = backups => return Err(error),
        };
        println!("with backups at {rate} MiB/s: {level}");
        said.borrow().iter().for_each(|line| println!("  {line}"));
    }
    Ok(())
}

/// Talks until enough bytes were acked.
async fn fill(target: &Target, load: &Load, bytes: u64) -> anyhow::Result<()> {
    let started = Instant::now();
    let fill = Load { size: FILL_TEXT_BYTES, secs: 5, warmup: 0, ..load.clone() };
    let mut stored = 0;
    while stored < bytes {
        stored += measure_level(target, &fill, FILL_IN_FLIGHT).await?.acked * FILL_TEXT_BYTES as u64;
    }
    eprintln!("{} MiB stored in {:.0} s", stored >> 20, started.elapsed().as_secs_f64());
    // What filling left for the disk to do is not to be measured.
    tokio::time::sleep(Duration::from_secs(5)).await;
    Ok(())
}
