//! Owns histories made by hand for what is stored: acks, refusals, unknown outcomes, authors, payloads, seqs, nodes.

use super::book::*;
use crate::history::*;

fn two_sends() -> Book {
    let mut book = Book::new();
    book.sent(VISITOR, 1, "x", 1).sent(VISITOR, 2, "y", 2);
    book
}

#[test]
fn an_acked_send_at_its_place_passes() {
    two_sends().finals(&[visitor(1, "x"), visitor(2, "y")]).passes();
}

#[test]
fn a_repeated_send_with_its_first_seq_passes() {
    let mut book = two_sends();
    book.did(VISITOR, send(1, "x"), Some(Reply::Sent { seq: Seq(1), ts: 1, dup: true }));
    book.finals(&[visitor(1, "x"), visitor(2, "y")]).passes();
}

#[test]
fn an_acked_send_that_is_lost_doubled_moved_or_another_s_is_found() {
    two_sends().finals(&[visitor(1, "x")]).breaks("acked-once");
    two_sends().finals(&[visitor(1, "x"), visitor(2, "y"), visitor(3, "y")]).breaks("acked-once");
    two_sends().finals(&[visitor(1, "y"), visitor(2, "x")]).breaks("acked-once");
    two_sends().finals(&[visitor(1, "x"), agent(2, "a", "y")]).breaks("acked-once");
    let later = Event { ts: 9, ..visitor(2, "y") };
    two_sends().finals(&[visitor(1, "x"), later]).breaks("acked-once");
}

#[test]
fn a_repeated_send_with_another_seq_is_found() {
    let mut book = two_sends();
    book.sent(VISITOR, 1, "x", 3);
    book.finals(&[visitor(1, "x"), visitor(2, "y"), visitor(3, "x")]).breaks("acked-once");
}

#[test]
fn a_refused_send_must_leave_no_trace() {
    let mut book = Book::new();
    book.refused(VISITOR, send(1, "x"), "overloaded").sent(VISITOR, 1, "y", 1);
    book.clone().finals(&[visitor(1, "y")]).passes();
    book.clone().finals(&[visitor(1, "y"), visitor(2, "x")]).breaks("failed-never");
    book.clone().final_of(1, &[visitor(1, "y")]).final_of(2, &[visitor(1, "x")]).breaks("failed-never");
    book.told(VISITOR, 1, &[visitor(1, "x")]).finals(&[visitor(1, "y")]).breaks("failed-never");
}

#[test]
fn a_send_of_unknown_outcome_stands_once_or_nowhere() {
    let mut book = Book::new();
    let op = book.invoke(VISITOR, send(1, "x"));
    book.unknown(op);
    book.clone().finals(&[]).passes();
    book.clone().finals(&[visitor(1, "x")]).passes();
    book.clone().finals(&[visitor(1, "x"), visitor(2, "x")]).breaks("unknown-at-most-once");
    // Without an end line it is the same.
    book.lines.pop();
    book.finals(&[visitor(1, "x"), visitor(2, "x")]).breaks("unknown-at-most-once");
}

#[test]
fn one_number_of_a_device_is_one_message() {
    let mut book = Book::new();
    let op = book.invoke(VISITOR, send(1, "x"));
    book.unknown(op).sent(VISITOR, 1, "y", 2);
    book.finals(&[visitor(1, "x"), visitor(2, "y")]).breaks("unknown-at-most-once");
}

#[test]
fn a_message_that_nobody_sent_or_that_bears_another_s_name_is_found() {
    two_sends().finals(&[visitor(1, "x"), visitor(2, "y"), visitor(3, "z")]).breaks("authors");
    two_sends().finals(&[visitor(1, "x"), agent(2, "b", "y")]).breaks("authors");
    two_sends().finals(&[visitor(1, "x"), agent(2, "system", "y")]).breaks("authors");
}

#[test]
fn a_seq_that_is_two_events_is_found_whoever_saw_it() {
    let right = [visitor(1, "x"), visitor(2, "y")];
    let wrong = [visitor(1, "x"), visitor(2, "z")];
    two_sends().told(VISITOR, 1, &right).finals(&right).passes();
    two_sends().told(VISITOR, 1, &wrong).finals(&right).breaks("one-payload");
    two_sends().final_of(1, &right).final_of(2, &wrong).breaks("one-payload");
    two_sends().did(VISITOR, history(0, 9), page(&wrong, 2)).finals(&right).breaks("one-payload");
    two_sends().finals(&wrong).breaks("one-payload");
    let foreign = Event { session: SessionId::from("t"), ..visitor(2, "y") };
    two_sends().final_of(1, &right).final_of(2, &[visitor(1, "x"), foreign]).breaks("one-payload");
}

#[test]
fn seqs_count_from_one_and_times_never_fall() {
    let right = [visitor(1, "x"), visitor(2, "y")];
    two_sends().final_of(1, &right).final_of(2, &[visitor(2, "y")]).breaks("gapless-finals");
    two_sends().finals(&[visitor(1, "x"), visitor(3, "y")]).breaks("gapless-finals");
    two_sends().finals(&[visitor(1, "x"), visitor(1, "y")]).breaks("gapless-finals");
    let earlier = Event { ts: 0, ..visitor(2, "y") };
    two_sends().finals(&[visitor(1, "x"), earlier]).breaks("gapless-finals");
}

#[test]
fn every_node_tells_the_same_of_every_session() {
    let right = [visitor(1, "x"), visitor(2, "y")];
    two_sends().final_of(1, &right).final_of(2, &right[..1]).breaks("finals-agree");
    two_sends().final_of(1, &right).breaks("finals-agree");
    two_sends().breaks("finals-agree");
    let later = Event { ts: 3, ..visitor(2, "y") };
    two_sends().final_of(1, &right).final_of(2, &[visitor(1, "x"), later]).breaks("finals-agree");
    let mut book = two_sends();
    let other = SessionId::from("t");
    for node in [1, 2] {
        book.note(Body::Final { node: NodeId(node), session: other.clone(), events: Vec::new() });
    }
    book.finals(&right).breaks("finals-agree");
}

#[test]
fn a_file_that_is_no_history_is_found() {
    let mut book = two_sends();
    book.finals(&[visitor(1, "x"), visitor(2, "y")]);
    let edit = |change: &dyn Fn(&mut Book)| {
        let mut book = book.clone();
        change(&mut book);
        book.breaks("well-formed");
    };
    edit(&|book| book.lines.clear());
    edit(&|book| _ = book.lines.remove(0));
    edit(&|book| book.lines.last_mut().unwrap().t = 0);
    edit(&|book| _ = book.acked(1, 1));
    edit(&|book| _ = book.acked(99, 1));
    edit(&|book| _ = book.sent(77, 1, "z", 3));
    edit(&|book| _ = book.did(VISITOR, close(), page(&[], 0)));
    edit(&|book| _ = book.sent(VISITOR, 9, "x", 3));
    edit(&|book| _ = book.sent(OPERATOR, 9, "o", 3));
    edit(&|book| _ = book.final_of(9, &[]));
}
