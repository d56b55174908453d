//! Owns what the page knows of a run: operations, faults, leaders and connects, without texts. Does not draw.
//! Invariant: a line that cannot be read is counted, never fatal; a broken run is the one whose page matters most.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, BufRead};

use serde_json::Value;

use super::html::clipped;
use super::line::{Line, What};

/// Distinct codes and reasons that are told apart; the rest is "other". They are free text and might hold numbers.
const REASONS_MAX: usize = 16;
const REASON_CHARS_MAX: usize = 60;
/// Distinct kinds of operations that are told apart.
const KINDS_MAX: usize = 16;
/// A line from after a hundred days is none of a run; and sums of times cannot overflow.
const TIME_US_MAX: u64 = 100 * 24 * 3_600 * 1_000_000;
const OTHER: &str = "other";

/// Which of so many shards (at least 1) a session lives in; `None` when the text is no session's id. The file does not say.
pub type ShardOf = fn(&str, u64) -> Option<u64>;

/// How an operation ended. The number leads into `Run::reasons`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Ok,
    Fail(usize),
    Unknown(usize),
    /// No end line: as `Unknown`, without a reason.
    Open,
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub struct Op {
    /// Leads into `Run::kinds`.
    pub kind: usize,
    pub invoked_us: u64,
    /// `None` exactly with `End::Open`.
    pub ended_us: Option<u64>,
    pub end: End,
    /// Leads into `Run::parts`.
    pub part: Option<u32>,
}

/// One thing that was done to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub id: u64,
    pub kind: String,
    pub nodes: Vec<u64>,
    pub note: String,
    pub began_us: u64,
    pub healed_us: Option<u64>,
}

/// What the sampler of leaders saw.
#[derive(Debug, Clone, Copy)]
pub struct LeaderSeen {
    pub at_us: u64,
    pub shard: u64,
    pub node: Option<u64>,
    pub epoch: Option<u64>,
}

/// What happened at one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeTally {
    pub connects: u64,
    pub disconnects: u64,
    pub final_reads: u64,
    pub hashes: u64,
}

/// What a session's silence is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    Shard,
    Session,
}

/// A run, read. Times are microseconds since it began.
#[derive(Debug)]
pub struct Run {
    pub seed: String,
    /// "chaos" or "sim".
    pub kind: String,
    pub nodes: Vec<u64>,
    pub shards: u64,
    pub sessions: u64,
    pub end_us: u64,
    pub lines: u64,
    pub unreadable: u64,
    pub clients: u64,
    /// Distinct messages among the acknowledged sends: a repeated send is one message.
    pub messages: u64,
    pub kinds: Vec<String>,
    pub reasons: Vec<String>,
    pub ops: Vec<Op>,
    pub faults: Vec<Fault>,
    pub leaders: Vec<LeaderSeen>,
    /// When all shards served again, and how long after the last heal.
    pub ready: Vec<(u64, Option<u64>)>,
    pub tallies: BTreeMap<u64, NodeTally>,
    pub part_kind: PartKind,
    pub parts: Vec<String>,
}

impl Run {
    /// Reads a whole `history.jsonl`. With `shard_of` silences are counted by shard, else by session.
    /// # Errors
    /// The file cannot be read. Lines that make no sense are counted in `unreadable` instead.
    pub fn read(from: impl BufRead, shard_of: Option<ShardOf>) -> io::Result<Run> {
        let mut reader = RunReader::new(shard_of);
        for line in from.split(b'\n') {
            reader.line(&String::from_utf8_lossy(&line?));
        }
        Ok(reader.finish())
    }

    /// The sends among the operations.
    pub fn sends(&self) -> impl Iterator<Item = &Op> {
        let send = self.kinds.iter().position(|kind| kind == "send");
        self.ops.iter().filter(move |op| Some(op.kind) == send)
    }

    /// Every node named anywhere, in order.
    pub fn all_nodes(&self) -> Vec<u64> {
        let mut nodes: Vec<u64> = self.nodes.iter().copied().chain(self.tallies.keys().copied()).collect();
        nodes.extend(self.leaders.iter().filter_map(|seen| seen.node));
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The end of a fault, or of the run if nobody healed it.
    pub fn fault_end_us(&self, fault: &Fault) -> u64 {
        fault.healed_us.unwrap_or(self.end_us).max(fault.began_us)
    }
}

/// Reads a run line by line.
pub struct RunReader {
    run: Run,
    shard_of: Option<ShardOf>,
    open: HashMap<u64, Pending>,
    fault_at: HashMap<u64, usize>,
    part_ids: HashMap<String, u32>,
    device_ids: HashMap<String, u32>,
    session_ids: HashMap<String, u32>,
    acked: HashSet<Message>,
}

/// What makes two sends the same: session, device, and the device's count.
type Message = (u32, u32, u64);

struct Pending {
    at: usize,
    message: Option<Message>,
}

impl RunReader {
    pub fn new(shard_of: Option<ShardOf>) -> RunReader {
        let part_kind = if shard_of.is_some() { PartKind::Shard } else { PartKind::Session };
        RunReader {
            run: Run {
                seed: String::new(),
                kind: String::new(),
                nodes: Vec::new(),
                shards: 0,
                sessions: 0,
                end_us: 0,
                lines: 0,
                unreadable: 0,
                clients: 0,
                messages: 0,
                kinds: Vec::new(),
                reasons: Vec::new(),
                ops: Vec::new(),
                faults: Vec::new(),
                leaders: Vec::new(),
                ready: Vec::new(),
                tallies: BTreeMap::new(),
                part_kind,
                parts: Vec::new(),
            },
            shard_of,
            open: HashMap::new(),
            fault_at: HashMap::new(),
            part_ids: HashMap::new(),
            device_ids: HashMap::new(),
            session_ids: HashMap::new(),
            acked: HashSet::new(),
        }
    }

