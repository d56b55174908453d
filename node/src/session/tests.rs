//! A fault in one session harms nothing else. Runs the actors over a node that is a cluster by itself.

use crate::test_node;
use cluster::node::ClusterNode;
use cluster::router::ReplyTo;
use proto::command::{Command, Party};
use proto::ids::{SessionId, ShardId, SiteId, VisitorId};
use proto::peer::{Page, ShardCall, ShardReply};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

pub(super) const ONE: ShardId = ShardId(1);
pub(super) const HARMED: SessionId = SessionId(1);
const OTHER: SessionId = SessionId(2);
/// Far beyond what a loaded machine needs.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// A page that nobody asks for.
const PANIC_LIMIT: u32 = u32::MAX;

/// Where in the actor's work a panic is wanted.
pub enum Where {
    Actor,
    Read,
}

/// The fault: nobody types for the system, and no client gets so large a page.
pub fn panic_if_asked(call: &ShardCall, place: Where) {
    let asked = match place {
        Where::Actor => matches!(call, ShardCall::Typing { party: Party::System, .. }),
        Where::Read => matches!(call, ShardCall::History { limit: PANIC_LIMIT, .. }),
    };
    assert!(!asked, "a fault that the test asked for");
}

fn panic_in_actor(session: SessionId) -> ShardCall {
    ShardCall::Typing { session, party: Party::System, on: true, draft: String::new() }
}

pub(super) fn history(session: SessionId, limit: u32) -> ShardCall {
    ShardCall::History { session, page: Page::Latest, limit, site: None }
}

pub(super) fn send(session: SessionId, n: u64) -> ShardCall {
    let (device, cid, text) = ("d".into(), format!("c{n}"), "hello".into());
    ShardCall::Propose(Command::Send {
        session,
        from: Party::Visitor,
        device,
        n,
        cid,
        text,
        reply_to: None,
        attachments: Vec::new(),
    })
}

pub(super) struct Node {
    pub(super) cluster: Arc<ClusterNode>,
    _data: tempfile::TempDir,
}

impl Node {
    pub(super) async fn start() -> Node {
        // All sessions share the shard that must not stop.
        let (cluster, data) = test_node::alone().await;
        let node = Node { cluster, _data: data };
        for session in [HARMED, OTHER] {
            let (site, visitor) = (SiteId(1), VisitorId(session.0));
            let open = Command::OpenSession { session, site, visitor, token: [9; 32] };
            assert_eq!(node.ask(ShardCall::Propose(open)).await, ShardReply::Done);
            assert_eq!(node.seq_of(send(session, 1)).await, Some(1));
        }
        node
    }

    async fn ask(&self, call: ShardCall) -> ShardReply {
        tokio::time::timeout(DEADLINE, self.cluster.router.call(ONE, call)).await.unwrap()
    }

    async fn seq_of(&self, call: ShardCall) -> Option<u64> {
        match self.ask(call).await {
            ShardReply::Sent { seq, .. } => Some(seq),
            _ => None,
        }
    }

    /// What the shard knows of the session. Its desk goes on meanwhile: the state as a whole does not stand still.
    fn state_of(&self, session: SessionId) -> chat::SessionView {
        self.cluster.router.local(ONE).unwrap().peek(|state, rows| state.session(rows, session)).unwrap().unwrap()
    }
}

/// Waits until the counter has this value.
async fn panics_are(figures: &metrics_exporter_prometheus::PrometheusHandle, count: u64) {
    let wanted = format!("\nchat_session_panics_total {count}\n");
    let counted = async {
        while !figures.render().contains(&wanted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, counted).await.unwrap_or_else(|_| panic!("not{wanted}: {}", figures.render()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_one_session_leaves_its_state_intact_and_the_others_untouched() {
    let figures = crate::metrics::install().unwrap();
    let node = Node::start().await;
    let (before, come_again) =
        (node.state_of(HARMED), |reply: &ShardReply| matches!(reply, ShardReply::Overloaded { .. }));

    let reply = node.ask(panic_in_actor(HARMED)).await;
    assert!(come_again(&reply), "{reply:?}");
    panics_are(&figures, 1).await;
    let reply = node.ask(history(HARMED, PANIC_LIMIT)).await;
    assert!(come_again(&reply), "{reply:?}");
    panics_are(&figures, 2).await;
    assert_eq!(node.state_of(HARMED), before, "nothing was logged");

    // The other session answers while the first one falls, and calls that were behind the fault are answered too.
    let (tx, behind) = oneshot::channel();
    node.cluster.router.send(ONE, panic_in_actor(HARMED), ReplyTo::Nobody);
    node.cluster.router.send(ONE, send(HARMED, 2), ReplyTo::Once(tx));
    assert_eq!(node.seq_of(send(OTHER, 2)).await, Some(2));
    let behind = tokio::time::timeout(DEADLINE, behind).await.unwrap().unwrap();
    assert!(come_again(&behind) || matches!(behind, ShardReply::Sent { seq: 2, .. }), "{behind:?}");
    panics_are(&figures, 3).await;

    // The same send again: its actor is back and knows everything.
    assert_eq!(node.seq_of(send(HARMED, 2)).await, Some(2));
    let ShardReply::History { events, head } = node.ask(history(HARMED, 10)).await else { panic!("no history") };
    assert_eq!((events.len(), head), (2, 2));
    assert!(node.cluster.router.local(ONE).unwrap().serving().is_some());
    node.cluster.stop().await;
}
