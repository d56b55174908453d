//! Owns the tests of what leaves the rows for the archive. Does not test objects: here they are in memory.

use super::world::*;
use crate::limits::{ARCHIVE_EVENTS_MAX, WINDOW_EVENTS};
use crate::{ApplyError, Archived, HistoryRange, Refusal, Reply, WithObjects, archived_range, is_worth_moving};
use proto::act::Act;
use proto::archive::{ArchiveChange, ArchivedObject, ArchivedRange};
use proto::command::{Command, Event, EventBody, Party};
use proto::ids::AgentId;
use std::collections::BTreeMap;
use std::sync::Arc;

const ADA: Party = Party::Agent(AgentId(4));
const LONG: u64 = u64::MAX / 2;

type Objects = BTreeMap<String, Archived>;

/// A closed conversation of that many messages.
fn with_talk(messages: u64) -> World {
    let mut world = World::alone();
    for command in [open(1), login(4), presence(4, true)] {
        world.apply(command);
    }
    for n in 1..=messages {
        world.apply(say(1, Party::Visitor, n, &format!("message {n}")));
        if n % 40 == 0 {
            world.checkpoint();
        }
    }
    world.settle();
    world.apply(close(1, ADA));
    world.settle();
    world
}

fn change(change: ArchiveChange) -> Command {
    Command::Archive { session: session(1), change: Box::new(change) }
}

fn begin(names: &[&str]) -> Command {
    change(ArchiveChange::Begin { objects: names.iter().map(|name| (*name).to_owned()).collect() })
}

fn of_object(name: &str, events: &[Arc<Event>]) -> ArchivedRange {
    let object = ArchivedObject { name: name.to_owned(), sha256: [3; 32], bytes: 10, plain_bytes: 20 };
    ArchivedRange { object: Some(object), ..archived_range(events).unwrap() }
}

/// Moves what can be moved, into objects of `size` events.
fn archive(world: &mut World, objects: &mut Objects, size: usize) -> Reply {
    let of = world.shard.movable(&world.rows, session(1), LONG, 10_000).unwrap().expect("something can be moved");
    let mut events = Vec::new();
    // However small the steps are.
    for step in 0.. {
        let seq = events.last().map_or(of.after, |event: &Arc<Event>| event.seq);
        if seq == of.upto {
            break;
        }
        let page = world.shard.movable_page(&world.rows, session(1), of, seq, if step % 2 == 0 { 1 } else { 5_000 });
        events.extend(page.unwrap().expect("nothing has happened since").0);
    }
    assert!(is_worth_moving(&events));
    let ranges: Vec<ArchivedRange> =
        events.chunks(size).map(|part| of_object(&format!("o{}", part[0].seq), part)).collect();
    let names: Vec<String> = ranges.iter().map(|range| range.object.clone().unwrap().name).collect();
    assert_eq!(world.reply(change(ArchiveChange::Begin { objects: names.clone() })), Reply::Done);
    objects.extend(names.into_iter().zip(events.chunks(size).map(|part| Archived::Events(Arc::new(part.to_vec())))));
    world.reply(change(ArchiveChange::Moved { ranges }))
}

fn page(world: &World, objects: &Objects, range: HistoryRange, limit: usize) -> Result<Vec<Arc<Event>>, ApplyError> {
    let rows = WithObjects::new(&world.rows.map, objects);
    Ok(world.shard.history(&rows, session(1), range, limit, usize::MAX)?.unwrap().events)
}

fn all(world: &World, objects: &Objects) -> Vec<Arc<Event>> {
    page(world, objects, HistoryRange::After(0), usize::MAX).unwrap()
}

/// Names of objects that may exist and that no range names, and whether they are to be deleted.
fn loose(world: &World) -> Vec<(String, bool)> {
    let found = world.shard.loose_objects(&world.rows, 100).unwrap();
    found.into_iter().map(|object| (object.name, object.is_dropped)).collect()
}

fn gone(names: &[&str]) -> Vec<(String, bool)> {
    names.iter().map(|name| ((*name).to_owned(), true)).collect()
}

fn sorted(mut names: Vec<(String, bool)>) -> Vec<(String, bool)> {
    names.sort();
    names
}

