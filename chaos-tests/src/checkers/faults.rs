//! Owns "the faults that the run was made for did happen". Does not judge what they did. Invariant: a run without them is
//! invalid, which is neither passed nor failed.

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{Body, Record};

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
    let mut counts = BTreeMap::<String, usize>::new();
    for record in records {
        if let Body::Fault { kind, .. } = &record.body {
            *counts.entry(kind.clone()).or_default() += 1;
        }
    }
    let had = |kind: &str| counts.get(kind).copied().unwrap_or(0);
    let lacking: Vec<_> = required
        .iter()
        .filter(|(kind, due)| had(kind) < *due)
        .map(|(kind, due)| ((*kind).to_owned(), had(kind), *due))
        .collect();
    if lacking.is_empty() { Ok(counts) } else { Err(TooFewFaults { lacking }) }
}
