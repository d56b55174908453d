//! Owns the bytes and the two slots of the `watermarks` file. Does not know when a mark may rise.
//! Invariant: a crash during a write leaves the slot written before it whole.
//!
//! Slot layout, little-endian: checksum u64 (xxh3 of the rest), version u8, sequence u64, count u16, then per replica: replica u32,
//! incarnation u64, vote counter u64, has_last u8, index u64, term u64, chain hash u64. The valid slot with the higher sequence counts.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use proto::ids::ReplicaId;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::StorageError;
use crate::mem_disk::MemFile;
use crate::tables::{Point, Reader};

const VERSION: u8 = 1;
const CHECKSUM_LEN: usize = 8;
const HEAD_LEN: usize = CHECKSUM_LEN + 1 + 8 + 2;
const RECORD_LEN: usize = 45;
/// Bytes of one slot; a whole number of disk pages, so that writing one slot never touches the other.
const SLOT_LEN: usize = 16 << 10;
/// Replicas a node may have at once. 7 is usual; the slot would hold 363.
pub(crate) const REPLICAS_MAX: usize = 256;
const FILE_NAME: &str = "watermarks";

/// What the disk once held of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Drawn at the replica's birth.
    pub incarnation: u64,
    /// Number of votes saved so far.
    pub vote_counter: u64,
    /// The last durable entry; `None`: nothing, or truncated to nothing.
    pub last: Option<Point>,
}

pub(crate) type Records = BTreeMap<ReplicaId, Record>;

pub(crate) fn encode(sequence: u64, records: &Records, slot: &mut Vec<u8>) {
    slot.clear();
    slot.resize(CHECKSUM_LEN, 0);
    slot.push(VERSION);
    slot.extend_from_slice(&sequence.to_le_bytes());
    let count = u16::try_from(records.len()).expect("admit() keeps the table at REPLICAS_MAX");
    slot.extend_from_slice(&count.to_le_bytes());
    for (replica, record) in records {
        slot.extend_from_slice(&replica.0.to_le_bytes());
        slot.extend_from_slice(&record.incarnation.to_le_bytes());
        slot.extend_from_slice(&record.vote_counter.to_le_bytes());
        slot.push(u8::from(record.last.is_some()));
        let last = record.last.unwrap_or(Point { index: 0, term: 0, hash: 0 });
        for number in [last.index, last.term, last.hash] {
            slot.extend_from_slice(&number.to_le_bytes());
        }
    }
    let checksum = xxh3_64(&slot[CHECKSUM_LEN..]);
    slot[..CHECKSUM_LEN].copy_from_slice(&checksum.to_le_bytes());
}

/// Sequence and records of a slot.
pub(crate) fn decode(slot: &[u8]) -> Result<(u64, Records), StorageError> {
    let head = slot.get(..HEAD_LEN).ok_or_else(|| StorageError::corrupt("watermark slot: too short"))?;
    let count = usize::from(u16::from_le_bytes([head[HEAD_LEN - 2], head[HEAD_LEN - 1]]));
    let end = HEAD_LEN + count * RECORD_LEN;
    let covered = slot.get(CHECKSUM_LEN..end).ok_or_else(|| StorageError::corrupt("watermark slot: count"))?;
    if xxh3_64(covered).to_le_bytes() != slot[..CHECKSUM_LEN] {
        return Err(StorageError::corrupt("watermark slot: checksum"));
    }
    let mut reader = Reader::open(covered, "watermark slot")?;
    let sequence = reader.u64()?;
    reader.take(2)?;
    let mut records = Records::new();
    for _ in 0..count {
        let replica = ReplicaId(reader.u32()?);
        let (incarnation, vote_counter) = (reader.u64()?, reader.u64()?);
        let has_last = reader.take(1)? == [1];
        let point = Point { index: reader.u64()?, term: reader.u64()?, hash: reader.u64()? };
        records.insert(replica, Record { incarnation, vote_counter, last: has_last.then_some(point) });
    }
    reader.end()?;
    Ok((sequence, records))
}

/// The valid slot with the higher sequence.
fn newest(bytes: &[u8]) -> (u64, Records) {
    let (first, second) = bytes.split_at(bytes.len().min(SLOT_LEN));
    let valid = [first, second].into_iter().filter_map(|slot| decode(slot).ok());
    valid.max_by_key(|(sequence, _)| *sequence).unwrap_or_default()
}

/// Where the slots lie.
#[derive(Debug)]
enum Medium {
    File(File),
    Memory(MemFile),
}

/// The open file. After a failed write it is never written again: what a failed sync left behind is unknown.
#[derive(Debug)]
pub(crate) struct SlotFile {
    medium: Medium,
    sequence: u64,
    failed: Option<StorageError>,
    buffer: Vec<u8>,
}

