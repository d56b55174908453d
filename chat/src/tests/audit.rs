//! Owns the tests of audit chains. Does not test who writes into them.

use super::world::*;
use crate::limits::{AUDIT_KEPT, AUDIT_SEEN_MAX, AUDIT_TARGET_BYTES_MAX, AUDIT_TEXT_BYTES_MAX};
use crate::rows::{ChainRow, SeenRow};
use crate::{ApplyError, Refusal, Reply, Shard, audit_offline, keys};
use proto::audit::{AuditAct, AuditPage, AuditPhase, ChainPoint, OPERATORS};
use proto::codec::encode;
use proto::command::Command;
use proto::ids::SiteId;
use sha2::{Digest, Sha256};

fn act(act: u128, phase: AuditPhase) -> AuditAct {
    AuditAct {
        act,
        phase,
        who: "token:ci".into(),
        role: "operator".into(),
        address: "192.0.2.7".into(),
        node: "n2".into(),
        method: "PUT".into(),
        route: "/admin/v1/settings/{name}".into(),
        target: "/admin/v1/settings/größe?x=1".into(),
        body: Some([7; 32]),
    }
}

fn told(site: SiteId, act: AuditAct) -> Command {
    Command::Audit { site, act: Box::new(act) }
}

fn begun(site: SiteId, id: u128) -> Command {
    told(site, act(id, AuditPhase::Begun))
}

