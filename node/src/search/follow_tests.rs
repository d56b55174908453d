//! Tests of an index beside a replica that runs.

use super::aside::Aside;
use super::follow::{Follower, Turn};
use super::index::{Index, Progress};
use super::tests::{SITE, found};
use crate::test_node;
use cluster::node::ClusterNode;
use cluster::shard::Shard;
use proto::act::Act;
use proto::command::{Command, Party};
use proto::ids::{SessionId, ShardId, SiteId, VisitorId};
use proto::peer::{ShardCall, ShardReply};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const OTHER: SiteId = SiteId(2);
const DEADLINE: Duration = Duration::from_secs(60);

struct Node {
    cluster: Arc<ClusterNode>,
    data: tempfile::TempDir,
}

impl Node {
    async fn start() -> Node {
        let (cluster, data) = test_node::alone().await;
        let node = Node { cluster, data };
        for (id, site) in [(1, SITE), (2, OTHER)] {
            let (session, visitor) = (SessionId(id), VisitorId(id));
            node.propose(Command::OpenSession { session, site, visitor, token: [9; 32] }).await;
        }
        node
    }

    async fn propose(&self, command: Command) {
        let call = self.cluster.router.call(ShardId(1), ShardCall::Propose(command));
        let reply = tokio::time::timeout(DEADLINE, call).await.unwrap();
        assert!(matches!(reply, ShardReply::Done | ShardReply::Sent { .. }), "{reply:?}");
    }

    async fn say(&self, session: u128, n: u64, text: &str) {
        let (device, cid, text) = ("d".into(), format!("c{n}"), text.into());
        let (session, from) = (SessionId(session), Party::Visitor);
        self.propose(Command::Send { session, from, device, n, cid, text, reply_to: None, attachments: Vec::new() })
            .await;
    }

    async fn act(&self, n: u64, act: Act) {
        let (session, device, cid) = (SessionId(1), "d".into(), format!("c{n}"));
        self.propose(Command::Act { session, site: None, from: Party::Visitor, device, n, cid, act }).await;
    }

    fn shard(&self) -> Arc<Shard> {
        self.cluster.router.local(ShardId(1)).unwrap()
    }

    fn dir(&self) -> PathBuf {
        self.data.path().join("search").join("test")
    }

    fn follower(&self) -> Follower {
        Follower::new(self.shard(), self.dir(), "test".into(), Aside::start())
    }
}

/// Takes turns until everything can be found.
fn catch_up(follower: &mut Follower) -> Arc<Index> {
    let mut now = Instant::now();
    for _ in 0..100 {
        // As if time had passed: for the next commit, and for the next try after a failure.
        now += Duration::from_secs(5);
        follower.turn(now);
        if let Some((index, known)) = follower.shared().index()
            && known > 0
            && follower.shared().behind() == 0
        {
            return index;
        }
    }
    panic!("the index does not catch up");
}

