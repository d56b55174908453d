//! Owns the tests with real processes, in one binary: linking RocksDB's users is slow. Does not reach into nodes.
//! Invariant: after each fault everything in `oracle` holds, and every process is gone.

mod conversation;

mod kills;

mod planned;

mod presence;

mod deposed;

mod certificates;
mod clients;
mod lost_pushes;
mod vanished;

mod storage;

mod backups;

mod recover;

mod malformed;

mod figures;

mod deployed;

mod asks;

mod audit;

mod admin_api;
mod desk;
mod moved;
mod rest_api;
