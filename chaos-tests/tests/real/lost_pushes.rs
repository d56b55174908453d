//! Owns the tests of clients that only listen: pushes that are lost between nodes, and sockets that are not read. Does not lose acks.
//! Invariant: a test that lost no push fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::person::Person;
use chaos_tests::report::judged::shard_of;
use chaos_tests::socket::{Came, Socket};
use chaos_tests::wait;
use futures_util::future::try_join_all;
use node::client::{Config, http};
use parking_lot::Mutex;
use proto::client::Party;
use proto::client::http::VisitorCreated;
use proto::client::limits::UNTAKEN_MAX;
use tokio::task::JoinSet;

/// Once the fault is over, everybody has been shown everything within this.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// The kernel's clocks of connections are coarse.
const KERNEL_TAKES: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(600);
/// Conversations beside the one that is looked at, which fill the lane between two nodes.
const OTHERS: usize = 24;
const LONG_BYTES: usize = 15 << 10;
/// Long texts of one conversation at once: more than the lane holds, together, and fewer than a socket may have waiting.
const LONG_COUNT: usize = 24;
/// Before the link is given up.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);
const TRIES: usize = 3;
/// What the kernel keeps for a socket that is not read is less than this many long texts.
const UNREAD_MAX: usize = 3_000;
/// What was told of the pushes that found no room.
const DROPPED: &str = "chat_push_dropped_total";

/// A socket that writes nothing after its hello, and what it was shown.
struct Listener {
    shown: Arc<Mutex<Shown>>,
    _reader: JoinSet<()>,
}

#[derive(Default)]
struct Shown {
    events: Vec<(u64, String)>,
    /// It is closed, or heard something that is no frame.
    ended: Option<String>,
}

impl Listener {
    /// `after`: the last event that it has.
    async fn start(addr: &str, visitor: &VisitorCreated, after: u64) -> anyhow::Result<Listener> {
        let mut socket = Socket::hello(addr, &visitor.token, Some((visitor.session, after))).await?;
        let shown: Arc<Mutex<Shown>> = Arc::default();
        let (mut reader, told) = (JoinSet::new(), shown.clone());
        reader.spawn(async move {
            loop {
                let came = socket.next(NEVER).await;
                let Ok(Came::Frame(frame)) = came else {
                    told.lock().ended = Some(format!("{came:?}"));
                    return;
                };
                if let Some((seq, text)) = event_in(&frame) {
                    told.lock().events.push((seq, text));
                }
            }
        });
        Ok(Listener { shown, _reader: reader })
    }

    /// Waits until it was shown the last of what was said after `after`, and looks that it was all of it, in order, once.
    async fn is_shown(&self, said: &[String], after: usize, within: Duration) -> anyhow::Result<()> {
        let all: Vec<(u64, &str)> = said.iter().zip(1..).map(|(text, seq)| (seq, text.as_str())).skip(after).collect();
        let waited = wait::until("the last message is shown", within, async || {
            let shown = self.shown.lock();
            (shown.ended.is_some() || shown.events.len() >= all.len()).then_some(())
        });
        let waited = waited.await;
        let shown = self.shown.lock();
        ensure!(shown.ended.is_none(), "the socket did not stay: {:?}", shown.ended);
        let seqs: Vec<u64> = shown.events.iter().map(|(seq, _)| *seq).collect();
        waited.with_context(|| format!("{} of {} events: {seqs:?}", seqs.len(), all.len()))?;
        let is_same = shown.events.iter().map(|(seq, text)| (*seq, text.as_str())).eq(all.iter().copied());
        ensure!(is_same, "not what was said, in order, once: {seqs:?} of {}", all.len());
        Ok(())
    }
}

/// Seq and text of a pushed event.
fn event_in(frame: &serde_json::Value) -> Option<(u64, String)> {
    let event = &frame["event"];
    Some((event["seq"].as_u64()?, event["text"].as_str().unwrap_or_default().to_owned()))
}

/// A conversation: who writes in it, at the node that leads it, and what was said so far.
struct Talk {
    visitor: VisitorCreated,
    author: Person,
    said: Vec<String>,
}

impl Talk {
    async fn say(&mut self, text: String) -> anyhow::Result<()> {
        self.author.client.send(self.visitor.session, text.clone()).await?;
        self.said.push(text);
        Ok(())
    }

