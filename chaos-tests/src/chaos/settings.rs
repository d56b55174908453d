//! Owns what a run is asked to do and how it may end. Does not do it.

use std::path::PathBuf;
use std::time::Duration;

use super::kinds::Kind;

/// What to run.
#[derive(Debug, Clone)]
pub struct Settings {
    pub seed: u64,
    /// Faults are made for so long at most; founding, healing and reading come on top.
    pub faults_for: Duration,
    /// After so many faults no further one begins.
    pub faults_max: Option<u64>,
    /// Machines of the cluster; one more waits as a spare.
    pub nodes: u64,
    pub sessions: usize,
    pub agents: usize,
    /// Mean pause between two things that a person does.
    pub pace: Duration,
    /// The longest that a fault is drawn to last.
    pub lasts_max: Duration,
    /// Which kinds may happen.
    pub kinds: Vec<Kind>,
    /// Names of kinds or groups, and how many there must be at least.
    pub required: Vec<(String, usize)>,
    /// Where history, page and logs go; made if it is not there.
    pub out: PathBuf,
    /// What to type to do it again.
    pub command: String,
}

/// How a run ended; the program's exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Passed = 0,
    /// A promise was broken.
    Failed = 1,
    /// It proves nothing: a fault that was asked for did not happen, or nothing was looked at.
    Invalid = 2,
}
