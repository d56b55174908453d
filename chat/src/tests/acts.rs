//! Owns the tests of what people do beside writing: notes, edits, recalls, reactions, labels, snoozes. Does not test queues.

use super::world::*;
use crate::limits::{
    EDIT_WITHIN_MS, LABELS_MAX, MENTIONS_PER_AGENT_MAX, RECALL_WITHIN_MS, ROLLUP_SWEEP_AFTER_MS, SNOOZE_MS_MAX,
};
use crate::{HistoryRange, Outcome, Refusal, Reply};
use proto::act::Act;
use proto::command::{Command, Event, EventBody, Mail, Party};
use proto::desk::{SeatRules, TeamRules};
use proto::ids::{AgentId, SiteId, TeamId};
use proto::report::HOUR_MS;
use std::sync::Arc;

const ADA: Party = Party::Agent(AgentId(4));
const BOB: Party = Party::Agent(AgentId(5));

/// Ada has the conversation of session 1; what the visitor wrote is at 1.
fn with_talk() -> World {
    let mut world = World::alone();
    for command in [open(1), login(4), login(5), presence(4, true), say(1, Party::Visitor, 1, "hello")] {
        world.apply(command);
    }
    world.settle();
    world
}

fn command(from: Party, cid: &str, act: Act) -> Command {
    let (session, site, device) = (session(1), Some(SITE), "d".to_owned());
    Command::Act { session, site, from, device, n: 0, cid: cid.to_owned(), act }
}

impl World {
    fn act(&mut self, from: Party, act: Act) -> Outcome {
        let cid = format!("act at {}", self.now_ms);
        let outcome = self.apply(command(from, &cid, act.clone()));
        let again = self.apply(command(from, &cid, act));
        match (&outcome.reply, &again.reply) {
            (Reply::Sent { seq: first, .. }, Reply::Sent { seq: second, dup: true, .. }) => assert_eq!(first, second),
            (first, second) => assert_eq!(first, second),
        }
        assert!(again.effects.is_empty());
        outcome
    }

