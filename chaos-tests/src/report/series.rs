//! Owns what is counted per interval of time: acks, refusals, unknown outcomes and latencies of sends. Does not draw.
//! Invariant: at most `POINTS_MAX` intervals, however long the run was.

use super::run::{End, Run};

/// How many intervals a curve has at most; a screen has no more columns.
const POINTS_MAX: u64 = 1_800;
/// Widths of an interval, in seconds. Past the last one it is doubled.
const WIDTHS_S: [u64; 7] = [1, 2, 5, 10, 15, 30, 60];
const SECOND_US: u64 = 1_000_000;

/// Exact percentiles by nearest rank, in the unit of what was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(mut values: Vec<u64>) -> Option<Spread> {
        values.sort_unstable();
        let max = *values.last()?;
        let rank = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        Some(Spread { p50: rank(50), p99: rank(99), max })
    }
}

/// One interval.
#[derive(Debug, Clone, Copy, Default)]
pub struct Point {
    pub acked: u64,
    pub failed: u64,
    pub unknown: u64,
    pub latency_us: Option<Spread>,
}

/// The run in intervals of equal width, the first from 0.
#[derive(Debug)]
pub struct Series {
    pub width_us: u64,
    pub points: Vec<Point>,
}

impl Series {
    /// A send counts in the interval in which its answer came; one without any where it was invoked.
    pub fn of(run: &Run) -> Series {
        let width_us = width_us(run.end_us);
        let count = if run.ops.is_empty() { 0 } else { (run.end_us / width_us + 1) as usize };
        let mut points = vec![Point::default(); count];
        let mut latencies_us = vec![Vec::new(); count];
        for op in run.sends() {
            let index = (op.ended_us.unwrap_or(op.invoked_us) / width_us) as usize;
            let Some((point, latencies_us)) = points.get_mut(index).zip(latencies_us.get_mut(index)) else { continue };
            match (op.end, op.ended_us) {
                (End::Ok, Some(ended_us)) => {
                    point.acked += 1;
                    latencies_us.push(ended_us - op.invoked_us);
                }
                (End::Fail(_), _) => point.failed += 1,
                _ => point.unknown += 1,
            }
        }
        for (point, latencies_us) in points.iter_mut().zip(latencies_us) {
            point.latency_us = Spread::of(latencies_us);
        }
        Series { width_us, points }
    }

    /// Acked sends per second in an interval. The last one is as long as the others, though the run ended within.
    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 * SECOND_US as f64 / self.width_us as f64
    }

    /// The highest of something among the intervals.
    pub fn most(&self, of: impl Fn(&Point) -> u64) -> u64 {
        self.points.iter().map(of).max().unwrap_or_default()
    }
}

fn width_us(end_us: u64) -> u64 {
    let fits = |width_s: &u64| end_us / (width_s * SECOND_US) < POINTS_MAX;
    let mut width_s = WIDTHS_S.into_iter().find(fits).unwrap_or(WIDTHS_S[WIDTHS_S.len() - 1]);
    while !fits(&width_s) {
        width_s *= 2;
    }
    width_s * SECOND_US
}
