//! Owns the tests of conversations that leave an agent before they end: to a colleague, to a team, back to the queue, by the agent
//! or because the agent does not come back. One shard plays all parts. Does not test mails that come late: `mails` does.

use super::world::*;
use crate::desk::SEAT_DEFAULT;
use crate::limits::{ASIDE_MS_MAX, REQUEUE_MS};
use crate::{Refusal, Reply};
use proto::command::{Command, EventBody, Party};
use proto::desk::{About, Channel, SeatRules, SeatState, SiteRules, TeamRules};
use proto::ids::{AgentId, TeamId};

const CARE: TeamId = TeamId(2);

/// A visitor's conversation is with agent 1; agents 1 to `agents` are online, with room for one each.
fn with_talk(agents: u64) -> World {
    let mut world = World::alone();
    for agent in 1..=agents {
        world.apply(login(agent));
        let rules = SeatRules { capacity: 1, ..SEAT_DEFAULT };
        world.apply(Command::PutSeat { site: SITE, agent: AgentId(agent), rules });
    }
    world.apply(presence(1, true));
    world.settle();
    come(&mut world, 1);
    assert_eq!(holder(&world, 1), Some(1));
    for agent in 2..=agents {
        world.apply(presence(agent, true));
    }
    world.settle();
    world
}

fn come(world: &mut World, id: u128) {
    world.apply(open(id));
    world.apply(say(id, Party::Visitor, 1, "hello"));
    world.settle();
}

fn holder(world: &World, id: u128) -> Option<u64> {
    let view = world.shard.session(&world.rows, session(id)).unwrap().unwrap();
    view.open.and_then(|open| open.agent).map(|agent| agent.0)
}

fn first_seq(world: &World, id: u128) -> u64 {
    world.shard.session(&world.rows, session(id)).unwrap().unwrap().open.unwrap().first_seq
}

fn counts(world: &World) -> Vec<(u64, u32)> {
    let desk = world.shard.desk(&world.rows, SITE).unwrap();
    desk.seats.into_iter().map(|seat| (seat.agent.0, seat.open)).collect()
}

fn wait(world: &mut World, ms: u64) {
    world.now_ms += ms;
    world.apply(Command::Tick);
    world.settle();
}

fn release(world: &mut World, by: Party, seen: u64, team: Option<TeamId>) -> Reply {
    let reply = world.reply(Command::Release { session: session(1), by, seen, team });
    world.settle();
    reply
}

fn hand(world: &mut World, from: u64, to: u64, part: u64) -> Reply {
    let (agent, to) = (AgentId(from), AgentId(to));
    let reply = world.reply(Command::Hand { site: SITE, agent, session: session(1), conversation: 1, part, to });
    world.settle();
    reply
}

#[test]
fn who_gives_a_conversation_back_is_asked_last_and_it_goes_to_the_team_that_was_named() {
    let mut world = with_talk(2);
    let me = Party::Agent(AgentId(1));
    assert_eq!(release(&mut world, Party::Agent(AgentId(2)), 2, None), Reply::Rejected(Refusal::NotYours));
    assert_eq!(release(&mut world, me, 2, None), Reply::Done);
    assert_eq!((holder(&world, 1), counts(&world)), (Some(2), vec![(1, 0), (2, 1)]));
    // Behind the event that says that it waited: that one would end the subscription.
    assert_eq!(first_seq(&world, 1), 4);
    assert_eq!(release(&mut world, me, 2, None), Reply::Done, "said again");
    assert_eq!(release(&mut world, me, 4, None), Reply::Rejected(Refusal::NotYours));
    assert_eq!(holder(&world, 1), Some(2));

    // To a team: who is not of it does not get it, whoever has room.
    let rules = Some(TeamRules { name: "care".into(), ..TeamRules::default() });
    world.apply(Command::PutTeam { site: SITE, team: CARE, rules });
    assert_eq!(release(&mut world, Party::Agent(AgentId(2)), 5, Some(CARE)), Reply::Done);
    assert_eq!((holder(&world, 1), counts(&world)), (None, vec![(1, 0), (2, 0)]));
    let rules = SeatRules { capacity: 1, teams: vec![CARE], ..SEAT_DEFAULT };
    world.apply(Command::PutSeat { site: SITE, agent: AgentId(2), rules });
    world.settle();
    assert_eq!(holder(&world, 1), Some(2));
}

#[test]
fn the_only_agent_gets_back_what_they_gave_back_after_a_while() {
    let mut world = with_talk(1);
    assert_eq!(release(&mut world, Party::Agent(AgentId(1)), 2, None), Reply::Done);
    assert_eq!((holder(&world, 1), counts(&world)), (None, vec![(1, 0)]));
    wait(&mut world, ASIDE_MS_MAX);
    assert_eq!((holder(&world, 1), counts(&world)), (Some(1), vec![(1, 1)]));
    assert_eq!(first_seq(&world, 1), 4);
    assert_eq!(world.reply(say(1, Party::Agent(AgentId(1)), 1, "again")), sent(5, world.now_ms, false));
}

