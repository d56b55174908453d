//! Owns the simulation's time and chance: what this thread is told when it asks the system. Does not own nodes.
//! Invariant: the same seed and the same questions give the same answers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, Id};

/// Where the monotonic clock stands when a simulation begins.
const BEGIN: Duration = Duration::from_secs(100_000);
/// Where the wall clock stands then: some day in 2026.
const BEGIN_WALL: Duration = Duration::from_secs(1_790_000_000);

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(0) };
    static IS_ON: Cell<bool> = const { Cell::new(false) };
    static ASKING: Cell<bool> = const { Cell::new(false) };
    /// Outside the runtimes of nodes: how far the simulation is.
    static ELAPSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static BASE: Cell<Option<Instant>> = const { Cell::new(None) };
    static SKEWS: RefCell<BTreeMap<String, i64>> = const { RefCell::new(BTreeMap::new()) };
}

/// From now on this thread is in a simulation.
pub fn begin(seed: u64) {
    RANDOM.set(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    ELAPSED.set(Duration::ZERO);
    IS_ON.set(true);
    BASE.set(Some(Instant::now()));
}

/// The simulation has gone on this far.
pub fn elapsed_is(elapsed: Duration) {
    ELAPSED.set(elapsed);
}

/// The wall clock of the current runtime's machine is off by so much from now on.
pub fn set_skew(runtime: Id, ms: i64) {
    SKEWS.with_borrow_mut(|skews| skews.insert(runtime.to_string(), ms));
}

/// A number from the seed.
pub fn random() -> u64 {
    // Source: Vigna, xorshift64*.
    let mut state = RANDOM.get();
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    RANDOM.set(state);
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// Gives `length` random bytes, each with its place; `None` outside a simulation.
pub fn next_random(mut put: impl FnMut(u8, usize), length: usize) -> Option<()> {
    if !IS_ON.try_with(Cell::get).unwrap_or(false) {
        return None;
    }
    for at in 0..length {
        put((random() >> 32) as u8, at);
    }
    Some(())
}

/// The monotonic clock; `None` outside a simulation.
pub fn monotonic() -> Option<Duration> {
    Some(BEGIN + since_begin()?)
}

/// The wall clock of the current machine; `None` outside a simulation.
pub fn wall() -> Option<Duration> {
    let now = BEGIN_WALL + since_begin()?;
    let skew = Handle::try_current()
        .ok()
        .and_then(|handle| SKEWS.with(|skews| skews.try_borrow().ok()?.get(&handle.id().to_string()).copied()));
    let skew = skew.unwrap_or(0);
    let by = Duration::from_millis(skew.unsigned_abs());
    Some(if skew < 0 { now.saturating_sub(by) } else { now + by })
}

fn since_begin() -> Option<Duration> {
    if !IS_ON.try_with(Cell::get).unwrap_or(false) {
        return None;
    }
    // Tokio itself asks the system where a paused clock begins.
    let base = BASE.get().filter(|_| !ASKING.get() && Handle::try_current().is_ok());
    let Some(base) = base else { return Some(ELAPSED.get()) };
    ASKING.set(true);
    let now = tokio::time::Instant::now().into_std();
    ASKING.set(false);
    Some(now.saturating_duration_since(base))
}
