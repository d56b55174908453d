//! Owns the tests of what goes for good, of who is not heard, and of what is said of visitors and conversations. Does not test nodes.

use super::world::*;
use crate::limits::{ATTRIBUTES_MAX, COMMENT_BYTES_MAX, ERASE_EVENTS_MAX, PROOF_AGAIN_MS};
use crate::{HistoryRange, Refusal, Reply, SessionView};
use proto::act::{Act, Whose};
use proto::command::{Command, EventBody, Mail, Party};
use proto::desk::About;
use proto::ids::{AgentId, VisitorId};

const ADA: Party = Party::Agent(AgentId(4));

fn with_talk() -> World {
    let mut world = World::alone();
    for command in [open(1), login(4), presence(4, true), say(1, Party::Visitor, 1, "hello")] {
        world.apply(command);
    }
    world.settle();
    world
}

fn view(world: &World) -> SessionView {
    world.shard.session(&world.rows, session(1)).unwrap().unwrap()
}

fn bodies(world: &World) -> Vec<EventBody> {
    let range = HistoryRange::After(0);
    let page = world.shard.history(&world.rows, session(1), range, usize::MAX, usize::MAX).unwrap().unwrap();
    page.events.iter().map(|event| event.body.clone()).collect()
}

fn act(world: &mut World, from: Party, act: Act) -> Reply {
    let (device, cid) = ("d".to_owned(), format!("act {}", world.now_ms));
    world.reply(Command::Act { session: session(1), site: Some(SITE), from, device, n: 0, cid, act })
}

fn erase(upto: u64, forget: bool) -> Command {
    Command::Erase { session: session(1), upto, forget }
}

#[test]
fn a_visitor_rates_the_last_conversation_and_may_think_better_of_it() {
    let mut world = with_talk();
    let rate = |conversation, score, comment: &str| Act::Rate { conversation, score, comment: comment.to_owned() };
    world.apply(close(1, ADA));
    assert!(matches!(act(&mut world, Party::Visitor, rate(1, 2, "slow")), Reply::Sent { .. }));
    assert!(matches!(act(&mut world, Party::Visitor, rate(1, 4, "")), Reply::Sent { .. }));
    assert_eq!(view(&world).rating, Some((1, 4)));
    assert!(view(&world).open.is_none(), "a rating opens nothing");
    for (from, wrong, why) in [
        (ADA, rate(1, 5, ""), Refusal::NotYours),
        (Party::Visitor, rate(2, 5, ""), Refusal::Changed),
        (Party::Visitor, rate(0, 5, ""), Refusal::Changed),
        (Party::Visitor, rate(1, 0, ""), Refusal::ActInvalid),
        (Party::Visitor, rate(1, 6, ""), Refusal::ActInvalid),
        (Party::Visitor, rate(1, 5, &"x".repeat(COMMENT_BYTES_MAX + 1)), Refusal::ActInvalid),
    ] {
        assert_eq!(act(&mut world, from, wrong), Reply::Rejected(why));
    }
    world.apply(say(1, Party::Visitor, 2, "again"));
    assert_eq!(act(&mut world, Party::Visitor, rate(1, 1, "")), Reply::Rejected(Refusal::Changed));
    world.chill();
    assert_eq!(view(&world).rating, Some((1, 4)));
}

