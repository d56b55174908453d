//! Owns the tests of e-mails that wait: what is found once, what is sealed, what dies, and what an erased visitor leaves. Does not test
//! SMTP.

use super::world::*;
use crate::limits::{EMAIL_ASKS_PER_HOUR_MAX, EMAIL_ASKS_UNLIMITED_MAX, EMAILS_MAX, EMAILS_OF_SITE_MAX};
use crate::{EmailStand, Refusal, Reply};
use proto::command::{Command, Party, SecretBytes};
use proto::email::*;
use proto::ids::{SessionId, SiteId};

const HOUR_MS: u64 = 3_600_000;

fn change(world: &mut World, change: EmailChange) -> Reply {
    world.apply(Command::Email { change }).reply
}

fn found(id: u128, kind: EmailKind, seq: u64, due_ms: u64) -> EmailFound {
    EmailFound { site: SITE, session: session(id), kind, seq, due_ms }
}

/// A step from where the shard stands to the end of its feed.
fn step(world: &mut World, found: Vec<EmailFound>) -> Reply {
    let course = world.shard.email_course(&world.rows).unwrap();
    let version = course.stands.map_or(0, |(version, _)| version);
    let step = EmailStep { version, after: course.head, missed: 0, found };
    change(world, EmailChange::Step(Box::new(step)))
}

fn all(world: &mut World) -> Vec<Email> {
    world.shard.emails(&world.rows, SITE, EMAILS_MAX).unwrap().0
}

fn told(email: &Email, fate: EmailFate) -> EmailChange {
    let Email { session, kind, number, tries, .. } = *email;
    EmailChange::Told(vec![EmailTold { session, kind, number, tries, fate }])
}

fn talked() -> World {
    let mut world = World::alone();
    for id in 1..=2 {
        world.apply(open(id));
        world.apply(say(id, Party::Visitor, 1, "hello"));
    }
    world
}

fn sealed() -> EmailFate {
    EmailFate::Sealed { secret: SecretBytes(vec![7; 16]) }
}

#[test]
fn messages_of_one_run_gather_in_one_e_mail_until_it_is_sealed() {
    let mut world = talked();
    assert_eq!(world.shard.email_course(&world.rows).unwrap().stands, None);
    assert_eq!(
        step(&mut world, vec![found(1, EmailKind::Missed, 1, 50), found(1, EmailKind::Missed, 2, 90)]),
        Reply::Done
    );
    assert_eq!(
        step(&mut world, vec![found(1, EmailKind::Missed, 5, 99), found(1, EmailKind::Form, 4, 70)]),
        Reply::Done
    );
    let waiting = all(&mut world);
    let brief: Vec<_> = waiting.iter().map(|one| (one.kind, one.number, one.first, one.upto, one.due_ms)).collect();
    assert_eq!(brief, [(EmailKind::Missed, 1, 1, 5, 50), (EmailKind::Form, 2, 4, 4, 70)]);
    // What comes behind the seal goes into the next one.
    assert_eq!(change(&mut world, told(&waiting[0], sealed())), Reply::Done);
    step(&mut world, vec![found(1, EmailKind::Missed, 7, 100)]);
    world.chill();
    let waiting = all(&mut world);
    let brief: Vec<_> = waiting.iter().map(|one| (one.number, one.first, one.upto, one.stage)).collect();
    let (gathers, is_sealed) = (EmailStage::Gathers, EmailStage::Sealed);
    assert_eq!(brief, [(1, 1, 5, is_sealed), (2, 4, 4, gathers), (3, 7, 7, gathers)]);
    let due = world.shard.emails_due(&world.rows, 70, 9).unwrap();
    assert_eq!(due.iter().map(|one| one.number).collect::<Vec<_>>(), [1, 2]);
    change(&mut world, told(&waiting[0], EmailFate::Over));
    assert_eq!(all(&mut world).len(), 2);
    assert_eq!(world.shard.emails_count(&world.rows).unwrap(), (2, 0));
}

