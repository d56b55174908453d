//! Owns what must always hold, one promise per file. Does not ask nodes for conversations; `oracle` does.
//! Invariant: each check names the session and the seq that break it.

pub mod history;

pub mod stream;

pub mod assignment;

pub mod replicas;
