//! Owns the tests of who writes to a visitor first: what triggers say, and invitations. Does not test the rules of triggers: nodes
//! judge them.

use super::world::*;
use crate::limits::{DECLINED_MS, INVITES_PER_DAY_MAX, PROMPT_ANSWER_MS, PROMPT_PAUSE_MS};
use crate::{Effect, Refusal, Reply};
use proto::act::{Act, Again, Prompt};
use proto::command::{Command, EventBody, Party};
use proto::desk::{SeatRules, TeamRules};
use proto::ids::{AgentId, SiteId, TeamId};
use proto::shelf::ItemKind;

const MINUTE_MS: u64 = 60_000;
const TEAM: TeamId = TeamId(2);

fn says(trigger: &str, again: Again, visit: u64) -> Command {
    let (trigger, text) = (trigger.to_owned(), "May I help?".to_owned());
    let prompt = Prompt { trigger, name: Some("Ada".into()), text, again, visit, team: Some(TEAM) };
    Command::Prompt { session: session(1), site: SITE, prompt: Box::new(prompt) }
}

fn act(party: Party, cid: &str, act: Act) -> Command {
    let (device, cid) = ("d".to_owned(), cid.to_owned());
    Command::Act { session: session(1), site: Some(SITE), from: party, device, n: 0, cid, act }
}

fn invite(world: &World, agent: u64, cid: &str) -> Command {
    let until_ms = world.now_ms + 10 * MINUTE_MS;
    act(Party::Agent(AgentId(agent)), cid, Act::Invite { text: "May I help?".into(), until_ms })
}

fn visitor_says(cid: &str) -> Command {
    say_cid(1, Party::Visitor, cid, "yes")
}

fn head(world: &World) -> u64 {
    world.shard.session(&world.rows, session(1)).unwrap().unwrap().head
}

/// Agents 4 and 5 are there.
fn begun() -> World {
    let mut world = World::alone();
    for command in [open(1), login(4), presence(4, true), login(5), presence(5, true)] {
        world.apply(command);
    }
    world.settle();
    world
}

/// Whose the open conversation is.
fn agent(world: &World) -> Option<u64> {
    world.shard.session(&world.rows, session(1)).unwrap().unwrap().open?.agent.map(|agent| agent.0)
}

/// From where the agent follows it.
fn first_seq(world: &World) -> Option<u64> {
    world.shard.session(&world.rows, session(1)).unwrap().unwrap().open.map(|open| open.first_seq)
}

fn refused(refusal: Refusal) -> Reply {
    Reply::Rejected(refusal)
}

#[test]
fn a_trigger_speaks_in_its_place_and_opens_no_conversation() {
    let mut world = begun();
    let outcome = world.apply(says("shoes", Again::Never, 1));
    assert_eq!((outcome.reply, event_count(&outcome.effects)), (Reply::Done, 1));
    let Some(Effect::Event { event, .. }) =
        outcome.effects.iter().find(|effect| matches!(effect, Effect::Event { .. }))
    else {
        panic!("it tells nobody");
    };
    let said = Act::Prompt { trigger: "shoes".into(), name: Some("Ada".into()), text: "May I help?".into() };
    assert!(matches!(&event.body, EventBody::Act { from: Party::System, act, .. } if *act == said));
    world.settle();
    let view = world.shard.session(&world.rows, session(1)).unwrap().unwrap();
    assert_eq!((view.head, view.open, view.conversations), (1, None, 0));
    assert_eq!(world.shard.waiting(&world.rows, SITE, 9).unwrap().1, 0);
    // The visitor's answer opens it behind that, as ever; its agent follows from what is answered.
    assert!(matches!(world.reply(visitor_says("c1")), Reply::Sent { seq: 2, .. }));
    world.settle();
    assert!(agent(&world).is_some());
    assert_eq!(first_seq(&world), Some(1));
    // The next conversation answers nothing.
    world.apply(close(1, Party::Visitor));
    world.apply(visitor_says("c2"));
    world.settle();
    assert_eq!(first_seq(&world), Some(5));
}

#[test]
fn a_trigger_speaks_as_often_as_it_may_whatever_is_in_memory() {
    for (again, later_visit, later_day) in
        [(Again::Never, 1, 1), (Again::NextVisit, 2, 2), (Again::After { ms: 1_440 * MINUTE_MS }, 1, 2)]
    {
        let mut world = begun();
        for _ in 0..3 {
            assert_eq!(world.reply(says("shoes", again, 1)), Reply::Done);
            world.chill();
            assert_eq!(head(&world), 1, "{again:?}");
        }
        world.now_ms += PROMPT_PAUSE_MS;
        world.apply(says("shoes", again, 2));
        assert_eq!(head(&world), later_visit, "{again:?}");
        // A page that was left open says an earlier visit.
        world.apply(says("shoes", again, 1));
        assert_eq!(head(&world), later_visit, "{again:?}");
        world.now_ms += 1_441 * MINUTE_MS;
        world.apply(says("shoes", again, 2));
        assert_eq!(head(&world), later_day, "{again:?}");
    }
}

