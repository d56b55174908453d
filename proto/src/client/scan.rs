//! Owns the search for bytes that end or interrupt a JSON string, eight bytes at a step.
//! Does not know JSON beyond that. Invariant: exact; a byte is reported if and only if it is special.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The index of the first quote, backslash or control byte at or after `from`; the length when there is none.
/// The same bytes end a run when a string is read and when one is written.
pub(super) fn next_special(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(chunk) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("the slice is 8 bytes long"));
        let hits = zero_bytes(word ^ (ONES * b'"' as u64))
            | zero_bytes(word ^ (ONES * b'\\' as u64))
            | (word.wrapping_sub(ONES * 0x20) & !word & HIGH);
        if hits != 0 {
            // The lowest hit is exact: a borrow can only disturb the bytes above a true hit.
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < bytes.len() && !is_special(bytes[at]) {
        at += 1;
    }
    at
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_judged_alike_at_every_offset() {
        for byte in 0..=255u8 {
            for offset in 0..20 {
                let mut bytes = vec![b'x'; 20];
                bytes[offset] = byte;
                let expected = if is_special(byte) { offset } else { 20 };
                assert_eq!(next_special(&bytes, 0), expected, "byte {byte:#x} at {offset}");
            }
        }
    }
}
