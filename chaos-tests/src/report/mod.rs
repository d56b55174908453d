//! Owns the page about one run: reads its file, sums it up and draws it. Does not judge: the verdicts are given to it.
//! Invariant: one HTML text that needs no other file, below `PAGE_BYTES_MAX`, with every word of the run escaped.

mod line;
mod run;

mod gaps;
mod leaders;
mod series;

mod html;

mod charts;
mod lanes;
mod page;
mod tables;
mod timeline;
mod verdicts;

pub mod judged;
pub mod sample;

use serde::{Deserialize, Serialize};

pub use gaps::{Gaps, Impact};
pub use run::{End, Fault, Run, RunReader, ShardOf};
pub use series::Spread;

/// What a page weighs at most, whatever the run was. Every list on it has a limit of its own that adds up to less.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// What the run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every check was made and none found anything.
    Pass,
    /// A promise was broken.
    Fail,
    /// Too little happened, or the checks could not be made: it proves nothing.
    Invalid,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub name: String,
    /// How many things it looked at; with 0 it proved nothing.
    pub checked: u64,
    pub violations: Vec<Violation>,
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The session it happened in; empty when it is none's.
    pub session: String,
    pub text: String,
    /// Lines of the history that show it, oldest first.
    pub excerpt: Vec<String>,
}

/// All that a page is made of.
#[derive(Debug, Clone, Copy)]
pub struct ReportInput<'a> {
    pub run: &'a Run,
    pub outcome: Outcome,
    /// Why the run is invalid or failed, a sentence each. May be empty.
    pub reasons: &'a [String],
    pub verdicts: &'a [Verdict],
    /// What to type to do this run again: `make chaos SEED=7 MINUTES=10`.
    pub command: &'a str,
}

/// The page, as the text of one HTML file.
pub fn render(input: &ReportInput<'_>) -> String {
    page::page(input)
}

#[cfg(test)]
mod tests;