#[test]
fn what_was_moved_reads_as_before_from_every_side_and_is_in_no_row() {
    let mut world = with_talk(200);
    let mut objects = Objects::new();
    let before = all(&world, &objects);
    assert!(before.len() > 3 * WINDOW_EVENTS);
    assert_eq!(archive(&mut world, &mut objects, 64), Reply::Done);
    let check = |world: &World| {
        assert_eq!(all(world, &objects), before);
        for limit in [1, 7, 64, 65, 300] {
            for at in (0..=before.len() as u64 + 2).step_by(9) {
                let after: Vec<_> = before.iter().filter(|event| event.seq > at).take(limit).cloned().collect();
                assert_eq!(page(world, &objects, HistoryRange::After(at), limit).unwrap(), after);
                let older: Vec<_> = before.iter().filter(|event| event.seq < at).cloned().collect();
                let newest = older[older.len().saturating_sub(limit)..].to_vec();
                assert_eq!(page(world, &objects, HistoryRange::Before(at), limit).unwrap(), newest);
            }
        }
        let missing = page(world, &Objects::new(), HistoryRange::Latest, 5);
        assert!(matches!(missing, Err(ApplyError::Archived(object)) if object.name == "o193"));
    };
    check(&world);
    world.chill();
    assert_eq!(world.rows.count(b'E'), 0);
    assert_eq!(loose(&world), []);
    check(&world);
}

#[test]
fn a_conversation_goes_on_behind_what_was_moved_without_its_objects() {
    let mut world = with_talk(100);
    let mut objects = Objects::new();
    let before = all(&world, &objects);
    archive(&mut world, &mut objects, 64);
    world.chill();
    let answer = Command::Send {
        session: session(1),
        from: Party::Visitor,
        device: "d".into(),
        n: 101,
        cid: "c101".into(),
        text: "again".into(),
        reply_to: Some(3),
        attachments: Vec::new(),
    };
    assert!(matches!(world.reply(answer), Reply::Sent { dup: false, .. }));
    assert!(
        matches!(world.reply(say(1, Party::Visitor, 7, "message 7")), Reply::Sent { seq, dup: true, .. } if seq < 20)
    );
    world.settle();
    let act = |act| Command::Act {
        session: session(1),
        site: None,
        from: Party::Visitor,
        device: "d".into(),
        n: 0,
        cid: format!("{act:?}"),
        act,
    };
    for late in [Act::Edit { seq: 3, text: "other".into() }, Act::Recall { seq: 3 }] {
        assert_eq!(world.reply(act(late)), Reply::Rejected(Refusal::TooLate));
    }
    assert!(matches!(world.reply(act(Act::React { seq: 3, emoji: "👍".into(), on: true })), Reply::Sent { .. }));
    let none = Act::React { seq: before.len() as u64, emoji: "👍".into(), on: true };
    assert_eq!(world.reply(act(none)), Reply::Rejected(Refusal::TargetInvalid), "that is the end, and no message");
    // A close that comes again from before all this does not end what has begun since.
    let seen = before.len() as u64 - 1;
    let late = Command::CloseSeen { session: session(1), by: ADA, seen, reason: String::new() };
    assert_eq!(world.reply(late), Reply::Closed { seq: None });
    world.checkpoint();
    let now = all(&world, &objects);
    assert_eq!(now[..before.len()], before);
    assert!(now.len() > before.len());
    let ahead = HistoryRange::After(before.len() as u64);
    assert_eq!(page(&world, &Objects::new(), ahead, 100).unwrap(), now[before.len()..], "what is new needs no object");
    // And when that is over, it follows into the archive.
    world.apply(close(1, ADA));
    world.settle();
    let now = all(&world, &objects);
    assert_eq!(archive(&mut world, &mut objects, 64), Reply::Done);
    world.chill();
    assert_eq!(all(&world, &objects), now);
}

