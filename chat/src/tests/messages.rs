//! Owns the tests of sending: places, repetitions, refusals, history. Does not test assignment.

use super::world::*;
use crate::limits::{BLOCK_SEAL_EVENTS, CID_BYTES_MAX, DEVICE_BYTES_MAX, PAGE_SENDS, TEXT_BYTES_MAX};
use crate::{HistoryRange, Refusal, Reply};
use proto::command::{Command, EventBody, Mail, Party};
use proto::ids::AgentId;

const VISITOR: Party = Party::Visitor;

fn with_session() -> World {
    let mut world = World::alone();
    world.apply(open(1));
    world
}

#[test]
fn a_first_message_opens_a_conversation_and_asks_for_an_agent() {
    let mut world = with_session();
    let outcome = world.apply(say(1, VISITOR, 1, "hello"));
    assert_eq!(outcome.reply, sent(1, 1_002, false));
    assert_eq!(event_count(&outcome.effects), 1);
    let want = Mail::Want { site: SITE, session: session(1), conversation: 1, ask: Box::default() };
    assert_eq!(waiting_mails(&world, ONE), [want]);
    world.apply(say(1, VISITOR, 2, "anyone?"));
    assert_eq!(waiting_mails(&world, ONE).len(), 1);
    let open = world.shard.session(&world.rows, session(1)).unwrap().unwrap().open.unwrap();
    assert_eq!((open.number, open.first_seq, open.agent), (1, 1, None));
}

#[test]
fn a_repeated_numbered_send_gets_its_first_answer_for_ever() {
    let mut world = with_session();
    let count = 3 * PAGE_SENDS + 5;
    let first: Vec<Reply> = (1..=count).map(|n| world.reply(say(1, VISITOR, n, "first"))).collect();
    for round in 0..3 {
        for n in 1..=count {
            let Reply::Sent { seq, ts_ms, dup: false } = first[n as usize - 1] else { panic!("not sent") };
            assert_eq!(world.reply(say(1, VISITOR, n, "another text")), sent(seq, ts_ms, true), "round {round}, n {n}");
            let found = world.shard.find_sent(&world.rows, session(1), VISITOR, "d", n, "").unwrap();
            assert_eq!(found, Some((seq, ts_ms)));
        }
        if round == 0 { world.checkpoint() } else { world.chill() }
    }
    assert_eq!(world.shard.find_sent(&world.rows, session(1), VISITOR, "d", count + 1, "").unwrap(), None);
    assert_eq!(world.shard.find_sent(&world.rows, session(1), VISITOR, "e", 1, "").unwrap(), None);
    assert_eq!(world.rows.count(b'P'), 3);
    assert_eq!(world.rows.count(b'C'), 0);
}

#[test]
fn a_repeated_unnumbered_send_gets_its_first_answer_for_ever() {
    let mut world = with_session();
    let cids: Vec<String> = (0..300).map(|i| format!("id {i}")).collect();
    for cid in &cids {
        assert!(matches!(world.reply(say_cid(1, VISITOR, cid, "first")), Reply::Sent { dup: false, .. }));
    }
    for _ in 0..2 {
        for (index, cid) in cids.iter().enumerate() {
            let reply = world.reply(say_cid(1, VISITOR, cid, "again"));
            assert!(matches!(reply, Reply::Sent { seq, dup: true, .. } if seq == index as u64 + 1));
            let found = world.shard.find_sent(&world.rows, session(1), VISITOR, "d", 0, cid).unwrap();
            assert_eq!(found.map(|(seq, _)| seq), Some(index as u64 + 1));
        }
        world.chill();
    }
    assert_eq!(world.rows.count(b'C'), 300);
}

#[test]
fn parties_and_devices_do_not_share_their_numbers() {
    let mut world = with_session();
    world.apply(say(1, VISITOR, 1, "a"));
    assert!(matches!(world.reply(say(1, Party::System, 1, "b")), Reply::Sent { seq: 2, dup: false, .. }));
    let other = Command::Send {
        session: session(1),
        from: VISITOR,
        device: "other".into(),
        n: 1,
        cid: "c1".into(),
        text: "c".into(),
        reply_to: None,
        attachments: Vec::new(),
    };
    assert!(matches!(world.reply(other.clone()), Reply::Sent { seq: 3, dup: false, .. }));
    world.chill();
    assert!(matches!(world.reply(other), Reply::Sent { seq: 3, dup: true, .. }));
}

