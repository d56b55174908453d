//! Owns clusters of real processes, what is done to them, what they are asked to do, and what must hold afterwards.
//! Does not know a node's inside: command line, HTTP and sockets only. Invariant: every process started here is ended here.

pub mod cluster;
pub mod faults;
pub mod workload;

pub mod oracle;
pub mod person;
pub mod receiver;
pub mod smtp;

pub mod restored;

pub mod invariants;

pub mod history;
pub mod talk;

pub mod checkers;

pub mod lab;

pub mod report;

pub mod chaos;

/// The bodies of the fuzz targets, which know the parsers of every crate.
pub mod fuzz;

#[cfg(feature = "sim")]
pub mod sim;

pub mod http;
pub mod socket;
pub mod wait;
