//! Owns changes to inputs that are the same on every machine. Does not learn from coverage, as `cargo fuzz` does.
//! Invariant: the n-th change of a seed depends on both and on nothing else.

/// What stands where a length may be: as bincode writes 2^64 - 1, 2^63 and 2^32 - 1, and plain numbers.
const LIES: [&[u8]; 6] = [
    &[253, 255, 255, 255, 255, 255, 255, 255, 255],
    &[253, 0, 0, 0, 0, 0, 0, 0, 128],
    &[252, 255, 255, 255, 255],
    &[252, 0, 0, 255, 0],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0, 0, 0, 0, 0, 0, 0, 0],
];

/// Changes of one seed, without end.
pub struct Mutations<'a> {
    seed: &'a [u8],
    random: u64,
}

impl<'a> Mutations<'a> {
    pub fn of(seed: &'a [u8], number: u64) -> Mutations<'a> {
        Mutations { seed, random: number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d }
    }

    /// Below `end`; Marsaglia's xorshift.
    fn below(&mut self, end: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % (end.max(1) as u64)).expect("below a usize")
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        match self.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, self.below(256) as u8),
            2 if !bytes.is_empty() => drop(bytes.remove(at)),
            3 if !bytes.is_empty() => bytes[at] = self.below(256) as u8,
            4 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            5 => {
                let lie = LIES[self.below(LIES.len())];
                let end = (at + self.below(2) * lie.len()).min(bytes.len());
                bytes.splice(at..end, lie.iter().copied());
            }
            _ => {
                let end = at + self.below(bytes.len() - at + 1).min(64);
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
}

impl Iterator for Mutations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut bytes = self.seed.to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes);
        }
        Some(bytes)
    }
}
