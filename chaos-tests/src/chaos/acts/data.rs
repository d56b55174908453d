//! Owns the loss of data on one machine: damaged files, a wiped disk, and how an operator replaces such a machine.
//! Invariant: at most one machine lacks data that it once acknowledged; before another does, the cluster is whole again.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::chaos::kinds::Kind;
use crate::chaos::stage::{Stage, WHOLE_WITHIN};
use crate::lab::corrupt::{self, Harm};

/// A node with damaged files serves again within this, or it is replaced.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(60);
/// And it serves for so long: what it lost shows after it has started.
const BACK_FOR: Duration = Duration::from_secs(3);
/// So many ends in a row say that it will not come back by itself.
const ENDS_MAX: usize = 3;
/// The others take over what a node had that is gone for good.
const REMOVED_WITHIN: Duration = Duration::from_secs(120);

/// The machine that may lose data now: the one whose files are damaged already, else any.
fn victim(stage: &mut Stage) -> u64 {
    let any = stage.any();
    stage.machines.iter().find(|machine| machine.is_damaged).map_or(any, |machine| machine.number)
}

/// Damages a file of a machine that was killed, and starts it. If it does not come back it is replaced.
pub fn corrupt(stage: &mut Stage) -> anyhow::Result<()> {
    let numbers = stage.numbers();
    stage.wait_whole(&numbers, WHOLE_WITHIN).context("before files are damaged")?;
    let victim = victim(stage);
    let seed = stage.dice.next();
    stage.supervisor.kill(&[victim]);
    let kinds = [
        corrupt::Kind::Wal,
        corrupt::Kind::Sst,
        corrupt::Kind::Manifest,
        corrupt::Kind::Current,
        corrupt::Kind::Watermarks,
    ];
    let first = stage.dice.below(kinds.len());
    let harm = [Harm::FlipBit, Harm::Truncate, Harm::Delete][stage.dice.below(3)];
    let data_dir = stage.machine(victim).data_dir.clone();
    // A young node has no tables yet: then another kind of file.
    let damage = (0..kinds.len()).find_map(|step| {
        let kind = kinds[(first + step) % kinds.len()];
        corrupt::corrupt(&data_dir, kind, harm, seed).ok()
    });
    let damage = damage.context("a node has no files to damage")?;
    let file = damage.file.strip_prefix(&data_dir).unwrap_or(&damage.file).display().to_string();
    let note = format!("{file}: {harm:?} at {} of {} bytes", damage.offset, damage.length);
    let id = stage.begins(Kind::Corrupt.name(), &[victim], note.clone());
    stage.machine(victim).is_damaged = true;
    // Until it is wiped: some damage shows late.
    stage.excuse(victim);
    let ended_before = stage.supervisor.ends().len();
    stage.eyes.blink();
    stage.supervisor.release(&[victim]);
    let ends =
        |stage: &Stage| stage.supervisor.ends()[ended_before..].iter().filter(|end| end.machine == victim).count();
    let mut since = Instant::now();
    let back = stage.until("a damaged node is back, or gives up", COMES_BACK_WITHIN, |stage| {
        if ends(stage) >= ENDS_MAX {
            return Some(false);
        }
        if !stage.is_ready(victim) || stage.eyes.lacks(&numbers).is_some() {
            since = Instant::now();
        }
        (since.elapsed() >= BACK_FOR).then_some(true)
    });
    stage.stop.check()?;
    match back {
        Ok(true) => stage.remark(format!("#{} {note}: machine {victim} came back by itself", id.0)),
        Ok(false) => {
            let words = stage.machine(victim).last_words();
            stage
                .remark(format!("#{} {note}: machine {victim} does not start and is replaced; it says: {words}", id.0));
            replace(stage, victim)?;
        }
        Err(_) => {
            let lacks = stage.eyes.lacks(&numbers).unwrap_or_default();
            let words = stage.machine(victim).last_words();
            stage.breach(format!(
                "#{} {note}: machine {victim} neither serves nor ends within {COMES_BACK_WITHIN:?}: {lacks}; its last words: {words}", id.0
            ));
            replace(stage, victim)?;
        }
    }
    stage.ends(id);
    Ok(())
}

/// Wipes a machine and lets it join anew.
pub fn wipe(stage: &mut Stage) -> anyhow::Result<()> {
    let numbers = stage.numbers();
    stage.wait_whole(&numbers, WHOLE_WITHIN).context("before a disk is wiped")?;
    let victim = victim(stage);
    let id = stage.begins(Kind::Wipe.name(), &[victim], "an empty disk; it joins anew".to_owned());
    replace(stage, victim)?;
    stage.ends(id);
    Ok(())
}

/// Ends a machine's node for good, lets an empty one join in its place, and removes the old one from the cluster.
fn replace(stage: &mut Stage, machine: u64) -> anyhow::Result<()> {
    stage.supervisor.kill(&[machine]);
    let id = stage.join(machine)?;
    stage.say(&format!("machine {machine} has joined as n{id}"));
    remove_others(stage, machine, id)?;
    let numbers = stage.numbers();
    stage.wait_whole(&numbers, WHOLE_WITHIN).with_context(|| format!("after machine {machine} was replaced"))
}

/// Removes the ids that a machine had before, and waits until nothing is left of them.
fn remove_others(stage: &mut Stage, machine: u64, id: u64) -> anyhow::Result<()> {
    let client = stage.machine(machine).client.clone();
    let old = stage.until("the node list is told", REMOVED_WITHIN, |stage| {
        let views = stage.eyes.views();
        let nodes = views.get(&machine)?.raw["nodes"].as_array()?.clone();
        let here = nodes.iter().filter(|node| node["client"] == client.as_str() && node["state"] != "removed");
        let ids: Vec<u64> =
            here.filter_map(|node| node["node"].as_str()?.trim_start_matches('n').parse().ok()).collect();
        ids.contains(&id).then(|| ids.into_iter().filter(|other| *other != id).collect::<Vec<u64>>())
    })?;
    for gone in old {
        stage.want(gone, "leaving", REMOVED_WITHIN)?;
    }
    Ok(())
}
