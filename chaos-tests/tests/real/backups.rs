//! Owns the tests of backups: made under load, checked, damaged, restored into clusters of other sizes. Does not look into chunks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::invariants::{history, replicas};
use chaos_tests::workload::{PASSWORD, Shape, Workload};
use chaos_tests::{oracle, restored};
use node::client::{ChatClient, Config, http};
use proto::client::Party;

const TALK_WITHIN: Duration = Duration::from_secs(60);
const WHOLE_WITHIN: Duration = Duration::from_secs(90);
/// Long messages of one session, so that its shard has more than one chunk: no chunk is longer than 2 MiB.
const LONG_COUNT: usize = 300;
const LONG_BYTES: usize = 8_000;

fn shape() -> Shape {
    Shape { visitors: 40, agents: 4, answer_every: 3, close_after: 25, ..Shape::default() }
}

/// A visitor whose device sends the same numbered messages whenever it is asked to.
struct Repeater {
    session: proto::ids::SessionId,
    token: String,
    party: Party,
}

impl Repeater {
    async fn new(cluster: &Cluster) -> anyhow::Result<Repeater> {
        let new = http::create_visitor(&cluster.node(1).client, SITE).await?;
        Ok(Repeater { session: new.session, token: new.token, party: Party::Visitor(new.visitor) })
    }

    /// Sends message 1 to `count`, as if none had ever been acked. Returns their seqs, and how many were repetitions.
    async fn send(&self, cluster: &Cluster, count: usize) -> anyhow::Result<(Vec<u64>, usize)> {
        let config = Config {
            device: Some("the-same-device".into()),
            ..Config::new(cluster.clients_from(0), self.token.clone(), self.party)
        };
        let (client, items) = ChatClient::start(config);
        drop(items);
        let (mut seqs, mut repeated) = (Vec::new(), 0);
        for number in 1..=count {
            let text =
                format!("long {number} {}", char::from(b'a' + (number % 26) as u8).to_string().repeat(LONG_BYTES));
            let ack = tokio::time::timeout(TALK_WITHIN, client.send(self.session, text)).await;
            let ack = ack.with_context(|| format!("message {number} is not acked"))??;
            seqs.push(ack.seq);
            repeated += usize::from(ack.dup);
        }
        Ok((seqs, repeated))
    }
}

impl Repeater {
    /// Ends the conversation before there are agents: those of the talk answer only whom the talk knows.
    async fn close(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let config = Config::new(cluster.clients_from(0), self.token.clone(), self.party);
        let (client, items) = ChatClient::start(config);
        drop(items);
        tokio::time::timeout(TALK_WITHIN, client.close(self.session)).await.context("not closed")??;
        Ok(())
    }
}

/// What `backup create` printed: the id, chunks, and new ones.
struct Made {
    id: String,
    chunks: usize,
    new: usize,
}

async fn create(cluster: &Cluster, place: &str, flags: &[&str]) -> anyhow::Result<Made> {
    let args = [&["backup", "create", place], flags].concat();
    let text = cluster.command(&args, "").await?;
    println!("{}", text.trim());
    let before = |word: &str| -> anyhow::Result<usize> {
        let head = text.split(word).next().unwrap_or_default();
        Ok(head.trim_end().rsplit(' ').next().unwrap_or_default().parse()?)
    };
    let id = text.split(':').next().unwrap_or_default().to_owned();
    Ok(Made { id, chunks: before("chunks")?, new: before("of them new")? })
}

/// Changes one byte of the largest chunk, and returns the chunk's name.
fn damage_a_chunk(place: &Path) -> anyhow::Result<String> {
    let mut files = Vec::new();
    for folder in std::fs::read_dir(place.join("chunks"))? {
        for file in std::fs::read_dir(folder?.path())? {
            let path = file?.path();
            files.push((path.metadata()?.len(), path));
        }
    }
    let (len, path) = files.into_iter().max().context("no chunks")?;
    let mut bytes = std::fs::read(&path)?;
    bytes[len as usize / 2] ^= 1;
    std::fs::write(&path, bytes)?;
    Ok(path.file_stem().context("a name")?.to_string_lossy().into_owned())
}

