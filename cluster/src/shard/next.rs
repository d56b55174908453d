//! Owns what the next release stands for in tests of upgrades: it counts sessions, and tells the other nodes.
//! Not part of a shipped build. Invariant: nothing of it is sent before version 2 is in force for the shard.

use super::Shard;
use crate::router::{ReplyTo, Router};
use crate::transport::{Lane, MessageKind};
use proto::command::Command;
use proto::peer::ShardReply;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

const EVERY: Duration = Duration::from_millis(300);
const SESSIONS_MAX: usize = 20;

pub(super) async fn run(shard: Weak<Shard>, router: Weak<Router>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let (Some(shard), Some(router)) = (shard.upgrade(), router.upgrade()) else { return };
        let mut told = 0;
        for session in shard.peek(|state, _| state.to_tally(SESSIONS_MAX)) {
            let (reply, counted) = oneshot::channel();
            shard.propose(&Command::Tally { session }, ReplyTo::Once(reply));
            told += u64::from(matches!(counted.await, Ok(ShardReply::Done)));
        }
        if told > 0 {
            tell(&shard, &router, told);
        }
    }
}

fn tell(shard: &Arc<Shard>, router: &Router, told: u64) {
    metrics::counter!("chat_next_tally_total").increment(told);
    for peer in router.peers() {
        // A link that is down misses it: nothing depends on it.
        let _ = peer.send(Lane::App, MessageKind::Tallied, shard.id.0, told, |_| {});
    }
}
