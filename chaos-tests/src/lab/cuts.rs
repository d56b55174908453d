//! Owns which packets a network drops: cuts and random loss of directed pairs. Does not choose pairs; see `shapes`.
//! Invariant: every change is one transaction of nftables in the bridge's namespace, so all nodes see it at the same instant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context;

use super::net::{ADMIN_PORT, End, Network};
use super::shapes::Pair;
use super::ticker::Ticker;
use super::tool;

/// What a network drops.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    cut: BTreeSet<Pair>,
    /// Percent of the packets.
    lost: BTreeMap<Pair, u8>,
}

/// Packets dropped since the network was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    pub by_cuts: u64,
    pub by_loss: u64,
}

impl Network {
    /// Cuts these pairs, besides those that are cut already. The tests reach the administration of a node over every cut.
    /// # Errors
    /// nftables refuses; nothing has changed then.
    pub fn cut(&self, pairs: &[Pair]) -> anyhow::Result<()> {
        self.change(|rules| rules.cut.extend(pairs))
    }

    /// Cuts these pairs and heals all other cuts, in one step.
    /// # Errors
    /// As `cut`.
    pub fn set_cuts(&self, pairs: &[Pair]) -> anyhow::Result<()> {
        self.change(|rules| rules.cut = pairs.iter().copied().collect())
    }

    /// Heals these cuts.
    /// # Errors
    /// As `cut`.
    pub fn heal(&self, pairs: &[Pair]) -> anyhow::Result<()> {
        self.change(|rules| rules.cut.retain(|pair| !pairs.contains(pair)))
    }

    /// Drops each packet of these pairs with a chance of `percent`; 0 ends it.
    /// # Errors
    /// As `cut`, or above 100 percent.
    pub fn lose(&self, pairs: &[Pair], percent: u8) -> anyhow::Result<()> {
        anyhow::ensure!(percent <= 100, "{percent} percent: a loss is 0 to 100");
        self.change(|rules| {
            for &pair in pairs {
                match percent {
                    0 => rules.lost.remove(&pair),
                    _ => rules.lost.insert(pair, percent),
                };
            }
        })
    }

    /// Ends every cut and loss. Delays and limits end with what `delay` and `limit` gave.
    /// # Errors
    /// As `cut`.
    pub fn heal_all(&self) -> anyhow::Result<()> {
        self.change(|rules| *rules = Rules::default())
    }

    /// Cuts these pairs and heals them by turns, beginning with a cut, each for `period`. Healed when the answer is dropped.
    /// # Errors
    /// No thread.
    pub fn flap(self: &Arc<Self>, pairs: &[Pair], period: Duration) -> anyhow::Result<Flapping> {
        let (network, own) = (self.clone(), pairs.to_vec());
        let turn = move |count: u64| if count.is_multiple_of(2) { network.cut(&own) } else { network.heal(&own) };
        Ok(Flapping { ticker: Ticker::start(period, turn)?, network: self.clone(), pairs: pairs.to_vec() })
    }

    /// How many packets were dropped.
    /// # Errors
    /// nftables does not answer.
    pub fn dropped(&self) -> anyhow::Result<Dropped> {
        let listed = self.nft(&["list", "counters", "table", "bridge", "lab"], "");
        // Before the first rule there is no table.
        let Ok(text) = listed else { return Ok(Dropped::default()) };
        let count = |name: &str| -> anyhow::Result<u64> {
            let (_, rest) = text.split_once(&format!("counter {name} ")).context("a counter is missing")?;
            let (_, rest) = rest.split_once("packets ").context("a counter has no packets")?;
            Ok(rest.split_whitespace().next().unwrap_or_default().parse()?)
        };
        Ok(Dropped { by_cuts: count("cuts")?, by_loss: count("losses")? })
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) -> anyhow::Result<()> {
        // Held until nftables has answered: two changes at once would overwrite each other.
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = rules.clone();
        change(&mut next);
        self.nft(&["-f", "-"], &self.render(&next)).context("change what the network drops")?;
        *rules = next;
        Ok(())
    }

    /// The transaction that puts these rules in force, whatever was in force before.
    fn render(&self, rules: &Rules) -> String {
        let mut text = String::from(
            "add table bridge lab\nadd counter bridge lab cuts\nadd counter bridge lab losses\n\
             add chain bridge lab pass { type filter hook forward priority -300; policy accept; }\n\
             flush chain bridge lab pass\n",
        );
        for &pair in &rules.cut {
            let spared = spared(pair);
            text.push_str(&format!(
                "add rule bridge lab pass {}{spared} counter name cuts drop\n",
                self.matching(pair)
            ));
        }
        for (&pair, percent) in &rules.lost {
            let chance = format!("numgen random mod 100 < {percent}");
            let spared = spared(pair);
            let matching = self.matching(pair);
            text.push_str(&format!("add rule bridge lab pass {matching}{spared} {chance} counter name losses drop\n"));
        }
        text
    }

    fn matching(&self, (from, to): Pair) -> String {
        format!("ip saddr {} ip daddr {}", self.address(from), self.address(to))
    }

    fn nft(&self, args: &[&str], input: &str) -> anyhow::Result<String> {
        let prefix = self.exec_in_bridge();
        let (program, rest) = prefix.split_first().context("no prefix")?;
        let nft = tool::find("nft").context("`nft` is missing: apt-get install nftables")?.display().to_string();
        let args: Vec<&str> =
            rest.iter().map(String::as_str).chain([nft.as_str()]).chain(args.iter().copied()).collect();
        tool::run_with(program, &args, input)
    }
}

/// The part of a rule that lets the tests ask a node's administration how it is.
fn spared((from, to): Pair) -> String {
    match (from, to) {
        (End::Harness, _) => format!(" tcp dport != {ADMIN_PORT}"),
        (_, End::Harness) => format!(" tcp sport != {ADMIN_PORT}"),
        _ => String::new(),
    }
}

/// A cut that comes and goes.
pub struct Flapping {
    ticker: Ticker,
    network: Arc<Network>,
    pairs: Vec<Pair>,
}

impl Flapping {
    /// Ends and heals it; returns how often it was cut or healed.
    /// # Errors
    /// As `Network::cut`.
    pub fn stop(mut self) -> anyhow::Result<u64> {
        let turns = self.ticker.stop();
        self.network.heal(&self.pairs)?;
        Ok(turns)
    }
}

impl Drop for Flapping {
    fn drop(&mut self) {
        self.ticker.stop();
        if let Err(error) = self.network.heal(&self.pairs) {
            eprintln!("a flapping link stays as it is: {error:#}");
        }
    }
}
