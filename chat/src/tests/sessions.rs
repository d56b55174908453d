//! Owns the tests of sessions, cursors and agents. Does not test queues.

use super::world::*;
use crate::limits::TOKENS_MAX;
use crate::rows::{BlockRow, CursorRow, HeaderRow, MailsRow, OpenRow, SessionRow};
use crate::{ApplyError, Effect, Refusal, Reply, Shard, keys};
use proto::codec::encode;
use proto::command::{Command, Event, EventBody, Mail, Party, Target};
use proto::ids::{AgentId, ShardId, SiteId, VisitorId};
use std::sync::Arc;

fn cursor(party: Party, received: u64, read: u64) -> Command {
    Command::Cursor { session: session(1), party, received, read }
}

fn with_talk() -> World {
    let mut world = World::alone();
    for command in [open(1), login(4), presence(4, true), say(1, Party::Visitor, 1, "a")] {
        world.apply(command);
    }
    world.settle();
    world
}

#[test]
fn opening_again_changes_nothing_and_new_tokens_push_out_the_oldest() {
    let mut world = World::alone();
    world.apply(open(1));
    world.apply(open(1));
    let tokens = |world: &World| world.shard.session(&world.rows, session(1)).unwrap().unwrap().tokens;
    assert_eq!(tokens(&world), [[7; 32]]);
    let open_with = |token| Command::OpenSession { session: session(1), site: SITE, visitor: VisitorId(1), token };
    for n in 0..TOKENS_MAX as u8 {
        assert_eq!(world.reply(open_with([100 + n; 32])), Reply::Opened { session: session(1) });
    }
    assert_eq!(tokens(&world).len(), TOKENS_MAX);
    assert!(!tokens(&world).contains(&[7; 32]));
    let foreign = Command::OpenSession { session: session(1), site: SITE, visitor: VisitorId(2), token: [1; 32] };
    assert_eq!(world.reply(foreign), Reply::Rejected(Refusal::SiteMismatch));
}

#[test]
fn cursors_stop_at_the_head_and_never_go_back() {
    let mut world = with_talk();
    let outcome = world.apply(cursor(Party::Visitor, 99, 1));
    assert_eq!(outcome.reply, Reply::Cursor { received: 2, read: 1 });
    let moved = Effect::Cursor { session: session(1), party: Party::Visitor, received: 2, read: 1 };
    assert_eq!(outcome.effects, [moved]);
    let outcome = world.apply(cursor(Party::Visitor, 1, 0));
    assert_eq!((outcome.reply, outcome.effects), (Reply::Cursor { received: 2, read: 1 }, Vec::new()));
    assert_eq!(world.reply(cursor(Party::Agent(AgentId(4)), 0, 2)), Reply::Cursor { received: 2, read: 2 });
    assert_eq!(world.reply(cursor(Party::Agent(AgentId(5)), 1, 1)), Reply::Rejected(Refusal::NotYours));
    world.chill();
    let view = world.shard.session(&world.rows, session(1)).unwrap().unwrap();
    assert_eq!((view.visitor_cursor.read, view.agent_cursor.read), (1, 2));
}

#[test]
fn the_last_agent_may_still_read_a_closed_conversation_to_its_end() {
    let mut world = with_talk();
    assert_eq!(world.reply(close(1, Party::Visitor)), Reply::Closed { seq: Some(3) });
    assert_eq!(world.reply(cursor(Party::Agent(AgentId(4)), 3, 3)), Reply::Cursor { received: 3, read: 3 });
}

#[test]
fn closing_is_for_those_inside_and_harmless_twice() {
    let mut world = with_talk();
    assert_eq!(world.reply(close(1, Party::Agent(AgentId(5)))), Reply::Rejected(Refusal::NotYours));
    assert_eq!(world.reply(close(1, Party::Agent(AgentId(4)))), Reply::Closed { seq: Some(3) });
    let done = Mail::Done { site: SITE, session: session(1), conversation: 1, agent: Some(AgentId(4)) };
    let unassigned = Mail::Unassigned { agent: AgentId(4), session: session(1), conversation: 1 };
    assert_eq!(waiting_mails(&world, ONE), [done, unassigned]);
    let again = world.apply(close(1, Party::Visitor));
    assert_eq!((again.reply, again.effects), (Reply::Closed { seq: None }, Vec::new()));
    world.apply(say(1, Party::Visitor, 2, "back again"));
    let open = world.shard.session(&world.rows, session(1)).unwrap().unwrap().open.unwrap();
    assert_eq!((open.number, open.first_seq), (2, 4));
}

