//! Owns "the faults that the run was made for did happen". Does not judge what they did. Invariant: a run without them is
//! invalid, which is neither passed nor failed.

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{Body, FaultId, Record};

/// The faults that a run lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooFewFaults {
    /// Kind, how many there were, how many were asked for.
    pub lacking: Vec<(String, usize, usize)>,
}

impl fmt::Display for TooFewFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lacking: Vec<String> =
            self.lacking.iter().map(|(kind, had, due)| format!("{had} of at least {due} `{kind}`")).collect();
        write!(f, "too few faults: {}", lacking.join(", "))
    }
}

impl std::error::Error for TooFewFaults {}

/// Counts the faults of each kind; `required` gives how many of a kind there must be.
/// # Errors
/// The run proves nothing: make it longer, or find out why the faults did not happen.
pub fn check_faults(records: &[Record], required: &[(&str, usize)]) -> Result<BTreeMap<String, usize>, TooFewFaults> {
    let counts = count_faults(records, |_| true);
    require(required.iter().copied(), |kind| counts.get(kind).copied().unwrap_or(0))?;
    Ok(counts)
}

/// How many faults of each kind there were, of those that count.
pub fn count_faults(records: &[Record], counts_in: impl Fn(FaultId) -> bool) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        if let Body::Fault { fault, kind, .. } = &record.body
            && counts_in(*fault)
        {
            *counts.entry(kind.clone()).or_default() += 1;
        }
    }
    counts
}

/// Holds what there must be at least against what `had` says there was.
/// # Errors
/// As [`check_faults`].
pub fn require<'a>(
    required: impl Iterator<Item = (&'a str, usize)>,
    had: impl Fn(&str) -> usize,
) -> Result<(), TooFewFaults> {
    let found = required.map(|(kind, due)| (kind.to_owned(), had(kind), due));
    let lacking: Vec<_> = found.filter(|(_, had, due)| had < due).collect();
    if lacking.is_empty() { Ok(()) } else { Err(TooFewFaults { lacking }) }
}
