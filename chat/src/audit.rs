//! Owns the audit chains: one for each site, at the shard of its desk, and one for the operators. Does not decide what is an act. Invariant:
//! seqs are gapless from 1 and time never goes back; each hash is made of the one before and of its entry; what goes, goes at the front.

use crate::apply::Shard;
use crate::cache::{Table, Weight};
use crate::journal::Note;
use crate::keys;
use crate::limits::{AUDIT_KEPT, AUDIT_SEEN_MAX, AUDIT_TARGET_BYTES_MAX, AUDIT_TEXT_BYTES_MAX};
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::{self, AuditRow, ChainRow, Changes, Rows, SeenRow, corrupt};
use proto::audit::{AuditAct, AuditEntry, AuditHash, AuditLine, AuditPage, AuditPhase, ChainPoint, hex, netstrings};
use proto::ids::SiteId;
use sha2::{Digest, Sha256};

/// The newest and the recently read entries; `None`: it was cut off.
pub(crate) type Entries = Table<(SiteId, u64), Option<AuditRow>>;

impl Weight for AuditRow {
    fn bytes(&self) -> usize {
        size_of::<AuditRow>() + texts(&self.line.entry.act).iter().map(|text| text.len()).sum::<usize>()
    }
}

impl Weight for ChainRow {
    fn bytes(&self) -> usize {
        size_of::<ChainRow>() + self.seen.len() * size_of::<SeenRow>()
    }
}

fn texts(act: &AuditAct) -> [&String; 7] {
    [&act.who, &act.role, &act.address, &act.node, &act.method, &act.route, &act.target]
}

/// SHA-256 over the hash before, in hexadecimal digits, and the texts of the entry. See docs/AUDIT.md.
pub fn audit_hash<'a>(before: &'a str, texts: impl IntoIterator<Item = &'a str>) -> AuditHash {
    Sha256::digest(netstrings(std::iter::once(before).chain(texts))).into()
}

fn hash_of(before: &AuditHash, site: SiteId, entry: &AuditEntry) -> AuditHash {
    audit_hash(&hex(before), entry.texts(site).iter().map(String::as_str))
}

impl ChainRow {
    fn is_wrong(&self, act: &AuditAct) -> bool {
        let is_told = |text: &&String| text.len() <= AUDIT_TEXT_BYTES_MAX;
        let begun = act.phase.begun();
        act.target.len() > AUDIT_TARGET_BYTES_MAX
            || !texts(act)[..6].iter().all(is_told)
            || begun > self.head.seq
            || (matches!(act.phase, AuditPhase::Done { .. }) && begun == 0)
    }

    /// The place that the act has already.
    fn seen(&self, act: &AuditAct) -> Option<u64> {
        let is_end = matches!(act.phase, AuditPhase::Done { .. });
        self.seen.iter().find(|seen| seen.act == act.act && seen.is_end == is_end).map(|seen| seen.seq)
    }

    /// The next link, by that clock.
    fn append(&mut self, site: SiteId, clock_ms: u64, act: AuditAct) -> AuditRow {
        self.ts_ms = self.ts_ms.max(clock_ms);
        let seen =
            SeenRow { act: act.act, is_end: matches!(act.phase, AuditPhase::Done { .. }), seq: self.head.seq + 1 };
        let entry = AuditEntry { seq: self.head.seq + 1, ts_ms: self.ts_ms, act };
        let hash = hash_of(&self.head.hash, site, &entry);
        if self.seen.len() >= AUDIT_SEEN_MAX {
            self.seen.remove(0);
        }
        self.seen.push(seen);
        self.head = ChainPoint { seq: entry.seq, hash };
        AuditRow { line: AuditLine { entry, hash } }
    }
}

