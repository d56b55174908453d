//! Owns one function per target that makes its seeds. Does not read kept ones. Invariant: each seed is good input, or one fault
//! away from it.

use super::super::records;
use super::{files, golden, golden_lines, golden_rows, tagged};
use chat::Shard;
use cluster::meta::MetaState;
use proto::act::Act;
use proto::codec::{decode, encode};
use proto::command::{Batch, Command, MetaBatch, Party};
use proto::ids::{AgentId, SessionId, ShardId, SiteId, VisitorId};
use proto::peer::MAGIC;
use std::collections::BTreeMap;

type Seeds = Vec<Vec<u8>>;

fn texts(texts: &[&str]) -> Seeds {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn client_files(prefix: &[&str]) -> Seeds {
    let files = files("proto/golden/client").into_iter();
    files.filter(|(name, _)| prefix.iter().any(|prefix| name.starts_with(prefix))).map(|(_, bytes)| bytes).collect()
}

pub fn client_frames() -> Seeds {
    let mut seeds = client_files(&["client-", "refused"]);
    seeds.extend(texts(&[
        r#"{"id":1,"ping":{"x":[{"a":[1e5,-0.5,null,"\ud83d\ude00"]}]}}"#,
        r#"{"id":2,"send":{"session":"0102030405060708090a0b0c0d0e0f10","cid":"c\u00e9","text":"\"\\\/\b\f\n\r\t\u0000"}}"#,
    ]));
    seeds
}

pub fn server_frames() -> Seeds {
    client_files(&["server-", "http-"])
}

/// Each golden frame alone, and all of them after a welcome.
pub fn heard() -> Seeds {
    let mut seeds: Seeds = client_files(&["server-"]);
    let line = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).lines().collect::<String>();
    seeds.push(seeds.iter().map(line).collect::<Vec<_>>().join("\n").into_bytes());
    for id in 1..4 {
        let error = r#""error":{"code":"overloaded","message":"full","retry_after_ms":5}"#;
        let session = "00000000000000000000000000000001";
        seeds.extend(texts(&[
            &format!(r#"{{"id":{id},{error}}}"#),
            &format!(r#"{{"id":{id},"ack":{{"session":"{session}","cid":"c","seq":{id},"ts":1}}}}"#),
        ]));
    }
    seeds
}

pub fn websocket_frames() -> Seeds {
    let frame = |payload: usize| {
        let mut bytes = vec![3, 0x81];
        match payload {
            0..=125 => bytes.push(0x80 | payload as u8),
            126..=0xffff => bytes.extend([&[0xfe][..], &(payload as u16).to_be_bytes()].concat()),
            _ => bytes.extend([&[0xff][..], &(payload as u64).to_be_bytes()].concat()),
        }
        bytes.resize(bytes.len() + 4 + payload.min(300), 7);
        bytes
    };
    let mut seeds: Seeds = [0, 5, 126, 300, 65_537, 1 << 40].map(frame).to_vec();
    seeds.push([frame(5), frame(126)[1..].to_vec(), frame(65_537)[1..].to_vec()].concat());
    seeds
}

pub fn tokens() -> Seeds {
    let secret = "A".repeat(43);
    let session = "0102030405060708090a0b0c0d0e0f10";
    let mut seeds =
        texts(&["0123456789abcdef0123456789abcdef\n", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"]);
    seeds.extend(texts(&[&format!("v1.{session}.{secret}"), &format!("a1.a12.{secret}")]));
    // However long a secret is: the one that is right is among them.
    seeds.extend((16..48).map(|len| format!("a1.a7.{}", "b".repeat(len)).into_bytes()));
    seeds
}

pub fn proto_values() -> Seeds {
    [tagged(1..=4), tagged(40..=59), tagged(91..=92)].concat()
}

pub fn chat_rows() -> Seeds {
    golden_rows().into_iter().filter(|(name, _)| !name.ends_with(" key")).map(|(_, bytes)| bytes).collect()
}

pub fn meta_rows() -> Seeds {
    [tagged(60..=90), tagged(100..=102)].concat()
}

pub fn peer_hellos() -> Seeds {
    let message = |body: &Vec<u8>| [&MAGIC[..], &(body.len() as u32).to_le_bytes(), body].concat();
    tagged(40..=41).iter().map(message).collect()
}

/// A frame of one message, which is cut into pieces of eight bytes.
fn linked(kind: u8, body: &[u8]) -> Vec<u8> {
    let message = [&[kind][..], &3_u32.to_le_bytes(), &77_u64.to_le_bytes(), body].concat();
    let message = [&(message.len() as u32).to_le_bytes()[..], &message].concat();
    [&[7][..], &(message.len() as u32).to_le_bytes(), &message].concat()
}

pub fn peer_links() -> Seeds {
    // Kinds as in `MessageKind`, tags as in `proto::peer`.
    let kinds =
        [(2, 47), (3, 47), (4, 49), (5, 50), (6, 52), (7, 54), (8, 55), (9, 56), (10, 57), (12, 91), (0, 46), (11, 59)];
    let of_kind = |(kind, tag): (u8, u8)| tagged(tag..=tag).into_iter().take(12).map(move |body| linked(kind, &body));
    let mut seeds: Seeds = kinds.into_iter().flat_map(of_kind).collect();
    seeds.extend(appends().iter().map(|body| linked(1, body)));
    let two: Vec<u8> = seeds[0].iter().chain(&seeds[1][1..]).copied().collect();
    seeds.push(two);
    seeds
}

pub fn appends() -> Seeds {
    golden(|name| name.starts_with("wire-append"))
}

pub fn entries() -> Seeds {
    [golden(|name| name.starts_with("log-entry")), tagged(43..=44), tagged(1..=1), tagged(3..=3)].concat()
}

pub fn raft_rows() -> Seeds {
    let numbers = |count: u8| {
        (0..8 * count).fold(vec![1], |mut row, byte| {
            row.push(byte);
            row
        })
    };
    vec![numbers(1), numbers(2), numbers(3), [numbers(2), b"vote".to_vec()].concat(), vec![1, 9, 0, 0, 0]]
}

pub fn raft_logs() -> Seeds {
    let mut log = Vec::new();
    for (index, body) in entries().iter().take(8).enumerate() {
        records::put(&mut log, 7, &[&(index as u64).to_be_bytes()[..], &[1]].concat(), body);
    }
    let mut all = log.clone();
    for (kind, row) in [(0, &raft_rows()[0]), (1, &raft_rows()[3]), (3, &raft_rows()[2]), (4, &raft_rows()[4])] {
        records::put(&mut all, kind, &[], row);
    }
    vec![log, all]
}

pub fn watermark_slots() -> Seeds {
    let slot = |count: u16| {
        let mut slot = vec![0; 8];
        slot.push(1);
        slot.extend_from_slice(&7_u64.to_le_bytes());
        slot.extend_from_slice(&count.to_le_bytes());
        slot.extend((0..45 * usize::from(count)).map(|at| at as u8));
        storage::fuzzing::with_slot_sum(slot)
    };
    vec![slot(0), slot(1), slot(3)]
}

pub fn checked_files() -> Seeds {
    let mut seeds = tagged(70..=71);
    seeds.extend(texts(&["everdesk data directory, version 1\n"]));
    seeds
}

pub fn certificates() -> Seeds {
    let pin = "A".repeat(43);
    texts(&[&pin, &format!("join.secret.{pin}"), &format!("join.secret.{pin}.{pin}")])
}

pub fn snapshot_chunks() -> Seeds {
    let chunk = |rows: &[(&[u8], &[u8])]| {
        let mut chunk = vec![1];
        chunk.extend_from_slice(&(rows.len() as u32).to_le_bytes());
        for part in rows.iter().flat_map(|(key, value)| [key, value]) {
            chunk.extend_from_slice(&(part.len() as u32).to_le_bytes());
            chunk.extend_from_slice(part);
        }
        chunk.extend_from_slice(&[0; 8]);
        storage::fuzzing::with_chunk_sum(chunk)
    };
    vec![chunk(&[]), chunk(&[(b"k", b"value")]), chunk(&[(b"a", b""), (b"b", &[7; 100]), (b"cc", b"x")])]
}

fn records_of<'a>(rows: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in rows {
        records::put(&mut out, 0, key, value);
    }
    out
}

/// A conversation with an agent, and one that waits.
fn talk() -> Vec<Command> {
    let site = SiteId(1);
    let send = |session: u128, from, n: u64| Command::Send {
        session: SessionId(session),
        from,
        device: "d".into(),
        n,
        cid: if n == 0 { "c".into() } else { format!("c{n}") },
        text: "hello".into(),
        reply_to: None,
        attachments: Vec::new(),
    };
    let open = |id: u128| Command::OpenSession { session: SessionId(id), site, visitor: VisitorId(id), token: [7; 32] };
    let agent = AgentId(1);
    let mut talk = vec![
        Command::AgentLogin { agent, site, name: "Ada".into(), token: [9; 32] },
        Command::AgentPresence { agent, online: true },
        open(1),
        open(2),
    ];
    talk.extend((1..=4).map(|n| send(1, Party::Visitor, n)));
    talk.extend([send(2, Party::Visitor, 0), send(1, Party::System, 1)]);
    talk.push(Command::Cursor { session: SessionId(1), party: Party::Visitor, received: 3, read: 2 });
    let act = |n: u64, act| Command::Act {
        session: SessionId(1),
        site: Some(site),
        from: Party::Agent(agent),
        device: "d".into(),
        n,
        cid: format!("c{n}"),
        act,
    };
    let note = Act::Note { text: "asked before".into(), mentions: vec![agent] };
    talk.extend([act(1, note), act(2, Act::Label { label: "refund".into(), on: true })]);
    let from_visitor = |command| match command {
        Command::Act { session, n, cid, act, device, .. } => {
            Command::Act { session, site: None, from: Party::Visitor, device, n, cid, act }
        }
        other => other,
    };
    talk.push(from_visitor(act(5, Act::Recall { seq: 4 })));
    talk.push(Command::Close { session: SessionId(2), by: Party::Visitor });
    talk
}

pub fn batches() -> Seeds {
    let mut seeds = tagged(1..=1);
    let all: Vec<Command> =
        seeds.iter().filter_map(|bytes| decode::<Batch>(bytes).ok()).flat_map(|batch| batch.commands).collect();
    seeds.push(encode(&Batch { now_ms: 1_000, commands: talk() }));
    seeds.push(encode(&Batch { now_ms: 1_000, commands: [all, talk()].concat() }));
    seeds
}

/// Rows as a checkpoint writes them after each step of a talk.
pub fn chat_states() -> Seeds {
    let golden = golden_rows();
    let pairs = golden.windows(2).filter(|pair| pair[0].0.ends_with(" key") && !pair[1].0.ends_with(" key"));
    let mut seeds = vec![records_of(pairs.map(|pair| (&pair[0].1[..], &pair[1].1[..])))];
    let rows = chat::fuzzing::RowMap::new();
    let mut shard = Shard::open(ShardId(1), 1, &rows).expect("no rows are no error");
    let mut written: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for command in talk() {
        if shard.apply(&rows, 1_000, command).is_err() {
            break;
        }
        for (key, value) in shard.begin_checkpoint() {
            match value {
                Some(value) => drop(written.insert(key, value)),
                None => drop(written.remove(&key)),
            }
        }
        // Nothing is evicted, so that no row is looked for.
        shard.end_checkpoint(true);
        seeds.push(records_of(written.iter().map(|(key, value)| (&key[..], &value[..]))));
    }
    seeds
}

pub fn meta_states() -> Seeds {
    let batches = tagged(3..=3);
    let mut commands = Vec::new();
    let mut state = MetaState::default();
    for bytes in &batches {
        records::put(&mut commands, 0, &[], bytes);
        if let Ok(batch) = decode::<MetaBatch>(bytes) {
            batch.commands.into_iter().for_each(|command| drop(state.apply(batch.now_ms, command)));
        }
    }
    let rows = state.rows();
    let rows = rows.iter().filter_map(|(key, value)| Some((&key[..], value.as_deref()?)));
    let mut both = records_of(rows);
    let stored = both.clone();
    both.extend_from_slice(&commands);
    vec![commands, stored, both]
}

pub fn manifests() -> Seeds {
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let group = |shard: &str, chunks: &str, rows: u64| {
        format!(
            r#"{{"shard":"{shard}","node":"n1","term":1,"index":9,"state_hash":null,"rows":{rows},"bytes":7,"hash":"{nothing}","chunks":[{chunks}]}}"#
        )
    };
    let manifest = |groups: &str| {
        format!(
            r#"{{"format":1,"id":"i","started_ms":1,"finished_ms":2,"everdesk":"0.1.0","cluster_version":1,"cluster":"{0}","name":"{0}","shards":1,"groups":[{groups}]}}"#,
            "0102030405060708090a0b0c0d0e0f10"
        )
    };
    let chunk = format!(r#"{{"name":"{nothing}","rows":3,"bytes":7}}"#);
    let plain = manifest(&[group("g0", "", 0), group("g1", "", 0)].join(","));
    let named = manifest(&[group("g0", &chunk, 3), group("g1", &format!("{chunk},{chunk}"), 6)].join(","));
    let sealed = format!(r#"{{"manifest":{plain},"sha256":"{nothing}"}}"#);
    texts(&[&plain, &named, &sealed])
}

pub fn backup_chunks() -> Seeds {
    let rows: Vec<(&[u8], &[u8])> = vec![(b"a", b"one"), (b"b", &[7; 300]), (b"c", b"")];
    let (packed, plain) = node::fuzzing::packed(&rows);
    vec![packed, plain]
}

pub fn admin_texts() -> Seeds {
    let session = "0102030405060708090a0b0c0d0e0f10";
    let query = format!("site=demo&state=open&agent=a1&visitor={session}&after={session}&limit=10");
    texts(&[
        &query,
        "after=site1&limit=1000",
        "site=a%20b&after=a9&limit=1",
        "seconds=10&format=folded",
        "log_filter=info,node=debug,[span{field=1}]=trace",
        "drain_over_s=5",
        "YWRtaW46cGFzc3dvcmQ=",
        session,
        "a12",
        "n1",
        "g0",
        "site7",
    ])
}

pub fn admin_jsons() -> Seeds {
    let mut seeds = texts(&[
        r#"{"name":"demo"}"#,
        r#"{"site":"demo","name":"ada","password":"correct horse"}"#,
        r#"{"to":"/backups"}"#,
        r#"{"filter":"info"}"#,
        r#"{"value":"5"}"#,
        r#"{"node":"n2"}"#,
        r#"{"state":"draining"}"#,
        r#"{"agent":"a1"}"#,
        r#"{"name":"ci","role":"viewer","expires_ms":1}"#,
        r#""held""#,
        r#"{"lead":{"shard":"g1","to":"n2"}}"#,
        r#"{"sessions":{"site":null,"state":"open","agent":"a1","visitor":null,"after":null,"limit":5}}"#,
        r#"{"trace":{"session":"0102030405060708090a0b0c0d0e0f10","seq":1}}"#,
        r#"{"sockets":{"after":0,"limit":5}}"#,
        r#"{"Ok":[{"shard":"g1"}]}"#,
        r#"{"Err":{"type":"about:blank","title":"x","status":404,"detail":"y"}}"#,
    ]);
    seeds.extend(files("node/golden").into_iter().map(|(_, bytes)| bytes));
    seeds
}

pub fn flags() -> Seeds {
    texts(&[
        "--peer-listen\n0.0.0.0:7080\n--advertise-host\nnode-1.example",
        "--listen\n[::]:8080\n--join\n[::1]:7080\n--token\nt",
        "--shards\n64\n--heartbeat-ms\n50\n--election-min-ms\n300\n--election-max-ms\n600\n--zone\nz",
        "--data-dir\n/d\n--http-workers\n2\n--raft-threads\n2\n--dead-after-s\n1\n--log\ninfo\n--log-format\njson",
        "file:///backups",
        "/backups",
        "ftp://host/dir",
    ])
}

/// Golden lines that say which tags there are, for the test that none is forgotten.
pub fn golden_tags() -> Vec<(String, Vec<u8>)> {
    let files = files("proto/golden/bytes").into_iter().filter(|(name, _)| name.as_bytes()[0].is_ascii_digit());
    let all =
        files.flat_map(|(file, text)| golden_lines(&text).into_iter().map(move |(_, bytes)| (file.clone(), bytes)));
    all.chain(golden_rows().into_iter().filter(|(name, _)| !name.ends_with(" key"))).collect()
}
