//! Owns one run from its beginning to its end: founds, talks, breaks, heals, reads. Does not judge.
//! Invariant: whatever goes wrong on the way, what was recorded is judged and the page is written.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::acts;
use super::plan::Plan;
use super::settings::{Ended, Settings};
use super::stage::Stage;
use super::stop::Stop;
use super::ways::HttpWays;
use super::{judge, summary};
use crate::history::{Applied, Body, NodeId, Recorder, RunKind, ShardId};
use crate::talk::{Shape, Talk};

/// Data shards of the cluster, as `everdesk start` founds it.
const SHARDS: u32 = 6;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After the last fault all must serve again by then; the checkers' limit is shorter.
const SERVES_WITHIN: Duration = Duration::from_secs(180);
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(150);
const FINALS_WITHIN: Duration = Duration::from_secs(400);
const SAME_INDEX_WITHIN: Duration = Duration::from_secs(60);
const COME_WITHIN: Duration = Duration::from_secs(60);

/// Runs, judges, and writes the page. Prints the summary.
/// # Errors
/// The lab cannot be set up or the files cannot be written: nothing is known of the cluster then.
pub fn run(settings: Settings) -> anyhow::Result<Ended> {
    std::fs::create_dir_all(&settings.out)?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let began = Instant::now();
    let book = Recorder::create(&settings.out.join("history.jsonl"), move || began.elapsed().as_micros() as u64)?;
    let stop = Stop::default();
    let mut tasks = JoinSet::new();
    let watched = stop.clone();
    // An error means that there are no signals to be had here; then Ctrl-C just kills, and the next run sweeps.
    tasks.spawn_on(async move { watched.watch().await.unwrap_or_default() }, runtime.handle());
    let mut stage = Stage::new(settings, runtime.handle().clone(), book, stop, began)?;
    let watching = stage.eyes.clone().watch(stage.addresses(), stage.admin.clone(), stage.book.clone());
    let played = play(&mut stage, &runtime, || drop(tasks.spawn_on(watching, runtime.handle())));
    if let Err(error) = played
        && !stage.stop.is_wanted()
    {
        stage.breach(format!("the run ended early: {error:#}"));
    }
    tasks.abort_all();
    stage.book.flush()?;
    let judged = judge::judge(&mut stage)?;
    let text = summary::text(&stage, &judged);
    // The processes and what they stood on go first: who reads the summary finds the machine as it was.
    drop(stage);
    runtime.shutdown_timeout(Duration::from_secs(2));
    println!("{text}");
    Ok(judged.ended)
}

fn play(stage: &mut Stage, runtime: &Runtime, watch: impl FnOnce()) -> anyhow::Result<()> {
    let settings = stage.settings.clone();
    stage.say("founding");
    // Before there is a cluster nothing leads: looking begins with the run's first line.
    stage.book.record(Body::Run {
        seed: settings.seed,
        nodes: stage.numbers().into_iter().map(NodeId).collect(),
        shards: SHARDS,
        sessions: settings.sessions as u64,
        kind: RunKind::Chaos,
    });
    watch();
    stage.found().context("found the cluster")?;
    stage.say("whole; people come");
    let mut addresses = stage.addresses();
    addresses.truncate(settings.nodes as usize);
    let ways = HttpWays {
        machines: addresses,
        admin: stage.admin.clone(),
        ids: stage.eyes.ids.clone(),
        eraser: Mutex::default(),
    };
    let shape = Shape {
        seed: settings.seed,
        visitors: settings.sessions,
        agents: settings.agents,
        pace: settings.pace,
        move_every: Duration::from_millis(700),
        accept_within: settings.seed.is_multiple_of(2).then_some(Duration::from_secs(3)),
        last_answers_within: LAST_ANSWERS_WITHIN,
    };
    let mut talk = {
        let _in_runtime = runtime.enter();
        Talk::start(ways, shape, stage.book.clone())
    };
    stage.until("all visitors have come", COME_WITHIN, |_| (talk.sessions() >= settings.sessions).then_some(()))?;
    break_things(stage)?;
    stage.heal()?;
    serves_again(stage)?;
    stage.say(&format!("ends the talk after {} acks", talk.acks()));
    let stop = stage.stop.clone();
    runtime.block_on(async {
        tokio::select! {
            done = talk.stop() => done.context("end the talk"),
            () = stop.wanted() => stop.check(),
        }
    })?;
    stage.say("reads every session through every node");
    runtime.block_on(async {
        let reading = tokio::time::timeout(FINALS_WITHIN, talk.read_finals());
        tokio::select! {
            done = reading => done.context("histories are not read in time")?.context("read histories"),
            () = stop.wanted() => stop.check(),
        }
    })?;
    note_hashes(stage)
}

