//! Owns the tests of the whole crate, and what they share. Does not test timing. Invariant: every case replays from its seed.

mod acts;
mod archive;
mod attachments;
mod audit;
mod balance;
mod checkpoints;
mod desk;
mod emails;
mod erase;
mod feed;
mod golden;
mod golden_side;
mod mails;
mod merge;
mod messages;
mod places;
mod reach;
mod reconcile;
mod reports;
mod reports_by_hand;
mod routing;
mod sessions;
mod shelf;
mod steps;
mod transfers;
mod webhooks;
pub(crate) mod world;
