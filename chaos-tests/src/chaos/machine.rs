//! Owns one machine: its place in the network, its disk, its clock, and how its node is started. Does not start it.
//! Invariant: whatever befalls it, its addresses stay.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use super::supervisor::Line;
use crate::cluster::free_port;
use crate::lab::clock::NodeClock;
use crate::lab::disk::PowerDisk;
use crate::lab::net::{ADMIN_PORT, CLIENT_PORT, End, Network, PEER_PORT};
use crate::lab::preload::{DiskFaults, Vars};

/// A disk takes what is written to it; no run writes so much.
const DISK_MIB: u64 = 4_096;

/// A machine.
pub struct Machine {
    pub number: u64,
    pub client: String,
    pub peer: String,
    pub admin: String,
    pub data_dir: PathBuf,
    pub log: PathBuf,
    pub binary: PathBuf,
    pub disk: Option<PowerDisk>,
    pub faults: Option<DiskFaults>,
    pub clock: Option<Arc<NodeClock>>,
    /// Its files were damaged, and it has not been wiped since: what is wrong may show later.
    pub is_damaged: bool,
    /// Address and token with which it joins; passed over by a node that belongs to a cluster.
    pub joins: Option<(String, String)>,
    namespace: Vec<String>,
    /// Of `everdesk start`, the same for all.
    args: Vec<String>,
}

/// What every machine is made from.
pub struct Parts<'a> {
    pub network: Option<&'a Network>,
    pub has_power: bool,
    pub has_disk_faults: bool,
    pub has_clock: bool,
    pub binary: &'a Path,
    pub args: &'a [String],
    /// Where small files of the run lie: controls of clocks and disks, data without a disk of its own.
    pub dir: &'a Path,
    pub logs: &'a Path,
}

impl Machine {
    /// # Errors
    /// No port, no disk, or no library.
    pub fn new(number: u64, parts: &Parts<'_>) -> anyhow::Result<Machine> {
        let addr = |port: u16| match parts.network {
            Some(network) => Ok(network.host_port(number, port)),
            None => free_port().map(|port| format!("127.0.0.1:{port}")),
        };
        let disk = parts.has_power.then(|| PowerDisk::new(DISK_MIB)).transpose()?;
        let parent = disk.as_ref().map_or(parts.dir, PowerDisk::path);
        let data_dir = parent.join(format!("data-{number}"));
        std::fs::create_dir_all(&data_dir)?;
        let faults = parts.has_disk_faults.then(|| DiskFaults::new(parts.dir, &data_dir)).transpose()?;
        let clock = parts.has_clock.then(|| NodeClock::new(parts.dir, &number.to_string(), 0)).transpose()?;
        Ok(Machine {
            number,
            client: addr(CLIENT_PORT)?,
            peer: addr(PEER_PORT)?,
            admin: addr(ADMIN_PORT)?,
            data_dir,
            log: parts.logs.join(format!("{number}.log")),
            binary: parts.binary.to_owned(),
            disk,
            faults,
            clock: clock.map(Arc::new),
            is_damaged: false,
            joins: None,
            namespace: parts.network.map(|network| network.exec_in(End::Node(number))).unwrap_or_default(),
            args: parts.args.to_vec(),
        })
    }

    /// How its node is started now.
    pub fn line(&self) -> Line {
        let mut args = vec!["start".to_owned(), "--data-dir".to_owned(), self.data_dir.display().to_string()];
        for (flag, value) in
            [("--listen", &self.client), ("--peer-listen", &self.peer), ("--admin-listen", &self.admin)]
        {
            args.extend([flag.to_owned(), value.clone()]);
        }
        if let Some((at, token)) = &self.joins {
            args.extend(["--join".to_owned(), at.clone(), "--token".to_owned(), token.clone()]);
        }
        args.extend(self.args.iter().cloned());
        let disk = self.faults.as_ref().map(DiskFaults::vars).unwrap_or_default();
        let vars = self.clock.as_ref().map_or(disk.clone(), |clock| disk.and(clock.vars()));
        let mut prefix = self.namespace.clone();
        if vars != Vars::default() {
            prefix.extend(vars.prefix());
        }
        Line { prefix, binary: self.binary.clone(), args, log: self.log.clone() }
    }

    /// Empties its data directory.
    /// # Errors
    /// A process still writes there, or the disk has no power.
    pub fn wipe(&mut self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(&self.data_dir).with_context(|| format!("wipe {}", self.data_dir.display()))?;
        std::fs::create_dir(&self.data_dir)?;
        self.is_damaged = false;
        Ok(())
    }

    /// The last line of its log that says something: the end of a process, or of its start.
    pub fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(16_384)..]).into_owned();
        let telling = |line: &&str| ["fatal", "ERROR", "panicked", "rror:"].iter().any(|word| line.contains(word));
        let line = text.lines().rev().take(30).find(telling).or_else(|| text.lines().last());
        line.unwrap_or_default().chars().take(300).collect()
    }
}
