//! Owns LazyFS below one node: a file system that keeps what was not synced to itself, and loses it when it is killed.
//! Does not stop nodes. Invariant: it was built apart and is named by `EVERDESK_LAZYFS`; nothing is downloaded.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::{owner, tool};
use crate::cluster::NodeProcess;

/// Names the program.
const VARIABLE: &str = "EVERDESK_LAZYFS";
/// Files that were synced stay in its memory too, as far as there is room; all of it is taken at the start.
const MEMORY: &str = "512mb";
const STARTS_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The program that `EVERDESK_LAZYFS` names, if it does.
pub fn program() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).map(PathBuf::from)
}

/// Whether the named program can run here.
/// # Errors
/// What is missing.
pub fn available(program: &Path) -> Result<(), String> {
    tool::require(&[("mount", "mount"), ("umount", "mount")])?;
    if !program.is_file() {
        return Err(format!("{VARIABLE} names no file: {}", program.display()));
    }
    match Path::new("/dev/fuse").exists() {
        true => Ok(()),
        false => Err("no /dev/fuse: use a kernel with CONFIG_FUSE_FS".to_owned()),
    }
}

/// One LazyFS. Its process is killed when dropped; the mount is not taken away.
pub struct LazyFs {
    process: NodeProcess,
}

impl LazyFs {
    /// Mounts what lies in `dir/below` at `at`.
    /// # Errors
    /// It does not start, or is not there within 30 s; with what it said.
    pub fn start(program: &Path, dir: &Path, at: &Path) -> anyhow::Result<LazyFs> {
        let below = dir.join("below");
        std::fs::create_dir_all(&below)?;
        let config = dir.join("lazyfs.toml");
        let fifo = dir.join("lazyfs.fifo");
        // It cannot be run without a pipe for its commands, of which none is given: to kill it is enough.
        let text = format!(
            "[faults]\nfifo_path={:?}\n[cache]\napply_eviction=false\n[cache.simple]\ncustom_size={MEMORY:?}\nblocks_per_page=1\n\
             [filesystem]\nlog_all_operations=false\n",
            fifo.display().to_string()
        );
        std::fs::write(&config, text)?;
        let log = dir.join("lazyfs.log");
        let subdir = format!("subdir={}", below.display());
        let args = [
            &at.display().to_string(),
            "--config-path",
            &config.display().to_string(),
            "-o",
            "allow_other",
            "-o",
            "modules=subdir",
            "-o",
            &subdir,
            "-f",
        ];
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut process = NodeProcess::start_behind(&[], program, &args, &log)?;
        let deadline = Instant::now() + STARTS_WITHIN;
        while !owner::mounts().iter().any(|point| point == at) {
            if process.ended().is_some() || Instant::now() >= deadline {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                bail!("LazyFS does not start: {}", said.lines().last().unwrap_or("it says nothing"));
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        Ok(LazyFs { process })
    }

    /// Loses what was not synced. From now on every access to the mount fails.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
