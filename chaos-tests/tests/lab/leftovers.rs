//! Owns the proof that a killed lab leaves nothing for long. Does not start nodes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chaos_tests::lab::delay::Delay;
use chaos_tests::lab::disk::{MIB_MIN, PowerDisk, SmallDisk};
use chaos_tests::lab::net::{End, Network};
use chaos_tests::lab::{owner, shapes};

use crate::rig::until;
use crate::{alone, is_skipped};

const CHILD: &str = "LAB_TEST_LEAVE_EVERYTHING";

/// What names a lab of process `pid` anywhere on the machine.
fn traces(pid: u32) -> anyhow::Result<Vec<String>> {
    let mark = format!("{}{pid}-", owner::PREFIX);
    let mut found = Vec::new();
    for dir in ["/run/netns", "/var/tmp", "/tmp"] {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        found.extend(entries.map(|entry| entry.path().display().to_string()).filter(|path| path.contains(&mark)));
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    found.extend(mounts.lines().filter(|line| line.contains(&mark)).map(str::to_owned));
    let loops = Command::new("losetup").args(["-a"]).output()?;
    let loops = String::from_utf8_lossy(&loops.stdout).into_owned();
    found.extend(loops.lines().filter(|line| line.contains(&mark)).map(str::to_owned));
    Ok(found)
}

fn devices() -> anyhow::Result<usize> {
    let out = Command::new("ip").args(["-o", "link"]).output()?;
    Ok(String::from_utf8_lossy(&out.stdout).lines().filter(|line| line.contains(": edlab")).count())
}

fn has_ended(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    // Whoever inherited it may not have asked yet how it ended.
    status.is_empty() || status.contains("State:\tZ")
}

/// Not a test: the process that is killed.
#[test]
fn leave_everything() -> anyhow::Result<()> {
    if std::env::var_os(CHILD).is_none() {
        chaos_tests::lab::skipped("this is the process that another test starts and kills");
        return Ok(());
    }
    let network = Network::new(2)?;
    let _disk = PowerDisk::new(MIB_MIN)?;
    let _small = SmallDisk::new(8)?;
    let _delaying = network.delay(&shapes::all_links(&[1, 2]), Delay::fixed(Duration::from_millis(5)))?;
    let prefix = network.exec_in(End::Node(1));
    // Outlives its parent: it has no guard.
    let stray = Command::new(&prefix[0]).args(&prefix[1..]).args(["sleep", "300"]).spawn()?;
    println!("stray {}", stray.id());
    std::thread::park();
    Ok(())
}

#[test]
fn what_a_killed_lab_left_is_swept_and_what_lives_is_not() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&[Network::can_delay(), PowerDisk::available()]) {
        return Ok(());
    }
    let own = Network::new(1)?;
    let before = devices()?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "leftovers::leave_everything", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let pid = child.id();
    let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines().map_while(Result::ok);
    let stray = lines.find_map(|line| Some(line.split_once("stray ")?.1.trim().to_owned())).context("it failed")?;
    owner::sweep();
    let living = traces(pid)?;
    ensure!(living.len() >= 8, "what a living lab has was swept: {living:?}");
    child.kill()?;
    child.wait()?;
    let begun = Instant::now();
    owner::sweep();
    let took = begun.elapsed();
    println!("{} things of a killed lab swept in {took:?}", living.len());
    until("nothing is left", Duration::from_secs(5), || traces(pid).ok()?.is_empty().then_some(()))
        .with_context(|| format!("left: {:?}", traces(pid)))?;
    until("the stray process has ended", Duration::from_secs(5), || has_ended(&stray).then_some(()))?;
    ensure!(devices()? <= before, "its device is left");
    let own_pid = std::process::id();
    ensure!(!traces(own_pid)?.is_empty(), "our own network was swept");
    drop(own);
    ensure!(devices()? < before, "our own device is left");
    ensure!(traces(own_pid)?.is_empty(), "our own network is left: {:?}", traces(own_pid)?);
    Ok(())
}
