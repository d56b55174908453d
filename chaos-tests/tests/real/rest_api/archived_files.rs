//! Owns the tests of files whose bytes went to the archive: they read as before, while leaders die; what is recalled or erased is gone from
//! the place; and a place that is away holds up nobody but who reads there. On real nodes.

use super::archive::{MOVED_WITHIN, files, marked, objects_of};
use super::attachments::{get, id_of, noise, png, uploaded};
use super::*;
use chaos_tests::http::header;
use chaos_tests::invariants::replicas::check_same_state;
use proto::act::Act;
use proto::ids::{AttachmentId, SessionId, VisitorId};
use std::path::{Path, PathBuf};

/// One visitor with an open conversation.
struct Talk {
    session: SessionId,
    visitor: VisitorId,
    token: String,
    person: Person,
}

struct Desk {
    cluster: Cluster,
    owner: String,
    ann: Person,
    dir: PathBuf,
}

/// What a node gave out.
#[derive(Debug, PartialEq)]
struct Given {
    headers: Vec<Option<String>>,
    body: Vec<u8>,
}

impl Desk {
    async fn start(nodes: usize, home: &Path) -> anyhow::Result<Desk> {
        let dir = marked(home.join("archive"))?;
        let place = dir.to_str().context("a path")?;
        let cluster = Cluster::start_with(nodes, &["--retention-day-s", "2", "--archive", place]).await?;
        let (_, owner) = person(&cluster, SITE, "olga", "owner").await?;
        person(&cluster, SITE, "ann", "agent").await?;
        let (_, ann) = Person::agent(&cluster, "ann", PASSWORD, 0).await?;
        Ok(Desk { cluster, owner, ann, dir })
    }

    async fn talk(&self, nth: usize) -> anyhow::Result<Talk> {
        let (new, person) = Person::visitor(&self.cluster, nth).await?;
        person.client.send(new.session, "hello").await?;
        self.ann.wait("it is ann's", |told| told.holder(new.session)).await?;
        Ok(Talk { session: new.session, visitor: new.visitor, token: new.token, person })
    }

    fn addr(&self, node: u64) -> &str {
        &self.cluster.node(node).client
    }

    async fn move_files_after(&self, hours: Value) -> anyhow::Result<()> {
        let body = json!({ "archive_files_after_hours": hours });
        let set = done_by_any(&self.cluster, &self.owner, "PUT", "/v1/settings", Some(body)).await?;
        ensure!(set["archive_files_after_hours"] == hours, "{set}");
        Ok(())
    }

    /// Uploads a file and has a message name it.
    async fn send(&self, talk: &Talk, name: &str, bytes: &[u8]) -> anyhow::Result<(AttachmentId, u64)> {
        let path = format!("/v1/attachments?name={name}");
        let id = id_of(&uploaded(self.addr(1), &talk.token, &path, "", bytes).await?)?;
        let ack = talk.person.client.send_files(talk.session, name, vec![id]).await?;
        Ok((id, ack.seq))
    }

    async fn given(&self, node: u64, path: &str) -> anyhow::Result<Given> {
        let answer = wait::until("it is read", SOON, async || {
            get(self.addr(node), &self.owner, path).await.ok().filter(|answer| answer.status != 503)
        });
        let answer = answer.await?;
        ensure!(answer.status == 200, "{path} at n{node}: {} {}", answer.status, answer.text());
        let names =
            ["content-type", "content-length", "content-disposition", "cache-control", "content-security-policy"];
        let headers = names.iter().map(|name| header(&answer.head, name).map(str::to_owned)).collect();
        Ok(Given { headers, body: answer.body })
    }

    /// So many files were moved by all nodes that were not restarted since.
    async fn until_moved(&self, files: f64) -> anyhow::Result<()> {
        let moved = wait::until("the files are moved", MOVED_WITHIN, async || {
            let mut sum = 0.0;
            for node in self.cluster.members() {
                sum += self.cluster.figure(node.number, "chat_archive_files_moved_total").await.ok()?;
            }
            (sum >= files).then_some(())
        });
        moved.await
    }

    async fn until_gone(&self, session: SessionId, left: usize) -> anyhow::Result<()> {
        let gone = async || (objects_of(&self.dir, session).len() == left).then_some(());
        wait::until("the objects are deleted", MOVED_WITHIN, gone).await
    }
}

