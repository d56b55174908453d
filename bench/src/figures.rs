//! Owns the figures of one level and how they are shown. Does not measure. Invariant: the JSON keys are stable.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Load;
use crate::target::Counters;

/// One level of one system.
#[derive(Debug, Clone, Serialize)]
pub struct Level {
    pub in_flight: usize,
    pub acked_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    /// User and system time of all nodes.
    pub cpu_us_per_msg: Option<f64>,
    /// Over all nodes.
    pub fsyncs_per_s: Option<f64>,
    /// User and system time of the load generator, which shares the cores.
    pub client_cpu_us_per_msg: f64,
    pub sockets: usize,
    pub acked: u64,
    /// Answers that asked to send again, warm-up included.
    pub refused: u64,
}

impl Level {
    #[expect(clippy::too_many_arguments, reason = "the one place where the parts of a level come together")]
    pub fn new(
        in_flight: usize,
        sockets: usize,
        acked: u64,
        refused: u64,
        took: Duration,
        latency_us: &Histogram<u64>,
        before: Counters,
        after: Counters,
    ) -> Level {
        let ms = |quantile| round(latency_us.value_at_quantile(quantile) as f64 / 1e3, 3);
        let per_message = |cpu: Duration| round(cpu.as_secs_f64() * 1e6 / acked.max(1) as f64, 2);
        let cpu = after.cpu.zip(before.cpu).map(|(after, before)| after.saturating_sub(before));
        let fsyncs = after.fsyncs.zip(before.fsyncs).map(|(after, before)| after - before);
        Level {
            in_flight,
            acked_per_s: round(acked as f64 / took.as_secs_f64(), 1),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            cpu_us_per_msg: cpu.map(per_message),
            fsyncs_per_s: fsyncs.map(|count| round(count / took.as_secs_f64(), 1)),
            client_cpu_us_per_msg: per_message(after.client_cpu.saturating_sub(before.client_cpu)),
            sockets,
            acked,
            refused,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        write!(
            f,
            "{:>5} in flight, {:>3} sockets: {:>8.0} acked/s   p50 {:>7.2}  p99 {:>7.2}  p99.9 {:>7.2} ms   nodes {:>6} us/msg  client {:>5.1} us/msg  {:>7} fsyncs/s  {} refused",
            self.in_flight,
            self.sockets,
            self.acked_per_s,
            self.p50_ms,
            self.p99_ms,
            self.p999_ms,
            or_dash(self.cpu_us_per_msg),
            self.client_cpu_us_per_msg,
            or_dash(self.fsyncs_per_s),
            self.refused,
        )
    }
}

/// Prints the levels, each on a line.
/// # Errors
/// Standard output is closed.
pub fn print(levels: &[Level], load: &Load) -> anyhow::Result<()> {
    for level in levels {
        if load.json { println!("{}", serde_json::to_string(level)?) } else { println!("{level}") }
    }
    Ok(())
}

/// Rounds for display: no figure here is exact to more digits.
pub fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}
