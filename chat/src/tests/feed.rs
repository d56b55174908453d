//! Owns the tests of the feed: every event of a site once, in order, whatever is in memory. Does not test who reads it.

use super::world::*;
use crate::limits::{FEED_BLOCK, FEED_KEPT, FEED_SCAN_MAX};
use crate::rows::{FeedBlockRow, FeedEntryRow, HeaderRow};
use crate::{ApplyError, Shard, keys};
use proto::act::Act;
use proto::codec::encode;
use proto::command::{Command, EventBody, Party};
use proto::feed::FeedPage;
use proto::ids::{SessionId, SiteId, VisitorId};
use std::collections::BTreeMap;

const OTHER: SiteId = SiteId(2);

fn page(world: &World, site: SiteId, after: u64) -> FeedPage {
    world.shard.feed(&world.rows, site, after, 100, usize::MAX).unwrap()
}

fn act(id: u128, n: u64, act: Act) -> Command {
    let (device, cid) = ("d".into(), format!("c{n}"));
    Command::Act { session: SessionId(id), site: None, from: Party::Visitor, device, n, cid, act }
}

/// All events of a site as (session, seq), read page by page.
fn all(world: &World, site: SiteId) -> Vec<(SessionId, u64)> {
    let (mut after, mut found) = (0, Vec::new());
    while after < world.shard.feed_head() {
        let page = page(world, site, after);
        assert!(page.next > after && page.items.iter().all(|item| item.number > after && item.number <= page.next));
        found.extend(page.items.iter().map(|item| (item.session, item.event.seq)));
        after = page.next;
    }
    found
}

#[test]
fn the_feed_tells_every_event_of_its_site_once_and_each_session_in_order() {
    let mut world = World::alone();
    for id in 1..=6 {
        let site = if id % 3 == 0 { OTHER } else { SITE };
        let (session, visitor) = (SessionId(id), VisitorId(id));
        world.apply(Command::OpenSession { session, site, visitor, token: [7; 32] });
    }
    for n in 1..=400 {
        for id in 1..=6 {
            world.apply(say(id, Party::Visitor, n, "x"));
        }
        match n % 7 {
            0 => world.checkpoint(),
            3 => world.chill(),
            _ => {}
        }
    }
    assert_eq!(world.shard.feed_head(), 2_400);
    for (site, sessions) in [(SITE, vec![1, 2, 4, 5]), (OTHER, vec![3, 6])] {
        let mut last = BTreeMap::new();
        for (session, seq) in all(&world, site) {
            assert_eq!(seq, last.insert(session, seq).unwrap_or(0) + 1, "{session}");
        }
        let expected: BTreeMap<SessionId, u64> = sessions.into_iter().map(|id| (SessionId(id), 400)).collect();
        assert_eq!(last, expected);
    }
    let nobody = page(&world, SiteId(9), 0);
    assert_eq!((nobody.items.len(), nobody.next), (0, FEED_SCAN_MAX as u64), "it looks at no more than that");
    let few = world.shard.feed(&world.rows, SITE, 10, 3, usize::MAX).unwrap();
    assert_eq!((few.items.len(), few.items[2].number, few.next), (3, 14, 15), "what is another site's is behind it");
    let small = world.shard.feed(&world.rows, SITE, 0, 100, 1).unwrap();
    assert_eq!(small.items.len(), 1);
    let end = page(&world, SITE, 99_999);
    assert_eq!((end.items.len(), end.next, end.head), (0, 2_400, 2_400));
    // A shard that opens again goes on.
    world.checkpoint();
    world.shard = Shard::open(ONE, 1, &world.rows).unwrap();
    world.apply(say(1, Party::Visitor, 401, "x"));
    let last = page(&world, SITE, 2_400);
    assert_eq!(
        (last.items[0].session, last.items[0].event.seq, last.items[0].visitor),
        (SessionId(1), 401, VisitorId(1))
    );
}

