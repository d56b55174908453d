//! Owns the mails that wait for other shards, in seq order per target. Does not deliver them. Invariant: a mail stays until
//! its target acknowledged it; seqs per target are gapless from 1.

use crate::keys;
use crate::limits::MAILS_CACHED_MAX;
use crate::outcome::ApplyError;
use crate::rows::{self, Changes, MailsRow, Rows, corrupt};
use proto::command::Mail;
use proto::ids::ShardId;
use std::collections::{BTreeMap, VecDeque};

/// All lanes of a shard.
#[derive(Default)]
pub(crate) struct Outbox {
    lanes: BTreeMap<ShardId, Lane>,
    dirty_mails: usize,
    cached_mails: usize,
}

/// The mails for one target shard.
#[derive(Default)]
struct Lane {
    /// The newest mails, up to `head`.
    mails: VecDeque<Mail>,
    acked: u64,
    head: u64,
    /// Mails up to here are in rows.
    written: u64,
    /// Mails up to here are in the checkpoint under way.
    writing: u64,
    /// No row has a lower seq.
    rows_first: u64,
    /// No row has a higher seq, even when a checkpoint failed half-way.
    rows_last: u64,
    /// What `rows_first` becomes when the checkpoint under way is written.
    rows_first_next: u64,
}

const MAIL_BYTES: usize = size_of::<Mail>();

impl Lane {
    /// The lowest seq in memory; `head + 1` when there is none.
    fn memory_first(&self) -> u64 {
        self.head + 1 - self.mails.len() as u64
    }
}

impl Outbox {
    pub(crate) fn load(lanes: &[MailsRow]) -> Result<Outbox, ApplyError> {
        let mut outbox = Outbox::default();
        for row in lanes {
            rows::counted("header", &[row.head])?;
            if row.acked > row.head {
                return Err(corrupt("header", "an outbox is acknowledged beyond its head"));
            }
            let lane = Lane {
                acked: row.acked,
                head: row.head,
                written: row.head,
                rows_first: row.acked + 1,
                rows_last: row.head,
                ..Lane::default()
            };
            outbox.lanes.insert(row.to, lane);
        }
        Ok(outbox)
    }

    pub(crate) fn rows(&self) -> Vec<MailsRow> {
        self.lanes.iter().map(|(to, lane)| MailsRow { to: *to, acked: lane.acked, head: lane.head }).collect()
    }

    /// Adds a mail and returns its seq.
    pub(crate) fn push(&mut self, to: ShardId, mail: Mail) -> u64 {
        let lane = self.lanes.entry(to).or_insert_with(|| Lane { rows_first: 1, ..Lane::default() });
        lane.head += 1;
        lane.mails.push_back(mail);
        self.dirty_mails += 1;
        self.cached_mails += 1;
        lane.head
    }

    /// Forgets mails up to `upto`; returns what is acknowledged now.
    pub(crate) fn acked(&mut self, to: ShardId, upto: u64) -> u64 {
        let Some(lane) = self.lanes.get_mut(&to) else { return 0 };
        lane.acked = lane.acked.max(upto.min(lane.head));
        while lane.memory_first() <= lane.acked && lane.mails.pop_front().is_some() {
            self.cached_mails -= 1;
        }
        lane.acked
    }

    /// (target, lowest seq that is not acknowledged, head) of every lane with waiting mail.
    pub(crate) fn targets(&self) -> Vec<(ShardId, u64, u64)> {
        let waiting = self.lanes.iter().filter(|(_, lane)| lane.acked < lane.head);
        waiting.map(|(to, lane)| (*to, lane.acked + 1, lane.head)).collect()
    }

    /// Up to `limit` waiting mails with a seq above `after`, in order.
    pub(crate) fn read(
        &self,
        rows: &dyn Rows,
        to: ShardId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Mail)>, ApplyError> {
        let Some(lane) = self.lanes.get(&to) else { return Ok(Vec::new()) };
        let mut next = after.max(lane.acked).saturating_add(1);
        let mut mails = Vec::new();
        let mut broken = None;
        if next < lane.memory_first() {
            rows.scan(&keys::mails(to), Some(&keys::mail(to, next)), false, &mut |key, value| {
                if mails.len() >= limit || next >= lane.memory_first() {
                    return false;
                }
                match rows::decode("mail", value) {
                    Ok(mail) if keys::last_number(key) == Some(next) => mails.push((next, mail)),
                    Ok(_) => broken = Some(corrupt("mail", "a waiting mail is missing")),
                    Err(error) => broken = Some(error),
                }
                next += 1;
                broken.is_none()
            })?;
        }
        if let Some(error) = broken {
            return Err(error);
        }
        if mails.len() < limit && next < lane.memory_first() {
            return Err(corrupt("mail", "waiting mails are missing"));
        }
        while mails.len() < limit && next <= lane.head {
            let index = usize::try_from(next - lane.memory_first()).expect("mails in memory are countable");
            mails.push((next, lane.mails[index].clone()));
            next += 1;
        }
        Ok(mails)
    }

    pub(crate) fn save(&mut self, out: &mut Changes) {
        for (to, lane) in &mut self.lanes {
            for seq in lane.rows_first..=lane.acked.min(lane.rows_last) {
                out.push((keys::mail(*to, seq), None));
            }
            lane.rows_first_next = lane.acked + 1;
            let first = lane.memory_first();
            for seq in lane.written.max(lane.acked) + 1..=lane.head {
                let mail = &lane.mails[usize::try_from(seq - first).expect("unwritten mails are in memory")];
                rows::save(out, keys::mail(*to, seq), mail);
            }
            lane.writing = lane.head;
            lane.rows_last = lane.head;
        }
        self.dirty_mails = 0;
    }

    /// The checkpoint ended: sheds what rows hold, beyond the newest.
    pub(crate) fn saved(&mut self, written: bool) {
        for lane in self.lanes.values_mut() {
            if !written {
                self.dirty_mails += lane.mails.len();
                continue;
            }
            lane.written = lane.written.max(lane.writing);
            lane.rows_first = lane.rows_first.max(lane.rows_first_next);
            while lane.mails.len() > MAILS_CACHED_MAX && lane.memory_first() <= lane.written {
                lane.mails.pop_front();
                self.cached_mails -= 1;
            }
            if lane.mails.is_empty() {
                lane.mails.shrink_to(64);
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.cached_mails * MAIL_BYTES
    }

    pub(crate) fn dirty_bytes(&self) -> usize {
        self.dirty_mails * MAIL_BYTES
    }
}
