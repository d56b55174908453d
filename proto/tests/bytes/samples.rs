//! One value per variant of every frozen type of this crate. New variants are added at the end of their list.

pub use super::visitors::refusals;
use super::{attachments, audit, cuts, emails, report, search, shelf, visitors, webhooks};
use proto::act::{Act, Whose};
use proto::codec::{CodecError, Frozen, decode, encode};
use proto::command::*;
use proto::desk::*;
use proto::feed::*;
use proto::ids::*;
use proto::peer::*;
use proto::version::Versions;
use std::fmt::Debug;

pub const SESSION: SessionId = SessionId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
pub const AGENT: AgentId = AgentId(300);
pub const SITE: SiteId = SiteId(7);
pub const NODE: NodeId = NodeId(3);
pub const NOW_MS: u64 = 1_763_700_000_000;
pub const HASH: TokenHash = [0xab; 32];
const POINT: LogPoint = LogPoint { term: 4, index: 70_000 };
const VOTE: VoteRow = VoteRow { term: 5, replica: 9, committed: true };

/// A frozen type with its samples.
pub struct Kind {
    /// Of the golden file, after the tag.
    pub name: &'static str,
    pub tag: u8,
    pub samples: Vec<(&'static str, Vec<u8>)>,
    pub decode: fn(&[u8]) -> Result<(), CodecError>,
}

fn kind<T: Frozen + PartialEq + Debug>(name: &'static str, values: Vec<(&'static str, T)>) -> Kind {
    let sample = |(name, value): (&'static str, T)| {
        let bytes = encode(&value);
        assert_eq!(decode::<T>(&bytes).as_ref(), Ok(&value), "{name}");
        (name, bytes)
    };
    let samples = values.into_iter().map(sample).collect();
    Kind { name, tag: T::TAG, samples, decode: |bytes| decode::<T>(bytes).map(drop) }
}

/// Every frozen type of this crate.
pub fn kinds() -> Vec<Kind> {
    let batch = |command| Batch { now_ms: NOW_MS, commands: vec![command] };
    let meta_batch = |command| MetaBatch { now_ms: NOW_MS, commands: vec![command] };
    let event = |body| Event { seq: 70_000, ts_ms: NOW_MS, body };
    let mut batches = each(commands(), batch);
    // It stood at the end when there were eight commands; what was added since stands after it.
    batches.insert(8, ("none", Batch { now_ms: 0, commands: Vec::new() }));
    let mut kinds = vec![
        kind("batch", batches),
        kind("event", each(bodies(), event)),
        kind("meta-batch", each(meta_commands(), meta_batch)),
        kind("mail", mails()),
        kind("archived-events", crate::archive::events()),
    ];
    kinds.extend(handshake_kinds());
    kinds.extend(raft_kinds());
    kinds.extend(call_kinds());
    kinds
}

