//! Owns disks of one node: one whose power fails, and one that is small. Does not stop nodes.
//! Invariant: after a power loss a file holds what was synced before it, and nothing else is promised.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::lazy::{self, LazyFs};
use super::owner;
use super::tool::{self, Need};

const POWER_NEEDS: [Need; 4] =
    [("mkfs.xfs", "xfsprogs"), ("xfs_io", "xfsprogs"), ("mount", "mount"), ("umount", "mount")];
const SMALL_NEEDS: [Need; 3] = [("mount", "mount"), ("umount", "mount"), ("df", "coreutils")];
const IMAGE: &str = "image";
/// XFS is not made smaller than this.
pub const MIB_MIN: u64 = 300;
/// A process that was killed lets go of its files within this.
const IDLE_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A disk whose power can be cut: XFS in an image file, or LazyFS where `EVERDESK_LAZYFS` names one. Unmounted and removed when dropped.
pub struct PowerDisk {
    // Goes before the mount, which nobody can use then.
    store: Store,
    mount: Mount,
    // What lies below, and the place where it is mounted. Last: it goes after the mount.
    dir: tempfile::TempDir,
}

/// The two lose differently: XFS all that its journal had not, names too; LazyFS only bytes, each that was not synced.
enum Store {
    Xfs,
    Lazy { program: PathBuf, process: Option<LazyFs> },
}

impl PowerDisk {
    /// Whether this machine can have one.
    /// # Errors
    /// What is missing, and how to get it.
    pub fn available() -> Result<(), String> {
        if let Some(program) = lazy::program() {
            return lazy::available(&program);
        }
        tool::require(&POWER_NEEDS)?;
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let has_xfs = known.split_whitespace().any(|word| word == "xfs") || tool::run("modprobe", &["xfs"]).is_ok();
        if !has_xfs {
            return Err("this kernel has no XFS: use a kernel with CONFIG_XFS_FS".to_owned());
        }
        match Path::new("/dev/loop-control").exists() {
            true => Ok(()),
            false => Err("no loop devices: use a kernel with CONFIG_BLK_DEV_LOOP".to_owned()),
        }
    }

    /// Makes and mounts a disk of `mib` MiB, `MIB_MIN` at least. The image takes only what is written to it. LazyFS takes
    /// what it needs.
    /// # Errors
    /// `available` says why, or all loop devices are taken.
    pub fn new(mib: u64) -> anyhow::Result<PowerDisk> {
        PowerDisk::available().map_err(anyhow::Error::msg)?;
        let dir = owner::directory()?;
        let at = dir.path().join("disk");
        std::fs::create_dir(&at)?;
        let store = match lazy::program() {
            Some(program) => Store::Lazy { program, process: None },
            None => {
                let image = dir.path().join(IMAGE);
                std::fs::File::create(&image)?.set_len(mib.max(MIB_MIN) << 20)?;
                tool::run("mkfs.xfs", &["-q", &text(&image)])?;
                Store::Xfs
            }
        };
        let mut disk = PowerDisk { store, mount: Mount { at, is_mounted: false }, dir };
        disk.plug_in()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount.at
    }

    /// Whether it has an end that can be reached. LazyFS writes to the machine's own disk, and hides from a sync that it is full.
    pub fn can_be_filled(&self) -> bool {
        matches!(self.store, Store::Xfs)
    }

    /// Cuts the power: what was not synced is lost, and from now on every access fails. Kill the process then, and `power_on`.
    /// # Errors
    /// It is not mounted.
    pub fn power_off(&mut self) -> anyhow::Result<()> {
        match &mut self.store {
            Store::Lazy { process, .. } => {
                process.take().context("cut the power that is off")?.kill();
                Ok(())
            }
            // Without `-f`, which would write the log first: that is no power loss.
            Store::Xfs => {
                tool::run("xfs_io", &["-x", "-c", "shutdown", &text(&self.mount.at)]).map(drop).context("cut the power")
            }
        }
    }

    /// Mounts the disk again, which recovers its log. The processes that used it must have been killed.
    /// # Errors
    /// One of them still has files open after 10 s, or the log cannot be recovered.
    pub fn power_on(&mut self) -> anyhow::Result<()> {
        self.mount
            .unmount_within(IDLE_WITHIN)
            .context("a killed process keeps its files: kill every user of the disk")?;
        self.plug_in()
    }

    fn plug_in(&mut self) -> anyhow::Result<()> {
        match &mut self.store {
            Store::Lazy { program, process } => {
                *process = Some(LazyFs::start(program, self.dir.path(), &self.mount.at)?);
            }
            Store::Xfs => {
                let image = self.dir.path().join(IMAGE);
                tool::run("mount", &["-t", "xfs", "-o", "loop", &text(&image), &text(&self.mount.at)])?;
            }
        }
        self.mount.is_mounted = true;
        Ok(())
    }
}

