//! Owns the cluster's settings. Does not read files or flags. Invariant: validated once, before anything starts.

use std::time::Duration;

/// Timings of every raft group on a node.
#[derive(Debug, Clone)]
pub struct RaftTimings {
    /// How often a leader proves that it is alive, to the next 25 ms. Default 100 ms, at least 50.
    pub heartbeat: Duration,
    /// Shortest silence after which a follower stands for election. Default 300 ms.
    pub election_min: Duration,
    /// Longest such silence, and the leader lease that voters respect. Default 600 ms.
    pub election_max: Duration,
}

impl Default for RaftTimings {
    fn default() -> Self {
        RaftTimings {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
        }
    }
}

impl RaftTimings {
    /// # Errors
    /// Timings under which a healthy leader would be deposed.
    pub fn validate(&self) -> Result<(), String> {
        if self.heartbeat < Duration::from_millis(50) {
            return Err("the heartbeat must be at least 50 ms".into());
        }
        if self.election_min < self.heartbeat * 2 {
            return Err("the shortest election timeout must be at least two heartbeats".into());
        }
        if self.election_max <= self.election_min {
            return Err("the longest election timeout must be above the shortest".into());
        }
        Ok(())
    }
}

/// Most messages in one raft entry.
pub const BATCH_COMMANDS_MAX: usize = 512;
/// Most bytes in one raft entry, except that one command always fits.
pub const BATCH_BYTES_MAX: usize = 512 << 10;
/// Entries of one shard that may be under way at once.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 2;
/// Commands that may wait for a shard's proposer; over it the answer is `Overloaded`.
pub const PROPOSALS_WAITING_MAX: usize = 8 << 10;
/// What an overloaded shard tells callers to wait, in milliseconds.
pub const OVERLOADED_RETRY_MS: u32 = 200;