#[test]
fn a_move_is_refused_when_something_has_happened_since_or_its_object_is_to_go() {
    let mut world = with_talk(10);
    let events = all(&world, &Objects::new());
    let moved = |ranges: &[ArchivedRange]| change(ArchiveChange::Moved { ranges: ranges.to_vec() });
    let range = of_object("a", &events);
    assert_eq!(world.reply(moved(std::slice::from_ref(&range))), Reply::Rejected(Refusal::Changed), "nobody began it");
    assert_eq!(world.reply(begin(&["a"])), Reply::Done);
    assert_eq!(loose(&world), [("a".to_owned(), false)]);
    for wrong in [
        vec![of_object("a", &events[1..])],
        vec![of_object("a", &events[..5])],
        vec![ArchivedRange { marks: vec![1], ..range.clone() }],
        vec![ArchivedRange { object: None, ..range.clone() }],
        vec![],
    ] {
        assert_eq!(world.reply(moved(&wrong)), Reply::Rejected(Refusal::Changed));
    }
    let of = world.shard.movable(&world.rows, session(1), LONG, 10_000).unwrap().unwrap();
    assert!(world.shard.movable_page(&world.rows, session(1), of, 3, 1).unwrap().is_some());
    assert!(world.shard.movable(&world.rows, session(1), LONG, 5).unwrap().is_none(), "there are more");
    world.apply(say(1, Party::Visitor, 11, "wait"));
    world.settle();
    assert!(world.shard.movable_page(&world.rows, session(1), of, 3, 1).unwrap().is_none());
    assert_eq!(world.reply(moved(std::slice::from_ref(&range))), Reply::Rejected(Refusal::Changed));
    assert!(world.shard.movable(&world.rows, session(1), LONG, 10_000).unwrap().is_none(), "it is open");
    world.apply(close(1, ADA));
    world.settle();
    assert_eq!(world.reply(change(ArchiveChange::Dropped { object: "a".into() })), Reply::Done);
    world.chill();
    assert_eq!(loose(&world), gone(&["a"]));
    let all_of_it = all(&world, &Objects::new());
    assert_eq!(world.reply(moved(&[of_object("a", &all_of_it)])), Reply::Rejected(Refusal::Changed));
    assert_eq!(world.reply(begin(&["a"])), Reply::Rejected(Refusal::Changed), "it may be gone at any moment");
    assert_eq!(world.reply(change(ArchiveChange::Deleted { object: "a".into() })), Reply::Done);
    assert_eq!(loose(&world), []);
    assert_eq!(world.reply(begin(&["a"])), Reply::Done);
    assert_eq!(world.reply(moved(&[of_object("a", &all_of_it)])), Reply::Done);
    assert_eq!(world.reply(change(ArchiveChange::Dropped { object: "a".into() })), Reply::Done);
    assert_eq!(loose(&world), [], "an object that a range names does not go");
    assert_eq!(world.reply(begin(&["a"])), Reply::Rejected(Refusal::Changed));
}

#[test]
fn what_the_archive_has_lost_reads_as_places_for_whoever_cannot_wait() {
    let mut world = with_talk(100);
    let mut objects = Objects::new();
    let before = all(&world, &objects);
    archive(&mut world, &mut objects, 40);
    world.chill();
    objects.insert("o41".to_owned(), Archived::Lost);
    for limit in [1, 30, 1_000] {
        let mut now: Vec<Arc<Event>> = Vec::new();
        while now.len() < before.len() {
            let after = HistoryRange::After(now.len() as u64);
            let rows = WithObjects::new(&world.rows.map, &objects);
            let page = world.shard.history(&rows, session(1), after, limit, usize::MAX).unwrap().unwrap().events;
            let names_it = page.iter().any(|event| (41..=80).contains(&event.seq));
            let lost = rows.into_lost().into_iter().collect::<Vec<_>>();
            assert_eq!(lost, ["o41"][..usize::from(names_it)], "a read tells of the losses that it met");
            now.extend(page);
        }
        for (was, is) in before.iter().zip(&now) {
            assert_eq!((was.seq, was.ts_ms), (is.seq, is.ts_ms));
            assert_eq!(is.body == was.body, !(41..=80).contains(&is.seq), "{is:?}");
        }
    }
}

#[test]
fn who_is_erased_is_gone_from_the_archive_without_a_look_at_it() {
    let mut world = with_talk(100);
    let mut objects = Objects::new();
    let before = all(&world, &objects);
    archive(&mut world, &mut objects, 64);
    world.chill();
    let erase = Command::Erase { session: session(1), upto: before.len() as u64, forget: true };
    let last = before.len() as u64;
    // One object with each command.
    for gone in [64, last] {
        assert!(matches!(world.reply(erase.clone()), Reply::Sent { seq, .. } if seq == gone));
    }
    assert!(matches!(world.reply(erase), Reply::Sent { seq, .. } if seq >= last), "done again it is the same");
    assert_eq!(sorted(loose(&world)), gone(&["o1", "o65"]));
    let check = |world: &World| {
        let now = all(world, &Objects::new());
        assert_eq!(now.len(), before.len() + 2);
        for (was, is) in before.iter().zip(&now) {
            assert_eq!((was.seq, was.ts_ms), (is.seq, is.ts_ms));
            assert_eq!(is.body, EventBody::Gone);
        }
        let told: Vec<&EventBody> = now[before.len()..].iter().map(|event| &event.body).collect();
        assert_eq!(told, [&EventBody::Erased { upto: 64 }, &EventBody::Erased { upto: last }]);
    };
    check(&world);
    world.chill();
    check(&world);
    for object in ["o1", "o65"] {
        world.apply(change(ArchiveChange::Deleted { object: object.to_owned() }));
    }
    world.chill();
    assert_eq!(loose(&world), []);
    assert_eq!(world.rows.count(b'h'), 0);
}