    /// Takes in one line. An empty one is nothing, an unreadable one is counted.
    pub fn line(&mut self, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        self.run.lines += 1;
        match serde_json::from_str::<Line>(text) {
            Ok(line) if line.t <= TIME_US_MAX => self.take(line),
            _ => self.run.unreadable += 1,
        }
    }

    /// The run as far as it was read.
    pub fn finish(mut self) -> Run {
        self.run.messages = self.acked.len() as u64;
        self.run
    }

    fn take(&mut self, line: Line) {
        let at = line.t;
        self.run.end_us = self.run.end_us.max(at);
        match line.k.as_str() {
            "run" => self.begin(line),
            "client" => self.run.clients += 1,
            "invoke" => self.invoke(line),
            "ok" => self.end(&line, End::Ok),
            "fail" => {
                let reason = self.reason(line.code.as_deref().unwrap_or("no code"));
                self.end(&line, End::Fail(reason));
            }
            "unknown" => {
                let reason = self.reason(line.why.as_deref().unwrap_or("no reason"));
                self.end(&line, End::Unknown(reason));
            }
            "connected" => self.tally(&line, |tally| tally.connects += 1),
            "disconnected" => self.tally(&line, |tally| tally.disconnects += 1),
            "final" => self.tally(&line, |tally| tally.final_reads += 1),
            "hash" => self.tally(&line, |tally| tally.hashes += 1),
            "leader" => {
                if let Some(shard) = line.shard {
                    self.run.leaders.push(LeaderSeen { at_us: at, shard, node: line.node, epoch: line.epoch });
                }
            }
            "fault" => self.fault(line),
            "healed" => {
                let index = line.fault.and_then(|id| self.fault_at.get(&id).copied());
                if let Some(fault) = index.and_then(|index| self.run.faults.get_mut(index)) {
                    fault.healed_us.get_or_insert(at);
                }
            }
            "ready" => self.run.ready.push((at, line.since)),
            // Events, cursors and whatever comes later: the checks read them, the page does not.
            _ => {}
        }
    }

    fn begin(&mut self, line: Line) {
        self.run.seed = line.seed.as_ref().map(plain).unwrap_or_default();
        self.run.kind = line.kind.unwrap_or_default();
        self.run.nodes = line.nodes.unwrap_or_default();
        self.run.shards = line.shards.unwrap_or_default();
        self.run.sessions = line.sessions.unwrap_or_default();
    }

    fn invoke(&mut self, line: Line) {
        let Some((id, (kind, what))) = line.op.zip(line.what.and_then(|what| what.into_iter().next())) else {
            self.run.unreadable += 1;
            return;
        };
        let message = self.message(&kind, &what);
        let part = what.session.as_deref().and_then(|session| self.part(session));
        let kind = known(&mut self.run.kinds, &kind, KINDS_MAX);
        self.open.insert(id, Pending { at: self.run.ops.len(), message });
        self.run.ops.push(Op { kind, invoked_us: line.t, ended_us: None, end: End::Open, part });
    }

    fn end(&mut self, line: &Line, end: End) {
        // An end without a beginning says nothing that could be drawn.
        let Some(pending) = line.op.and_then(|id| self.open.remove(&id)) else { return };
        if let Some(op) = self.run.ops.get_mut(pending.at) {
            op.end = end;
            op.ended_us = Some(line.t.max(op.invoked_us));
        }
        if end == End::Ok {
            self.acked.extend(pending.message);
        }
    }

    fn message(&mut self, kind: &str, what: &What) -> Option<Message> {
        let (session, n) = (what.session.as_deref()?, what.n?);
        let device = what.device.as_ref().map(plain).unwrap_or_default();
        let message = (number(&mut self.session_ids, session), number(&mut self.device_ids, &device), n);
        (kind == "send").then_some(message)
    }

    fn part(&mut self, session: &str) -> Option<u32> {
        let name = match self.shard_of {
            Some(shard_of) => shard_of(session, self.run.shards.max(1))?.to_string(),
            None => session.to_owned(),
        };
        let id = number(&mut self.part_ids, &name);
        if id as usize == self.run.parts.len() {
            self.run.parts.push(name);
        }
        Some(id)
    }

    fn fault(&mut self, line: Line) {
        let id = line.fault.unwrap_or_default();
        self.fault_at.insert(id, self.run.faults.len());
        self.run.faults.push(Fault {
            id,
            kind: line.kind.unwrap_or_else(|| OTHER.to_owned()),
            nodes: line.nodes.unwrap_or_default(),
            note: line.note.unwrap_or_default(),
            began_us: line.t,
            healed_us: None,
        });
    }

    fn tally(&mut self, line: &Line, change: impl FnOnce(&mut NodeTally)) {
        if let Some(node) = line.node {
            change(self.run.tallies.entry(node).or_default());
        }
    }

    fn reason(&mut self, text: &str) -> usize {
        known(&mut self.run.reasons, &clipped(text, REASON_CHARS_MAX), REASONS_MAX)
    }
}

/// A JSON text without its quotes, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(ids: &mut HashMap<String, u32>, name: &str) -> u32 {
    if let Some(&id) = ids.get(name) {
        return id;
    }
    let id = ids.len() as u32;
    ids.insert(name.to_owned(), id);
    id
}

/// The place of `name` in a short list that it joins; past `max` it is one of the others.
fn known(names: &mut Vec<String>, name: &str, max: usize) -> usize {
    let place = |names: &[String], name: &str| names.iter().position(|known| known == name);
    if let Some(place) = place(names, name) {
        return place;
    }
    let name = if names.len() + 1 < max { name } else { OTHER };
    place(names, name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}
