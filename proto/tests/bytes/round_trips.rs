//! Any value of every type is read back as it was written; no part of its bytes is another value.

use crate::arbitrary as any_of;
use proptest::prelude::*;
use proto::codec::{CodecError, Frozen, decode, encode};
use proto::command::{Batch, encode_command, join_commands};
use std::fmt::Debug;

fn round_trips<T: Frozen + PartialEq + Debug>(value: &T, cut: usize) {
    let bytes = encode(value);
    assert_eq!(bytes[0], T::TAG);
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(value));
    assert!(decode::<T>(&bytes[..cut % bytes.len()]).is_err());
    assert!(decode::<T>(&bytes[..bytes.len() - 1]).is_err());
    assert_eq!(decode::<T>(&[&bytes[..], &[0]].concat()), Err(CodecError::LeftOver(1)));
    let mut flipped = bytes;
    let at = 1 + cut % (flipped.len() - 1).max(1);
    if let Some(byte) = flipped.get_mut(at) {
        *byte ^= 1 << (cut % 8);
        // Another value or an error; a panic would fail the test.
        let _ = decode::<T>(&flipped);
    }
}

macro_rules! any_value_round_trips {
    ($($test:ident: $strategy:ident,)+) => {
        proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
            $(
                #[test]
                fn $test(value in any_of::$strategy(), cut: usize) {
                    round_trips(&value, cut);
                }
            )+
        }
    };
}

any_value_round_trips! {
    batches_round_trip: batch,
    events_round_trip: event,
    meta_batches_round_trip: meta_batch,
    mails_round_trip: mail,
    hellos_round_trip: hello,
    hello_replies_round_trip: hello_reply,
    votes_round_trip: vote,
    memberships_round_trip: membership,
    applied_rows_round_trip: applied,
    append_heads_round_trip: append_head,
    append_replies_round_trip: append_reply,
    vote_calls_round_trip: vote_call,
    vote_replies_round_trip: vote_reply,
    transfer_calls_round_trip: transfer_call,
    lost_calls_round_trip: lost_call,
    lost_replies_round_trip: lost_reply,
    snapshot_calls_round_trip: snapshot_call,
    snapshot_replies_round_trip: snapshot_reply,
    shard_calls_round_trip: shard_call,
    shard_replies_round_trip: shard_reply,
    pushes_round_trip: pushes,
    meta_calls_round_trip: meta_call,
    meta_replies_round_trip: meta_reply,
    log_points_round_trip: point,
    cut_calls_round_trip: cut_call,
    cut_replies_round_trip: cut_reply,
    archived_events_round_trip: archived_events,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commands_joined_by_the_proposer_are_a_batch(batch in any_of::batch()) {
        let parts: Vec<Vec<u8>> = batch.commands.iter().map(encode_command).collect();
        let joined = join_commands(batch.now_ms, parts.iter().map(Vec::as_slice));
        prop_assert_eq!(&joined, &encode(&batch));
        prop_assert_eq!(decode::<Batch>(&joined), Ok(batch));
    }
}