#[test]
fn an_agents_open_set_follows_the_sessions() {
    let mut world = with_talk();
    let view = |world: &World| world.shard.agent(&world.rows, AgentId(4)).unwrap().unwrap();
    assert_eq!((view(&world).open, view(&world).version, view(&world).online), (vec![(session(1), 1)], 1, true));
    world.apply(close(1, Party::System));
    world.chill();
    world.settle();
    assert_eq!((view(&world).open, view(&world).version), (vec![], 2));
}

#[test]
fn presence_tells_the_desk_only_what_changed() {
    let mut world = World::alone();
    assert_eq!(world.reply(presence(4, true)), Reply::Rejected(Refusal::UnknownAgent));
    assert_eq!(world.reply(login(4)), Reply::LoggedIn);
    assert_eq!(world.apply(presence(4, false)).effects, []);
    let effects = world.apply(presence(4, true)).effects;
    assert_eq!(effects[0], Effect::AgentPresence { agent: AgentId(4), site: SITE, online: true });
    assert_eq!(effects[1], Effect::Outbox { to: ONE });
    assert_eq!(world.apply(presence(4, true)).effects, []);
}

#[test]
fn who_is_online_is_known_from_rows_and_from_memory() {
    let mut world = World::alone();
    for id in [300, 2, 7, 40] {
        world.apply(login(id));
        world.apply(presence(id, id != 40));
    }
    let online = |world: &World| -> Vec<u64> {
        world.shard.online_agents(&world.rows).unwrap().iter().map(|agent| agent.0).collect()
    };
    assert_eq!(online(&world), [2, 7, 300]);
    world.chill();
    assert_eq!(online(&world), [2, 7, 300]);
    // Memory is newer than the rows, both ways.
    world.apply(presence(7, false));
    world.apply(presence(40, true));
    assert_eq!(online(&world), [2, 40, 300]);
}

#[test]
fn a_login_keeps_presence_and_takes_a_new_name() {
    let mut world = with_talk();
    let again = Command::AgentLogin { agent: AgentId(4), site: SITE, name: "Ada".into(), token: [1; 32] };
    world.apply(again);
    world.chill();
    let view = world.shard.agent(&world.rows, AgentId(4)).unwrap().unwrap();
    assert_eq!((view.name.as_str(), view.online, view.tokens.len()), ("Ada", true, 2));
    let foreign = Command::AgentLogin { agent: AgentId(4), site: SiteId(2), name: "Ada".into(), token: [2; 32] };
    assert_eq!(world.reply(foreign), Reply::Rejected(Refusal::SiteMismatch));
}

#[test]
fn a_mail_is_applied_once_and_in_order() {
    let mut world = World::alone();
    world.apply(open(1));
    world.apply(say(1, Party::Visitor, 1, "a"));
    let assign = |agent| Mail::Assign {
        session: session(1),
        conversation: 1,
        part: 0,
        agent: AgentId(agent),
        turn: agent,
        team: proto::ids::TeamId(0),
    };
    let inbox = |seq, message| Command::Inbox { from: ShardId(9), seq, message };
    assert_eq!(world.reply(inbox(2, assign(4))), Reply::Rejected(Refusal::InboxGap { expected: 1 }));
    assert_eq!(event_count(&world.apply(inbox(1, assign(4))).effects), 1);
    let again = world.apply(inbox(1, assign(4)));
    assert_eq!((again.reply, again.effects), (Reply::Done, Vec::new()));
    // Another agent comes too late: the seat goes back to the desk.
    world.apply(inbox(2, assign(5)));
    let back = Mail::Returned { site: SITE, session: session(1), turn: 5 };
    assert_eq!(waiting_mails(&world, ONE).last(), Some(&back));
    assert_eq!(world.shard.inbox_seen(ShardId(9)), 2);
}

#[test]
fn a_command_for_another_shard_stops_the_replica() {
    let shards = 6;
    let home = Target::Session(session(1)).shard(shards);
    let other = ShardId(home.0 % shards + 1);
    let found = World::of(other, shards).try_apply(open(1));
    assert!(matches!(found, Err(ApplyError::Misrouted { target, .. }) if target == home));
    assert!(World::of(home, shards).try_apply(open(1)).is_ok());
}

#[test]
fn a_corrupt_row_stops_the_replica() {
    let mut world = with_talk();
    world.chill();
    let rows: Vec<Vec<u8>> = world.rows.map.keys().filter(|key| key[0] == b'S').cloned().collect();
    world.rows.map.insert(rows[0].clone(), vec![21, 1, 2]);
    let found = world.try_apply(say(1, Party::Visitor, 2, "a"));
    assert!(matches!(found, Err(ApplyError::Corrupt { row: "session", .. })));
}

