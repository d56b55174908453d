//! Owns what waits to be logged for one shard. Does not apply. Invariant: commands are logged in the order in which they
//! were pushed, fenced with the epoch in which they were pushed, and each is answered once.

use super::super::config::{
    BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, ENTRIES_IN_FLIGHT_MAX, OVERLOADED_RETRY_MS, PROPOSALS_WAITING_MAX,
};
use super::Shard;
use crate::raft::Group;
use crate::raft::group::ProposeError;
use crate::raft::types::Applied;
use crate::router::ReplyTo;
use bytes::Bytes;
use chat::Effect;
use parking_lot::Mutex;
use proto::command::{Command, encode_command, join_commands};
use proto::failpoints::FailPoint;
use proto::ids::{Epoch, NodeId};
use proto::mutants::Mutant;
use proto::peer::{Refused, ShardReply};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

struct Waiting {
    command: Vec<u8>,
    reply: ReplyTo,
    since: Instant,
}

#[derive(Default)]
struct Queue {
    /// Everything in `waiting` was pushed in this epoch.
    epoch: Option<Epoch>,
    waiting: VecDeque<Waiting>,
}

/// Batches commands into entries: what arrives while a round is under way becomes the next entry.
pub struct Proposer {
    group: Arc<Group>,
    shard: Weak<Shard>,
    queue: Mutex<Queue>,
    wake: Notify,
}

impl Proposer {
    pub(super) fn start(group: Arc<Group>, shard: Weak<Shard>, tasks: &TaskTracker) -> Arc<Self> {
        let proposer = Arc::new(Proposer { group, shard, queue: Mutex::default(), wake: Notify::new() });
        tasks.spawn(run(proposer.clone()));
        proposer
    }

    /// Queues a command of `epoch`. Answers at once when the queue is full or the epoch is over.
    pub fn push(&self, epoch: Epoch, command: &Command, reply: ReplyTo) {
        let refusal = {
            let mut queue = self.queue.lock();
            if queue.epoch != Some(epoch) {
                Some(self.not_leader())
            } else if queue.waiting.len() >= PROPOSALS_WAITING_MAX {
                Some(ShardReply::Overloaded { retry_after_ms: OVERLOADED_RETRY_MS })
            } else {
                let command = encode_command(command);
                queue.waiting.push_back(Waiting { command, reply, since: Instant::now() });
                self.wake.notify_one();
                return;
            }
        };
        if let Some(refusal) = refusal {
            reply.send(refusal);
        }
    }

    /// Leadership changed: what was queued for another epoch is sent back to its caller.
    pub(super) fn epoch_changed(&self, epoch: Option<Epoch>) {
        let dropped = {
            let mut queue = self.queue.lock();
            if queue.epoch == epoch {
                return;
            }
            if Mutant::NoEpochFence.is_on() && !queue.waiting.is_empty() {
                return;
            }
            queue.epoch = epoch;
            std::mem::take(&mut queue.waiting)
        };
        let reply = self.not_leader();
        for waiting in dropped {
            waiting.reply.send(reply.clone());
        }
    }

    fn not_leader(&self) -> ShardReply {
        let hint: Option<NodeId> = self.group.leadership().leader.map(|(_, node)| node);
        ShardReply::NotLeader { hint }
    }

    /// The next entry's commands, bounded in number and bytes.
    fn take(&self) -> Option<(Epoch, Vec<Waiting>)> {
        let mut queue = self.queue.lock();
        let epoch = queue.epoch?;
        let mut bytes = 0;
        let mut count = 0;
        for waiting in queue.waiting.iter().take(BATCH_COMMANDS_MAX) {
            bytes += waiting.command.len();
            if count > 0 && bytes > BATCH_BYTES_MAX {
                break;
            }
            count += 1;
        }
        (count > 0).then(|| (epoch, queue.waiting.drain(..count).collect()))
    }
}

