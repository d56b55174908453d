//! Owns machines that crash at a dangerous place in the code: waits for the place, then takes the machine away from the world.
//! Does not start it again. Invariant: nothing that the machine does after the place is seen by anybody, and no disk has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use proto::failpoints::{FailPoint, put};
use tokio::runtime::Handle;

use super::node::{Machine, host};

/// A crash that waits for its place.
pub(super) struct Armed {
    pub point: FailPoint,
    hit: Arc<Mutex<Option<u64>>>,
}

impl Armed {
    /// The machine that passes the place for the `times`th time crashes there, if it is one of `machines`.
    pub fn at(point: FailPoint, times: u64, machines: &[Arc<Machine>], all: u64) -> Armed {
        let hit = Arc::new(Mutex::new(None));
        let (told, left) = (hit.clone(), AtomicU64::new(times.max(1)));
        let machines = machines.to_vec();
        let happen = move || {
            let here = Handle::try_current().ok().map(|handle| handle.id());
            let is_here = |machine: &&Arc<Machine>| machine.runtime().map(|runtime| runtime.id()) == here;
            let Some(machine) = machines.iter().find(is_here).filter(|_| here.is_some()) else { return };
            if left.load(Ordering::Relaxed) == 0 || left.fetch_sub(1, Ordering::Relaxed) != 1 {
                return;
            }
            machine.engine().power_off_after(0);
            let others = (1..=all).filter(|other| *other != machine.number).map(host);
            for other in others.chain(["clients".to_owned()]) {
                turmoil::partition(host(machine.number), other);
            }
            *told.lock() = Some(machine.number);
        };
        put(point, Some(Box::new(happen)));
        Armed { point, hit }
    }

    /// The machine that has crashed there, once.
    pub fn hit(&self) -> Option<u64> {
        self.hit.lock().take()
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        put(self.point, None);
    }
}
