//! Owns the simulated disk under the database in memory: its power, its faults, and the watermark file. Does not know rows.
//! Invariant: without power nothing on it changes, but for the one write that was under way.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::Durability;
use crate::error::StorageError;

/// The simulated machine: its power and its next faults are shared by the database and the watermark file.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Synced writes that still succeed before the power goes; `None`: it stays on.
    pub(crate) syncs_left: Option<u64>,
    pub(crate) fail_next_sync: bool,
    pub(crate) syncs: u64,
    /// The write that the power cut meets is torn: a part of it is on the disk.
    pub(crate) tears: bool,
}

impl Disk {
    pub(crate) fn sync(&mut self) -> Result<(), StorageError> {
        self.power()?;
        if std::mem::take(&mut self.fail_next_sync) {
            return Err(StorageError::Io { what: "sync", cause: "injected fault".to_owned() });
        }
        if let Some(left) = &mut self.syncs_left {
            *left -= 1;
        }
        self.syncs += 1;
        Ok(())
    }

    /// Before a write; says whether the power goes in the middle of this one.
    pub(crate) fn powered(&mut self, durability: Durability) -> Result<(), NoPower> {
        let is_torn = durability == Durability::Synced && self.tears;
        self.power().map_err(|cause| NoPower { cause, is_torn: is_torn && std::mem::take(&mut self.tears) })
    }

    pub(crate) fn power(&self) -> Result<(), StorageError> {
        match self.syncs_left {
            Some(0) => Err(StorageError::Io { what: "access", cause: "power is off".to_owned() }),
            _ => Ok(()),
        }
    }
}

pub(crate) struct NoPower {
    pub(crate) cause: StorageError,
    /// A part of the write may have got to the disk.
    pub(crate) is_torn: bool,
}

/// The bytes of the watermark file on the simulated disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemFile {
    pub(crate) bytes: Arc<Mutex<Vec<u8>>>,
    pub(crate) disk: Arc<Mutex<Disk>>,
}

impl MemFile {
    pub(crate) fn read(&self) -> Vec<u8> {
        self.bytes.lock().clone()
    }

    /// Writes and syncs; takes one of the syncs that [`MemEngine::power_off_after`] left.
    pub(crate) fn write_synced(&self, offset: usize, data: &[u8]) -> Result<(), StorageError> {
        let (synced, syncs, tears) = {
            let mut disk = self.disk.lock();
            (disk.sync(), disk.syncs as usize, std::mem::take(&mut disk.tears))
        };
        let data = match &synced {
            Ok(()) => data,
            // Which part is as good as random: it follows from how often this disk was synced.
            Err(_) if tears => &data[..syncs.wrapping_mul(7919) % data.len().max(1)],
            Err(_) => return synced,
        };
        let mut bytes = self.bytes.lock();
        if bytes.len() < offset + data.len() {
            bytes.resize(offset + data.len(), 0);
        }
        bytes[offset..offset + data.len()].copy_from_slice(data);
        synced
    }
}
