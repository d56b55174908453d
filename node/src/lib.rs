//! Owns a node's process: sockets, actors, HTTP, commands. Does not own agreement or storage: `cluster` and `storage` do.
//! Invariant: HTTP threads and the cluster's runtime meet only through bounded queues and short locks.

pub mod admin;
pub mod agent;
pub mod api;
mod archive;
mod attachments;
pub mod audit;
pub mod auth;
pub mod backup;
mod blocklist;
mod breaker;
pub mod cli;
pub mod client;
mod client_address;
pub mod config;
pub mod connection;
pub mod data_dir;
pub mod desk;
mod egress;
mod email;
pub mod figures;
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
mod geo;
pub mod health;
pub mod hooks;
mod hours;
mod identity;
pub mod metrics;
pub mod push;
mod reports;
mod retention;
pub mod run;
pub mod search;
pub mod session;
#[cfg(feature = "sim")]
pub mod sim;
pub mod telemetry;
#[cfg(test)]
mod test_node;
pub mod trace;
mod triggers;
mod webhooks;