#[test]
fn a_gap_in_a_devices_numbers_is_refused_with_the_number_expected() {
    let mut world = with_session();
    assert_eq!(world.reply(say(1, VISITOR, 2, "x")), Reply::Rejected(Refusal::CidGap { expected: 1 }));
    world.apply(say(1, VISITOR, 1, "x"));
    assert_eq!(world.reply(say(1, VISITOR, 3, "x")), Reply::Rejected(Refusal::CidGap { expected: 2 }));
    assert!(matches!(world.reply(say(1, VISITOR, 2, "x")), Reply::Sent { seq: 2, .. }));
}

#[test]
fn what_is_malformed_is_refused_by_name() {
    let mut world = with_session();
    let send = |device: &str, cid: &str, text: String| Command::Send {
        session: session(1),
        from: VISITOR,
        device: device.into(),
        n: 0,
        cid: cid.into(),
        text,
        reply_to: None,
        attachments: Vec::new(),
    };
    let long = "x".repeat(CID_BYTES_MAX.max(DEVICE_BYTES_MAX) + 1);
    let cases = [
        (send("d", "c", String::new()), Refusal::TextEmpty),
        (send("d", "e", "x".repeat(TEXT_BYTES_MAX + 1)), Refusal::TextTooLarge),
        (send("d", "c", "no longer empty".into()), Refusal::TextEmpty),
        (send("d", "", "x".into()), Refusal::CidInvalid),
        (send("d", &long, "x".into()), Refusal::CidInvalid),
        (send("d", "a\nb", "x".into()), Refusal::CidInvalid),
        (send("", "c", "x".into()), Refusal::DeviceInvalid),
        (send(&long, "c", "x".into()), Refusal::DeviceInvalid),
        (send("a\0b", "c", "x".into()), Refusal::DeviceInvalid),
    ];
    for (command, refusal) in cases {
        let outcome = world.apply(command);
        assert_eq!((outcome.reply, outcome.effects), (Reply::Rejected(refusal), Vec::new()));
    }
    assert!(matches!(world.reply(send("d", "f", "x".repeat(TEXT_BYTES_MAX))), Reply::Sent { seq: 1, .. }));
    assert_eq!(world.reply(say(2, VISITOR, 1, "x")), Reply::Rejected(Refusal::UnknownSession));
}

#[test]
fn an_agent_speaks_only_in_a_conversation_that_is_theirs() {
    let mut world = with_session();
    let agent = Party::Agent(AgentId(4));
    assert_eq!(world.reply(say(1, agent, 1, "x")), Reply::Rejected(Refusal::ConversationClosed));
    world.apply(login(4));
    world.apply(presence(4, true));
    world.apply(say(1, VISITOR, 1, "x"));
    assert_eq!(world.reply(say(1, agent, 2, "x")), Reply::Rejected(Refusal::NotYours));
    world.settle();
    let first = world.reply(say(1, agent, 3, "x"));
    assert!(matches!(first, Reply::Sent { seq: 3, dup: false, .. }));
    assert_eq!(world.reply(say(1, Party::Agent(AgentId(5)), 1, "x")), Reply::Rejected(Refusal::NotYours));
    world.apply(close(1, VISITOR));
    assert_eq!(world.reply(say(1, agent, 4, "x")), Reply::Rejected(Refusal::ConversationClosed));
    assert!(matches!(world.reply(say(1, agent, 3, "x")), Reply::Sent { seq: 3, dup: true, .. }));
}