#[test]
fn a_colleague_gets_a_conversation_only_with_room_and_only_once() {
    let mut world = with_talk(3);
    come(&mut world, 2);
    assert_eq!(holder(&world, 2), Some(2));
    assert_eq!(hand(&mut world, 1, 2, 0), Reply::Rejected(Refusal::SeatFull));
    assert_eq!(hand(&mut world, 1, 9, 0), Reply::Rejected(Refusal::NotThere));
    assert_eq!(hand(&mut world, 2, 3, 0), Reply::Rejected(Refusal::OfferGone), "it is not theirs to give");
    assert_eq!(hand(&mut world, 1, 3, 0), Reply::Done);
    assert_eq!(hand(&mut world, 1, 3, 0), Reply::Done, "said again");
    assert_eq!((holder(&world, 1), counts(&world)), (Some(3), vec![(1, 0), (2, 1), (3, 1)]));
    // It comes back, and the first command comes once more.
    assert_eq!(hand(&mut world, 3, 1, 1), Reply::Done);
    assert_eq!(hand(&mut world, 1, 3, 0), Reply::Rejected(Refusal::OfferGone), "that was for another part");
    assert_eq!(hand(&mut world, 1, 3, 2), Reply::Done);
    let page = world.shard.history(&world.rows, session(1), crate::HistoryRange::After(0), 9, 9_999).unwrap().unwrap();
    let bodies: Vec<&EventBody> = page.events.iter().map(|event| &event.body).collect();
    assert!(
        matches!(bodies[1..3], [EventBody::Assigned { .. }, EventBody::Assigned { agent: AgentId(3), .. }]),
        "{bodies:?}"
    );
    world.apply(say(1, Party::Visitor, 2, "who are you?"));
    assert_eq!(world.reply(say(1, Party::Agent(AgentId(1)), 1, "me")), Reply::Rejected(Refusal::NotYours));
}

#[test]
fn an_agent_who_does_not_come_back_loses_conversations_and_one_who_does_keeps_them() {
    let mut world = with_talk(2);
    world.apply(presence(2, false));
    world.apply(presence(1, false));
    world.settle();
    wait(&mut world, REQUEUE_MS - 1_000);
    world.apply(presence(1, true));
    world.settle();
    wait(&mut world, REQUEUE_MS);
    assert_eq!(holder(&world, 1), Some(1), "back in time");
    world.apply(presence(1, false));
    world.settle();
    world.chill();
    wait(&mut world, REQUEUE_MS);
    assert_eq!((holder(&world, 1), counts(&world)), (None, vec![(1, 0), (2, 0)]));
    world.apply(presence(2, true));
    world.settle();
    assert_eq!(holder(&world, 1), Some(2));
    // As the site likes: never.
    assert_eq!(world.reply(Command::PutSite { site: SITE, rules: SiteRules::default() }), Reply::Done);
    world.apply(presence(2, false));
    world.settle();
    wait(&mut world, 100 * REQUEUE_MS);
    assert_eq!(holder(&world, 1), Some(2));
    let rules = SiteRules { requeue_ms: 1_000, ..SiteRules::default() };
    assert_eq!(world.reply(Command::PutSite { site: SITE, rules }), Reply::Done);
    wait(&mut world, 1_000);
    assert_eq!(holder(&world, 1), None, "from now on");
}

#[test]
fn what_a_page_says_of_its_visitor_is_for_the_next_conversation_and_has_limits() {
    let mut world = with_talk(1);
    let about = |facts: &[(&str, &str)]| About {
        team: Some(CARE),
        facts: facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..About::default()
    };
    let said = |about| Command::About { session: session(1), about };
    for bad in [
        about(&[("b", "1"), ("a", "2")]),
        about(&[("a", "1"), ("a", "2")]),
        about(&[("", "1")]),
        about(&[("a", "line\nbreak")]),
        about(&[("a", &"x".repeat(1_025))]),
    ] {
        assert!(matches!(world.reply(said(bad)), Reply::Rejected(Refusal::RulesInvalid(_))));
    }
    let rules = Some(TeamRules { name: "care".into(), ..TeamRules::default() });
    world.apply(Command::PutTeam { site: SITE, team: CARE, rules });
    assert_eq!(world.reply(said(about(&[("page", "/shop")]))), Reply::Done);
    world.chill();
    world.settle();
    assert_eq!(holder(&world, 1), Some(1), "this one stays where it is");
    world.apply(close(1, Party::Visitor));
    world.apply(say(1, Party::Visitor, 2, "again"));
    world.settle();
    assert_eq!(holder(&world, 1), None, "agent 1 is not of that team");
    assert_eq!(world.shard.waiting(&world.rows, SITE, 9).unwrap().0[0].team, CARE);
    world.apply(Command::AgentState { agent: AgentId(1), state: SeatState::Busy });
    world.settle();
}

#[test]
fn a_seat_has_room_for_so_many_of_the_channel_by_which_a_visitor_writes() {
    let mut world = with_talk(1);
    let rules = SeatRules { capacity: 9, channels: vec![(Channel::APP, 0)], ..SEAT_DEFAULT };
    world.apply(Command::PutSeat { site: SITE, agent: AgentId(1), rules });
    world.apply(close(1, Party::Visitor));
    world.settle();
    let said = |channel| Command::About { session: session(1), about: About { channel, ..About::default() } };
    assert!(matches!(world.reply(said(Channel(200))), Reply::Rejected(Refusal::RulesInvalid(_))));
    assert_eq!(world.reply(said(Channel::APP)), Reply::Done);
    world.chill();
    assert_eq!(world.shard.session(&world.rows, session(1)).unwrap().unwrap().channel, Channel::APP);
    world.apply(say(1, Party::Visitor, 2, "from my phone"));
    world.settle();
    assert_eq!(holder(&world, 1), None, "the seat has room, but none for apps");
    world.apply(close(1, Party::Visitor));
    assert_eq!(world.reply(said(Channel::WEB)), Reply::Done);
    world.apply(say(1, Party::Visitor, 3, "from the page"));
    world.settle();
    assert_eq!(holder(&world, 1), Some(1));
}
