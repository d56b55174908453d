//! Owns the tests of webhooks: a receiver that fails, leaders that die in between, and what must hold all the same. Does not test HTTP.

use super::world::*;
use crate::courier::{Courier, PAUSE_MS_MAX, PAUSE_MS_MIN, Parcel, Told, What};
use crate::limits::{FEED_SCAN_MAX, WEBHOOK_DEAD_MAX, WEBHOOK_LAGS_MAX};
use crate::{Refusal, Reply};
use proptest::prelude::*;
use proto::command::{Command, Event, Party};
use proto::ids::{SessionId, WebhookId};
use proto::webhook::{GivenUp, WebhookChange, WebhookState, WebhookStep};
use std::collections::BTreeMap;

const HOOK: WebhookId = WebhookId(1);
const DAY_MS: u64 = 86_400_000;

fn change(world: &mut World, change: WebhookChange) -> Reply {
    world.apply(Command::Webhook { webhook: HOOK, change }).reply
}

fn state(world: &World) -> WebhookState {
    world.shard.webhook(&world.rows, HOOK).unwrap().0.expect("it has begun")
}

fn begun() -> World {
    let mut world = World::alone();
    assert_eq!(change(&mut world, WebhookChange::Begin), Reply::Done);
    world
}

fn courier(world: &World) -> Courier {
    Courier::new(state(world), DAY_MS)
}

/// Everything that a courier wants to send now.
fn parcels(world: &World, courier: &mut Courier, now_ms: u64) -> Vec<Parcel> {
    let mut found = Vec::new();
    if let Some((after, limit)) = courier.wants() {
        let page = world.shard.feed(&world.rows, SITE, after, limit, usize::MAX).unwrap();
        found = courier.take(page, |_| true);
    }
    for (session, next, upto) in courier.late(now_ms) {
        let events = world.shard.events_between(&world.rows, session, (next, upto), 8).unwrap();
        let (visitor, events) = events.expect("the session is there");
        let upto = events.last().map_or(upto, |event| event.seq);
        found.push(Parcel { what: What::Late, session, visitor, events, upto });
    }
    found
}

/// A receiver: what it has got, in the order in which it came.
#[derive(Default)]
struct Receiver {
    got: BTreeMap<SessionId, Vec<u64>>,
}

impl Receiver {
    /// Delivers a parcel until `fails` says so.
    fn take(&mut self, parcel: &Parcel, mut fails: impl FnMut(&Event) -> bool) -> Told {
        let Parcel { what, session, upto, .. } = *parcel;
        for event in &parcel.events {
            if fails(event) {
                let why = Some("500".to_owned());
                return Told { what, session, next: event.seq, upto, why, wait_ms: 0 };
            }
            self.got.entry(session).or_default().push(event.seq);
        }
        Told { what, session, next: upto + 1, upto, why: None, wait_ms: 0 }
    }

    /// Each seq came first after the one before it.
    fn check_order(&self) {
        for (session, seqs) in &self.got {
            let mut last = 0;
            for seq in seqs {
                assert!(*seq <= last + 1, "{session}: {seq} came before {}", last + 1);
                last = last.max(*seq);
            }
        }
    }
}

/// One round: `fails` decides what does not arrive; the step is logged.
fn round(
    world: &mut World,
    courier: &mut Courier,
    receiver: &mut Receiver,
    now_ms: u64,
    mut fails: impl FnMut(&Event) -> bool,
) {
    let parcels = parcels(world, courier, now_ms);
    let told = parcels.iter().map(|parcel| receiver.take(parcel, &mut fails)).collect();
    if let Some(step) = courier.step(told, now_ms) {
        assert_eq!(change(world, WebhookChange::Step(Box::new(step))), Reply::Done);
    }
    courier.refresh(state(world));
}

fn talk(world: &mut World, sessions: u128, count: u64) {
    for id in 1..=sessions {
        world.apply(open(id));
    }
    for n in 1..=count {
        for id in 1..=sessions {
            world.apply(say(id, Party::Visitor, n, "x"));
        }
    }
}