    /// Long texts, none of which waits for the one before.
    async fn say_many(&mut self) -> anyhow::Result<()> {
        let mut pending = Vec::new();
        for _ in 0..LONG_COUNT {
            let text = format!("{} {}", self.said.len(), "long ".repeat(LONG_BYTES / 5));
            pending.push(self.author.client.enqueue(self.visitor.session, text.clone()).await?);
            self.said.push(text);
        }
        for acked in pending {
            acked.acked().await?;
        }
        Ok(())
    }
}

/// As many conversations, all led by that node.
async fn talks(cluster: &Cluster, leader: u64, count: usize) -> anyhow::Result<Vec<Talk>> {
    let status = cluster.status(1).await?;
    let (led, shards) = (status.led_by(leader), status.data_shards().count() as u64);
    let nodes = vec![cluster.node(leader).client.clone()];
    let mut found = Vec::new();
    while found.len() < count {
        let visitor = http::create_visitor(&nodes[0], SITE).await?;
        if shard_of(&visitor.session.to_string(), shards).is_some_and(|shard| led.contains(&shard)) {
            let me = Party::Visitor(visitor.visitor);
            let author = Person::start(Config::new(nodes.clone(), visitor.token.clone(), me));
            found.push(Talk { visitor, author, said: Vec::new() });
        }
    }
    Ok(found)
}

async fn listen(cluster: &Cluster, at: u64, talks: &[Talk]) -> anyhow::Result<Vec<Listener>> {
    let addr = &cluster.node(at).client;
    let listeners = try_join_all(talks.iter().map(|talk| Listener::start(addr, &talk.visitor, 0))).await?;
    all_shown(&listeners, talks, SOON).await?;
    Ok(listeners)
}

async fn all_shown(listeners: &[Listener], talks: &[Talk], within: Duration) -> anyhow::Result<()> {
    let each = listeners.iter().zip(talks).map(|(listener, talk)| listener.is_shown(&talk.said, 0, within));
    try_join_all(each).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_push_is_lost_is_shown_without_a_refresh() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let (leader, _) = cluster.busiest_leader().await?;
    let at = leader % 3 + 1;
    let mut talks = talks(&cluster, leader, 1 + OTHERS).await?;
    for talk in &mut talks {
        talk.say("hello".to_owned()).await?;
    }
    let mut is_proved = false;
    for _ in 0..TRIES {
        let listeners = listen(&cluster, at, &talks).await?;
        is_proved = full_lane(&mut cluster, leader, at, &mut talks).await?;
        let begun = Instant::now();
        all_shown(&listeners, &talks, SHOWN_WITHIN).await.context("after the lane was full")?;
        println!("all shown {:?} after the node went on", begun.elapsed());
        if is_proved {
            break;
        }
    }
    ensure!(is_proved, "no push was dropped in {TRIES} tries: this proved nothing");

    let listeners = listen(&cluster, at, &talks).await?;
    broken_link(&mut cluster, leader, at, &mut talks).await?;
    let begun = Instant::now();
    all_shown(&listeners, &talks, SHOWN_WITHIN).await.context("after the link was broken")?;
    println!("all shown {:?} after the node went on", begun.elapsed());
    Ok(())
}

/// The listeners' node hangs for a moment, until what its peer has for it does not fit any more; the last word of the first
/// conversation is among what is dropped.
/// False: the machine was too slow, and the link was given up before its lane was full.
async fn full_lane(cluster: &mut Cluster, leader: u64, at: u64, talks: &mut [Talk]) -> anyhow::Result<bool> {
    let before = cluster.figure(leader, DROPPED).await?;
    let begun = Instant::now();
    cluster.process(at).context("not running")?.signal("STOP")?;
    let (first, others) = talks.split_first_mut().context("no conversation")?;
    try_join_all(others.iter_mut().map(Talk::say_many)).await?;
    let is_full = cluster.figure(leader, DROPPED).await? > before;
    first.say("lost in the middle".to_owned()).await?;
    first.say("lost, and the last".to_owned()).await?;
    // Nobody sends any more: what is dropped now is what was dropped before, and is refused again.
    let now = cluster.figure(leader, DROPPED).await?;
    let refused = async || (cluster.figure(leader, DROPPED).await.ok()? > now).then_some(());
    let is_still_full = wait::until("the lane is still full", REFUSED_WITHIN, refused).await.is_ok();
    let dropped = cluster.figure(leader, DROPPED).await? - before;
    cluster.process(at).context("not running")?.signal("CONT")?;
    println!("n{at} hung for {:?}, {dropped} frames of pushes dropped, {is_full}, {is_still_full}", begun.elapsed());
    Ok(is_full && is_still_full)
}

