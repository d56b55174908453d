//! Owns histories made by hand for what is seen and when: order, reads, cursors, streams.

use super::book::*;
use crate::history::*;

#[test]
fn sends_that_overlap_may_stand_in_either_order() {
    for (first, second) in [(1, 2), (2, 1)] {
        let mut book = Book::new();
        let (x, y) = (
            book.invoke(VISITOR, send(1, "x")),
            book.invoke(TAB, What::Send { session: session(), device: DeviceId::from("tab"), n: 1, text: "y".into() }),
        );
        book.acked(x, first).acked(y, second);
        let mut events = [visitor(first, "x"), visitor(second, "y")];
        events.sort_by_key(|event| event.seq);
        book.finals(&events).passes();
    }
}

#[test]
fn what_began_after_an_end_has_the_higher_seq() {
    let events = [visitor(1, "y"), visitor(2, "x")];
    let mut book = Book::new();
    book.sent(VISITOR, 2, "x", 2).sent(TAB, 1, "y", 1);
    book.finals(&events).breaks("real-time-order");
    // Being told, and reading, are ends too.
    let mut book = Book::new();
    let x = book.invoke(VISITOR, send(2, "x"));
    book.told(TAB, 1, &events[1..]).sent(TAB, 1, "y", 1).acked(x, 2);
    book.finals(&events).breaks("real-time-order");
    let mut book = Book::new();
    let x = book.invoke(VISITOR, send(2, "x"));
    book.did(TAB, history(9, 1), page(&[], 2)).sent(TAB, 1, "y", 1).acked(x, 2);
    book.finals(&events).breaks("real-time-order");
    // A close that began after what stands above it was acked.
    let events = [visitor(1, "x"), closed(2, "visitor"), visitor(3, "y")];
    let mut book = Book::new();
    book.sent(VISITOR, 1, "x", 1).sent(VISITOR, 2, "y", 3).did(VISITOR, close(), None);
    book.finals(&events).breaks("real-time-order");
}

#[test]
fn a_device_s_sends_stand_in_the_order_of_their_numbers() {
    let events = [visitor(1, "x"), visitor(2, "y")];
    let mut book = Book::new();
    let (y, x) = (book.invoke(VISITOR, send(1, "y")), book.invoke(VISITOR, send(2, "x")));
    book.acked(x, 1).acked(y, 2);
    book.finals(&events).breaks("real-time-order");
}

#[test]
fn a_read_holds_all_that_was_known_before_it() {
    let events = [visitor(1, "x"), visitor(2, "y"), visitor(3, "z")];
    let base = || {
        let mut book = Book::new();
        book.sent(VISITOR, 1, "x", 1).sent(VISITOR, 2, "y", 2).sent(VISITOR, 3, "z", 3);
        book
    };
    let read = |after, limit, events: &[Event], head| {
        let mut book = base();
        book.did(A, history(after, limit), page(events, head));
        book
    };
    read(0, 9, &events, 3).finals(&events).passes();
    read(1, 1, &events[1..2], 3).finals(&events).passes();
    read(7, 5, &[], 3).finals(&events).passes();
    read(0, 9, &events[..2], 2).finals(&events).breaks("fresh-reads");
    read(0, 9, &[], 0).finals(&events).breaks("fresh-reads");
    read(0, 9, &events[..2], 3).finals(&events).breaks("fresh-reads");
    read(0, 9, &[events[0].clone(), events[2].clone()], 3).finals(&events).breaks("fresh-reads");
    read(0, 1, &events, 3).finals(&events).breaks("fresh-reads");
    read(0, 9, &events, 2).finals(&events).breaks("fresh-reads");
    read(4, 9, &[], 8).finals(&events).breaks("fresh-reads");
    // A read that began before the last ack may lack that send.
    let mut book = Book::new();
    book.sent(VISITOR, 1, "x", 1);
    let op = book.invoke(A, history(0, 9));
    book.sent(VISITOR, 2, "y", 2).ok(op, page(&events[..1], 1));
    book.finals(&events[..2]).passes();
}

#[test]
fn a_client_does_not_lose_sight_of_what_it_saw() {
    let events = [visitor(1, "x"), visitor(2, "y")];
    let mut book = Book::new();
    book.sent(VISITOR, 1, "x", 1).sent(VISITOR, 2, "y", 2);
    book.clone().did(TAB, history(0, 9), page(&events, 2)).finals(&events).passes();
    book.clone().did(VISITOR, history(0, 9), page(&events[..1], 1)).finals(&events).breaks("monotonic-reads");
    let mut again = book.clone();
    again.did(A, history(0, 9), page(&events, 2)).did(A, history(0, 9), page(&events[..1], 1));
    again.finals(&events).breaks("monotonic-reads");
    let mut told = book.clone();
    told.told(TAB, 1, &events).did(TAB, history(0, 9), page(&events[..1], 1));
    told.finals(&events).breaks("monotonic-reads");
    // Two reads at once may end in either order.
    let (first, second) = (book.invoke(B, history(5, 1)), book.invoke(B, history(5, 1)));
    book.ok(first, page(&[], 2)).ok(second, page(&[], 2)).finals(&events).passes();
}

