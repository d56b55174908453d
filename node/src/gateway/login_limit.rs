//! Owns how often a name may fail to log in at this node. Does not check passwords.
//! Invariant: an attempt counts before its password is looked at, so that attempts under way together cannot pass the limit.

use crate::auth;
use parking_lot::Mutex;
use proto::command::TokenHash;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Failed logins of one name of one site per window, after which the name is refused until the window ends.
const FAILURES_MAX: u32 = 10;
/// A window starts with the first failure.
const WINDOW: Duration = Duration::from_secs(60);
/// Names that are remembered, about 1 MiB: more than the password checks of one window can touch.
const NAMES_MAX: usize = 16_384;

/// The count of one node, for names that exist and for names that do not.
#[derive(Default)]
pub struct LoginLimit {
    failed: Mutex<HashMap<TokenHash, Failures>>,
}

struct Failures {
    count: u32,
    since: Instant,
}

/// A counted attempt.
pub struct Attempt(TokenHash);

impl LoginLimit {
    /// Counts an attempt as failed; `clear` it if it was not.
    /// # Errors
    /// How long this name has to wait.
    pub fn admit(&self, site: &str, name: &str, now: Instant) -> Result<Attempt, Duration> {
        // Hashed, because the client chooses how long a name is.
        let key = auth::hash_token(&format!("{}/{site}{name}", site.len()));
        let mut failed = self.failed.lock();
        if failed.len() >= NAMES_MAX && !failed.contains_key(&key) {
            failed.retain(|_, failures| now.duration_since(failures.since) < WINDOW);
            if failed.len() >= NAMES_MAX {
                return Err(WINDOW);
            }
        }
        let failures = failed.entry(key).or_insert(Failures { count: 0, since: now });
        let age = now.duration_since(failures.since);
        if age >= WINDOW {
            *failures = Failures { count: 0, since: now };
        } else if failures.count >= FAILURES_MAX {
            return Err(WINDOW - age);
        }
        failures.count += 1;
        Ok(Attempt(key))
    }

    /// The password was right: its name starts anew.
    pub fn clear(&self, attempt: &Attempt) {
        self.failed.lock().remove(&attempt.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(limit: &LoginLimit, name: &str, now: Instant) -> Result<(), Duration> {
        limit.admit("demo", name, now).map(drop)
    }

    #[test]
    fn a_name_that_failed_ten_times_waits_for_the_end_of_its_minute() {
        let (limit, start) = (LoginLimit::default(), Instant::now());
        for second in 0..10 {
            assert_eq!(fail(&limit, "ann", start + Duration::from_secs(second)), Ok(()));
        }
        assert_eq!(fail(&limit, "ann", start + Duration::from_secs(20)), Err(Duration::from_secs(40)));
        assert_eq!(fail(&limit, "bob", start + Duration::from_secs(20)), Ok(()), "another name");
        assert!(limit.admit("other", "ann", start).is_ok(), "another site");
        assert_eq!(fail(&limit, "ann", start + WINDOW), Ok(()), "a new window");
    }

    #[test]
    fn a_login_that_works_clears_the_count() {
        let (limit, now) = (LoginLimit::default(), Instant::now());
        for _ in 0..30 {
            let attempt = limit.admit("demo", "ann", now).expect("cleared each time");
            limit.clear(&attempt);
        }
        assert!(limit.failed.lock().is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_makes_room_when_a_window_has_passed() {
        let (limit, now) = (LoginLimit::default(), Instant::now());
        for number in 0..NAMES_MAX {
            assert_eq!(fail(&limit, &number.to_string(), now), Ok(()));
        }
        assert_eq!(fail(&limit, "one more", now), Err(WINDOW));
        assert_eq!(fail(&limit, "7", now), Ok(()), "a known name is counted on");
        assert_eq!(fail(&limit, "one more", now + WINDOW), Ok(()));
        assert_eq!(limit.failed.lock().len(), 1);
    }
}
