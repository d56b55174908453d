//! Owns the proof that a node's wall clock moves while it serves. Does not look at other clocks.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::ensure;
use chaos_tests::lab::clock::NodeClock;
use chaos_tests::lab::net::Network;

use crate::rig::{Rig, binary, pause};
use crate::{alone, is_skipped};

const ACK_WITHIN: Duration = Duration::from_secs(30);
const HOUR_MS: i64 = 3_600_000;

fn now_ms() -> anyhow::Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis())?)
}

#[test]
fn a_node_whose_clock_jumps_keeps_serving() -> anyhow::Result<()> {
    let _alone = alone();
    if is_skipped(&[Network::available(), NodeClock::available(), binary().map(drop)]) {
        return Ok(());
    }
    let mut rig = Rig::new(3)?;
    let clock = Arc::new(NodeClock::new(rig.dir.path(), "1", 0)?);
    rig.node(1).prefix = clock.vars().prefix();
    rig.start_all()?;
    println!("whole, with node 1 under a clock of its own; leaders {:?}", rig.leaders(1)?);
    let mut told = 0;
    for jump_ms in [0, 100, -100, HOUR_MS, 0, -HOUR_MS, 0] {
        clock.set(jump_ms)?;
        let mut seen = Vec::new();
        for _ in 0..8 {
            seen.push(rig.say(&[1], ACK_WITHIN)?.ts_ms - now_ms()?);
        }
        let logged = last_logged(&rig.log_tail(1));
        println!("clock of node 1 off by {jump_ms} ms: messages are off by {seen:?} ms; last log line {logged}");
        // The founder leads at first, and a leader's clock gives a message its time; some shards move to others meanwhile.
        let moved = seen.iter().filter(|seen| (**seen - jump_ms).abs() < 1_000).count();
        told += usize::from(moved > 0);
        ensure!(rig.ended(1).is_none() && rig.is_ready(1), "node 1 does not serve:\n{}", rig.log_tail(1));
    }
    ensure!(told >= 4, "the time of messages followed only {told} jumps");
    let strobing = clock.strobe(HOUR_MS, Duration::from_millis(200))?;
    for _ in 0..5 {
        rig.say(&[1], ACK_WITHIN)?;
    }
    pause(Duration::from_secs(1));
    println!("{} jumps; ready {:?}", strobing.stop()?, rig.ready_status(1));
    rig.wait_whole()?;
    rig.say(&[1, 2, 3], ACK_WITHIN).map(drop)
}

fn last_logged(log: &str) -> String {
    log.lines().last().and_then(|line| line.split_whitespace().next()).unwrap_or_default().to_owned()
}
