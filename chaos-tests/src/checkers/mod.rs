//! Owns the judgement of a run: what must hold of its history, one promise per file. Does not run anything.
//! Invariant: each check is pure, takes time in proportion to the history (times a logarithm), and says how much it looked at.

pub mod index;

mod plain;

mod talk;

mod timeline;

pub mod findings;

mod form;

mod acked;

mod failed;

mod unknown;

mod authors;

mod payload;

mod gapless;

mod order;

mod fresh;

mod reads;

mod cursors;

mod stream;

mod caught_up;

mod assignment;

mod refusals;

pub mod wgl;

pub mod holder;

mod acts;

mod taken_back;

mod finals;

mod hashes;

mod epochs;

mod ready;

mod noticed;

pub mod faults;

pub mod excerpt;

pub mod verdict;

#[cfg(test)]
mod tests;

use crate::checkers::findings::Findings;
use crate::checkers::index::Index;
use crate::checkers::verdict::Verdict;
use crate::history::Record;

/// How far the checks go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The cluster serves again this many microseconds after the last heal.
    pub ready_within_us: u64,
    /// Calls that the search for an order tries per session before it gives up.
    pub search_steps_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { ready_within_us: 60_000_000, search_steps_max: 5_000_000 }
    }
}

/// Holds a history against every property, with the usual limits.
pub fn check_all(records: &[Record]) -> Verdict {
    check_all_within(records, Limits::default())
}

/// Holds a history against every property.
pub fn check_all_within(records: &[Record], limits: Limits) -> Verdict {
    let plain = plain::of(records);
    let index = Index::of_run(records, &plain, limits);
    let properties = PROPERTIES.iter().map(|check| check(&index)).collect();
    Verdict::of(&index, properties)
}

const PROPERTIES: &[fn(&Index<'_>) -> Findings] = &[
    form::check,
    acked::check,
    failed::check,
    unknown::check,
    authors::check,
    payload::check,
    gapless::check,
    order::check,
    fresh::check,
    reads::check,
    cursors::check,
    stream::check,
    caught_up::check,
    assignment::check,
    refusals::check,
    holder::check,
    acts::check,
    acts::check_order,
    acts::check_between_agents,
    taken_back::check,
    finals::check,
    hashes::check,
    epochs::check,
    ready::check,
    noticed::check,
];