fn each<A, B>(values: Vec<(&'static str, A)>, make: impl Fn(A) -> B) -> Vec<(&'static str, B)> {
    values.into_iter().map(|(name, value)| (name, make(value))).collect()
}

fn address() -> NodeAddress {
    NodeAddress { peer: "n3:7001".into(), client: "n3:7000".into(), admin: "n3:7002".into() }
}

pub fn parties() -> Vec<(&'static str, Party)> {
    vec![("visitor", Party::Visitor), ("agent", Party::Agent(AGENT)), ("system", Party::System)]
}

pub fn commands() -> Vec<(&'static str, Command)> {
    let mut commands = chat_commands();
    commands.extend(webhooks::commands());
    commands.push(shelf::command_sample());
    commands.extend(visitors::commands());
    commands.extend(audit::command_samples());
    commands.extend(attachments::command_samples());
    commands.extend(crate::archive::commands());
    commands.extend(emails::command_samples());
    commands
}

fn chat_commands() -> Vec<(&'static str, Command)> {
    let (session, token) = (SESSION, HASH);
    let visitor = VisitorId(u128::MAX - 1);
    let message = mails().remove(0).1;
    vec![
        ("open session", Command::OpenSession { session, site: SITE, visitor, token }),
        attachments::send(),
        ("cursor", Command::Cursor { session, party: Party::Visitor, received: 65_536, read: 250 }),
        ("close", Command::Close { session, by: Party::System }),
        ("agent login", Command::AgentLogin { agent: AGENT, site: SITE, name: "Ada".into(), token }),
        ("agent presence", Command::AgentPresence { agent: AGENT, online: true }),
        ("inbox", Command::Inbox { from: ShardId(2), seq: 1, message }),
        ("outbox acked", Command::OutboxAcked { to: ShardId(6), upto: u64::MAX }),
        ("set shard version", Command::SetShardVersion { version: 300 }),
        ("reassign", Command::Reassign { session, agent: AGENT }),
        ("close seen", Command::CloseSeen { session, by: Party::Agent(AGENT), seen: 65_536, reason: "sold".into() }),
        ("reassign seen", Command::ReassignSeen { session, agent: AGENT, seen: 250 }),
        ("put team", Command::PutTeam { site: SITE, team: TeamId(2), rules: Some(team_rules()) }),
        ("put seat", Command::PutSeat { site: SITE, agent: AGENT, rules: seat_rules() }),
        ("put site", Command::PutSite { site: SITE, rules: site_rules() }),
        ("accept", Command::Accept { site: SITE, agent: AGENT, session, offer: 41 }),
        ("decline", Command::Decline { site: SITE, agent: AGENT, session, offer: 41 }),
        ("take", Command::Take { site: SITE, agent: AGENT, session, conversation: 3 }),
        ("agent state", Command::AgentState { agent: AGENT, state: SeatState::Away }),
        ("tick", Command::Tick),
        ("about", Command::About { session: SESSION, about: about() }),
        ("release", Command::Release { session: SESSION, by: Party::Agent(AGENT), seen: 250, team: Some(TeamId(2)) }),
        ("hand", Command::Hand { site: SITE, agent: AGENT, session: SESSION, conversation: 3, part: 1, to: AGENT }),
        ("act", act_command()),
        ("dismiss", Command::Dismiss { agent: AGENT, session: SESSION, seq: 251 }),
        ("hours", Command::Hours { site: SITE, closed: Some(NOW_MS) }),
    ]
}

fn about() -> About {
    About { team: Some(TeamId(2)), facts: vec![("page".into(), "/shop".into())], channel: Channel(1) }
}

fn team_rules() -> TeamRules {
    TeamRules { name: "sales".into(), accept_ms: 30_000, helps: true, hashed: false }
}

fn seat_rules() -> SeatRules {
    let skills = vec!["en".into(), "zh".into()];
    SeatRules { capacity: 300, channels: vec![(Channel(3), 2)], teams: vec![TeamId(2)], skills }
}

fn site_rules() -> SiteRules {
    let tests = [Test::Is(vec!["de".into()]), Test::StartsWith("/shop".into()), Test::Contains("x".into())];
    let when = tests.map(|test| Condition { fact: "page".into(), test }).to_vec();
    let route = Route { when, team: Some(TeamId(2)), skills: vec!["zh".into()], priority: 1 };
    SiteRules { routes: vec![route], sticky_ms: 86_400_000, requeue_ms: 180_000, hours: Some(hours()) }
}

fn hours() -> Hours {
    let stretch = Stretch { from: 540, to: 1_080 };
    let days = vec![Day { date: 20_261_225, open: vec![stretch] }];
    Hours { zone: "Asia/Shanghai".into(), week: vec![(Weekday(6), stretch)], days }
}

fn act_command() -> Command {
    let (device, cid) = ("d1".into(), "c-1".into());
    Command::Act {
        session: SESSION,
        site: Some(SITE),
        from: Party::Agent(AGENT),
        device,
        n: 9,
        cid,
        act: acts().remove(0).1,
    }
}

pub fn acts() -> Vec<(&'static str, Act)> {
    vec![
        ("note", Act::Note { text: "grüß dich".into(), mentions: vec![AGENT] }),
        ("edit", Act::Edit { seq: 251, text: "grüß dich".into() }),
        ("recall", Act::Recall { seq: 251 }),
        ("react", Act::React { seq: 251, emoji: "👍".into(), on: true }),
        ("label", Act::Label { label: "refund".into(), on: true }),
        ("snooze", Act::Snooze { conversation: 3, until_ms: NOW_MS }),
        ("reopen", Act::Reopen { conversation: 3 }),
        ("rate", Act::Rate { conversation: 3, score: 4, comment: "quick".into() }),
        ("attribute", Act::Attribute { whose: Whose::Visitor, name: "plan".into(), value: Some("pro".into()) }),
        ("merge", Act::Merge { session: SESSION, upto: 251 }),
        ("prompt", Act::Prompt { trigger: "hello".into(), name: Some("Ada".into()), text: "grüß dich".into() }),
        ("invite", Act::Invite { text: "grüß dich".into(), until_ms: NOW_MS }),
        ("decline", Act::Decline { seq: 251 }),
    ]
}

fn ask() -> Box<Ask> {
    Box::new(Ask {
        team: Some(TeamId(2)),
        facts: vec![("page".into(), "/shop".into())],
        skills: vec!["zh".into()],
        channel: Channel(3),
        priority: 1,
        last: Some((AGENT, NOW_MS)),
        but: Some(AGENT),
        back: Some(AGENT),
    })
}

pub fn mails() -> Vec<(&'static str, Mail)> {
    let (site, session, agent, conversation) = (SITE, SESSION, AGENT, 3);
    vec![
        ("want", Mail::Want { site, session, conversation, ask: ask() }),
        ("done", Mail::Done { site, session, conversation, agent: Some(agent) }),
        ("agent state", Mail::AgentState { site, agent, state: SeatState::Busy }),
        ("assign", Mail::Assign { session, conversation, part: 1, agent, turn: 41, team: proto::ids::TeamId(2) }),
        ("assigned", Mail::Assigned { agent, session, conversation }),
        ("unassigned", Mail::Unassigned { agent, session, conversation }),
        ("reassigned", Mail::Reassigned { site, session, conversation, part: 1, agent }),
        ("offered", Mail::Offered { agent, session, offer: 41, until_ms: NOW_MS }),
        ("withdrawn", Mail::Withdrawn { agent, session, offer: 41, missed: true }),
        ("onward", Mail::Onward { site, urgency: 1, lane: 300 }),
        ("returned", Mail::Returned { site, session, turn: 41 }),
        ("requeued", Mail::Requeued { site, session, conversation, part: 1, ask: ask() }),
        ("handed", Mail::Handed { session, conversation, part: 1, from: agent, agent, turn: 41 }),
        ("absent", Mail::Absent { agent }),
        ("release", Mail::Release { session, conversation, agent }),
        ("mentioned", Mail::Mentioned { agent, site, session, seq: 251 }),
        ("merged", visitors::merged()),
        ("prompted", Mail::Prompted { site, trigger: "hello".into(), answered: true }),
    ]
}

pub fn bodies() -> Vec<(&'static str, EventBody)> {
    let (device, cid, text) = ("d1".into(), "c-1".into(), "grüß dich".into());
    let attachments = vec![attachments::sample()];
    let message = EventBody::Message { from: Party::Visitor, device, n: 9, cid, text, reply_to: None, attachments };
    let act = |(name, act)| {
        (name, EventBody::Act { from: Party::Agent(AGENT), device: "d1".into(), n: 9, cid: "c-1".into(), act })
    };
    let mut bodies = vec![
        ("message", message),
        ("assigned", EventBody::Assigned { agent: AGENT, conversation: 2 }),
        ("closed", EventBody::Closed { by: Party::Agent(AGENT), conversation: 2, reason: "sold".into() }),
        ("queued", EventBody::Queued { by: Party::System, conversation: 2 }),
        ("gone", EventBody::Gone),
        ("erased", EventBody::Erased { upto: 7 }),
    ];
    bodies.extend(acts().into_iter().map(act));
    bodies
}

pub fn meta_commands() -> Vec<(&'static str, MetaCommand)> {
    let mut commands = cluster_commands();
    commands.extend(webhooks::meta_commands());
    commands
}

fn cluster_commands() -> Vec<(&'static str, MetaCommand)> {
    let (token, password, replica) = (HASH, String::from("$argon2id$"), ReplicaId(12));
    let (cluster, admin_password) = (u128::MAX, password.clone());
    let (site, name) = (String::from("demo"), String::from("ada"));
    vec![
        (
            "bootstrap",
            MetaCommand::Bootstrap { cluster, shards: 6, address: address(), admin_token: token, admin_password },
        ),
        ("create join token", MetaCommand::CreateJoinToken { token, expires_ms: NOW_MS }),
        ("join", MetaCommand::Join { token, request: 1 << 100, address: address() }),
        ("move node", MetaCommand::MoveNode { node: NODE, address: address() }),
        ("add replica", MetaCommand::AddReplica { shard: ShardId(6), node: NODE }),
        ("set voter", MetaCommand::SetVoter { replica }),
        ("retire replica", MetaCommand::RetireReplica { replica }),
        ("add site", MetaCommand::AddSite { name: "demo".into() }),
        ("add agent", MetaCommand::AddAgent { site, name, password }),
        ("set node state", MetaCommand::SetNodeState { node: NODE, state: NodeState::Leaving }),
        ("set node dead", MetaCommand::SetNodeDead { node: NODE, dead: true }),
        ("set node zone", MetaCommand::SetNodeZone { node: NODE, zone: "rack 2".into() }),
        ("retire excess", MetaCommand::RetireExcess { replica }),
        ("move replica", MetaCommand::MoveReplica { replica, to: NODE }),
        ("add authority", MetaCommand::AddAuthority { certificate: vec![0x30, 1], key: SecretBytes(vec![0x30, 2]) }),
        ("drop authorities", MetaCommand::DropAuthorities),
        ("set node trust", MetaCommand::SetNodeTrust { node: NODE, trusts: 2, certified: 300 }),
        ("set node versions", MetaCommand::SetNodeVersions { node: NODE, versions: Versions { min: 1, max: 300 } }),
        ("finalize", MetaCommand::Finalize { version: 300 }),
        ("create api token", create_api_token()),
        ("revoke api token", MetaCommand::RevokeApiToken { name: "ci".into() }),
        ("set setting", MetaCommand::SetSetting { name: "drain_over_s".into(), value: Some("9".into()) }),
        ("begin once", MetaCommand::BeginOnce { key: HASH, request: [0xcd; 32], holder: 1 << 100 }),
        ("end once", MetaCommand::EndOnce { key: HASH, holder: 1 << 100, answer: Some(once_answer()) }),
        ("set agent role", MetaCommand::SetAgentRole { agent: AGENT, role: AgentRole::Supervisor }),
    ]
}

fn create_api_token() -> MetaCommand {
    MetaCommand::CreateApiToken { token: HASH, name: "ci".into(), role: Role::Operator, expires_ms: Some(NOW_MS) }
}

fn once_answer() -> OnceAnswer {
    OnceAnswer { status: 200, body: Some("{}".into()) }
}

fn handshake_kinds() -> Vec<Kind> {
    let (protocol_min, protocol_max, cluster, incarnation) = (1, 300, u128::MAX, 77);
    let link = Hello::Link { cluster, node: NODE, to: NodeId(1), incarnation, protocol_min, protocol_max };
    let join = Hello::Join { token: "t".into(), request: 1 << 100, address: address(), protocol_min, protocol_max };
    let enroll = Hello::Enroll {
        token: "t".into(),
        request: 1 << 100,
        address: address(),
        certificate_request: vec![0x30, 3],
        protocol_min,
        protocol_max,
    };
    let (nodes, meta) = (vec![(NODE, address())], vec![(ReplicaId(1), NODE)]);
    let (certificate, issuer, trusted) = (vec![0x30, 1], vec![0x30, 2], vec![vec![0x30, 2], vec![0x30, 4]]);
    let enrolled = HelloReply::Enrolled {
        cluster,
        node: NODE,
        shards: 6,
        nodes: nodes.clone(),
        certificate,
        issuer,
        trusted,
        version: 300,
    };
    let replies = vec![
        ("linked", HelloReply::Linked { incarnation, protocol: 1 }),
        ("joined", HelloReply::Joined { cluster, node: NODE, shards: 6, nodes, meta }),
        ("elsewhere", HelloReply::Elsewhere { peer: "n1:7001".into() }),
        ("refused", HelloReply::Refused { reason: "unknown join token".into() }),
        ("enrolled", enrolled),
        ("wrong version", HelloReply::WrongVersion { version: 300 }),
    ];
    vec![kind("hello", vec![("link", link), ("join", join), ("enroll", enroll)]), kind("hello-reply", replies)]
}

pub fn applied() -> AppliedRow {
    let membership = MembershipRow { configs: vec![vec![1, 2], vec![2, 300]], members: vec![(1, NODE), (300, NODE)] };
    AppliedRow { applied: Some(POINT), membership_at: Some(LogPoint { term: 1, index: 0 }), membership }
}

fn raft_kinds() -> Vec<Kind> {
    let (vote, last) = (VOTE, Some(POINT));
    let append_replies = vec![
        ("success", AppendReply::Success),
        ("partial success", AppendReply::PartialSuccess(last)),
        ("conflict", AppendReply::Conflict),
        ("higher vote", AppendReply::HigherVote(vote)),
        ("gone", AppendReply::Gone),
    ];
    let snapshot_calls = vec![
        ("begin", SnapshotCall::Begin { vote, applied: applied() }),
        ("chunk", SnapshotCall::Chunk { number: 1, rows: vec![1, 2, 255] }),
        ("end", SnapshotCall::End { vote, chunks: 2 }),
    ];
    let snapshot_replies = vec![
        ("next", SnapshotReply::Next),
        ("installed", SnapshotReply::Installed { vote }),
        ("higher vote", SnapshotReply::HigherVote { vote }),
        ("failed", SnapshotReply::Failed { reason: "disk".into() }),
    ];
    vec![
        kind("vote-row", vec![("vote", vote)]),
        kind("membership-row", vec![("joint", applied().membership), ("empty", MembershipRow::default())]),
        kind("applied-row", vec![("applied", applied()), ("empty", AppliedRow::default())]),
        kind("append-head", vec![("append", AppendHead { vote, prev: last, commit: None, entries: 256 })]),
        kind("append-reply", append_replies),
        kind("vote-call", vec![("vote", VoteCall { vote, last, leadership_transfer: true })]),
        kind("vote-reply", vec![("granted", VoteReply { vote, granted: true, last: None })]),
        kind("transfer-call", vec![("transfer", TransferCall { from: vote, to: 300, last })]),
        kind("lost-call", vec![("lost", LostCall { term: 5 })]),
        kind("lost-reply", vec![("lost", LostReply { lost: true, last })]),
        kind("snapshot-call", snapshot_calls),
        kind("snapshot-reply", snapshot_replies),
        kind("log-point", vec![("point", POINT)]),
    ]
}

pub fn pages() -> Vec<(&'static str, Page)> {
    vec![("after", Page::After(251)), ("before", Page::Before(1)), ("latest", Page::Latest)]
}

pub fn pushes() -> Vec<(&'static str, Push)> {
    let (session, party, agent) = (SESSION, Party::Agent(AGENT), AGENT);
    let event = Event { seq: 1, ts_ms: NOW_MS, body: bodies().remove(0).1 };
    vec![
        ("event", Push::Event { session, event }),
        ("cursor", Push::Cursor { session, party, received: 2, read: 1 }),
        ("typing", Push::Typing { session, party, on: true, draft: String::new() }),
        ("agent", Push::Agent { agent, state: agent_state() }),
        ("presence", Push::Presence { agent, online: true, open: vec![session] }),
        ("logged-out", Push::LoggedOut { session, gone: vec![[7; 32]] }),
    ]
}

fn shard_calls() -> Vec<(&'static str, ShardCall)> {
    let mut calls = session_calls();
    calls.extend(webhooks::calls());
    calls.push(shelf::call());
    calls.push(audit::call());
    calls.extend(attachments::calls());
    calls.push(search::call());
    calls.push(report::call());
    calls.push(emails::call());
    calls
}

fn session_calls() -> Vec<(&'static str, ShardCall)> {
    let (session, agent, token) = (SESSION, AGENT, Some(HASH));
    let history = |page| ShardCall::History { session, page, limit: 200, site: Some(SITE) };
    let [after, before, latest] = pages().try_into().unwrap();
    vec![
        ("propose", ShardCall::Propose(commands().remove(1).1)),
        ("attach", ShardCall::Attach { session, token, after: Some(70_000) }),
        ("detach", ShardCall::Detach { session }),
        ("attach agent", ShardCall::AttachAgent { agent, token: None }),
        ("detach agent", ShardCall::DetachAgent { agent }),
        ("history after", history(after.1)),
        ("history before", history(before.1)),
        ("history latest", history(latest.1)),
        ("typing", ShardCall::Typing { session, party: Party::Visitor, on: false, draft: "grü".into() }),
        ("queue", ShardCall::Queue { site: SITE, limit: 50 }),
        ("places", ShardCall::Places { site: SITE, sessions: vec![session] }),
        ("hours", ShardCall::Hours { site: SITE }),
        ("feed", ShardCall::Feed { site: SITE, after: 251, limit: 100 }),
    ]
}

fn agent_state() -> AgentState {
    let offers = vec![(SESSION, 41, NOW_MS)];
    let (open, mentions, state) = (vec![(SESSION, 3)], vec![(SESSION, 251)], SeatState::Busy);
    AgentState { site: SITE, name: "Ada".into(), version: 8, open, offers, state, mentions }
}

fn shard_replies() -> Vec<(&'static str, ShardReply)> {
    let events: Vec<Event> =
        bodies().into_iter().zip(1..).map(|((_, body), seq)| Event { seq, ts_ms: NOW_MS, body }).collect();
    let state = SessionState {
        is_identified: true,
        site: SITE,
        visitor: VisitorId(1),
        head: 70_000,
        open_from: 69_990,
        agent: Some(AGENT),
        conversation: 3,
        part: 1,
        visitor_cursor: (251, 250),
        agent_cursor: (1, 0),
        tokens: vec![[7; 32]],
        events: events.clone(),
    };
    let mut replies = vec![
        ("sent", ShardReply::Sent { seq: 1, ts_ms: NOW_MS, dup: true }),
        ("done", ShardReply::Done),
        ("attached", ShardReply::Attached(state)),
        ("agent attached", ShardReply::AgentAttached(agent_state())),
        ("history", ShardReply::History { events, head: 3 }),
        ("not leader", ShardReply::NotLeader { hint: Some(NODE) }),
        ("overloaded", ShardReply::Overloaded { retry_after_ms: 200 }),
        ("unknown", ShardReply::Unknown),
    ];
    // Files of golden bytes only grow: what is younger than `cursor` comes after it.
    let mut refused = each(refusals(), ShardReply::Refused);
    let younger = refused.split_off(12);
    replies.extend(refused);
    replies.push(("cursor", ShardReply::Cursor { received: 13, read: 12 }));
    replies.extend(younger);
    let waiting = Waiting { session: SESSION, conversation: 3, team: TeamId(2), priority: 1, since_ms: NOW_MS };
    replies.push(("queue", ShardReply::Queue { waiting: vec![waiting], total: 300 }));
    let place = |wait_ms| PlaceInQueue { session: SESSION, position: 7, wait_ms, opens_ms: wait_ms.map(|_| NOW_MS) };
    replies.push(("places", ShardReply::Places(vec![place(Some(60_000)), place(None)])));
    replies.push(("hours", ShardReply::Hours { closed: Some(NOW_MS) }));
    let event = Event { seq: 251, ts_ms: NOW_MS, body: bodies().remove(1).1 };
    let item = FeedItem { number: 70_000, session: SESSION, visitor: VisitorId(1), event };
    replies.push(("feed", ShardReply::Feed(FeedPage { items: vec![item], next: 70_000, head: 70_001, first: 1 })));
    replies.extend(webhooks::replies());
    replies.push(shelf::reply());
    replies.extend(audit::replies());
    replies.extend(attachments::replies());
    replies.push(search::reply());
    replies.push(report::reply());
    replies.push(emails::reply());
    replies
}

fn call_kinds() -> Vec<Kind> {
    let site = SITE;
    let round = |items| Pushes { shard: ShardId(6), epoch: 300, items };
    let meta_replies = vec![
        ("done", MetaReply::Done),
        ("node", MetaReply::Node { node: NODE, shards: 6 }),
        ("replica", MetaReply::Replica { replica: ReplicaId(12) }),
        ("site", MetaReply::Site { site }),
        ("agent", MetaReply::Agent { agent: AGENT }),
        ("refused", MetaReply::Refused { reason: "no such node".into() }),
        ("not leader", MetaReply::NotLeader { hint: None }),
        ("unknown", MetaReply::Unknown),
        ("at", MetaReply::At { index: 70_000 }),
        ("once go", MetaReply::Once(OnceState::Go)),
        ("once held", MetaReply::Once(OnceState::Held)),
        ("once other", MetaReply::Once(OnceState::Other)),
        ("once answered", MetaReply::Once(OnceState::Answered(once_answer()))),
        ("webhook", MetaReply::Webhook { webhook: WebhookId(300), is_new: true }),
    ];
    let meta_calls = vec![("propose", MetaCall::Propose(meta_commands().remove(7).1)), ("barrier", MetaCall::Barrier)];
    vec![
        kind("shard-call", shard_calls()),
        kind("shard-reply", shard_replies()),
        kind("pushes", each(pushes(), |push| round(vec![push]))),
        kind("meta-call", meta_calls),
        kind("meta-reply", meta_replies),
        kind("cut-call", cuts::cut_calls()),
        kind("cut-reply", cuts::cut_replies()),
    ]
}
