//! Owns the version of everything that is stored and sent: commands, rows, frames. Does not know which version is in force:
//! the meta group does. Invariant: a build reads and writes every version of its range, and a node writes only the one in force.

use bincode::{Decode, Encode};
use std::fmt;

/// Oldest version that this build speaks.
pub const VERSION_MIN: u16 = 1;
/// Newest version that this build speaks. The feature `next` stands for the next release, in tests of upgrades.
pub const VERSION_MAX: u16 = if cfg!(feature = "next") { 2 } else { 1 };

/// The versions that a build speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Versions {
    pub min: u16,
    pub max: u16,
}

impl Versions {
    /// Of this build.
    pub const MINE: Versions = Versions { min: VERSION_MIN, max: VERSION_MAX };

    pub fn speaks(self, version: u16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { write!(f, "{}", self.min) } else { write!(f, "{} to {}", self.min, self.max) }
    }
}

/// What is told to whoever does not speak the version in force.
pub fn version_text(version: u16) -> String {
    format!(
        "the cluster is at version {version}; this build speaks {}: start one that speaks {version}",
        Versions::MINE
    )
}
