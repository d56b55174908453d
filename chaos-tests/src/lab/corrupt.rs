//! Owns damage to files of a stopped node. Does not know what they mean. Invariant: the same seed and the same files give the
//! same damage, and it is told which.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Which files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Write-ahead logs, `*.log`.
    Wal,
    /// Tables, `*.sst`.
    Sst,
    /// `MANIFEST-*`.
    Manifest,
    /// `CURRENT`.
    Current,
    /// `watermarks`.
    Watermarks,
}

/// What happens to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// One bit turns over.
    FlipBit,
    /// All from some byte on is gone.
    Truncate,
    Delete,
}

/// What was done, so that a run can be told and repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    pub harm: Harm,
    /// Byte that was changed, or the new length.
    pub offset: u64,
    /// 0 to 7, for a flipped bit.
    pub bit: u8,
    /// Bytes of the file before.
    pub length: u64,
}

/// Damages one non-empty file of this kind below `data_dir`, chosen by `seed`.
/// # Errors
/// There is none, or it cannot be changed.
pub fn corrupt(data_dir: &Path, kind: Kind, harm: Harm, seed: u64) -> anyhow::Result<Damage> {
    let mut files = files_below(data_dir)?;
    files.retain(|(file, length)| *length > 0 && kind.is(file));
    files.sort();
    let mut dice = Dice::new(seed);
    let at = usize::try_from(dice.below(files.len() as u64))?;
    let (file, length) =
        files.into_iter().nth(at).with_context(|| format!("no file of {kind:?} in {}", data_dir.display()))?;
    let damage = Damage { file, harm, offset: dice.below(length), bit: dice.below(8) as u8, length };
    damage.inflict().with_context(|| format!("damage {}", damage.file.display()))?;
    Ok(damage)
}

impl Kind {
    fn is(self, file: &Path) -> bool {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match self {
            Kind::Wal => name.ends_with(".log"),
            Kind::Sst => name.ends_with(".sst"),
            Kind::Manifest => name.starts_with("MANIFEST-"),
            Kind::Current => name == "CURRENT",
            Kind::Watermarks => name == "watermarks",
        }
    }
}

impl Damage {
    fn inflict(&self) -> anyhow::Result<()> {
        let open = || OpenOptions::new().read(true).write(true).open(&self.file);
        match self.harm {
            Harm::Delete => std::fs::remove_file(&self.file)?,
            Harm::Truncate => open()?.set_len(self.offset)?,
            Harm::FlipBit => {
                let file = open()?;
                let mut byte = [0];
                file.read_exact_at(&mut byte, self.offset)?;
                file.write_all_at(&[byte[0] ^ 1 << self.bit], self.offset)?;
            }
        }
        Ok(())
    }
}

fn files_below(dir: &Path) -> anyhow::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else {
            found.push((entry.path(), about.len()));
        }
    }
    Ok(found)
}

/// Numbers by chance that a seed repeats (splitmix64).
/// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
}

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice { state: seed }
    }

    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `limit` - 1; 0 of nothing.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll().checked_rem(limit).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_damage_and_each_kind_finds_its_files() -> anyhow::Result<()> {
        let make = || -> anyhow::Result<tempfile::TempDir> {
            let dir = tempfile::tempdir()?;
            std::fs::create_dir(dir.path().join("db"))?;
            for name in ["db/000004.log", "db/000009.sst", "db/MANIFEST-000005", "db/CURRENT", "db/LOG", "watermarks"] {
                std::fs::write(dir.path().join(name), [7; 1000])?;
            }
            std::fs::write(dir.path().join("db/000003.log"), [])?;
            Ok(dir)
        };
        let kinds = [
            (Kind::Wal, "db/000004.log"),
            (Kind::Sst, "db/000009.sst"),
            (Kind::Manifest, "db/MANIFEST-000005"),
            (Kind::Current, "db/CURRENT"),
            (Kind::Watermarks, "watermarks"),
        ];
        for (kind, name) in kinds {
            for harm in [Harm::FlipBit, Harm::Truncate, Harm::Delete] {
                let (one, two) = (make()?, make()?);
                let damage = corrupt(one.path(), kind, harm, 42)?;
                let again = corrupt(two.path(), kind, harm, 42)?;
                assert_eq!(damage.file, one.path().join(name));
                assert_eq!((damage.offset, damage.bit, damage.length), (again.offset, again.bit, again.length));
                let left = std::fs::read(&damage.file).ok();
                let changed = left.as_ref().map(|bytes| bytes.iter().filter(|&&byte| byte != 7).count());
                match harm {
                    Harm::FlipBit => assert_eq!((left.map(|bytes| bytes.len()), changed), (Some(1000), Some(1))),
                    Harm::Truncate => assert_eq!(left.map(|bytes| bytes.len() as u64), Some(damage.offset)),
                    Harm::Delete => assert_eq!(left, None),
                }
            }
        }
        assert!(corrupt(tempfile::tempdir()?.path(), Kind::Sst, Harm::Delete, 1).is_err());
        Ok(())
    }
}
