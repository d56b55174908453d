//! Owns the entries of audit chains, and the texts that their hashes are made of. Does not hash: the rules do. Invariant: enums grow only
//! at their end, structs never change; the texts of an entry are frozen with its hash (docs/AUDIT.md).

use crate::ids::SiteId;
use bincode::{Decode, Encode};
use std::fmt::Write;

/// SHA-256.
pub type AuditHash = [u8; 32];

/// The chain of operators' acts: no site has this number.
pub const OPERATORS: SiteId = SiteId(0);

/// What an entry says of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum AuditPhase {
    /// It is allowed, and is going to be done. Without a `Done` nobody knows what became of it.
    Begun,
    /// What the entry `begun` announced was answered with this HTTP status.
    Done { begun: u64, status: u16 },
    /// It was refused for lack of rights, with this HTTP status.
    Refused { status: u16 },
    /// It is told at once: a login, or work on a cluster that was not running.
    Told { status: u16 },
}

impl AuditPhase {
    pub fn name(self) -> &'static str {
        match self {
            AuditPhase::Begun => "begun",
            AuditPhase::Done { .. } => "done",
            AuditPhase::Refused { .. } => "refused",
            AuditPhase::Told { .. } => "told",
        }
    }

    /// The seq of the entry that announced it; 0: there is none.
    pub fn begun(self) -> u64 {
        match self {
            AuditPhase::Done { begun, .. } => begun,
            AuditPhase::Begun | AuditPhase::Refused { .. } | AuditPhase::Told { .. } => 0,
        }
    }

    /// 0: there is none yet.
    pub fn status(self) -> u16 {
        match self {
            AuditPhase::Begun => 0,
            AuditPhase::Done { status, .. } | AuditPhase::Refused { status } | AuditPhase::Told { status } => status,
        }
    }
}

/// Who did what, from where. Texts may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuditAct {
    /// Drawn once per act: `Begun` and `Done` share it, and what is proposed twice is one entry.
    pub act: u128,
    pub phase: AuditPhase,
    /// E.g. `token:ci`, `agent:a17`, `key:crm`.
    pub who: String,
    pub role: String,
    /// Of the connection.
    pub address: String,
    /// The node that was asked.
    pub node: String,
    pub method: String,
    /// As the table of routes has it.
    pub route: String,
    /// Path and query as they were asked for.
    pub target: String,
    /// Of the request's body.
    pub body: Option<AuditHash>,
}

/// An act in its place.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuditEntry {
    /// Gapless from 1 within the chain.
    pub seq: u64,
    /// Milliseconds since 1970, the leader's clock, never less than the entry before.
    pub ts_ms: u64,
    pub act: AuditAct,
}

/// An entry and the hash up to it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuditLine {
    pub entry: AuditEntry,
    pub hash: AuditHash,
}

/// A place in a chain, and the hash up to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct ChainPoint {
    pub seq: u64,
    pub hash: AuditHash,
}

/// Some of a chain, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuditPage {
    pub lines: Vec<AuditLine>,
    pub head: ChainPoint,
    /// The last entry that is not kept any more; seq 0: all are.
    pub cut: ChainPoint,
}

/// What a chain is called in its hashes.
pub fn chain_name(site: SiteId) -> String {
    if site == OPERATORS { "operators".to_owned() } else { site.to_string() }
}

/// In lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a String takes every text");
        out
    })
}

/// What is hashed: each text as its length in bytes, a colon, the text, a comma.
pub fn netstrings<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    for text in texts {
        out.extend_from_slice(text.len().to_string().as_bytes());
        out.push(b':');
        out.extend_from_slice(text.as_bytes());
        out.push(b',');
    }
    out
}

impl AuditEntry {
    /// Everything that its hash is made of, in this order, behind the hash of the entry before.
    pub fn texts(&self, site: SiteId) -> [String; 15] {
        let act = &self.act;
        [
            chain_name(site),
            self.seq.to_string(),
            self.ts_ms.to_string(),
            format!("{:032x}", act.act),
            act.phase.name().to_owned(),
            act.phase.begun().to_string(),
            act.phase.status().to_string(),
            act.who.clone(),
            act.role.clone(),
            act.address.clone(),
            act.node.clone(),
            act.method.clone(),
            act.route.clone(),
            act.target.clone(),
            act.body.map_or_else(String::new, |hash| hex(&hash)),
        ]
    }
}
