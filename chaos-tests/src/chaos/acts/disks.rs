//! Owns disks that are full, fail, are slow or lose their power. Does not damage files; see `data`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{Begun, Hold};
use crate::chaos::kinds::Kind;
use crate::chaos::stage::Stage;
use crate::lab::disk::PowerDisk;
use crate::lab::preload::{DiskFaults, FOREVER, WriteError};

/// What a full disk is made with.
pub struct Full {
    filler: Option<PathBuf>,
    /// Refused writes before it began, and ends of processes.
    refused: u64,
    ends: usize,
    is_pressed: bool,
}

fn faults(stage: &mut Stage, machine: u64) -> anyhow::Result<&DiskFaults> {
    stage.machine(machine).faults.as_ref().context("disk faults need their library")
}

/// Leaves no room on a machine's disk.
pub fn fill(stage: &mut Stage, lasts: Duration) -> anyhow::Result<Begun> {
    let victim = stage.any();
    let disk = stage.machine(victim).disk.as_ref().filter(|disk| disk.can_be_filled());
    let filler = disk.map(|disk| disk.path().join("filler"));
    let refused = faults(stage, victim)?.counts()?.writes_failed;
    let ends = ends_of(stage, victim);
    let note = format!("no room for {} ms", lasts.as_millis());
    let id = stage.begins(Kind::DiskFull.name(), &[victim], note);
    stage.excuse(victim);
    if let Some(filler) = &filler {
        take_all(filler).context("fill a disk")?;
    }
    Ok(Some((id, Hold::Full(victim, Full { filler, refused, ends, is_pressed: false }))))
}

/// Takes all room there is, in ever smaller pieces, without writing: the blocks are only reserved.
fn take_all(filler: &PathBuf) -> anyhow::Result<()> {
    let file = std::fs::File::create(filler)?;
    let mut end = 0_u64;
    for power in (12..32).rev() {
        let piece = 1_u64 << power;
        let range = |from: u64| ["--offset".to_owned(), from.to_string(), "--length".to_owned(), piece.to_string()];
        loop {
            let taken = std::process::Command::new("fallocate").args(range(end)).arg(filler).output()?;
            if !taken.status.success() {
                break;
            }
            end += piece;
        }
    }
    file.sync_all()?;
    Ok(())
}

fn ends_of(stage: &Stage, machine: u64) -> usize {
    stage.supervisor.ends().iter().filter(|end| end.machine == machine).count()
}

/// RocksDB reserves room for its logs: a node may go on for long. After a while its writes are refused outright.
pub fn press(stage: &mut Stage, machine: u64, full: &mut Full, began: Instant, until: Instant) -> anyhow::Result<()> {
    let is_time = began.elapsed() > until.duration_since(began) / 2;
    if is_time && !full.is_pressed && ends_of(stage, machine) == full.ends {
        faults(stage, machine)?.fail_writes(FOREVER, WriteError::Full)?;
        full.is_pressed = true;
    }
    Ok(())
}

pub fn make_room(stage: &mut Stage, machine: u64, full: Full) -> anyhow::Result<Option<String>> {
    if let Some(filler) = &full.filler {
        std::fs::remove_file(filler).context("make room on a disk")?;
        // Else a power cut right after brings it back, and the disk is full for ever.
        let dir = filler.parent().context("a filler lies in a directory")?;
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).context("make room on a disk, for good")?;
    }
    let refused = faults(stage, machine)?.counts()?.writes_failed - full.refused;
    faults(stage, machine)?.heal()?;
    stage.accuse(machine);
    let ended = ends_of(stage, machine) - full.ends;
    stage.say(&format!(
        "machine {machine} has room again: it ended {ended} times, {refused} writes were refused outright"
    ));
    Ok((ended == 0 && refused == 0).then(|| "no write was refused".to_owned()))
}

/// The next sync of a machine fails.
pub fn fail_sync(stage: &mut Stage) -> anyhow::Result<Begun> {
    let victim = if stage.dice.once_in(2) { stage.any() } else { stage.leader() };
    let before = faults(stage, victim)?.counts()?.syncs_failed;
    let id = stage.begins(Kind::FsyncEio.name(), &[victim], "the next sync says EIO".to_owned());
    stage.excuse(victim);
    faults(stage, victim)?.fail_syncs(1)?;
    Ok(Some((id, Hold::Eio(victim, before))))
}

pub fn heal(stage: &mut Stage, machine: u64, before: u64) -> anyhow::Result<Option<String>> {
    faults(stage, machine)?.heal()?;
    stage.accuse(machine);
    let failed = faults(stage, machine)?.counts()?.syncs_failed - before;
    Ok((failed == 0).then(|| "no sync failed".to_owned()))
}

pub fn slow(stage: &mut Stage, lasts: Duration) -> anyhow::Result<Begun> {
    let victim = if stage.dice.once_in(2) { stage.any() } else { stage.leader() };
    let slow_ms = [10, 50, 200, 500, 1_000][stage.dice.below(5)];
    let note = format!("each sync takes {slow_ms} ms longer, for {} ms", lasts.as_millis());
    let id = stage.begins(Kind::FsyncSlow.name(), &[victim], note);
    faults(stage, victim)?.delay_syncs(Duration::from_millis(slow_ms))?;
    Ok(Some((id, Hold::Slow(victim))))
}

pub fn speed_up(stage: &mut Stage, machine: u64) -> anyhow::Result<Option<String>> {
    faults(stage, machine)?.delay_syncs(Duration::ZERO)?;
    Ok(None)
}

/// Cuts the power of one machine, of a majority, or of all.
pub fn power_off(stage: &mut Stage, kind: Kind, lasts: Duration) -> anyhow::Result<Begun> {
    let victims = match kind {
        Kind::PowerLossMajority => stage.shuffled()[..stage.settings.nodes as usize / 2 + 1].to_vec(),
        Kind::PowerLossAll => stage.numbers(),
        _ => vec![stage.any()],
    };
    let id = stage.begins(kind.name(), &victims, format!("dark for {} ms", lasts.as_millis()));
    for victim in &victims {
        stage.excuse(*victim);
        stage.machine(*victim).disk.as_mut().context("power losses need disks")?.power_off()?;
    }
    stage.supervisor.kill(&victims);
    Ok(Some((id, Hold::Dark(victims))))
}

pub fn power_on(stage: &mut Stage, machines: &[u64]) -> anyhow::Result<Option<String>> {
    for machine in machines {
        stage.machine(*machine).disk.as_mut().map_or(Ok(()), PowerDisk::power_on)?;
        stage.accuse(*machine);
    }
    stage.supervisor.release(machines);
    Ok(None)
}
