//! Owns histories by hand of what was taken back, erased, or is between agents. Does not generate any.

use super::book::{
    A, Book, OPERATOR, TAB, VISITOR, agent, assigned, close, closed, history, page, send, session, visitor,
};
use crate::history::*;

fn event(seq: u64, kind: EventKind) -> Event {
    Event { session: session(), seq: Seq(seq), ts: seq, kind }
}

fn did(seq: u64, from: Party, act: Act) -> Event {
    event(seq, EventKind::Act { from, act })
}

fn act(n: u64, act: Act) -> What {
    What::Act { session: session(), device: DeviceId::from("d"), n, act }
}

fn recall(of: u64) -> Act {
    Act::Recall { of: Seq(of) }
}

fn note() -> Act {
    Act::Note { text: "between us".into() }
}

fn a() -> Party {
    Party::Agent(AgentId::from("a"))
}

/// The visitor writes, edits, is told both, and takes the message back.
fn taken_back() -> Book {
    let mut book = Book::new();
    book.connected(TAB, 1).sent(VISITOR, 1, "one", 1);
    let edit = Act::Edit { of: Seq(1), text: "won".into() };
    let op = book.invoke(VISITOR, act(2, edit.clone()));
    book.acked(op, 2).told(TAB, 1, &[visitor(1, "one"), did(2, Party::Visitor, edit)]);
    let op = book.invoke(VISITOR, act(3, recall(1)));
    book.acked(op, 3).told(TAB, 1, &[did(3, Party::Visitor, recall(1))]);
    book
}

fn after(text: &str, edited: &str) -> [Event; 3] {
    let edit = Act::Edit { of: Seq(1), text: edited.into() };
    [visitor(1, text), did(2, Party::Visitor, edit), did(3, Party::Visitor, recall(1))]
}

#[test]
fn what_was_taken_back_has_no_text_in_what_is_read_later() {
    let mut right = taken_back();
    right.did(TAB, history(0, 9), page(&after("", ""), 3)).finals(&after("", "")).passes();
    for (text, edited) in [("one", ""), ("", "won")] {
        let mut wrong = taken_back();
        wrong.finals(&after(text, edited)).breaks("taken-back");
        let mut wrong = taken_back();
        wrong.did(TAB, history(0, 9), page(&after(text, edited), 3)).finals(&after("", "")).breaks("taken-back");
    }
    // On a socket that was opened later, too; but who took it back may still have its own text.
    let mut wrong = taken_back();
    let other = did(4, Party::Visitor, Act::Edit { of: Seq(1), text: "won".into() });
    wrong
        .connected(A, 1)
        .disconnected(A, 1)
        .connected(A, 2)
        .told(A, 2, &[other])
        .finals(&after("", ""))
        .breaks("taken-back");
}

#[test]
fn a_text_that_is_gone_and_was_not_taken_back_is_lost() {
    let mut wrong = Book::new();
    wrong.sent(VISITOR, 1, "one", 1).finals(&[visitor(1, "")]).breaks("acked-once");
    let mut refused = Book::new();
    refused.sent(VISITOR, 1, "one", 1).refused(VISITOR, act(2, recall(1)), "closed");
    refused.finals(&[visitor(1, "")]).breaks("acked-once");
}

/// A conversation that is over, before it is erased.
fn over() -> (Book, Vec<Event>) {
    let mut book = Book::new();
    let events = vec![visitor(1, "one"), assigned(2, "a"), agent(3, "a", "two"), closed(4, "visitor")];
    book.sent(VISITOR, 1, "one", 1).told(A, 0, &events[..2]);
    let op = book.invoke(A, What::Send { session: session(), device: DeviceId::from("e"), n: 1, text: "two".into() });
    book.acked(op, 3).did(VISITOR, close(), None);
    (book, events)
}

#[test]
fn what_was_erased_is_gone_from_what_is_read_later() {
    let gone = |seq| event(seq, EventKind::Gone);
    let erased = event(5, EventKind::Erased { upto: Seq(4) });
    let (mut right, events) = over();
    right.did(OPERATOR, What::Erase { session: session() }, None);
    right.finals(&[gone(1), gone(2), gone(3), gone(4), erased.clone()]).passes();

    let (mut wrong, _) = over();
    wrong.did(OPERATOR, What::Erase { session: session() }, None);
    wrong.finals(&[gone(1), gone(2), events[2].clone(), gone(4), erased.clone()]).breaks("taken-back");

    // What was never answered for may stand there.
    let (mut open, events) = over();
    let op = open.invoke(OPERATOR, What::Erase { session: session() });
    open.unknown(op).finals(&events).passes();
}

#[test]
fn what_is_between_agents_reaches_no_visitor() {
    let begin = || {
        let mut book = Book::new();
        book.sent(VISITOR, 1, "one", 1);
        let op = book.invoke(A, act(1, note()));
        book.acked(op, 2);
        book
    };
    let hidden = [visitor(1, "one"), event(2, EventKind::Hidden)];
    begin().did(TAB, history(0, 9), page(&hidden, 2)).finals(&hidden).passes();
    let shown = [visitor(1, "one"), did(2, a(), note())];
    begin().did(TAB, history(0, 9), page(&shown, 2)).finals(&hidden).breaks("between-agents");
    begin().did(A, history(0, 9), page(&shown, 2)).finals(&hidden).passes();
    let other = [visitor(1, "one"), did(2, a(), Act::Note { text: "of nobody".into() })];
    begin().did(A, history(0, 9), page(&other, 2)).finals(&hidden).breaks("acts-once");
}

#[test]
fn acts_stand_in_the_order_of_their_acks() {
    let react = |of: u64| Act::React { of: Seq(of), emoji: "👍".into() };
    let mut book = Book::new();
    book.sent(VISITOR, 1, "one", 1).did(VISITOR, send(2, "two"), Some(Reply::Sent { seq: Seq(2), ts: 2, dup: false }));
    let first = book.invoke(VISITOR, act(3, react(1)));
    book.acked(first, 4);
    let second = book.invoke(VISITOR, act(4, react(2)));
    book.acked(second, 3);
    let events =
        [visitor(1, "one"), visitor(2, "two"), did(3, Party::Visitor, react(2)), did(4, Party::Visitor, react(1))];
    book.finals(&events).breaks("acts-order");
}
