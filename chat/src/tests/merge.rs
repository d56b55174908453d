//! Owns the tests of sessions that become one when a visitor says who they are. Does not test how they prove it.

use super::world::*;
use crate::{HistoryRange, Refusal, Reply, SessionView};
use proto::act::{Act, Whose};
use proto::command::{Command, EventBody, Party};
use proto::desk::About;
use proto::ids::{AgentId, SessionId, VisitorId};

const ADA: Party = Party::Agent(AgentId(4));
/// The session that the visitor has under their name.
const OWN: SessionId = SessionId(2);
const TOKEN: [u8; 32] = [1; 32];

fn merge(token: [u8; 32]) -> Command {
    Command::Merge { session: session(1), token, into: OWN }
}

fn identify(id: u128) -> Command {
    let (token, proof) = ([9; 32], [id as u8; 32]);
    Command::Identify { session: session(id), site: SITE, visitor: VisitorId(id), token, proof, until_ms: u64::MAX }
}

fn view(world: &World, id: u128) -> SessionView {
    world.shard.session(&world.rows, session(id)).unwrap().unwrap()
}

fn bodies(world: &World, id: u128) -> Vec<EventBody> {
    let page = world.shard.history(&world.rows, session(id), HistoryRange::After(0), usize::MAX, usize::MAX);
    page.unwrap().unwrap().events.iter().map(|event| event.body.clone()).collect()
}

/// Session 1 is somebody's who talks with Ada; session 2 has a name.
fn with_talk() -> World {
    let mut world = World::alone();
    for id in [1, 3] {
        let (site, visitor) = (SITE, VisitorId(id));
        world.apply(Command::OpenSession { session: session(id), site, visitor, token: TOKEN });
    }
    for command in [login(4), presence(4, true), say(1, Party::Visitor, 1, "hello"), identify(2)] {
        world.apply(command);
    }
    world.settle();
    world
}

#[test]
fn what_was_open_goes_on_in_the_session_of_the_name_with_the_agent_who_had_it() {
    let mut world = with_talk();
    let attribute = |world: &mut World, id, name: &str, value: &str| {
        let act = Act::Attribute { whose: Whose::Visitor, name: name.into(), value: Some(value.into()) };
        let (device, cid) = ("d".to_owned(), format!("{name} {id}"));
        world.apply(Command::Act { session: session(id), site: Some(SITE), from: ADA, device, n: 0, cid, act });
    };
    attribute(&mut world, 1, "plan", "free");
    attribute(&mut world, 1, "size", "9");
    attribute(&mut world, 2, "plan", "pro");
    let facts = vec![("page".into(), "/shop".into())];
    let about = About { facts, ..About::default() };
    world.apply(Command::About { session: session(1), about: about.clone() });
    let head = view(&world, 1).head;
    assert_eq!(view(&world, 1).open.unwrap().agent, Some(AgentId(4)));
    world.chill();
    assert_eq!(world.reply(merge(TOKEN)), Reply::Done);
    world.chill();
    assert_eq!(world.reply(merge(TOKEN)), Reply::Done, "again");
    world.settle();
    let (before, own) = (view(&world, 1), view(&world, 2));
    assert_eq!((before.open, before.merged_into, before.head), (None, Some(OWN), head + 1));
    assert_eq!((own.merged.as_slice(), own.open.unwrap().agent), (&[session(1)][..], Some(AgentId(4))));
    let of_visitor: Vec<_> = own.attributes.iter().map(|(_, name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(of_visitor, [("plan", "pro"), ("size", "9")], "what was known of the name goes before");
    assert_eq!(own.facts, about.facts);
    let told = bodies(&world, 2);
    let is_merge = |body: &&EventBody| matches!(body, EventBody::Act { act: Act::Merge { session: earlier, upto }, .. } if (*earlier, *upto) == (session(1), head + 1));
    assert_eq!(told.iter().filter(is_merge).count(), 1, "{told:?}");
    assert!(matches!(bodies(&world, 1).last(), Some(EventBody::Closed { reason, .. }) if reason == "merged"));
    let agent = world.shard.agent(&world.rows, AgentId(4)).unwrap().unwrap();
    assert_eq!(agent.open, [(OWN, 1)], "the seat is free of the other one");
}

#[test]
fn only_who_holds_the_token_of_a_session_without_a_name_merges_it_and_once() {
    let mut world = with_talk();
    let other = SessionId(3);
    assert_eq!(world.reply(merge([7; 32])), Reply::Rejected(Refusal::NotYours));
    let unknown = Command::Merge { session: session(8), token: TOKEN, into: OWN };
    assert_eq!(world.reply(unknown), Reply::Rejected(Refusal::UnknownSession));
    let named = Command::Merge { session: OWN, token: [9; 32], into: other };
    assert_eq!(world.reply(named), Reply::Rejected(Refusal::NotYours));
    let itself = Command::Merge { session: session(1), token: TOKEN, into: session(1) };
    assert_eq!(world.reply(itself), Reply::Rejected(Refusal::NotYours));
    let silent = Command::Merge { session: other, token: TOKEN, into: OWN };
    assert_eq!(world.reply(silent), Reply::Done, "nothing was said there");
    assert_eq!(view(&world, 3).merged_into, None);
    assert_eq!(world.reply(merge(TOKEN)), Reply::Done);
    let again = Command::Merge { session: session(1), token: TOKEN, into: other };
    assert_eq!(world.reply(again), Reply::Rejected(Refusal::Changed));
    world.settle();
    assert_eq!(view(&world, 2).merged, [session(1)]);
    // A tab that did not hear of it is still heard.
    assert!(matches!(world.reply(say(1, Party::Visitor, 2, "still here")), Reply::Sent { .. }));
    let by_hand = Act::Merge { session: other, upto: 1 };
    let (device, cid) = ("d".to_owned(), "c".to_owned());
    let act = Command::Act { session: OWN, site: Some(SITE), from: ADA, device, n: 0, cid, act: by_hand };
    assert_eq!(world.reply(act), Reply::Rejected(Refusal::NotYours));
}

#[test]
fn a_conversation_that_waits_keeps_waiting_under_the_name_and_one_that_is_open_there_goes_on() {
    let mut world = with_talk();
    world.apply(close(1, ADA));
    world.apply(presence(4, false));
    world.settle();
    world.apply(say(1, Party::Visitor, 2, "anybody?"));
    world.apply(say(2, Party::Visitor, 1, "it is me"));
    world.settle();
    world.apply(merge(TOKEN));
    world.settle();
    let own = view(&world, 2);
    assert_eq!((own.conversations, own.open.map(|open| open.number)), (1, Some(1)), "one is enough");
    assert_eq!(world.shard.desk(&world.rows, SITE).unwrap().queue_len, 1);
    world.apply(presence(4, true));
    world.settle();
    assert_eq!(view(&world, 2).open.unwrap().agent, Some(AgentId(4)));
}

#[test]
fn who_was_not_heard_before_is_not_heard_under_the_name_either() {
    let mut world = with_talk();
    world.apply(Command::Block { session: session(1), until_ms: Some(1_000_000) });
    world.apply(merge(TOKEN));
    world.settle();
    let own = view(&world, 2);
    assert_eq!((own.blocked_ms, own.open), (Some(1_000_000), None));
    assert_eq!(world.reply(say(2, Party::Visitor, 1, "me again")), Reply::Rejected(Refusal::Blocked));
}
