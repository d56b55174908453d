//! Owns which kind of fault comes next, and when. Does not cause it. Invariant: every kind comes once before any comes twice.

use std::time::{Duration, Instant};

use super::acts::Lasting;
use super::kinds::{Kind, Manner};
use crate::talk::Dice;

/// Faults of links, disks and clocks that may last at once.
const SOFT_MAX: usize = 2;

/// The order of the faults, from the seed.
pub struct Plan {
    kinds: Vec<Kind>,
    deck: Vec<Kind>,
    dice: Dice,
    next_at: Instant,
}

impl Plan {
    pub fn new(seed: u64, kinds: Vec<Kind>) -> Plan {
        Plan { kinds, deck: Vec::new(), dice: Dice::new(seed, 11), next_at: Instant::now() + Duration::from_secs(2) }
    }

    /// The kind that is to begin now, if one is.
    pub fn due(&mut self, lasting: &[Lasting]) -> Option<Kind> {
        if Instant::now() < self.next_at || self.kinds.is_empty() {
            return None;
        }
        if self.deck.is_empty() {
            self.deck = self.kinds.clone();
            for at in (1..self.deck.len()).rev() {
                self.deck.swap(at, self.dice.below(at + 1));
            }
        }
        let fits = |kind: &Kind| match kind.manner() {
            Manner::Soft => {
                let soft = || lasting.iter().filter(|one| one.manner() == Manner::Soft);
                soft().count() < SOFT_MAX && soft().all(|one| one.kind.group() != kind.group())
            }
            Manner::Hard | Manner::Whole => lasting.iter().all(|one| one.manner() == Manner::Soft),
        };
        let next = self.deck.last().copied().filter(fits)?;
        self.deck.pop();
        Some(next)
    }

    /// Draws when the next one comes, after one began that lasts until then, or is over.
    pub fn began(&mut self, lasting: Option<&Lasting>) {
        let now = Instant::now();
        let soon = Duration::from_millis(self.dice.below(2_500) as u64);
        self.next_at = match lasting {
            // While it lasts, or right after: before the cluster is whole again.
            Some(one) if one.manner() == Manner::Soft || self.dice.once_in(3) => now + soon,
            Some(one) => one.until + soon + Duration::from_millis(self.dice.below(3_000) as u64),
            None => now + soon,
        };
    }
}
