//! Owns reading the file of a run back. Does not judge it. Invariant: line `i` of the file is record `i` (from 1); nothing is
//! left out, so that the numbers in a verdict are those of the file.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::history::Record;

/// Why a file could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// Make sure that the file is there and readable.
    File(io::Error),
    /// Look at this line (from 1): the run did not write it, or another version of this crate did.
    Line { number: usize, error: serde_json::Error },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::File(error) => write!(f, "history: {error}"),
            ReadError::Line { number, error } => write!(f, "history, line {number}: {error}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// Reads a whole file.
/// # Errors
/// It cannot be read, or a line is not a record.
pub fn from_path(path: &Path) -> Result<Vec<Record>, ReadError> {
    from_lines(BufReader::new(File::open(path).map_err(ReadError::File)?))
}

/// Reads whatever gives lines.
/// # Errors
/// It cannot be read, or a line is not a record.
pub fn from_lines(lines: impl BufRead) -> Result<Vec<Record>, ReadError> {
    let parse = |(line, number): (io::Result<String>, usize)| {
        let line = line.map_err(ReadError::File)?;
        serde_json::from_str(&line).map_err(|error| ReadError::Line { number, error })
    };
    lines.lines().zip(1..).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_line() {
        let text = "{\"t\":1,\"k\":\"ready\",\"since\":1}\n{\"t\":2,\"k\":\"redy\",\"since\":1}\n";
        let error = from_lines(text.as_bytes()).expect_err("the second line is misspelt");
        assert!(error.to_string().starts_with("history, line 2: "), "{error}");
    }

    #[test]
    fn a_blank_line_is_an_error_because_numbers_would_shift() {
        let error = from_lines("\n".as_bytes()).expect_err("nothing was recorded there");
        assert!(matches!(error, ReadError::Line { number: 1, .. }));
    }
}
