//! Owns the proof that the lab's faults hit real nodes. Does not check conversations. Invariant: one test at a time, and nothing is left.

mod rig;

mod network;

mod disks;

mod clocks;

mod leftovers;

use std::sync::{Mutex, MutexGuard, PoisonError};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Two clusters at once on two cores would measure each other.
fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that a test proves nothing when one of these is not there.
fn is_skipped(needs: &[Result<(), String>]) -> bool {
    let missing: Vec<&str> = needs.iter().filter_map(|need| need.as_ref().err()).map(String::as_str).collect();
    if !missing.is_empty() {
        chaos_tests::lab::skipped(&missing.join("; "));
    }
    !missing.is_empty()
}