#[test]
fn retention_takes_whole_objects_and_has_the_others_cut() {
    let mut world = with_talk(100);
    let mut objects = Objects::new();
    let before = all(&world, &objects);
    archive(&mut world, &mut objects, 64);
    let at = |seq: usize| before[seq - 1].ts_ms;
    let ask = |world: &World, before_ms| {
        let whole = world.shard.erasable(&world.rows, session(1), before_ms).unwrap();
        let part = world.shard.cuttable(&world.rows, session(1), before_ms).unwrap();
        (whole, part.map(|(range, upto)| (range.first, upto)))
    };
    assert_eq!(ask(&world, at(1)), (None, None));
    assert_eq!(ask(&world, at(21)), (None, Some((1, 20))));
    assert_eq!(ask(&world, at(65)), (Some(64), None));
    for (upto, name) in [(20, "rest 1"), (30, "rest 2")] {
        assert_eq!(ask(&world, at(upto + 1)), (None, Some((if upto == 20 { 1 } else { 21 }, upto as u64))));
        let rest = &before[upto..64];
        let cut = change(ArchiveChange::Cut { range: of_object(name, rest) });
        assert_eq!(world.reply(cut.clone()), Reply::Rejected(Refusal::Changed), "nobody began it");
        world.apply(begin(&[name]));
        assert_eq!(world.reply(cut), Reply::Done);
        objects.insert(name.to_owned(), Archived::Events(Arc::new(rest.to_vec())));
        world.chill();
        let now = all(&world, &objects);
        assert!(now[..upto].iter().all(|event| event.body == EventBody::Gone));
        assert!(now[..upto].iter().zip(&before).all(|(is, was)| is.ts_ms == was.ts_ms));
        assert_eq!(now[upto..before.len()], before[upto..]);
    }
    assert_eq!(sorted(loose(&world)), gone(&["o1", "rest 1"]));
    assert_eq!(world.shard.archived(&world.rows, session(1)).unwrap().len(), 3, "what was erased is one range");
    assert_eq!(ask(&world, at(65)), (Some(64), None));
    let erase = Command::Erase { session: session(1), upto: 64, forget: false };
    assert!(matches!(world.reply(erase), Reply::Sent { seq: 64, .. }));
    assert_eq!(sorted(loose(&world)), gone(&["o1", "rest 1", "rest 2"]));
    assert_eq!(all(&world, &objects)[64..before.len()], before[64..]);
}

#[test]
fn a_move_survives_a_checkpoint_that_was_under_way_and_one_that_failed() {
    for (is_under_way, fails) in [(true, false), (true, true), (false, true)] {
        let mut world = with_talk(70);
        let mut objects = Objects::new();
        let before = all(&world, &objects);
        let first = is_under_way.then(|| world.shard.begin_checkpoint());
        archive(&mut world, &mut objects, 50);
        assert_eq!(all(&world, &objects), before);
        if let Some(first) = first {
            if !fails {
                world.rows.write(first);
            }
            world.shard.end_checkpoint(!fails);
        }
        if fails {
            drop(world.shard.begin_checkpoint());
            world.shard.end_checkpoint(false);
        }
        assert_eq!(all(&world, &objects), before);
        world.chill();
        assert_eq!(world.rows.count(b'E'), 0);
        assert_eq!(all(&world, &objects), before);
        assert_eq!(world.shard.cached_bytes(), world.shard.recount_bytes());
    }
}

#[test]
fn the_feed_reads_through_the_archive_and_names_the_object_it_misses() {
    let mut world = with_talk(20);
    let mut objects = Objects::new();
    let before = world.shard.feed(&world.rows, SITE, 0, 1_000, usize::MAX).unwrap();
    archive(&mut world, &mut objects, ARCHIVE_EVENTS_MAX);
    world.chill();
    let missing = world.shard.feed(&world.rows, SITE, 0, 1_000, usize::MAX);
    assert!(matches!(missing, Err(ApplyError::Archived(object)) if object.name == "o1"));
    let rows = WithObjects::new(&world.rows.map, &objects);
    assert_eq!(world.shard.feed(&rows, SITE, 0, 1_000, usize::MAX).unwrap(), before);
}