    fn refusal(&mut self, from: Party, act: Act) -> Refusal {
        match self.act(from, act).reply {
            Reply::Rejected(refusal) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn events(&self) -> Vec<Arc<Event>> {
        let range = HistoryRange::After(0);
        self.shard.history(&self.rows, session(1), range, usize::MAX, usize::MAX).unwrap().unwrap().events
    }

    fn texts(&self) -> Vec<String> {
        let text = |event: &Arc<Event>| match &event.body {
            EventBody::Message { text, .. } | EventBody::Act { act: Act::Edit { text, .. }, .. } => Some(text.clone()),
            _ => None,
        };
        self.events().iter().filter_map(text).collect()
    }

    fn holder(&self) -> Option<AgentId> {
        self.shard.session(&self.rows, session(1)).unwrap().unwrap().open.and_then(|open| open.agent)
    }
}

fn edit(seq: u64, text: &str) -> Act {
    Act::Edit { seq, text: text.to_owned() }
}

fn react(seq: u64, emoji: &str) -> Act {
    Act::React { seq, emoji: emoji.to_owned(), on: true }
}

fn note(text: &str, mentions: &[u64]) -> Act {
    Act::Note { text: text.to_owned(), mentions: mentions.iter().copied().map(AgentId).collect() }
}

#[test]
fn acts_and_messages_of_a_device_share_one_count() {
    let mut world = with_talk();
    let numbered = |n: u64, act: Act| match command(Party::Visitor, "c", act) {
        Command::Act { session, site, from, device, cid, act, .. } => {
            Command::Act { session, site, from, device, n, cid, act }
        }
        other => other,
    };
    let react = |seq| react(seq, "👍");
    assert_eq!(world.reply(numbered(3, react(1))), Reply::Rejected(Refusal::CidGap { expected: 2 }));
    assert!(matches!(world.reply(numbered(2, react(1))), Reply::Sent { seq: 3, dup: false, .. }));
    assert!(matches!(world.reply(say(1, Party::Visitor, 2, "late")), Reply::Sent { seq: 3, dup: true, .. }));
    assert!(matches!(world.reply(say(1, Party::Visitor, 3, "next")), Reply::Sent { seq: 4, dup: false, .. }));
    // A refusal uses its number up here too.
    assert_eq!(world.reply(numbered(4, react(99))), Reply::Rejected(Refusal::TargetInvalid));
    world.chill();
    assert_eq!(world.reply(numbered(4, react(99))), Reply::Rejected(Refusal::TargetInvalid));
    assert!(matches!(world.reply(numbered(5, react(4))), Reply::Sent { seq: 5, dup: false, .. }));
}

#[test]
fn notes_are_for_agents_of_the_site_and_tell_whom_they_mention() {
    let mut world = with_talk();
    world.act(BOB, note("she called yesterday", &[4, 5, 77]));
    world.settle();
    let mentions = |world: &World, id| world.shard.agent(&world.rows, AgentId(id)).unwrap().unwrap().mentions;
    assert_eq!(mentions(&world, 4), [(session(1), 3)]);
    assert_eq!(mentions(&world, 5), [(session(1), 3)]);
    let dismiss = Command::Dismiss { agent: AgentId(4), session: session(1), seq: 3 };
    assert_eq!(world.reply(dismiss.clone()), Reply::Done);
    assert_eq!(world.reply(dismiss), Reply::Done);
    assert!(mentions(&world, 4).is_empty());
    assert_eq!(world.refusal(Party::Visitor, note("me too", &[])), Refusal::NotYours);
    let foreign = match command(BOB, "foreign", note("x", &[])) {
        Command::Act { session, from, device, n, cid, act, .. } => {
            Command::Act { session, site: Some(SiteId(9)), from, device, n, cid, act }
        }
        other => other,
    };
    assert_eq!(world.reply(foreign), Reply::Rejected(Refusal::NotYours));
    for _ in 0..MENTIONS_PER_AGENT_MAX + 3 {
        world.act(ADA, note("again", &[5]));
    }
    world.settle();
    assert_eq!(mentions(&world, 5).len(), MENTIONS_PER_AGENT_MAX);
    // Also when nothing is open. A system of the site may as well, but has no conversation to open again.
    world.apply(close(1, ADA));
    assert!(matches!(world.act(BOB, note("done", &[])).reply, Reply::Sent { .. }));
    let by_system = |device: &str, site, act| {
        let (session, device, cid) = (session(1), device.to_owned(), "c".to_owned());
        Command::Act { session, site: Some(site), from: Party::System, device, n: 0, cid, act }
    };
    assert!(matches!(world.reply(by_system("a", SITE, note("paid", &[]))), Reply::Sent { .. }));
    assert_eq!(world.reply(by_system("b", SiteId(9), note("paid", &[]))), Reply::Rejected(Refusal::NotYours));
    let reopen = by_system("c", SITE, Act::Reopen { conversation: 1 });
    assert_eq!(world.reply(reopen), Reply::Rejected(Refusal::NotYours));
}

#[test]
fn only_the_author_edits_and_only_for_a_while() {
    let mut world = with_talk();
    assert!(matches!(world.act(Party::Visitor, edit(1, "hello there")).reply, Reply::Sent { seq: 3, .. }));
    assert_eq!(world.refusal(ADA, edit(1, "mine")), Refusal::TargetInvalid);
    assert_eq!(world.refusal(Party::Visitor, edit(2, "no message")), Refusal::TargetInvalid);
    assert_eq!(world.refusal(Party::Visitor, edit(1, "")), Refusal::TextEmpty);
    assert_eq!(world.refusal(BOB, edit(1, "not there")), Refusal::NotYours);
    world.now_ms += EDIT_WITHIN_MS;
    assert_eq!(world.refusal(Party::Visitor, edit(1, "too late")), Refusal::TooLate);
}

#[test]
fn a_recalled_message_leaves_no_text_in_memory_or_rows() {
    for chill_at in 0..4 {
        let mut world = with_talk();
        let chill = |world: &mut World, at| {
            if chill_at == at {
                world.chill();
            }
        };
        chill(&mut world, 0);
        world.apply(say(1, Party::Visitor, 2, "my card is 4111"));
        chill(&mut world, 1);
        world.act(Party::Visitor, edit(3, "my card is 4222"));
        world.apply(say(1, Party::Visitor, 3, "kept"));
        chill(&mut world, 2);
        assert!(matches!(world.act(Party::Visitor, Act::Recall { seq: 3 }).reply, Reply::Sent { seq: 6, .. }));
        assert_eq!(world.texts(), ["hello", "", "", "kept"]);
        chill(&mut world, 3);
        assert_eq!(world.texts(), ["hello", "", "", "kept"]);
        assert_eq!(world.refusal(Party::Visitor, Act::Recall { seq: 3 }), Refusal::TargetInvalid);
        assert_eq!(world.refusal(Party::Visitor, react(3, "👍")), Refusal::TargetInvalid);
        world.chill();
        assert_eq!(world.texts(), ["hello", "", "", "kept"]);
        let stored =
            |text: &str| world.rows.map.values().any(|row| row.windows(text.len()).any(|at| at == text.as_bytes()));
        assert!(stored("kept") && !stored("4111") && !stored("4222"));
        // The send itself stays answered.
        assert!(matches!(world.reply(say(1, Party::Visitor, 2, "x")), Reply::Sent { seq: 3, dup: true, .. }));
    }
}

#[test]
fn a_recall_during_a_checkpoint_is_written_by_the_next() {
    for is_written in [true, false] {
        let mut world = with_talk();
        (2..40).for_each(|n| drop(world.apply(say(1, Party::Visitor, n, &format!("text {n}")))));
        let changes = world.shard.begin_checkpoint();
        world.act(Party::Visitor, Act::Recall { seq: 1 });
        if is_written {
            world.rows.write(changes);
        }
        world.shard.end_checkpoint(is_written);
        assert_eq!(world.texts()[0], "");
        (40..200).for_each(|n| drop(world.apply(say(1, Party::Visitor, n, "more"))));
        world.chill();
        let texts = world.texts();
        assert_eq!((texts[0].as_str(), texts[1].as_str(), texts.len()), ("", "text 2", 199));
    }
}

#[test]
fn messages_of_long_ago_cannot_be_recalled_and_answers_and_reactions_need_a_message() {
    let mut world = with_talk();
    world.now_ms += RECALL_WITHIN_MS;
    assert_eq!(world.refusal(Party::Visitor, Act::Recall { seq: 1 }), Refusal::TooLate);
    for wrong in ["", "abc", "a b", "\u{7}", &"👍".repeat(9)] {
        assert_eq!(world.refusal(ADA, react(1, wrong)), Refusal::ActInvalid, "{wrong:?}");
    }
    for good in ["👍", "❤️", "1️⃣", "👩‍👩‍👧‍👦"] {
        assert!(matches!(world.act(ADA, react(1, good)).reply, Reply::Sent { .. }), "{good}");
    }
    let answer = |cid: &str, to| match say_cid(1, ADA, cid, "yes") {
        Command::Send { session, from, device, n, cid, text, .. } => {
            Command::Send { session, from, device, n, cid, text, reply_to: Some(to), attachments: Vec::new() }
        }
        other => other,
    };
    assert!(matches!(world.reply(answer("1", 1)), Reply::Sent { .. }));
    for nothing in [0, 2, 999] {
        let reply = world.reply(answer(&format!("to {nothing}"), nothing));
        assert_eq!(reply, Reply::Rejected(Refusal::TargetInvalid));
    }
}

#[test]
fn labels_belong_to_the_conversation() {
    let mut world = with_talk();
    let label = |label: &str, on| Act::Label { label: label.to_owned(), on };
    let labels = |world: &World| world.shard.session(&world.rows, session(1)).unwrap().unwrap().labels;
    world.act(BOB, label("refund", true));
    world.act(ADA, label("angry", true));
    world.act(ADA, label("angry", true));
    assert_eq!(labels(&world), ["angry", "refund"]);
    world.chill();
    world.act(ADA, label("angry", false));
    assert_eq!(labels(&world), ["refund"]);
    assert_eq!(world.refusal(Party::Visitor, label("vip", true)), Refusal::NotYours);
    assert_eq!(world.refusal(ADA, label("  ", true)), Refusal::ActInvalid);
    (1..LABELS_MAX).for_each(|n| drop(world.act(ADA, label(&format!("l{n}"), true))));
    assert_eq!(world.refusal(ADA, label("one more", true)), Refusal::ActInvalid);
    assert!(matches!(world.act(ADA, label("refund", true)).reply, Reply::Sent { .. }));
    world.apply(close(1, ADA));
    assert_eq!(labels(&world).len(), LABELS_MAX);
    world.apply(say(1, Party::Visitor, 2, "back again"));
    assert!(labels(&world).is_empty());
}

fn snooze(world: &mut World, ms: u64) -> Reply {
    let until_ms = world.now_ms + ms;
    let reply = world.act(ADA, Act::Snooze { conversation: 1, until_ms }).reply;
    world.settle();
    reply
}

#[test]
fn a_snoozed_conversation_frees_the_seat_and_comes_back_at_its_time() {
    let mut world = with_talk();
    assert!(matches!(snooze(&mut world, 60_000), Reply::Sent { seq: 3, .. }));
    let seat = |world: &World| world.shard.desk(&world.rows, SITE).unwrap().seats[0].open;
    let open = |world: &World| world.shard.agent(&world.rows, AgentId(4)).unwrap().unwrap().open;
    assert_eq!((world.holder(), seat(&world), open(&world)), (None, 0, Vec::new()));
    world.chill();
    world.apply(Command::Tick);
    assert_eq!(world.holder(), None);
    world.now_ms += 60_000;
    world.apply(Command::Tick);
    world.settle();
    assert_eq!((world.holder(), seat(&world), open(&world)), (Some(AgentId(4)), 1, vec![(session(1), 1)]));
    let kinds: Vec<bool> = world.events().iter().map(|event| event.body.is_internal()).collect();
    assert_eq!(kinds, [false, false, true, false, false]);
    // Nothing is due twice: what comes next is the sweep behind the hour's figures.
    assert_eq!(world.shard.next_due_ms(), Some(HOUR_MS + ROLLUP_SWEEP_AFTER_MS));
}

#[test]
fn a_snoozed_conversation_comes_back_to_its_agent_when_the_visitor_writes() {
    let mut world = with_talk();
    world.apply(presence(5, true));
    world.settle();
    snooze(&mut world, 60_000);
    // The event that it waits again comes first: who is given it begins with what the visitor wrote.
    assert!(matches!(world.reply(say(1, Party::Visitor, 2, "one more thing")), Reply::Sent { seq: 5, .. }));
    world.settle();
    assert_eq!(world.holder(), Some(AgentId(4)), "and not the idler Bob's");
    let open = world.shard.session(&world.rows, session(1)).unwrap().unwrap().open.unwrap();
    assert_eq!((open.number, open.first_seq, open.snoozed), (1, 5, None));
    world.now_ms += 60_000;
    world.apply(Command::Tick);
    assert_eq!(world.holder(), Some(AgentId(4)));
}

#[test]
fn only_its_agent_snoozes_or_closes_a_snoozed_conversation_and_an_operator_moves_it() {
    let mut world = with_talk();
    let until = |world: &World, ms| Act::Snooze { conversation: 1, until_ms: world.now_ms + ms };
    for (from, act, refusal) in [
        (BOB, until(&world, 9_000), Refusal::NotYours),
        (Party::Visitor, until(&world, 9_000), Refusal::NotYours),
        (ADA, Act::Snooze { conversation: 2, until_ms: 9_000 }, Refusal::ConversationClosed),
        (ADA, Act::Snooze { conversation: 1, until_ms: 5 }, Refusal::ActInvalid),
        (ADA, until(&world, SNOOZE_MS_MAX + 9_000), Refusal::ActInvalid),
    ] {
        assert_eq!(world.refusal(from, act), refusal);
    }
    snooze(&mut world, 60_000);
    world.apply(Command::Reassign { session: session(1), agent: AgentId(5) });
    world.settle();
    assert_eq!(world.holder(), Some(AgentId(5)));
    let open = world.shard.session(&world.rows, session(1)).unwrap().unwrap().open.unwrap();
    let given = world.events().last().unwrap().seq;
    assert_eq!(open.first_seq, given, "an earlier event would end Bob's subscription");
    let seats = world.shard.desk(&world.rows, SITE).unwrap().seats;
    let open: Vec<(u64, u32)> = seats.iter().map(|seat| (seat.agent.0, seat.open)).collect();
    assert_eq!(open, [(4, 0), (5, 1)]);
    world.apply(close(1, BOB));
    world.settle();
    world.apply(say(1, Party::Visitor, 2, "again"));
    world.settle();
    let until_ms = world.now_ms + 60_000;
    world.act(ADA, Act::Snooze { conversation: 2, until_ms });
    assert_eq!(world.reply(close(1, BOB)), Reply::Rejected(Refusal::NotYours));
    assert!(matches!(world.reply(close(1, ADA)), Reply::Closed { seq: Some(_) }));
    world.settle();
    let events = world.events().len();
    world.now_ms += 60_000;
    world.apply(Command::Tick);
    world.settle();
    assert_eq!((world.holder(), world.events().len()), (None, events), "nothing is left to wake");
}

#[test]
fn a_closed_conversation_is_opened_again_by_an_agent_who_gets_it() {
    let mut world = with_talk();
    world.apply(presence(5, true));
    world.apply(close(1, Party::Visitor));
    world.settle();
    assert_eq!(world.refusal(Party::Visitor, Act::Reopen { conversation: 1 }), Refusal::NotYours);
    assert_eq!(world.refusal(BOB, Act::Reopen { conversation: 2 }), Refusal::Changed);
    assert!(matches!(world.act(BOB, Act::Reopen { conversation: 1 }).reply, Reply::Sent { .. }));
    assert_eq!(world.refusal(ADA, Act::Reopen { conversation: 1 }), Refusal::Changed);
    world.settle();
    assert_eq!(world.holder(), Some(AgentId(5)));
    assert!(matches!(world.reply(say(1, BOB, 1, "I forgot something")), Reply::Sent { .. }));
    // A late copy of the close that ended it before does not end it again.
    let late = Command::CloseSeen { session: session(1), by: Party::Visitor, seen: 2, reason: String::new() };
    assert_eq!(world.reply(late), Reply::Closed { seq: None });
    assert_eq!(world.holder(), Some(AgentId(5)));
}

#[test]
fn a_close_says_why_and_what_agents_do_after_it_does_not_open_anything() {
    let mut world = with_talk();
    let close = |seen, reason: &str| {
        let reason = reason.to_owned();
        Command::CloseSeen { session: session(1), by: ADA, seen, reason }
    };
    assert_eq!(world.reply(close(2, "\n")), Reply::Rejected(Refusal::ActInvalid));
    assert_eq!(world.reply(close(2, &"x".repeat(257))), Reply::Rejected(Refusal::ActInvalid));
    assert_eq!(world.reply(close(2, "sold")), Reply::Closed { seq: Some(3) });
    assert!(matches!(&world.events()[2].body, EventBody::Closed { reason, .. } if reason == "sold"));
    world.act(BOB, note("well done", &[]));
    world.apply(say(1, Party::Visitor, 2, "one more thing"));
    // A visitor who saw the note's place, and no conversation open, closes none that came later.
    let late = Command::CloseSeen { session: session(1), by: Party::Visitor, seen: 4, reason: String::new() };
    assert_eq!(world.reply(late), Reply::Closed { seq: None });
    let waits = Mail::Want { site: SITE, session: session(1), conversation: 2, ask: Box::default() };
    let is_want = |mail: &Mail| matches!((mail, &waits), (Mail::Want { conversation: a, .. }, Mail::Want { conversation: b, .. }) if a == b);
    assert!(waiting_mails(&world, ONE).iter().any(is_want));
}

#[test]
fn a_late_close_is_for_what_was_open_however_many_acts_lie_between() {
    // A note before the first message.
    let mut world = World::alone();
    world.apply(open(1));
    world.apply(login(4));
    world.act(ADA, note("a regular of the shop", &[]));
    world.apply(say(1, Party::Visitor, 1, "hello"));
    let close = |seen| Command::CloseSeen { session: session(1), by: Party::Visitor, seen, reason: String::new() };
    assert_eq!(world.reply(close(1)), Reply::Closed { seq: None });
    // And a hundred after a close.
    assert_eq!(world.reply(close(2)), Reply::Closed { seq: Some(3) });
    (0..100).for_each(|_| drop(world.act(ADA, note("again", &[]))));
    world.apply(say(1, Party::Visitor, 2, "one more thing"));
    assert_eq!(world.reply(close(103)), Reply::Closed { seq: None });
    assert_eq!(world.reply(close(104)), Reply::Closed { seq: Some(105) });
}

#[test]
fn a_snoozed_conversation_comes_back_to_the_team_that_it_was_given_to() {
    let mut world = with_talk();
    let rules = TeamRules { name: "two".into(), ..TeamRules::default() };
    world.apply(Command::PutTeam { site: SITE, team: TeamId(2), rules: Some(rules) });
    let seat = SeatRules { teams: vec![TeamId(2)], capacity: 3, channels: Vec::new(), skills: Vec::new() };
    world.apply(Command::PutSeat { site: SITE, agent: AgentId(5), rules: seat });
    world.apply(presence(5, true));
    let release = Command::Release { session: session(1), by: ADA, seen: u64::MAX, team: Some(TeamId(2)) };
    world.apply(release);
    world.settle();
    assert_eq!(world.holder(), Some(AgentId(5)));
    let view = world.shard.session(&world.rows, session(1)).unwrap().unwrap();
    assert_eq!(view.team, Some(TeamId(2)));
    let until_ms = world.now_ms + 60_000;
    world.act(BOB, Act::Snooze { conversation: 1, until_ms });
    world.apply(presence(5, false));
    world.settle();
    world.now_ms += 60_000;
    world.apply(Command::Tick);
    world.settle();
    assert_eq!(world.holder(), None, "Ada is there, and not of that team");
    world.apply(presence(5, true));
    world.settle();
    assert_eq!(world.holder(), Some(AgentId(5)));
}

#[test]
fn who_is_not_there_loses_what_an_operator_gave_them() {
    let mut world = with_talk();
    world.apply(Command::Reassign { session: session(1), agent: AgentId(5) });
    world.settle();
    assert_eq!(world.holder(), Some(AgentId(5)));
    world.apply(Command::Tick);
    world.now_ms += crate::limits::REQUEUE_MS + 1;
    world.apply(Command::Tick);
    world.settle();
    assert_eq!(world.holder(), Some(AgentId(4)), "Bob never came");
}
