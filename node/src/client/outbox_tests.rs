//! Owns the tests of the outbox.

use super::*;
use std::borrow::Cow;

const S: SessionId = SessionId(1);

fn outbox_with(count: u64) -> (Outbox, Vec<oneshot::Receiver<Result<Ack<'static>, ClientError>>>) {
    let mut outbox = Outbox::new(true);
    let replies = (1..=count).map(|i| {
        let (reply, answer) = oneshot::channel();
        outbox.push(S, format!("c{i}"), Content::text(format!("text {i}")), reply);
        answer
    });
    let replies = replies.collect();
    (outbox, replies)
}

/// Sends what is ready; frame ids count from `id`. Returns the numbers that left.
fn sent(outbox: &mut Outbox, id: u64, now: Instant) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut id = id;
    outbox.send_ready(now, |out| {
        numbers.push(out.n.expect("numbered"));
        id += 1;
        vec![id - 1]
    });
    numbers
}

fn ack(cid: &str, seq: u64) -> Ack<'_> {
    Ack { session: S, cid: Cow::Borrowed(cid), seq, ts: 1, dup: false }
}

#[test]
fn at_most_64_are_under_way() {
    let (mut outbox, _replies) = outbox_with(100);
    let now = Instant::now();
    assert_eq!(sent(&mut outbox, 0, now).len(), 64);
    assert!(outbox.on_ack(0, &ack("c1", 1)).is_ok_and(|acked| acked.is_some()));
    assert_eq!(sent(&mut outbox, 64, now), [65]);
}

#[test]
fn an_overloaded_send_goes_out_again_alone_and_its_ack_lets_the_rest_follow() {
    let (mut outbox, _replies) = outbox_with(4);
    let now = Instant::now();
    sent(&mut outbox, 0, now);
    assert!(outbox.on_ack(0, &ack("c1", 1)).is_ok_and(|acked| acked.is_some()));
    let full = ErrorInfo::retry(ErrorCode::Overloaded, "full", Duration::from_millis(200));
    assert!(outbox.on_refusal(1, &full, now));
    assert!(outbox.on_refusal(2, &ErrorInfo::cid_gap(2), now), "a stale gap changes nothing");
    assert!(sent(&mut outbox, 10, now).is_empty(), "not before the pause is over");
    let later = now + Duration::from_millis(200);
    assert_eq!(sent(&mut outbox, 10, later), [2]);
    assert!(outbox.on_ack(10, &ack("c2", 2)).is_ok_and(|acked| acked.is_some()));
    assert_eq!(sent(&mut outbox, 11, later), [3, 4]);
}

#[test]
fn a_final_refusal_uses_its_number_up() {
    let (mut outbox, mut replies) = outbox_with(3);
    let now = Instant::now();
    sent(&mut outbox, 0, now);
    assert!(outbox.on_refusal(0, &ErrorInfo::new(ErrorCode::Closed, "closed"), now));
    assert!(replies[0].try_recv().unwrap().is_err());
    assert!(outbox.on_ack(1, &ack("c2", 1)).is_ok_and(|acked| acked.is_some()));
    outbox.on_disconnect();
    assert_eq!(
        sent(&mut outbox, 10, now),
        [3],
        "a copy of the first may still come to the session: its number is not given again"
    );
}

#[test]
fn a_new_socket_sends_everything_again_under_the_same_numbers() {
    let (mut outbox, _replies) = outbox_with(2);
    let now = Instant::now();
    assert_eq!(sent(&mut outbox, 0, now), [1, 2]);
    outbox.on_disconnect();
    assert!(!outbox.awaits_answers());
    assert_eq!(sent(&mut outbox, 10, now), [1, 2]);
}

#[test]
fn a_second_attempt_with_another_seq_is_a_violation() {
    let (mut outbox, _replies) = outbox_with(1);
    outbox.send_ready(Instant::now(), |_| vec![1, 2]);
    assert!(outbox.on_ack(1, &ack("c1", 5)).is_ok_and(|acked| acked.is_some()));
    assert!(matches!(outbox.on_ack(2, &ack("c1", 6)), Err(Violation::TwoSeqs { first: 5, second: 6, .. })));
}
