//! Owns the tests of the crate as its users see it, in one binary. Does not test row formats (they are beside their code).
//! Invariant: no test sleeps; whatever waits has a deadline.

#![allow(clippy::unwrap_used)]

mod support;

mod log;

mod crash;

mod amnesia;

mod rocks;

mod state;

mod survey;

mod writer;