impl SlotFile {
    /// Opens or makes `dir/watermarks` and reads the newest valid slot.
    pub(crate) fn open(dir: &Path) -> Result<(SlotFile, Records), StorageError> {
        let io = |error: std::io::Error| StorageError::io("open of the watermark file", &error);
        std::fs::create_dir_all(dir).map_err(io)?;
        let path = dir.join(FILE_NAME);
        if !path.try_exists().map_err(io)? {
            create(dir, &path).map_err(io)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(io)?;
        let mut bytes = Vec::with_capacity(2 * SLOT_LEN);
        (&mut file).take(2 * SLOT_LEN as u64).read_to_end(&mut bytes).map_err(io)?;
        Ok(SlotFile::with(Medium::File(file), &bytes))
    }

    /// The newest valid records of `dir/watermarks`, which is not changed; none when there is no such file.
    pub(crate) fn read(dir: &Path) -> Result<Records, StorageError> {
        match std::fs::read(dir.join(FILE_NAME)) {
            Ok(bytes) => Ok(newest(&bytes).1),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Records::new()),
            Err(error) => Err(StorageError::io("read of the watermark file", &error)),
        }
    }

    pub(crate) fn in_memory(file: MemFile) -> (SlotFile, Records) {
        let bytes = file.read();
        SlotFile::with(Medium::Memory(file), &bytes)
    }

    fn with(medium: Medium, bytes: &[u8]) -> (SlotFile, Records) {
        let (sequence, records) = newest(bytes);
        (SlotFile { medium, sequence, failed: None, buffer: Vec::new() }, records)
    }

    /// Writes the records into the older slot and syncs it.
    pub(crate) fn write(&mut self, records: &Records) -> Result<(), StorageError> {
        if let Some(error) = &self.failed {
            return Err(StorageError::Poisoned { cause: error.to_string() });
        }
        let sequence = self.sequence + 1;
        let mut buffer = std::mem::take(&mut self.buffer);
        encode(sequence, records, &mut buffer);
        let offset = if sequence.is_multiple_of(2) { 0 } else { SLOT_LEN };
        let written = match &self.medium {
            Medium::File(file) => file
                .write_all_at(&buffer, offset as u64)
                .and_then(|()| file.sync_data())
                .map_err(|error| StorageError::io("write of the watermark file", &error)),
            Medium::Memory(file) => file.write_synced(offset, &buffer),
        };
        self.buffer = buffer;
        self.sequence = sequence;
        self.failed = written.as_ref().err().cloned();
        written
    }
}

/// Makes the file in one step, at its full length: no later write has to change the file's metadata, so a sync is one disk write.
fn create(dir: &Path, path: &Path) -> std::io::Result<()> {
    let partial = dir.join("watermarks.new");
    let mut slot = Vec::new();
    encode(0, &Records::new(), &mut slot);
    slot.resize(2 * SLOT_LEN, 0);
    std::fs::write(&partial, &slot)?;
    File::open(&partial)?.sync_all()?;
    std::fs::rename(&partial, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(number: u64) -> Record {
        let last = (!number.is_multiple_of(3)).then_some(Point { index: number, term: number / 2, hash: !number });
        Record { incarnation: number, vote_counter: number / 3, last }
    }

    #[test]
    fn slots_have_their_golden_bytes() {
        let last = Some(Point { index: 4, term: 5, hash: 6 });
        let records = Records::from([(ReplicaId(1), Record { incarnation: 2, vote_counter: 3, last })]);
        let mut slot = Vec::new();
        encode(7, &records, &mut slot);
        assert_eq!(slot[8..19], [1, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(slot[19..31], [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(slot[31..48], [3, 0, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(slot[48..], [5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(u64::from_le_bytes(slot[..8].try_into().unwrap()), GOLDEN_SLOT_CHECKSUM);
    }

    const GOLDEN_SLOT_CHECKSUM: u64 = 498_871_167_848_598_046;

    #[test]
    fn a_full_table_fits_its_slot() {
        const { assert!(HEAD_LEN + REPLICAS_MAX * RECORD_LEN <= SLOT_LEN) };
    }

    #[test]
    fn a_torn_write_leaves_the_slot_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, empty) = SlotFile::open(dir.path()).unwrap();
        assert!(empty.is_empty());
        let old = Records::from([(ReplicaId(1), record(10))]);
        let new = Records::from([(ReplicaId(1), record(11))]);
        file.write(&old).unwrap();
        file.write(&new).unwrap();
        drop(file);
        assert_eq!(SlotFile::open(dir.path()).unwrap().1, new);
        let path = dir.path().join(FILE_NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 2 * SLOT_LEN);
        bytes[30] ^= 0x40;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(SlotFile::open(dir.path()).unwrap().1, old);
    }

    #[test]
    fn a_shortened_file_is_an_empty_table() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0, 1, HEAD_LEN - 1, HEAD_LEN] {
            std::fs::write(dir.path().join(FILE_NAME), vec![VERSION; len]).unwrap();
            assert!(SlotFile::open(dir.path()).unwrap().1.is_empty());
        }
    }

    proptest! {
        #[test]
        fn slots_round_trip(sequence: u64, numbers in prop::collection::btree_map(any::<u32>(), any::<u64>(), 0..REPLICAS_MAX)) {
            let records: Records = numbers.into_iter().map(|(replica, number)| (ReplicaId(replica), record(number))).collect();
            let mut slot = Vec::new();
            encode(sequence, &records, &mut slot);
            prop_assert_eq!(decode(&slot), Ok((sequence, records)));
            slot.resize(SLOT_LEN, 0xee);
            prop_assert!(decode(&slot).is_ok(), "what an older, longer table left behind does not count");
        }

        #[test]
        fn garbage_is_refused_without_a_panic(garbage: Vec<u8>) {
            prop_assert!(decode(&garbage).is_err());
        }
    }
}
