//! Owns the proof of power losses, failing, slow, full and damaged disks. Does not look into databases.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chaos_tests::lab::corrupt::{Harm, Kind, corrupt};
use chaos_tests::lab::disk::{MIB_MIN, PowerDisk, SmallDisk};
use chaos_tests::lab::net::Network;
use chaos_tests::lab::preload::{DiskFaults, FOREVER, WriteError};

use crate::rig::{Rig, binary, until};
use crate::{alone, is_skipped};

const ACK_WITHIN: Duration = Duration::from_secs(30);
const END_WITHIN: Duration = Duration::from_secs(30);
const EXIT_DISK: i32 = 75;

/// A rig whose nodes lie on a disk each that can lose its power.
fn powered() -> anyhow::Result<(Rig, Vec<PowerDisk>)> {
    let mut rig = Rig::new(3)?;
    let mut disks = Vec::new();
    for number in rig.network.numbers() {
        let disk = PowerDisk::new(MIB_MIN)?;
        rig.node(number).data_dir = disk.path().join("data");
        disks.push(disk);
    }
    rig.start_all()?;
    Ok((rig, disks))
}

/// Cuts the power of these nodes, kills them, and starts them again. Returns how long it took until all were ready.
fn lose_power(rig: &mut Rig, disks: &mut [PowerDisk], numbers: &[u64]) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    for &number in numbers {
        disks[number as usize - 1].power_off()?;
    }
    let off = begun.elapsed();
    for &number in numbers {
        rig.kill(number);
    }
    let begun = Instant::now();
    for &number in numbers {
        disks[number as usize - 1].power_on()?;
    }
    println!("power of {numbers:?} cut in {off:?}, disks mounted again in {:?}", begun.elapsed());
    let begun = Instant::now();
    for &number in numbers {
        rig.start(number)?;
    }
    for &number in numbers {
        rig.wait_ready(number)?;
    }
    rig.wait_whole()?;
    Ok(begun.elapsed())
}

#[test]
fn nodes_come_back_after_a_power_loss_of_one_and_of_all() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&[Network::available(), PowerDisk::available(), binary().map(drop)]) {
        return Ok(());
    }
    let begun = Instant::now();
    let (mut rig, mut disks) = powered()?;
    println!("3 nodes on disks of their own whole in {:?}", begun.elapsed());
    for numbers in [vec![2], vec![1], vec![1, 2, 3], vec![1, 2, 3]] {
        for by in 1..=3 {
            rig.say(&[by], ACK_WITHIN)?;
        }
        let back = lose_power(&mut rig, &mut disks, &numbers)?;
        println!("{numbers:?} back and whole in {back:?}; then {:?}", rig.say(&[1, 2, 3], ACK_WITHIN)?.took);
    }
    // First the nodes, then their disks.
    drop(rig);
    drop(disks);
    Ok(())
}

/// Three nodes, of which these have disks that can fail.
fn with_faults(numbers: &[u64]) -> anyhow::Result<(Rig, Vec<DiskFaults>)> {
    let mut rig = Rig::new(3)?;
    let mut all = Vec::new();
    for &number in numbers {
        let below = rig.node(number).data_dir.clone();
        std::fs::create_dir_all(&below)?;
        let faults = DiskFaults::new(rig.dir.path(), &below)?;
        rig.node(number).prefix = faults.vars().prefix();
        all.push(faults);
    }
    rig.start_all()?;
    Ok((rig, all))
}

fn ends_with_75(rig: &mut Rig, why: &str) -> anyhow::Result<()> {
    let status = until("node 2 ends", END_WITHIN, || rig.ended(2))?;
    let log = rig.log_tail(2);
    let last = log.lines().last().unwrap_or_default();
    println!("node 2 ended with {status}; last line: {last}");
    ensure!(status.code() == Some(EXIT_DISK), "ended with {status}; its log:\n{log}");
    let clear = log.lines().filter(|line| line.contains("fatal") && line.contains(why)).count();
    ensure!(clear == 1 && last.contains("fatal"), "{clear} lines say why, the last is: {last}\n{log}");
    Ok(())
}