#[test]
fn history_pages_are_gapless_in_both_directions_wherever_the_events_are() {
    let mut world = with_session();
    let count = 500;
    for n in 1..=count {
        world.apply(say(1, VISITOR, n, &"x".repeat((n % 700) as usize + 1)));
        if n % 37 == 0 {
            world.checkpoint();
        }
    }
    for chilled in [false, true] {
        if chilled {
            world.chill();
        }
        let read =
            |range, limit, bytes| world.shard.history(&world.rows, session(1), range, limit, bytes).unwrap().unwrap();
        let seqs =
            |range, limit, bytes| -> Vec<u64> { read(range, limit, bytes).events.iter().map(|e| e.seq).collect() };
        for seq in 0..=count + 2 {
            let expected: Vec<u64> = (seq + 1..=count).take(70).collect();
            assert_eq!(seqs(HistoryRange::After(seq), 70, usize::MAX), expected);
            let mut newest: Vec<u64> = (1..seq.min(count + 1)).rev().take(70).collect();
            newest.reverse();
            assert_eq!(seqs(HistoryRange::Before(seq), 70, usize::MAX), newest);
        }
        assert_eq!(seqs(HistoryRange::Latest, 3, usize::MAX), [498, 499, 500]);
        assert_eq!(seqs(HistoryRange::Latest, 3, 0), [500]);
        assert_eq!(seqs(HistoryRange::After(17), 9, 0), [18]);
        assert!(seqs(HistoryRange::After(0), 500, 4_096).len() > 3);
        assert!(seqs(HistoryRange::After(0), 500, 4_096).len() < 40);
        assert_eq!(read(HistoryRange::After(600), 9, 9).head, count);
    }
    assert_eq!(world.shard.history(&world.rows, session(2), HistoryRange::Latest, 1, 1).unwrap(), None);
}

#[test]
fn slow_conversations_rewrite_small_blocks_only() {
    let mut world = with_session();
    for n in 1..=100 {
        world.apply(say(1, VISITOR, n, "x"));
        world.checkpoint();
    }
    assert_eq!(world.rows.count(b'E') as u64, 100_u64.div_ceil(BLOCK_SEAL_EVENTS));
}

#[test]
fn a_message_keeps_what_was_said_and_time_never_goes_back() {
    let mut world = with_session();
    world.apply(say(1, VISITOR, 1, "later"));
    world.now_ms = 5;
    world.apply(say(1, VISITOR, 2, "earlier"));
    world.chill();
    let page = world.shard.history(&world.rows, session(1), HistoryRange::Latest, 9, 9_999).unwrap().unwrap();
    assert_eq!(page.events[0].ts_ms, page.events[1].ts_ms);
    let expected = EventBody::Message {
        from: VISITOR,
        device: "d".into(),
        n: 2,
        cid: "c2".into(),
        text: "earlier".into(),
        reply_to: None,
        attachments: Vec::new(),
    };
    assert_eq!(page.events[1].body, expected);
    assert_eq!(world.shard.clock_ms(), 1_002);
}

#[test]
fn a_warm_send_touches_no_row() {
    let mut world = with_session();
    // The first one of an hour may look for the figures of that hour.
    world.apply(say_cid(1, VISITOR, "first", "hello"));
    let commands =
        [say(1, VISITOR, 1, "a"), say(1, VISITOR, 2, "b"), say_cid(1, VISITOR, "c", "d"), say(1, VISITOR, 1, "")];
    for command in commands {
        assert!(world.shard.is_warm(&command));
        let before = world.rows.reads.get();
        world.apply(command);
        assert_eq!(world.rows.reads.get(), before);
        world.checkpoint();
    }
    world.chill();
    assert!(!world.shard.is_warm(&say(1, VISITOR, 3, "a")));
    world.apply(say(1, VISITOR, 3, "a"));
    assert!(world.shard.is_warm(&say(1, VISITOR, 4, "a")));
}

#[test]
fn a_refusal_is_the_answer_for_ever_and_uses_its_number() {
    for cold in [false, true] {
        let mut world = World::alone();
        world.apply(open(1));
        world.apply(say(1, Party::Visitor, 1, "hello"));
        let agent = Party::Agent(AgentId(5));
        let no = Reply::Rejected(Refusal::NotYours);
        assert_eq!(world.reply(say(1, agent, 1, "too early")), no);
        assert_eq!(world.reply(say_cid(1, agent, "c", "too early")), no);
        world.apply(Command::Reassign { session: session(1), agent: AgentId(5) });
        if cold {
            world.checkpoint();
            world.chill();
        }
        // Copies that come late are no messages, and the next message does not pass for one of them.
        assert_eq!(world.reply(say(1, agent, 1, "too early")), no);
        assert_eq!(world.reply(say_cid(1, agent, "c", "too early")), no);
        assert!(matches!(world.reply(say(1, agent, 2, "now")), Reply::Sent { seq: 3, dup: false, .. }));
        let found = |n, cid| world.shard.find_sent(&world.rows, session(1), agent, "d", n, cid).unwrap();
        assert_eq!((found(1, ""), found(0, "c")), (None, None));
    }
}
