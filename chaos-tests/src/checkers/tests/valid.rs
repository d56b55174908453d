//! Owns "a right history passes". Does not break anything (`mutants`).

use std::time::Instant;

use proptest::prelude::*;

use super::world::{Shape, history};
use crate::checkers::check_all;
use crate::checkers::faults::check_faults;
use crate::checkers::verdict::Outcome;
use crate::history::read::from_lines;

/// Runs whose searches are counted.
const RUNS: u64 = 2_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn runs_of_the_reference_system_pass(
        seed in any::<u64>(),
        sessions in 1usize..5,
        agents in 1usize..4,
        ops in 10u64..600,
    ) {
        let records = history(Shape { seed, sessions, agents, ops });
        let verdict = check_all(&records).with_faults(check_faults(&records, &[("kill", 1)]));
        // A search may be given up; how seldom is asked below.
        let is_right = matches!(verdict.outcome(), Outcome::Passed | Outcome::Undecided);
        prop_assert!(is_right, "{}", verdict);
    }
}

#[test]
fn every_property_has_something_to_look_at_in_a_long_run() {
    let verdict = check_all(&history(Shape { seed: 5, sessions: 20, agents: 4, ops: 20_000 }));
    assert_eq!(verdict.outcome(), Outcome::Passed, "{verdict}");
    assert_eq!(verdict.idle().collect::<Vec<_>>(), Vec::<&str>::new());
    println!("{verdict}");
}

#[test]
fn two_hundred_thousand_operations_are_checked_in_seconds() {
    for sessions in [20, 1000] {
        let records = history(Shape { seed: 1, sessions, agents: 30, ops: 200_000 });
        let since = Instant::now();
        let verdict = check_all(&records);
        let checked = since.elapsed();
        let text: Vec<String> = records.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
        let since = Instant::now();
        assert_eq!(from_lines(text.join("\n").as_bytes()).unwrap().len(), records.len());
        let read = since.elapsed();
        println!("{sessions} sessions, {} lines: checked in {checked:?}, read in {read:?}", records.len());
        assert_eq!(verdict.outcome(), Outcome::Passed, "{verdict}");
    }
}

#[test]
fn the_search_for_an_order_is_seldom_given_up() {
    let mut given_up = 0;
    for seed in 0..RUNS {
        let (sessions, agents) = (1 + seed as usize % 4, 1 + seed as usize % 3);
        let verdict = check_all(&history(Shape { seed: seed * 7919, sessions, agents, ops: 10 + seed % 600 }));
        assert_ne!(verdict.outcome(), Outcome::Failed, "{verdict}");
        given_up += u64::from(verdict.outcome() == Outcome::Undecided);
    }
    println!("given up in {given_up} of {RUNS} runs");
    assert!(given_up * 200 < RUNS, "given up in {given_up} of {RUNS} runs");
}
