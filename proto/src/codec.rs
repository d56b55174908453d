//! Owns the versioned envelope around bincode. Does not know what is inside. Invariant: hostile bytes are an error,
//! never a panic and never an allocation larger than the limit.

use bincode::{Decode, Encode};

/// The largest decoded value, in bytes: a raft entry of 512 messages of 16 KiB would be 8 MiB; nothing is larger.
pub const DECODED_BYTES_MAX: usize = 16 << 20;

type Config<const BYTES_MAX: usize> = bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<BYTES_MAX>,
>;

const CONFIG: Config<DECODED_BYTES_MAX> = limited();

const fn limited<const BYTES_MAX: usize>() -> Config<BYTES_MAX> {
    bincode::config::standard().with_limit::<BYTES_MAX>()
}

/// Longest body that may become [`SMALL_DECODED_BYTES_MAX`], in bytes.
const SMALL_BYTES_MAX: usize = 64;
const SMALL_DECODED_BYTES_MAX: usize = 64 << 10;
/// Longest body that may become [`MEDIUM_DECODED_BYTES_MAX`], in bytes.
const MEDIUM_BYTES_MAX: usize = 1 << 10;
const MEDIUM_DECODED_BYTES_MAX: usize = 1 << 20;

/// bincode reserves the memory of a list as soon as it has read its length. A limit that follows the input keeps a lie of ten bytes
/// from reserving 16 MiB: 1 KiB for a byte, in three steps. The largest that honest bytes ask for is some 200 for one.
fn read<T: Decode<()>>(body: &[u8]) -> Result<(T, usize), bincode::error::DecodeError> {
    if body.len() <= SMALL_BYTES_MAX {
        bincode::decode_from_slice(body, limited::<SMALL_DECODED_BYTES_MAX>())
    } else if body.len() <= MEDIUM_BYTES_MAX {
        bincode::decode_from_slice(body, limited::<MEDIUM_DECODED_BYTES_MAX>())
    } else {
        bincode::decode_from_slice(body, CONFIG)
    }
}

/// Why bytes were refused. None of these is worth a retry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("no bytes")]
    Empty,
    #[error("tag {found} where {expected} was expected")]
    Tag { expected: u8, found: u8 },
    #[error("{0} bytes left over")]
    LeftOver(usize),
    #[error("not decodable: {0}")]
    Invalid(String),
}

/// A stored or sent type. The tag names type and version: a changed layout is a new type with a new tag, for ever.
pub trait Frozen: Encode + Decode<()> {
    /// Type and version of the layout; unique over the project, see `proto/golden/bytes`.
    const TAG: u8;
}

/// Appends tag and body to `out`.
pub fn encode_into<T: Frozen>(value: &T, out: &mut Vec<u8>) {
    out.push(T::TAG);
    bincode::encode_into_std_write(value, out, CONFIG)
        .expect("a Vec takes every byte and derived encoders do not fail");
}

/// Tag and body as new bytes.
pub fn encode<T: Frozen>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    encode_into(value, &mut out);
    out
}

/// The body of a value without a tag: a part of a larger frozen value.
pub fn encode_bare<T: Encode>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    bincode::encode_into_std_write(value, &mut out, CONFIG)
        .expect("a Vec takes every byte and derived encoders do not fail");
    out
}

/// Reads a value that fills `bytes` exactly.
/// # Errors
/// `CodecError` for a foreign tag, truncated or left-over bytes, or a length over the limit.
pub fn decode<T: Frozen>(bytes: &[u8]) -> Result<T, CodecError> {
    let (tag, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if *tag != T::TAG {
        return Err(CodecError::Tag { expected: T::TAG, found: *tag });
    }
    let (value, read) = read(body).map_err(|error| CodecError::Invalid(error.to_string()))?;
    if read != body.len() {
        return Err(CodecError::LeftOver(body.len() - read));
    }
    Ok(value)
}

/// Declares the tag of a frozen type.
#[macro_export]
macro_rules! frozen {
    ($($name:ty = $tag:literal),+ $(,)?) => {
        $(impl $crate::codec::Frozen for $name { const TAG: u8 = $tag; })+
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    struct Sample {
        name: String,
        numbers: Vec<u64>,
    }
    frozen!(Sample = 250);

    #[test]
    fn bytes_round_trip_and_are_all_consumed() {
        let sample = Sample { name: "x".into(), numbers: vec![1, 2, 3] };
        let mut bytes = encode(&sample);
        assert_eq!(decode::<Sample>(&bytes), Ok(sample));
        bytes.push(0);
        assert_eq!(decode::<Sample>(&bytes), Err(CodecError::LeftOver(1)));
    }

    #[test]
    fn a_hostile_length_allocates_nothing() {
        // A varint length of 2^63 for the string: without a limit bincode would try to allocate it.
        let bytes = [250, 253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(matches!(decode::<Sample>(&bytes), Err(CodecError::Invalid(_))));
    }

    #[test]
    fn a_short_input_cannot_reserve_what_only_a_long_one_could_fill() {
        let lie = |numbers: u32, bytes: usize| {
            let mut lie = vec![250, 1, b'x', 252];
            lie.extend_from_slice(&numbers.to_le_bytes());
            lie.resize(1 + bytes, 0);
            decode::<Sample>(&lie).map_err(|error| error.to_string()).expect_err("the numbers are not there")
        };
        // 1 MiB, 8 MiB and 32 MiB of numbers: reading them is not even begun.
        for (numbers, bytes) in [(1 << 17, SMALL_BYTES_MAX), (1 << 20, MEDIUM_BYTES_MAX), (1 << 22, 1 << 16)] {
            assert!(lie(numbers, bytes).contains("LimitExceeded"), "{numbers} in {bytes} bytes");
        }
        // What could be true is read, up to the end of the input.
        assert!(lie(1 << 17, 1 << 16).contains("UnexpectedEnd"));
    }

    #[test]
    fn a_foreign_tag_is_named() {
        assert_eq!(decode::<Sample>(&[9, 0, 0]), Err(CodecError::Tag { expected: 250, found: 9 }));
    }
}