/// A small file system in memory, to be filled. Unmounted and removed when dropped.
pub struct SmallDisk {
    mount: Mount,
    // Last: the place goes after the mount.
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    /// Whether this machine can have one.
    /// # Errors
    /// What is missing, and how to get it.
    pub fn available() -> Result<(), String> {
        tool::require(&SMALL_NEEDS)
    }

    /// Makes and mounts a disk of `mib` MiB.
    /// # Errors
    /// `available` says why.
    pub fn new(mib: u64) -> anyhow::Result<SmallDisk> {
        SmallDisk::available().map_err(anyhow::Error::msg)?;
        let dir = owner::directory()?;
        let at = dir.path().join("disk");
        std::fs::create_dir(&at)?;
        tool::run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "everdesk-small", &text(&at)])?;
        Ok(SmallDisk { mount: Mount { at, is_mounted: true }, _dir: dir })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount.at
    }

    /// Fills it so that `left` bytes are free. Returns how many were taken.
    /// # Errors
    /// It is fuller than that already.
    pub fn fill_but(&self, left: u64) -> anyhow::Result<u64> {
        let free = self.free_bytes()?;
        let take = free.checked_sub(left).with_context(|| format!("only {free} bytes are free"))?;
        std::fs::write(self.filler(), vec![0; usize::try_from(take)?]).context("fill a small disk")?;
        Ok(take)
    }

    /// Makes room again.
    /// # Errors
    /// It was not filled.
    pub fn make_room(&self) -> anyhow::Result<()> {
        std::fs::remove_file(self.filler()).context("make room on a small disk that was filled")
    }

    /// Bytes that are free.
    /// # Errors
    /// `df` does not tell.
    pub fn free_bytes(&self) -> anyhow::Result<u64> {
        let told = tool::run("df", &["--output=avail", "-B1", &text(&self.mount.at)])?;
        told.lines().last().unwrap_or_default().trim().parse().with_context(|| format!("`df` says {told}"))
    }

    fn filler(&self) -> PathBuf {
        self.mount.at.join("filler")
    }
}

/// Something mounted.
struct Mount {
    at: PathBuf,
    is_mounted: bool,
}

impl Mount {
    fn unmount_within(&mut self, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        while self.is_mounted {
            match tool::run("umount", &[&text(&self.at)]) {
                Ok(_) => self.is_mounted = false,
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => std::thread::park_timeout(LOOK_EVERY),
            }
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // The owner of the process may drop it a moment later.
        if self.unmount_within(Duration::from_secs(1)).is_err() {
            owner::unmount_somehow(&self.at);
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    #[test]
    #[cfg_attr(not(feature = "sim"), ignore = "part of the lab, see docs/RELIABILITY.md")]
    fn a_power_loss_keeps_what_was_synced_and_loses_the_rest() -> anyhow::Result<()> {
        if let Err(why) = PowerDisk::available() {
            crate::lab::skipped(&why);
            return Ok(());
        }
        let begun = Instant::now();
        let mut disk = PowerDisk::new(MIB_MIN)?;
        let made = begun.elapsed();
        let mut kept = File::create(disk.path().join("synced"))?;
        kept.write_all(&[1; 100_000])?;
        kept.sync_all()?;
        kept.write_all(&[2; 100_000])?;
        std::fs::write(disk.path().join("unsynced"), [3; 100_000])?;
        drop(kept);
        let begun = Instant::now();
        disk.power_off()?;
        assert!(std::fs::read(disk.path().join("synced")).is_err(), "a disk without power answers");
        let off = begun.elapsed();
        let begun = Instant::now();
        disk.power_on()?;
        let on = begun.elapsed();
        let left = std::fs::read(disk.path().join("synced"))?;
        assert_eq!(left.get(..100_000), Some(&[1; 100_000][..]), "what was synced is lost");
        assert!(!left.contains(&2), "what was not synced is there: this was no power loss");
        let unsynced = std::fs::read(disk.path().join("unsynced")).unwrap_or_default();
        assert!(!unsynced.contains(&3), "what was not synced is there");
        println!("made in {made:?}, power off {off:?}, on again {on:?}; synced kept, {} bytes lost", 200_000);
        let at = disk.path().to_path_buf();
        drop(disk);
        assert!(!at.exists());
        Ok(())
    }

    #[test]
    #[cfg_attr(not(feature = "sim"), ignore = "part of the lab, see docs/RELIABILITY.md")]
    fn a_small_disk_is_full_and_has_room_again() -> anyhow::Result<()> {
        if let Err(why) = SmallDisk::available() {
            crate::lab::skipped(&why);
            return Ok(());
        }
        let disk = SmallDisk::new(8)?;
        let took = disk.fill_but(64 << 10)?;
        let full = std::fs::write(disk.path().join("more"), vec![0; 1 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        disk.make_room()?;
        std::fs::write(disk.path().join("more"), vec![0; 1 << 20])?;
        println!("{took} bytes taken, then: {full}; after making room 1 MiB was written");
        Ok(())
    }
}
