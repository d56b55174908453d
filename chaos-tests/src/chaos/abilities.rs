//! Owns the knowledge of which faults this machine can have. Does not cause them. Invariant: what is missing is said with its remedy.

use std::path::PathBuf;

use crate::lab::clock::NodeClock;
use crate::lab::disk::PowerDisk;
use crate::lab::net::Network;
use crate::lab::preload::DiskFaults;

/// What can be had here, or why not.
#[derive(Debug, Clone)]
pub struct Abilities {
    /// Namespaces, cuts and loss.
    pub network: Result<(), String>,
    pub delay: Result<(), String>,
    pub bandwidth: Result<(), String>,
    pub power: Result<(), String>,
    /// Disks that fail, by a library.
    pub disk: Result<(), String>,
    pub clock: Result<(), String>,
    pub upgrade: Result<(), String>,
    /// The build to upgrade to.
    pub next: Option<PathBuf>,
}

impl Abilities {
    /// Looks what is here.
    pub fn look() -> Abilities {
        let next = std::env::var_os("EVERDESK_NEXT_BIN").map(PathBuf::from).filter(|next| next.is_file());
        let upgrade = match next {
            Some(_) => Ok(()),
            None => Err("EVERDESK_NEXT_BIN names no other build; `make upgrade-test` makes one".to_owned()),
        };
        Abilities {
            network: Network::available(),
            delay: Network::can_delay(),
            bandwidth: can_limit(),
            power: PowerDisk::available(),
            disk: DiskFaults::available(),
            clock: NodeClock::available(),
            upgrade,
            next,
        }
    }
}

/// The kernel's part cannot be asked for, only tried.
fn can_limit() -> Result<(), String> {
    Network::available()?;
    let tried = Network::new(1).and_then(|network| network.limit(1, 10_000).map(drop));
    tried.map_err(|error| format!("{error:#}"))
}
