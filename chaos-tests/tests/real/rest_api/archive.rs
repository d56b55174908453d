//! Owns the tests of the archive: what was moved there reads as before, while leaders die; what is erased is gone from the place; and a place
//! that is away holds up nobody who talks. On real nodes.

use super::*;
use proto::client::HistoryFrom;
use proto::ids::{SessionId, VisitorId};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The day of the archive, in seconds.
const DAY_S: u64 = 2;
/// Closed conversations: over so many every shard has one.
const TALKS: usize = 10;
/// Of a file.
const FILE: &[u8] = b"\x00 neither text nor an image";
/// Rounds of the archive begin when they like.
pub(super) const MOVED_WITHIN: Duration = Duration::from_secs(120);

/// A site whose conversations have ended, but for one.
struct Desk {
    cluster: Cluster,
    owner: String,
    ann: Person,
    anns: String,
    talks: Vec<(SessionId, VisitorId, Person)>,
}

impl Desk {
    async fn start(place: &str) -> anyhow::Result<Desk> {
        Self::start_of(3, place).await
    }

    async fn start_of(nodes: usize, place: &str) -> anyhow::Result<Desk> {
        let day = DAY_S.to_string();
        let cluster = Cluster::start_with(nodes, &["--retention-day-s", &day, "--archive", place]).await?;
        let (_, owner) = person(&cluster, SITE, "olga", "owner").await?;
        let (_, anns) = person(&cluster, SITE, "ann", "agent").await?;
        let (_, ann) = Person::agent(&cluster, "ann", PASSWORD, 1 % nodes).await?;
        let mut desk = Desk { cluster, owner, ann, anns, talks: Vec::new() };
        for nth in 0..=TALKS {
            let talk = desk.talk(nth).await?;
            desk.talks.push(talk);
        }
        for (session, ..) in &desk.talks[..TALKS] {
            desk.ann.client.close(*session).await?;
        }
        Ok(desk)
    }

    async fn talk(&self, nth: usize) -> anyhow::Result<(SessionId, VisitorId, Person)> {
        let (new, visitor) = Person::visitor(&self.cluster, nth % self.cluster.members().count()).await?;
        visitor.client.send(new.session, format!("我想申请退款，订单号是 secret{nth}")).await?;
        self.ann.wait("it is ann's", |told| told.holder(new.session)).await?;
        for n in 0..6 {
            self.ann.client.send(new.session, format!("您好，订单 {n} 正在处理，请稍等。One moment, please.")).await?;
            visitor.client.send(new.session, format!("Thank you, and where is parcel {n} of secret{nth}?")).await?;
        }
        Ok((new.session, new.visitor, visitor))
    }

    /// What one node gives out of a session; `None`: it cannot just now.
    async fn read(&self, node: u64, nth: usize) -> anyhow::Result<Option<Vec<String>>> {
        let (session, visitor, _) = &self.talks[nth];
        let mut all = Vec::new();
        for path in [
            format!("/v1/conversations/{session}/events?limit=200"),
            format!("/v1/conversations/{session}/transcript?notes=true"),
            format!("/v1/visitors/{visitor}/export"),
            format!("/v1/search?q=secret{nth}"),
        ] {
            let answer = ask(&self.cluster.node(node).client, &self.owner, "GET", &path, None).await?;
            match answer.status {
                // How far the index is behind is another thing each time.
                200 if path.contains("search") => all.push(json_of(&answer)?["hits"].to_string()),
                200 => all.push(String::from_utf8_lossy(&answer.body).into_owned()),
                503 => return Ok(None),
                other => anyhow::bail!("{path}: {other} {}", answer.text()),
            }
        }
        Ok(Some(all))
    }

    /// The same at every node.
    async fn read_everywhere(&self, nth: usize) -> anyhow::Result<Vec<String>> {
        let seven_hits = |all: &Vec<String>| all[3].matches("\"seq\"").count() == 7;
        let mut known: Option<Vec<String>> = None;
        for node in 1..=3 {
            let read = wait::until("all is found", MOVED_WITHIN, async || {
                self.read(node, nth).await.ok().flatten().filter(seven_hits)
            });
            let read = read.await.with_context(|| format!("session {nth} at node {node}"))?;
            ensure!(known.as_ref().is_none_or(|known| *known == read), "node {node} says {read:?}, not {known:?}");
            known = Some(read);
        }
        known.context("there are nodes")
    }

