//! Owns the wall clock that one process sees, by libfaketime. Does not touch the machine's clock, nor monotonic time.
//! Invariant: the control file is replaced whole, so that no process reads half an offset.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::preload::Vars;
use super::ticker::Ticker;

/// Where Debian keeps the library for programs with threads.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
/// The same on another architecture.
const LIBRARY_ARM: &str = "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1";

/// The clock of every process that is started with `vars`.
#[derive(Debug)]
pub struct NodeClock {
    file: PathBuf,
    library: PathBuf,
}

impl NodeClock {
    /// Whether clocks can be moved here.
    /// # Errors
    /// What is missing, and how to get it.
    pub fn available() -> Result<(), String> {
        match library() {
            Some(_) => Ok(()),
            None => Err("libfaketime is missing: apt-get install libfaketime".to_owned()),
        }
    }

    /// A clock that is off by `offset_ms`. Its control file lies in `run_dir` under `name`.
    /// # Errors
    /// No library, or the file cannot be written.
    pub fn new(run_dir: &Path, name: &str, offset_ms: i64) -> anyhow::Result<NodeClock> {
        let library = library().context("libfaketime is missing: apt-get install libfaketime")?;
        let clock = NodeClock { file: run_dir.join(format!("clock-{name}")), library };
        clock.set(offset_ms)?;
        Ok(clock)
    }

    /// What the process must find in its environment.
    pub fn vars(&self) -> Vars {
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let others = vec![
            set("FAKETIME_TIMESTAMP_FILE", &self.file.display().to_string()),
            // Reads the file at every look at the clock: a jump is seen at once, and strobes at all.
            set("FAKETIME_NO_CACHE", "1"),
            set("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            set("DONT_FAKE_MONOTONIC", "1"),
        ];
        Vars::new(self.library.clone(), others)
    }

    /// Jumps: the clock is off by `offset_ms` from now on, forward or back.
    /// # Errors
    /// The file cannot be written.
    pub fn set(&self, offset_ms: i64) -> anyhow::Result<()> {
        let sign = if offset_ms < 0 { '-' } else { '+' };
        let ms = offset_ms.unsigned_abs();
        let partial = self.file.with_extension("partial");
        std::fs::write(&partial, format!("{sign}{}.{:03}\n", ms / 1000, ms % 1000))?;
        std::fs::rename(&partial, &self.file).context("set a clock")
    }

    /// Jumps between `offset_ms` and 0 every `period`, beginning with the offset, until the answer is dropped.
    /// # Errors
    /// No thread.
    pub fn strobe(self: &Arc<Self>, offset_ms: i64, period: Duration) -> anyhow::Result<Strobing> {
        let clock = self.clone();
        let turn = move |count: u64| clock.set(if count.is_multiple_of(2) { offset_ms } else { 0 });
        Ok(Strobing { ticker: Ticker::start(period, turn)?, clock: self.clone() })
    }
}

/// A clock that jumps to and fro while this lives; right again afterwards.
pub struct Strobing {
    ticker: Ticker,
    clock: Arc<NodeClock>,
}

impl Strobing {
    /// Ends it and returns how often the clock jumped.
    /// # Errors
    /// The clock cannot be set right.
    pub fn stop(mut self) -> anyhow::Result<u64> {
        let jumps = self.ticker.stop();
        self.clock.set(0)?;
        Ok(jumps)
    }
}

impl Drop for Strobing {
    fn drop(&mut self) {
        self.ticker.stop();
        if let Err(error) = self.clock.set(0) {
            eprintln!("a clock stays off: {error:#}");
        }
    }
}

fn library() -> Option<PathBuf> {
    [LIBRARY, LIBRARY_ARM].into_iter().map(PathBuf::from).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::SystemTime;

    fn offset_s(clock: &NodeClock) -> anyhow::Result<f64> {
        let prefix = clock.vars().prefix();
        let out = Command::new(&prefix[0]).args(&prefix[1..]).args(["date", "+%s.%N"]).output()?;
        let told: f64 = String::from_utf8(out.stdout)?.trim().parse()?;
        Ok(told - SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64())
    }

    #[test]
    #[cfg_attr(not(feature = "sim"), ignore = "part of the lab, see docs/RELIABILITY.md")]
    fn a_clock_is_off_by_what_was_set() -> anyhow::Result<()> {
        if let Err(why) = NodeClock::available() {
            crate::lab::skipped(&why);
            return Ok(());
        }
        let dir = crate::lab::owner::directory()?;
        let clock = NodeClock::new(dir.path(), "n1", 0)?;
        for wanted_ms in [0, 100, -100, 3_600_000, -3_600_000, 1_500] {
            clock.set(wanted_ms)?;
            let seen = offset_s(&clock)?;
            println!("set {wanted_ms} ms, seen {seen:.3} s");
            assert!((seen - wanted_ms as f64 / 1000.0).abs() < 0.09, "set {wanted_ms} ms, seen {seen} s");
        }
        Ok(())
    }
}
