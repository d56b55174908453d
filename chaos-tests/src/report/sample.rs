//! Owns a made-up run, to look at the page and to measure it without a cluster. Does not follow the rules of the system
//! closely: it only looks like a run. Invariant: the same numbers in give the same lines out.

use super::{Verdict, Violation};

const SECOND_US: u64 = 1_000_000;
const NODES: u64 = 3;
const TIMEOUT_US: u64 = 5 * SECOND_US;
const KINDS: [&str; 6] = ["kill leader", "freeze", "partition", "slow disk", "kill all", "clock jump"];

/// How big a run to make up.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub seed: u64,
    pub minutes: u64,
    pub shards: u64,
    pub sessions: u64,
    pub faults: u64,
    /// Sends of all visitors together.
    pub sends_per_second: u64,
}

impl Default for Sample {
    fn default() -> Sample {
        Sample { seed: 20_461, minutes: 10, shards: 6, sessions: 300, faults: 12, sends_per_second: 160 }
    }
}

/// Sessions of a sample are called `s-17`; this is the shard of one.
pub fn shard_of(session: &str, shards: u64) -> Option<u64> {
    Some(session.strip_prefix("s-")?.parse::<u64>().ok()? % shards)
}

/// Small and the same everywhere: xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit.max(1)
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }
}

/// Who leads a shard from a moment on; its clients wait while nobody does.
type Terms = Vec<(u64, Option<u64>)>;

struct Made {
    sample: Sample,
    dice: Dice,
    lines: Vec<(u64, String)>,
    terms: Vec<Terms>,
    /// Times in which everything is slower.
    slow: Vec<(u64, u64)>,
    end_us: u64,
    ops: u64,
}

