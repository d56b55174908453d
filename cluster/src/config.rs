//! Owns the cluster's settings. Does not read files or flags. Invariant: validated once, before anything starts.

use std::time::Duration;

/// Most data shards of one cluster.
pub const SHARDS_MAX: u32 = 64;

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

/// When state is written as rows and the log below it goes.
#[derive(Debug, Clone)]
pub struct Compaction {
    /// How often changed state is written as rows. Default 2 s.
    pub checkpoint_every: Duration,
    /// How often checkpoints are flushed, so that the log below them can go. Default 30 s.
    pub flush_every: Duration,
    /// Entries applied since the last flush that are worth a flush: fewer are simply replayed. Default 512.
    pub flush_entries_min: u64,
    /// Log entries kept behind a snapshot, so that a follower that was away briefly needs no snapshot. Default 2,000.
    pub logs_kept: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Compaction {
            checkpoint_every: Duration::from_secs(2),
            flush_every: Duration::from_secs(30),
            flush_entries_min: 512,
            logs_kept: 2_000,
        }
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