fn cursor(received: u64, read: u64) -> Body {
    Body::Cursor { client: ClientId(A), session: session(), by: Party::Visitor, received, read }
}

#[test]
fn cursors_do_not_go_back_or_past_the_head() {
    let events = [visitor(1, "x"), visitor(2, "y")];
    let mut base = Book::new();
    base.sent(VISITOR, 1, "x", 1).sent(VISITOR, 2, "y", 2);
    base.clone().note(cursor(1, 0)).note(cursor(2, 0)).note(cursor(2, 2)).finals(&events).passes();
    base.clone().note(cursor(2, 0)).note(cursor(1, 0)).finals(&events).breaks("cursors");
    base.clone().note(cursor(2, 2)).note(cursor(2, 1)).finals(&events).breaks("cursors");
    base.clone().note(cursor(3, 0)).finals(&events).breaks("cursors");
    let ask = || What::Cursor { session: session(), received: Some(1), read: None };
    let answer = |received| Some(Reply::Cursor { received, read: 0 });
    base.clone().did(VISITOR, ask(), answer(1)).did(TAB, ask(), answer(2)).finals(&events).passes();
    base.clone().did(VISITOR, ask(), answer(2)).did(TAB, ask(), answer(1)).finals(&events).breaks("cursors");
}

/// Assigned to `a`, moved to `b`, closed, and assigned to `a` again.
fn long() -> ([Event; 9], Book) {
    let events = [
        visitor(1, "x"),
        assigned(2, "a"),
        visitor(3, "y"),
        assigned(4, "b"),
        closed(5, "system"),
        visitor(6, "z"),
        assigned(7, "a"),
        agent(8, "a", "w"),
        visitor(9, "v"),
    ];
    let mut book = Book::new();
    book.sent(VISITOR, 1, "x", 1).sent(VISITOR, 2, "y", 3).did(OPERATOR, to_agent("b"), None);
    book.sent(VISITOR, 3, "z", 6).sent(A, 1, "w", 8).sent(VISITOR, 4, "v", 9);
    (events, book)
}

#[test]
fn streams_that_are_whole_pass() {
    let (events, book) = long();
    book.clone().told(VISITOR, 1, &events).finals(&events).passes();
    book.clone().told(VISITOR, 1, &events[..4]).told(VISITOR, 2, &events[4..]).finals(&events).passes();
    // An agent's parts: from the first event of a conversation or from the `assigned` that names it.
    book.clone().told(A, 1, &events[..4]).told(A, 1, &events[5..]).finals(&events).passes();
    book.clone().told(A, 1, &events[1..4]).told(A, 1, &events[6..]).finals(&events).passes();
    book.clone().told(B, 1, &events[3..5]).finals(&events).passes();
    // The end of a part may be missed while no socket is open.
    book.clone().told(A, 1, &events[..3]).told(A, 2, &events[5..]).finals(&events).passes();
}

#[test]
fn streams_that_are_not_whole_are_found() {
    let (events, book) = long();
    let broken = |client, parts: &[(u64, &[Event])]| {
        let mut book = book.clone();
        for (socket, part) in parts {
            book.told(client, *socket, part);
        }
        book.finals(&events).breaks("stream");
    };
    broken(VISITOR, &[(1, &events[1..])]);
    broken(VISITOR, &[(1, &events[..3]), (1, &events[4..])]);
    broken(VISITOR, &[(1, &events[..3]), (2, &events[4..])]);
    broken(VISITOR, &[(1, &events[..3]), (2, &events[2..])]);
    broken(VISITOR, &[(2, &events[..3]), (1, &events[3..])]);
    broken(VISITOR, &[(1, &events), (1, &[visitor(10, "new")])]);
    broken(A, &[(1, &events[2..4])]);
    broken(A, &[(1, &events[..5])]);
    broken(A, &[(1, &events[..2]), (1, &events[3..4])]);
    broken(A, &[(1, &events[..3]), (1, &events[5..])]);
    broken(A, &[(1, &events[..4]), (1, &events[7..])]);
    broken(B, &[(1, &events[2..5])]);
    broken(B, &[(1, &events[3..6])]);
}

#[test]
fn who_is_connected_at_the_end_has_been_told_all() {
    let (events, book) = long();
    let told = |client, events: &[Event]| {
        let mut book = book.clone();
        book.connected(client, 1).told(client, 1, events);
        book
    };
    told(VISITOR, &events).finals(&events).passes();
    told(A, &events[6..]).finals(&events).passes();
    told(B, &events[3..5]).finals(&events).passes();
    told(VISITOR, &events[..8]).disconnected(VISITOR, 1).finals(&events).passes();
    told(VISITOR, &events[..8]).finals(&events).breaks("caught-up");
    told(VISITOR, &[]).finals(&events).breaks("caught-up");
    told(A, &events[6..8]).finals(&events).breaks("caught-up");
    told(A, &[]).finals(&events).breaks("caught-up");
    told(B, &events[3..4]).finals(&events).breaks("caught-up");
    told(VISITOR, &events[..8]).disconnected(VISITOR, 1).connected(VISITOR, 2).finals(&events).breaks("caught-up");
}
