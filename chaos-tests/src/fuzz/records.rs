//! Owns how one input holds several values: `kind u8, length of a key u8, key, length u16 LE, value`, again and again.
//! Does not know what they mean. Invariant: any bytes are records; what is cut short at the end is as long as it is.

/// One record.
pub struct Record<'a> {
    pub kind: u8,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// The records of an input.
pub fn records(mut bytes: &[u8]) -> Vec<Record<'_>> {
    let mut found = Vec::new();
    while let [kind, key_len, rest @ ..] = bytes {
        let (key, rest) = rest.split_at(usize::from(*key_len).min(rest.len()));
        let (len, rest) = rest.split_at(rest.len().min(2));
        let len = len.iter().rev().fold(0, |len, byte| len << 8 | usize::from(*byte));
        let (value, rest) = rest.split_at(len.min(rest.len()));
        found.push(Record { kind: *kind, key, value });
        bytes = rest;
    }
    found
}

/// Adds a record to an input; false: it is too long to be one.
pub fn put(out: &mut Vec<u8>, kind: u8, key: &[u8], value: &[u8]) -> bool {
    let (Ok(key_len), Ok(len)) = (u8::try_from(key.len()), u16::try_from(value.len())) else { return false };
    out.extend_from_slice(&[kind, key_len]);
    out.extend_from_slice(key);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(value);
    true
}
