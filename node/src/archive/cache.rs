//! Owns what was read last from objects of the archive. Does not read them. Invariant: it holds a bounded number of bytes.

use std::collections::BTreeMap;

/// The least recently used one goes first.
pub struct Cache<K, V> {
    held: BTreeMap<K, Held<V>>,
    used: u64,
    bytes: usize,
    bytes_max: usize,
}

struct Held<V> {
    used: u64,
    bytes: usize,
    value: V,
}

impl<K: Ord + Clone, V: Clone> Cache<K, V> {
    pub fn new(bytes_max: usize) -> Cache<K, V> {
        Cache { held: BTreeMap::new(), used: 0, bytes: 0, bytes_max }
    }

    pub fn get(&mut self, key: &K) -> Option<V> {
        self.used += 1;
        let held = self.held.get_mut(key)?;
        held.used = self.used;
        Some(held.value.clone())
    }

    pub fn put(&mut self, key: K, bytes: usize, value: V) {
        self.remove(&key);
        self.used += 1;
        self.bytes += bytes;
        self.held.insert(key, Held { used: self.used, bytes, value });
        while self.bytes > self.bytes_max {
            // Few are held, and a fetch takes far longer than this look.
            let oldest = self.held.iter().min_by_key(|(_, held)| held.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.remove(&oldest);
        }
    }

    pub fn remove(&mut self, key: &K) {
        if let Some(held) = self.held.remove(key) {
            self.bytes -= held.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays_and_the_rest_goes_when_it_is_full() {
        let mut cache = Cache::new(3_000);
        for n in 0..3 {
            cache.put(n, 1_000, ());
        }
        assert!(cache.get(&0).is_some());
        cache.put(3, 1_000, ());
        assert!(cache.get(&1).is_none());
        assert!(cache.get(&0).is_some());
        cache.put(3, 1_000, ());
        assert_eq!(cache.bytes, 3_000, "the same is counted once");
    }
}
