//! Every tag of the workspace is used once and has its golden bytes.

use crate::golden;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The rows of the chat rules have one file of their own, in their crate.
const CHAT_ROWS: &str = "chat/golden/rows.txt";

/// From here on, tags of the feature `next`.
const NEXT_TAGS: u8 = 240;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources_below(&entry, found);
        } else if entry.extension().is_some_and(|ext| ext == "rs") {
            found.push(entry);
        }
    }
}

/// Tag and type of every `frozen!` in the sources of the workspace.
fn tags() -> Vec<(u8, String)> {
    let mut sources = Vec::new();
    for part in std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path().join("src")) {
        if part.is_dir() {
            sources_below(&part, &mut sources);
        }
    }
    let mut tags = Vec::new();
    for source in sources {
        // The macro's own file has a sample.
        if source.ends_with("proto/src/codec.rs") {
            continue;
        }
        let code = std::fs::read_to_string(&source).unwrap();
        assert!(!code.contains("const TAG: u8"), "{}: tags are declared by frozen! only", source.display());
        for block in code.split("frozen!(").skip(1) {
            let block = block.split(");").next().unwrap();
            for line in block.split(',').map(str::trim).filter(|line| !line.is_empty()) {
                let (name, tag) = line.split_once(" = ").unwrap_or_else(|| panic!("{}: {line}", source.display()));
                let tag = tag.parse().unwrap();
                // What stands for the next release in tests is never shipped.
                if tag < NEXT_TAGS {
                    tags.push((tag, name.to_owned()));
                }
            }
        }
    }
    tags.sort();
    tags
}

/// Golden files by tag; those of frames without a tag begin with a letter.
fn golden_files() -> BTreeMap<u8, String> {
    let names = std::fs::read_dir(golden::folder()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| Some((name.split('-').next()?.parse().ok()?, name))).collect()
}

#[test]
fn every_tag_names_one_type() {
    let tags = tags();
    assert!(tags.len() > 30, "{tags:?}");
    for pair in tags.windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "{} and {} have one tag", pair[0].1, pair[1].1);
    }
}

#[test]
fn every_tag_has_its_golden_bytes() {
    let files = golden_files();
    let chat = std::fs::read_to_string(root().join(CHAT_ROWS)).unwrap();
    let chat: Vec<(&str, &str)> = chat.lines().filter_map(|line| line.split_once(": ")).collect();
    for (tag, name) in tags() {
        let start = golden::hex(&[tag]);
        let Some(file) = files.get(&tag) else {
            let row = chat.iter().find(|(row, bytes)| !row.ends_with(" key") && bytes.starts_with(&start));
            assert!(row.is_some(), "{name} has tag {tag} and no golden bytes: add samples to the tests of its crate");
            continue;
        };
        let text = std::fs::read_to_string(golden::folder().join(file)).unwrap();
        for line in text.lines() {
            assert!(line.split_once(": ").is_some_and(|(_, bytes)| bytes.starts_with(&start)), "{file}: {line}");
        }
    }
}

#[test]
fn no_type_with_golden_bytes_is_gone() {
    let tags: BTreeMap<u8, String> = tags().into_iter().collect();
    for (tag, file) in golden_files() {
        assert!(tags.contains_key(&tag), "{file}: running clusters hold such bytes, keep a type that reads them");
    }
}
