//! Owns where test clusters live: directories on a real disk, free ports, the binary. Does not start anything.
//! Invariant: no directory is in memory, because an fsync there costs nothing and proves nothing.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, bail};

/// The `everdesk` binary: `$EVERDESK_BIN`, or beside or above this executable.
/// # Errors
/// It has not been built.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("EVERDESK_BIN").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        anyhow::ensure!(path.is_file(), "EVERDESK_BIN names {}, which is not a file", path.display());
        return Ok(path);
    }
    let own = std::env::current_exe()?;
    // A test executable lies in `release/deps`, the benchmark in `release`.
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join("everdesk")).find(|path| path.is_file());
    beside.with_context(|| format!("no `everdesk` beside {}: build it, or set EVERDESK_BIN", own.display()))
}

/// A fresh directory on a disk, removed when dropped. `$EVERDESK_TEST_DIR` names another parent.
/// # Errors
/// No directory on a disk can be written.
pub fn directory() -> anyhow::Result<tempfile::TempDir> {
    let named = std::env::var_os("EVERDESK_TEST_DIR").map(PathBuf::from);
    let own = std::env::current_exe()?.parent().map(Path::to_path_buf);
    let candidates = named.into_iter().chain([std::env::temp_dir(), PathBuf::from("/var/tmp")]).chain(own);
    for parent in candidates {
        if !is_in_memory(&parent)
            && let Ok(dir) = tempfile::Builder::new().prefix("everdesk-").tempdir_in(&parent)
        {
            return Ok(dir);
        }
    }
    bail!("no directory on a disk: set EVERDESK_TEST_DIR")
}

/// Whether the file system under `path` is kept in memory.
pub fn is_in_memory(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mount = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let nearest = mount.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.len());
    nearest.is_some_and(|(_, kind)| matches!(kind, "tmpfs" | "ramfs"))
}

/// Below the range from which the kernel takes source ports: a client's connection must not sit on the port of a node that comes back.
const PORTS: std::ops::Range<u16> = 18_000..32_000;

static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of 127.0.0.1 on which nobody listens and which this process has not given out before.
/// # Errors
/// All are taken.
pub fn free_port() -> anyhow::Result<u16> {
    let mut given = GIVEN.lock().map_err(|_| anyhow::anyhow!("another thread failed while it took a port"))?;
    let start = u16::try_from(std::process::id() % 1_000).unwrap_or(0) * 13;
    let count = PORTS.end - PORTS.start;
    for step in 0..count {
        let port = PORTS.start + (start + step) % count;
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    bail!("no free port in {PORTS:?}")
}
