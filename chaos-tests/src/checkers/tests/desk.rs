//! Owns the reference system's rules: what a session is, and what each request makes of it. Does not know clients or time.
//! Invariant: as simple as FORMAT.md, so that it can be trusted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::deeds::seen_by;
use crate::history::{AgentId, DeviceId, Event, EventKind, Party, Reply, Seq, SessionId, What};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Has {
    Nobody,
    Waiting,
    Agent(usize),
}

/// One session of the reference system.
pub struct Talk {
    pub id: SessionId,
    pub log: Vec<Event>,
    pub has: Has,
    pub last_agent: Option<usize>,
    /// Where the part of the present holder begins.
    pub part_from: u64,
    opened_at: u64,
    pub(super) sent: BTreeMap<(Party, DeviceId), Vec<(u64, u64)>>,
    pub cursors: BTreeMap<Party, (u64, u64)>,
}

pub fn agent_id(agent: usize) -> AgentId {
    AgentId::from(format!("a{agent}").as_str())
}

pub fn agent_number(agent: &AgentId) -> usize {
    agent.0[1..].parse().expect("ids are made here")
}

impl Talk {
    pub fn new(number: usize) -> Talk {
        Talk {
            id: SessionId::from(format!("s{number}").as_str()),
            log: Vec::new(),
            has: Has::Nobody,
            last_agent: None,
            part_from: 0,
            opened_at: 0,
            sent: BTreeMap::new(),
            cursors: BTreeMap::new(),
        }
    }

    pub fn head(&self) -> u64 {
        self.log.len() as u64
    }

    pub(super) fn append(&mut self, kind: EventKind) -> u64 {
        let seq = self.head() + 1;
        self.log.push(Event { session: self.id.clone(), seq: Seq(seq), ts: 1000 + seq / 3, kind });
        seq
    }

    pub fn assign(&mut self, agent: usize) {
        let is_moved = matches!(self.has, Has::Agent(_));
        let seq = self.append(EventKind::Assigned { agent: agent_id(agent) });
        self.part_from = if is_moved { seq } else { self.opened_at };
        (self.has, self.last_agent) = (Has::Agent(agent), Some(agent));
    }

    /// It waits again: for whoever gets it then, the part begins behind this.
    pub fn give_back(&mut self, by: Party) {
        self.opened_at = self.append(EventKind::Queued { by }) + 1;
        self.has = Has::Waiting;
    }

    pub fn close(&mut self, by: Party) {
        self.append(EventKind::Closed { by });
        self.has = Has::Nobody;
    }

    /// Whether an agent may read on where it was.
    pub fn may_read(&self, agent: usize) -> bool {
        self.has == Has::Agent(agent) || (self.has == Has::Nobody && self.last_agent == Some(agent))
    }

    pub fn apply(&mut self, by: &Party, what: &What) -> Result<Option<Reply>, &'static str> {
        let holds = matches!((by, self.has), (Party::Agent(me), Has::Agent(has)) if agent_number(me) == has);
        match what {
            What::Send { device, n, text, .. } => self.send(by, holds, device, *n, text),
            What::Close { .. } if self.has == Has::Nobody => Err("closed"),
            What::Close { .. } if holds || *by == Party::Visitor => {
                self.close(by.clone());
                Ok(None)
            }
            What::Close { .. } => Err("forbidden"),
            What::Move { .. } if self.has == Has::Nobody => Err("closed"),
            What::Move { agent, .. } => {
                if self.has != Has::Agent(agent_number(agent)) {
                    self.assign(agent_number(agent));
                }
                Ok(None)
            }
            What::Act { device, n, act, .. } => self.act(by, holds, device, *n, act),
            What::Erase { .. } => Err("forbidden"),
            What::Cursor { received, read, .. } => {
                let head = self.head();
                let cursor = self.cursors.entry(by.clone()).or_default();
                cursor.0 = cursor.0.max(received.unwrap_or(0).min(head));
                cursor.1 = cursor.1.max(read.unwrap_or(0).min(head));
                Ok(Some(Reply::Cursor { received: cursor.0, read: cursor.1 }))
            }
            What::History { after, limit, .. } => {
                let from = (*after).min(self.head()) as usize;
                let to = (from + *limit as usize).min(self.log.len());
                let events = self.log[from..to].iter().map(|event| seen_by(by, event)).collect();
                Ok(Some(Reply::History { events, head: self.head() }))
            }
        }
    }

    /// The answer to what a device has sent as its `n`th before.
    pub fn answered(&mut self, by: &Party, device: &DeviceId, n: u64) -> Result<Option<Reply>, &'static str> {
        let sent = self.sent.entry((by.clone(), device.clone())).or_default();
        match sent.get(n as usize - 1) {
            Some((seq, ts)) => Ok(Some(Reply::Sent { seq: Seq(*seq), ts: *ts, dup: true })),
            None if n > sent.len() as u64 + 1 => Err("cid_gap"),
            None => Ok(None),
        }
    }

    fn send(
        &mut self,
        by: &Party,
        holds: bool,
        device: &DeviceId,
        n: u64,
        text: &Arc<str>,
    ) -> Result<Option<Reply>, &'static str> {
        if let Some(known) = self.answered(by, device, n)? {
            return Ok(Some(known));
        }
        if *by != Party::Visitor && !holds {
            return Err(if self.has == Has::Nobody { "closed" } else { "forbidden" });
        }
        let seq = self.append(EventKind::Message { from: by.clone(), text: text.clone() });
        let ts = self.log[seq as usize - 1].ts;
        if self.has == Has::Nobody {
            (self.has, self.opened_at) = (Has::Waiting, seq);
        }
        self.sent.entry((by.clone(), device.clone())).or_default().push((seq, ts));
        Ok(Some(Reply::Sent { seq: Seq(seq), ts, dup: false }))
    }
}
