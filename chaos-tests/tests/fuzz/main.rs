//! Runs the bodies of the fuzz targets on their corpus and on changes of it that are the same everywhere. What `make fuzz` does
//! with coverage and a sanitizer for as long as one likes, this does for seconds, with every test run.

#![allow(clippy::unwrap_used)]

use chaos_tests::fuzz::{Counting, Mutations, TARGETS, golden_tags};
use std::path::Path;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Changed inputs of each target.
const CHANGES: usize = 4_000;

#[test]
fn fuzz_bodies_survive_the_corpus_and_its_mutations() {
    for target in TARGETS {
        let corpus = target.corpus();
        for seed in &corpus {
            target.run(seed);
        }
        let each = CHANGES.div_ceil(corpus.len());
        for (number, seed) in corpus.iter().enumerate() {
            for bytes in Mutations::of(seed, number as u64).take(each) {
                target.run(&bytes);
            }
        }
    }
}

#[test]
fn fuzz_bodies_read_the_golden_bytes_of_every_tag() {
    let all = golden_tags();
    assert!(all.len() > 100, "{}", all.len());
    for (name, bytes) in all {
        let read = [proto::fuzzing::value(&bytes), chat::fuzzing::row(&bytes), cluster::fuzzing::row(&bytes)];
        assert_eq!(read.iter().filter(|read| read.is_ok()).count(), 1, "{name}: add its type to a list in `fuzzing`");
    }
}

#[test]
fn fuzz_targets_have_a_binary_each() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(crate_dir.join("Cargo.toml")).unwrap();
    let found = manifest.lines().filter_map(|line| line.strip_prefix("name = \""));
    let mut found: Vec<&str> =
        found.filter_map(|line| line.strip_suffix('"')).filter(|name| *name != "everdesk-fuzz").collect();
    let mut wanted: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    for name in wanted {
        let code = std::fs::read_to_string(crate_dir.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(code.contains(&format!("\"{name}\"")), "{name}");
    }
}