/// The listeners' node hangs until the link to it is given up: what was in it is lost, and what is said then has no way.
async fn broken_link(cluster: &mut Cluster, leader: u64, at: u64, talks: &mut [Talk]) -> anyhow::Result<()> {
    let before = cluster.log_lines_with(leader, "link down");
    let begun = Instant::now();
    cluster.process(at).context("not running")?.signal("STOP")?;
    try_join_all(talks.iter_mut().map(|talk| talk.say("into the link".to_owned()))).await?;
    let is_down = async || (cluster.log_lines_with(leader, "link down") > before).then_some(());
    wait::until("the link is given up", SOON, is_down).await?;
    try_join_all(talks.iter_mut().map(|talk| talk.say("while there is no link".to_owned()))).await?;
    cluster.process(at).context("not running")?.signal("CONT")?;
    println!("n{at} hung for {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_does_not_read_is_closed_and_misses_nothing() -> anyhow::Result<()> {
    const CLOSED: &str = "chat_connections_dropped_total";
    let mut cluster = Cluster::start(3).await?;
    let (leader, _) = cluster.busiest_leader().await?;
    let at = leader % 3 + 1;
    let addr = cluster.node(at).client.clone();
    let mut talks = talks(&cluster, leader, 1).await?;
    let talk = &mut talks[0];
    talk.say("hello".to_owned()).await?;
    let reader = Listener::start(&addr, &talk.visitor, 0).await?;
    let mut slow = Socket::hello(&addr, &talk.visitor.token, Some((talk.visitor.session, 0))).await?;
    let deaf = Socket::hello(&addr, &talk.visitor.token, Some((talk.visitor.session, 0))).await?;
    ensure!(cluster.figure(at, "chat_active_connections").await? == 3.0, "others are connected");
    while cluster.figure(at, CLOSED).await? < 2.0 {
        ensure!(talk.said.len() < UNREAD_MAX, "nobody was closed: this proved nothing");
        talk.say_many().await?;
        // Who reads is shown everything meanwhile.
        reader.is_shown(&talk.said, 0, SOON).await?;
    }
    let closed_at = Instant::now();
    let is_let_go = async || (following(&cluster, at).await.ok()? == 1).then_some(());
    wait::until("the node lets go of both", SOON, is_let_go).await?;

    // What it finds when it looks again is the beginning, and why there is no more.
    let mut seq = 0;
    let code = loop {
        match slow.next(SOON).await? {
            Came::Frame(frame) => {
                let Some((next, _)) = event_in(&frame) else { continue };
                ensure!(next == seq + 1, "seq {next} after {seq}");
                seq = next;
            }
            Came::Closed(code) => break code,
            Came::Nothing => anyhow::bail!("nothing after seq {seq}, and no close"),
        }
    };
    ensure!(code == Some(1013), "closed with {code:?}");
    ensure!((seq as usize) < talk.said.len(), "it missed nothing: this proved nothing");
    let back = Listener::start(&addr, &talk.visitor, seq).await?;
    back.is_shown(&talk.said, seq as usize, SOON).await.context("come back")?;
    talk.say("to both".to_owned()).await?;
    reader.is_shown(&talk.said, 0, SOON).await?;
    back.is_shown(&talk.said, seq as usize, SOON).await?;
    println!("{} messages; closed behind seq {seq}", talk.said.len());

    // One that never looks again: the node does not keep its connection for ever.
    let (port, own) = (deaf.port()?, port_of(&addr)?);
    let process = cluster.process(at).context("not running")?;
    let within = (UNTAKEN_MAX + KERNEL_TAKES).saturating_sub(closed_at.elapsed());
    let is_gone = async || (!process.callers_of(own).contains(&port)).then_some(());
    wait::until("the connection of who never reads is gone", within, is_gone).await?;
    println!("the connection that nobody reads is gone after {:?}", closed_at.elapsed());
    // The two who read have said nothing for a while, and may be let go of by now.
    let are_two = async || (cluster.figure(at, "chat_active_connections").await.ok()? <= 2.0).then_some(());
    wait::until("the gauge counts at most those who read", SOON, are_two).await
}

/// Sockets of a node that follow something.
async fn following(cluster: &Cluster, number: u64) -> anyhow::Result<usize> {
    let listed = cluster.sockets(number).await?;
    let sockets = listed["sockets"].as_array().with_context(|| listed.to_string())?;
    Ok(sockets.iter().filter(|socket| socket["sessions"].as_u64() != Some(0)).count())
}

fn port_of(addr: &str) -> anyhow::Result<u16> {
    Ok(addr.rsplit_once(':').context("no port")?.1.parse()?)
}
