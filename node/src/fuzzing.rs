//! Owns the opening through which the fuzz targets reach what this crate reads from clients, administrators and backups. Does not
//! serve the product. Invariant: bytes go through the functions that a node or command calls.

pub use crate::admin::fuzzing::{json as admin_json, text as admin_text};

use crate::auth::{self, Bearer};
use crate::backup::chunk::Chunk;
use crate::backup::{Manifest, Place};
use crate::config::Config;
use crate::connection::heads::Heads;
use clap::Parser;
use std::net::SocketAddr;

/// Looks at the heads of WebSocket frames, in one piece and in pieces.
/// # Panics
/// The two do not stop at the same byte.
pub fn heads(bytes: &[u8], piece: usize) {
    let whole = Heads::default().take(bytes);
    let (mut heads, mut before) = (Heads::default(), 0);
    let cut = bytes.chunks(piece.max(1)).find_map(|piece| {
        let found = heads.take(piece).map(|at| before + at);
        before += piece.len();
        found
    });
    assert_eq!(whole, cut, "in pieces of {piece}");
}

/// A manifest as it is stored; and bytes that are one but for the checksum.
/// # Panics
/// It is another one when it is read again.
pub fn manifest(bytes: &[u8]) {
    let id = serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let id = id.and_then(|value| value["manifest"]["id"].as_str().map(str::to_owned)).unwrap_or_default();
    let _ = Manifest::parse(&id, bytes);
    let Ok(unsealed) = serde_json::from_slice::<Manifest>(bytes) else { return };
    if let Ok(manifest) = Manifest::parse(&unsealed.id, &unsealed.sealed()) {
        assert!(manifest == unsealed, "a manifest is read as it was written");
        // What `everdesk backup list` shows of it.
        let _ = (manifest.rows(), manifest.bytes(), manifest.chunks().count());
    }
}

/// A stored chunk; and bytes that are the rows of one.
/// # Panics
/// It is another one when it is read again.
pub fn chunk(bytes: &[u8]) {
    let _ = Chunk::unpack(&"0".repeat(64), bytes);
    let mut chunk = Chunk { rows: 0, bytes: bytes.to_vec() };
    let counted = chunk.each(&mut |_, _| Ok::<(), String>(()));
    let read = Chunk::unpack(&chunk.name(), &chunk.pack());
    assert_eq!(counted.is_ok(), read.is_ok(), "{counted:?}");
    if let Ok(read) = read {
        chunk.rows = read.rows;
        assert!(read == chunk, "a chunk is read as it was written");
    }
}

/// Texts that name somebody: tokens, admin tokens, stored password hashes.
/// # Panics
/// A token that can be read is not written as it was read.
pub fn token(text: &str) {
    if let Some((bearer, hash)) = auth::parse_token(text) {
        let secret = text.rsplit('.').next().unwrap_or_default();
        let written = match bearer {
            Bearer::Visitor { session } => format!("v1.{session}.{secret}"),
            Bearer::Agent { agent } => format!("a1.{agent}.{secret}"),
        };
        assert_eq!(written, text);
        assert_eq!(auth::hash_token(text), hash);
    }
    let _ = auth::checked_admin_token(text);
    let _ = argon2::password_hash::PasswordHash::new(text);
}

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    config: Config,
}

/// The flags of `everdesk start`, one a line; true: they would start a node.
pub fn flags(text: &str) -> bool {
    let Ok(Flags { config }) = Flags::try_parse_from(std::iter::once("start").chain(text.lines())) else {
        return false;
    };
    let told = config.advertised(SocketAddr::from(([0, 0, 0, 0], 9)));
    assert!(told.ends_with(":9"));
    config.validate().is_ok()
}

/// The name of a place of backups. Stores are left out: each would start an HTTP client.
pub fn place(text: &str) {
    if !text.starts_with("s3://") {
        let _ = Place::open(text, false);
    }
}

/// The stored form of rows, for a corpus.
pub fn packed(rows: &[(&[u8], &[u8])]) -> (Vec<u8>, Vec<u8>) {
    let mut chunk = Chunk::default();
    for (key, value) in rows {
        chunk.push(key, value);
    }
    (chunk.pack(), chunk.bytes)
}

/// What the Rust client hears, one frame a line.
pub fn client(frames: &str) {
    crate::client::fuzzing::hear(frames);
}
