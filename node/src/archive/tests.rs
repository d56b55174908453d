//! Owns the tests of what a leader does with what its shard and the place hold. Does not test the rules, nor the bytes of objects.

use super::files::Course;
use super::mover::{Rules, Turn};
use super::{Archive, MARKER};
use crate::hooks::Outside;
use crate::retention::Aging;
use crate::test_node;
use chat::HistoryRange;
use cluster::node::ClusterNode;
use cluster::shard::Shard;
use proto::archive::{ArchiveChange, ArchivedObject, ArchivedRange};
use proto::attachment::{Attachment, UrlSecret, Variant};
use proto::command::{Command, Party, SecretBytes};
use proto::ids::{AttachmentId, SessionId, ShardId, SiteId, VisitorId};
use proto::peer::{ShardCall, ShardReply};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ONE: ShardId = ShardId(1);
const SITE: SiteId = SiteId(1);
const SESSION: SessionId = SessionId(1);
const DAY: Duration = Duration::from_secs(86_400);
/// Far beyond what a loaded machine needs.
const DEADLINE: Duration = Duration::from_secs(30);

/// A node with a session, and an archive that is empty.
struct Node {
    cluster: Arc<ClusterNode>,
    archive: Arc<Archive>,
    _data: [tempfile::TempDir; 2],
}

impl Node {
    async fn start() -> Node {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join(MARKER), "").unwrap();
        let aging = Aging::new(DAY, place.path().to_str()).unwrap();
        let archive = aging.archive.clone();
        let (cluster, data) = test_node::alone_with(Outside { aging, ..Outside::nowhere() }).await;
        let node = Node { cluster, archive, _data: [data, place] };
        let (session, site, visitor) = (SESSION, SITE, VisitorId(1));
        node.propose(Command::OpenSession { session, site, visitor, token: [9; 32] }).await;
        node
    }

    async fn propose(&self, command: Command) {
        let asked = self.cluster.router.call(ONE, ShardCall::Propose(command));
        let reply = tokio::time::timeout(DEADLINE, asked).await.unwrap();
        let is_done = matches!(reply, ShardReply::Done | ShardReply::Sent { .. });
        assert!(is_done, "{reply:?}");
    }

    async fn say(&self, text: &str, attachments: Vec<AttachmentId>) {
        let (session, from, device, cid) = (SESSION, Party::Visitor, "d".to_owned(), text.to_owned());
        let text = text.to_owned();
        self.propose(Command::Send { session, from, device, n: 0, cid, text, reply_to: None, attachments }).await;
    }

    /// `as_said`: its pieces are what was uploaded.
    async fn upload(&self, id: AttachmentId, as_said: bool) {
        let (bytes, by, variant) = (vec![id.0 as u8; 100], Party::Visitor, Variant::Whole);
        let sha256 = if as_said { Sha256::digest(&bytes).into() } else { [7; 32] };
        let attachment = Attachment {
            id,
            name: "bill.pdf".into(),
            media: "application/pdf".into(),
            bytes: bytes.len() as u64,
            width: 0,
            height: 0,
            thumbnail: 0,
            secret: UrlSecret([5; 16]),
        };
        let bytes = SecretBytes(bytes);
        let session = SESSION;
        self.propose(Command::AttachmentChunk { session, attachment: id, by, variant, number: 0, bytes }).await;
        self.propose(Command::AttachmentDone { session, by, attachment, source: [1; 32], sha256 }).await;
    }

    fn shard(&self) -> Arc<Shard> {
        self.cluster.router.local(ONE).unwrap()
    }

    fn lost(&self) -> usize {
        self.archive.lost.lock().len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_left_where_it_is_without_a_word_in_the_log_and_the_others_go() {
    let node = Node::start().await;
    let (damaged, good) = (AttachmentId(1), AttachmentId(2));
    node.upload(damaged, false).await;
    node.upload(good, true).await;
    node.say("both", vec![damaged, good]).await;
    let shard = node.shard();
    let mut rules: BTreeMap<SiteId, Rules> = BTreeMap::new();
    rules.entry(SITE).or_default().files = Some(Duration::ZERO);
    let mut course = Course::default();
    let turn = Turn::new(&node.archive, &node.cluster, DAY);
    for _ in 0..3 {
        assert!(turn.files(&shard, &rules, &mut course).await.unwrap());
        let loose = shard.peek(|state, rows| state.loose_objects(rows, 9)).unwrap();
        assert!(loose.is_empty(), "no object was begun: {loose:?}");
        assert_eq!(course.stuck.len(), 1);
        let here = shard.peek(|state, rows| state.files_here(rows, SITE, u64::MAX, 9)).unwrap();
        assert_eq!(here.iter().map(|here| here.file).collect::<Vec<_>>(), [damaged]);
    }
}

#[test]
fn sites_take_turns_when_there_are_many() {
    let all = || (1..=450).map(|site| (SiteId(site), ()));
    let mut course = Course::default();
    let mut turn = |all: &mut dyn Iterator<Item = (SiteId, ())>| {
        let sites = course.sites(all);
        (sites.len(), sites.first().map(|(site, ())| site.0), sites.last().map(|(site, ())| site.0))
    };
    for _ in 0..2 {
        assert_eq!(turn(&mut all()), (200, Some(1), Some(200)));
        assert_eq!(turn(&mut all()), (200, Some(201), Some(400)));
        assert_eq!(turn(&mut all()), (50, Some(401), Some(450)));
    }
    assert_eq!(turn(&mut all()).0, 200);
    assert_eq!(turn(&mut all().take(150)), (0, None, None), "those behind are no more");
    assert_eq!(turn(&mut all().take(150)), (150, Some(1), Some(150)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_is_told_to_be_lost_only_when_somebody_still_finds_it_named() {
    let node = Node::start().await;
    node.say("hello", Vec::new()).await;
    node.propose(Command::Close { session: SESSION, by: Party::Visitor }).await;
    let shard = node.shard();
    let read = |state: &mut chat::Shard, rows: &dyn chat::Rows| {
        state.history(rows, SESSION, HistoryRange::After(0), 9, usize::MAX)
    };
    let events = shard.peek(|state, rows| read(state, rows)).unwrap().unwrap().events;
    let name = "c/1/s/never-written".to_owned();
    let object = ArchivedObject { name: name.clone(), sha256: [3; 32], bytes: 10, plain_bytes: 20 };
    let range = ArchivedRange { object: Some(object), ..chat::archived_range(&events).unwrap() };
    let change = |change| Command::Archive { session: SESSION, change: Box::new(change) };
    node.propose(change(ArchiveChange::Begin { objects: vec![name] })).await;
    node.propose(change(ArchiveChange::Moved { ranges: vec![range] })).await;
    // As if it had been erased while the place was asked.
    let once = || {
        let mut is_first = true;
        move |state: &mut chat::Shard, rows: &dyn chat::Rows| match std::mem::take(&mut is_first) {
            true => read(state, rows).map(|_| ()),
            false => Ok(()),
        }
    };
    assert_eq!(shard.peek_whole(once()).await, Ok(()));
    assert!(matches!(shard.peek_telling(once()), Ok(((), false))));
    assert_eq!(node.lost(), 0);
    let away = shard.peek_whole(read).await.map(drop);
    assert_eq!(away, Err(ShardReply::Refused(proto::peer::Refused::ArchiveAway)));
    assert_eq!(node.lost(), 1);
    let (found, is_lost) = shard.peek_telling(read).unwrap();
    assert!(is_lost && found.is_some_and(|page| page.events.len() == events.len()));
    assert_eq!(node.lost(), 1, "it is told once");
}
