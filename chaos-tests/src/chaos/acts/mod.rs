//! Owns what each kind of fault does when it begins, while it lasts and when it ends. Does not choose when.
//! Invariant: what began ends, and a fault that did nothing is told as a dud.

mod clocks;
mod data;
mod disks;
mod links;
mod planned;
mod processes;

use std::time::{Duration, Instant};

use super::kinds::{Kind, Manner};
use super::stage::Stage;
use crate::history::FaultId;
use crate::lab::clock::Strobing;
use crate::lab::cuts::Flapping;
use crate::lab::delay::{Delaying, Limited};
use crate::lab::shapes::Pair;

/// A fault under way.
pub struct Lasting {
    pub id: FaultId,
    pub kind: Kind,
    pub until: Instant,
    began: Instant,
    hold: Hold,
}

/// What has to be undone, or proved, at the end.
enum Hold {
    /// Machines that were killed.
    Down(Vec<u64>),
    /// Machines that stand still.
    Still(Vec<u64>),
    /// Links that are cut, and packets that cuts had dropped before.
    Cut(Vec<Pair>, u64),
    Flapping(Flapping, u64),
    /// Links that lose packets, and how many had been lost before.
    Loss(Vec<Pair>, u64),
    Delay(Delaying),
    Bandwidth(Limited),
    Clock(u64),
    Strobe(Strobing),
    /// A disk without room.
    Full(u64, disks::Full),
    /// A disk whose next sync fails, and how many had failed before.
    Eio(u64, u64),
    Slow(u64),
    /// Machines without power.
    Dark(Vec<u64>),
    /// A node that serves nobody.
    Drained(u64),
    /// A node that was told to end, and how often it had been started before.
    Ending(u64, u64),
    Nothing,
}

/// Begins a fault that lasts, or carries out one that ends by itself. `None`: it is over already.
/// # Errors
/// The lab failed, or the cluster was not whole again in time.
pub fn begin(stage: &mut Stage, kind: Kind) -> anyhow::Result<Option<Lasting>> {
    let lasts = lasts(stage, kind);
    let begun = match kind {
        Kind::Kill | Kind::KillLeader | Kind::KillMinority | Kind::KillMajority | Kind::KillAll => {
            processes::kill(stage, kind, lasts)
        }
        Kind::Stop | Kind::StopLeader => processes::stop(stage, kind, lasts)?,
        Kind::Halves | Kind::IsolateLeader | Kind::OneWay | Kind::Ring | Kind::Bridge | Kind::ClientsCut => {
            links::cut(stage, kind, lasts)?
        }
        Kind::Flapping => links::flap(stage, lasts)?,
        Kind::Loss => links::lose(stage, lasts)?,
        Kind::Delay => links::delay(stage, lasts)?,
        Kind::Bandwidth => links::limit(stage, lasts)?,
        Kind::ClockJump => clocks::jump(stage, lasts)?,
        Kind::ClockStrobe => clocks::strobe(stage, lasts)?,
        Kind::DiskFull => disks::fill(stage, lasts)?,
        Kind::FsyncEio => disks::fail_sync(stage)?,
        Kind::FsyncSlow => disks::slow(stage, lasts)?,
        Kind::PowerLoss | Kind::PowerLossMajority | Kind::PowerLossAll => disks::power_off(stage, kind, lasts)?,
        Kind::Drain => planned::drain(stage, lasts)?,
        Kind::Transfer => planned::transfer(stage)?,
        Kind::Restart => planned::restart(stage)?,
        Kind::Corrupt => return data::corrupt(stage).map(|()| None),
        Kind::Wipe => return data::wipe(stage).map(|()| None),
        Kind::Join => return planned::join(stage).map(|()| None),
        Kind::Upgrade => return planned::upgrade(stage).map(|()| None),
    };
    let Some((id, hold)) = begun else { return Ok(None) };
    let began = Instant::now();
    Ok(Some(Lasting { id, kind, until: began + lasts, began, hold }))
}

/// What a begin gives: nothing when the fault had nobody to hit.
type Begun = Option<(FaultId, Hold)>;

/// How long a fault is to last.
fn lasts(stage: &mut Stage, kind: Kind) -> Duration {
    let (min_ms, max_ms) = match kind {
        Kind::Kill | Kind::KillLeader | Kind::KillMinority => (100, 8_000),
        Kind::KillMajority | Kind::KillAll => (100, 4_000),
        Kind::Stop | Kind::StopLeader => (1_000, 60_000),
        Kind::Loss | Kind::Delay | Kind::Bandwidth | Kind::ClockJump | Kind::ClockStrobe | Kind::FsyncSlow => {
            (4_000, 20_000)
        }
        Kind::PowerLoss | Kind::PowerLossMajority | Kind::PowerLossAll => (200, 4_000),
        Kind::DiskFull => (6_000, 12_000),
        Kind::FsyncEio | Kind::Restart => (3_000, 6_000),
        Kind::Transfer => (1_000, 1_001),
        _ => (1_000, 20_000),
    };
    let max_ms = (stage.settings.lasts_max.as_millis() as usize).clamp(min_ms + 1, max_ms);
    // The square gives more short ones than long ones.
    let part = stage.dice.below(1_000) * stage.dice.below(1_000);
    Duration::from_millis((min_ms + (max_ms - min_ms) * part / 1_000_000) as u64)
}

impl Lasting {
    pub fn manner(&self) -> Manner {
        self.kind.manner()
    }

    /// What happens while it lasts.
    /// # Errors
    /// The lab failed.
    pub fn tick(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        match &mut self.hold {
            Hold::Full(machine, full) => disks::press(stage, *machine, full, self.began, self.until),
            _ => Ok(()),
        }
    }

    /// Undoes it, and writes that into the book.
    /// # Errors
    /// The lab failed.
    pub fn end(self, stage: &mut Stage) -> anyhow::Result<()> {
        let id = self.id;
        let dud = match self.hold {
            Hold::Down(machines) => {
                stage.supervisor.release(&machines);
                None
            }
            Hold::Still(machines) => {
                for machine in machines {
                    // An error means that it has ended meanwhile.
                    let _ = stage.supervisor.signal(machine, "CONT");
                }
                None
            }
            Hold::Cut(pairs, before) => links::heal(stage, &pairs, before)?,
            Hold::Flapping(flapping, before) => {
                flapping.stop()?;
                links::heal(stage, &[], before)?
            }
            Hold::Loss(pairs, before) => links::find(stage, &pairs, before)?,
            Hold::Delay(delaying) => {
                drop(delaying);
                None
            }
            Hold::Bandwidth(limited) => {
                drop(limited);
                None
            }
            Hold::Clock(machine) => clocks::set_right(stage, machine)?,
            Hold::Strobe(strobing) => {
                strobing.stop()?;
                None
            }
            Hold::Full(machine, full) => disks::make_room(stage, machine, full)?,
            Hold::Eio(machine, before) => disks::heal(stage, machine, before)?,
            Hold::Slow(machine) => disks::speed_up(stage, machine)?,
            Hold::Dark(machines) => disks::power_on(stage, &machines)?,
            Hold::Drained(id) => planned::undrain(stage, id)?,
            Hold::Ending(machine, starts) => planned::restarted(stage, machine, starts),
            Hold::Nothing => None,
        };
        stage.ends(id);
        if let Some(why) = dud {
            stage.say(&format!("#{} {} did nothing: {why}", id.0, self.kind.name()));
            stage.duds.push((id, format!("{}: {why}", self.kind.name())));
        }
        Ok(())
    }
}
