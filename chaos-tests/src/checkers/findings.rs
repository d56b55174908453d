//! Owns what a property comes to: how much it looked at and what it found broken. Does not look itself.
//! Invariant: a property that looked at nothing says so (`checked` is 0), and one that gave up never counts as passed.

use crate::checkers::index::{Line, Session};
use crate::history::{Seq, SessionId};

/// Violations of one property that are kept; the rest is only counted.
pub const VIOLATIONS_KEPT_MAX: usize = 50;
/// Lines of one violation that are kept.
pub const INVOLVED_MAX: usize = 16;

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub property: &'static str,
    pub session: Option<SessionId>,
    /// The event around which long lists are cut when they are shown.
    pub seq: Option<Seq>,
    pub text: String,
    /// The lines that contradict each other, ascending.
    pub excerpt: Vec<Line>,
}

/// What one property comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    pub property: &'static str,
    /// How many things were looked at.
    pub checked: u64,
    /// How many could not be decided within the limits.
    pub gave_up: u64,
    /// How many violations there were, kept or not.
    pub broken: u64,
    pub violations: Vec<Violation>,
}

impl Findings {
    pub fn of(property: &'static str) -> Findings {
        Findings { property, checked: 0, gave_up: 0, broken: 0, violations: Vec::new() }
    }

    /// Counts one thing that was looked at.
    pub fn count(&mut self) {
        self.checked += 1;
    }

    /// A violation in a session, around one event.
    pub fn breach(&mut self, session: &Session<'_>, seq: Option<Seq>, text: String, lines: &[Line]) {
        self.keep(Some(session.id.clone()), seq, text, lines);
    }

    /// A violation of the whole cluster or of the file.
    pub fn breach_of_run(&mut self, text: String, lines: &[Line]) {
        self.keep(None, None, text, lines);
    }

    fn keep(&mut self, session: Option<SessionId>, seq: Option<Seq>, text: String, lines: &[Line]) {
        self.broken += 1;
        if self.violations.len() >= VIOLATIONS_KEPT_MAX {
            return;
        }
        let mut excerpt: Vec<Line> = lines.iter().copied().filter(|line| line.is_real()).collect();
        excerpt.sort_unstable();
        excerpt.dedup();
        excerpt.truncate(INVOLVED_MAX);
        self.violations.push(Violation { property: self.property, session, seq, text, excerpt });
    }
}
