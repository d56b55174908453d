//! Owns the decision to leave a receiver alone that does not answer. Does not call it. Invariant: while it is open, one call at a time
//! finds out whether it may close.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Calls of this time count.
const WINDOW: Duration = Duration::from_secs(30);
/// Calls that are remembered at most.
const CALLS_MAX: usize = 256;
/// With fewer calls in the window it stays closed.
const CALLS_MIN: usize = 8;
/// The first pause after it opened; each one behind a failed call is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A circuit breaker over a sliding window: it opens when half of the calls fail.
#[derive(Debug, Default)]
pub struct Breaker {
    calls: VecDeque<(Instant, bool)>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    pause: Duration,
}

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Closed,
    /// One call, to see.
    Trial,
    /// None for so long.
    Open(Duration),
}

impl Breaker {
    pub fn state(&self, now: Instant) -> State {
        match &self.open {
            None => State::Closed,
            Some(open) if open.until <= now => State::Trial,
            Some(open) => State::Open(open.until - now),
        }
    }

    /// Takes the one call that may be made while it is open; nobody else gets it for as long as it may take.
    pub fn try_once(&mut self, now: Instant, call: Duration) -> bool {
        match &mut self.open {
            Some(open) if open.until <= now => {
                open.until = now + call;
                true
            }
            _ => false,
        }
    }

    /// It was not made after all.
    pub fn give_back(&mut self, now: Instant) {
        if let Some(open) = &mut self.open {
            open.until = now;
        }
    }

    /// `is_trial`: the call was that of `try_once`; while it is open no other counts, which had begun before.
    pub fn tell(&mut self, now: Instant, is_well: bool, is_trial: bool) {
        if let Some(open) = &mut self.open {
            if !is_trial {
                return;
            }
            if is_well {
                self.open = None;
                self.calls.clear();
            } else {
                open.pause = (open.pause * 2).min(PAUSE_MAX);
                open.until = now + open.pause;
            }
            return;
        }
        self.calls.push_back((now, is_well));
        while self.calls.len() > CALLS_MAX || self.calls.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            self.calls.pop_front();
        }
        let failed = self.calls.iter().filter(|(_, is_well)| !is_well).count();
        if self.calls.len() >= CALLS_MIN && failed * 2 >= self.calls.len() {
            self.open = Some(Open { until: now + PAUSE_MIN, pause: PAUSE_MIN });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_when_half_of_the_calls_fail_and_closes_when_one_goes_well() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut breaker = Breaker::default();
        for n in 0..8 {
            assert_eq!(breaker.state(at(n)), State::Closed);
            breaker.tell(at(n), n % 2 == 0, false);
        }
        assert_eq!(breaker.state(at(7)), State::Open(PAUSE_MIN));
        breaker.tell(at(8), false, false);
        assert_eq!(breaker.state(at(8)), State::Open(PAUSE_MIN - Duration::from_millis(1)), "it had begun before");
        assert!(!breaker.try_once(at(500), PAUSE_MAX));
        assert_eq!(breaker.state(at(1_007)), State::Trial);
        assert!(breaker.try_once(at(1_007), Duration::from_secs(10)));
        assert!(!breaker.try_once(at(1_008), Duration::from_secs(10)), "somebody is trying");
        breaker.tell(at(1_100), false, true);
        assert_eq!(breaker.state(at(1_100)), State::Open(PAUSE_MIN * 2));
        assert!(breaker.try_once(at(3_100), Duration::from_secs(10)));
        breaker.tell(at(3_200), true, true);
        assert_eq!(breaker.state(at(3_200)), State::Closed);
        breaker.tell(at(3_201), false, false);
        assert_eq!(breaker.state(at(3_201)), State::Closed, "what failed before is forgotten");
    }

    #[test]
    fn what_failed_long_ago_and_a_few_failures_do_not_open_it() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for n in 0..100 {
            // One in five seconds: no seven of them fall into a window of thirty.
            let now = start + Duration::from_secs(5 * n);
            breaker.tell(now, false, false);
            assert_eq!(breaker.state(now), State::Closed);
        }
        for n in 0..1_000 {
            let now = start + Duration::from_secs(1_000) + Duration::from_millis(n);
            breaker.tell(now, n % 3 != 0, false);
            assert!(breaker.calls.len() <= CALLS_MAX);
            assert_eq!(breaker.state(now), State::Closed, "a third of them");
        }
    }

    #[test]
    fn pauses_grow_to_their_bound() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        (0..8).for_each(|_| breaker.tell(now, false, false));
        for _ in 0..20 {
            now += PAUSE_MAX;
            assert!(breaker.try_once(now, Duration::from_secs(10)));
            breaker.tell(now, false, true);
        }
        assert_eq!(breaker.state(now), State::Open(PAUSE_MAX));
    }
}