#[test]
fn nothing_is_said_by_triggers_that_is_not_their_turn() {
    let mut world = begun();
    world.apply(says("shoes", Again::Never, 1));
    assert_eq!(world.reply(says("hats", Again::Never, 1)), refused(Refusal::TooOften));
    world.now_ms += PROMPT_PAUSE_MS;
    let foreign = |command| match command {
        Command::Prompt { session, prompt, .. } => Command::Prompt { session, site: SiteId(9), prompt },
        other => other,
    };
    assert_eq!(world.reply(foreign(says("hats", Again::Never, 1))), refused(Refusal::SiteMismatch));
    assert_eq!(world.reply(says("", Again::Never, 1)), refused(Refusal::ActInvalid));
    world.apply(visitor_says("c1"));
    assert_eq!(world.reply(says("hats", Again::Never, 1)), refused(Refusal::Talking));
    world.apply(close(1, Party::Visitor));
    world.apply(Command::Block { session: session(1), until_ms: Some(u64::MAX) });
    assert_eq!(world.reply(says("hats", Again::Never, 1)), refused(Refusal::Blocked));
    // Nobody sends it as an act of their own.
    let forged = Act::Prompt { trigger: "hats".into(), name: None, text: "x".into() };
    assert_eq!(world.reply(act(Party::System, "c2", forged)), refused(Refusal::ActInvalid));
}

#[test]
fn it_is_counted_how_often_a_trigger_spoke_and_was_answered() {
    let mut world = begun();
    let shelve = |text: Option<&str>| Command::Shelve {
        site: SITE,
        kind: ItemKind::Trigger,
        name: "shoes".into(),
        text: text.map(str::to_owned),
    };
    let counts = |world: &World| {
        let items = world.shard.items(&world.rows, SITE, ItemKind::TriggerCount).unwrap();
        items.into_iter().map(|item| item.text).collect::<Vec<_>>()
    };
    world.apply(says("shoes", Again::NextVisit, 1));
    world.settle();
    assert!(counts(&world).is_empty(), "there is no such trigger");
    world.apply(shelve(Some("{}")));
    for visit in 2..5 {
        world.now_ms += PROMPT_PAUSE_MS;
        world.apply(says("shoes", Again::NextVisit, visit));
        world.apply(says("shoes", Again::NextVisit, visit));
        world.settle();
    }
    assert_eq!(counts(&world), ["[3,0]"]);
    world.apply(visitor_says("c1"));
    world.apply(visitor_says("c2"));
    world.apply(close(1, Party::Visitor));
    world.apply(visitor_says("c3"));
    world.settle();
    assert_eq!(counts(&world), ["[3,1]"]);
    // Who writes a day later does not answer.
    world.apply(close(1, Party::Visitor));
    world.now_ms += PROMPT_PAUSE_MS;
    world.apply(says("shoes", Again::NextVisit, 5));
    world.now_ms += PROMPT_ANSWER_MS;
    world.apply(visitor_says("c4"));
    world.settle();
    world.chill();
    assert_eq!(counts(&world), ["[4,1]"]);
}

#[test]
fn an_answer_is_for_the_team_of_the_trigger_unless_the_visitor_chose() {
    let mut world = begun();
    let rules = TeamRules { name: "shoes".into(), ..TeamRules::default() };
    world.apply(Command::PutTeam { site: SITE, team: TEAM, rules: Some(rules) });
    let rules = SeatRules { teams: vec![TEAM], capacity: 9, channels: Vec::new(), skills: Vec::new() };
    world.apply(Command::PutSeat { site: SITE, agent: AgentId(5), rules });
    world.apply(says("shoes", Again::Never, 1));
    world.apply(visitor_says("c1"));
    world.settle();
    assert_eq!(agent(&world), Some(5));
}

#[test]
fn one_of_two_agents_invites_and_the_visitors_answer_is_theirs() {
    let mut world = begun();
    let (first, second) = (invite(&world, 5, "i5"), invite(&world, 4, "i4"));
    assert!(matches!(world.reply(first.clone()), Reply::Sent { seq: 1, dup: false, .. }));
    assert_eq!(world.reply(second.clone()), refused(Refusal::Invited));
    // Said again, by whoever did not hear the answer.
    world.chill();
    assert!(matches!(world.reply(first), Reply::Sent { seq: 1, dup: true, .. }));
    assert_eq!(world.reply(second.clone()), refused(Refusal::Invited));
    assert_eq!(world.reply(says("shoes", Again::Never, 1)), refused(Refusal::Invited));
    world.settle();
    assert_eq!((agent(&world), head(&world)), (None, 1));
    world.apply(visitor_says("c1"));
    world.settle();
    assert_eq!(agent(&world), Some(5));
    assert_eq!(world.reply(invite(&world, 4, "i4b")), refused(Refusal::Talking));
    // What was refused stays refused, when it would be allowed.
    world.apply(close(1, Party::Visitor));
    assert_eq!(world.reply(second), refused(Refusal::Invited));
}

