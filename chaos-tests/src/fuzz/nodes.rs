//! Owns the bodies about what clients, administrators and backups tell a node's process. Does not start one.
//! Invariant: see the opening in `node`.

/// The bytes of a WebSocket before its codec has them: how they are cut, then frames.
pub fn websocket_heads(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    node::fuzzing::heads(bytes, 1 + usize::from(*piece));
}

/// Tokens, and other texts that name somebody.
pub fn token(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        node::fuzzing::token(text);
    }
}

/// The manifest of a backup.
pub fn backup_manifest(bytes: &[u8]) {
    node::fuzzing::manifest(bytes);
}

/// A chunk of a backup, compressed, and the rows in it.
pub fn backup_chunk(bytes: &[u8]) {
    node::fuzzing::chunk(bytes);
}

/// Query strings, parts of paths, headers and settings of the admin API.
pub fn admin_text(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        node::fuzzing::admin_text(text);
    }
}

/// Bodies of the admin API, and what nodes ask each other for it.
pub fn admin_json(bytes: &[u8]) {
    node::fuzzing::admin_json(bytes);
}

/// The flags of `everdesk start`, one a line, and the name of a place of backups.
pub fn flags(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        node::fuzzing::flags(text);
        node::fuzzing::place(text);
    }
}
