//! Owns the leader's watch on what is due: it proposes a tick when the first thing is. Does not know what that is. Invariant: apply
//! decides what is due, by the time in the log; a tick too many does nothing.

use super::{Shard, now_ms};
use crate::router::ReplyTo;
use proto::command::Command;
use std::sync::Weak;
use std::time::Duration;
use tokio::sync::oneshot;

/// So late may be done what is due.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn run(shard: Weak<Shard>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(shard) = shard.upgrade() else { return };
        // The shard's clock never goes back: it may be ahead of this leader's.
        let is_due = || {
            shard
                .machine
                .with_state(|state, _| state.next_due_ms().is_some_and(|due| due <= now_ms().max(state.clock_ms())))
        };
        if shard.serving().is_none() || !is_due() {
            continue;
        }
        let (reply, done) = oneshot::channel();
        shard.propose(&Command::Tick, ReplyTo::Once(reply));
        // One at a time; what became of it the next look shows.
        let _ = done.await;
    }
}
