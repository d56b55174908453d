//! Owns one data shard's replica on this node: rules, proposer, reads, outbox. Does not know sockets or actors.
//! Invariant: a call is answered only after apply, and only by the leader that serves.

mod archive;
mod due;
mod election;
mod machine;
#[cfg(feature = "next")]
mod next;
mod outbox;
mod proposer;
mod reads;

pub use archive::ObjectEvents;
pub use election::fast_election;
pub use machine::ShardMachine;
pub(crate) use machine::TableRows;
pub use proposer::{Proposer, now_ms};

use crate::hooks::Hooks;
use crate::raft::Group;
use crate::router::{ReplyTo, Router};
use chat::{ApplyError, Effect, HistoryRange};
use proto::client::limits::HISTORY_BYTES_MAX;
use proto::command::{Command, Event, EventBody};
use proto::failpoints::FailPoint;
use proto::ids::{Epoch, NodeId, SessionId, ShardId};
use proto::mutants::Mutant;
use proto::peer::{Page, Refused, ShardReply};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use tokio_util::task::TaskTracker;

/// One data shard on this node.
pub struct Shard {
    pub id: ShardId,
    pub group: Arc<Group>,
    machine: Arc<ShardMachine>,
    proposer: Arc<Proposer>,
    reads: Arc<reads::Reads>,
    outbox: outbox::Outbox,
    hooks: Arc<dyn Hooks>,
    /// The epoch in which this node serves; 0: it does not.
    serving: AtomicU64,
}

impl Shard {
    pub fn start(
        group: Arc<Group>,
        machine: Arc<ShardMachine>,
        hooks: Arc<dyn Hooks>,
        router: Weak<Router>,
        tasks: &TaskTracker,
    ) -> Arc<Shard> {
        #[cfg(feature = "next")]
        let for_next = router.clone();
        let shard = Arc::new_cyclic(|me: &Weak<Shard>| {
            machine.attach(me.clone());
            Shard {
                id: group.shard,
                proposer: Proposer::start(group.clone(), me.clone(), tasks),
                reads: reads::Reads::start(group.clone(), tasks),
                outbox: outbox::Outbox::start(me.clone(), router, tasks),
                group: group.clone(),
                machine,
                hooks,
                serving: AtomicU64::new(0),
            }
        });
        tasks.spawn(follow(shard.clone()));
        tasks.spawn(due::run(Arc::downgrade(&shard)));
        #[cfg(feature = "next")]
        tasks.spawn(next::run(Arc::downgrade(&shard), for_next));
        shard
    }

    /// The epoch in which this node serves the shard, if it does.
    pub fn serving(&self) -> Option<Epoch> {
        match self.serving.load(Ordering::Acquire) {
            0 => None,
            epoch => Some(Epoch(epoch)),
        }
    }

    /// Logs the command; `reply` is told once, after apply. A full queue answers at once.
    pub fn propose(self: &Arc<Self>, command: &Command, reply: ReplyTo) {
        // Once logged, a command of another shard would halt every replica: only a faulty or hostile peer sends one.
        if command.target().is_some_and(|target| target.shard(self.machine.shards()) != self.id) {
            tracing::error!(shard = %self.id, "a command for another shard was refused");
            return reply.send(ShardReply::Refused(Refused::UnknownSession));
        }
        match self.serving() {
            Some(epoch) => {
                if Mutant::PushBeforeApply.is_on() {
                    self.push_early(epoch, command);
                }
                self.proposer.push(epoch, command, reply);
            }
            None => reply.send(self.not_leader()),
        }
    }

    /// Of a mutant: tells subscribers of a message that nobody has logged.
    fn push_early(self: &Arc<Self>, epoch: Epoch, command: &Command) {
        let Command::Send { session, from, device, n, cid, text, reply_to, .. } = command.clone() else { return };
        let head = self.peek(|state, rows| state.session(rows, session));
        let Ok(Some(view)) = head else { return };
        let body = EventBody::Message { from, device, n, cid, text, reply_to, attachments: Vec::new() };
        let event = Arc::new(Event { seq: view.head + 1, ts_ms: now_ms(), body });
        self.hooks.effects(self, epoch, None, vec![(None, Effect::Event { session, event })]);
    }

    pub fn not_leader(&self) -> ShardReply {
        ShardReply::NotLeader { hint: self.group.leadership().leader.map(|(_, node)| node) }
    }

