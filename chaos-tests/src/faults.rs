//! Owns what is done to a running cluster. Does not know conversations. Invariant: each fault names the node it hit.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::cluster::Cluster;
use crate::wait;

impl Cluster {
    /// The node that leads most data shards, and which ones.
    /// # Errors
    /// No node answers.
    pub async fn busiest_leader(&self) -> anyhow::Result<(u64, Vec<u64>)> {
        let status = self.status(1).await?;
        let led = self.nodes().iter().map(|node| (node.number, status.led_by(node.number)));
        led.max_by_key(|(_, shards)| shards.len()).context("no nodes")
    }

    /// `kill -9`.
    pub fn kill(&mut self, number: u64) {
        if let Some(process) = self.process(number) {
            process.kill();
        }
    }

    /// `kill -9` of all, as near to at once as one thread can.
    pub fn kill_all(&mut self) {
        for number in 1..=self.nodes().len() as u64 {
            if let Some(process) = self.process(number) {
                // The reaping comes with the next kill; the signal must not wait for it.
                let _ = process.signal("KILL");
            }
        }
        for number in 1..=self.nodes().len() as u64 {
            self.kill(number);
        }
    }

    /// Starts nodes together and waits for all: none is ready before a quorum is up.
    /// # Errors
    /// One does not come back.
    pub async fn restart(&mut self, numbers: &[u64]) -> anyhow::Result<()> {
        for &number in numbers {
            self.spawn(number).await?;
        }
        for &number in numbers {
            self.wait_ready(number).await?;
        }
        Ok(())
    }

    /// Freezes a node with SIGSTOP for `time`, then lets it go on as if nothing had happened.
    /// # Errors
    /// The node is not running.
    pub async fn freeze(&mut self, number: u64, time: Duration) -> anyhow::Result<()> {
        self.process(number).context("not running")?.signal("STOP")?;
        wait::pause(time).await;
        self.process(number).context("not running")?.signal("CONT")
    }

    /// Empties every write-ahead log of a stopped node, as a disk that lied about its flushes would. Returns how many bytes went.
    /// # Errors
    /// The files cannot be changed.
    pub fn wipe_wal(&self, number: u64) -> anyhow::Result<u64> {
        let mut lost = 0;
        for file in files_below(&self.node(number).data_dir)? {
            if file.extension().is_some_and(|extension| extension == "log") {
                lost += file.metadata()?.len();
                std::fs::OpenOptions::new().write(true).open(&file)?.set_len(0)?;
            }
        }
        Ok(lost)
    }
}

fn files_below(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_below(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// A small file system of its own, to be filled. Unmounted when dropped.
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts `mib` MiB at `at`, which is made. `None` when this process may not mount.
    /// # Errors
    /// The directory cannot be made.
    pub fn mount(at: PathBuf, mib: u64) -> anyhow::Result<Option<SmallDisk>> {
        std::fs::create_dir_all(&at)?;
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "everdesk-small"]).arg(&at).status();
        Ok(mounted.is_ok_and(|status| status.success()).then_some(SmallDisk { at }))
    }

    /// Writes a file that leaves `left` bytes free.
    /// # Errors
    /// The disk is fuller than that already.
    pub fn fill_but(&self, left: u64) -> anyhow::Result<()> {
        let out = Command::new("df").args(["--output=avail", "-B1"]).arg(&self.at).output()?;
        let text = String::from_utf8_lossy(&out.stdout);
        let free: u64 = text.lines().last().unwrap_or_default().trim().parse()?;
        let take = free.checked_sub(left).with_context(|| format!("only {free} bytes are free"))?;
        std::fs::write(self.at.join("filler"), vec![0; usize::try_from(take)?])?;
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the node that writes there may end a moment later.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.at).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.at.display());
        }
    }
}
