//! Owns the proof that stored and sent bytes stay as they are and that hostile ones do no harm, for every type of this
//! crate. Rows of other crates are tested there; that none is forgotten is tested here, in `tags.rs`.

#![allow(clippy::unwrap_used)]

mod cuts;
mod golden;
mod samples;

mod frozen;
mod hostile;
mod tags;

mod arbitrary;
mod archive;
mod attachments;
mod audit;
mod desk;
mod emails;
mod meta;
mod report;
mod round_trips;
mod search;
mod shelf;
mod visitors;
mod webhooks;
