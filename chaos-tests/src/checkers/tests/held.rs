//! Owns histories made by hand for who holds a session, and for the cluster: assignment, refusals, the search for an order,
//! hashes, epochs, readiness, faults.

use super::book::*;
use crate::checkers::faults::check_faults;
use crate::checkers::verdict::Outcome;
use crate::checkers::{Limits, check_all_within};
use crate::history::*;

/// The visitor writes, `a` gets it and the visitor is told so.
fn with_a() -> (Vec<Event>, Book) {
    let mut book = Book::new();
    let events = vec![visitor(1, "x"), assigned(2, "a")];
    book.sent(VISITOR, 1, "x", 1).told(VISITOR, 1, &events);
    (events, book)
}

fn ending(mut book: Book, events: &[Event], more: &[Event]) -> Book {
    book.finals(&[events, more].concat());
    book
}

#[test]
fn an_agent_acts_while_it_holds_the_session() {
    let (events, mut book) = with_a();
    book.sent(A, 1, "y", 3).refused(B, send(1, "n"), "forbidden").did(A, close(), None);
    book.refused(A, send(2, "m"), "closed").did(A, close(), None).refused(A, close(), "closed");
    ending(book, &events, &[agent(3, "a", "y"), closed(4, "a")]).passes();
}

#[test]
fn a_move_takes_the_session_from_its_holder() {
    let (events, mut book) = with_a();
    book.did(OPERATOR, to_agent("b"), None).did(OPERATOR, to_agent("b"), None);
    book.sent(B, 1, "y", 4).refused(A, send(1, "n"), "forbidden");
    ending(book, &events, &[assigned(3, "b"), agent(4, "b", "y")]).passes();
}

#[test]
fn events_that_the_holder_forbids_are_found() {
    let (events, book) = with_a();
    let broken = |more: &[Event]| ending(book.clone(), &events, more).breaks("assignment");
    broken(&[agent(3, "b", "y")]);
    broken(&[assigned(3, "a")]);
    broken(&[assigned(3, "b")]);
    broken(&[closed(3, "b")]);
    broken(&[closed(3, "a")]);
    broken(&[closed(3, "system"), closed(4, "system")]);
    broken(&[closed(3, "system"), assigned(4, "a")]);
    broken(&[closed(3, "system"), agent(4, "a", "y")]);
}

#[test]
fn every_close_and_move_needs_an_operation_of_its_own_in_its_time() {
    let more = [assigned(3, "b"), assigned(4, "a"), assigned(5, "b")];
    let (events, mut book) = with_a();
    book.did(OPERATOR, to_agent("b"), None).did(OPERATOR, to_agent("a"), None);
    ending(book.clone(), &events, &more[..2]).passes();
    ending(book.clone(), &events, &more).breaks("assignment");
    // The move came only after the visitor had been told of the event.
    let (events, mut book) = with_a();
    book.told(VISITOR, 1, &more[..1]).did(OPERATOR, to_agent("b"), None);
    ending(book, &events, &more[..1]).breaks("assignment");
    // A close that was refused is no cause.
    let (events, mut book) = with_a();
    book.refused(A, close(), "overloaded");
    ending(book, &events, &[closed(3, "a")]).breaks("assignment");
}

#[test]
fn a_refusal_has_a_moment_at_which_it_was_true() {
    let (events, base) = with_a();
    let broken = |client, what: What, code: &str| {
        let mut book = base.clone();
        book.refused(client, what, code);
        ending(book, &events, &[]).breaks("refusals");
    };
    broken(A, send(1, "n"), "forbidden");
    broken(A, send(1, "n"), "not_found");
    broken(A, close(), "forbidden");
    broken(VISITOR, close(), "closed");
    broken(VISITOR, send(2, "n"), "forbidden");
    broken(OPERATOR, to_agent("b"), "closed");
    // Before the assignment was told it may not have been made; afterwards a move may be under way.
    let mut book = Book::new();
    book.sent(VISITOR, 1, "x", 1).refused(A, send(1, "n"), "forbidden").told(VISITOR, 1, &events);
    let op = book.invoke(OPERATOR, to_agent("b"));
    book.refused(A, send(1, "m"), "forbidden").ok(op, None);
    ending(book, &events, &[assigned(3, "b")]).passes();
}

#[test]
fn an_acknowledged_close_or_move_leaves_the_session_so() {
    let (events, base) = with_a();
    let broken = |client, what: What| {
        let mut book = base.clone();
        book.did(client, what, None);
        ending(book, &events, &[]).breaks("refusals");
    };
    broken(A, close());
    broken(VISITOR, close());
    broken(B, close());
    broken(OPERATOR, to_agent("b"));
}