/// Causes faults until it is time to end.
fn break_things(stage: &mut Stage) -> anyhow::Result<()> {
    let settings = stage.settings.clone();
    let kinds = settings.kinds.iter().copied().filter(|kind| kind.possible(&stage.abilities).is_ok()).collect();
    let mut plan = Plan::new(settings.seed, kinds);
    let ends = Instant::now() + settings.faults_for;
    loop {
        stage.stop.check()?;
        stage.tend()?;
        if Instant::now() >= ends || settings.faults_max.is_some_and(|max| stage.faults() >= max) {
            // What lasts is let last: cut short it might not have done anything.
            if stage.lasting.is_empty() {
                return Ok(());
            }
        } else if let Some(kind) = plan.due(&stage.lasting) {
            let begun = acts::begin(stage, kind).with_context(|| kind.name())?;
            plan.began(begun.as_ref());
            stage.lasting.extend(begun);
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

fn serves_again(stage: &mut Stage) -> anyhow::Result<()> {
    let healed = Instant::now();
    let numbers = stage.numbers();
    stage.eyes.blink();
    let mut lacks = String::new();
    let whole = stage.until("all serve again", SERVES_WITHIN, |stage| {
        if let Some(why) = stage.eyes.lacks(&numbers) {
            lacks = why;
            return None;
        }
        let unready = numbers.iter().find(|number| !stage.is_ready(**number));
        lacks = unready.map(|number| format!("machine {number} answers 503")).unwrap_or_default();
        unready.is_none().then_some(())
    });
    whole.context(lacks)?;
    stage.book.record(Body::Ready { since: healed.elapsed().as_micros() as u64 });
    stage.say(&format!("all serve again {:.1} s after the last fault", healed.elapsed().as_secs_f64()));
    Ok(())
}

/// Writes down the state hash of every replica at one index of each shard.
fn note_hashes(stage: &mut Stage) -> anyhow::Result<()> {
    stage.eyes.blink();
    // (shard, applied) -> machine -> hash
    let mut seen = BTreeMap::<(u64, u64), BTreeMap<u64, String>>::new();
    let mut missing = String::new();
    let met = stage.until("the replicas of every shard are at one index", SAME_INDEX_WITHIN, |stage| {
        let (views, led) = (stage.eyes.views(), stage.eyes.led());
        for (machine, view) in &views {
            for shard in view.data_shards() {
                if let (Some(applied), Some(hash)) = (shard.applied, &shard.state_hash) {
                    seen.entry((shard.shard, applied)).or_default().insert(*machine, hash.clone());
                }
            }
        }
        let data: Vec<_> = led.iter().filter(|(shard, _)| **shard > 0).collect();
        let mut found = Vec::new();
        for (shard, led) in &data {
            let holders = led.view.replicas.len();
            let at_one = seen.iter().rev().find(|((of, _), nodes)| of == *shard && nodes.len() >= holders);
            match at_one {
                Some(((_, applied), nodes)) => found.push((**shard, *applied, nodes.clone())),
                None => missing = format!("g{shard}: its {holders} replicas were not seen at one index"),
            }
        }
        (!data.is_empty() && found.len() == data.len() && found.len() == SHARDS as usize).then_some(found)
    });
    for (shard, applied, nodes) in met.context(missing)? {
        for (machine, hash) in nodes {
            let (node, shard, applied) = (NodeId(machine), ShardId(shard), Applied(applied));
            stage.book.record(Body::Hash { node, shard, applied, hash });
        }
    }
    Ok(())
}
