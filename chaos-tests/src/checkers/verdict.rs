//! Owns what is said of a run in the end. Does not look at the history. Invariant: passed means that every property passed,
//! that none gave up, and that the file is a history.

use std::fmt;

use crate::checkers::excerpt::{Shown, excerpt};
use crate::checkers::faults::TooFewFaults;
use crate::checkers::findings::{Findings, Violation};
use crate::checkers::index::Index;

/// Violations of one property that are printed.
const SHOWN_MAX: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    /// Nothing was found broken, and a search was given up.
    Undecided,
    /// The faults that the run was made for did not happen: it proves nothing.
    Invalid,
}

/// What all properties come to. Its `Display` is the report of the run.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub seed: Option<u64>,
    pub properties: Vec<Findings>,
    invalid: Option<TooFewFaults>,
    /// The first violations of each property with their lines.
    shown: Vec<(Violation, Vec<Shown>)>,
}

impl Verdict {
    pub(super) fn of(index: &Index<'_>, properties: Vec<Findings>) -> Verdict {
        let first = properties.iter().flat_map(|one| one.violations.iter().take(SHOWN_MAX));
        let shown = first.map(|violation| (violation.clone(), excerpt(index, violation))).collect();
        Verdict { seed: index.run.map(|run| run.seed), properties, invalid: None, shown }
    }

    /// Takes in whether the required faults happened.
    #[must_use]
    pub fn with_faults<T>(self, faults: Result<T, TooFewFaults>) -> Verdict {
        Verdict { invalid: faults.err(), ..self }
    }

    /// A broken promise weighs more than a lack of faults.
    pub fn outcome(&self) -> Outcome {
        if self.properties.iter().any(|one| one.broken > 0) {
            Outcome::Failed
        } else if self.invalid.is_some() {
            Outcome::Invalid
        } else if self.properties.iter().any(|one| one.gave_up > 0) {
            Outcome::Undecided
        } else {
            Outcome::Passed
        }
    }

    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.properties.iter().flat_map(|one| &one.violations)
    }

    /// The first violations of each property, with the lines that show them.
    pub fn shown(&self) -> impl Iterator<Item = (&Violation, &[Shown])> {
        self.shown.iter().map(|(violation, lines)| (violation, lines.as_slice()))
    }

    /// The properties that had nothing to look at.
    pub fn idle(&self) -> impl Iterator<Item = &'static str> {
        self.properties.iter().filter(|one| one.checked == 0).map(|one| one.property)
    }

    /// The names of the properties that are broken.
    pub fn broken(&self) -> Vec<&'static str> {
        self.properties.iter().filter(|one| one.broken > 0).map(|one| one.property).collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.seed.map_or_else(|| "unknown".to_owned(), |seed| seed.to_string());
        writeln!(f, "{:?}, seed {seed}", self.outcome())?;
        if let Some(invalid) = &self.invalid {
            writeln!(f, "{invalid}")?;
        }
        for one in &self.properties {
            let note = match (one.checked, one.gave_up) {
                (0, 0) => ", nothing to look at".to_owned(),
                (_, 0) => String::new(),
                (_, gave_up) => format!(", gave up {gave_up}"),
            };
            writeln!(f, "  {:<22} checked {:>8}, broken {}{note}", one.property, one.checked, one.broken)?;
        }
        for (violation, lines) in &self.shown {
            let session = violation.session.as_ref().map_or(String::new(), |id| format!(", session {id}"));
            writeln!(f, "\n{}, seed {seed}{session}: {}", violation.property, violation.text)?;
            for line in lines {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }
}