/// Found by chaos 302: a copy of such a close came late.
#[test]
fn a_close_of_who_saw_nothing_open_does_nothing() {
    let (mut events, mut base) = with_a();
    let more = [closed(3, "visitor"), visitor(4, "y"), visitor(5, "z")];
    base.did(VISITOR, close_seen(2), None).sent(VISITOR, 2, "y", 4);
    events.extend_from_slice(&more);
    // Nor does an acknowledgement promise that nothing is open.
    for seen in [0, 3] {
        let mut book = base.clone();
        book.did(VISITOR, close_seen(seen), None).sent(VISITOR, 3, "z", 5);
        book.finals(&events).passes();
        // It is no cause of a close, even if nobody knows its outcome.
        let mut book = base.clone();
        book.sent(VISITOR, 3, "z", 5);
        let late = book.invoke(VISITOR, close_seen(seen));
        ending(book.unknown(late).clone(), &events, &[closed(6, "visitor")]).breaks("assignment");
    }
    // Who saw the conversation does end it.
    let mut book = base.clone();
    book.sent(VISITOR, 3, "z", 5).did(VISITOR, close_seen(4), None);
    ending(book.clone(), &events, &[]).breaks("refusals");
    ending(book, &events, &[closed(6, "visitor")]).passes();
    // Nor does it matter how much is said afterwards.
    let mut book = base.clone();
    book.did(VISITOR, close_seen(3), None).sent(VISITOR, 3, "z", 5);
    let more: Vec<Event> = (6..=1_100).map(|seq| visitor(seq, &format!("{seq}"))).collect();
    for event in &more {
        let EventKind::Message { text, .. } = &event.kind else { continue };
        book.sent(VISITOR, event.seq.0 - 2, text, event.seq.0);
    }
    ending(book, &events, &more).passes();
    // An agent, whose conversation it is not, is refused.
    base.sent(VISITOR, 3, "z", 5).did(A, close_seen(3), None);
    ending(base, &events, &[]).breaks("refusals");
}

#[test]
fn the_search_finds_answers_that_no_order_explains() {
    let (events, base) = with_a();
    let broken = |book: &Book, more: &[Event]| ending(book.clone(), &events, more).breaks("linearizable-holder");
    let mut book = base.clone();
    book.sent(B, 1, "y", 3);
    broken(&book, &[agent(3, "b", "y")]);
    let mut book = base.clone();
    book.refused(A, send(1, "y"), "forbidden");
    broken(&book, &[]);
    let mut book = base.clone();
    book.did(OPERATOR, to_agent("b"), None).sent(A, 1, "y", 4);
    broken(&book, &[assigned(3, "b"), agent(4, "a", "y")]);
    let mut book = base.clone();
    book.did(A, close(), None).sent(A, 1, "y", 4);
    broken(&book, &[closed(3, "a"), agent(4, "a", "y")]);
    let mut book = base.clone();
    book.did(VISITOR, close(), None).refused(VISITOR, close(), "closed").sent(A, 1, "y", 4);
    broken(&book, &[closed(3, "visitor"), agent(4, "a", "y")]);
}

#[test]
fn a_move_of_unknown_outcome_may_have_happened_or_not() {
    let (events, mut book) = with_a();
    let op = book.invoke(OPERATOR, to_agent("b"));
    book.unknown(op);
    let mut happened = book.clone();
    happened.sent(B, 1, "y", 4);
    ending(happened.clone(), &events, &[assigned(3, "b"), agent(4, "b", "y")]).passes();
    book.sent(A, 1, "y", 3);
    ending(book, &events, &[agent(3, "a", "y")]).passes();
    // It happened at most once.
    happened.did(OPERATOR, to_agent("a"), None).sent(B, 2, "z", 6);
    let more = [assigned(3, "b"), agent(4, "b", "y"), assigned(5, "a"), agent(6, "b", "z")];
    ending(happened, &events, &more).breaks("linearizable-holder");
}

#[test]
fn a_search_that_is_given_up_is_neither_passed_nor_failed() {
    let (events, mut book) = with_a();
    book.sent(A, 1, "y", 3);
    let book = ending(book, &events, &[agent(3, "a", "y")]);
    let verdict = check_all_within(&book.lines, Limits { search_steps_max: 2, ..Limits::default() });
    assert_eq!(verdict.outcome(), Outcome::Undecided, "{verdict}");
    assert!(verdict.to_string().contains("gave up 1"), "{verdict}");
}

fn cluster(bodies: Vec<Body>) -> Book {
    let mut book = Book::new();
    for body in bodies {
        book.note(body);
    }
    book.finals(&[]);
    book
}

