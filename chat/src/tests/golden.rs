//! Owns the proof that stored bytes and the state hash stay as they are. Does not prove that they are good.
//! A changed line here means data of running clusters becomes unreadable: add a form, don't edit one.

use super::golden_side::*;
use super::world::*;
use crate::rows::*;
use crate::{Reply, keys};
use proptest::collection::vec;
use proptest::prelude::*;
use proto::act::{Act, Whose};
use proto::codec::{Frozen, decode, encode};
use proto::command::{Command, Event, EventBody, Party};
use proto::desk::{
    About, Channel, Condition, Hours, Route, SeatRules, SeatState, SiteRules, Stretch, TeamRules, Test, Weekday,
};
use proto::email::Email;
use proto::ids::{AgentId, SessionId, ShardId, SiteId, TeamId, VisitorId, WebhookId};
use proto::shelf::{Item, ItemKind};
use proto::webhook::WebhookState;
use std::fmt::Debug;
use std::fmt::Write;
use std::sync::Arc;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a String takes every text");
        out
    })
}

pub(super) const SESSION: SessionId = SessionId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
pub(super) const AGENT: AgentId = AgentId(300);
pub(super) const AGENT_PARTY: Party = Party::Agent(AGENT);

fn session_row() -> SessionRow {
    SessionRow {
        site: SiteId(7),
        visitor: VisitorId(u128::MAX - 1),
        tokens: vec![[1; 32], [2; 32]],
        head: 70_000,
        block_first: 69_990,
        conversations: 3,
        open: Some(OpenRow {
            number: 3,
            first_seq: 69_000,
            agent: Some(AGENT),
            waits_again: false,
            part: 1,
            snoozed: None,
            team: Some(TeamId(2)),
        }),
        last_agent: Some(AGENT),
        closed_ms: 1_763_700_000_000,
        visitor_cursor: CursorRow { received: 69_999, read: 69_998 },
        agent_cursor: CursorRow { received: 251, read: 250 },
        devices: 2,
        about: About { team: Some(TeamId(2)), facts: vec![("page".into(), "/shop".into())], channel: Channel(1) },
        labels: vec!["refund".into()],
        last_part: 2,
        attributes: vec![AttributeRow { whose: Whose::Visitor, name: "plan".into(), value: "pro".into() }],
        rating: Some(RatingRow { conversation: 2, score: 4 }),
        blocked_ms: Some(1_763_700_000_000),
        erased: 251,
        proofs: vec![ProofRow { proof: [3; 32], used_ms: 1_763_700_000_000, until_ms: 1_763_700_600_000 }],
        merged: vec![SessionId(300)],
        merged_into: Some(SessionId(251)),
    }
}

fn block_row() -> BlockRow {
    let message = EventBody::Message {
        from: AGENT_PARTY,
        device: "d".into(),
        n: 9,
        cid: "c".into(),
        text: "grüß dich".into(),
        reply_to: None,
        attachments: vec![attachment()],
    };
    let bodies = [
        message,
        EventBody::Assigned { agent: AGENT, conversation: 2 },
        EventBody::Closed { by: Party::Visitor, conversation: 2, reason: "sold".into() },
        EventBody::Act { from: AGENT_PARTY, device: "d".into(), n: 0, cid: "c".into(), act: Act::Recall { seq: 9 } },
    ];
    let event = |(body, seq)| Arc::new(Event { seq, ts_ms: 1_763_700_000_000 + seq, body });
    BlockRow { events: bodies.into_iter().zip(9..).map(event).collect() }
}

fn seat_row() -> SeatRow {
    let rules = SeatRules {
        capacity: 5,
        channels: vec![(Channel(3), 2)],
        teams: vec![TeamId(2)],
        skills: vec!["en".into(), "zh".into()],
    };
    let (channels, offers) = (vec![(Channel(3), 1)], vec![SESSION]);
    SeatRow { state: SeatState::Online, open: 1, channels, last_turn: 40, rules, offers, gone_ms: 9 }
}

