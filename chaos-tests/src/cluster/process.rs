//! Owns one running node process and the kernel's figures about it. Does not know clusters.
//! Invariant: when this is dropped the process is dead and reaped; signals go to its id, never to a name.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::wait;

/// The kernel counts CPU time in 1/100 s on every Linux that Rust runs on (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// How the kernel's list of connections names one that neither side has ended.
const ESTABLISHED: &str = "01";

/// A started process.
pub struct NodeProcess {
    child: Child,
}

impl NodeProcess {
    /// Starts `binary`; what it prints and logs is appended to `log`.
    /// # Errors
    /// The binary cannot be executed.
    pub fn start(binary: &Path, args: &[String], log: &Path) -> anyhow::Result<NodeProcess> {
        Self::start_behind(&[], binary, args, log)
    }

    /// The same behind a `prefix`: programs that replace themselves by what follows, such as `env` and `nsenter`.
    /// The thread that calls this must outlive the process: the guard goes by the thread, not by the program.
    /// # Errors
    /// The first of them cannot be executed.
    pub fn start_behind(prefix: &[String], binary: &Path, args: &[String], log: &Path) -> anyhow::Result<NodeProcess> {
        let open = || OpenOptions::new().create(true).append(true).open(log);
        // Should this process be killed, the kernel kills the node too. The guard replaces itself by the node, so the id stays.
        let guard = ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--"];
        let guard = if Path::new(guard[0]).is_file() { guard.as_slice() } else { &[] };
        let before = guard.iter().map(OsString::from).chain(prefix.iter().map(OsString::from));
        let mut line = before.chain([binary.as_os_str().to_owned()]).chain(args.iter().map(OsString::from));
        let child = Command::new(line.next().unwrap_or_default())
            .args(line)
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        Ok(NodeProcess { child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    /// # Errors
    /// It still runs after `within`.
    pub async fn wait(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("the end of process {}", self.pid());
        wait::until(&what, within, async || self.ended()).await
    }

    /// `kill -9`, and reaps it.
    pub fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by name, e.g. `STOP`.
    /// # Errors
    /// The process is gone.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        // The shell's own `kill`: the system call needs `unsafe`, which this workspace denies, and the program of that name
        // is not on every machine.
        let pid = self.pid().to_string();
        let status = Command::new("sh").args(["-c", r#"kill -"$0" "$1""#, name, &pid]).status()?;
        anyhow::ensure!(status.success(), "kill -{name} {} failed", self.pid());
        Ok(())
    }

    /// User and system time so far.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.pid())
    }

    /// Where the open connections to a port in this process's network come from: their ports there.
    pub fn callers_of(&self, port: u16) -> BTreeSet<u16> {
        let text = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.pid())).unwrap_or_default();
        let port_in = |field: &str| u16::from_str_radix(field.rsplit_once(':')?.1, 16).ok();
        let open = text.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_open = *fields.get(3)? == ESTABLISHED && port_in(fields[1]) == Some(port);
            is_open.then(|| port_in(fields[2])).flatten()
        });
        open.collect()
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        rss_bytes_of(self.pid())
    }

    /// The most that was ever resident, in bytes.
    pub fn rss_peak_bytes(&self) -> u64 {
        memory_of(self.pid(), "VmHWM:")
    }

    /// The most address space that was ever taken, in bytes: an allocation shows here even when it is never touched.
    pub fn vm_peak_bytes(&self) -> u64 {
        memory_of(self.pid(), "VmPeak:")
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// User and system time of a process; zero once it is gone.
pub fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold blanks: count from behind it.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u32 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// Resident memory of a process in bytes; zero once it is gone.
pub fn rss_bytes_of(pid: u32) -> u64 {
    memory_of(pid, "VmRSS:")
}

fn memory_of(pid: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
