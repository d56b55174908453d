//! Owns what an operator does on purpose while faults go on: drains, transfers, restarts, joins, removals, upgrades.

use std::time::Duration;

use anyhow::Context;

use super::{Begun, Hold};
use crate::chaos::kinds::Kind;
use crate::chaos::stage::{Stage, WHOLE_WITHIN};

const ORDERED_WITHIN: Duration = Duration::from_secs(60);
/// What a service manager waits for before it kills, and a little more: two cores are shared by all.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
const REMOVED_WITHIN: Duration = Duration::from_secs(150);

pub fn drain(stage: &mut Stage, lasts: Duration) -> anyhow::Result<Begun> {
    let victim = if stage.dice.once_in(2) { stage.any() } else { stage.leader() };
    let Some(node) = stage.eyes.id(victim) else { return Ok(None) };
    let id = stage.begins(Kind::Drain.name(), &[victim], format!("serves nobody for {} ms", lasts.as_millis()));
    stage.want(node, "draining", ORDERED_WITHIN)?;
    Ok(Some((id, Hold::Drained(node))))
}

pub fn undrain(stage: &mut Stage, node: u64) -> anyhow::Result<Option<String>> {
    stage.want(node, "active", ORDERED_WITHIN)?;
    Ok(None)
}

/// Gives a shard to another of its voters. A refusal is an answer: it may not have caught up.
pub fn transfer(stage: &mut Stage) -> anyhow::Result<Begun> {
    let led = stage.eyes.led();
    let shards: Vec<u64> = led.keys().copied().collect();
    if shards.is_empty() {
        return Ok(None);
    }
    let shard = shards[stage.dice.below(shards.len())];
    let from = led[&shard].machine;
    let leader = stage.eyes.id(from);
    let others: Vec<u64> =
        led[&shard].view.replicas.iter().map(|one| one.node).filter(|one| Some(*one) != leader).collect();
    if others.is_empty() {
        return Ok(None);
    }
    let to = others[stage.dice.below(others.len())];
    let id = stage.begins(Kind::Transfer.name(), &[from], format!("g{shard} to n{to}"));
    let (admin, addr) = (stage.admin.clone(), stage.machine(from).admin.clone());
    if let Err(error) = stage.attend(async move { admin.lead(&addr, shard, to).await })? {
        stage.say(&format!("g{shard} stays: {error:#}"));
    }
    Ok(Some((id, Hold::Nothing)))
}

/// SIGTERM, as a service manager's restart sends.
pub fn restart(stage: &mut Stage) -> anyhow::Result<Begun> {
    let victim = stage.any();
    if !stage.supervisor.is_running(victim) {
        return Ok(None);
    }
    let starts = stage.supervisor.starts(victim);
    let id = stage.begins(Kind::Restart.name(), &[victim], "SIGTERM".to_owned());
    stage.supervisor.signal(victim, "TERM")?;
    Ok(Some((id, Hold::Ending(victim, starts))))
}

pub fn restarted(stage: &mut Stage, machine: u64, starts: u64) -> Option<String> {
    let ended = stage.until("a node that was told to ends", ENDS_WITHIN, |stage| {
        (stage.supervisor.starts(machine) > starts).then_some(())
    });
    if ended.is_err() && !stage.stop.is_wanted() {
        stage.breach(format!("machine {machine} was sent SIGTERM and runs on after {ENDS_WITHIN:?}"));
        stage.supervisor.kill(&[machine]);
        stage.supervisor.release(&[machine]);
    }
    None
}

/// The spare joins, takes its share, and is removed again.
pub fn join(stage: &mut Stage) -> anyhow::Result<()> {
    let (numbers, spare) = (stage.numbers(), stage.spare());
    stage.wait_whole(&numbers, WHOLE_WITHIN).context("before the spare joins")?;
    let id = stage.begins(Kind::Join.name(), &[spare], "the spare joins, and is removed again".to_owned());
    let node = stage.join(spare)?;
    stage.say(&format!("the spare has joined as n{node}"));
    let time = Duration::from_millis(3_000 + stage.dice.below(5_000) as u64);
    stage.pause(time)?;
    let ends = stage.supervisor.ends().len();
    stage.supervisor.let_end(spare);
    stage.want(node, "leaving", ORDERED_WITHIN)?;
    let left = stage.until("the spare has handed all over and ends", REMOVED_WITHIN, |stage| {
        stage.supervisor.ends()[ends..].iter().find(|end| end.machine == spare).map(|end| end.status)
    });
    match left {
        Ok(status) if status.code() == Some(0) => {}
        Ok(status) => stage.breach(format!("the spare was removed and ended with {status}")),
        Err(error) => {
            stage.stop.check()?;
            stage.breach(format!("{error:#}: {}", stage.eyes.lacks(&numbers).unwrap_or_default()));
        }
    }
    stage.supervisor.kill(&[spare]);
    stage.wait_whole(&numbers, WHOLE_WITHIN).context("after the spare was removed")?;
    stage.ends(id);
    Ok(())
}

/// One machine after the other goes on with the next build.
pub fn upgrade(stage: &mut Stage) -> anyhow::Result<()> {
    let numbers = stage.numbers();
    let next = stage.abilities.next.clone().context("upgrades need another build")?;
    stage.wait_whole(&numbers, WHOLE_WITHIN).context("before an upgrade")?;
    let id = stage.begins(Kind::Upgrade.name(), &numbers, "each restarts with the next build".to_owned());
    for number in numbers.clone() {
        next.clone_into(&mut stage.machine(number).binary);
        let line = stage.machine(number).line();
        let starts = stage.supervisor.starts(number);
        stage.supervisor.signal(number, "TERM")?;
        stage.supervisor.run(number, line);
        restarted(stage, number, starts);
        stage.wait_whole(&numbers, WHOLE_WITHIN).with_context(|| format!("after machine {number} was upgraded"))?;
    }
    let spare = stage.spare();
    next.clone_into(&mut stage.machine(spare).binary);
    stage.ends(id);
    Ok(())
}
