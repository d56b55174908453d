//! Owns how much of a node's time its indexes may take. Does not write them. Invariant: the more the shards hear, the less: what is said now
//! is sent first and found later, and a node that has time catches up.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Events per second, over the shards of a node, from which on it is loaded.
const LOADED_PER_S: f64 = 100.0;
/// Between two looks at what is new, at least.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A loaded node rests so many times as long as it worked: 2 % of a core.
const LOADED_REST: u32 = 49;
/// And so many times as long as a commit took before the next one of any index: a commit has files to write beside the log, however
/// little stands in it. Measured: 5 to 10 ms.
const LOADED_COMMIT_REST: u32 = 400;
/// As above, when the node is not loaded.
const COMMIT_REST: u32 = 10;

/// Of all indexes of a node.
#[derive(Default)]
pub struct Pace {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_loaded: bool,
    commits_from: Option<Instant>,
}

impl Pace {
    /// So many events came in so long.
    pub fn heard(&self, events: u64, during: Duration) {
        self.state.lock().is_loaded = events as f64 > LOADED_PER_S * during.as_secs_f64();
    }

    /// How long to rest after work that `took` so long; `is_behind`: there is more to do.
    pub fn rest(&self, took: Duration, is_behind: bool) -> Duration {
        match self.state.lock().is_loaded {
            true => (took * LOADED_REST).max(LOOK_EVERY),
            false if is_behind => took / 2,
            false => LOOK_EVERY,
        }
    }

    /// Whether an index may be committed.
    pub fn may_commit(&self, now: Instant) -> bool {
        self.state.lock().commits_from.is_none_or(|from| from <= now)
    }

    /// One was, and that `took` so long.
    pub fn committed(&self, now: Instant, took: Duration) {
        let mut state = self.state.lock();
        state.commits_from = Some(now + took * if state.is_loaded { LOADED_COMMIT_REST } else { COMMIT_REST });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const WORK: Duration = Duration::from_millis(40);

    #[test]
    fn a_node_that_hears_much_indexes_a_fiftieth_of_the_time_and_one_with_time_catches_up() {
        let pace = Pace::default();
        assert_eq!((pace.rest(WORK, true), pace.rest(WORK, false)), (WORK / 2, LOOK_EVERY));
        pace.heard(101, SECOND);
        assert_eq!((pace.rest(WORK, true), pace.rest(WORK, false)), (WORK * 49, WORK * 49));
        assert_eq!(pace.rest(Duration::ZERO, true), LOOK_EVERY);
        pace.heard(101, 2 * SECOND);
        assert_eq!(pace.rest(WORK, true), WORK / 2);
    }

    #[test]
    fn commits_are_as_far_apart_as_the_last_one_was_long() {
        let (pace, now) = (Pace::default(), Instant::now());
        assert!(pace.may_commit(now));
        pace.committed(now, WORK);
        assert!(!pace.may_commit(now + WORK * 9));
        assert!(pace.may_commit(now + WORK * 10));
        pace.heard(1_000, SECOND);
        pace.committed(now, WORK);
        assert!(!pace.may_commit(now + WORK * 399));
        assert!(pace.may_commit(now + WORK * 400));
    }
}
