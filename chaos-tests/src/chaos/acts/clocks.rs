//! Owns wall clocks that go wrong. Does not touch monotonic time.

use std::time::Duration;

use anyhow::Context;

use super::{Begun, Hold};
use crate::chaos::kinds::Kind;
use crate::chaos::stage::Stage;

/// 100 ms to an hour, forward or back.
fn offset_ms(stage: &mut Stage) -> i64 {
    let sizes_ms = [100, 500, 2_000, 10_000, 60_000, 600_000, 3_600_000];
    let size_ms = sizes_ms[stage.dice.below(sizes_ms.len())];
    if stage.dice.once_in(2) { size_ms } else { -size_ms }
}

/// A machine to hit: one that leads, more often than not.
fn victim(stage: &mut Stage) -> u64 {
    if stage.dice.once_in(3) { stage.any() } else { stage.leader() }
}

pub fn jump(stage: &mut Stage, lasts: Duration) -> anyhow::Result<Begun> {
    let (victim, offset_ms) = (victim(stage), offset_ms(stage));
    let note = format!("{offset_ms} ms off, for {} ms", lasts.as_millis());
    let id = stage.begins(Kind::ClockJump.name(), &[victim], note);
    stage.machine(victim).clock.as_ref().context("jumps need a clock")?.set(offset_ms)?;
    Ok(Some((id, Hold::Clock(victim))))
}

pub fn strobe(stage: &mut Stage, lasts: Duration) -> anyhow::Result<Begun> {
    let (victim, offset_ms) = (victim(stage), offset_ms(stage));
    let period = Duration::from_millis(50 + stage.dice.below(500) as u64);
    let note =
        format!("{offset_ms} ms off and not, each for {} ms, {} ms in all", period.as_millis(), lasts.as_millis());
    let id = stage.begins(Kind::ClockStrobe.name(), &[victim], note);
    let clock = stage.machine(victim).clock.clone().context("strobes need a clock")?;
    Ok(Some((id, Hold::Strobe(clock.strobe(offset_ms, period)?))))
}

pub fn set_right(stage: &mut Stage, machine: u64) -> anyhow::Result<Option<String>> {
    stage.machine(machine).clock.as_ref().context("jumps need a clock")?.set(0)?;
    Ok(None)
}
