//! Owns when objects become rows and when they leave memory. Does not write: the caller puts the rows and the applied index
//! into one batch. Invariant: no outcome depends on when this happens.

use crate::apply::{Shard, VERSION_FIRST};
use crate::keys;
use crate::rows::{self, Changes, HeaderRow, VersionRow};

impl Shard {
    /// The rows changed since the last checkpoint (`None`: delete), the header included. The state can be read and applied to
    /// meanwhile; exactly one checkpoint may be under way.
    /// # Panics
    /// When `end_checkpoint` is still owed.
    pub fn begin_checkpoint(&mut self) -> Changes {
        assert!(!self.writing, "one checkpoint at a time");
        self.writing = true;
        let mut out = Changes::new();
        self.sessions.begin_checkpoint(|id, session| session.save(id, &mut out));
        self.agents.begin_checkpoint(|id, agent| rows::save(&mut out, keys::agent(id), agent));
        self.desks.begin_checkpoint(|site, desk| desk.save(site, &mut out));
        self.wants.begin_checkpoint(|(site, session), want| {
            out.push((keys::want(site, session), want.as_ref().map(proto::codec::encode)));
        });
        self.queue.begin_checkpoint(|(site, lane, ticket), queued| {
            out.push((keys::queued(site, lane, ticket), queued.as_ref().map(proto::codec::encode)));
        });
        self.dues.save(&mut out);
        self.webhooks.begin_checkpoint(|id, row| {
            out.push((keys::webhook(id), row.as_ref().map(proto::codec::encode)));
        });
        self.items.begin_checkpoint(|key, row| out.push((keys::item(key), row.as_ref().map(proto::codec::encode))));
        self.shelves.begin_checkpoint(|(site, kind), row| rows::save(&mut out, keys::shelf(site, kind), row));
        self.chains.begin_checkpoint(|site, row| rows::save(&mut out, keys::chain(site), row));
        self.audits.begin_checkpoint(|(site, seq), row| {
            out.push((keys::audit(site, seq), row.as_ref().map(proto::codec::encode)));
        });
        self.attachments.save(&mut out);
        self.rollups.begin_checkpoint(|key, row| out.push((keys::rollup(key), row.as_ref().map(proto::codec::encode))));
        self.stints.begin_checkpoint(|id, row| out.push((keys::stint(id), row.as_ref().map(proto::codec::encode))));
        self.objects.begin_checkpoint(|key, row| out.push((keys::object(key), row.as_ref().map(proto::codec::encode))));
        self.emails.save(&mut out);
        self.work.outbox.save(&mut out);
        self.work.feed.save(&mut out);
        let header = HeaderRow {
            clock_ms: self.work.clock_ms,
            state_hash: self.work.journal.hash,
            outbox: self.work.outbox.rows(),
            inbox: self.inbox.iter().map(|(from, seen)| (*from, *seen)).collect(),
            feed: self.work.feed.head(),
        };
        rows::save(&mut out, keys::HEADER.to_vec(), &header);
        if self.work.version > VERSION_FIRST {
            rows::save(&mut out, keys::VERSION.to_vec(), &VersionRow { version: self.work.version });
        }
        out
    }

    /// The rows of `begin_checkpoint` are readable (`written`), or it failed and its changes are owed again.
    /// # Panics
    /// When no checkpoint is under way.
    pub fn end_checkpoint(&mut self, written: bool) {
        assert!(self.writing, "begin_checkpoint comes first");
        self.writing = false;
        self.sessions.end_checkpoint(written, |session| session.saved(written));
        self.agents.end_checkpoint(written, |_| ());
        self.desks.end_checkpoint(written, |desk| desk.saved(written));
        self.wants.end_checkpoint(written, |_| ());
        self.queue.end_checkpoint(written, |_| ());
        self.dues.saved(written);
        self.webhooks.end_checkpoint(written, |_| ());
        self.items.end_checkpoint(written, |_| ());
        self.shelves.end_checkpoint(written, |_| ());
        self.chains.end_checkpoint(written, |_| ());
        self.audits.end_checkpoint(written, |_| ());
        self.attachments.saved(written);
        self.rollups.end_checkpoint(written, |_| ());
        self.stints.end_checkpoint(written, |_| ());
        self.objects.end_checkpoint(written, |_| ());
        self.emails.saved(written);
        self.work.outbox.saved(written);
        self.work.feed.saved(written);
    }