#[test]
fn a_step_that_does_not_know_the_last_one_changes_nothing() {
    let mut world = talked();
    step(&mut world, Vec::new());
    let head = world.shard.feed_head();
    let late = EmailStep { version: 0, after: head, missed: 0, found: vec![found(1, EmailKind::Missed, 1, 50)] };
    assert_eq!(change(&mut world, EmailChange::Step(Box::new(late.clone()))), Reply::Rejected(Refusal::Changed));
    for wrong in [
        EmailStep { version: 1, after: head + 1, ..late.clone() },
        EmailStep { version: 1, after: head - 1, ..late.clone() },
        EmailStep { version: 1, missed: head + 1, ..late.clone() },
        EmailStep { version: 1, found: vec![found(1, EmailKind::Transcript, 1, 50)], ..late.clone() },
        EmailStep { version: 1, found: vec![found(1, EmailKind::Missed, 0, 50)], ..late },
    ] {
        let refused = change(&mut world, EmailChange::Step(Box::new(wrong)));
        assert!(matches!(refused, Reply::Rejected(Refusal::RulesInvalid(_))), "{refused:?}");
    }
    assert!(all(&mut world).is_empty());
}

#[test]
fn what_fails_is_tried_again_dies_and_is_sent_after_all_and_a_late_word_changes_nothing() {
    let mut world = talked();
    step(&mut world, vec![found(1, EmailKind::Missed, 1, 50)]);
    let first = all(&mut world).remove(0);
    change(&mut world, told(&first, sealed()));
    let why = "4\r\n52 later".to_owned();
    change(&mut world, told(&first, EmailFate::Failed { why: why.clone(), due_ms: 900 }));
    let second = all(&mut world).remove(0);
    assert_eq!((second.tries, second.due_ms, second.why.as_str()), (1, 900, "452 later"));
    // A leader that was deposed says once more what it knew.
    change(&mut world, told(&first, EmailFate::Over));
    assert_eq!(all(&mut world), std::slice::from_ref(&second));
    change(&mut world, told(&second, EmailFate::Dead { why, due_ms: 9_000 }));
    let dead = all(&mut world).remove(0);
    assert_eq!((dead.stage, dead.tries, world.shard.emails_count(&world.rows).unwrap()), (EmailStage::Dead, 2, (0, 1)));
    let (session, number) = (dead.session, dead.number);
    assert_eq!(change(&mut world, EmailChange::Again { session, number: number + 1 }), Reply::Done);
    assert_eq!(all(&mut world)[0].stage, EmailStage::Dead);
    change(&mut world, EmailChange::Again { session, number });
    let again = all(&mut world).remove(0);
    assert_eq!((again.stage, again.since_ms, again.first), (EmailStage::Sealed, 0, 1));
    assert_eq!(change(&mut world, EmailChange::Forget { session, number }), Reply::Done, "it is not dead");
    assert_eq!(all(&mut world).len(), 1);
    change(&mut world, told(&again, EmailFate::Dead { why: String::new(), due_ms: 9_000 }));
    change(&mut world, EmailChange::Forget { session, number });
    assert!(all(&mut world).is_empty());
}

#[test]
fn a_transcript_is_asked_for_once_by_an_id_and_only_so_often() {
    let mut world = talked();
    let ask = |id: u128, limited: bool| EmailChange::Ask { session: session(1), id, to: "a@b.example".into(), limited };
    for id in 0..EMAIL_ASKS_PER_HOUR_MAX as u128 {
        assert_eq!(change(&mut world, ask(id, true)), Reply::Done);
        assert_eq!(change(&mut world, ask(id, true)), Reply::Done, "it was repeated");
    }
    assert_eq!(all(&mut world).len(), EMAIL_ASKS_PER_HOUR_MAX);
    let limited = Reply::Rejected(Refusal::LimitReached("transcripts by e-mail"));
    assert_eq!(change(&mut world, ask(99, true)), limited);
    for id in 100..100 + (EMAIL_ASKS_UNLIMITED_MAX - EMAIL_ASKS_PER_HOUR_MAX) as u128 {
        assert_eq!(change(&mut world, ask(id, false)), Reply::Done, "an agent");
    }
    world.chill();
    assert_eq!(change(&mut world, ask(999, false)), limited);
    world.now_ms += HOUR_MS;
    assert_eq!(change(&mut world, ask(99, true)), Reply::Done);
    let unknown = EmailChange::Ask { session: session(9), id: 1, to: String::new(), limited: true };
    assert_eq!(change(&mut world, unknown), Reply::Rejected(Refusal::UnknownSession));
    let hostile =
        EmailChange::Ask { session: session(2), id: 1, to: "a@b.example\r\nBcc: c@d.example".into(), limited: true };
    assert!(matches!(change(&mut world, hostile), Reply::Rejected(Refusal::RulesInvalid(_))));
    let one = all(&mut world).remove(0);
    assert_eq!((one.first, one.upto, one.to.as_str(), one.stage), (1, 1, "a@b.example", EmailStage::Sealed));
}

