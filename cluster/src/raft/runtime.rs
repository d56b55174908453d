//! Owns when raft's timers fire: those of all groups of a process together, and none that would end a call. All else is tokio's own.
//! Invariant: a tick comes no earlier than asked, and at most one step of the grid later.

use openraft::async_runtime::AsyncRuntime;
use openraft::impls::TokioRuntime;
use openraft::{Instant as _, OptionalSend, TokioInstant};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::time::Instant;

/// Raft's ticks fall on multiples of this since the process began.
pub const GRID: Duration = Duration::from_millis(25);
/// Up to here a wait only means "after what is queued": tokio's timers would make a millisecond of it.
const AT_ONCE: Duration = Duration::from_micros(1);

/// openraft gives up the answer to a heartbeat after one heartbeat of time, and with it every read where a round trip takes
/// longer. `Network` knows how long to wait, and this is above it. Its only other use waits for a core that has stopped.
const TIMEOUT_MIN: Duration = Duration::from_secs(2);

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// When a wait from `now` until `deadline` ends; all of them counted from the origin, which has passed.
fn aligned(now: Duration, deadline: Duration) -> Duration {
    if deadline.saturating_sub(now) <= AT_ONCE {
        return Duration::ZERO;
    }
    let steps = deadline.as_nanos().div_ceil(GRID.as_nanos());
    GRID.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

/// Tokio, but with `sleep_until` on the grid and a time-out that is not too short. openraft waits with the first for its
/// next tick, every fifth of a heartbeat and each group at an offset of its own: seven idle groups woke a node 350 times a
/// second, and their heartbeats left one by one. Its only other use gathers finished writes for a microsecond.
#[derive(Debug)]
pub struct GridRuntime(TokioRuntime);

impl AsyncRuntime for GridRuntime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        #[cfg(feature = "sim")]
        if turmoil::in_simulation() && deadline - TokioInstant::now() <= AT_ONCE {
            // Where time stands still between two waits, one that ends early would be waited for again and again.
            return TokioRuntime::sleep_until(deadline);
        }
        let origin = *ORIGIN;
        let now = origin.elapsed();
        tokio::time::sleep_until(origin + aligned(now, now + (deadline - TokioInstant::now())))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration.max(TIMEOUT_MIN), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        GridRuntime(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_on_the_grid_and_never_early() {
        let ms = Duration::from_millis;
        assert_eq!(aligned(ms(0), ms(20)), ms(25));
        assert_eq!(aligned(ms(25), ms(45)), ms(50));
        assert_eq!(aligned(ms(49), ms(50)), ms(50));
        assert_eq!(aligned(ms(49), ms(50) + Duration::from_nanos(1)), ms(75));
    }

    #[test]
    fn a_wait_for_what_is_queued_ends_at_once() {
        let now = Duration::from_millis(40);
        assert_eq!(aligned(now, now + AT_ONCE), Duration::ZERO);
        assert_eq!(aligned(now, Duration::from_millis(3)), Duration::ZERO);
    }
}