async fn run(proposer: Arc<Proposer>) {
    let in_flight = Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT_MAX));
    let proposed = metrics::histogram!("chat_stage_propose_seconds");
    let committed = metrics::histogram!("chat_stage_commit_seconds");
    let apply = metrics::histogram!("chat_stage_apply_seconds");
    let batched = metrics::histogram!("chat_proposer_batch_messages_count");
    loop {
        let place = in_flight.clone().acquire_owned().await.expect("this semaphore is never closed");
        let (epoch, taken) = loop {
            match proposer.take() {
                Some(taken) => break taken,
                None => proposer.wake.notified().await,
            }
        };
        let started = Instant::now();
        let mut replies = Vec::with_capacity(taken.len());
        batched.record(taken.len() as f64);
        let body = join_commands(now_ms(), taken.iter().map(|waiting| waiting.command.as_slice()));
        for waiting in taken {
            proposed.record(started.duration_since(waiting.since).as_secs_f64());
            replies.push(waiting.reply);
        }
        let hint = proposer.clone();
        let (committed, apply) = (committed.clone(), apply.clone());
        let done = move |result| {
            drop(place);
            if let Ok((_, Applied::Shard { took, .. })) = &result {
                committed.record(started.elapsed().saturating_sub(*took).as_secs_f64());
                apply.record(took.as_secs_f64());
            }
            let index = result.as_ref().ok().map(|(index, _)| *index);
            FailPoint::BeforeReplies.pass();
            let effects = answer(replies, result, || hint.not_leader());
            FailPoint::BeforePushes.pass();
            if let Some(shard) = hint.shard.upgrade() {
                shard.tell_effects(index, effects);
            }
            FailPoint::AfterPushes.pass();
        };
        FailPoint::BeforePropose.pass();
        proposer.group.propose(epoch, Bytes::from(body), done).await;
    }
}

/// Answers every caller; returns the effects, each with the node that was told of it by its answer.
fn answer(
    replies: Vec<ReplyTo>,
    result: Result<(u64, Applied), ProposeError>,
    not_leader: impl Fn() -> ShardReply,
) -> Vec<(Option<NodeId>, Effect)> {
    let mut effects = Vec::new();
    match result {
        Ok((_, Applied::Shard { outcomes: applied, .. })) => {
            assert_eq!(replies.len(), applied.len(), "one reply per command");
            for (to, outcome) in replies.into_iter().zip(applied) {
                let caller = to.caller();
                // The answer tells of the event that was asked for, and of nothing else that it led to.
                let is_told = |effect: &Effect| match (effect, &outcome.reply) {
                    (Effect::Event { event, .. }, chat::Reply::Sent { seq, dup: false, .. }) => event.seq == *seq,
                    _ => false,
                };
                effects.extend(outcome.effects.into_iter().map(|effect| (caller.filter(|_| is_told(&effect)), effect)));
                to.send(shard_reply(outcome.reply));
            }
        }
        Ok(_) | Err(ProposeError::Unknown) => replies.into_iter().for_each(|to| to.send(ShardReply::Unknown)),
        Err(ProposeError::NotLeader) => replies.into_iter().for_each(|to| to.send(not_leader())),
    }
    effects
}

fn shard_reply(reply: chat::Reply) -> ShardReply {
    match reply {
        chat::Reply::Sent { seq, ts_ms, dup } => ShardReply::Sent { seq, ts_ms, dup },
        chat::Reply::Audited { seq } => ShardReply::Audited { seq },
        chat::Reply::Cursor { received, read } => ShardReply::Cursor { received, read },
        chat::Reply::Rejected(refusal) => ShardReply::Refused(refused(refusal)),
        _ => ShardReply::Done,
    }
}

fn refused(refusal: chat::Refusal) -> Refused {
    use chat::Refusal as R;
    match refusal {
        R::UnknownSession => Refused::UnknownSession,
        R::UnknownAgent => Refused::UnknownAgent,
        R::NotYours => Refused::NotYours,
        R::ConversationClosed => Refused::ConversationClosed,
        R::CidGap { expected } => Refused::CidGap { expected },
        R::TextTooLarge => Refused::TextTooLarge,
        R::TextEmpty => Refused::TextEmpty,
        R::CidInvalid => Refused::CidInvalid,
        R::DeviceInvalid => Refused::DeviceInvalid,
        R::InboxGap { expected } => Refused::InboxGap { expected },
        R::SiteMismatch => Refused::NotYours,
        R::LimitReached(_) => Refused::LimitReached,
        R::Changed => Refused::Changed,
        R::OfferGone => Refused::OfferGone,
        R::RulesInvalid(_) => Refused::RulesInvalid,
        R::SeatFull => Refused::SeatFull,
        R::NotThere => Refused::NotThere,
        R::TargetInvalid => Refused::TargetInvalid,
        R::TooLate => Refused::TooLate,
        R::ActInvalid => Refused::ActInvalid,
        R::Blocked => Refused::Blocked,
        R::ProofUsed => Refused::BadToken,
        R::AttachmentInvalid => Refused::AttachmentInvalid,
        R::DayFull => Refused::DayFull,
        R::SiteFull => Refused::SiteFull,
        R::Talking => Refused::Talking,
        R::Invited => Refused::Invited,
        R::TooOften => Refused::TooOften,
    }
}

/// Milliseconds since 1970 by this machine's clock.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
