//! Owns a disk that fails or is slow for one process, by a library that is loaded into it. Does not change files.
//! Invariant: only calls on files below one directory are hit; without a fault every call passes unchanged.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::tool;

const SOURCE: &str = include_str!("preload/disk.c");
const CONTROL_BYTES: u64 = 4096;
const BELOW_BYTES_MAX: usize = 4096 - 8 * 8;
/// A count that never ends.
pub const FOREVER: u64 = u64::MAX;

/// The fields of `struct control` in `disk.c`, each 8 bytes.
#[derive(Debug, Clone, Copy)]
enum Field {
    SyncFail,
    SyncDelayUs,
    WriteFail,
    WriteErrno,
    Syncs,
    SyncsFailed,
    WritesFailed,
    BelowLen,
    Below,
}

/// What a failed write says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteError {
    /// EIO: the device failed.
    Io,
    /// ENOSPC: no room.
    Full,
}

/// What the library did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Syncs seen while a fault of syncs was set.
    pub syncs: u64,
    pub syncs_failed: u64,
    pub writes_failed: u64,
}

/// Faults of the disk of every process that is started with `vars`.
pub struct DiskFaults {
    control: File,
    control_path: PathBuf,
    library: PathBuf,
}

impl DiskFaults {
    /// Whether the library can be built here.
    /// # Errors
    /// What is missing, and how to get it.
    pub fn available() -> Result<(), String> {
        match tool::find("cc") {
            Some(_) => Ok(()),
            None => Err("`cc` is missing: apt-get install gcc libc6-dev".to_owned()),
        }
    }

    /// Builds the library into `run_dir`, for files below `below`, which must exist. One for each node.
    /// # Errors
    /// The compiler fails.
    pub fn new(run_dir: &Path, below: &Path) -> anyhow::Result<DiskFaults> {
        let library = build(run_dir, "disk", SOURCE)?;
        // The kernel names files by their real path.
        let below = below.canonicalize().with_context(|| format!("find {}", below.display()))?;
        let prefix = format!("{}/", below.display());
        anyhow::ensure!(prefix.len() <= BELOW_BYTES_MAX, "{prefix} is too long a name: use a shorter directory");
        let (control, control_path) = tempfile::Builder::new().prefix("disk-faults-").tempfile_in(run_dir)?.keep()?;
        control.set_len(CONTROL_BYTES)?;
        let faults = DiskFaults { control, control_path, library };
        faults.control.write_all_at(prefix.as_bytes(), Field::Below.offset())?;
        faults.set(Field::BelowLen, prefix.len() as u64)?;
        Ok(faults)
    }

    /// What the process must find in its environment.
    pub fn vars(&self) -> Vars {
        let control = ("EVERDESK_LAB_DISK".to_owned(), self.control_path.display().to_string());
        Vars { preload: vec![self.library.clone()], others: vec![control] }
    }

    /// The next `count` syncs fail with EIO; `FOREVER` is all.
    /// # Errors
    /// The control file is gone.
    pub fn fail_syncs(&self, count: u64) -> anyhow::Result<()> {
        self.set(Field::SyncFail, count)
    }

    /// Every sync takes so much longer, until it is set to zero.
    /// # Errors
    /// As `fail_syncs`.
    pub fn delay_syncs(&self, by: Duration) -> anyhow::Result<()> {
        self.set(Field::SyncDelayUs, u64::try_from(by.as_micros())?)
    }

    /// The next `count` writes fail.
    /// # Errors
    /// As `fail_syncs`.
    pub fn fail_writes(&self, count: u64, how: WriteError) -> anyhow::Result<()> {
        // EIO and ENOSPC of Linux.
        let errno = if how == WriteError::Io { 5 } else { 28 };
        // First what to say, then that it is to be said.
        self.set(Field::WriteErrno, errno)?;
        self.set(Field::WriteFail, count)
    }

    /// Ends all faults.
    /// # Errors
    /// As `fail_syncs`.
    pub fn heal(&self) -> anyhow::Result<()> {
        [Field::SyncFail, Field::SyncDelayUs, Field::WriteFail].into_iter().try_for_each(|field| self.set(field, 0))
    }

    /// What was done so far.
    /// # Errors
    /// As `fail_syncs`.
    pub fn counts(&self) -> anyhow::Result<Counts> {
        Ok(Counts {
            syncs: self.get(Field::Syncs)?,
            syncs_failed: self.get(Field::SyncsFailed)?,
            writes_failed: self.get(Field::WritesFailed)?,
        })
    }

