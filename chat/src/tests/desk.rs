//! Owns the tests of assignment and the waiting queue on one shard. Does not test delays between shards.

use super::world::*;
use crate::limits::ASSIGN_PER_COMMAND_MAX;
use crate::{Reply, Shard};
use proto::command::{Command, Mail, Party};
use proto::desk::SeatState;
use proto::ids::{AgentId, ShardId};

const DESK: ShardId = ShardId(77);

/// Gives the desk a mail of a shard that nobody else plays.
fn tell(world: &mut World, message: Mail) -> crate::Outcome {
    let seq = world.shard.inbox_seen(DESK) + 1;
    world.apply(Command::Inbox { from: DESK, seq, message })
}

fn want(id: u128, conversation: u64) -> Mail {
    Mail::Want { site: SITE, session: session(id), conversation, ask: Box::default() }
}

fn done(id: u128, conversation: u64, agent: Option<u64>) -> Mail {
    Mail::Done { site: SITE, session: session(id), conversation, agent: agent.map(AgentId) }
}

fn state(agent: u64, online: bool) -> Mail {
    let state = if online { SeatState::Online } else { SeatState::Offline };
    Mail::AgentState { site: SITE, agent: AgentId(agent), state }
}

/// Who got what since the last call, in order.
fn assignments(world: &mut World) -> Vec<(u128, u64)> {
    let mails = waiting_mails(world, ONE);
    let head = world.shard.outbox_targets().first().map_or(0, |(_, _, head)| *head);
    world.apply(Command::OutboxAcked { to: ONE, upto: head });
    let given = |mail| match mail {
        Mail::Assign { session, agent, .. } => Some((session.0, agent.0)),
        _ => None,
    };
    mails.into_iter().filter_map(given).collect()
}

fn counts(world: &World) -> (Vec<(u64, u32)>, u64) {
    let view = world.shard.desk(&world.rows, SITE).unwrap();
    (view.seats.iter().map(|seat| (seat.agent.0, seat.open)).collect(), view.queue_len)
}

#[test]
fn the_idlest_agent_gets_the_next_conversation_and_ties_go_round() {
    let mut world = World::alone();
    for agent in [3, 1, 2] {
        tell(&mut world, state(agent, true));
    }
    for id in 1..=5 {
        tell(&mut world, want(id, 1));
    }
    assert_eq!(assignments(&mut world), [(1, 1), (2, 2), (3, 3), (4, 1), (5, 2)]);
    tell(&mut world, done(1, 1, Some(1)));
    // Agents 1 and 3 have one each: 3 has waited longer for a new one.
    tell(&mut world, want(6, 1));
    tell(&mut world, want(7, 1));
    assert_eq!(assignments(&mut world), [(6, 3), (7, 1)]);
    assert_eq!(world.rows.count(b'Q'), 0);
}

#[test]
fn an_agent_who_went_gets_nothing_new_and_keeps_what_they_have() {
    let mut world = World::alone();
    tell(&mut world, state(1, true));
    tell(&mut world, want(1, 1));
    tell(&mut world, state(1, false));
    tell(&mut world, want(2, 1));
    assert_eq!(assignments(&mut world), [(1, 1)]);
    assert_eq!(counts(&world), (vec![(1, 1)], 1));
    tell(&mut world, state(1, true));
    assert_eq!(assignments(&mut world), [(2, 1)]);
}

#[test]
fn who_waits_longest_is_served_first_even_out_of_rows() {
    let mut world = World::alone();
    for id in 1..=700 {
        tell(&mut world, want(id, 1));
        if id % 100 == 50 {
            world.chill();
        }
        if id % 100 == 80 {
            world.checkpoint();
        }
    }
    // Every seventh gives up, some of them while their rows are cold.
    for id in (7..=700).step_by(7) {
        tell(&mut world, done(id, 1, None));
        tell(&mut world, done(id, 1, None));
    }
    assert_eq!(counts(&world).1, 600);
    tell(&mut world, state(1, true));
    world.chill();
    let mut served = Vec::new();
    while counts(&world).1 > 0 {
        tell(&mut world, Mail::Onward { site: SITE, urgency: u8::MAX, lane: 0 });
        if served.len() % 2 == 0 {
            world.chill();
        }
        served.extend(assignments(&mut world));
    }
    let expected: Vec<(u128, u64)> = (1..=700).filter(|id| id % 7 != 0).map(|id| (id, 1)).collect();
    served.extend(assignments(&mut world));
    assert_eq!(served, expected);
    world.chill();
    assert_eq!((world.rows.count(b'Q'), world.rows.count(b'W')), (0, 600));
}