    /// Drops the least recently used objects that rows hold. It goes an eighth below `bytes_max`, so that the look at
    /// everything pays. What is dirty stays: checkpoint first.
    pub fn evict(&mut self, bytes_max: usize) {
        if self.cached_bytes() <= bytes_max {
            return;
        }
        let mut uses = Vec::new();
        self.sessions.droppable(&mut uses);
        self.agents.droppable(&mut uses);
        self.desks.droppable(&mut uses);
        self.wants.droppable(&mut uses);
        self.queue.droppable(&mut uses);
        self.webhooks.droppable(&mut uses);
        self.items.droppable(&mut uses);
        self.shelves.droppable(&mut uses);
        self.chains.droppable(&mut uses);
        self.audits.droppable(&mut uses);
        self.attachments.droppable(&mut uses);
        self.rollups.droppable(&mut uses);
        self.stints.droppable(&mut uses);
        self.objects.droppable(&mut uses);
        self.emails.droppable(&mut uses);
        uses.sort_unstable();
        let excess = self.cached_bytes() - (bytes_max - bytes_max / 8);
        let mut freed = 0;
        let mut newest = None;
        for (used, bytes) in uses {
            if freed >= excess && newest != Some(used) {
                break;
            }
            freed += bytes;
            newest = Some(used);
        }
        if let Some(used) = newest {
            self.evict_unused(used);
        }
    }

    /// The time of caching: it moves with every command. See [`Shard::evict_unused`].
    pub fn tick(&self) -> u64 {
        self.work.tick
    }

    /// Drops the objects that rows hold and that no command has used since `used`, a tick. What is dirty stays.
    pub fn evict_unused(&mut self, used: u64) {
        self.sessions.drop_unused(used, |_| ());
        self.agents.drop_unused(used, |_| ());
        self.desks.drop_unused(used, |_| ());
        self.wants.drop_unused(used, |_| ());
        self.webhooks.drop_unused(used, |_| ());
        self.items.drop_unused(used, |_| ());
        self.shelves.drop_unused(used, |_| ());
        self.chains.drop_unused(used, |_| ());
        self.audits.drop_unused(used, |_| ());
        self.attachments.drop_unused(used);
        self.rollups.drop_unused(used, |_| ());
        self.stints.drop_unused(used, |_| ());
        self.objects.drop_unused(used, |_| ());
        self.emails.drop_unused(used);
        let desks = &mut self.desks;
        self.queue.drop_unused(used, |(site, lane, ticket)| {
            if let Some(lane) = desks.peek_mut(&site).and_then(|desk| desk.lanes.get_mut(&lane)) {
                lane.waiting.gap.widen(ticket);
            }
        });
    }

    /// Bytes that the next checkpoint would write, roughly.
    pub fn dirty_bytes(&self) -> usize {
        let tables = self.sessions.dirty_bytes() + self.agents.dirty_bytes() + self.desks.dirty_bytes();
        let desks = self.wants.dirty_bytes() + self.queue.dirty_bytes() + self.dues.dirty_bytes();
        tables
            + desks
            + self.webhooks.dirty_bytes()
            + self.items.dirty_bytes()
            + self.shelves.dirty_bytes()
            + self.chains.dirty_bytes()
            + self.audits.dirty_bytes()
            + self.attachments.dirty_bytes()
            + self.rollups.dirty_bytes()
            + self.stints.dirty_bytes()
            + self.objects.dirty_bytes()
            + self.emails.dirty_bytes()
            + self.work.outbox.dirty_bytes()
            + self.work.feed.dirty_bytes()
    }

    /// Bytes of memory that the objects hold, roughly.
    pub fn cached_bytes(&self) -> usize {
        let tables = self.sessions.bytes() + self.agents.bytes() + self.desks.bytes();
        tables
            + self.wants.bytes()
            + self.queue.bytes()
            + self.dues.bytes()
            + self.webhooks.bytes()
            + self.items.bytes()
            + self.shelves.bytes()
            + self.chains.bytes()
            + self.audits.bytes()
            + self.attachments.bytes()
            + self.rollups.bytes()
            + self.stints.bytes()
            + self.objects.bytes()
            + self.emails.bytes()
            + self.work.outbox.bytes()
            + self.work.feed.bytes()
    }
    /// `cached_bytes` counted anew, to prove the running count.
    #[cfg(test)]
    pub(crate) fn recount_bytes(&self) -> usize {
        let tables = self.sessions.recount() + self.agents.recount() + self.desks.recount();
        tables
            + self.wants.recount()
            + self.queue.recount()
            + self.dues.recount()
            + self.webhooks.recount()
            + self.items.recount()
            + self.shelves.recount()
            + self.chains.recount()
            + self.audits.recount()
            + self.attachments.recount()
            + self.rollups.recount()
            + self.stints.recount()
            + self.objects.recount()
            + self.emails.recount()
            + self.work.outbox.bytes()
            + self.work.feed.bytes()
    }
}
