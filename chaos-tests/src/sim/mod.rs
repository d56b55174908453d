//! Owns the simulation: a cluster of real nodes below HTTP on simulated machines, in one thread and from one seed.
//! Does not judge: the checkers of real runs do. Invariant: a seed gives the same run, to the last event, every time.

pub mod machine;

mod books;
mod crash_at;
mod faults;
mod kinds;
mod members;
mod node;
mod run;
mod ways;

pub use run::{Outcome, Settings, run};