#[test]
fn a_want_or_a_done_twice_counts_once() {
    let mut world = World::alone();
    tell(&mut world, state(1, true));
    for _ in 0..3 {
        tell(&mut world, want(1, 1));
    }
    assert_eq!(counts(&world), (vec![(1, 1)], 0));
    tell(&mut world, Mail::Returned { site: SITE, session: session(1), turn: 7 });
    assert_eq!(counts(&world), (vec![(1, 1)], 0), "that was given in another turn");
    tell(&mut world, done(1, 2, None));
    assert_eq!(counts(&world), (vec![(1, 1)], 0), "another conversation");
    for _ in 0..3 {
        tell(&mut world, done(1, 1, Some(1)));
    }
    assert_eq!(counts(&world), (vec![(1, 0)], 0));
    tell(&mut world, want(1, 2));
    tell(&mut world, done(1, 1, Some(1)));
    assert_eq!(counts(&world), (vec![(1, 1)], 0), "the late one is about the conversation before");
}

#[test]
fn a_hundred_thousand_who_wait_are_drained_in_bounded_steps() {
    let mut world = World::alone();
    let count = 100_000_u64;
    for id in 1..=count {
        tell(&mut world, want(id.into(), 1));
    }
    world.chill();
    assert_eq!(world.rows.count(b'Q'), count as usize);
    tell(&mut world, state(1, true));
    for agent in 2..=4 {
        tell(&mut world, state(agent, true));
    }
    // One wake-up is under way however many commands came.
    let mails = waiting_mails(&world, ONE);
    assert_eq!(mails.iter().filter(|mail| matches!(mail, Mail::Onward { .. })).count(), 1);
    assert_eq!(mails.len(), 4 * ASSIGN_PER_COMMAND_MAX + 1);
    let mut steps = 0;
    while world.deliver_one() {
        steps += 1;
        if steps % 500 == 0 {
            world.chill();
        }
    }
    // The sessions do not exist, so each assignment stays counted at the desk, up to each agent's limit.
    assert_eq!(counts(&world), (vec![(1, 10_000), (2, 10_000), (3, 10_000), (4, 10_000)], 60_000));
    world.checkpoint();
    assert_eq!((world.rows.count(b'Q'), world.rows.count(b'O')), (60_000, 0));
    // Everyone is full: the next agent takes the rest, up to their own limit.
    tell(&mut world, state(5, true));
    world.settle();
    assert_eq!(counts(&world).1, 50_000);
}

#[test]
fn a_reopened_shard_has_its_outbox_and_forgets_what_was_acknowledged() {
    let mut world = World::alone();
    world.apply(open(1));
    for n in 1..=9 {
        world.apply(say(1, Party::Visitor, n, "a"));
        assert_eq!(world.reply(close(1, Party::Visitor)), Reply::Closed { seq: Some(2 * n) });
    }
    world.checkpoint();
    assert_eq!(world.rows.count(b'O'), 18);
    world.apply(Command::OutboxAcked { to: ONE, upto: 5 });
    let mails = waiting_mails(&world, ONE);
    // A failed checkpoint changes nothing; the next one deletes what was acknowledged.
    world.shard.begin_checkpoint();
    world.shard.end_checkpoint(false);
    world.checkpoint();
    assert_eq!(world.rows.count(b'O'), 13);
    world.shard = Shard::open(ONE, 1, &world.rows).unwrap();
    assert_eq!(world.shard.outbox_targets(), [(ONE, 6, 18)]);
    assert_eq!(waiting_mails(&world, ONE), mails);
    assert_eq!(world.shard.outbox(&world.rows, ONE, 7, 2).unwrap().len(), 2);
    world.apply(Command::OutboxAcked { to: ONE, upto: 99 });
    world.checkpoint();
    assert_eq!(world.rows.count(b'O'), 0);
    assert_eq!(world.shard.outbox_targets(), []);
}

#[test]
fn a_reassigned_conversation_leaves_the_queue_or_the_seat_it_had_and_the_next_one_moves_up() {
    let mut world = World::alone();
    let moved = |id, conversation, agent| Mail::Reassigned {
        site: SITE,
        session: session(id),
        conversation,
        part: 1,
        agent: AgentId(agent),
    };
    for id in 1..=3 {
        tell(&mut world, want(id, 1));
    }
    tell(&mut world, moved(2, 1, 9));
    assert_eq!(counts(&world), (vec![(9, 1)], 2));
    tell(&mut world, state(1, true));
    assert_eq!(assignments(&mut world), [(1, 1), (3, 1)]);
    tell(&mut world, moved(1, 1, 9));
    assert_eq!(counts(&world), (vec![(1, 1), (9, 2)], 0));
    // Too late: agent 1 had it before, and of another conversation nothing is known.
    tell(&mut world, Mail::Returned { site: SITE, session: session(1), turn: 1 });
    tell(&mut world, moved(1, 7, 1));
    assert_eq!(counts(&world), (vec![(1, 1), (9, 2)], 0));
    tell(&mut world, done(1, 1, Some(9)));
    assert_eq!(counts(&world), (vec![(1, 1), (9, 1)], 0));
}
