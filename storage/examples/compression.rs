//! Measures how small conversations become: `compression DIR`, where DIR is what `scripts/archive-corpus.py` made, and `dictionary` in it
//! what zstd trained on `DIR/samples`, which this writes. See docs/MEASUREMENTS.md.

use proto::codec;
use proto::command::{Event, EventBody, Party};
use proto::ids::AgentId;
use rocksdb::{BlockBasedOptions, DB, DBCompressionType, Options};
use std::path::Path;

/// As the rules cut blocks: events of one row.
const BLOCK_EVENTS: usize = 16;
/// As rows are compressed in the state family.
const BLOCK_BYTES: usize = 8 << 10;
/// One level for all, so that figures compare.
const LEVEL: i32 = 9;

type Talk = Vec<(bool, String)>;

fn main() {
    let dir = std::env::args().nth(1).expect("the directory of the corpus");
    let dir = Path::new(&dir);
    let samples = dir.join("samples");
    std::fs::create_dir_all(&samples).expect("samples");
    for (number, talk) in read(&dir.join("train.jsonl")).iter().enumerate() {
        let bytes = codec::encode_bare(&events(talk, number as u64));
        std::fs::write(samples.join(format!("{number}")), bytes).expect("a sample");
    }
    for name in ["zh", "en", "en-other"] {
        let talks: Vec<Vec<Event>> =
            read(&dir.join(format!("{name}.jsonl"))).iter().zip(50_000..).map(|(talk, n)| events(talk, n)).collect();
        report(name, dir, &talks);
    }
}

fn report(name: &str, dir: &Path, talks: &[Vec<Event>]) {
    let plain: usize = talks.iter().map(|talk| codec::encode_bare(talk).len()).sum();
    println!(
        "{name}: {} conversations, {} events, {plain} bytes",
        talks.len(),
        talks.iter().map(Vec::len).sum::<usize>()
    );
    let told = |how: &str, bytes: usize| println!("  {how:<44} {bytes:>9}  {:>5.2}", plain as f64 / bytes as f64);
    for (how, kind, dict) in [
        ("RocksDB, no compression", DBCompressionType::None, 0),
        ("RocksDB, lz4", DBCompressionType::Lz4, 0),
        ("RocksDB, zstd", DBCompressionType::Zstd, 0),
        ("RocksDB, zstd, 16 KiB dictionary a file", DBCompressionType::Zstd, 16 << 10),
        ("RocksDB, zstd, 64 KiB dictionary a file", DBCompressionType::Zstd, 64 << 10),
    ] {
        told(how, rocks(talks, kind, dict, BLOCK_BYTES));
    }
    told("RocksDB, zstd, 64 KiB, blocks of 32 KiB", rocks(talks, DBCompressionType::Zstd, 64 << 10, 32 << 10));
    told("zstd, each conversation alone", packed(talks, &[]));
    let dictionary = std::fs::read(dir.join("dictionary")).unwrap_or_default();
    if !dictionary.is_empty() {
        told("zstd, each alone, trained dictionary", packed(talks, &dictionary));
    }
}

fn read(path: &Path) -> Vec<Talk> {
    let text = std::fs::read_to_string(path).expect("the corpus");
    text.lines().map(|line| serde_json::from_str(line).expect("a conversation")).collect()
}

/// Numbers that look random, as devices and ids of messages do.
fn random(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The events of a conversation as a session stores them: the visitor's first message, an agent, the rest, and the end.
fn events(talk: &Talk, number: u64) -> Vec<Event> {
    let agent = AgentId(random(number % 40));
    let devices = [format!("v{:016x}", random(number)), format!("a{:016x}", random(number % 40 + 7))];
    let mut counts = [0; 2];
    let mut bodies: Vec<EventBody> = Vec::new();
    for (at, (is_visitor, text)) in talk.iter().enumerate() {
        let side = usize::from(!is_visitor);
        counts[side] += 1;
        let from = if *is_visitor { Party::Visitor } else { Party::Agent(agent) };
        let cid = format!("{:016x}", random(number * 1_000 + at as u64));
        bodies.push(EventBody::Message {
            from,
            device: devices[side].clone(),
            n: counts[side],
            cid,
            text: text.clone(),
            reply_to: None,
            attachments: Vec::new(),
        });
        if at == 0 {
            bodies.push(EventBody::Assigned { agent, conversation: 1 });
        }
    }
    bodies.push(EventBody::Closed { by: Party::Agent(agent), conversation: 1, reason: String::new() });
    let mut ts_ms = 1_790_000_000_000 + number * 60_000;
    let step = |(body, seq): (EventBody, u64)| {
        ts_ms += 1_000 + random(seq + number) % 30_000;
        Event { seq, ts_ms, body }
    };
    bodies.into_iter().zip(1..).map(step).collect()
}

fn packed(talks: &[Vec<Event>], dictionary: &[u8]) -> usize {
    let mut context = zstd_safe::CCtx::create();
    let pack = |talk: &Vec<Event>| {
        let bytes = codec::encode_bare(talk);
        let mut out = vec![0; zstd_safe::compress_bound(bytes.len())];
        context.compress_using_dict(&mut out[..], &bytes, dictionary, LEVEL).expect("the bound holds it")
    };
    talks.iter().map(pack).sum()
}

fn rocks(talks: &[Vec<Event>], kind: DBCompressionType, dictionary: i32, block: usize) -> usize {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(kind);
    options.set_bottommost_compression_type(kind);
    if dictionary > 0 {
        options.set_compression_options(-14, 3, 0, dictionary);
        options.set_zstd_max_train_bytes(100 * dictionary);
        options.set_bottommost_compression_options(-14, 3, 0, dictionary, true);
        options.set_bottommost_zstd_max_train_bytes(100 * dictionary, true);
    }
    let mut table = BlockBasedOptions::default();
    table.set_block_size(block);
    table.set_format_version(5);
    options.set_block_based_table_factory(&table);
    let db = DB::open(&options, dir.path()).expect("a database");
    for (number, talk) in talks.iter().enumerate() {
        for rows in talk.chunks(BLOCK_EVENTS) {
            let mut key = vec![0; 8];
            key.push(b'E');
            key.extend_from_slice(&random(number as u64).to_be_bytes());
            key.extend_from_slice(&random(number as u64 + 99).to_be_bytes());
            key.extend_from_slice(&rows[0].seq.to_be_bytes());
            db.put(key, codec::encode_bare(&rows.to_vec())).expect("a row");
        }
    }
    db.flush().expect("flushed");
    db.compact_range::<&[u8], &[u8]>(None, None);
    let files = std::fs::read_dir(dir.path()).expect("its files").flatten();
    let tables = files.filter(|file| file.path().extension().is_some_and(|end| end == "sst"));
    tables.map(|file| file.metadata().expect("its size").len() as usize).sum()
}
