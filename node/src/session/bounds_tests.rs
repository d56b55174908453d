//! How many session actors and calls a node holds, and what becomes of those that must go.

use super::tests::{DEADLINE, HARMED, Node, ONE, history, send};
use super::{ACTORS_MAX, CALLS_MAX, Sessions};
use cluster::router::ReplyTo;
use cluster::shard::Shard;
use proto::ids::{NodeId, SessionId};
use proto::peer::{ShardCall, ShardReply};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Actors of this test's own, over the shard of a running node.
struct Bench {
    sessions: Arc<Sessions>,
    shard: Arc<Shard>,
    node: Node,
}

impl Bench {
    async fn start() -> Bench {
        let node = Node::start().await;
        let shard = node.cluster.router.local(ONE).unwrap();
        let sessions = Sessions::start(Arc::default(), Arc::downgrade(&node.cluster), &Handle::current());
        Bench { sessions, shard, node }
    }

    fn deliver(&self, call: ShardCall) -> oneshot::Receiver<ShardReply> {
        let (tx, reply) = oneshot::channel();
        self.sessions.deliver(HARMED, &self.shard, NodeId(1), Arc::new(call), ReplyTo::Once(tx));
        reply
    }

    async fn ask(&self, call: ShardCall) -> ShardReply {
        answer(self.deliver(call)).await
    }
}

async fn answer(reply: oneshot::Receiver<ShardReply>) -> ShardReply {
    tokio::time::timeout(DEADLINE, reply).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passivated_session_answers_its_mailbox_and_comes_back_with_the_next_call() {
    let bench = Bench::start().await;
    let waiting: Vec<_> = (2..=21).map(|n| bench.deliver(send(HARMED, n))).collect();
    bench.sessions.left(ONE);
    assert!(bench.sessions.active.lock().is_empty());
    for (n, reply) in (2..).zip(waiting) {
        let reply = answer(reply).await;
        assert!(matches!(reply, ShardReply::Sent { seq, .. } if seq == n), "send {n}: {reply:?}");
    }
    let reply = bench.ask(send(HARMED, 22)).await;
    assert!(matches!(reply, ShardReply::Sent { seq: 22, .. }), "{reply:?}");
    assert_eq!(bench.sessions.active.lock().len(), 1);
    bench.node.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_idle_sessions_go_when_a_node_has_too_many_actors() {
    let bench = Bench::start().await;
    let id = |number: usize| SessionId(1_000 + number as u128);
    let last = ACTORS_MAX + 10;
    for number in 0..=last {
        assert!(bench.sessions.activate(id(number), &bench.shard).is_some());
    }
    bench.sessions.sweep();
    {
        let active = bench.sessions.active.lock();
        assert!(active.len() <= ACTORS_MAX && active.len() >= ACTORS_MAX - 10, "{}", active.len());
        assert!(!active.contains_key(&id(0)) && active.contains_key(&id(last)));
    }
    bench.node.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_mailboxes_are_full_says_so_at_once() {
    let bench = Bench::start().await;
    let all = bench.sessions.places.clone().try_acquire_many_owned(CALLS_MAX as u32).unwrap();
    let reply = bench.ask(history(HARMED, 10)).await;
    assert!(matches!(reply, ShardReply::Overloaded { .. }), "{reply:?}");
    assert!(bench.sessions.active.lock().is_empty(), "nothing was activated for it");
    drop(all);
    let reply = bench.ask(history(HARMED, 10)).await;
    assert!(matches!(reply, ShardReply::History { head: 1, .. }), "{reply:?}");
    bench.node.cluster.stop().await;
}
