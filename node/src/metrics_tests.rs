//! What is declared and what the sources emit are the same names.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Names in the sources below `dir`, each with the macros that emit it.
fn emitted_below(dir: &Path, names: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            emitted_below(&entry, names);
            continue;
        }
        // This file names the macros without calling them.
        if entry.extension().is_none_or(|ext| ext != "rs") || entry.ends_with("metrics_tests.rs") {
            continue;
        }
        let code = std::fs::read_to_string(&entry).unwrap();
        for mark in ["counter", "gauge", "histogram"] {
            for call in code.split(&format!("::{mark}!(")).skip(1) {
                let literal = call.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                let Some(name) = literal else {
                    assert!(entry.ends_with("node/src/metrics.rs"), "{}: a name is not literal", entry.display());
                    continue;
                };
                // What stands for the next release in tests is never shipped.
                if !name.starts_with("chat_next_") {
                    names.entry(name.to_owned()).or_default().insert(mark);
                }
            }
        }
    }
}

fn emitted() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut names = BTreeMap::new();
    for part in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap() {
        let sources = part.unwrap().path().join("src");
        if sources.is_dir() {
            emitted_below(&sources, &mut names);
        }
    }
    assert!(names.len() > 5, "{names:?}");
    names
}

#[test]
fn every_emitted_name_is_declared_as_what_it_is() {
    let declared: BTreeMap<&str, &str> = METRICS
        .iter()
        .map(|(kind, name, ..)| match kind {
            Counter => (*name, "counter"),
            Gauge => (*name, "gauge"),
            Histogram => (*name, "histogram"),
        })
        .collect();
    for (name, kinds) in emitted() {
        let known = declared.get(name.as_str()).unwrap_or_else(|| panic!("{name} is emitted and not in METRICS"));
        assert_eq!(kinds, BTreeSet::from([*known]), "{name}");
    }
}

#[test]
fn every_declared_name_is_emitted_and_explained() {
    let emitted = emitted();
    for (_, name, _, help) in METRICS {
        assert!(emitted.contains_key(*name), "{name} is in METRICS and nothing emits it");
        assert!(help.len() > 10 && !help.ends_with('.'), "{name}: say what it means: {help}");
    }
}

#[test]
fn names_tell_part_and_unit() {
    for (kind, name, ..) in METRICS {
        assert!(name.starts_with("chat_"), "{name}");
        assert_eq!(matches!(kind, Counter), name.ends_with("_total"), "{name}");
    }
    assert_eq!(METRICS.iter().map(|(_, name, ..)| name).collect::<BTreeSet<_>>().len(), METRICS.len());
    assert!(SECONDS.is_sorted() && COUNTS.is_sorted());
}