fn team_row() -> TeamRow {
    TeamRow { rules: TeamRules { name: "sales".into(), accept_ms: 30_000, helps: true, hashed: false } }
}

fn desk_row() -> DeskRow {
    let tests =
        [Test::Is(vec!["de".into(), "fr".into()]), Test::StartsWith("/shop".into()), Test::Contains("x".into())];
    let when = tests.map(|test| Condition { fact: "page".into(), test }).to_vec();
    let hours = Hours { zone: "UTC".into(), week: vec![(Weekday(0), Stretch { from: 1, to: 2 })], days: Vec::new() };
    let route = Route { when, team: Some(TeamId(2)), skills: vec!["zh".into()], priority: 1 };
    let rules = SiteRules { routes: vec![route], sticky_ms: 86_400_000, requeue_ms: 180_000, hours: Some(hours) };
    let paces = vec![PaceRow { team: TeamId(2), last_ms: 1_763_700_000_000, every_ms: 9_000 }];
    DeskRow { rules, aside: 2, turn: 41, next_ticket: 1_000, nudged: true, again: false, paces, closed: Some(9) }
}

fn golden_text() -> String {
    let sent = SentRow { seq: 300, ts_ms: 1_763_700_000_001 };
    let lane = MailsRow { to: ShardId(2), acked: 5, head: 900 };
    let header =
        HeaderRow { clock_ms: 1, state_hash: u64::MAX, outbox: vec![lane], inbox: vec![(ShardId(3), 4)], feed: 300 };
    let agent = AgentRow {
        site: SiteId(7),
        name: "Ada".into(),
        tokens: vec![[3; 32]],
        online: true,
        state: SeatState::Busy,
        version: 8,
        open: vec![(SESSION, 3)],
        offers: vec![(SESSION, 4, 1_763_700_000_000)],
        mentions: vec![(SESSION, 251)],
    };
    let need = NeedRow { team: TeamId(2), priority: 1, channel: Channel(3), skills: vec!["zh".into()] };
    let want =
        |place| encode(&WantRow { conversation: 3, need: need.clone(), ticket: 990, since_ms: 9, part: 1, place });
    let lines = [
        ("header key", keys::HEADER.to_vec()),
        ("header", encode(&header)),
        ("feed key", keys::feed(258)),
        ("feed", encode(&FeedBlockRow { entries: vec![FeedEntryRow { site: SiteId(7), session: SESSION, seq: 300 }] })),
        ("session key", keys::session(SESSION)),
        ("session", encode(&session_row())),
        ("block key", keys::block(SESSION, 9)),
        ("block", encode(&block_row())),
        ("device key", keys::device(SESSION, AGENT_PARTY, "d")),
        ("device", encode(&DeviceRow { last_n: 33, cids: 1, page: vec![sent] })),
        ("page key", keys::page(SESSION, Party::System, "d", 258)),
        ("page", encode(&PageRow { sent: vec![sent; 2] })),
        ("cid key", keys::cid(SESSION, Party::Visitor, "d", "c")),
        ("cid", encode(&sent)),
        ("agent key", keys::agent(AGENT)),
        ("agent", encode(&agent)),
        ("desk key", keys::desk(SiteId(7))),
        ("desk", encode(&desk_row())),
        ("seat key", keys::seat(SiteId(7), AGENT)),
        ("seat", encode(&seat_row())),
        ("team key", keys::team(SiteId(7), TeamId(2))),
        ("team", encode(&team_row())),
        ("lane key", keys::lane_facts(SiteId(7), 5)),
        ("lane", encode(&LaneRow { need: need.clone(), front: 990, queued: 6, spread: vec![(3, 6)] })),
        ("queued key", keys::queued(SiteId(7), 5, 990)),
        ("queued", encode(&QueuedRow { session: SESSION, conversation: 3, since_ms: 9, part: 1 })),
        ("want key", keys::want(SiteId(7), SESSION)),
        ("want queued", want(PlaceRow::Queued { lane: 5 })),
        ("want aside", want(PlaceRow::Aside { until_ms: 1_763_700_000_000 })),
        ("want offered", want(PlaceRow::Offered { agent: AGENT, offer: 41, until_ms: 1_763_700_000_000 })),
        ("want assigned", want(PlaceRow::Assigned { agent: AGENT, offer: 41, turn: 42 })),
        ("due key", keys::due(1_763_700_000_000, SiteId(7), SESSION)),
        ("due missed", encode(&DueRow::Missed { offer: 41 })),
        ("due again", encode(&DueRow::Again)),
        ("due absent", encode(&DueRow::Absent { since_ms: 9 })),
        ("due wake", encode(&DueRow::Wake { conversation: 3, part: 2 })),
        ("mail key", keys::mail(ShardId(2), 6)),
        ("item key", keys::item((SiteId(7), ItemKind::Macro, 300))),
        ("item", encode(&ItemRow { item: Item { name: "hello".into(), text: "{}".into() } })),
        ("shelf key", keys::shelf(SiteId(7), ItemKind::Macro)),
        ("shelf", encode(&ShelfRow { items: 9, bytes: 300 })),
        ("chain key", keys::chain(SiteId(7))),
        ("chain", encode(&chain_row())),
        ("audit key", keys::audit(SiteId(7), 300)),
        ("audit", encode(&audit_row())),
        ("webhook key", keys::webhook(WebhookId(300))),
        ("webhook", encode(&WebhookRow { state: webhook_state() })),
        ("version key", keys::VERSION.to_vec()),
        ("version", encode(&VersionRow { version: 300 })),
    ];
    let lines = lines.into_iter().chain(attachment_lines()).chain(report_lines()).chain(archive_lines());
    let lines = lines.chain(email_lines()).chain(reach_lines());
    lines.map(|(name, bytes)| format!("{name}: {}\n", hex(&bytes))).collect()
}

