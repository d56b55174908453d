//! Owns the tests of texts that are written to make a program do something. Which fields there are is read from the documents of the API and
//! of the sockets, so that a new one is tried or somebody says why not. Invariant: what is taken is kept as it was written, what is not is
//! refused, and nothing that is made of it is built in another way than of a harmless text.

/// What is written.
mod corpus;

/// Where it can be written, and what is answered.
mod asker;
mod fields;
mod frames;
mod operations;
mod yaml;

/// Who writes it.
mod beside_the_document;
mod through_the_api;
mod through_the_sockets;

/// What is made of it.
mod shape;
mod what_is_made;

use super::*;