/// Found by the fuzz target `chat_state`: adding one to them overflowed.
#[test]
fn counters_that_nobody_counted_are_corrupt_and_no_panic() {
    let max = u64::MAX;
    let event = |seq| {
        Arc::new(Event {
            seq,
            ts_ms: 1,
            body: EventBody::Closed { by: Party::System, conversation: 1, reason: String::new() },
        })
    };
    let block = encode(&BlockRow { events: vec![event(max - 1), event(max), event(max)] });
    let empty = encode(&BlockRow { events: Vec::new() });
    let mut row = SessionRow {
        site: SITE,
        visitor: VisitorId(1),
        tokens: Vec::new(),
        head: max,
        block_first: 0,
        conversations: 1,
        open: None,
        last_agent: None,
        closed_ms: 0,
        visitor_cursor: CursorRow::default(),
        agent_cursor: CursorRow::default(),
        devices: 0,
        about: proto::desk::About::default(),
        labels: Vec::new(),
        last_part: 0,
        attributes: Vec::new(),
        rating: None,
        blocked_ms: None,
        erased: 0,
        proofs: Vec::new(),
        merged: Vec::new(),
        merged_into: None,
    };
    for (head, block_first, block) in [(max, 0, &empty), (5, 0, &empty), (max - 1, max - 1, &block), (max, max, &block)]
    {
        (row.head, row.block_first) = (head, block_first);
        let mut world = World::alone();
        world.rows.map.insert(keys::session(session(1)), encode(&row));
        world.rows.map.insert(keys::block(session(1), block_first), block.clone());
        let found = world.shard.session(&world.rows, session(1));
        assert!(matches!(found, Err(ApplyError::Corrupt { row: "session", .. })), "{head} {block_first}");
    }
    for first_seq in [0, 2, max] {
        (row.head, row.block_first) = (1, 2);
        row.open =
            Some(OpenRow { number: 1, first_seq, agent: None, waits_again: false, part: 0, snoozed: None, team: None });
        let mut rows = TestRows::default();
        rows.map.insert(keys::session(session(1)), encode(&row));
        let found = World::alone().shard.session(&rows, session(1));
        assert!(matches!(found, Err(ApplyError::Corrupt { row: "session", .. })), "{first_seq}");
    }
    let lane = |acked| HeaderRow { outbox: vec![MailsRow { to: ONE, acked, head: max }], ..HeaderRow::default() };
    for header in [lane(0), lane(max), HeaderRow { inbox: vec![(ONE, max)], ..HeaderRow::default() }] {
        let mut rows = TestRows::default();
        rows.map.insert(keys::HEADER.to_vec(), encode(&header));
        assert!(matches!(Shard::open(ONE, 1, &rows), Err(ApplyError::Corrupt { row: "header", .. })));
    }
}

#[test]
fn every_session_is_found_once_page_by_page_wherever_it_is() {
    let mut world = World::alone();
    for id in 1..=10 {
        world.apply(open(id));
        if id == 6 {
            // The first six have rows, and are not in memory.
            world.checkpoint();
            world.chill();
        }
    }
    world.apply(say(3, Party::Visitor, 1, "hello"));
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = world.shard.find_sessions(&world.rows, after, 4, |_| true).unwrap();
        assert!(page.sessions.len() <= 4);
        seen.extend(page.sessions.iter().map(|brief| brief.session));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..=10).map(session).collect::<Vec<_>>());
    let open_ones = world.shard.find_sessions(&world.rows, None, 100, |brief| brief.is_open()).unwrap();
    assert_eq!(open_ones.sessions.iter().map(|brief| brief.session).collect::<Vec<_>>(), vec![session(3)]);
}

#[test]
fn an_operator_gives_an_open_conversation_to_another_agent_who_begins_at_that_event() {
    let mut world = World::alone();
    let reassign = |id, agent| Command::Reassign { session: session(id), agent: AgentId(agent) };
    assert_eq!(world.reply(reassign(1, 5)), Reply::Rejected(Refusal::UnknownSession));
    world.apply(open(1));
    assert_eq!(world.reply(reassign(1, 5)), Reply::Rejected(Refusal::ConversationClosed));
    world.apply(say(1, Party::Visitor, 1, "hello"));
    let view = |world: &World| world.shard.session(&world.rows, session(1)).unwrap().unwrap().open.unwrap();
    // Nobody had it: the agent sees it from its first event.
    assert_eq!(world.reply(reassign(1, 5)), Reply::Done);
    assert_eq!((view(&world).agent, view(&world).first_seq), (Some(AgentId(5)), 1));
    assert_eq!(world.reply(reassign(1, 6)), Reply::Done);
    assert_eq!((view(&world).agent, view(&world).first_seq), (Some(AgentId(6)), 3));
    let again = world.apply(reassign(1, 6));
    assert_eq!((again.reply, again.effects), (Reply::Done, Vec::new()));
    let agent = |id| Party::Agent(AgentId(id));
    assert_eq!(world.reply(say(1, agent(5), 1, "mine?")), Reply::Rejected(Refusal::NotYours));
    assert!(matches!(world.reply(say(1, agent(6), 1, "mine")), Reply::Sent { seq: 4, .. }));
}

