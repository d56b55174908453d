//! Compares bytes with the files of `proto/golden/bytes`, one per tag. Never changes a line that is there.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Set to `new`, it makes the tests write the lines that no file has yet.
const SWITCH: &str = "EVERDESK_GOLDEN";

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/golden/bytes")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a String takes every text");
        out
    })
}

/// Fails when a line of the file is not what this build writes, or when one is missing.
pub fn check(file: &str, samples: &[(&'static str, Vec<u8>)]) {
    let path = folder().join(file);
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    let stored: Vec<&str> = stored.lines().collect();
    let found: Vec<String> = samples.iter().map(|(name, bytes)| format!("{name}: {}", hex(bytes))).collect();
    for (number, line) in stored.iter().enumerate() {
        assert_eq!(
            Some(*line),
            found.get(number).map(String::as_str),
            "proto/golden/bytes/{file}: stored and sent formats are frozen: add a new version, a type with a tag of its own"
        );
    }
    if found.len() > stored.len() {
        assert!(
            std::env::var(SWITCH).is_ok_and(|value| value == "new"),
            "proto/golden/bytes/{file} lacks {:?}: run the test once with {SWITCH}=new and commit the file",
            &found[stored.len()..]
        );
        std::fs::create_dir_all(folder()).expect("the checkout can be written");
        std::fs::write(path, found.join("\n") + "\n").expect("the checkout can be written");
    }
}