#[test]
fn a_webhook_hears_what_happens_after_it_began_and_a_second_beginning_changes_nothing() {
    let mut world = World::alone();
    talk(&mut world, 1, 3);
    change(&mut world, WebhookChange::Begin);
    world.apply(say(1, Party::Visitor, 4, "new"));
    change(&mut world, WebhookChange::Begin);
    let (mut courier, mut receiver) = (courier(&world), Receiver::default());
    round(&mut world, &mut courier, &mut receiver, 1, |_| false);
    assert_eq!(receiver.got, BTreeMap::from([(SessionId(1), vec![4])]));
    assert_eq!(world.shard.webhooks(&world.rows).unwrap(), [HOOK]);
    world.chill();
    assert_eq!((state(&world).after, world.shard.webhooks(&world.rows).unwrap()), (4, vec![HOOK]));
    change(&mut world, WebhookChange::End);
    assert_eq!(world.shard.webhook(&world.rows, HOOK).unwrap(), (None, 4));
    assert!(world.shard.webhooks(&world.rows).unwrap().is_empty());
    world.chill();
    assert!(world.shard.webhooks(&world.rows).unwrap().is_empty());
}

#[test]
fn one_event_that_fails_holds_up_its_session_and_no_other() {
    let mut world = begun();
    talk(&mut world, 3, 5);
    let (mut courier, mut receiver) = (courier(&world), Receiver::default());
    let poison = |event: &Event| event.seq == 3;
    let of_two = |seqs: &Receiver| seqs.got[&SessionId(2)].clone();
    let parcels = parcels(&world, &mut courier, 1);
    let told = parcels.iter().map(|parcel| receiver.take(parcel, |e| parcel.session == SessionId(2) && poison(e)));
    let step = courier.step(told.collect(), 1).unwrap();
    change(&mut world, WebhookChange::Step(Box::new(step)));
    courier.refresh(state(&world));
    assert_eq!(
        (of_two(&receiver), receiver.got[&SessionId(1)].len(), receiver.got[&SessionId(3)].len()),
        (vec![1, 2], 5, 5)
    );
    // More of it waits behind what failed; others go on.
    world.apply(say(2, Party::Visitor, 6, "x"));
    world.apply(say(3, Party::Visitor, 6, "x"));
    round(&mut world, &mut courier, &mut receiver, 2, |_| false);
    assert_eq!((of_two(&receiver), receiver.got[&SessionId(3)].len()), (vec![1, 2], 6));
    let lag = state(&world).lags[0].clone();
    assert_eq!((lag.next, lag.upto, lag.tries, lag.since_ms, lag.why.as_str()), (3, 6, 1, 1, "500"));
    let due_ms = courier.next_due_ms().unwrap();
    assert!((1 + PAUSE_MS_MIN..=1 + PAUSE_MS_MIN * 5 / 4).contains(&due_ms));
    round(&mut world, &mut courier, &mut receiver, due_ms, |_| false);
    assert_eq!(of_two(&receiver), [1, 2, 3, 4, 5, 6]);
    assert!(state(&world).lags.is_empty() && courier.next_due_ms().is_none());
}