#[test]
fn rows_are_stored_as_the_golden_bytes() {
    let found = golden_text();
    assert!(found == include_str!("../../golden/rows.txt"), "the rows of this build:\n{found}");
}

#[test]
fn the_state_hash_of_a_known_history_stays_the_same() {
    let mut world = World::alone();
    let agent = Party::Agent(AgentId(4));
    for command in [open(1), open(2), login(4), presence(4, true), say(1, Party::Visitor, 1, "hello")] {
        world.apply(command);
    }
    world.settle();
    let cursor = Command::Cursor { session: session(1), party: Party::Visitor, received: 2, read: 1 };
    let unassigned = say_cid(2, Party::Visitor, "c", "wait for me");
    for command in
        [say(1, agent, 1, "good day"), cursor, say(1, agent, 1, "again"), say(1, agent, 3, "gap"), unassigned]
    {
        world.apply(command);
    }
    let act = Act::Note { text: "calls back".into(), mentions: vec![AgentId(4)] };
    let (device, cid) = ("d".to_owned(), "note".to_owned());
    let site = Some(SITE);
    world.apply(Command::Act { session: session(1), site, from: agent, device, n: 0, cid, act });
    world.apply(presence(4, false));
    world.settle();
    world.apply(say(2, Party::System, 1, "bot"));
    assert!(matches!(world.reply(close(1, Party::Visitor)), Reply::Closed { seq: Some(5) }));
    world.settle();
    assert_eq!(world.shard.state_hash(), 0x4f0d_d607_aa57_d016, "{:#x}", world.shard.state_hash());
}

fn round_trips<T: Frozen + PartialEq + Debug>(row: &T) {
    let bytes = encode(row);
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(row));
    // What is cut short or too long is an error and never another value.
    assert!(decode::<T>(&bytes[..bytes.len() - 1]).is_err());
    assert!(decode::<T>(&[bytes, vec![0]].concat()).is_err());
}

fn cursors() -> impl Strategy<Value = CursorRow> {
    any::<(u64, u64)>().prop_map(|(received, read)| CursorRow { received, read })
}

fn sents() -> impl Strategy<Value = Vec<SentRow>> {
    vec(any::<(u64, u64)>().prop_map(|(seq, ts_ms)| SentRow { seq, ts_ms }), 0..33)
}