#[test]
fn who_has_the_secret_of_an_e_mail_stops_them_and_nobody_else() {
    let mut world = talked();
    let stop = |byte: u8, bytes: usize| EmailChange::Unsubscribe {
        session: session(1),
        secret: SecretBytes(vec![byte; bytes]),
    };
    let refused = Reply::Rejected(Refusal::TargetInvalid);
    assert_eq!(change(&mut world, stop(0, 0)), refused, "no e-mail was written yet");
    step(&mut world, vec![found(1, EmailKind::Missed, 1, 50)]);
    let email = all(&mut world).remove(0);
    change(&mut world, told(&email, sealed()));
    // The first secret stays.
    change(&mut world, told(&email, EmailFate::Sealed { secret: SecretBytes(vec![8; 16]) }));
    for (byte, bytes) in [(8, 16), (7, 15), (7, 17), (0, 0)] {
        assert_eq!(change(&mut world, stop(byte, bytes)), refused);
    }
    assert_eq!(change(&mut world, stop(7, 16)), Reply::Done);
    world.chill();
    let known = EmailStand { unsubscribed: true, secret: Some(SecretBytes(vec![7; 16])) };
    assert_eq!(world.shard.email_stand(&world.rows, session(1)).unwrap(), known);
    assert_eq!(world.shard.email_stand(&world.rows, session(2)).unwrap(), EmailStand::default());
}

#[test]
fn nothing_of_a_forgotten_visitors_e_mails_stays() {
    let mut world = talked();
    step(&mut world, vec![found(1, EmailKind::Missed, 1, 50), found(2, EmailKind::Missed, 1, 50)]);
    let ask = EmailChange::Ask { session: session(1), id: 1, to: "a@b.example".into(), limited: true };
    change(&mut world, ask);
    world.checkpoint();
    world.apply(close(1, Party::Visitor));
    world.settle();
    world.apply(Command::Erase { session: session(1), upto: 9, forget: true });
    world.checkpoint();
    let left: Vec<SessionId> = all(&mut world).iter().map(|email| email.session).collect();
    assert_eq!(left, [session(2)]);
    assert_eq!((world.rows.count(b'k'), world.rows.count(b'l')), (1, 0));
}

#[test]
fn a_full_shard_counts_what_it_does_not_take_and_no_site_takes_the_places_of_all() {
    let mut world = talked();
    let mut find = |site, ids: std::ops::Range<usize>| {
        let ids: Vec<u128> = ids.map(|id| id as u128).collect();
        for ids in ids.chunks(1_000) {
            let found = ids.iter().map(|id| EmailFound { site, ..found(*id, EmailKind::Missed, 1, 50) });
            step(&mut world, found.collect());
        }
        let count = world.shard.emails_count(&world.rows).unwrap().0;
        (count, world.shard.email_course(&world.rows).unwrap().missed)
    };
    assert_eq!(find(SITE, 0..EMAILS_OF_SITE_MAX + 10), (EMAILS_OF_SITE_MAX, 10));
    assert_eq!(find(SiteId(7), 10_000..12_010), (EMAILS_MAX, 20));
    world.chill();
    assert_eq!(world.shard.emails_count(&world.rows).unwrap().0, EMAILS_MAX);
}