#[test]
fn a_failed_sync_or_write_ends_the_node_with_75() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&[Network::available(), DiskFaults::available(), binary().map(drop)]) {
        return Ok(());
    }
    let (mut rig, faults) = with_faults(&[2])?;
    let faults = faults.first().context("one was asked for")?;
    let set: [(&str, &dyn Fn() -> anyhow::Result<()>); 3] = [
        ("Input/output error", &|| faults.fail_syncs(1)),
        ("Input/output error", &|| faults.fail_writes(1, WriteError::Io)),
        ("No space left", &|| faults.fail_writes(FOREVER, WriteError::Full)),
    ];
    for (why, set) in set {
        set()?;
        // Any group's next entry is written by node 2 as well.
        for _ in 0..3 {
            rig.say(&[1, 3], ACK_WITHIN)?;
        }
        ends_with_75(&mut rig, why)?;
        println!("the others: {:?}; {:?}", rig.say(&[1, 3], ACK_WITHIN)?.took, faults.counts()?);
        faults.heal()?;
        rig.start(2)?;
        let back = rig.wait_ready(2)?;
        rig.wait_whole()?;
        println!("ready again in {back:?}");
    }
    Ok(())
}

#[test]
fn slow_disks_slow_a_cluster_and_it_keeps_serving() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&[Network::available(), DiskFaults::available(), binary().map(drop)]) {
        return Ok(());
    }
    // Two of three: one slow disk alone is outvoted by the others, even the leader's.
    let (mut rig, faults) = with_faults(&[1, 2])?;
    until("leaders are spread", END_WITHIN, || {
        let leaders: std::collections::BTreeSet<_> = rig.leaders(1).ok()?.into_iter().collect();
        (leaders.len() == 3 && !leaders.contains(&None)).then_some(())
    })?;
    let before = rig.say(&[1], ACK_WITHIN)?.took;
    for slow_ms in [50, 200] {
        for (slow, what) in [(1, "the leader's syncs"), (2, "two nodes' syncs")] {
            faults.iter().take(slow).try_for_each(|faults| faults.delay_syncs(Duration::from_millis(slow_ms)))?;
            let mut took = Vec::new();
            for _ in 0..4 {
                took.push(rig.say(&[1], ACK_WITHIN)?.took);
            }
            println!("{what} {slow_ms} ms slower: {took:?}, {before:?} before; ready {:?}", rig.ready_status(1));
            let is_slow = took.iter().any(|took| *took >= Duration::from_millis(slow_ms));
            ensure!(slow == 1 || is_slow, "no message waited for a slow disk: {took:?}");
            faults.iter().try_for_each(DiskFaults::heal)?;
        }
    }
    // Votes are synced too and count for 500 ms only, so from here on it is told, not asked, what the cluster does.
    for slow_ms in [500, 1_000] {
        faults.iter().try_for_each(|faults| faults.delay_syncs(Duration::from_millis(slow_ms)))?;
        let begun = Instant::now();
        let said = rig.say(&[1], Duration::from_secs(40)).map(|acked| acked.took).map_err(|error| format!("{error:#}"));
        let leaders = rig.leaders(1)?;
        println!("two nodes' syncs {slow_ms} ms slower: {said:?} after {:?}; leaders {leaders:?}", begun.elapsed());
        faults.iter().try_for_each(DiskFaults::heal)?;
        rig.wait_whole()?;
    }
    for (number, faults) in (1..).zip(&faults) {
        println!("node {number}: {:?}", faults.counts()?);
        ensure!(rig.ended(number).is_none(), "node {number} ended:\n{}", rig.log_tail(number));
    }
    rig.wait_whole()?;
    println!("then {:?}", rig.say(&[1], ACK_WITHIN)?.took);
    Ok(())
}

