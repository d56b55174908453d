//! Owns the silences of a run: how long sends waited without any ack. Does not draw.
//! Invariant: the definitions here and the words on the page (`DEFINITION` in `tables.rs`) say the same.

use super::run::{End, Fault, Op, Run};

/// Shorter silences are the ordinary wait for an answer and are not kept.
pub const GAP_US_MIN: u64 = 10_000;
/// A fault may cost this much longer than it lasts.
pub const AFTER_HEAL_US: u64 = 5_000_000;
/// The next try after a send that was given up comes within this, or the silence ended with nobody waiting.
pub const BRIDGE_US: u64 = 1_000_000;
/// A send without an end line counts as waiting for no longer than this: its client may be gone.
pub const OPEN_US_MAX: u64 = 10_000_000;

/// A time in which sends waited and none was acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub from_us: u64,
    pub to_us: u64,
    /// Leads into `Run::parts`; `None` for the whole cluster.
    pub part: Option<u32>,
}

impl Gap {
    pub fn length_us(&self) -> u64 {
        self.to_us - self.from_us
    }

    fn within_us(&self, from_us: u64, to_us: u64) -> u64 {
        self.to_us.min(to_us).saturating_sub(self.from_us.max(from_us))
    }
}

/// What one fault cost: the longest silences that overlap its window, as far as they lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Impact {
    /// Of the part (shard or session) that was silent longest.
    pub part_us: u64,
    /// Of all parts together.
    pub whole_us: u64,
}

/// All silences of at least `GAP_US_MIN`.
#[derive(Debug)]
pub struct Gaps {
    pub parts: Vec<Gap>,
    pub whole: Vec<Gap>,
    /// For each fault of the run; `None` when no send was waiting at any time in its window: then nothing was measured.
    pub impacts: Vec<Option<Impact>>,
}

impl Gaps {
    pub fn of(run: &Run) -> Gaps {
        let (parts, whole) = (silences(run, true), silences(run, false));
        let impacts = run.faults.iter().map(|fault| impact(run, fault, &parts, &whole)).collect();
        Gaps { parts, whole, impacts }
    }

    /// The faults of the run with what they cost.
    pub fn by_fault<'a>(&self, run: &'a Run) -> impl Iterator<Item = (&'a Fault, Option<Impact>)> {
        run.faults.iter().zip(self.impacts.iter().copied())
    }

    /// The longest silences that touch no fault's window, for comparison.
    pub fn without_fault(&self, run: &Run) -> Impact {
        let windows: Vec<(u64, u64)> = run.faults.iter().map(|fault| window(run, fault)).collect();
        let calm = |gap: &&Gap| windows.iter().all(|&(from_us, to_us)| gap.to_us < from_us || gap.from_us > to_us);
        let longest = |gaps: &[Gap]| gaps.iter().filter(calm).map(Gap::length_us).max().unwrap_or_default();
        Impact { part_us: longest(&self.parts), whole_us: longest(&self.whole) }
    }
}

/// The time in which a fault may show.
pub fn window(run: &Run, fault: &Fault) -> (u64, u64) {
    (fault.began_us, run.fault_end_us(fault).saturating_add(AFTER_HEAL_US))
}

fn impact(run: &Run, fault: &Fault, parts: &[Gap], whole: &[Gap]) -> Option<Impact> {
    let (from_us, to_us) = window(run, fault);
    let waited = |op: &Op| op.invoked_us <= to_us && last_wait_us(run, op) >= from_us;
    run.sends().any(waited).then(|| {
        let longest = |gaps: &[Gap]| gaps.iter().map(|gap| gap.within_us(from_us, to_us)).max().unwrap_or_default();
        Impact { part_us: longest(parts), whole_us: longest(whole) }
    })
}

fn last_wait_us(run: &Run, op: &Op) -> u64 {
    let open_us = op.invoked_us.saturating_add(OPEN_US_MAX).min(run.end_us.max(op.invoked_us));
    op.ended_us.unwrap_or(open_us)
}

/// At the same instant a send is first invoked, then answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Invoked,
    InvokedInVain,
    Acked,
    /// A send that was never acked, and when it was invoked.
    GivenUp(u64),
}

fn silences(run: &Run, by_part: bool) -> Vec<Gap> {
    let mut steps = Vec::new();
    for op in run.sends() {
        let part = if by_part { op.part } else { None };
        if by_part && part.is_none() {
            continue;
        }
        let (begin, end) = match op.end {
            End::Ok => (Step::Invoked, Step::Acked),
            _ => (Step::InvokedInVain, Step::GivenUp(op.invoked_us)),
        };
        steps.push((part, op.invoked_us, begin));
        steps.push((part, last_wait_us(run, op), end));
    }
    steps.sort_unstable();
    let mut gaps = Vec::new();
    for steps in steps.chunk_by(|one, next| one.0 == next.0) {
        let mut watch = Watch::new(steps[0].0, &mut gaps);
        for &(_, at_us, step) in steps {
            watch.step(at_us, step);
        }
        watch.finish();
    }
    gaps
}

/// Follows one part through time.
struct Watch<'a> {
    part: Option<u32>,
    /// Waiting sends that will be acked.
    waiting: u64,
    /// Waiting sends that never will, invoked since the last ack. Older ones prove nothing: the part has served since.
    in_vain: u64,
    acked_us: Option<u64>,
    since_us: Option<u64>,
    /// When the last waiting send was given up.
    paused_us: Option<u64>,
    gaps: &'a mut Vec<Gap>,
}

impl Watch<'_> {
    fn new(part: Option<u32>, gaps: &mut Vec<Gap>) -> Watch<'_> {
        Watch { part, waiting: 0, in_vain: 0, acked_us: None, since_us: None, paused_us: None, gaps }
    }

    fn step(&mut self, at_us: u64, step: Step) {
        match step {
            Step::Invoked | Step::InvokedInVain => {
                if self.paused_us.is_some_and(|paused_us| at_us - paused_us > BRIDGE_US) {
                    self.finish();
                }
                self.paused_us = None;
                self.since_us.get_or_insert(at_us);
                if step == Step::Invoked { self.waiting += 1 } else { self.in_vain += 1 }
            }
            Step::Acked => {
                self.waiting -= 1;
                self.in_vain = 0;
                self.acked_us = Some(at_us);
                self.silence_ends(at_us);
                self.since_us = (self.waiting > 0).then_some(at_us);
            }
            Step::GivenUp(invoked_us) if self.acked_us.is_some_and(|acked_us| invoked_us <= acked_us) => {}
            Step::GivenUp(_) => {
                self.in_vain -= 1;
                if self.waiting + self.in_vain == 0 {
                    self.paused_us = Some(at_us);
                }
            }
        }
    }

    /// Nobody tries any more.
    fn finish(&mut self) {
        if let Some(paused_us) = self.paused_us.take() {
            self.silence_ends(paused_us);
        }
    }

    fn silence_ends(&mut self, to_us: u64) {
        if let Some(from_us) = self.since_us.take().filter(|from_us| to_us - from_us >= GAP_US_MIN) {
            self.gaps.push(Gap { from_us, to_us, part: self.part });
        }
    }
}
