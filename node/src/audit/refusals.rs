//! Owns how many refused requests a node tells the audit log of. Does not tell it. Invariant: however many come, the log grows by a bounded
//! number per hour, so that nobody without rights can push out what it keeps.

use parking_lot::Mutex;
use proto::audit::OPERATORS;
use proto::ids::SiteId;
use std::time::{Duration, Instant};

/// So many at once.
const BURST: u32 = 60;
/// A place is free again after this time: one node cannot fill a chain in less than a year.
const EVERY: Duration = Duration::from_secs(60);

/// Those of operators, and those of all sites.
pub struct Refusals {
    operators: Mutex<Bucket>,
    sites: Mutex<Bucket>,
}

struct Bucket {
    places: u32,
    since: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let back = now.saturating_duration_since(self.since).as_secs() / EVERY.as_secs();
        if back > 0 {
            self.places = BURST.min(self.places.saturating_add(u32::try_from(back).unwrap_or(BURST)));
            self.since += EVERY * u32::try_from(back).unwrap_or(0);
        }
        let is_free = self.places > 0;
        self.places -= u32::from(is_free);
        is_free
    }
}

impl Refusals {
    pub fn new(now: Instant) -> Refusals {
        let full = || Mutex::new(Bucket { places: BURST, since: now });
        Refusals { operators: full(), sites: full() }
    }

    /// Whether the chain is told of one more.
    pub fn admit(&self, chain: SiteId, now: Instant) -> bool {
        let bucket = if chain == OPERATORS { &self.operators } else { &self.sites };
        bucket.lock().take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_for_a_day_leaves_a_bounded_number_of_entries_and_leaves_others_theirs() {
        let start = Instant::now();
        let refusals = Refusals::new(start);
        let mut told = 0;
        for second in 0..86_400 {
            for _ in 0..10 {
                told += u32::from(refusals.admit(SiteId(3), start + Duration::from_secs(second)));
            }
        }
        assert_eq!(told, BURST + 1_439);
        let later = start + Duration::from_secs(86_400);
        assert!(refusals.admit(OPERATORS, later));
        // Who was quiet has no more than a burst.
        let quiet = later + Duration::from_secs(1_000_000);
        assert_eq!((0..1_000).filter(|_| refusals.admit(OPERATORS, quiet)).count(), BURST as usize);
    }
}
