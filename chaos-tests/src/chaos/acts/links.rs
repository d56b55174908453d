//! Owns cuts, losses, delays and limits of links. Invariant: the network counts what it drops, so that a fault without effect is seen.

use std::time::Duration;

use anyhow::Context;

use super::{Begun, Hold};
use crate::chaos::kinds::Kind;
use crate::chaos::stage::Stage;
use crate::lab::delay::Delay;
use crate::lab::shapes::{self, Pair};

pub fn cut(stage: &mut Stage, kind: Kind, lasts: Duration) -> anyhow::Result<Begun> {
    let order = stage.shuffled();
    let (first, others) = (order[0], order[1..].to_vec());
    let (pairs, hit, what) = match kind {
        Kind::IsolateLeader => {
            let leader = stage.leader();
            (shapes::leader_minority(leader, &order), vec![leader], "the leader in the smaller part".to_owned())
        }
        Kind::OneWay if stage.dice.once_in(2) => {
            (shapes::one_way(&[first], &others), vec![first], format!("nothing from {first} to the others"))
        }
        Kind::OneWay => {
            (shapes::one_way(&others, &[first]), vec![first], format!("nothing from the others to {first}"))
        }
        Kind::Ring => (shapes::majorities_ring(&order), order.clone(), format!("in the order {order:?}")),
        Kind::Bridge => (shapes::bridge(&order), others, format!("{first} sees all")),
        Kind::ClientsCut => (shapes::clients_of(first), vec![first], "no clients".to_owned()),
        _ => {
            let smaller = order[..order.len() / 2].to_vec();
            (shapes::halves(&order), smaller.clone(), format!("{smaller:?} and the others"))
        }
    };
    let network = stage.network.clone().context("cuts need a network")?;
    let before = network.dropped()?.by_cuts;
    let id = stage.begins(kind.name(), &hit, format!("{what}, for {} ms", lasts.as_millis()));
    network.cut(&pairs)?;
    Ok(Some((id, Hold::Cut(pairs, before))))
}

pub fn flap(stage: &mut Stage, lasts: Duration) -> anyhow::Result<Begun> {
    let (victim, numbers) = (stage.any(), stage.numbers());
    let period = Duration::from_millis(200 + stage.dice.below(1_500) as u64);
    let network = stage.network.clone().context("cuts need a network")?;
    let before = network.dropped()?.by_cuts;
    let note = format!("alone and not, each for {} ms, {} ms in all", period.as_millis(), lasts.as_millis());
    let id = stage.begins(Kind::Flapping.name(), &[victim], note);
    let flapping = network.flap(&shapes::isolate(victim, &numbers), period)?;
    Ok(Some((id, Hold::Flapping(flapping, before))))
}

pub fn lose(stage: &mut Stage, lasts: Duration) -> anyhow::Result<Begun> {
    let percent = 2 + stage.dice.below(24) as u8;
    let numbers = stage.numbers();
    let mut pairs = shapes::all_links(&numbers);
    if stage.dice.once_in(2) {
        pairs.extend(numbers.iter().flat_map(|number| shapes::clients_of(*number)));
    }
    let network = stage.network.clone().context("losses need a network")?;
    let before = network.dropped()?.by_loss;
    let note = format!("{percent} % of the packets, for {} ms", lasts.as_millis());
    let id = stage.begins(Kind::Loss.name(), &numbers, note);
    network.lose(&pairs, percent)?;
    Ok(Some((id, Hold::Loss(pairs, before))))
}

pub fn delay(stage: &mut Stage, lasts: Duration) -> anyhow::Result<Begun> {
    let numbers = stage.numbers();
    let mut pairs = shapes::all_links(&numbers);
    if stage.dice.once_in(2) {
        pairs.extend(numbers.iter().flat_map(|number| shapes::clients_of(*number)));
    }
    // There and back at most 240 ms: an election takes two such turns, and must be over in 500 ms.
    let fixed = Duration::from_millis(2 + stage.dice.below(80) as u64);
    let jitter = Duration::from_millis(stage.dice.below(40) as u64);
    let delay = Delay { fixed, jitter, reorder: stage.dice.once_in(2) };
    let note = format!(
        "{} to {} ms{}, for {} ms",
        fixed.as_millis(),
        (fixed + jitter).as_millis(),
        if delay.reorder { " out of order" } else { "" },
        lasts.as_millis()
    );
    let network = stage.network.clone().context("delays need a network")?;
    let id = stage.begins(Kind::Delay.name(), &numbers, note);
    let delaying = network.delay(&pairs, delay)?;
    Ok(Some((id, Hold::Delay(delaying))))
}

pub fn limit(stage: &mut Stage, lasts: Duration) -> anyhow::Result<Begun> {
    let victim = stage.any();
    let kbit_s = 500 + stage.dice.below(4_500) as u32;
    let network = stage.network.clone().context("limits need a network")?;
    let id = stage.begins(Kind::Bandwidth.name(), &[victim], format!("{kbit_s} kbit/s, for {} ms", lasts.as_millis()));
    let limited = network.limit(victim, kbit_s)?;
    Ok(Some((id, Hold::Bandwidth(limited))))
}

/// Ends cuts.
pub fn heal(stage: &mut Stage, pairs: &[Pair], before: u64) -> anyhow::Result<Option<String>> {
    let network = stage.network.clone().context("cuts need a network")?;
    let dropped = network.dropped()?.by_cuts - before;
    network.heal(pairs)?;
    Ok((dropped == 0).then(|| "no packet was dropped".to_owned()))
}

/// Ends losses.
pub fn find(stage: &mut Stage, pairs: &[Pair], before: u64) -> anyhow::Result<Option<String>> {
    let network = stage.network.clone().context("losses need a network")?;
    let dropped = network.dropped()?.by_loss - before;
    network.lose(pairs, 0)?;
    Ok((dropped == 0).then(|| "no packet was lost".to_owned()))
}
