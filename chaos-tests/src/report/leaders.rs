//! Owns who led which shard when, as strips without holes. Does not draw. Invariant: at most `STRIPS_MAX` strips.

use std::collections::BTreeMap;

use super::run::Run;

/// How many strips a page carries at most; past it the shortest are swallowed by the one before.
const STRIPS_MAX: usize = 1_200;
const MERGE_US_MIN: u64 = 50_000;

/// A time in which one node led a shard, or none did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strip {
    pub from_us: u64,
    pub to_us: u64,
    pub node: Option<u64>,
    pub epoch: Option<u64>,
}

impl Strip {
    pub fn length_us(&self) -> u64 {
        self.to_us - self.from_us
    }
}

/// Per shard, from its first sample to the end of the run.
#[derive(Debug, Default)]
pub struct Leaders {
    pub shards: BTreeMap<u64, Vec<Strip>>,
    /// Strips shorter than this were swallowed; 0 when all are there.
    pub merged_below_us: u64,
}

/// How well one shard was led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Led {
    /// How often another node took over.
    pub changes: u64,
    pub without_us: u64,
    pub without_us_max: u64,
}

impl Leaders {
    /// All that was sampled.
    pub fn of(run: &Run) -> Leaders {
        let mut shards: BTreeMap<u64, Vec<Strip>> = BTreeMap::new();
        for seen in &run.leaders {
            let strips = shards.entry(seen.shard).or_default();
            if let Some(last) = strips.last_mut() {
                if (last.node, last.epoch) == (seen.node, seen.epoch) {
                    continue;
                }
                last.to_us = seen.at_us.max(last.from_us);
            }
            let from_us = strips.last().map_or(seen.at_us, |last| last.to_us);
            let to_us = run.end_us.max(from_us);
            strips.push(Strip { from_us, to_us, node: seen.node, epoch: seen.epoch });
        }
        Leaders { shards, merged_below_us: 0 }
    }

    /// The same with few enough strips to draw.
    pub fn drawable(mut self) -> Leaders {
        let mut below_us = MERGE_US_MIN;
        while self.shards.values().map(Vec::len).sum::<usize>() > STRIPS_MAX.max(self.shards.len()) {
            for strips in self.shards.values_mut() {
                *strips = merge(strips, below_us);
            }
            self.merged_below_us = below_us;
            below_us *= 2;
        }
        self
    }

    /// For the table of shards; taken before strips are merged.
    pub fn led(strips: &[Strip]) -> Led {
        let named: Vec<u64> = strips.iter().filter_map(|strip| strip.node).collect();
        let without = strips.chunk_by(|one, next| one.node == next.node).filter(|run| run[0].node.is_none());
        let without_us: Vec<u64> = without.map(|run| run.iter().map(Strip::length_us).sum()).collect();
        Led {
            changes: named.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64,
            without_us: without_us.iter().sum(),
            without_us_max: without_us.into_iter().max().unwrap_or_default(),
        }
    }
}

fn merge(strips: &[Strip], below_us: u64) -> Vec<Strip> {
    let mut merged: Vec<Strip> = Vec::new();
    for &strip in strips {
        match merged.last_mut() {
            Some(last) if strip.length_us() < below_us => last.to_us = strip.to_us,
            _ => merged.push(strip),
        }
    }
    merged
}
