//! Stored rows and sent frames of this crate stay as they are; hostile bytes are refused.

#[path = "../../proto/tests/bytes/golden.rs"]
mod golden;

use crate::meta::{
    AgentRow, ApiKeyRow, ApiTokenRow, AuthorityRow, ClusterRow, IdentityKeysRow, LineageRow, NodeRow, NodeRowV1,
    OnceRow, ReplicaRow, ReplicaRowV1, SettingRow, SiteConfigRow, SiteEmailRow, SiteRow, TokenRow, TrustRow,
    VersionsRow, WebhookRow, WebhookSecretRow,
};
use crate::node::Identity;
use crate::raft::types::{Data, Entry, TypeConfig, from_log, log_id, membership, to_log, vote};
use crate::raft::wire::{get_append, put_append};
use crate::tls::{Authority, Credentials};
use crate::transport::frame::{MessageKind, messages, put_message};
use bytes::Bytes;
use openraft::EntryPayload;
use openraft::raft::AppendEntriesRequest;
use proptest::collection::vec;
use proptest::prelude::*;
use proto::codec::{CodecError, Frozen, decode, encode};
use proto::command::{AgentRole, Batch, Command, IdentityMode, NodeAddress, NodeState, OnceAnswer, Role, SecretBytes};
use proto::email::EmailRules;
use proto::ids::{NodeId, ReplicaId, ShardId, SiteId};
use proto::peer::{LogPoint, MembershipRow, VoteRow};
use proto::version::Versions;
use proto::webhook::WebhookRules;
use std::fmt::Debug;

fn address() -> NodeAddress {
    NodeAddress { peer: "n3:7001".into(), client: "n3:7000".into(), admin: "n3:7002".into() }
}

fn round_trips<T: Frozen + PartialEq + Debug>(value: &T, cut: usize) {
    let bytes = encode(value);
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(value));
    assert!(decode::<T>(&bytes[..cut % bytes.len()]).is_err());
    assert_eq!(decode::<T>(&[&bytes[..], &[0]].concat()), Err(CodecError::LeftOver(1)));
    let mut flipped = bytes;
    let at = cut % flipped.len();
    flipped[at] ^= 1 << (cut % 8);
    // Another value or an error; a panic would fail the test.
    let _ = decode::<T>(&flipped);
}