#[test]
fn the_answer_goes_the_usual_way_when_the_inviter_is_gone_or_it_comes_too_late() {
    for (gone, late_ms) in [(true, 0), (false, 10 * MINUTE_MS)] {
        let mut world = begun();
        // Agent 5 has served somebody: the usual way leads to 4.
        world.apply(open(2));
        let to_five = Command::Reassign { session: session(2), agent: AgentId(5) };
        world.apply(say_cid(2, Party::Visitor, "c", "hello"));
        world.settle();
        world.apply(to_five);
        world.settle();
        world.apply(invite(&world, 5, "i5"));
        if gone {
            world.apply(presence(5, false));
            world.settle();
        }
        world.now_ms += late_ms;
        world.apply(visitor_says("c1"));
        world.settle();
        assert_eq!(agent(&world), Some(4), "gone: {gone}");
    }
}

#[test]
fn a_visitor_who_declines_is_left_alone_for_a_while_and_nobody_is_invited_all_the_time() {
    let mut world = begun();
    world.apply(invite(&world, 5, "i1"));
    let decline = |seq| Act::Decline { seq };
    assert_eq!(world.reply(act(Party::Agent(AgentId(4)), "d0", decline(1))), refused(Refusal::NotYours));
    assert_eq!(world.reply(act(Party::Visitor, "d1", decline(9))), refused(Refusal::TargetInvalid));
    assert!(matches!(world.reply(act(Party::Visitor, "d2", decline(1))), Reply::Sent { seq: 2, .. }));
    assert_eq!(world.reply(act(Party::Visitor, "d3", decline(1))), refused(Refusal::TargetInvalid));
    assert_eq!(world.reply(invite(&world, 4, "i2")), refused(Refusal::TooOften));
    world.now_ms += DECLINED_MS;
    for n in 1..INVITES_PER_DAY_MAX {
        assert!(matches!(world.reply(invite(&world, 4, &format!("j{n}"))), Reply::Sent { .. }), "{n}");
        world.now_ms += 11 * MINUTE_MS;
    }
    assert_eq!(world.reply(invite(&world, 4, "i3")), refused(Refusal::TooOften));
    let late = head(&world);
    assert_eq!(world.reply(act(Party::Visitor, "d4", decline(late))), refused(Refusal::TooLate));
    world.now_ms += 1_440 * MINUTE_MS;
    assert!(matches!(world.reply(invite(&world, 4, "i4")), Reply::Sent { .. }));
    let foreign = Command::Act {
        session: session(1),
        site: Some(SiteId(9)),
        from: Party::Agent(AgentId(4)),
        device: "d".into(),
        n: 0,
        cid: "i5".into(),
        act: Act::Invite { text: "hello".into(), until_ms: world.now_ms + MINUTE_MS },
    };
    assert_eq!(world.reply(foreign), refused(Refusal::NotYours));
}

#[test]
fn what_was_said_before_a_conversation_that_was_opened_again_is_answered_by_nothing_behind_it() {
    for by_agent in [true, false] {
        let mut world = begun();
        world.apply(visitor_says("c1"));
        world.settle();
        world.apply(close(1, Party::Visitor));
        let first = if by_agent { invite(&world, 5, "i5") } else { says("shoes", Again::Never, 1) };
        world.apply(first);
        let reopened = act(Party::Agent(AgentId(4)), "r", Act::Reopen { conversation: 1 });
        assert!(matches!(world.reply(reopened), Reply::Sent { .. }));
        world.settle();
        world.apply(close(1, Party::Visitor));
        let seq = head(&world) + 1;
        world.apply(visitor_says("c2"));
        world.settle();
        assert_eq!(first_seq(&world), Some(seq), "by an agent: {by_agent}");
    }
}

#[test]
fn what_was_said_first_is_forgotten_with_the_visitor() {
    let mut world = begun();
    world.apply(says("shoes", Again::Never, 1));
    world.chill();
    assert_eq!(world.rows.count(b'e'), 1);
    world.apply(Command::Erase { session: session(1), upto: u64::MAX, forget: true });
    world.chill();
    assert_eq!(world.rows.count(b'e'), 0);
}