#[test]
fn a_full_disk_ends_a_node_and_room_brings_it_back() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&[Network::available(), SmallDisk::available(), binary().map(drop)]) {
        return Ok(());
    }
    let begun = Instant::now();
    let disk = SmallDisk::new(256)?;
    let made = begun.elapsed();
    let mut rig = Rig::new(3)?;
    rig.node(2).data_dir = disk.path().join("data");
    rig.start_all()?;
    let begun = Instant::now();
    disk.fill_but(0)?;
    println!("disk made in {made:?}, filled in {:?}", begun.elapsed());
    let (mut sent, long) = (0, "x".repeat(16_000));
    let ended = until("node 2 ends", Duration::from_secs(60), || {
        // Long, because RocksDB reserves room for its log: short messages go on fitting there for a while.
        sent += rig.say_all(&[1, 3], &[long.as_str(); 100], ACK_WITHIN).map_or(0, |_| 100);
        rig.ended(2)
    });
    let status = ended.with_context(|| format!("{sent} messages; log:\n{}", rig.log_tail(2)))?;
    let log = rig.log_tail(2);
    let last = log.lines().last().unwrap_or_default();
    println!("after {sent} messages node 2 ended with {status}: {last}");
    ensure!(status.code() == Some(EXIT_DISK), "ended with {status}; its log:\n{log}");
    disk.make_room()?;
    rig.start(2)?;
    println!("with room again ready in {:?}", rig.wait_ready(2)?);
    rig.wait_whole()?;
    rig.say(&[2], ACK_WITHIN)?;
    drop(rig);
    drop(disk);
    Ok(())
}

#[test]
fn a_node_with_damaged_files_comes_back_or_says_what_is_wrong() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&[Network::available(), binary().map(drop)]) {
        return Ok(());
    }
    let mut rig = Rig::started(3)?;
    let harms = [Harm::FlipBit, Harm::Truncate, Harm::Delete];
    let kinds = [Kind::Wal, Kind::Manifest, Kind::Current, Kind::Watermarks, Kind::Sst];
    let saved = rig.dir.path().join("saved");
    let data = rig.node(3).data_dir.clone();
    for (seed, (kind, harm)) in (1..).zip(kinds.into_iter().flat_map(|kind| harms.map(|harm| (kind, harm)))) {
        for by in 1..=3 {
            rig.say(&[by], ACK_WITHIN)?;
        }
        rig.kill(3);
        let _ = std::fs::remove_dir_all(&saved);
        copy_dir(&data, &saved)?;
        let damage = match corrupt(&data, kind, harm, seed) {
            Ok(damage) => damage,
            Err(error) => {
                println!("{kind:?} {harm:?}: {error:#}");
                rig.start(3)?;
                rig.wait_ready(3)?;
                continue;
            }
        };
        let name = damage.file.file_name().unwrap_or_default().display().to_string();
        let what = format!("{name} {harm:?} at {} of {} (bit {})", damage.offset, damage.length, damage.bit);
        rig.start(3)?;
        let ready = rig.wait_ready(3);
        let line = rig.log_tail(3).lines().last().unwrap_or_default().to_owned();
        match ready {
            Ok(took) => println!("{what}: ready in {took:?}, whole {:?}", rig.wait_whole().is_ok()),
            Err(_) if rig.ended(3).is_some() => println!("{what}: ended with {:?}: {line}", rig.ended(3)),
            Err(error) => return Err(error).context(format!("{what}: neither ready nor ended")),
        }
        if !rig.is_ready(3) {
            rig.kill(3);
            std::fs::remove_dir_all(&data)?;
            copy_dir(&saved, &data)?;
            rig.start(3)?;
            rig.wait_ready(3)?;
        }
        rig.wait_whole()?;
    }
    Ok(())
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) -> anyhow::Result<()> {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "copy {} to {}", from.display(), to.display());
    Ok(())
}
