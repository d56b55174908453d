//! Owns the delivery of durable mail between shards. Does not write it: the same apply that caused it did.
//! Invariant: mail of one pair of shards is applied at its target exactly once and in order; the row goes only after that.

use super::Shard;
use crate::router::Router;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use proto::command::{Command, Mail};
use proto::failpoints::FailPoint;
use proto::ids::ShardId;
use proto::mutants::Mutant;
use proto::peer::{Refused, ShardCall, ShardReply};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

/// Mails to one target that are under way at once.
const WINDOW: usize = 64;
/// Pause after a delivery that did not succeed.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// Of a mutant: when a mail comes again.
const TWICE_AFTER: Duration = Duration::from_millis(400);

pub struct Outbox {
    wake: Arc<Notify>,
}

impl Drop for Outbox {
    fn drop(&mut self) {
        // The task ends when it finds its shard gone.
        self.wake.notify_one();
    }
}

impl Outbox {
    pub(super) fn start(shard: Weak<Shard>, router: Weak<Router>, tasks: &TaskTracker) -> Self {
        let wake = Arc::new(Notify::new());
        tasks.spawn(run(wake.clone(), shard, router));
        Outbox { wake }
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }
}

/// Targets are independent: one without a leader does not hold up the others.
async fn run(wake: Arc<Notify>, shard: Weak<Shard>, router: Weak<Router>) {
    let mut under_way = FuturesUnordered::new();
    let mut busy = BTreeSet::new();
    let mut last_epoch = 0;
    loop {
        tokio::select! {
            () = wake.notified() => {}
            Some(target) = under_way.next() => {
                busy.remove(&target);
            }
        }
        let (Some(shard), Some(router)) = (shard.upgrade(), router.upgrade()) else { return };
        let Some(epoch) = shard.serving() else { continue };
        if Mutant::OutboxLostAtTransfer.is_on() && std::mem::replace(&mut last_epoch, epoch.0) != epoch.0 {
            for (to, _, upto) in shard.peek(|state, _| state.outbox_targets()) {
                router.call(shard.id, ShardCall::Propose(Command::OutboxAcked { to, upto })).await;
            }
        }
        for (target, lowest, head) in shard.peek(|state, _| state.outbox_targets()) {
            tracing::debug!(shard = %shard.id, %target, lowest, head, busy = busy.contains(&target), "mail waits");
            if lowest <= head && busy.insert(target) {
                let (shard, router) = (shard.clone(), router.clone());
                under_way.push(async move {
                    if !deliver_to(&shard, &router, target, lowest).await {
                        tokio::time::sleep(RETRY_AFTER).await;
                    }
                    target
                });
            }
        }
    }
}

/// Sends the window to one target; returns whether something was acknowledged.
async fn deliver_to(shard: &Arc<Shard>, router: &Arc<Router>, to: ShardId, lowest: u64) -> bool {
    let mails: Vec<(u64, Mail)> = match shard.peek(|state, rows| state.outbox(rows, to, lowest - 1, WINDOW)) {
        Ok(mails) => mails,
        Err(error) => {
            shard.halt(&error.to_string());
            return false;
        }
    };
    FailPoint::BeforeMail.pass();
    let again = mails.last().cloned().filter(|_| Mutant::OutboxTwice.is_on());
    let calls: Vec<_> = mails
        .into_iter()
        .map(|(seq, message)| {
            (seq, router.call(to, ShardCall::Propose(Command::Inbox { from: shard.id, seq, message })))
        })
        .collect();
    let mut upto = None;
    for (seq, reply) in calls {
        match reply.await {
            ShardReply::Done | ShardReply::Sent { .. } => upto = Some(seq),
            // The target has more than we thought: its acknowledgement was lost with the old leader.
            ShardReply::Refused(Refused::InboxGap { expected }) => {
                tracing::debug!(shard = %shard.id, %to, seq, expected, "the target expects another mail");
                upto = expected.checked_sub(1).filter(|seen| *seen >= lowest).or(upto);
                break;
            }
            reply => {
                tracing::debug!(shard = %shard.id, %to, seq, ?reply, "mail not delivered");
                break;
            }
        }
    }
    tracing::debug!(shard = %shard.id, %to, upto, "mail delivered");
    let Some(upto) = upto else { return false };
    FailPoint::BeforeMailAcked.pass();
    let acked = router.call(shard.id, ShardCall::Propose(Command::OutboxAcked { to, upto })).await == ShardReply::Done;
    FailPoint::AfterMailAcked.pass();
    if let Some((seq, message)) = again {
        tokio::time::sleep(TWICE_AFTER).await;
        router.call(to, ShardCall::Propose(Command::Inbox { from: shard.id, seq, message })).await;
    }
    acked
}