/// As if an earlier life had left an index that goes so far.
fn left_behind(dir: &Path, progress: Progress) {
    let (index, _) = Index::open(dir, "test").unwrap();
    index.writer().unwrap().commit(progress).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_edited_and_recalled_is_followed_from_commit_to_commit() {
    let node = Node::start().await;
    node.say(1, 1, "我想申请退款").await;
    node.say(2, 1, "foreign parcel").await;
    let mut follower = node.follower();
    let index = catch_up(&mut follower);
    assert_eq!((found(&index, SITE, "退款"), found(&index, SITE, "parcel")), (vec![1], vec![]));
    assert_eq!(found(&index, OTHER, "parcel"), [1]);
    assert_eq!(follower.turn(Instant::now()), Turn::Idle, "nothing more to do");

    node.say(1, 2, "wrong words").await;
    node.say(1, 3, "never mind").await;
    node.act(4, Act::Edit { seq: 2, text: "right words".into() }).await;
    let index = catch_up(&mut follower);
    assert_eq!((found(&index, SITE, "wrong"), found(&index, SITE, "right")), (vec![], vec![2]));
    node.act(5, Act::Edit { seq: 2, text: "last words".into() }).await;
    node.act(6, Act::Recall { seq: 3 }).await;
    // A process that ends between two commits.
    follower.turn(Instant::now());
    drop((follower, index));
    let mut follower = node.follower();
    let index = catch_up(&mut follower);
    assert_eq!(found(&index, SITE, "words"), [2]);
    for gone in ["wrong", "right", "never"] {
        assert_eq!(found(&index, SITE, gone), [0; 0], "{gone}");
    }
    assert_eq!(index.documents(), 3, "the message, the edited one, and that of the other site");
    drop((follower, index));
    node.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_erased_leaves_the_index_and_what_came_later_stays() {
    let node = Node::start().await;
    let (session, by) = (SessionId(1), Party::Visitor);
    node.say(1, 1, "old parcel").await;
    node.propose(Command::Close { session, by }).await;
    node.say(1, 2, "new parcel").await;
    node.propose(Command::Close { session, by }).await;
    let mut follower = node.follower();
    assert_eq!(found(&catch_up(&mut follower), SITE, "parcel").len(), 2);
    node.propose(Command::Erase { session, upto: 2, forget: false }).await;
    let index = catch_up(&mut follower);
    assert_eq!((found(&index, SITE, "old"), found(&index, SITE, "new")), (vec![], vec![3]));
    node.propose(Command::Erase { session, upto: u64::MAX, forget: true }).await;
    let index = catch_up(&mut follower);
    assert_eq!((found(&index, SITE, "parcel"), index.documents()), (vec![], 0));
    node.say(1, 3, "another parcel").await;
    assert_eq!(found(&catch_up(&mut follower), SITE, "parcel").len(), 1);
    drop((follower, index));
    node.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_built_from_histories_and_goes_on_with_the_feed_without_doubles() {
    let node = Node::start().await;
    for n in 1..=150 {
        node.say(1, n, &format!("parcel {n}")).await;
        node.say(2, n, "foreign parcel").await;
    }
    node.act(151, Act::Edit { seq: 150, text: "letter 150".into() }).await;
    node.act(152, Act::Recall { seq: 149 }).await;
    // The walk began when the feed was at 100; whatever came since is met in the histories and in the feed.
    left_behind(&node.dir(), Progress::Walk { after: None, from: 100, seen: 100 });
    let mut follower = node.follower();
    let index = catch_up(&mut follower);
    assert_eq!(index.documents(), 149 + 150);
    assert_eq!(found(&index, SITE, "parcel").len(), 100, "as many as were asked for");
    assert_eq!((found(&index, SITE, "letter"), found(&index, SITE, "149")), (vec![150], vec![]));
    assert_eq!((found(&index, SITE, "\"parcel 7\""), found(&index, SITE, "foreign")), (vec![7], vec![]));
    drop((follower, index));
    node.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_ahead_or_damaged_is_built_anew() {
    let node = Node::start().await;
    node.say(1, 1, "我想申请退款").await;
    left_behind(&node.dir(), Progress::Feed { after: 10_000, again: 0 });
    let mut follower = node.follower();
    follower.turn(Instant::now());
    assert!(follower.shared().index().is_none(), "nobody searches it meanwhile");
    assert_eq!(found(&catch_up(&mut follower), SITE, "退款"), [1]);
    follower.shared().harmed();
    assert_eq!(follower.turn(Instant::now()), Turn::Idle);
    assert!(follower.shared().index().is_none(), "a search fell over it");
    assert_eq!(found(&catch_up(&mut follower), SITE, "退款"), [1]);
    drop(follower);
    for file in std::fs::read_dir(node.dir()).unwrap().flatten() {
        if file.path().extension().is_some_and(|end| end == "term") {
            std::fs::write(file.path(), "x").unwrap();
        }
    }
    assert_eq!(found(&catch_up(&mut node.follower()), SITE, "退款"), [1]);
    // A place that cannot be written: the shard goes on without.
    std::fs::remove_dir_all(node.dir()).unwrap();
    std::fs::write(node.dir(), "a file").unwrap();
    let mut follower = node.follower();
    assert_eq!(follower.turn(Instant::now()), Turn::Idle);
    node.say(1, 2, "still here").await;
    std::fs::remove_file(node.dir()).unwrap();
    assert_eq!(found(&catch_up(&mut follower), SITE, "here"), [2]);
    drop(follower);
    node.cluster.stop().await;
}