#[test]
fn replicas_at_one_index_have_one_hash() {
    let hash = |node, applied, hash: &str| Body::Hash {
        node: NodeId(node),
        shard: ShardId(1),
        applied: Applied(applied),
        hash: hash.to_owned(),
    };
    cluster(vec![hash(1, 5, "x"), hash(1, 6, "y"), hash(2, 6, "y")]).passes();
    cluster(vec![hash(1, 6, "x"), hash(2, 6, "y")]).breaks("hashes-agree");
    cluster(vec![hash(1, 5, "x"), hash(2, 6, "y")]).breaks("hashes-agree");
    cluster(vec![hash(1, 6, "x"), hash(1, 6, "y")]).breaks("hashes-agree");
    cluster(vec![hash(1, 6, "y"), hash(2, 6, "y"), hash(3, 7, "z")]).breaks("hashes-agree");
    let mut book = cluster(vec![hash(1, 6, "y")]);
    let Body::Run { shards, .. } = &mut book.lines[0].body else { unreachable!("the run comes first") };
    *shards = 2;
    book.breaks("hashes-agree");
}

#[test]
fn epochs_rise_and_have_one_leader() {
    let serving = |node, epoch| Body::Serving { node: NodeId(node), shard: ShardId(1), epoch: Epoch(epoch) };
    let leader = |node, epoch| Body::Leader { shard: ShardId(1), node: Some(NodeId(node)), epoch: Epoch(epoch) };
    cluster(vec![serving(1, 3), leader(1, 3), serving(2, 5), serving(2, 5)]).passes();
    cluster(vec![serving(1, 3), serving(2, 3)]).breaks("epochs");
    cluster(vec![serving(1, 3), serving(2, 2)]).breaks("epochs");
    cluster(vec![serving(1, 3), leader(2, 3)]).breaks("epochs");
    cluster(vec![leader(1, 4), leader(2, 5), leader(1, 5)]).breaks("epochs");
}

fn fault(kind: &str) -> Body {
    Body::Fault { fault: FaultId(1), kind: kind.to_owned(), nodes: vec![NodeId(1)], note: String::new() }
}

#[test]
fn the_cluster_serves_again_within_the_limit() {
    let healed = || Body::Healed { fault: FaultId(1) };
    cluster(vec![fault("kill"), healed(), Body::Ready { since: 5_000_000 }]).passes();
    cluster(vec![fault("kill"), healed()]).breaks("ready-in-time");
    cluster(vec![fault("kill"), healed(), Body::Ready { since: 60_000_001 }]).breaks("ready-in-time");
    cluster(vec![fault("kill"), healed(), Body::Ready { since: 1 }, fault("kill"), healed()]).breaks("ready-in-time");
}

#[test]
fn a_run_without_its_faults_is_invalid_and_a_broken_one_fails_all_the_same() {
    let book = cluster(vec![fault("kill"), Body::Ready { since: 1 }]);
    let judge = |required: &[(&str, usize)]| book.verdict().with_faults(check_faults(&book.lines, required)).outcome();
    assert_eq!(judge(&[("kill", 1)]), Outcome::Passed);
    assert_eq!(judge(&[("kill", 2)]), Outcome::Invalid);
    assert_eq!(judge(&[("kill", 1), ("partition", 1)]), Outcome::Invalid);
    let broken = cluster(vec![fault("kill")]);
    let verdict = broken.verdict().with_faults(check_faults(&broken.lines, &[("partition", 1)]));
    assert_eq!(verdict.outcome(), Outcome::Failed);
    assert!(verdict.to_string().contains("0 of at least 1 `partition`"), "{verdict}");
}

#[test]
fn a_verdict_tells_the_property_the_seed_the_session_and_the_lines() {
    let (events, mut book) = with_a();
    for _ in 0..40 {
        book.did(VISITOR, history(2, 1), page(&[], 2));
    }
    book.sent(B, 1, "y", 3);
    let verdict = ending(book, &events, &[agent(3, "b", "y")]).verdict();
    let text = verdict.to_string();
    println!("{text}");
    assert!(text.starts_with("Failed, seed 7\n"), "{text}");
    assert!(text.contains("\nassignment, seed 7, session s: agent b wrote seq 3; agent a had it\n"), "{text}");
    assert!(text.contains("agent b (client 4) asks: send 1 of device d: `y`"), "{text}");
    let first = text.split("\n\n").nth(1).unwrap();
    assert!(first.lines().filter(|line| line.starts_with(' ')).count() <= 20, "{first}");
    assert!(first.lines().any(|line| line.starts_with('>')), "{first}");
}