fn load(rows: &dyn Rows, site: SiteId) -> Result<ChainRow, ApplyError> {
    let row: ChainRow = rows::read(rows, "audit chain", &keys::chain(site))?.unwrap_or_default();
    rows::counted("audit chain", &[row.head.seq, row.cut.seq])?;
    if row.cut.seq > row.head.seq || row.seen.len() > AUDIT_SEEN_MAX {
        return Err(corrupt("audit chain", "it is cut behind its head, or remembers too much"));
    }
    Ok(row)
}

fn line(known: &Entries, rows: &dyn Rows, site: SiteId, seq: u64) -> Result<AuditLine, ApplyError> {
    let found = match known.peek(&(site, seq)) {
        Some(row) => row.clone(),
        None => rows::read::<AuditRow>(rows, "audit", &keys::audit(site, seq))?,
    };
    let line = found.map(|row| row.line).filter(|line| line.entry.seq == seq);
    line.ok_or_else(|| corrupt("audit", "an entry below the head is missing"))
}

impl Shard {
    /// Puts an act at the end of its chain, once.
    pub(crate) fn audit_act(&mut self, rows: &dyn Rows, site: SiteId, act: AuditAct) -> Result<Reply, ApplyError> {
        let (tick, clock_ms) = (self.work.tick, self.work.clock_ms);
        let held = self.chains.hold(site, tick, || load(rows, site).map(Some))?;
        let mut chain = held.ok_or_else(|| corrupt("audit chain", "it cannot be absent"))?;
        if chain.is_wrong(&act) {
            return Ok(Reply::Rejected(Refusal::RulesInvalid("an audit entry")));
        }
        if let Some(seq) = chain.seen(&act) {
            self.work.journal.note(Note::Duplicate, &[u64::from(site.0), seq]);
            return Ok(Reply::Audited { seq });
        }
        let goes = chain.cut.seq + 1;
        if chain.head.seq >= chain.cut.seq + AUDIT_KEPT {
            let hash = line(&self.audits, rows, site, goes)?.hash;
            chain.change().cut = ChainPoint { seq: goes, hash };
            self.audits.put((site, goes), tick, None);
        }
        let row = chain.change().append(site, clock_ms, act);
        let seq = row.line.entry.seq;
        self.work.journal.note_bytes(Note::Audit, u64::from(site.0), &row.line.hash);
        self.audits.put((site, seq), tick, Some(row));
        Ok(Reply::Audited { seq })
    }

    /// Up to `limit` entries of a chain with a seq above `after`, and about `bytes_max` bytes.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn audit(
        &self,
        rows: &dyn Rows,
        site: SiteId,
        after: u64,
        limit: usize,
        bytes_max: usize,
    ) -> Result<AuditPage, ApplyError> {
        let (head, cut) = match self.chains.peek(&site) {
            Some(chain) => (chain.head, chain.cut),
            None => load(rows, site).map(|chain| (chain.head, chain.cut))?,
        };
        let mut page = AuditPage { lines: Vec::new(), head, cut };
        let mut bytes = 0;
        for seq in after.max(cut.seq).saturating_add(1)..=head.seq {
            if page.lines.len() >= limit || bytes >= bytes_max {
                break;
            }
            let line = line(&self.audits, rows, site, seq)?;
            bytes += size_of::<AuditLine>() + texts(&line.entry.act).iter().map(|text| text.len()).sum::<usize>();
            page.lines.push(line);
        }
        Ok(page)
    }
}

/// What must change in the rows of a shard that does not run, so that its chain tells of an act.
/// # Errors
/// `ApplyError` when a row cannot be read.
pub fn audit_offline(rows: &dyn Rows, site: SiteId, now_ms: u64, act: AuditAct) -> Result<Changes, ApplyError> {
    let mut chain = load(rows, site)?;
    let row = chain.append(site, now_ms, act);
    let mut out = Changes::new();
    rows::save(&mut out, keys::audit(site, row.line.entry.seq), &row);
    rows::save(&mut out, keys::chain(site), &chain);
    Ok(out)
}