fn page(world: &World, site: SiteId, after: u64) -> AuditPage {
    world.shard.audit(&world.rows, site, after, 1_000, usize::MAX).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As docs/AUDIT.md says it, word by word, and with nothing of the product.
fn by_the_guide(before: &str, chain: &str, seq: u64, ts_ms: u64, act: &AuditAct) -> String {
    let (phase, begun, status) = match act.phase {
        AuditPhase::Begun => ("begun", 0, 0),
        AuditPhase::Done { begun, status } => ("done", begun, status),
        AuditPhase::Refused { status } => ("refused", 0, status),
        AuditPhase::Told { status } => ("told", 0, status),
    };
    let body = act.body.map(|body| hex(&body)).unwrap_or_default();
    let texts = [
        before.to_owned(),
        chain.to_owned(),
        format!("{seq}"),
        format!("{ts_ms}"),
        format!("{:032x}", act.act),
        phase.to_owned(),
        format!("{begun}"),
        format!("{status}"),
        act.who.clone(),
        act.role.clone(),
        act.address.clone(),
        act.node.clone(),
        act.method.clone(),
        act.route.clone(),
        act.target.clone(),
        body,
    ];
    let text: String = texts.iter().map(|text| format!("{}:{text},", text.len())).collect();
    hex(&Sha256::digest(text.as_bytes()))
}

/// The page is a chain from `before` on.
fn check(page: &AuditPage, chain: &str, mut before: ChainPoint, mut ts_ms: u64) {
    for line in &page.lines {
        assert_eq!(line.entry.seq, before.seq + 1);
        assert!(line.entry.ts_ms >= ts_ms);
        ts_ms = line.entry.ts_ms;
        let hash = by_the_guide(&hex(&before.hash), chain, line.entry.seq, ts_ms, &line.entry.act);
        assert_eq!(hex(&line.hash), hash);
        before = ChainPoint { seq: line.entry.seq, hash: line.hash };
    }
    assert_eq!(before, page.head);
}

#[test]
fn an_act_gets_the_next_place_in_its_chain_whatever_is_in_memory() {
    let mut world = World::alone();
    for n in 1..=60_u64 {
        let id = u128::from(n);
        assert_eq!(world.reply(begun(SITE, id)), Reply::Audited { seq: 2 * n - 1 });
        if n == 30 {
            // A clock that goes back.
            world.now_ms -= 25;
        }
        let done = act(id, AuditPhase::Done { begun: 2 * n - 1, status: 204 });
        assert_eq!(world.reply(told(SITE, done)), Reply::Audited { seq: 2 * n });
        assert_eq!(world.reply(told(OPERATORS, act(id, AuditPhase::Told { status: 200 }))), Reply::Audited { seq: n });
        match n % 7 {
            0 => world.checkpoint(),
            3 => world.chill(),
            5 => {
                world.checkpoint();
                world.shard = Shard::open(ONE, 1, &world.rows).unwrap();
            }
            _ => {}
        }
    }
    for chilled in [false, true] {
        if chilled {
            world.chill();
        }
        let (ours, theirs) = (page(&world, SITE, 0), page(&world, OPERATORS, 0));
        assert_eq!((ours.lines.len(), theirs.lines.len()), (120, 60));
        check(&ours, "site1", ChainPoint::default(), 0);
        check(&theirs, "operators", ChainPoint::default(), 0);
    }
    let nobody = page(&world, SiteId(9), 0);
    assert_eq!((nobody.lines.len(), nobody.head), (0, ChainPoint::default()));
    let few = world.shard.audit(&world.rows, SITE, 117, 2, usize::MAX).unwrap();
    assert_eq!(few.lines.iter().map(|line| line.entry.seq).collect::<Vec<_>>(), [118, 119]);
    assert_eq!(world.shard.audit(&world.rows, SITE, 0, 99, 1).unwrap().lines.len(), 1);
    assert_eq!(page(&world, SITE, u64::MAX).lines.len(), 0);
}

#[test]
fn an_act_that_is_proposed_again_keeps_its_place() {
    let mut world = World::alone();
    assert_eq!(world.reply(begun(SITE, 1)), Reply::Audited { seq: 1 });
    let done = || told(SITE, act(1, AuditPhase::Done { begun: 1, status: 200 }));
    assert_eq!(world.reply(done()), Reply::Audited { seq: 2 });
    world.chill();
    assert_eq!(world.reply(begun(SITE, 1)), Reply::Audited { seq: 1 });
    assert_eq!(world.reply(done()), Reply::Audited { seq: 2 });
    assert_eq!(world.reply(begun(OPERATORS, 1)), Reply::Audited { seq: 1 }, "each chain knows its own");
    for id in 2..=AUDIT_SEEN_MAX as u128 {
        world.apply(begun(SITE, id));
    }
    let head = page(&world, SITE, 0).head;
    assert_eq!(world.reply(done()), Reply::Audited { seq: 2 });
    assert_eq!(page(&world, SITE, 0).head, head);
    // What nobody repeats any more is forgotten.
    assert_eq!(world.reply(begun(SITE, 1)), Reply::Audited { seq: head.seq + 1 });
}

#[test]
fn what_is_too_long_or_ends_what_never_began_has_no_place() {
    let mut world = World::alone();
    let invalid = Reply::Rejected(Refusal::RulesInvalid("an audit entry"));
    let long = AuditAct { target: "x".repeat(AUDIT_TARGET_BYTES_MAX + 1), ..act(1, AuditPhase::Begun) };
    assert_eq!(world.reply(told(SITE, long)), invalid);
    let most = AuditAct { target: "x".repeat(AUDIT_TARGET_BYTES_MAX), ..act(1, AuditPhase::Begun) };
    assert_eq!(world.reply(told(SITE, most)), Reply::Audited { seq: 1 });
    let with = |change: fn(&mut AuditAct, String)| {
        let mut wrong = act(2, AuditPhase::Begun);
        change(&mut wrong, "x".repeat(AUDIT_TEXT_BYTES_MAX + 1));
        wrong
    };
    let wrong = [
        with(|act, long| act.who = long),
        with(|act, long| act.role = long),
        with(|act, long| act.address = long),
        with(|act, long| act.node = long),
        with(|act, long| act.method = long),
        with(|act, long| act.route = long),
        act(2, AuditPhase::Done { begun: 0, status: 200 }),
        act(2, AuditPhase::Done { begun: 2, status: 200 }),
    ];
    for wrong in wrong {
        assert_eq!(world.reply(told(SITE, wrong)), invalid);
    }
    assert_eq!(page(&world, SITE, 0).head.seq, 1);
}

#[test]
fn the_oldest_entries_are_cut_and_the_rest_still_follows_from_the_cut() {
    let mut world = World::alone();
    for id in 1..=3 {
        world.apply(begun(SITE, id));
    }
    world.chill();
    let first = page(&world, SITE, 0).lines;
    // As if a million had come: those between are of no interest.
    let chain: ChainRow = crate::rows::read(&world.rows, "audit chain", &keys::chain(SITE)).unwrap().unwrap();
    let head = ChainPoint { seq: AUDIT_KEPT, hash: [5; 32] };
    world.rows.map.insert(keys::chain(SITE), encode(&ChainRow { head, ..chain }));
    let rows = world.rows.count(b'X');
    for id in 11..=12 {
        world.apply(begun(SITE, id));
    }
    world.checkpoint();
    assert_eq!(world.rows.count(b'X'), rows, "two more, and two less");
    world.chill();
    let oldest = world.shard.audit(&world.rows, SITE, 0, 1, usize::MAX).unwrap();
    assert_eq!(oldest.cut, ChainPoint { seq: 2, hash: first[1].hash });
    assert_eq!(oldest.lines, first[2..]);
    let newest = page(&world, SITE, AUDIT_KEPT);
    check(&newest, "site1", head, 0);
    assert_eq!(newest.head.seq, AUDIT_KEPT + 2);
}

#[test]
fn work_on_a_stopped_cluster_is_told_in_the_same_chain() {
    let mut world = World::alone();
    world.apply(begun(OPERATORS, 1));
    world.checkpoint();
    let recovered = AuditAct { node: String::new(), ..act(2, AuditPhase::Told { status: 200 }) };
    let changes = audit_offline(&world.rows, OPERATORS, 5, recovered).unwrap();
    world.rows.write(changes);
    world.shard = Shard::open(ONE, 1, &world.rows).unwrap();
    world.apply(begun(OPERATORS, 3));
    let page = page(&world, OPERATORS, 0);
    assert_eq!(page.lines.len(), 3);
    check(&page, "operators", ChainPoint::default(), 0);
}

#[test]
fn a_chain_that_does_not_fit_its_entries_is_corrupt() {
    let mut world = World::alone();
    for id in 1..=2 {
        world.apply(begun(SITE, id));
    }
    world.chill();
    let entry = world.rows.map.remove(&keys::audit(SITE, 1)).unwrap();
    let is_corrupt =
        |world: &World| matches!(world.shard.audit(&world.rows, SITE, 0, 9, 99_999), Err(ApplyError::Corrupt { .. }));
    assert!(is_corrupt(&world));
    world.rows.map.insert(keys::audit(SITE, 1), world.rows.map[&keys::audit(SITE, 2)].clone());
    assert!(is_corrupt(&world), "another entry stands there");
    world.rows.map.insert(keys::audit(SITE, 1), entry);
    assert!(!is_corrupt(&world));
    let chain: ChainRow = crate::rows::read(&world.rows, "audit chain", &keys::chain(SITE)).unwrap().unwrap();
    let seen = vec![SeenRow { act: 1, is_end: false, seq: 1 }; AUDIT_SEEN_MAX + 1];
    let (far, head) = (ChainPoint { seq: 1 << 63, hash: [0; 32] }, chain.head);
    for wrong in [
        ChainRow { cut: ChainPoint { seq: 3, hash: [0; 32] }, ..chain.clone() },
        ChainRow { head: far, ..chain.clone() },
        ChainRow { seen, head, ..chain.clone() },
    ] {
        world.rows.map.insert(keys::chain(SITE), encode(&wrong));
        assert!(is_corrupt(&world));
    }
}