fn is_golden<T: Frozen + PartialEq + Debug>(name: &str, values: Vec<(&'static str, T)>) {
    for (_, value) in &values {
        (0..200).for_each(|cut| round_trips(value, cut));
    }
    let samples: Vec<_> = values.iter().map(|(name, value)| (*name, encode(value))).collect();
    golden::check(&format!("{:03}-{name}.txt", T::TAG), &samples);
}

#[test]
fn rows_of_meta_are_stored_as_their_golden_bytes() {
    let cluster = ClusterRow {
        cluster: u128::MAX,
        shards: 6,
        admin_token: [0xab; 32],
        admin_password: "$argon2id$".into(),
        next_node: 4,
        next_replica: 300,
        next_site: 2,
        next_agent: 70_000,
        next_webhook: 300,
        version: 1,
    };
    let replica = ReplicaRowV1 { shard: ShardId(6), node: NodeId(3), founder: false, retired: true };
    let open = TokenRow { expires_ms: 1_763_700_000_000, spent: None };
    let spent = TokenRow { spent: Some((1 << 100, NodeId(3))), ..open.clone() };
    is_golden("cluster-row", vec![("cluster", cluster)]);
    is_golden("node-row", vec![("node", NodeRowV1 { address: address() })]);
    let node = NodeRow { state: NodeState::Leaving, dead: true, zone: "rack 2".into(), ..NodeRow::new(address()) };
    is_golden("node-state-row", vec![("active", NodeRow::new(address())), ("leaving", node)]);
    let moving = ReplicaRow { retired: false, leaving: true, ..replica.clone().into() };
    is_golden("replica-row", vec![("replica", replica)]);
    is_golden("replica-move-row", vec![("moving", moving)]);
    is_golden("token-row", vec![("open", open), ("spent", spent)]);
    let rules = WebhookRules {
        url: "https://a.example/hook".into(),
        kinds: vec!["message".into()],
        give_up_s: 86_400,
        on: true,
    };
    let key = ApiKeyRow {
        site: SiteId(1),
        name: "crm".into(),
        scopes: vec!["conversations:read".into()],
        created_ms: 1_763_700_000_000,
        expires_ms: None,
    };
    is_golden("api-key-row", vec![("key", key)]);
    let identity = IdentityMode::Required;
    let config = SiteConfigRow { retention_days: 30, identity, archive_days: 7, archive_files_hours: Some(300) };
    is_golden("site-config-row", vec![("config", config)]);
    let keys = IdentityKeysRow { keys: vec![("k1".into(), SecretBytes(vec![7; 3]))] };
    is_golden("identity-keys-row", vec![("keys", keys)]);
    let email = EmailRules { on: true, missed_after_s: 600, forms_to: "a@b.example".into(), ..EmailRules::default() };
    is_golden("site-email-row", vec![("site", SiteEmailRow { rules: email })]);
    is_golden("webhook-row", vec![("webhook", WebhookRow { site: SiteId(1), name: "crm".into(), rules })]);
    let secret = WebhookSecretRow { secret: SecretBytes(vec![7; 3]), before: None };
    let rotated = WebhookSecretRow { before: Some((SecretBytes(vec![6; 3]), 1_763_700_000_000)), ..secret.clone() };
    is_golden("webhook-secret-row", vec![("first", secret), ("rotated", rotated)]);
    is_golden("site-row", vec![("site", SiteRow { name: "demo".into() })]);
    let agent =
        AgentRow { site: SiteId(7), name: "ada".into(), password: "$argon2id$".into(), role: AgentRole::Supervisor };
    is_golden("agent-account-row", vec![("agent", agent)]);
    let authority = AuthorityRow { certificate: vec![0x30, 1], key: SecretBytes(vec![0x30, 2]) };
    is_golden("authority-row", vec![("authority", authority)]);
    is_golden("versions-row", vec![("versions", VersionsRow { versions: Versions { min: 1, max: 300 } })]);
    is_golden("trust-row", vec![("trust", TrustRow { trusts: 300, certified: 1 })]);
    let lineage = LineageRow { name: u128::MAX, before: vec![u128::MAX, 7], at_ms: 1_763_700_000_000, restored: true };
    is_golden("lineage-row", vec![("restored", lineage)]);
}

#[test]
fn rows_of_the_admin_api_are_stored_as_their_golden_bytes() {
    let token =
        ApiTokenRow { name: "ci".into(), role: Role::Operator, created_ms: 1_763_700_000_000, expires_ms: None };
    let expires = ApiTokenRow { role: Role::Admin, expires_ms: Some(1_763_700_000_001), ..token.clone() };
    is_golden("api-token-row", vec![("for ever", token), ("expires", expires)]);
    is_golden("setting-row", vec![("setting", SettingRow { value: "9".into() })]);
    let held = OnceRow { request: [0xcd; 32], holder: 1 << 100, at_ms: 1_763_700_000_000, answer: None };
    let secret = OnceRow { answer: Some(OnceAnswer { status: 200, body: None }), ..held.clone() };
    let told = OnceRow { answer: Some(OnceAnswer { status: 422, body: Some("{}".into()) }), ..held.clone() };
    is_golden("once-row", vec![("held", held), ("secret", secret), ("told", told)]);
}

#[test]
fn the_identity_of_a_node_is_stored_as_its_golden_bytes() {
    let founder = Identity {
        cluster: u128::MAX,
        node: NodeId(1),
        shards: 6,
        meta_replica: Some(ReplicaId(1)),
        founder: true,
        incarnation: 300,
        peers: vec![(NodeId(3), address())],
    };
    let joined = Identity { meta_replica: None, founder: false, peers: Vec::new(), ..founder.clone() };
    is_golden("identity", vec![("founder", founder), ("joined", joined)]);
}

#[test]
fn the_credentials_of_a_node_are_stored_as_their_golden_bytes() {
    let authority = Some(Authority { certificate: vec![0x30, 4], key: vec![0x30, 5] });
    let (key, certificate, issuer) = (vec![0x30, 1], vec![0x30, 2], vec![0x30, 4]);
    let founder = Credentials { key, certificate, issuer, trusted: vec![vec![0x30, 4], vec![0x30, 6]], authority };
    let joined = Credentials { authority: None, ..founder.clone() };
    let names = ["founder", "joined"];
    let samples: Vec<_> = names.into_iter().zip([&founder, &joined].map(encode)).collect();
    golden::check("071-credentials.txt", &samples);
    assert!(decode::<Credentials>(&encode(&founder)).is_ok_and(|read| read == founder));
}

fn entries() -> Vec<Entry> {
    let at = |index| log_id(LogPoint { term: 4, index });
    let row = MembershipRow { configs: vec![vec![1, 2]], members: vec![(1, NodeId(1)), (2, NodeId(3))] };
    let batch = Batch { now_ms: 1, commands: vec![Command::OutboxAcked { to: ShardId(6), upto: 9 }] };
    vec![
        Entry { log_id: at(1), payload: EntryPayload::Blank },
        Entry { log_id: at(2), payload: EntryPayload::Membership(membership(&row).unwrap()) },
        Entry { log_id: at(3), payload: EntryPayload::Normal(Data(encode(&batch).into())) },
    ]
}

fn append_bytes() -> Vec<u8> {
    let mut out = Vec::new();
    let request: AppendEntriesRequest<TypeConfig> = AppendEntriesRequest {
        vote: vote(&VoteRow { term: 4, replica: 9, committed: true }),
        prev_log_id: Some(log_id(LogPoint { term: 3, index: 0 })),
        leader_commit: None,
        entries: entries(),
    };
    put_append(&request, &mut out);
    out
}

#[test]
fn log_entries_and_appends_are_their_golden_bytes() {
    let names = ["blank", "membership", "batch"];
    let bodies = entries().iter().map(|entry| to_log(entry).body.to_vec()).collect::<Vec<_>>();
    golden::check("log-entry.txt", &names.into_iter().zip(bodies).collect::<Vec<_>>());
    for entry in entries() {
        assert_eq!(format!("{:?}", from_log(to_log(&entry)).unwrap()), format!("{entry:?}"));
    }
    golden::check("wire-append.txt", &[("three entries", append_bytes())]);
    let read = get_append(append_bytes().into()).unwrap();
    assert_eq!(format!("{:?}", read.entries), format!("{:?}", entries()));
}

#[test]
fn messages_of_a_link_are_their_golden_bytes() {
    let kinds = [
        ("answer", MessageKind::Answer),
        ("append", MessageKind::Append),
        ("vote", MessageKind::Vote),
        ("pre-vote", MessageKind::PreVote),
        ("transfer", MessageKind::Transfer),
        ("lost", MessageKind::Lost),
        ("snapshot", MessageKind::Snapshot),
        ("shard call", MessageKind::ShardCall),
        ("shard reply", MessageKind::ShardReply),
        ("pushes", MessageKind::Pushes),
        ("meta call", MessageKind::MetaCall),
        ("leads", MessageKind::Leads),
        ("cut", MessageKind::Cut),
        ("node call", MessageKind::NodeCall),
    ];
    let message = |kind| {
        let mut out = Vec::new();
        put_message(&mut out, kind, 6, 70_000, |out| out.extend_from_slice(b"body"));
        out
    };
    let samples: Vec<_> = kinds.into_iter().map(|(name, kind)| (name, message(kind))).collect();
    golden::check("wire-message.txt", &samples);
    for ((_, bytes), (_, kind)) in samples.into_iter().zip(kinds) {
        assert_eq!(messages(bytes.into()).unwrap()[0].kind, kind);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_round_trip(
        (cluster, shards, version, flag) in any::<(u128, u32, u16, bool)>(), admin_token: [u8; 32],
        (next_node, next_replica, next_site, next_agent) in any::<(u32, u32, u32, u64)>(),
        (name, password) in (".{0,40}", ".{0,40}"), peers in vec((any::<u32>(), ".{0,9}"), 0..5), cut: usize,
    ) {
        let node = NodeId(next_node);
        let address = |peer: String| NodeAddress { peer, client: name.clone(), admin: password.clone() };
        let admin_password = password.clone();
        round_trips(&ClusterRow {
            cluster, shards, admin_token, admin_password, next_node, next_replica, next_site, next_agent,
            next_webhook: next_agent, version,
        }, cut);
        round_trips(&NodeRowV1 { address: address(name.clone()) }, cut);
        let row = NodeRow::new(address(name.clone()));
        round_trips(&NodeRow { state: NodeState::Draining, dead: flag, zone: name.clone(), ..row }, cut);
        let row = ReplicaRowV1 { shard: ShardId(shards), node, founder: flag, retired: !flag };
        round_trips(&row, cut);
        round_trips(&ReplicaRow { leaving: flag, ..row.into() }, cut);
        round_trips(&TokenRow { expires_ms: next_agent, spent: flag.then_some((cluster, node)) }, cut);
        round_trips(&SiteRow { name: name.clone() }, cut);
        let before = vec![cluster; usize::from(flag)];
        round_trips(&LineageRow { name: cluster, before, at_ms: next_agent, restored: flag }, cut);
        let role = if flag { AgentRole::Viewer } else { AgentRole::Owner };
        round_trips(&AgentRow { site: SiteId(next_site), name: name.clone(), password: password.clone(), role }, cut);
        let peers = peers.into_iter().map(|(id, peer)| (NodeId(id), address(peer))).collect();
        let meta_replica = flag.then_some(ReplicaId(next_replica));
        round_trips(&Identity { cluster, node, shards, meta_replica, founder: flag, incarnation: next_agent, peers }, cut);
    }

    #[test]
    fn an_append_that_is_cut_or_changed_does_not_panic(cut: usize, bit: usize, garbage in vec(any::<u8>(), 0..200)) {
        let whole = append_bytes();
        prop_assert!(get_append(Bytes::copy_from_slice(&whole[..cut % whole.len()])).is_err());
        let mut flipped = whole.clone();
        flipped[bit % whole.len()] ^= 1 << (bit % 8);
        let _ = get_append(flipped.into());
        let _ = get_append(garbage.clone().into());
        let _ = messages(garbage.into());
    }

    #[test]
    fn garbage_is_no_log_entry(term: u64, index: u64, body in vec(any::<u8>(), 0..60)) {
        // A batch is opened when it is applied: every body with its tag is an entry.
        let _ = from_log(storage::LogEntry { index, term, body: body.into() });
    }
}