#[test]
fn who_keeps_something_beside_the_state_reads_the_events_of_all_sites_as_they_are_now() {
    let mut world = World::alone();
    for (id, site) in [(1, SITE), (2, OTHER)] {
        let (session, visitor) = (SessionId(id), VisitorId(id));
        world.apply(Command::OpenSession { session, site, visitor, token: [7; 32] });
        world.apply(say(id, Party::Visitor, 1, "secret"));
    }
    world.apply(act(1, 2, Act::Recall { seq: 1 }));
    for _ in 0..2 {
        let first = world.shard.feed_of_all(&world.rows, 0, 2).unwrap();
        assert_eq!((first.events.len(), first.next, first.head, first.first), (2, 2, 3, 1));
        let rest = world.shard.feed_of_all(&world.rows, first.next, 2).unwrap();
        assert_eq!((rest.events.len(), rest.next), (1, 3));
        let events: Vec<_> = first.events.into_iter().chain(rest.events).collect();
        let facts: Vec<_> = events.iter().map(|event| (event.number, event.site, event.session.0, event.seq)).collect();
        assert_eq!(facts, [(1, SITE, 1, 1), (2, OTHER, 2, 1), (3, SITE, 1, 2)]);
        let text = |at: usize| match &events[at].event.as_ref().unwrap().body {
            EventBody::Message { text, .. } => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((text(0), text(1)), (String::new(), "secret".to_owned()), "what was recalled since is gone");
        world.chill();
    }
    assert_eq!(world.shard.event(&world.rows, SessionId(1), 9).unwrap(), None);
    assert_eq!(world.shard.event(&world.rows, SessionId(9), 1).unwrap(), None);
}

#[test]
fn what_is_too_old_is_dropped_and_whoever_is_further_back_can_tell() {
    let mut world = World::alone();
    world.apply(open(1));
    world.apply(say(1, Party::Visitor, 1, "x"));
    world.chill();
    // As if a million more had come.
    let head = FEED_KEPT + 3 * FEED_BLOCK - 1;
    let entry = FeedEntryRow { site: SITE, session: SessionId(1), seq: 1 };
    for block in 1..=head / FEED_BLOCK {
        let len = FEED_BLOCK.min(head - block * FEED_BLOCK) as usize;
        world.rows.map.insert(keys::feed(block), encode(&FeedBlockRow { entries: vec![entry; len] }));
    }
    let header: HeaderRow = crate::rows::read(&world.rows, "header", keys::HEADER).unwrap().unwrap();
    world.rows.map.insert(keys::HEADER.to_vec(), encode(&HeaderRow { feed: head, ..header }));
    world.shard = Shard::open(ONE, 1, &world.rows).unwrap();
    assert_eq!(page(&world, SITE, 0).first, 2 * FEED_BLOCK + 1);
    for n in 2..2 + 2 * FEED_BLOCK {
        world.apply(say(1, Party::Visitor, n, "x"));
    }
    let before = world.rows.count(b'F');
    world.checkpoint();
    assert_eq!(world.rows.count(b'F'), before, "two more, and two less");
    let page = page(&world, SITE, 0);
    assert_eq!((page.first, page.items[0].number), (4 * FEED_BLOCK + 1, 4 * FEED_BLOCK + 1));
}

#[test]
fn a_feed_that_does_not_fit_its_header_is_corrupt() {
    let mut world = World::alone();
    world.apply(open(1));
    world.apply(say(1, Party::Visitor, 1, "x"));
    world.checkpoint();
    world.rows.map.remove(&keys::feed(0));
    assert!(matches!(Shard::open(ONE, 1, &world.rows), Err(ApplyError::Corrupt { row: "feed", .. })));
    world.rows.map.insert(keys::feed(0), encode(&FeedBlockRow { entries: Vec::new() }));
    assert!(matches!(Shard::open(ONE, 1, &world.rows), Err(ApplyError::Corrupt { row: "feed", .. })));
}
