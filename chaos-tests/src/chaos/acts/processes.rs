//! Owns kills and stops of processes. Does not restart them: the supervisor does.

use std::time::Duration;

use super::{Begun, Hold};
use crate::chaos::kinds::Kind;
use crate::chaos::stage::Stage;

pub fn kill(stage: &mut Stage, kind: Kind, lasts: Duration) -> Begun {
    let count = stage.settings.nodes as usize;
    let victims = match kind {
        Kind::KillLeader => vec![stage.leader()],
        Kind::KillMinority => stage.shuffled()[..(count - 1) / 2].to_vec(),
        Kind::KillMajority => stage.shuffled()[..count / 2 + 1].to_vec(),
        Kind::KillAll => stage.numbers(),
        _ => vec![stage.any()],
    };
    let id = stage.begins(kind.name(), &victims, format!("down for {} ms", lasts.as_millis()));
    stage.supervisor.kill(&victims);
    Some((id, Hold::Down(victims)))
}

pub fn stop(stage: &mut Stage, kind: Kind, lasts: Duration) -> anyhow::Result<Begun> {
    let victim = if kind == Kind::StopLeader { stage.leader() } else { stage.any() };
    if !stage.supervisor.is_running(victim) {
        return Ok(None);
    }
    let id = stage.begins(kind.name(), &[victim], format!("still for {} ms", lasts.as_millis()));
    stage.supervisor.signal(victim, "STOP")?;
    Ok(Some((id, Hold::Still(vec![victim]))))
}