#[tokio::test]
async fn files_in_the_archive_read_as_before_at_every_node_whoever_dies_and_are_recalled_and_erased_there()
-> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut desk = Desk::start(3, home.path()).await?;
    let (one, two) = (desk.talk(0).await?, desk.talk(1).await?);
    let large = noise(9, (3 << 20) + 4_321);
    let (image, _) = desk.send(&one, "image.png", &png(400, 300)).await?;
    let (dump, _) = desk.send(&one, "dump.bin", &large).await?;
    let (bill, _) = desk.send(&two, "bill.pdf", b"%PDF-1.4 a bill").await?;
    let paths = [
        format!("/v1/images/{}/{image}", one.session),
        format!("/v1/images/{}/{image}/thumbnail", one.session),
        format!("/v1/files/{}/{image}", one.session),
        format!("/v1/files/{}/{dump}", one.session),
        format!("/v1/files/{}/{bill}", two.session),
    ];
    let mut before = Vec::new();
    for path in &paths {
        before.push(desk.given(1, path).await?);
    }
    ensure!(before[3].body == large);
    ensure!(files(&desk.dir).len() == 1, "nobody has asked for that");
    desk.move_files_after(json!(0)).await?;
    desk.until_moved(3.0).await?;
    ensure!(objects_of(&desk.dir, one.session).len() == 3, "an image, its thumbnail, and a file");
    ensure!(objects_of(&desk.dir, two.session).len() == 1);
    for node in 1..=3 {
        for (path, before) in paths.iter().zip(&before) {
            ensure!(desk.given(node, path).await? == *before, "{path} at n{node} is not as before");
        }
    }
    // Its session is open; the next leader knows where the bytes are.
    let leader = desk.cluster.leader_of(one.session).await?;
    desk.cluster.kill(leader);
    let other = leader % 3 + 1;
    for (path, before) in paths.iter().zip(&before) {
        ensure!(desk.given(other, path).await? == *before, "{path} is not as before");
    }
    desk.cluster.restart(&[leader]).await?;
    // What is recalled is gone from the place, and the rest stays.
    let (wrong, seq) = desk.send(&one, "wrong.bin", &noise(5, 70_000)).await?;
    let there = wait::until("it is moved", MOVED_WITHIN, async || {
        (objects_of(&desk.dir, one.session).len() == 4).then_some(())
    });
    there.await?;
    one.person.client.act(one.session, Act::Recall { seq }).await?;
    desk.until_gone(one.session, 3).await?;
    let path = format!("/v1/files/{}/{wrong}", one.session);
    for node in 1..=3 {
        let status = get(desk.addr(node), &desk.owner, &path).await?.status;
        ensure!(status == 404, "it was taken back: {status}");
    }
    // So is what an erased visitor sent.
    desk.ann.client.close(two.session).await?;
    let erase = format!("/v1/visitors/{}", two.visitor);
    let erased = wait::until("the visitor is erased", SOON, async || {
        let answer = ask(desk.addr(2), &desk.owner, "DELETE", &erase, None).await.ok()?;
        (answer.status == 200).then_some(())
    });
    erased.await?;
    desk.until_gone(two.session, 0).await?;
    ensure!(get(desk.addr(3), &desk.owner, &paths[4]).await?.status == 404);
    ensure!(desk.given(other, &paths[3]).await? == before[3]);
    check_same_state(&desk.cluster).await
}

#[tokio::test]
async fn while_the_place_of_files_is_away_people_go_on_sending_some_and_its_readers_are_told() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let away = home.path().join("away");
    let mut desk = Desk::start(1, home.path()).await?;
    let talk = desk.talk(0).await?;
    let (first, _) = desk.send(&talk, "first.bin", &noise(1, 300_000)).await?;
    desk.move_files_after(json!(0)).await?;
    desk.until_moved(1.0).await?;
    std::fs::rename(&desk.dir, &away)?;
    // Nothing of it is in memory any more, and its rows are gone.
    desk.cluster.kill(1);
    desk.cluster.restart(&[1]).await?;
    let path = |id: AttachmentId| format!("/v1/files/{}/{id}", talk.session);
    let told = wait::until("it says so", SOON, async || {
        let answer = get(desk.addr(1), &desk.owner, &path(first)).await.ok()?;
        answer.text().contains("in the archive").then_some(answer.status)
    });
    ensure!(told.await? == 503);
    let (second, _) = desk.send(&talk, "second.bin", &noise(2, 300_000)).await?;
    desk.ann.client.send(talk.session, "got it").await?;
    ensure!(desk.given(1, &path(second)).await?.body == noise(2, 300_000), "it is in the shard");
    // What the node finds in its place is not the archive.
    ensure!(files(&desk.dir).is_empty());
    drop(std::fs::remove_dir_all(&desk.dir));
    std::fs::rename(&away, &desk.dir)?;
    let all = wait::until("the second one is moved, too", MOVED_WITHIN, async || {
        (objects_of(&desk.dir, talk.session).len() == 2).then_some(())
    });
    all.await?;
    desk.until_moved(1.0).await?;
    for (id, seed) in [(first, 1), (second, 2)] {
        ensure!(desk.given(1, &path(id)).await?.body == noise(seed, 300_000));
    }
    // Told to stop, what comes next stays in the shard, and what was moved is still read.
    desk.move_files_after(Value::Null).await?;
    let (third, _) = desk.send(&talk, "third.bin", b"three").await?;
    ensure!(desk.given(1, &path(third)).await?.body == b"three");
    ensure!(desk.given(1, &path(first)).await?.body == noise(1, 300_000));
    Ok(())
}