#[test]
fn attributes_of_a_visitor_stay_and_those_of_a_conversation_end_with_it() {
    let mut world = with_talk();
    let set = |whose, name: &str, value: Option<&str>| Act::Attribute {
        whose,
        name: name.to_owned(),
        value: value.map(str::to_owned),
    };
    for change in [
        set(Whose::Conversation, "order", Some("17")),
        set(Whose::Visitor, "plan", Some("free")),
        set(Whose::Visitor, "plan", Some("pro")),
        set(Whose::Visitor, "age", Some("9")),
        set(Whose::Visitor, "age", None),
        set(Whose::Visitor, "never", None),
    ] {
        assert!(matches!(act(&mut world, ADA, change), Reply::Sent { .. }));
    }
    let known = |world: &World| view(world).attributes;
    let plan = (Whose::Visitor, "plan".to_owned(), "pro".to_owned());
    assert_eq!(known(&world), [plan.clone(), (Whose::Conversation, "order".into(), "17".into())]);
    for (from, wrong, why) in [
        (Party::Visitor, set(Whose::Visitor, "plan", Some("gold")), Refusal::NotYours),
        (ADA, set(Whose::Visitor, "", Some("x")), Refusal::ActInvalid),
        (ADA, set(Whose::Visitor, "x", Some(" ")), Refusal::ActInvalid),
        (ADA, set(Whose::Visitor, "x\n", Some("y")), Refusal::ActInvalid),
    ] {
        assert_eq!(act(&mut world, from, wrong), Reply::Rejected(why));
    }
    for number in 1..ATTRIBUTES_MAX {
        act(&mut world, ADA, set(Whose::Visitor, &format!("n{number}"), Some("v")));
    }
    let full = act(&mut world, ADA, set(Whose::Visitor, "one more", Some("v")));
    assert_eq!(full, Reply::Rejected(Refusal::ActInvalid));
    // What is known of a visitor goes with the question to the desk.
    world.apply(close(1, ADA));
    world.settle();
    world.apply(say(1, Party::Visitor, 2, "again"));
    let asks: Vec<Mail> = waiting_mails(&world, ONE);
    let Some(Mail::Want { ask, .. }) = asks.first() else { panic!("nobody is asked: {asks:?}") };
    assert!(ask.facts.contains(&("attribute.plan".into(), "pro".into())));
    world.chill();
    assert!(known(&world).contains(&plan) && known(&world).iter().all(|(whose, ..)| *whose == Whose::Visitor));
}

#[test]
fn nothing_is_taken_from_a_blocked_visitor_until_the_time_is_over() {
    let mut world = with_talk();
    let block = |until_ms| Command::Block { session: session(1), until_ms };
    assert_eq!(world.reply(block(Some(5_000))), Reply::Done);
    let refused = Reply::Rejected(Refusal::Blocked);
    assert_eq!(world.reply(say(1, Party::Visitor, 2, "spam")), refused);
    assert!(matches!(world.reply(say(1, ADA, 1, "go away")), Reply::Sent { .. }), "others are heard");
    world.chill();
    world.now_ms = 6_000;
    assert_eq!(world.reply(say(1, Party::Visitor, 2, "spam")), refused, "a repeated send gets its first answer");
    assert!(matches!(world.reply(say(1, Party::Visitor, 3, "sorry")), Reply::Sent { .. }));
    world.apply(block(Some(u64::MAX)));
    assert_eq!(world.reply(say(1, Party::Visitor, 4, "more")), refused);
    world.apply(block(None));
    assert!(matches!(world.reply(say(1, Party::Visitor, 5, "thanks")), Reply::Sent { .. }));
}

#[test]
fn a_send_that_is_not_let_through_uses_its_number_and_stays_refused() {
    let mut world = with_talk();
    let bar = |n: u64| {
        let (device, cid) = ("d".to_owned(), format!("c{n}"));
        Command::Bar { session: session(1), from: Party::Visitor, device, n, cid }
    };
    let refused = Reply::Rejected(Refusal::Blocked);
    assert_eq!(world.reply(bar(2)), refused);
    assert_eq!(world.reply(say(1, Party::Visitor, 2, "word")), refused, "as it was answered first");
    assert!(matches!(world.reply(say(1, Party::Visitor, 3, "fine")), Reply::Sent { seq, dup: false, .. } if seq > 2));
    let Reply::Sent { seq, .. } = world.reply(say(1, Party::Visitor, 3, "fine")) else { panic!("not a repetition") };
    assert!(matches!(world.reply(bar(3)), Reply::Sent { seq: first, dup: true, .. } if first == seq));
    assert_eq!(world.reply(bar(9)), Reply::Rejected(Refusal::CidGap { expected: 4 }));
}

