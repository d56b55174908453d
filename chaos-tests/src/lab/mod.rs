//! Owns faults from outside a process: networks, disks and clocks of nodes. Does not start nodes or know conversations.
//! Invariant: a fault touches only what carries the name of its lab; the machine's own network, mounts and clock stay as they are.

pub mod owner;

pub mod net;

pub mod cuts;

pub mod shapes;

pub mod delay;

pub mod disk;

mod lazy;

pub mod corrupt;

pub mod preload;

pub mod clock;

pub mod ticker;

mod tool;

pub use tool::skipped;