/// A cluster out of a backup, grown to `nodes` nodes.
async fn restore(place: &str, id: &str, nodes: usize) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::empty(&[])?;
    let dir: PathBuf = cluster.dir().join("restored");
    let text = cluster.offline(&["backup", "restore", place, id, "--data-dir", &dir.display().to_string()], "").await?;
    println!("{}", text.trim());
    cluster.add_node(Some(dir))?;
    cluster.run(1).await?;
    for _ in 1..nodes {
        let number = cluster.add_node(None)?;
        cluster.run(number).await?;
    }
    restored::wait_whole(&cluster, WHOLE_WITHIN).await?;
    Ok(cluster)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_under_load_restores_to_one_node_and_to_five_with_every_acked_message_once() -> anyhow::Result<()>
{
    let cluster = Cluster::start(3).await?;
    let place = cluster.dir().join("backups").display().to_string();
    let repeater = Repeater::new(&cluster).await?;
    let (seqs, repeated) = repeater.send(&cluster, LONG_COUNT).await?;
    ensure!(repeated == 0, "a fresh device repeated something");
    repeater.close(&cluster).await?;
    let mut load = Workload::start(&cluster, &shape()).await?;
    load.talk(2_000, TALK_WITHIN).await?;
    let before = restored::acked(&load).await;
    let (made, talked) = tokio::join!(create(&cluster, &place, &[]), load.talk(500, TALK_WITHIN));
    let (made, ()) = (made?, talked?);
    load.talk(500, TALK_WITHIN).await?;
    load.stop().await?;
    let tally = oracle::check(&cluster, &load).await?;
    let heads = oracle::heads(&load).await;
    let old = oracle::histories(&cluster, 1, &load.visitors, &heads).await?;

    for nodes in [1, 5] {
        let new = restore(&place, &made.id, nodes).await?;
        let found = oracle::histories(&new, 1, &load.visitors, &Default::default()).await?;
        let beyond = restored::check_held(&found, &before)?;
        ensure!(beyond.is_empty(), "{} acks from before the backup are lost, e.g. {:?}", beyond.len(), beyond[0].seq);
        history::check_extends(&old, &found).context("the backup holds what never was")?;
        for number in 2..=nodes as u64 {
            let elsewhere = oracle::histories(&new, number, &load.visitors, &Default::default()).await?;
            ensure!(elsewhere == found, "node {number} has other histories than node 1");
        }
        let (again, repeated) = repeater.send(&new, LONG_COUNT).await?;
        ensure!(again == seqs && repeated == LONG_COUNT, "{repeated} of {LONG_COUNT} repetitions were known as such");
        restored::check_goes_on(&new, &found, &load.visitors, &load.agents, PASSWORD).await?;
        let mut talk = Workload::start(&new, &Shape { agents: 0, visitors: 20, ..shape() }).await?;
        talk.talk(500, TALK_WITHIN).await?;
        talk.stop().await?;
        oracle::check(&new, &talk).await?;
        replicas::check_same_state(&new).await?;
        let events: usize = found.values().map(Vec::len).sum();
        println!("{nodes} nodes: {events} of {} events, {} acks from before the backup", tally.events, before.len());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_backup_stores_little_and_a_damaged_chunk_is_named_refused_and_healed() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let (dir, place) = (cluster.dir().join("backups"), cluster.dir().join("backups").display().to_string());
    let repeater = Repeater::new(&cluster).await?;
    repeater.send(&cluster, LONG_COUNT).await?;
    let mut load = Workload::start(&cluster, &shape()).await?;
    load.talk(1_000, TALK_WITHIN).await?;
    load.stop().await?;
    let first = create(&cluster, &place, &[]).await?;
    // Each group has a chunk at least, and the repeater's shard two.
    let groups = cluster.status(1).await?.shards.len();
    ensure!(first.chunks > groups && first.new == first.chunks, "{} of {} chunks are new", first.new, first.chunks);
    // One more message, in one session.
    repeater.send(&cluster, LONG_COUNT + 1).await?;
    let second = create(&cluster, &place, &[]).await?;
    // Where chunks end depends on the ids, which are random. If its conversation was closed meanwhile, the message begins another: then
    // the desk's and an agent's shard change as well as the session's own. The chunks of all others stay whatever they are.
    let most = second.chunks - (groups - 3);
    ensure!((1..=most).contains(&second.new), "one message made {} of {} chunks new", second.new, second.chunks);
    let fine = cluster.offline(&["backup", "verify", &place], "").await?;
    ensure!(fine.contains("2 backups") && fine.contains("all as they were stored"), "{fine}");

    let chunk = damage_a_chunk(&dir)?;
    let told = cluster.offline(&["backup", "verify", &place], "").await.expect_err("a chunk is damaged");
    let told = format!("{told:#}");
    ensure!(told.contains(&chunk), "{told}");
    let hit = [&first.id, &second.id].into_iter().find(|id| told.contains(id.as_str())).context("whose chunk?")?;
    let target = cluster.dir().join("never").display().to_string();
    let restoring = cluster.offline(&["backup", "restore", &place, hit, "--data-dir", &target], "").await;
    let told = format!("{:#}", restoring.expect_err("a damaged chunk was restored"));
    ensure!(told.contains(&chunk), "{told}");
    ensure!(!Path::new(&target).join("identity").exists(), "a node could start from a restore that failed");

    let third = create(&cluster, &place, &["--full"]).await?;
    cluster.offline(&["backup", "verify", &place, &third.id], "").await.context("--full did not heal the place")?;
    let listed = cluster.offline(&["backup", "list", &place], "").await?;
    ensure!([&first.id, &second.id, &third.id].iter().all(|id| listed.contains(id.as_str())), "{listed}");
    cluster.offline(&["backup", "prune", &place, "--keep", "1"], "").await?;
    let left = cluster.offline(&["backup", "verify", &place], "").await?;
    ensure!(left.contains("1 backups"), "{left}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_goes_to_an_s3_compatible_store_and_back() -> anyhow::Result<()> {
    let Ok(place) = std::env::var("EVERDESK_TEST_S3") else {
        eprintln!("SKIPPED, proves nothing: `make s3` starts a store and runs this test");
        return Ok(());
    };
    let cluster = Cluster::start(1).await?;
    let repeater = Repeater::new(&cluster).await?;
    let (seqs, _) = repeater.send(&cluster, LONG_COUNT).await?;
    let first = create(&cluster, &place, &[]).await?;
    repeater.send(&cluster, LONG_COUNT + 1).await?;
    let second = create(&cluster, &place, &[]).await?;
    ensure!(first.new == first.chunks && second.new < second.chunks, "{} of {} are new", second.new, second.chunks);
    let fine = cluster.offline(&["backup", "verify", &place], "").await?;
    ensure!(fine.contains("2 backups"), "{fine}");
    let new = restore(&place, &first.id, 1).await?;
    let (again, repeated) = repeater.send(&new, LONG_COUNT).await?;
    ensure!(again == seqs && repeated == LONG_COUNT, "{repeated} of {LONG_COUNT} repetitions were known as such");
    cluster.offline(&["backup", "prune", &place, "--keep", "1"], "").await?;
    let left = cluster.offline(&["backup", "verify", &place], "").await?;
    ensure!(left.contains("1 backups"), "{left}");
    Ok(())
}
