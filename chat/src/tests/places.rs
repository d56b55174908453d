//! Owns the tests of who waits where: the list for agents, the position and the wait that a visitor is told.

use super::routing::{Desk, SALES, of};
use super::world::*;
use proto::desk::{Ask, SeatState, TeamRules};
use proto::ids::SessionId;

impl Desk {
    /// Position and wait of each.
    fn places(&self, ids: impl IntoIterator<Item = u128>) -> Vec<(u128, u64, Option<u64>)> {
        let sessions: Vec<SessionId> = ids.into_iter().map(session).collect();
        let places = self.world.shard.places(&self.world.rows, SITE, &sessions).unwrap();
        places.into_iter().map(|place| (place.session.0, place.position, place.wait_ms)).collect()
    }

    fn listed(&self, limit: usize) -> (Vec<(u128, u64)>, u64) {
        let (waiting, total) = self.world.shard.waiting(&self.world.rows, SITE, limit).unwrap();
        (waiting.into_iter().map(|one| (one.session.0, one.since_ms)).collect(), total)
    }
}

fn urgent(priority: u8) -> Ask {
    Ask { priority, ..Ask::default() }
}

#[test]
fn who_waits_is_told_the_position_and_the_list_is_in_the_same_order() {
    let mut desk = Desk::new();
    for (id, priority) in [(1, 0), (2, 1), (3, 0), (4, 2), (5, 1)] {
        desk.want(id, urgent(priority));
    }
    let order = [4, 2, 5, 1, 3];
    let positions = |desk: &Desk| desk.places(order).iter().map(|place| place.1).collect::<Vec<_>>();
    assert_eq!(positions(&desk), [1, 2, 3, 4, 5]);
    let listed = desk.listed(10);
    assert_eq!((listed.0.iter().map(|one| one.0).collect::<Vec<_>>(), listed.1), (order.to_vec(), 5));
    assert!(listed.0.iter().all(|(id, since)| *since == 1_000 + *id as u64), "{listed:?}");
    assert_eq!(desk.listed(2), (listed.0[..2].to_vec(), 5));
    // The same from rows.
    desk.world.chill();
    assert_eq!((desk.listed(10), desk.listed(2).0), (listed.clone(), listed.0[..2].to_vec()));
    desk.seat(1, 2, &[], &[]);
    assert_eq!(desk.places(order).iter().map(|place| (place.0, place.1)).collect::<Vec<_>>(), [(5, 1), (1, 2), (3, 3)]);
    assert_eq!(desk.listed(10).0, listed.0[2..]);
    assert_eq!(desk.places([77]), [], "who does not wait has no place");
}

#[test]
fn the_wait_follows_the_pace_of_the_team_and_an_offer_is_place_zero() {
    let mut desk = Desk::new();
    desk.team(SALES, TeamRules { accept_ms: 30_000, ..TeamRules::default() });
    (1..=10).for_each(|id| desk.want(id, of(SALES)));
    assert_eq!(desk.places([1, 3]), [(1, 1, None), (3, 3, None)], "nobody knows yet");
    desk.world.now_ms += 20_000;
    desk.seat(1, 1, &[SALES], &[]);
    assert_eq!(desk.given(), [(1, 1, false)]);
    let places = desk.places([1, 2, 4]);
    assert_eq!(places.iter().map(|place| (place.0, place.1)).collect::<Vec<_>>(), [(1, 0), (2, 1), (4, 3)]);
    let (one, three) = (places[1].2.unwrap(), places[2].2.unwrap());
    assert!((20_000..20_100).contains(&one) && three == 3 * one, "{places:?}");
    // Taken faster, the wait falls.
    for id in 1..=6 {
        desk.done(id);
    }
    assert!(desk.places([8]).iter().all(|place| place.2.unwrap() < 2 * one), "{:?}", desk.places([8]));
    desk.state(1, SeatState::Busy);
    assert_eq!(desk.queued(), 4);
}

#[test]
fn a_queue_of_a_hundred_thousand_knows_the_place_of_everybody() {
    let mut desk = Desk::new();
    (1..=100_000).for_each(|id| desk.want(id, Ask::default()));
    // Every third gives up.
    (1..=100_000).filter(|id| id % 3 == 0).for_each(|id| desk.done(id));
    let exact = |id: u128| id as u64 - id as u64 / 3;
    for id in [1, 2, 50_000, 77_777, 100_000] {
        assert_eq!(desk.places([id])[0].1, exact(id));
    }
    desk.world.chill();
    let reads = desk.world.rows.reads.get();
    for id in [1, 50_000, 77_777, 100_000] {
        let place = desk.places([id])[0].1;
        assert!(place.abs_diff(exact(id)) < 256, "{id}: {place}");
    }
    // Of each: the desk's own rows, and the row of the one who asks.
    assert!(desk.world.rows.reads.get() - reads <= 4 * 6, "{}", desk.world.rows.reads.get() - reads);
    assert_eq!(desk.listed(3).0.iter().map(|one| one.0).collect::<Vec<_>>(), [1, 2, 4]);
}