    /// Sends a file in an open conversation, to be moved at once; where it is read.
    async fn send_file(&self, nth: usize) -> anyhow::Result<String> {
        let session = self.talks[nth].0;
        let path = format!("/v1/conversations/{session}/attachments?name=a.bin");
        let told = super::attachments::uploaded(&self.cluster.node(1).client, &self.anns, &path, "", FILE).await?;
        let id = super::attachments::id_of(&told)?;
        self.ann.client.send_files(session, "a file", vec![id]).await?;
        let body = json!({ "archive_files_after_hours": 0 });
        done_by_any(&self.cluster, &self.owner, "PUT", "/v1/settings", Some(body)).await?;
        Ok(format!("/v1/files/{session}/{id}"))
    }

    async fn archive_after(&self, days: u32) -> anyhow::Result<()> {
        let body = json!({ "archive_after_days": days });
        let set = wait::until("it is set", SOON, async || {
            let answer =
                ask(&self.cluster.node(1).client, &self.owner, "PUT", "/v1/settings", Some(&body)).await.ok()?;
            (answer.status == 200).then(|| json_of(&answer).ok()).flatten()
        });
        ensure!(set.await?["archive_after_days"] == days);
        Ok(())
    }
}

/// The objects of a session below a directory.
pub(super) fn objects_of(dir: &Path, session: SessionId) -> Vec<PathBuf> {
    files(dir).into_iter().filter(|path| path.to_string_lossy().contains(&session.to_string())).collect()
}

pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() && entry.file_name() != ".incoming" => found.extend(files(&path)),
            path if path.is_file() => found.push(path),
            _ => {}
        }
    }
    found
}

async fn until_moved(dir: &Path, sessions: &[SessionId]) -> anyhow::Result<()> {
    let all = async || sessions.iter().all(|session| !objects_of(dir, *session).is_empty()).then_some(());
    wait::until("all are moved", MOVED_WITHIN, all).await
}

/// As its operator makes a directory the archive.
pub(super) fn marked(dir: PathBuf) -> anyhow::Result<PathBuf> {
    std::fs::create_dir(&dir)?;
    std::fs::write(dir.join("everdesk-archive"), "")?;
    Ok(dir)
}