#[test]
fn what_fails_for_too_long_is_a_dead_letter_and_can_be_delivered_after_all() {
    let mut world = begun();
    talk(&mut world, 1, 3);
    let (mut courier, mut receiver) = (courier(&world), Receiver::default());
    let (mut now_ms, mut tries) = (1, 0);
    while state(&world).dead.is_empty() {
        round(&mut world, &mut courier, &mut receiver, now_ms, |event| event.seq == 2);
        let next_ms = courier.next_due_ms().unwrap_or(now_ms);
        assert!(next_ms.saturating_sub(now_ms) <= PAUSE_MS_MAX * 5 / 4);
        (now_ms, tries) = (next_ms.max(now_ms), tries + 1);
    }
    assert!((100..200).contains(&tries) && now_ms > DAY_MS, "{tries} tries in a day");
    round(&mut world, &mut courier, &mut receiver, now_ms, |_| false);
    assert_eq!(receiver.got[&SessionId(1)], [1, 3]);
    let letter = state(&world).dead[0].clone();
    assert_eq!((letter.number, letter.session, letter.seq, letter.why.as_str()), (1, SessionId(1), 2, "500"));

    change(&mut world, WebhookChange::Replay { letter: None });
    courier.refresh(state(&world));
    assert_eq!(courier.again(), [(1, SessionId(1), 2)]);
    let tried = |why: Option<&str>| {
        let (why, next) = (why.map(str::to_owned), if why.is_some() { 2 } else { 3 });
        vec![Told { what: What::Dead(1), session: SessionId(1), next, upto: 2, why, wait_ms: 0 }]
    };
    let untried = Told { what: What::Dead(1), session: SessionId(1), next: 2, upto: 2, why: None, wait_ms: 0 };
    let step = courier.step(vec![untried], now_ms).unwrap();
    change(&mut world, WebhookChange::Step(Box::new(step)));
    courier.refresh(state(&world));
    assert_eq!(courier.again(), [(1, SessionId(1), 2)], "it was not its turn yet");
    let step = courier.step(tried(Some("gone\nfor good")), now_ms).unwrap();
    change(&mut world, WebhookChange::Step(Box::new(step)));
    assert_eq!((state(&world).dead[0].again, state(&world).dead[0].why.as_str()), (false, "gonefor good"));
    change(&mut world, WebhookChange::Replay { letter: Some(1) });
    courier.refresh(state(&world));
    let step = courier.step(tried(None), now_ms).unwrap();
    change(&mut world, WebhookChange::Step(Box::new(step)));
    assert!(state(&world).dead.is_empty());
}

#[test]
fn a_courier_that_the_log_has_overtaken_moves_nothing() {
    let mut world = begun();
    talk(&mut world, 2, 2);
    let (mut old, mut new) = (courier(&world), courier(&world));
    let mut receiver = Receiver::default();
    let sent = parcels(&world, &mut old, 1);
    let told = sent.iter().map(|parcel| receiver.take(parcel, |_| true)).collect();
    round(&mut world, &mut new, &mut receiver, 1, |_| false);
    let late = old.step(told, 1).unwrap();
    let before = state(&world);
    assert_eq!(change(&mut world, WebhookChange::Step(Box::new(late))), Reply::Rejected(Refusal::Changed));
    assert_eq!(state(&world), before);
    let step = WebhookStep {
        version: before.version,
        after: before.after,
        lags: Vec::new(),
        given_up: Vec::new(),
        again: Vec::new(),
        missed: 0,
    };
    for wrong in [
        WebhookStep { after: before.after + 1, ..step.clone() },
        WebhookStep { after: before.after - 1, ..step.clone() },
        WebhookStep { missed: 1_000, ..step.clone() },
        WebhookStep { again: vec![(1, Some("x".repeat(129)))], ..step.clone() },
    ] {
        let refused = change(&mut world, WebhookChange::Step(Box::new(wrong)));
        assert!(matches!(refused, Reply::Rejected(Refusal::RulesInvalid(_))));
    }
    assert_eq!(state(&world), before);
}

#[test]
fn dead_letters_and_sessions_that_lag_are_bounded() {
    let mut world = begun();
    talk(&mut world, WEBHOOK_LAGS_MAX as u128 + 44, 1);
    let (mut courier, mut receiver) = (courier(&world), Receiver::default());
    for _ in 0..5 {
        round(&mut world, &mut courier, &mut receiver, 1, |_| true);
    }
    assert_eq!((state(&world).lags.len(), courier.wants()), (WEBHOOK_LAGS_MAX, None), "it waits for those");
    let why = "500".to_owned();
    let given_up = vec![GivenUp { session: SessionId(1), seq: 1, why }; WEBHOOK_LAGS_MAX];
    for _ in 0..2 {
        let WebhookState { version, after, lags, .. } = state(&world);
        let step = WebhookStep { version, after, lags, given_up: given_up.clone(), again: Vec::new(), missed: 0 };
        change(&mut world, WebhookChange::Step(Box::new(step)));
    }
    let after = state(&world);
    assert_eq!((after.dead.len(), after.dropped, after.letters), (WEBHOOK_DEAD_MAX, 256, 512));
    assert_eq!(after.dead[0].number, 257);
    change(&mut world, WebhookChange::Forget { letter: 257 });
    assert_eq!(state(&world).dead[0].number, 258);
}