#[test]
fn a_close_that_comes_again_never_ends_the_next_conversation() {
    for cold in [false, true] {
        let mut world = with_talk();
        let seen = world.shard.session(&world.rows, session(1)).unwrap().unwrap().head;
        let close = || Command::CloseSeen { session: session(1), by: Party::Visitor, seen, reason: String::new() };
        assert_eq!(world.reply(close()), Reply::Closed { seq: Some(seen + 1) });
        world.apply(say(1, Party::Visitor, 2, "one more thing"));
        if cold {
            world.checkpoint();
            world.chill();
        }
        let again = world.apply(close());
        assert_eq!((again.reply, again.effects), (Reply::Closed { seq: None }, Vec::new()));
        assert!(world.shard.session(&world.rows, session(1)).unwrap().unwrap().open.is_some());
        // Who has seen the next one may close it.
        let close =
            Command::CloseSeen { session: session(1), by: Party::Visitor, seen: seen + 2, reason: String::new() };
        assert_eq!(world.reply(close), Reply::Closed { seq: Some(seen + 3) });
    }
}

/// Found by chaos 302: a copy of a close that had found nothing open came two seconds late.
#[test]
fn a_close_of_who_saw_nothing_open_never_ends_the_next_conversation() {
    for cold in [false, true] {
        let mut world = with_talk();
        world.apply(close(1, Party::Visitor));
        let seen = world.shard.session(&world.rows, session(1)).unwrap().unwrap().head;
        let late = |seen| Command::CloseSeen { session: session(1), by: Party::Visitor, seen, reason: String::new() };
        assert_eq!(world.reply(late(seen)), Reply::Closed { seq: None });
        world.apply(say(1, Party::Visitor, 2, "one more thing"));
        if cold {
            world.checkpoint();
            world.chill();
        }
        for seen in [0, seen] {
            let again = world.apply(late(seen));
            assert_eq!((again.reply, again.effects), (Reply::Closed { seq: None }, Vec::new()));
        }
        let by_agent =
            Command::CloseSeen { session: session(1), by: Party::Agent(AgentId(7)), seen, reason: String::new() };
        assert_eq!(world.reply(by_agent), Reply::Rejected(Refusal::NotYours), "an agent who has nothing to close");
        let to = Command::ReassignSeen { session: session(1), agent: AgentId(9), seen };
        assert!(matches!(world.reply(to), Reply::Rejected(_)), "nor is it moved");
        assert!(world.shard.session(&world.rows, session(1)).unwrap().unwrap().open.is_some());
        assert_eq!(world.reply(late(seen + 1)), Reply::Closed { seq: Some(seen + 2) });
    }
}

#[test]
fn an_agents_close_that_was_refused_stays_so_when_it_comes_again() {
    let mut world = with_talk();
    let head = |world: &World| world.shard.session(&world.rows, session(1)).unwrap().unwrap().head;
    let seen = head(&world);
    let close =
        |seen| Command::CloseSeen { session: session(1), by: Party::Agent(AgentId(7)), seen, reason: String::new() };
    assert_eq!(world.reply(close(seen)), Reply::Rejected(Refusal::NotYours));
    world.apply(Command::Reassign { session: session(1), agent: AgentId(7) });
    // The same request on another way, after the agent was given the conversation.
    assert_eq!(world.reply(close(seen)), Reply::Rejected(Refusal::NotYours));
    let given = head(&world);
    assert_eq!(world.reply(close(given)), Reply::Closed { seq: Some(given + 1) });
}

#[test]
fn a_move_that_comes_again_does_not_undo_a_later_one() {
    let mut world = with_talk();
    let seen = world.shard.session(&world.rows, session(1)).unwrap().unwrap().head;
    let to = |agent, seen| Command::ReassignSeen { session: session(1), agent: AgentId(agent), seen };
    assert_eq!(world.reply(to(7, seen)), Reply::Done);
    assert_eq!(world.apply(to(7, seen)).effects, Vec::new(), "it is done");
    assert_eq!(world.reply(to(8, seen + 1)), Reply::Done);
    assert_eq!(world.apply(to(7, seen)).effects, Vec::new(), "it was done, before the other one");
    assert_eq!(world.reply(to(9, seen)), Reply::Rejected(Refusal::Changed));
    world.apply(close(1, Party::Visitor));
    assert_eq!(world.apply(to(7, seen)).effects, Vec::new());
    assert_eq!(world.reply(to(8, seen + 2)), Reply::Rejected(Refusal::Changed));
    let head = world.shard.session(&world.rows, session(1)).unwrap().unwrap().head;
    assert_eq!(world.reply(to(8, head)), Reply::Rejected(Refusal::ConversationClosed));
}