#[tokio::test]
async fn what_was_moved_to_the_archive_reads_as_before_at_every_node_whoever_dies_and_is_erased_there()
-> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let dir = marked(home.path().join("archive"))?;
    let mut desk = Desk::start(dir.to_str().context("a path")?).await?;
    let sessions: Vec<SessionId> = desk.talks[..TALKS].iter().map(|(session, ..)| *session).collect();
    let mut before = Vec::new();
    for nth in 0..TALKS {
        before.push(desk.read_everywhere(nth).await?);
    }
    desk.archive_after(1).await?;
    // Leaders die while it goes on.
    for nth in [0, 3, 6] {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let leader = desk.cluster.leader_of(sessions[nth]).await.unwrap_or(2);
        desk.cluster.kill(leader);
        desk.cluster.restart(&[leader]).await?;
    }
    until_moved(&dir, &sessions).await?;
    ensure!(objects_of(&dir, desk.talks[TALKS].0).is_empty(), "one is open");
    for (nth, before) in before.iter().enumerate() {
        let now = desk.read_everywhere(nth).await?;
        ensure!(now == *before, "session {nth}: {now:?}, not {before:?}");
    }
    // Nothing lies about that nobody names: a range, and what is left of a move that was broken off, is one object.
    let one_each = wait::until("what is left over goes", MOVED_WITHIN, async || {
        sessions.iter().all(|session| objects_of(&dir, *session).len() == 1).then_some(())
    });
    one_each.await?;

    // An erased visitor is gone from the place, too.
    let (erased, visitor, _) = &desk.talks[2];
    let gone = wait::until("it is erased", SOON, async || {
        let path = format!("/v1/visitors/{visitor}");
        let answer = ask(&desk.cluster.node(3).client, &desk.owner, "DELETE", &path, None).await.ok()?;
        (answer.status == 200).then_some(())
    });
    gone.await?;
    let empty = async || objects_of(&dir, *erased).is_empty().then_some(());
    wait::until("its object is deleted", MOVED_WITHIN, empty).await?;
    let path = format!("/v1/conversations/{erased}/events?limit=200");
    let answer = ask(&desk.cluster.node(1).client, &desk.owner, "GET", &path, None).await?;
    ensure!(answer.status == 200 && !answer.text().contains("secret2"), "{}", answer.text());

    // A visitor comes back, and goes on where it ended.
    let (session, _, visitor) = &desk.talks[4];
    visitor.client.send(*session, "back again").await?;
    let seen = visitor.client.history(*session, HistoryFrom::After(0), None).await?;
    ensure!(seen.events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "no gap: {seen:?}");
    ensure!(format!("{seen:?}").contains("parcel 5 of secret4"), "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn while_the_archive_is_away_people_talk_and_its_readers_are_told_and_erasure_follows_later() -> anyhow::Result<()>
{
    let home = tempfile::tempdir()?;
    let (dir, away) = (marked(home.path().join("archive"))?, home.path().join("away"));
    let mut desk = Desk::start(dir.to_str().context("a path")?).await?;
    let sessions: Vec<SessionId> = desk.talks[..TALKS].iter().map(|(session, ..)| *session).collect();
    let before = desk.read_everywhere(1).await?;
    desk.archive_after(1).await?;
    until_moved(&dir, &sessions).await?;
    // Nobody has read the objects since the nodes were started: no memory helps them.
    wait::until("they are named", MOVED_WITHIN, async || {
        desk.read(1, 1).await.ok().flatten().filter(|now| *now == before)
    })
    .await?;
    std::fs::rename(&dir, &away)?;
    for node in 1..=3 {
        desk.cluster.kill(node);
        desk.cluster.restart(&[node]).await?;
    }
    let path = format!("/v1/conversations/{}/events?limit=200", sessions[1]);
    for node in 1..=3 {
        let told = wait::until("it says so", SOON, async || {
            let answer = ask(&desk.cluster.node(node).client, &desk.owner, "GET", &path, None).await.ok()?;
            answer.text().contains("in the archive").then_some(answer.status)
        });
        ensure!(told.await? == 503);
    }
    // Who talks does not hear of it, neither in an open conversation nor in one that is in the archive.
    let (open, _, visitor) = &desk.talks[TALKS];
    visitor.client.send(*open, "still here").await?;
    desk.ann.client.send(*open, "so am I").await?;
    let (old, _, visitor) = &desk.talks[3];
    visitor.client.send(*old, "back again").await?;
    // Erasure needs no look at the objects; they follow when the place is back.
    let (erased, of_it, _) = &desk.talks[1];
    let gone = wait::until("it is erased", SOON, async || {
        let path = format!("/v1/visitors/{of_it}");
        let answer = ask(&desk.cluster.node(2).client, &desk.owner, "DELETE", &path, None).await.ok()?;
        (answer.status == 200).then_some(())
    });
    gone.await?;
    ensure!(!objects_of(&away, *erased).is_empty());
    // What the nodes find in its place is not the archive.
    drop(std::fs::remove_dir_all(&dir));
    std::fs::rename(&away, &dir)?;
    let empty = async || objects_of(&dir, *erased).is_empty().then_some(());
    wait::until("its object is deleted", MOVED_WITHIN, empty).await?;
    let read = wait::until("the others are read again", MOVED_WITHIN, async || desk.read(3, 5).await.ok().flatten());
    ensure!(read.await?[0].contains("parcel 5 of secret5"));
    Ok(())
}

#[tokio::test]
async fn a_lost_object_holds_up_neither_the_search_nor_the_readers_of_others() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let dir = marked(home.path().join("archive"))?;
    let mut desk = Desk::start_of(1, dir.to_str().context("a path")?).await?;
    let sessions: Vec<SessionId> = desk.talks[..TALKS].iter().map(|(session, ..)| *session).collect();
    desk.archive_after(1).await?;
    until_moved(&dir, &sessions).await?;
    let one_each = wait::until("all are named", MOVED_WITHIN, async || {
        sessions.iter().all(|session| objects_of(&dir, *session).len() == 1).then_some(())
    });
    one_each.await?;
    // With its index, a node loses what it knew of the words.
    desk.cluster.kill(1);
    for object in objects_of(&dir, sessions[2]) {
        std::fs::remove_file(object)?;
    }
    std::fs::remove_dir_all(desk.cluster.node(1).data_dir.join("search"))?;
    desk.cluster.restart(&[1]).await?;
    for nth in [0, 1, 3, TALKS - 1] {
        let found = wait::until("it is found again", MOVED_WITHIN, async || {
            desk.read(1, nth).await.ok().flatten().filter(|read| read[3].matches("\"seq\"").count() == 7)
        });
        found.await.with_context(|| format!("session {nth}"))?;
    }
    let at = &desk.cluster.node(1).client;
    let hits = ask(at, &desk.owner, "GET", "/v1/search?q=secret2", None).await?;
    ensure!(hits.status == 200 && json_of(&hits)?["hits"].as_array().is_some_and(Vec::is_empty), "{}", hits.text());
    let path = format!("/v1/conversations/{}/events?limit=200", sessions[2]);
    ensure!(ask(at, &desk.owner, "GET", &path, None).await?.status == 503, "people are told that it is away");
    ensure!(desk.cluster.figure(1, "chat_archive_lost_total").await? == 1.0, "it is told once");
    Ok(())
}

