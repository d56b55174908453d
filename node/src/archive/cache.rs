//! Owns the objects of the archive that were read last. Does not read them. Invariant: it holds a bounded number of bytes.

use cluster::shard::ObjectEvents;
use proto::archive::ArchivedObject;
use std::collections::BTreeMap;

/// Plain bytes of all objects; in memory they are about twice as many.
const BYTES_MAX: usize = 16 << 20;

/// The least recently used one goes first.
#[derive(Default)]
pub struct Cache {
    objects: BTreeMap<String, (u64, usize, ObjectEvents)>,
    used: u64,
    bytes: usize,
}

impl Cache {
    pub fn get(&mut self, name: &str) -> Option<ObjectEvents> {
        self.used += 1;
        let (used, _, events) = self.objects.get_mut(name)?;
        *used = self.used;
        Some(events.clone())
    }

    pub fn put(&mut self, object: &ArchivedObject, events: ObjectEvents) {
        self.remove(&object.name);
        self.used += 1;
        let bytes = object.plain_bytes as usize;
        self.bytes += bytes;
        self.objects.insert(object.name.clone(), (self.used, bytes, events));
        while self.bytes > BYTES_MAX {
            // Few objects are held, and a fetch takes far longer than this look.
            let oldest = self.objects.iter().min_by_key(|(_, (used, ..))| *used).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { return };
            self.remove(&oldest);
        }
    }

    pub fn remove(&mut self, name: &str) {
        if let Some((_, bytes, _)) = self.objects.remove(name) {
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_was_used_last_stays_and_the_rest_goes_when_it_is_full() {
        let object = |n: u32, bytes: u32| ArchivedObject {
            name: format!("o{n}"),
            sha256: [0; 32],
            bytes: 1,
            plain_bytes: bytes,
        };
        let mut cache = Cache::default();
        let third = u32::try_from(BYTES_MAX / 3).unwrap();
        for n in 0..3 {
            cache.put(&object(n, third), Arc::default());
        }
        assert!(cache.get("o0").is_some());
        cache.put(&object(3, third), Arc::default());
        assert!(cache.get("o1").is_none());
        assert!(cache.get("o0").is_some());
        cache.put(&object(3, third), Arc::default());
        assert_eq!(cache.bytes, 3 * third as usize, "the same object is counted once");
    }
}