    /// Runs `read` on a state that holds everything acknowledged before the call.
    /// # Errors
    /// `NotLeader` or `Unknown` as a reply: this node could not prove that it leads.
    pub async fn read<T>(&self, read: impl FnOnce(&mut chat::Shard, &dyn chat::Rows) -> T) -> Result<T, ShardReply> {
        let Some(epoch) = self.serving() else { return Err(self.not_leader()) };
        let has_quorum = Mutant::ReadWithoutBarrier.is_on() || self.reads.barrier().await;
        if !has_quorum || self.serving() != Some(epoch) {
            return Err(self.not_leader());
        }
        Ok(self.peek(read))
    }

    /// Runs `read` on this replica's state as it is, which may be old.
    pub fn peek<T>(&self, read: impl FnOnce(&mut chat::Shard, &dyn chat::Rows) -> T) -> T {
        // Cold sessions are read from disk.
        crate::blocking::in_place(|| self.machine.with_state(read))
    }

    /// The version in force for this replica; read in every round of the janitor, so without moving tasks away.
    pub fn version(&self) -> u16 {
        self.machine.with_state(|state, _| state.version())
    }

    /// A linearizable page of a session's history.
    pub async fn history(&self, session: SessionId, page: Page, limit: usize) -> ShardReply {
        let range = match page {
            Page::After(seq) => HistoryRange::After(seq),
            Page::Before(seq) => HistoryRange::Before(seq),
            Page::Latest => HistoryRange::Latest,
        };
        let read = self.read_whole(|state, rows| state.history(rows, session, range, limit, HISTORY_BYTES_MAX)).await;
        match read {
            Err(reply) => reply,
            Ok(None) => ShardReply::Refused(Refused::UnknownSession),
            Ok(Some(page)) => ShardReply::History {
                events: page.events.iter().map(|event| event.as_ref().clone()).collect(),
                head: page.head,
            },
        }
    }

    /// A row could not be read: say so loudly; the caller may find another replica.
    pub fn halt(&self, reason: &str) -> ShardReply {
        tracing::error!(shard = %self.id, reason, "state cannot be read");
        ShardReply::Unknown
    }

    /// As [`Shard::halt`], for who tries again by itself. What only the archive does not give now is left to it: the node says so.
    pub fn unreadable(&self, error: &ApplyError) {
        if !matches!(error, ApplyError::Archived(_)) {
            self.halt(&error.to_string());
        }
    }

    /// Tells the node above what was applied, if this node serves.
    pub(crate) fn tell_effects(self: &Arc<Self>, index: Option<u64>, effects: Vec<(Option<NodeId>, Effect)>) {
        if effects.is_empty() {
            return;
        }
        if effects.iter().any(|(_, effect)| matches!(effect, Effect::Outbox { .. })) {
            tracing::debug!(shard = %self.id, index, "new mail");
            self.wake_outbox();
        }
        if let Some(epoch) = self.serving() {
            self.hooks.effects(self, epoch, index, effects);
        }
    }

    /// New outbox rows may be waiting.
    pub fn wake_outbox(&self) {
        self.outbox.wake();
    }
}

/// Follows leadership and tells the node above.
async fn follow(shard: Arc<Shard>) {
    let mut leadership = shard.group.watch_leadership();
    loop {
        let now = *leadership.borrow_and_update();
        let epoch = if now.serving { now.epoch.0 } else { 0 };
        let before = shard.serving.load(Ordering::Acquire);
        if before != epoch {
            // Collect effects before the first call is taken, and until the last one is refused.
            if epoch != 0 {
                FailPoint::BeforeServing.pass();
                shard.machine.set_leading(true);
            }
            shard.serving.store(epoch, Ordering::Release);
            if epoch == 0 {
                FailPoint::AfterServing.pass();
                shard.machine.set_leading(false);
            }
            tracing::info!(shard = %shard.id, epoch, "serving changed");
            shard.hooks.serving(&shard, now.serving.then_some(now.epoch));
            shard.wake_outbox();
        }
        shard.proposer.epoch_changed(now.serving.then_some(now.epoch));
        if leadership.changed().await.is_err() {
            // The replica was stopped, perhaps as a leader.
            if shard.serving.swap(0, Ordering::AcqRel) != 0 {
                shard.machine.set_leading(false);
                shard.hooks.serving(&shard, None);
            }
            return;
        }
    }
}