/// Names of all objects of a store that asks for no signature.
async fn stored() -> anyhow::Result<String> {
    let endpoint = std::env::var("AWS_ENDPOINT_URL").context("where the store is")?;
    let addr = endpoint.trim_start_matches("http://");
    Ok(ask(addr, "", "GET", "/desk?list-type=2&prefix=archive/", None).await?.text())
}

#[tokio::test]
async fn old_conversations_and_files_go_to_an_s3_compatible_store_and_are_read_and_erased_there() -> anyhow::Result<()>
{
    if std::env::var("EVERDESK_TEST_S3").is_err() {
        eprintln!("SKIPPED, proves nothing: `make s3` starts a store and runs this test");
        return Ok(());
    }
    let mut desk = Desk::start("s3://desk/archive").await?;
    let sessions: Vec<SessionId> = desk.talks[..TALKS].iter().map(|(session, ..)| *session).collect();
    let before = desk.read_everywhere(6).await?;
    let file = desk.send_file(TALKS).await?;
    desk.archive_after(1).await?;
    let all = async || {
        let names = stored().await.ok()?;
        let has = |session: SessionId| names.contains(&session.to_string());
        (sessions.iter().all(|session| has(*session)) && has(desk.talks[TALKS].0)).then_some(())
    };
    wait::until("all are in the store", MOVED_WITHIN, all).await?;
    for node in 1..=3 {
        desk.cluster.kill(node);
        desk.cluster.restart(&[node]).await?;
    }
    ensure!(desk.read_everywhere(6).await? == before);
    for node in 1..=3 {
        let read = wait::until("the file is read", SOON, async || {
            super::attachments::get(&desk.cluster.node(node).client, &desk.anns, &file).await.ok()
        });
        let read = read.await?;
        ensure!(read.status == 200 && read.body == FILE, "{}", read.status);
    }
    let (erased, visitor, _) = &desk.talks[6];
    let gone = wait::until("it is erased", SOON, async || {
        let path = format!("/v1/visitors/{visitor}");
        let answer = ask(&desk.cluster.node(3).client, &desk.owner, "DELETE", &path, None).await.ok()?;
        (answer.status == 200).then_some(())
    });
    gone.await?;
    let empty = async || (!stored().await.ok()?.contains(&erased.to_string())).then_some(());
    wait::until("its object is deleted", MOVED_WITHIN, empty).await
}