#[test]
fn what_is_not_for_the_webhook_takes_no_room_in_the_log_but_does_not_hold_it_back() {
    let mut world = begun();
    talk(&mut world, 1, 3);
    let mut courier = courier(&world);
    let page = world.shard.feed(&world.rows, SITE, 0, 100, usize::MAX).unwrap();
    assert!(courier.take(page, |_| false).is_empty());
    assert_eq!(courier.step(Vec::new(), 1), None);
    assert_eq!(courier.wants().map(|(after, _)| after), Some(3), "it does not look at them again");
    // So many that a new leader would look for long.
    let mut passed = 3;
    let (mut n, mut step) = (3, None);
    while step.is_none() {
        for _ in 0..FEED_SCAN_MAX {
            n += 1;
            world.apply(say(1, Party::Visitor, n, "x"));
        }
        while passed < world.shard.feed_head() {
            let page = world.shard.feed(&world.rows, SITE, passed, FEED_SCAN_MAX, usize::MAX).unwrap();
            passed = page.next;
            assert!(courier.take(page, |_| false).is_empty());
        }
        step = courier.step(Vec::new(), 1);
    }
    assert_eq!(step.map(|step| step.after), Some(passed));
    assert!((10_000..13_000).contains(&passed));
}

#[test]
fn what_the_feed_no_longer_keeps_is_counted_and_not_passed_over_in_silence() {
    let mut courier = Courier::new(WebhookState { after: 10, ..WebhookState::default() }, DAY_MS);
    let page = proto::feed::FeedPage { items: Vec::new(), next: 300, head: 300, first: 257 };
    assert!(courier.take(page, |_| true).is_empty());
    let step = courier.step(Vec::new(), 1).unwrap();
    assert_eq!((step.after, step.missed), (300, 246));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_event_is_delivered_and_each_session_in_order_whatever_fails_and_whoever_leads(
        steps in proptest::collection::vec((0..4_u8, 1..5_u128, any::<u64>()), 1..120)
    ) {
        let (mut world, mut receiver, mut said) = (begun(), Receiver::default(), BTreeMap::new());
        for id in 1..5 {
            world.apply(open(id));
        }
        let mut courier = courier(&world);
        let mut now_ms = 1;
        for (what, id, dice) in steps {
            match what {
                // Somebody writes.
                0 | 1 => {
                    let n = said.entry(SessionId(id)).and_modify(|n| *n += 1).or_insert(1);
                    world.apply(say(id, Party::Visitor, *n, "x"));
                }
                // A round in which some fail.
                2 => {
                    now_ms += dice % 3_000;
                    let bits = dice >> 13;
                    round(&mut world, &mut courier, &mut receiver, now_ms, |event| bits >> (event.seq % 40) & 1 == 1);
                }
                // A leader dies when it has sent some, and before the log knows.
                _ => {
                    for parcel in parcels(&world, &mut courier, now_ms) {
                        receiver.take(&parcel, |event| dice >> (event.seq % 50) & 1 == 1);
                    }
                    if dice % 2 == 0 {
                        world.chill();
                    }
                    courier = Courier::new(state(&world), DAY_MS);
                }
            }
            receiver.check_order();
        }
        for _ in 0..100 {
            now_ms += PAUSE_MS_MAX;
            round(&mut world, &mut courier, &mut receiver, now_ms, |_| false);
        }
        receiver.check_order();
        let last: BTreeMap<SessionId, u64> =
            receiver.got.iter().map(|(session, seqs)| (*session, seqs.iter().copied().max().unwrap_or(0))).collect();
        prop_assert_eq!(last, said);
        prop_assert!(state(&world).lags.is_empty() && state(&world).dead.is_empty());
    }
}
