//! Owns "a visitor is never given to two agents". Does not know how agents are chosen. Invariant: pure.

use anyhow::ensure;
use proto::client::{EventKind, Party};

use crate::oracle::Histories;

/// Between two `closed` there is at most one `assigned`, and only that agent writes. Returns how many there were in all.
/// # Errors
/// The first conversation with two agents.
pub fn check_one_agent_at_a_time(histories: &Histories) -> anyhow::Result<usize> {
    let mut count = 0;
    for (session, events) in histories {
        let mut owner = None;
        for event in events {
            match event.kind {
                EventKind::Assigned { agent } => {
                    ensure!(owner.is_none(), "{session}: {owner:?} had it when seq {} gave it to {agent}", event.seq);
                    owner = Some(agent);
                    count += 1;
                }
                EventKind::Closed { .. } | EventKind::Queued { .. } => owner = None,
                EventKind::Message { from: Party::Agent(agent), .. } => {
                    ensure!(owner == Some(agent), "{session}: {agent} wrote seq {}, owned by {owner:?}", event.seq);
                }
                EventKind::Message { .. }
                | EventKind::Act { .. }
                | EventKind::Gone
                | EventKind::Erased { .. }
                | EventKind::Hidden => {}
            }
        }
    }
    Ok(count)
}
