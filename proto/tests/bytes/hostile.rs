//! Bytes that no honest peer writes are an error: never a panic, never an allocation beyond the limit.

use crate::samples;
use proptest::collection::vec;
use proptest::prelude::*;
use proto::codec::{CodecError, DECODED_BYTES_MAX};

/// Lengths that lie, as bincode writes them: 2^64 - 1, 2^63, 2^32 - 1 and one more than the limit.
const LENGTHS: [&[u8]; 4] = [
    &[253, 255, 255, 255, 255, 255, 255, 255, 255],
    &[253, 0, 0, 0, 0, 0, 0, 0, 128],
    &[252, 255, 255, 255, 255],
    &[252, 1, 0, 0, 1],
];

/// The most address space that this process ever had, in bytes.
fn memory_peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn a_length_that_lies_allocates_no_more_than_the_limit() {
    let kinds = samples::kinds();
    let before = memory_peak();
    for kind in &kinds {
        for (name, bytes) in &kind.samples {
            for at in 1..bytes.len() {
                for length in LENGTHS {
                    for rest in [at, at + 1] {
                        let lie = [&bytes[..at], length, &bytes[rest..]].concat();
                        let read = (kind.decode)(&lie);
                        // In the place of a number or a text it may be one; in the place of a length it is an error.
                        assert!(!matches!(read, Err(CodecError::Tag { .. } | CodecError::Empty)), "{name}");
                    }
                }
            }
        }
    }
    // Threads of other tests in this process have heaps of 64 MiB each; the smallest lie of 2^32 would be 4 GiB.
    let grown = memory_peak() - before;
    assert!(grown < 64 * DECODED_BYTES_MAX, "{grown} bytes");
}

#[test]
fn what_is_cut_short_or_too_long_is_refused() {
    for kind in samples::kinds() {
        for (name, bytes) in &kind.samples {
            for end in 0..bytes.len() {
                assert!((kind.decode)(&bytes[..end]).is_err(), "{} {name} cut at {end}", kind.name);
            }
            let longer = [bytes, &[0][..]].concat();
            assert_eq!((kind.decode)(&longer), Err(CodecError::LeftOver(1)), "{} {name}", kind.name);
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_another_value() {
    for kind in samples::kinds() {
        for (_, bytes) in &kind.samples {
            for bit in 0..8 * bytes.len() {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let read = (kind.decode)(&flipped);
                assert!(bit >= 8 || matches!(read, Err(CodecError::Tag { .. })), "the tag is checked");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_decoder_panic(garbage in vec(any::<u8>(), 0..300), small in vec(0u8..12, 0..300)) {
        for kind in samples::kinds() {
            for body in [&garbage, &small] {
                let _ = (kind.decode)(body);
                let _ = (kind.decode)(&[&[kind.tag][..], body].concat());
            }
        }
    }
}
