//! Owns what tests share: rows in memory, short commands, a shard under a name. Does not assert.
//! Invariant: `TestRows` behaves as the store behind the real seam.

use crate::fuzzing::RowMap;
use crate::{ApplyError, Changes, Effect, Outcome, Reply, Rows, RowsError, Shard};
use proto::command::{Command, Mail, Party};
use proto::ids::{AgentId, SessionId, ShardId, SiteId, VisitorId};
use std::cell::Cell;

pub(crate) const SITE: SiteId = SiteId(1);
pub(crate) const ONE: ShardId = ShardId(1);

/// Rows in memory that can count and refuse reads.
#[derive(Default, Clone)]
pub(crate) struct TestRows {
    pub map: RowMap,
    pub reads: Cell<u64>,
}

impl Rows for TestRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        self.reads.set(self.reads.get() + 1);
        Rows::get(&self.map, key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), RowsError> {
        self.reads.set(self.reads.get() + 1);
        assert!(from.is_some() || !reverse, "no caller scans downwards from nowhere");
        self.map.scan(prefix, from, reverse, visit)
    }
}

impl TestRows {
    pub(crate) fn write(&mut self, changes: Changes) {
        crate::fuzzing::write(&mut self.map, changes);
    }

    /// How many rows start with this type byte.
    pub(crate) fn count(&self, kind: u8) -> usize {
        self.map.keys().filter(|key| key[0] == kind).count()
    }
}

/// One shard with its rows and a clock.
pub(crate) struct World {
    pub shard: Shard,
    pub rows: TestRows,
    pub now_ms: u64,
}

impl World {
    /// The only shard of a cluster: every mail comes back to it.
    pub(crate) fn alone() -> World {
        World::of(ONE, 1)
    }

    pub(crate) fn of(me: ShardId, shards: u32) -> World {
        let rows = TestRows::default();
        World { shard: Shard::open(me, shards, &rows).unwrap(), rows, now_ms: 1_000 }
    }

    pub(crate) fn try_apply(&mut self, command: Command) -> Result<Outcome, ApplyError> {
        self.now_ms += 1;
        self.shard.apply(&self.rows, self.now_ms, command)
    }

    pub(crate) fn apply(&mut self, command: Command) -> Outcome {
        self.try_apply(command).unwrap()
    }

    pub(crate) fn reply(&mut self, command: Command) -> Reply {
        self.apply(command).reply
    }

    pub(crate) fn checkpoint(&mut self) {
        let changes = self.shard.begin_checkpoint();
        self.rows.write(changes);
        self.shard.end_checkpoint(true);
    }

    /// Everything into rows and out of memory.
    pub(crate) fn chill(&mut self) {
        self.checkpoint();
        self.shard.evict(0);
    }

    /// Delivers one mail to the shard itself; false when none waits.
    pub(crate) fn deliver_one(&mut self) -> bool {
        let me = self.shard.me;
        let after = self.shard.inbox_seen(me);
        let Some((seq, message)) = self.shard.outbox(&self.rows, me, after, 1).unwrap().pop() else { return false };
        assert_eq!(self.reply(Command::Inbox { from: me, seq, message }), Reply::Done);
        self.apply(Command::OutboxAcked { to: me, upto: seq });
        true
    }

    /// Delivers mails until none waits.
    pub(crate) fn settle(&mut self) {
        while self.deliver_one() {}
    }
}

pub(crate) fn session(id: u128) -> SessionId {
    SessionId(id)
}

pub(crate) fn open(id: u128) -> Command {
    Command::OpenSession { session: SessionId(id), site: SITE, visitor: VisitorId(id), token: [7; 32] }
}

pub(crate) fn say(id: u128, from: Party, n: u64, text: &str) -> Command {
    let cid = format!("c{n}");
    Command::Send {
        session: SessionId(id),
        from,
        device: "d".into(),
        n,
        cid,
        text: text.into(),
        reply_to: None,
        attachments: Vec::new(),
    }
}

pub(crate) fn say_cid(id: u128, from: Party, cid: &str, text: &str) -> Command {
    Command::Send {
        session: SessionId(id),
        from,
        device: "d".into(),
        n: 0,
        cid: cid.into(),
        text: text.into(),
        reply_to: None,
        attachments: Vec::new(),
    }
}

pub(crate) fn login(id: u64) -> Command {
    Command::AgentLogin { agent: AgentId(id), site: SITE, name: format!("agent {id}"), token: [9; 32] }
}

pub(crate) fn presence(id: u64, online: bool) -> Command {
    Command::AgentPresence { agent: AgentId(id), online }
}

pub(crate) fn close(id: u128, by: Party) -> Command {
    Command::Close { session: SessionId(id), by }
}

pub(crate) fn sent(seq: u64, ts_ms: u64, dup: bool) -> Reply {
    Reply::Sent { seq, ts_ms, dup }
}

/// The mails that the command posted, as the outbox has them.
pub(crate) fn waiting_mails(world: &World, to: ShardId) -> Vec<Mail> {
    let mails = world.shard.outbox(&world.rows, to, 0, usize::MAX).unwrap();
    mails.into_iter().map(|(_, mail)| mail).collect()
}

pub(crate) fn event_count(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Event { .. })).count()
}
