//! Owns the bytes of chunks: where one ends, its name, and how it is compressed. Does not store them. Invariant: a chunk's end
//! depends on its own rows only, so that a changed row changes the chunk that it is in and no other.
//!
//! Rows of a chunk: key length u32, key, value length u32, value, little-endian, in the order of keys. Its name is the SHA-256
//! of that; what is stored is one zstd frame.

use super::BackupError;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

/// Mean size of what follows the least, in bytes: 640 KiB in all.
const TARGET_BYTES: usize = 512 << 10;
/// A chunk does not end below this, in bytes.
const BYTES_MIN: usize = 128 << 10;
/// A chunk ends here whatever its rows are, in bytes; one row may go beyond.
const BYTES_MAX: usize = 2 << 20;
/// Longest chunk that is read, in bytes: the largest row there may be, after a full chunk.
pub const UNPACKED_BYTES_MAX: u64 = (BYTES_MAX + storage::ROW_VALUE_BYTES_MAX + storage::ROW_KEY_BYTES_MAX + 8) as u64;
/// The fastest: a backup runs beside clients, on their cores.
const LEVEL: i32 = 1;

/// Takes the key and the value of a row.
pub type RowSink<'a, E> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), E>;

/// Consecutive rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    pub rows: u64,
    pub bytes: Vec<u8>,
}

impl Chunk {
    /// Adds a row; true when the chunk ends with it.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> bool {
        let before = self.bytes.len();
        for part in [key, value] {
            let len = u32::try_from(part.len()).expect("rows of a table are far shorter");
            self.bytes.extend_from_slice(&len.to_le_bytes());
            self.bytes.extend_from_slice(part);
        }
        self.rows += 1;
        let len = self.bytes.len();
        // The longer the row, the likelier: chunks are of one size, whatever rows are.
        let row = (len - before) as u128;
        let ends = u128::from(xxh3_64(key)) * (TARGET_BYTES as u128) < row << 64;
        len >= BYTES_MIN && (ends || len >= BYTES_MAX)
    }

    pub fn name(&self) -> String {
        hex(&Sha256::digest(&self.bytes))
    }

    /// Compressed, as it is stored.
    pub fn pack(&self) -> Vec<u8> {
        let mut packed = vec![0; zstd_safe::compress_bound(self.bytes.len())];
        let len = zstd_safe::compress(&mut packed[..], &self.bytes, LEVEL).expect("the bound holds every frame");
        packed.truncate(len);
        packed
    }

    /// What is stored under `name`.
    /// # Errors
    /// Why it is not what was stored.
    pub fn unpack(name: &str, packed: &[u8]) -> Result<Chunk, String> {
        let len = zstd_safe::get_frame_content_size(packed).ok().flatten().ok_or("it is not compressed data")?;
        if len > UNPACKED_BYTES_MAX {
            return Err(format!("it would have {len} bytes"));
        }
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| "it is too long")?];
        let got = zstd_safe::decompress(&mut bytes[..], packed).map_err(|_| "it cannot be decompressed")?;
        bytes.truncate(got);
        let mut chunk = Chunk { rows: 0, bytes };
        if chunk.name() != name {
            return Err("its SHA-256 is not its name".into());
        }
        let mut rows = 0;
        chunk.each(&mut |_, _| {
            rows += 1;
            Ok::<(), String>(())
        })?;
        chunk.rows = rows;
        Ok(chunk)
    }

    /// Gives every row to `row`.
    /// # Errors
    /// What `row` returns; the text for bytes that are no rows, or rows out of order.
    pub fn each<E: From<String>>(&self, row: RowSink<'_, E>) -> Result<(), E> {
        let cut = || E::from("its rows are cut short".to_owned());
        let mut rest = &self.bytes[..];
        let mut before: &[u8] = &[];
        while !rest.is_empty() {
            let key = part(&mut rest).ok_or_else(cut)?;
            let value = part(&mut rest).ok_or_else(cut)?;
            if key <= before {
                return Err("its rows are out of order".to_owned().into());
            }
            before = key;
            row(key, value)?;
        }
        Ok(())
    }
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, tail) = rest.split_first_chunk::<4>()?;
    let (part, tail) = tail.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *rest = tail;
    Some(part)
}

/// Where a chunk lies.
pub fn path(name: &str) -> String {
    format!("chunks/{}/{name}.zst", name.get(..2).unwrap_or_default())
}

/// The chunk's name out of the name of its object; `None` for what is no chunk.
pub fn name_of(object: &str) -> Option<&str> {
    object.strip_suffix(".zst").filter(|name| is_name(name))
}

/// Whether a text is the name of a chunk.
pub fn is_name(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a String takes every text");
        out
    })
}

/// The hash of a group's rows: over the names of its chunks, in order.
pub fn hash_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    names.for_each(|name| hash.update(name.as_bytes()));
    hex(&hash.finalize())
}

impl From<String> for BackupError {
    fn from(text: String) -> BackupError {
        BackupError::Damaged(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Rows with lengths like those of sessions and blocks.
    fn rows(count: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let row = |n: u64| {
            let key = xxh3_64(&n.to_le_bytes()).to_be_bytes().to_vec();
            (key, n.to_le_bytes().repeat((xxh3_64(&[n as u8]) % 300) as usize))
        };
        (0..count).map(row).collect()
    }

    fn chunks(rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Chunk> {
        let mut found = vec![Chunk::default()];
        for (key, value) in rows {
            if found.last_mut().unwrap().push(key, value) {
                found.push(Chunk::default());
            }
        }
        found.retain(|chunk| chunk.rows > 0);
        found
    }

    #[test]
    fn a_changed_row_and_a_new_one_change_the_chunks_that_they_are_in() {
        let mut rows = rows(20_000);
        let before = chunks(&rows);
        assert!(before.len() > 20, "{} chunks", before.len());
        let key = rows.keys().nth(9_000).unwrap().clone();
        rows.insert(key, b"changed".to_vec());
        rows.insert(vec![0x70], b"new".to_vec());
        let after = chunks(&rows);
        let known: Vec<String> = before.iter().map(Chunk::name).collect();
        let new = after.iter().filter(|chunk| !known.contains(&chunk.name())).count();
        assert!((1..=4).contains(&new), "{new} of {} chunks are new", after.len());
        assert!(after.iter().all(|chunk| chunk.bytes.len() < BYTES_MAX + 4096));
    }

    #[test]
    fn a_packed_chunk_comes_back_and_a_damaged_one_is_told() {
        let chunk = chunks(&rows(2_000)).remove(0);
        let packed = chunk.pack();
        assert!(packed.len() < chunk.bytes.len());
        assert_eq!(Chunk::unpack(&chunk.name(), &packed), Ok(chunk.clone()));
        for at in [0, 5, packed.len() / 2, packed.len() - 1] {
            let mut damaged = packed.clone();
            damaged[at] ^= 1;
            let read = Chunk::unpack(&chunk.name(), &damaged);
            assert!(read.is_err() || read == Ok(chunk.clone()), "byte {at}");
        }
        assert!(Chunk::unpack(&chunk.name(), &packed[..packed.len() / 2]).is_err());
        assert!(Chunk::unpack(&"0".repeat(64), &packed).is_err());
        assert!(Chunk::unpack(&chunk.name(), &[]).is_err());
    }
}