#[test]
fn what_is_erased_keeps_its_place_and_nothing_else() {
    let mut world = with_talk();
    let facts = vec![("email".to_owned(), "ada@example.org".to_owned())];
    world.apply(Command::About { session: session(1), about: About { facts, ..About::default() } });
    world.apply(say(1, ADA, 1, "secret one"));
    act(&mut world, ADA, Act::Note { text: "secret two".into(), mentions: Vec::new() });
    act(&mut world, ADA, Act::Attribute { whose: Whose::Visitor, name: "plan".into(), value: Some("secret".into()) });
    assert_eq!(world.reply(erase(9, true)), Reply::Rejected(Refusal::Changed), "a conversation is open");
    world.checkpoint();
    world.apply(close(1, ADA));
    let head = view(&world).head;
    assert!(matches!(world.reply(erase(u64::MAX, true)), Reply::Sent { seq, .. } if seq == head));
    // The same again finds nothing to do but the word that it was done.
    for _ in 0..2 {
        world.apply(erase(head, true));
    }
    assert_eq!(view(&world).head, head + 1);
    let now = bodies(&world);
    assert!(now[..head as usize].iter().all(|body| *body == EventBody::Gone));
    assert_eq!(now[head as usize..], [EventBody::Erased { upto: head }]);
    let known = view(&world);
    assert!(known.facts.is_empty() && known.attributes.is_empty() && known.tokens.is_empty());
    world.chill();
    for (key, value) in &world.rows.map {
        for secret in [&b"secret"[..], b"ada@example", b"hello"] {
            assert!(!value.windows(secret.len()).any(|part| part == secret), "{key:?} still holds it");
        }
    }
    // What was sent once is known for ever, and numbers go on.
    assert!(matches!(world.reply(say(1, Party::Visitor, 1, "hello")), Reply::Sent { seq: 1, dup: true, .. }));
    assert!(
        matches!(world.reply(say(1, Party::Visitor, 2, "new")), Reply::Sent { seq, dup: false, .. } if seq == head + 2)
    );
    let feed = world.shard.feed(&world.rows, SITE, 0, 1_000, usize::MAX).unwrap();
    assert_eq!(feed.items.iter().filter(|item| item.event.body == EventBody::Gone).count() as u64, head);
}

#[test]
fn a_long_session_is_erased_in_bounded_steps_and_only_what_is_old() {
    let mut world = with_talk();
    let count = ERASE_EVENTS_MAX as u64 + 500;
    for n in 2..=count {
        world.apply(say(1, Party::Visitor, n, "old"));
    }
    let cutoff = world.now_ms + 1;
    world.now_ms += 1_000;
    world.apply(say(1, Party::Visitor, count + 1, "new"));
    let erasable = |world: &World, before| world.shard.erasable(&world.rows, session(1), before).unwrap();
    assert_eq!(erasable(&world, cutoff), None, "a conversation is open");
    world.apply(close(1, Party::Visitor));
    world.chill();
    let mut steps = 0;
    while let Some(upto) = erasable(&world, cutoff) {
        assert!(matches!(world.reply(erase(upto, false)), Reply::Sent { .. }));
        steps += 1;
        assert!(steps < 10, "it does not end");
    }
    assert_eq!(steps, 2);
    let now = bodies(&world);
    let texts: Vec<&EventBody> = now.iter().filter(|body| matches!(body, EventBody::Message { .. })).collect();
    assert!(matches!(texts[..], [EventBody::Message { text, .. }] if text == "new"));
    // Words about what was erased do not keep it going for ever.
    let later = world.now_ms + 1_000_000;
    world.now_ms = later;
    let upto = erasable(&world, later).unwrap();
    world.apply(erase(upto, false));
    assert_eq!(erasable(&world, later * 2), None);
}

#[test]
fn a_proof_opens_a_session_once_and_again_only_while_its_answer_may_be_lost() {
    let mut world = World::alone();
    let identify = |token: u8, proof: u8, until_ms| {
        let (token, proof) = ([token; 32], [proof; 32]);
        Command::Identify { session: session(1), site: SITE, visitor: VisitorId(1), token, proof, until_ms }
    };
    let is_open = |reply: Reply| matches!(reply, Reply::Opened { .. } | Reply::Done);
    assert!(is_open(world.reply(identify(1, 1, 900_000))));
    assert!(is_open(world.reply(identify(2, 1, 900_000))), "the first answer was lost");
    world.chill();
    world.now_ms += PROOF_AGAIN_MS + 1;
    assert_eq!(world.reply(identify(3, 1, 900_000)), Reply::Rejected(Refusal::ProofUsed));
    assert!(is_open(world.reply(identify(2, 1, 900_000))), "the same command again");
    assert!(is_open(world.reply(identify(4, 2, 900_000))));
    assert_eq!(view(&world).tokens, [[1; 32], [2; 32], [4; 32]]);
    assert!(view(&world).is_identified);
    world.apply(Command::Logout { session: session(1), token: [2; 32] });
    world.apply(Command::Logout { session: session(1), token: [2; 32] });
    assert_eq!(view(&world).tokens, [[1; 32], [4; 32]]);
    // As many as there may be, of which one is over.
    for proof in 3..40 {
        world.apply(identify(4, proof, u64::MAX));
    }
    world.now_ms = 900_001;
    assert_eq!(world.reply(identify(9, 39, u64::MAX)), Reply::Rejected(Refusal::ProofUsed));
}
