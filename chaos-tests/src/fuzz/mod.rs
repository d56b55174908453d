//! Owns the bodies of the fuzz targets: each takes any bytes, gives them to parsers of the product, and asserts what must hold.
//! Does not make inputs: `cargo fuzz` does, and the test of the corpus. Invariant: a body does the same for the same bytes.

mod memory;
mod mutate;
mod records;
mod seeds;

mod clients;
mod links;
mod nodes;
mod state;
mod stored;

pub use memory::Counting;
pub use mutate::Mutations;
pub use seeds::{golden_tags, write_seeds};

/// Bytes that any body may hold at once beside what its input costs: small buffers, errors, the maps of a test state.
const SPARE_BYTES: usize = 512 << 10;
/// Bytes of memory for a byte of input: the most that `codec::decode` reserves, just above the steps of its limit.
const BYTES_PER_INPUT_BYTE: usize = 16 << 10;

/// One fuzz target.
pub struct Target {
    /// Of the binary in `chaos-tests/fuzz`.
    pub name: &'static str,
    pub body: fn(&[u8]),
    /// Inputs to begin with, made from the golden bytes.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes that this body may take whatever its input is, beside [`SPARE_BYTES`].
    pub extra_bytes: usize,
}

const fn target(name: &'static str, body: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, body, seeds, extra_bytes: 0 }
}

/// Every target, in the order of a message's way.
pub const TARGETS: &[Target] = &[
    target("client_frame", clients::client_frame, seeds::client_frames),
    target("server_frame", clients::server_frame, seeds::server_frames),
    target("rust_client", clients::rust_client, seeds::heard),
    target("websocket_heads", nodes::websocket_heads, seeds::websocket_frames),
    target("token", nodes::token, seeds::tokens),
    target("proto_values", stored::proto_values, seeds::proto_values),
    target("chat_rows", stored::chat_rows, seeds::chat_rows),
    target("meta_rows", stored::meta_rows, seeds::meta_rows),
    target("peer_hello", links::peer_hello, seeds::peer_hellos),
    target("peer_link", links::peer_link, seeds::peer_links),
    target("raft_append", links::raft_append, seeds::appends),
    target("raft_entry", links::raft_entry, seeds::entries),
    target("raft_rows", stored::raft_rows, seeds::raft_rows),
    target("raft_log", stored::raft_log, seeds::raft_logs),
    target("watermark_slot", stored::watermark_slot, seeds::watermark_slots),
    target("checked_file", stored::checked_file, seeds::checked_files),
    target("certificate", links::certificate, seeds::certificates),
    target("snapshot_chunk", stored::snapshot_chunk, seeds::snapshot_chunks),
    target("chat_state", state::chat_state, seeds::chat_states),
    target("chat_commands", state::chat_commands, seeds::batches),
    target("meta_state", state::meta_state, seeds::meta_states),
    target("backup_manifest", nodes::backup_manifest, seeds::manifests),
    // A chunk is given as much memory as its head announces, up to the largest that there may be.
    Target { extra_bytes: 48 << 20, ..target("backup_chunk", nodes::backup_chunk, seeds::backup_chunks) },
    target("admin_text", nodes::admin_text, seeds::admin_texts),
    target("admin_json", nodes::admin_json, seeds::admin_jsons),
    target("flags", nodes::flags, seeds::flags),
];

/// The target of that name.
/// # Panics
/// There is none.
pub fn named(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target of the list")
}

impl Target {
    /// Runs the body once.
    /// # Panics
    /// What it asserts does not hold, or it took more memory than such an input may cost.
    pub fn run(&self, bytes: &[u8]) {
        let taken = memory::peak_of(|| (self.body)(bytes));
        let allowed = SPARE_BYTES + self.extra_bytes + BYTES_PER_INPUT_BYTE * bytes.len();
        assert!(taken <= allowed, "{}: {} bytes of input took {taken} bytes of memory", self.name, bytes.len());
    }
}

/// What a target's binary calls before the first input: puts the seeds where `EVERDESK_FUZZ_SEEDS` says.
/// # Panics
/// They cannot be written.
pub fn prepare(name: &str) {
    if let Some(dir) = std::env::var_os("EVERDESK_FUZZ_SEEDS") {
        write_seeds(named(name), dir.as_ref()).expect("the directory of seeds can be written");
    }
}