impl Sample {
    /// The lines of `history.jsonl`, in order.
    pub fn history(&self) -> Vec<String> {
        let mut made = Made {
            sample: *self,
            dice: Dice(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            lines: Vec::new(),
            terms: (0..self.shards).map(|shard| vec![(40_000 + shard * 9_000, Some(shard % NODES + 1))]).collect(),
            slow: Vec::new(),
            end_us: self.minutes * 60 * SECOND_US,
            ops: 0,
        };
        made.first();
        made.clients();
        made.all_faults();
        made.leaders();
        made.talk();
        made.last();
        made.lines.sort_by_key(|(at_us, _)| *at_us);
        made.lines.into_iter().map(|(_, line)| line).collect()
    }

    /// Verdicts of eight checks, with so many broken promises.
    pub fn verdicts(&self, broken: usize) -> Vec<Verdict> {
        let sends = self.minutes * 60 * self.sends_per_second;
        let names = [
            ("acked messages are in the history", sends),
            ("refused operations left no trace", sends / 40),
            ("an unknown send happened at most once", sends / 300),
            ("sequence numbers have no gap", self.sessions * NODES),
            ("subscribers saw each event once and in order", sends * 2),
            ("one agent holds a session at a time", self.sessions * 7),
            ("cursors never go back", sends / 3),
            ("replicas have the same state", self.shards * NODES * 4),
        ];
        let mut verdicts: Vec<Verdict> = names
            .into_iter()
            .map(|(name, checked)| Verdict { name: name.to_owned(), checked, violations: Vec::new() })
            .collect();
        verdicts[0].violations = (0..broken as u64).map(|number| violation(number * 7 + 131)).collect();
        verdicts
    }
}

fn violation(session: u64) -> Violation {
    let excerpt = [
        r#"{"t":183221904,"k":"fault","fault":4,"kind":"kill leader","nodes":[2],"note":"kill -9 of the busiest leader"}"#.to_owned(),
        format!(r#"{{"t":183240511,"k":"invoke","op":29114,"client":77,"what":{{"send":{{"session":"s-{session}","device":"d77","n":93,"text":"<b>hello</b> & 29114"}}}}}}"#),
        r#"{"t":183246027,"k":"ok","op":29114,"result":{"seq":188,"ts":1763781246027,"dup":false}}"#.to_owned(),
        r#"{"t":183252310,"k":"leader","shard":5,"node":null,"epoch":9}"#.to_owned(),
        r#"{"t":184377015,"k":"leader","shard":5,"node":3,"epoch":10}"#.to_owned(),
        format!(r#"{{"t":600920118,"k":"final","node":1,"session":"s-{session}","events":[... "seq":187 ..., "seq":188 "text":"other 31007"]}}"#),
    ];
    Violation {
        session: format!("s-{session}"),
        text: "op 29114 was acknowledged with seq 188, but on nodes 1, 2 and 3 seq 188 is another message".to_owned(),
        excerpt: excerpt.into(),
    }
}

impl Made {
    fn put(&mut self, at_us: u64, kind: &str, rest: &str) {
        self.lines.push((at_us, format!(r#"{{"t":{at_us},"k":"{kind}"{rest}}}"#)));
    }

    fn first(&mut self) {
        let Sample { seed, shards, sessions, .. } = self.sample;
        let rest = format!(r#","seed":{seed},"nodes":[1,2,3],"shards":{shards},"sessions":{sessions},"kind":"chaos""#);
        self.put(0, "run", &rest);
    }

    fn clients(&mut self) {
        for client in 0..self.sample.sessions {
            let at_us = self.dice.below(2 * SECOND_US);
            self.put(at_us, "client", &format!(r#","client":{client},"who":{{"visitor":"s-{client}"}}"#));
            let node = self.dice.between(1, NODES + 1);
            self.put(at_us + 900, "connected", &format!(r#","client":{client},"socket":1,"node":{node}"#));
        }
    }

    fn all_faults(&mut self) {
        let room_us = (self.end_us - 40 * SECOND_US) / self.sample.faults.max(1);
        for fault in 0..self.sample.faults {
            let at_us = 15 * SECOND_US + fault * room_us + self.dice.below(room_us / 4);
            self.fault(fault + 1, at_us, room_us);
        }
        if self.sample.faults > 0 {
            let at_us = self.end_us - 8 * SECOND_US;
            self.put(at_us, "ready", r#","since":1840000"#);
        }
    }

    fn fault(&mut self, id: u64, at_us: u64, room_us: u64) {
        // Of eleven the first five come twice.
        let kind = KINDS[(self.dice.below(11) as usize) % KINDS.len()];
        let shard = self.dice.below(self.sample.shards) as usize;
        let leader = self.terms[shard].last().and_then(|(_, leader)| *leader);
        let node = leader.unwrap_or_else(|| self.dice.between(1, NODES + 1));
        let lasts_us = self.dice.between(room_us / 8, room_us / 2).clamp(SECOND_US, 30 * SECOND_US);
        let (nodes, note, hit) = match kind {
            "kill all" => ("1,2,3".to_owned(), "kill -9 of every node, restarted together", true),
            "slow disk" => (node.to_string(), "fsync takes 40 ms", false),
            "clock jump" => (node.to_string(), "+90 s", false),
            "partition" => (node.to_string(), "cut off from both others, clients still reach it", true),
            "freeze" => (node.to_string(), "SIGSTOP", true),
            _ => (node.to_string(), "kill -9 of the busiest leader", true),
        };
        self.put(at_us, "fault", &format!(r#","fault":{id},"kind":"{kind}","nodes":[{nodes}],"note":"{note}""#));
        self.put(at_us + lasts_us, "healed", &format!(r#","fault":{id}"#));
        if kind == "slow disk" {
            self.slow.push((at_us, at_us + lasts_us));
        }
        if hit {
            let all = kind == "kill all";
            self.fail_over(at_us, if all { lasts_us / 3 } else { 0 }, (!all).then_some(node));
            self.reconnects(at_us, (!all).then_some(node));
        }
    }

    /// Shards led by the node get another leader after a second or two; all of them when no node is named.
    fn fail_over(&mut self, at_us: u64, more_us: u64, node: Option<u64>) {
        for shard in 0..self.terms.len() {
            let Some(&(_, leader)) = self.terms[shard].last() else { continue };
            if node.is_some() && leader != node {
                continue;
            }
            let lost_us = at_us + self.dice.between(1_000, 30_000);
            let found_us = lost_us + more_us + self.dice.between(500_000, 2_600_000);
            let others = 1 + leader.unwrap_or(1) % NODES;
            let next = if self.dice.below(2) == 0 { others } else { 1 + others % NODES };
            self.terms[shard].extend([(lost_us, None), (found_us, Some(next))]);
        }
    }

    fn reconnects(&mut self, at_us: u64, node: Option<u64>) {
        for client in 0..self.sample.sessions {
            if node.is_some_and(|node| client % NODES + 1 != node) {
                continue;
            }
            let gone = node.unwrap_or(client % NODES + 1);
            let back_us = at_us + self.dice.between(80_000, 1_500_000);
            let next = 1 + gone % NODES;
            self.put(at_us + 2_000, "disconnected", &format!(r#","client":{client},"socket":1,"node":{gone}"#));
            self.put(back_us, "connected", &format!(r#","client":{client},"socket":2,"node":{next}"#));
        }
    }

    fn leaders(&mut self) {
        for (shard, terms) in self.terms.clone().into_iter().enumerate() {
            for (epoch, (at_us, node)) in terms.into_iter().enumerate() {
                let node = node.map_or("null".to_owned(), |node| node.to_string());
                self.put(at_us, "leader", &format!(r#","shard":{shard},"node":{node},"epoch":{}"#, epoch / 2 + 1));
            }
        }
    }

    fn talk(&mut self) {
        let talk_us = self.end_us - 6 * SECOND_US;
        for second in 0..talk_us / SECOND_US {
            // A slow swell, so that the curve is none of a ruler.
            let swell = 100 + (second / 7 % 30).abs_diff(15);
            for _ in 0..self.sample.sends_per_second * swell / 107 {
                let at_us = (second * SECOND_US + self.dice.below(SECOND_US)).max(120_000);
                self.send(at_us);
            }
            for (what, rest) in [("cursor", r#","received":9,"read":8"#), ("history", r#","after":0,"limit":50"#)] {
                let session = self.dice.below(self.sample.sessions);
                let what = format!(r#"{{"{what}":{{"session":"s-{session}"{rest}}}}}"#);
                let at_us = second * SECOND_US + self.dice.below(SECOND_US);
                self.operation(at_us, session, &what, None);
            }
            if second.is_multiple_of(4) {
                let session = self.dice.below(self.sample.sessions);
                let refused = (self.dice.below(5) == 0).then_some("closed");
                let what = format!(r#"{{"close":{{"session":"s-{session}"}}}}"#);
                self.operation(second * SECOND_US + 500_000, session, &what, refused);
            }
        }
    }

    fn send(&mut self, at_us: u64) {
        let session = self.dice.below(self.sample.sessions);
        let n = self.ops;
        let what = format!(r#"{{"send":{{"session":"s-{session}","device":"d{session}","n":{n},"text":"text {n}"}}}}"#);
        let refused = match self.dice.below(400) {
            0 => Some("forbidden"),
            1 => Some("closed"),
            _ => None,
        };
        self.operation(at_us, session, &what, refused);
    }

    fn operation(&mut self, at_us: u64, session: u64, what: &str, refused: Option<&str>) {
        let op = self.ops;
        self.ops += 1;
        self.put(at_us, "invoke", &format!(r#","op":{op},"client":{session},"what":{what}"#));
        let latency_us = self.latency_us();
        let slow = self.slow.iter().any(|&(from_us, to_us)| (from_us..to_us).contains(&at_us));
        let latency_us = if slow { latency_us * 4 + 40_000 } else { latency_us };
        let served_us = self.served_us(at_us, session % self.sample.shards) + latency_us;
        if served_us - at_us > TIMEOUT_US {
            return self.put(at_us + TIMEOUT_US, "unknown", &format!(r#","op":{op},"why":"no answer within 5 s""#));
        }
        let waited = served_us - at_us > 300_000;
        match refused {
            Some(code) => self.put(served_us, "fail", &format!(r#","op":{op},"code":"{code}""#)),
            // The connection breaks under some of those that wait.
            None if waited && op.is_multiple_of(9) => {
                self.put(at_us + 200_000, "unknown", &format!(r#","op":{op},"why":"connection lost""#));
            }
            None if waited && op.is_multiple_of(97) => {}
            None => self.put(served_us, "ok", &format!(r#","op":{op},"result":{{"seq":{op},"ts":1,"dup":false}}"#)),
        }
    }

    /// Mostly about 2 ms, seldom far more.
    fn latency_us(&mut self) -> u64 {
        let tail = match self.dice.below(1_000) {
            0 => 60_000,
            1..15 => 14_000,
            15..150 => 4_000,
            _ => 900,
        };
        1_100 + self.dice.below(900) + self.dice.below(tail)
    }

    fn served_us(&self, at_us: u64, shard: u64) -> u64 {
        let terms = &self.terms[shard as usize];
        let now = terms.partition_point(|(from_us, _)| *from_us <= at_us);
        match terms.get(now.wrapping_sub(1)) {
            Some((_, Some(_))) => at_us,
            _ => terms.get(now).map_or(self.end_us, |(from_us, _)| *from_us),
        }
    }

    fn last(&mut self) {
        for node in 1..=NODES {
            for session in 0..self.sample.sessions {
                let at_us = self.end_us - 4 * SECOND_US + session * 1_000;
                self.put(at_us, "final", &format!(r#","node":{node},"session":"s-{session}","events":[]"#));
            }
            for shard in 0..self.sample.shards {
                let rest = format!(r#","node":{node},"shard":{shard},"applied":900,"hash":"ab""#);
                self.put(self.end_us, "hash", &rest);
            }
        }
    }
}
