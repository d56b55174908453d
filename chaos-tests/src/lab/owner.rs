//! Owns the names of what labs make on the machine, and the removal of what killed processes left. Does not make anything but directories.
//! Invariant: a name tells the process that made it; nothing of a process that still runs is removed.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use super::tool;

/// How every name begins that a lab gives: namespaces, directories.
pub const PREFIX: &str = "edlab-";
/// Where `ip netns` keeps its names.
pub const NAMESPACES: &str = "/run/netns";
const DEVICES: &str = "/sys/class/net";

static MADE: AtomicU64 = AtomicU64::new(0);
static SWEPT: Once = Once::new();

/// A name that no other lab of this or another process has: prefix, process id, its start time, a count.
pub fn tag() -> String {
    SWEPT.call_once(sweep);
    let pid = std::process::id();
    let born = start_time(pid).unwrap_or(0);
    format!("{PREFIX}{pid}-{born}-{}", MADE.fetch_add(1, Ordering::Relaxed))
}

/// A fresh directory of a lab, removed when dropped. `$EVERDESK_TEST_DIR` names another parent.
/// # Errors
/// It cannot be made.
pub fn directory() -> anyhow::Result<tempfile::TempDir> {
    let name = tag();
    let mut last = anyhow::anyhow!("no parent directory: set EVERDESK_TEST_DIR");
    for parent in parents() {
        match tempfile::Builder::new().prefix(&format!("{name}-")).rand_bytes(0).tempdir_in(&parent) {
            Ok(dir) => return Ok(dir),
            Err(error) => last = anyhow::Error::new(error).context(format!("make a directory in {}", parent.display())),
        }
    }
    Err(last)
}

/// Whether a name was given by a lab whose process is gone.
pub fn is_stale(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let mut parts = rest.split('-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(born))) = (parts.next(), parts.next()) else { return false };
    let Ok(pid) = u32::try_from(pid) else { return false };
    // The start time tells the process from a later one with the same id.
    start_time(pid) != Some(born)
}

/// Removes what labs of ended processes left. Runs by itself before the first name is given.
pub fn sweep() {
    for name in names_in(Path::new(NAMESPACES)).filter(|name| is_stale(name)) {
        remove_namespace(&name);
    }
    for name in names_in(Path::new(DEVICES)).filter(|name| is_stale(&alias_of(name))) {
        remove_device(&name);
    }
    for point in mounts().into_iter().rev().filter(|point| is_in_stale_dir(point)) {
        unmount_somehow(&point);
    }
    let mounted = mounts();
    for parent in parents() {
        for name in names_in(&parent).filter(|name| is_stale(name)) {
            let dir = parent.join(name);
            // What is still mounted there would be emptied.
            if !mounted.iter().any(|point| point.starts_with(&dir)) {
                let _ = std::fs::remove_dir_all(&dir);
            }
        }
    }
}

/// Ends the processes in a namespace of a lab and removes its name; its devices go with it.
pub fn remove_namespace(name: &str) {
    let pids = tool::run("ip", &["netns", "pids", name]).unwrap_or_default();
    for pid in pids.lines().filter_map(|pid| pid.trim().parse().ok()) {
        tool::kill(pid);
    }
    // Another sweep may have been faster.
    let _ = tool::run("ip", &["netns", "delete", name]);
}

/// Removes a device that a lab added to the machine.
pub fn remove_device(name: &str) {
    // It goes with its namespace as well, and that may have been faster.
    let _ = tool::run("ip", &["link", "delete", name]);
}

/// Unmounts, if need be lazily: a process that still ends keeps the file system, not its place.
pub fn unmount_somehow(point: &Path) {
    let at = point.display().to_string();
    if tool::run("umount", &[&at]).is_err() {
        let _ = tool::run("umount", &["--lazy", &at]);
    }
}

fn parents() -> Vec<PathBuf> {
    let named = std::env::var_os("EVERDESK_TEST_DIR").map(PathBuf::from);
    // Not /tmp first: it may be in memory, where an fsync costs nothing and proves nothing.
    named.into_iter().chain([PathBuf::from("/var/tmp"), std::env::temp_dir()]).collect()
}

fn names_in(dir: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// Where something is mounted.
pub(super) fn mounts() -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).collect()
}

fn alias_of(device: &str) -> String {
    let alias = std::fs::read_to_string(Path::new(DEVICES).join(device).join("ifalias"));
    alias.map(|alias| alias.trim().to_owned()).unwrap_or_default()
}

fn is_in_stale_dir(point: &Path) -> bool {
    // The namespaces' own mounts went above.
    !point.starts_with(NAMESPACES) && point.iter().filter_map(|part| part.to_str()).any(is_stale)
}

/// When a process was started, in the kernel's ticks since boot.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold blanks: count from behind it. Start time is field 22, and this begins at field 3.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_stale_only_when_its_process_is_gone() {
        let own = tag();
        assert!(!is_stale(&own), "{own} is ours");
        let pid = std::process::id();
        assert!(is_stale(&format!("{PREFIX}{pid}-1-0-n1")), "the id was given to a later process");
        assert!(is_stale(&format!("{PREFIX}4194305-77-0")), "no process has an id above the kernel's limit");
        assert!(!is_stale("edlab-"), "nobody's name");
        assert!(!is_stale("docker0"), "another one's name");
    }
}