fn agents() -> impl Strategy<Value = Option<AgentId>> {
    prop::option::of(any::<u64>().prop_map(AgentId))
}

fn parties() -> impl Strategy<Value = Party> {
    prop_oneof![Just(Party::Visitor), any::<u64>().prop_map(|id| Party::Agent(AgentId(id))), Just(Party::System)]
}

fn bodies() -> impl Strategy<Value = EventBody> {
    let message = (parties(), ".{0,9}", any::<u64>(), ".{0,9}", ".{0,99}");
    prop_oneof![
        message.prop_map(|(from, device, n, cid, text)| EventBody::Message {
            from,
            device,
            n,
            cid,
            text,
            reply_to: n.checked_sub(9),
            attachments: vec![attachment(); n as usize % 3]
        }),
        any::<(u64, u64)>()
            .prop_map(|(agent, conversation)| EventBody::Assigned { agent: AgentId(agent), conversation }),
        (parties(), any::<u64>(), ".{0,9}").prop_map(|(by, conversation, reason)| EventBody::Closed {
            by,
            conversation,
            reason
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn session_rows_round_trip(
        (site, visitor, head, conversations, devices) in any::<(u32, u128, u64, u64, u32)>(),
        tokens in vec(any::<[u8; 32]>(), 0..17),
        open in prop::option::of((any::<(u64, u64)>(), agents())),
        (last_agent, visitor_cursor, agent_cursor) in (agents(), cursors(), cursors()),
    ) {
        let open = open.map(|((number, first_seq), agent)| OpenRow { number, first_seq, agent, waits_again: number % 2 == 0, part: number,
            snoozed: (number % 3 == 0).then_some(SnoozeRow { agent: AgentId(number), until_ms: first_seq }), team: (number % 2 == 0).then_some(TeamId(3)) });
        round_trips(&SessionRow {
            site: SiteId(site), visitor: VisitorId(visitor), tokens, head, block_first: head / 2, conversations, open,
            last_agent, closed_ms: head / 3, visitor_cursor, agent_cursor, devices, about: About::default(), labels: vec!["l".into(); devices as usize % 3], last_part: head,
            attributes: vec![AttributeRow { whose: Whose::Conversation, name: "n".into(), value: "v".into() }; devices as usize % 2],
            rating: (head % 2 == 0).then_some(RatingRow { conversation: head, score: 5 }), blocked_ms: Some(head), erased: head, proofs: Vec::new(),
            merged: vec![SessionId(visitor); devices as usize % 3], merged_into: (head % 2 == 0).then_some(SessionId(visitor)),
        });
    }

    #[test]
    fn block_rows_round_trip(events in vec((any::<(u64, u64)>(), bodies()), 0..65)) {
        let event = |((seq, ts_ms), body)| Arc::new(Event { seq, ts_ms, body });
        round_trips(&BlockRow { events: events.into_iter().map(event).collect() });
    }

    #[test]
    fn device_rows_round_trip(last_n: u64, cids: u64, page in sents()) {
        page.iter().for_each(round_trips);
        round_trips(&PageRow { sent: page.clone() });
        round_trips(&DeviceRow { last_n, cids, page });
    }

    #[test]
    fn agent_rows_round_trip(
        (site, online, version) in any::<(u32, bool, u64)>(), name in ".{0,40}",
        tokens in vec(any::<[u8; 32]>(), 0..17), open in vec(any::<(u128, u64)>(), 0..40),
    ) {
        let offers = open.iter().map(|(session, number)| (SessionId(*session), *number, version)).collect();
        let open = open.into_iter().map(|(session, conversation)| (SessionId(session), conversation)).collect();
        let state = if online { SeatState::Away } else { SeatState::Online };
        round_trips(&AgentRow { site: SiteId(site), name, tokens, online, state, version, mentions: Vec::new(), open, offers });
    }

    #[test]
    fn desk_rows_round_trip(
        seats in vec(any::<(u64, bool, u32, u64)>(), 0..40),
        (turn, next_ticket, front, queued, nudged) in any::<(u64, u64, u64, u64, bool)>(),
        (session, conversation, place, assigned) in any::<(u128, u64, u32, bool)>(),
        skills in vec(".{0,9}", 0..4),
    ) {
        let need = NeedRow { team: TeamId(place), priority: 3, channel: Channel(1), skills };
        let seat = |(agent, busy, open, last_turn)| {
            let state = if busy { SeatState::Busy } else { SeatState::Online };
            SeatRow { state, open, last_turn, offers: vec![SessionId(agent)], ..seat_row() }
        };
        seats.into_iter().map(|(agent, busy, open, turn): (u64, bool, u32, u64)| seat((agent.into(), busy, open, turn)))
            .for_each(|row| round_trips(&row));
        round_trips(&LaneRow { need: need.clone(), front, queued, spread: vec![(front, 7), (queued, 1)] });
        round_trips(&team_row());
        round_trips(&DeskRow { turn, next_ticket, nudged, ..desk_row() });
        round_trips(&QueuedRow { session: SessionId(session), conversation, since_ms: queued, part: turn });
        let agent = AgentId(u64::from(place));
        let place = if assigned { PlaceRow::Assigned { agent, offer: turn, turn: front } } else { PlaceRow::Queued { lane: place } };
        round_trips(&WantRow { conversation, need, ticket: front, since_ms: queued, part: turn, place });
        round_trips(&DueRow::Missed { offer: turn });
        round_trips(&ItemRow { item: Item { name: "n".repeat(turn as usize % 9), text: "t".into() } });
        round_trips(&ShelfRow { items: turn, bytes: front });
        round_trips(&ChainRow { ts_ms: turn, seen: vec![SeenRow { act: front.into(), is_end: nudged, seq: turn }; queued as usize % 9], ..chain_row() });
        round_trips(&audit_row());
        round_trips(&archived_row());
        round_trips(&ObjectRow { name: "n".repeat(turn as usize % 9), since_ms: front, is_dropped: nudged });
        round_trips(&AttachmentRow { made_ms: turn, seq: None, sent_ms: front, ..attachment_row() });
        round_trips(&HereRow { bytes: front });
        round_trips(&ChunkRow { bytes: vec![7; turn as usize % 300] });
        round_trips(&DayRow { day: turn, files: front, bytes: queued });
        round_trips(&UsageRow { files: front, bytes: queued, moved: turn });
        round_trips(&RollupRow { labels: turn, ..rollup_row() });
        round_trips(&StintRow { since_ms: turn, held: front, ..stint_row() });
        round_trips(&TalkRow { asked_ms: turn, waits_ms: front, team: None, ..talk_row() });
        round_trips(&EmailRow { email: Email { number: turn, due_ms: front, ..email() } });
        round_trips(&EmailStandRow { asked: vec![(turn, front.into()); queued as usize % 9], ..email_stand() });
        round_trips(&EmailCourseRow { version: turn, after: front, numbers: queued, missed: turn });
        round_trips(&WebhookRow { state: WebhookState { version: turn, after: front, ..webhook_state() } });
    }

    #[test]
    fn header_rows_round_trip(
        (clock_ms, state_hash) in any::<(u64, u64)>(), lanes in vec(any::<(u32, u64, u64)>(), 0..9),
        inbox in vec(any::<(u32, u64)>(), 0..9),
    ) {
        let outbox = lanes.into_iter().map(|(to, acked, head)| MailsRow { to: ShardId(to), acked, head }).collect();
        let inbox = inbox.into_iter().map(|(from, seen)| (ShardId(from), seen)).collect();
        round_trips(&HeaderRow { clock_ms, state_hash, outbox, inbox, feed: clock_ms / 2 });
        let entry = |session: u128| FeedEntryRow { site: SiteId(7), session: SessionId(session), seq: clock_ms };
        round_trips(&FeedBlockRow { entries: (0..clock_ms % 300).map(|session| entry(session.into())).collect() });
    }
}