    fn set(&self, field: Field, value: u64) -> anyhow::Result<()> {
        self.control.write_all_at(&value.to_ne_bytes(), field.offset()).context("write the control file")
    }

    fn get(&self, field: Field) -> anyhow::Result<u64> {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, field.offset()).context("read the control file")?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

impl Field {
    fn offset(self) -> u64 {
        self as u64 * 8
    }
}

/// Variables for a process: libraries to load, and what they read. Several faults are joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vars {
    preload: Vec<PathBuf>,
    others: Vec<(String, String)>,
}

impl Vars {
    /// Both.
    #[must_use]
    pub fn and(mut self, other: Vars) -> Vars {
        self.preload.extend(other.preload);
        self.others.extend(other.others);
        self
    }

    pub(super) fn new(library: PathBuf, others: Vec<(String, String)>) -> Vars {
        Vars { preload: vec![library], others }
    }

    /// What to put before a command so that it has them: `env NAME=VALUE ...`. The process id stays.
    pub fn prefix(&self) -> Vec<String> {
        let env = tool::find("env").map_or_else(|| "env".to_owned(), |path| path.display().to_string());
        let pairs = self.pairs().into_iter().map(|(name, value)| format!("{name}={value}"));
        [env].into_iter().chain(pairs).collect()
    }

    /// Name and value of each.
    pub fn pairs(&self) -> Vec<(String, String)> {
        let paths: Vec<String> = self.preload.iter().map(|path| path.display().to_string()).collect();
        let preload = (!paths.is_empty()).then(|| ("LD_PRELOAD".to_owned(), paths.join(":")));
        preload.into_iter().chain(self.others.iter().cloned()).collect()
    }
}

/// Compiles a library for LD_PRELOAD into `dir`.
fn build(dir: &Path, name: &str, source: &str) -> anyhow::Result<PathBuf> {
    let from = dir.join(format!("{name}.c"));
    let library = dir.join(format!("lib{name}.so"));
    if library.is_file() {
        return Ok(library);
    }
    std::fs::write(&from, source)?;
    // Under another name first: a second caller must not find a library that is half written.
    let partial = tempfile::Builder::new().suffix(".so").tempfile_in(dir)?;
    let (into, from) = (partial.path().display().to_string(), from.display().to_string());
    tool::run("cc", &["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", &into, &from, "-ldl"])?;
    partial.persist(&library)?;
    Ok(library)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Instant;

    /// Writes and syncs a file with the library loaded; the error that `dd` prints, if any.
    fn write_and_sync(faults: &DiskFaults, file: &Path) -> anyhow::Result<Option<String>> {
        let prefix = faults.vars().prefix();
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).args(["LC_ALL=C", "dd", "if=/dev/zero", "bs=4k", "count=1", "conv=fdatasync"]);
        let out = command.arg(format!("of={}", file.display())).output()?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        Ok((!out.status.success()).then_some(said))
    }

    #[test]
    #[cfg_attr(not(feature = "sim"), ignore = "part of the lab, see docs/RELIABILITY.md")]
    fn only_the_next_calls_below_the_directory_are_hit() -> anyhow::Result<()> {
        if let Err(why) = DiskFaults::available() {
            crate::lab::skipped(&why);
            return Ok(());
        }
        let dir = crate::lab::owner::directory()?;
        let below = dir.path().join("data");
        std::fs::create_dir(&below)?;
        let begun = Instant::now();
        let faults = DiskFaults::new(dir.path(), &below)?;
        let built = begun.elapsed();
        let (inside, outside) = (below.join("file"), dir.path().join("file"));
        assert_eq!(write_and_sync(&faults, &inside)?, None);
        faults.fail_syncs(1)?;
        assert_eq!(write_and_sync(&faults, &outside)?, None);
        let said = write_and_sync(&faults, &inside)?.context("the sync did not fail")?;
        assert!(said.contains("Input/output error"), "{said}");
        assert_eq!(write_and_sync(&faults, &inside)?, None);
        faults.fail_writes(1, WriteError::Full)?;
        assert_eq!(write_and_sync(&faults, &outside)?, None);
        let said = write_and_sync(&faults, &inside)?.context("the write did not fail")?;
        assert!(said.contains("No space left"), "{said}");
        faults.delay_syncs(Duration::from_millis(300))?;
        let begun = Instant::now();
        assert_eq!(write_and_sync(&faults, &inside)?, None);
        let slow = begun.elapsed();
        assert!(slow >= Duration::from_millis(300), "{slow:?}");
        faults.heal()?;
        println!("library built in {built:?}; a slow sync took {slow:?}; {:?}", faults.counts()?);
        Ok(())
    }
}
