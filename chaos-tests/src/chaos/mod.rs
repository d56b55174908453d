//! Owns runs with real nodes: machines, what befalls them by a seed, the talk meanwhile, and what is said of it in the end.
//! Does not judge by itself: `checkers` do. Invariant: a run that ends, whichever way, leaves no process, namespace, mount or loop device.

pub mod settings;

pub mod kinds;

mod abilities;

mod stop;

mod supervisor;

mod machine;

mod admin;

mod ways;

mod eyes;

mod stage;

mod plan;

mod acts;

mod run;

mod judge;

mod silences;

mod summary;

pub use abilities::Abilities;
pub use run::run;
pub use settings::{Ended, Settings};
pub use silences::sum;
