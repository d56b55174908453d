//! Owns what the operating system says of time and chance in this program: the simulation's time, and numbers from its seed.
//! Does not simulate. Invariant: outside a simulation the real system answers.

#![allow(unsafe_code)] // The one place that stands between the program and the C library.

use chaos_tests::sim::machine::{monotonic, next_random, wall};
use libc::{c_int, c_long, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

/// Answers for the C library: `std::time`, and so everything in the program.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let simulated = match clock {
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_BOOTTIME => {
            monotonic()
        }
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => wall(),
        _ => None,
    };
    match simulated {
        Some(now) => {
            // Safety: the caller gives a place for the answer, as the C library asks.
            unsafe {
                (*time).tv_sec = now.as_secs() as i64;
                (*time).tv_nsec = c_long::from(now.subsec_nanos());
            }
            0
        }
        // Safety: the same question, to the kernel.
        None => unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int },
    }
}

/// Answers for the C library: keys of hash maps, ids, tokens, and seeds of other generators.
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    if !buffer.is_null()
        && let Some(()) = next_random(
            |byte, at| {
                // Safety: `at` is below the length that the caller says the buffer has.
                unsafe { *buffer.cast::<u8>().add(at) = byte }
            },
            length,
        )
    {
        return length as ssize_t;
    }
    // Safety: the same question, to the kernel.
    unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as ssize_t }
}
