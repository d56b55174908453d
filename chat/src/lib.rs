//! Owns the rules of the desk: sessions, messages, agents and assignment, as one deterministic state machine per shard.
//! Does not know tokio, RocksDB, openraft, clocks or randomness. Invariant: the same commands give the same outcomes
//! and the same state hash on every replica, whenever checkpoints and evictions happen.

mod about;
mod act;
mod agent;
mod amend;
mod apply;
mod archive;
mod attachment;
mod audit;
mod cache;
mod checkpoint;
mod counted;
pub mod courier;
mod desk;
mod device;
mod due;
mod email;
mod erase;
mod feed;
mod file_objects;
mod find;
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod identity;
mod journal;
mod keys;
pub mod limits;
mod log;
mod merge;
mod message;
#[cfg(feature = "next")]
mod next;
mod objects;
mod outbox;
mod outcome;
mod reach;
mod reads;
mod reconcile;
mod report;
mod rollup;
mod rows;
mod seen;
mod session;
mod shelf;
mod side_rows;
mod snooze;
mod stint;
mod talk;
#[cfg(test)]
mod tests;
mod webhook;
mod with_objects;

pub use apply::Shard;
pub use archive::{Archived, Movable, MovablePage, archived_range, is_worth_moving};
pub use audit::{audit_hash, audit_offline};
pub use desk::{fault_of_seat, fault_of_site, fault_of_team};
pub use email::{EmailCourse, EmailStand};
pub use feed::{ShardEvent, ShardEvents};
pub use file_objects::FileHere;
pub use find::{SessionBrief, SessionsPage};
pub use history::{HistoryPage, HistoryRange};
pub use objects::LooseObject;
pub use outcome::{ApplyError, Effect, Outcome, Refusal, Reply};
pub use reads::{AgentView, CursorView, DeskView, OpenView, SeatView, SessionView};
pub use reconcile::{IdsSeen, Reconciled, Reconciliation, read_header};
pub use rows::{Changes, Rows, RowsError};
pub use with_objects::WithObjects;
