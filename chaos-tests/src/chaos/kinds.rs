//! Owns the kinds of faults: their names, groups and what they need. Does not cause them.
//! Invariant: a name is what history lines and the command line say.

use super::Abilities;

/// A kind of fault, or of planned work amid faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Kill,
    KillLeader,
    KillMinority,
    KillMajority,
    KillAll,
    Stop,
    StopLeader,
    Halves,
    IsolateLeader,
    OneWay,
    Ring,
    Bridge,
    Flapping,
    ClientsCut,
    Loss,
    Delay,
    Bandwidth,
    ClockJump,
    ClockStrobe,
    DiskFull,
    FsyncEio,
    FsyncSlow,
    PowerLoss,
    PowerLossMajority,
    PowerLossAll,
    Corrupt,
    Wipe,
    Drain,
    Transfer,
    Restart,
    Join,
    Upgrade,
}

/// How faults share the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Makes links, disks or clocks worse; others may come meanwhile.
    Soft,
    /// Takes machines or links away: one at a time.
    Hard,
    /// Takes data away or changes who is a member: begins on a whole cluster and ends with one. Soft ones may last meanwhile.
    Whole,
}

impl Kind {
    pub const ALL: [Kind; 32] = [
        Kind::Kill,
        Kind::KillLeader,
        Kind::KillMinority,
        Kind::KillMajority,
        Kind::KillAll,
        Kind::Stop,
        Kind::StopLeader,
        Kind::Halves,
        Kind::IsolateLeader,
        Kind::OneWay,
        Kind::Ring,
        Kind::Bridge,
        Kind::Flapping,
        Kind::ClientsCut,
        Kind::Loss,
        Kind::Delay,
        Kind::Bandwidth,
        Kind::ClockJump,
        Kind::ClockStrobe,
        Kind::DiskFull,
        Kind::FsyncEio,
        Kind::FsyncSlow,
        Kind::PowerLoss,
        Kind::PowerLossMajority,
        Kind::PowerLossAll,
        Kind::Corrupt,
        Kind::Wipe,
        Kind::Drain,
        Kind::Transfer,
        Kind::Restart,
        Kind::Join,
        Kind::Upgrade,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::KillLeader => "kill-leader",
            Kind::KillMinority => "kill-minority",
            Kind::KillMajority => "kill-majority",
            Kind::KillAll => "kill-all",
            Kind::Stop => "stop",
            Kind::StopLeader => "stop-leader",
            Kind::Halves => "halves",
            Kind::IsolateLeader => "isolate-leader",
            Kind::OneWay => "one-way",
            Kind::Ring => "majorities-ring",
            Kind::Bridge => "bridge",
            Kind::Flapping => "flapping",
            Kind::ClientsCut => "clients-cut",
            Kind::Loss => "loss",
            Kind::Delay => "delay",
            Kind::Bandwidth => "bandwidth",
            Kind::ClockJump => "clock-jump",
            Kind::ClockStrobe => "clock-strobe",
            Kind::DiskFull => "disk-full",
            Kind::FsyncEio => "fsync-eio",
            Kind::FsyncSlow => "fsync-slow",
            Kind::PowerLoss => "power-loss",
            Kind::PowerLossMajority => "power-loss-majority",
            Kind::PowerLossAll => "power-loss-all",
            Kind::Corrupt => "corrupt",
            Kind::Wipe => "wipe",
            Kind::Drain => "drain",
            Kind::Transfer => "transfer",
            Kind::Restart => "restart",
            Kind::Join => "join",
            Kind::Upgrade => "upgrade",
        }
    }

    /// A word for several kinds, usable wherever a name is.
    pub fn group(self) -> &'static str {
        match self {
            Kind::Kill | Kind::KillLeader | Kind::KillMinority | Kind::KillMajority | Kind::KillAll => "kills",
            Kind::Stop | Kind::StopLeader => "stops",
            Kind::Halves | Kind::IsolateLeader | Kind::OneWay | Kind::Ring | Kind::Bridge | Kind::Flapping => "cuts",
            Kind::ClientsCut => "cuts",
            Kind::Loss | Kind::Delay | Kind::Bandwidth => "links",
            Kind::ClockJump | Kind::ClockStrobe => "clocks",
            Kind::DiskFull | Kind::FsyncEio | Kind::FsyncSlow => "disks",
            Kind::PowerLoss | Kind::PowerLossMajority | Kind::PowerLossAll => "power",
            Kind::Corrupt | Kind::Wipe => "data",
            Kind::Drain | Kind::Transfer | Kind::Restart | Kind::Join | Kind::Upgrade => "planned",
        }
    }

    pub fn manner(self) -> Manner {
        match self {
            Kind::Loss | Kind::Delay | Kind::Bandwidth => Manner::Soft,
            Kind::ClockJump | Kind::ClockStrobe | Kind::FsyncSlow => Manner::Soft,
            Kind::Corrupt | Kind::Wipe | Kind::Join | Kind::Upgrade => Manner::Whole,
            _ => Manner::Hard,
        }
    }

    /// The kinds that a word names: one, or a group.
    pub fn named(word: &str) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| kind.name() == word || kind.group() == word).collect()
    }

    /// Whether a majority of the machines stays as it is meanwhile.
    pub fn spares_majority(self) -> bool {
        !matches!(self, Kind::KillMajority | Kind::KillAll | Kind::PowerLossMajority | Kind::PowerLossAll | Kind::Loss)
    }

    /// Whether it can be caused here.
    /// # Errors
    /// What is missing, and how to get it.
    pub fn possible(self, abilities: &Abilities) -> Result<(), String> {
        let needs = match self {
            Kind::Delay => &abilities.delay,
            Kind::Bandwidth => &abilities.bandwidth,
            _ if matches!(self.group(), "cuts" | "links") => &abilities.network,
            _ if self.group() == "clocks" => &abilities.clock,
            _ if self.group() == "disks" => &abilities.disk,
            _ if self.group() == "power" => &abilities.power,
            Kind::Upgrade => &abilities.upgrade,
            _ => return Ok(()),
        };
        needs.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_a_name_of_its_own_that_is_no_group() {
        let names: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        let groups: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.group()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        assert!(names.is_disjoint(&groups));
        assert_eq!(Kind::named("power").len(), 3);
        assert_eq!(Kind::named("kill"), [Kind::Kill]);
        assert!(Kind::named("nothing").is_empty());
    }
}
