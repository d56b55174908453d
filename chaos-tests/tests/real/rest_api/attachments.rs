//! Owns the tests of files that go with messages, on real nodes of which some die: what was answered for is there, byte for byte, at every
//! node, and only for those whose it is.

use super::*;
use chaos_tests::http::{Connection, header};
use chaos_tests::invariants::replicas::check_same_state;
use node::client::Config;
use proto::act::Act;
use proto::client::{Attachment, EventKind, Party};
use proto::command::Target;
use proto::ids::{AttachmentId, SessionId};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const HTML: &[u8] = b"<!doctype html><script>alert(document.cookie)</script>";

/// Bytes that no compression makes smaller, and that are no known form.
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// A grey PNG that says where it was taken.
pub(super) fn png(width: u32, height: u32) -> Vec<u8> {
    let part = |kind: &[u8], body: &[u8]| {
        let both = [kind, body].concat();
        [&(body.len() as u32).to_be_bytes()[..], &both, &crc32(&both).to_be_bytes()].concat()
    };
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    let row: Vec<u8> = std::iter::once(0).chain((0..width).map(|x| (x % 251) as u8)).collect();
    let pixels = row.repeat(height as usize);
    let mut packed = vec![0x78, 1];
    let blocks: Vec<&[u8]> = pixels.chunks(0xffff).collect();
    for (at, block) in blocks.iter().enumerate() {
        let len = block.len() as u16;
        packed.push(u8::from(at + 1 == blocks.len()));
        packed.extend([len.to_le_bytes(), (!len).to_le_bytes()].concat());
        packed.extend(*block);
    }
    let (a, b) = pixels.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (a + b) % 65_521)
    });
    packed.extend((b << 16 | a).to_be_bytes());
    let place = part(b"tEXt", b"Comment\0taken at 52.52N 13.40E");
    [b"\x89PNG\r\n\x1a\n", &part(b"IHDR", &head)[..], &place, &part(b"IDAT", &packed), &part(b"IEND", b"")].concat()
}

pub(super) async fn get(addr: &str, token: &str, path: &str) -> anyhow::Result<Answer> {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("Connection", "close")];
    if !token.is_empty() {
        headers.push(("Authorization", &bearer));
    }
    Connection::open(addr).await?.request("GET", path, &headers, b"").await
}

async fn upload(addr: &str, token: &str, path: &str, key: &str, bytes: &[u8]) -> anyhow::Result<Answer> {
    let bearer = format!("Bearer {token}");
    // Whatever it says it is.
    let mut headers = vec![("Connection", "close"), ("Authorization", &bearer), ("Content-Type", "image/png")];
    if !key.is_empty() {
        headers.push(("Idempotency-Key", key));
    }
    Connection::open(addr).await?.request("POST", path, &headers, bytes).await
}

/// What becomes of a visitor's small file of that name.
pub(super) async fn upload_status(cluster: &Cluster, token: &str, name: &str) -> anyhow::Result<u16> {
    let path = format!("/v1/attachments?name={}", name.replace(' ', "%20"));
    let addr = &cluster.node(1).client;
    let answered = wait::until("the upload is answered", SOON, async || {
        let status = upload(addr, token, &path, "", b"some text").await.ok()?.status;
        (status != 503).then_some(status)
    });
    answered.await
}

/// Until a node answers, whoever leads by then.
pub(super) async fn uploaded(addr: &str, token: &str, path: &str, key: &str, bytes: &[u8]) -> anyhow::Result<Value> {
    let done = wait::until("the upload is answered", Duration::from_secs(60), async || {
        upload(addr, token, path, key, bytes).await.ok().filter(|answer| answer.status != 503)
    });
    let answer = done.await?;
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
    json_of(&answer)
}

pub(super) fn id_of(told: &Value) -> anyhow::Result<AttachmentId> {
    told["id"].as_str().and_then(|id| id.parse().ok()).with_context(|| format!("no id in {told}"))
}

/// A visitor and ann, who has the conversation.
struct Talk {
    cluster: Cluster,
    session: SessionId,
    visitors: String,
    visitor: Person,
    /// The visitor's other window, at the same node.
    window: Person,
    anns: String,
    at_desk: Person,
}

impl Talk {
    async fn start() -> anyhow::Result<Talk> {
        let cluster = Cluster::start(3).await?;
        let (ann, anns) = person(&cluster, SITE, "ann", "agent").await?;
        let (_, at_desk) = Person::agent(&cluster, "ann", PASSWORD, 1).await?;
        let (new, visitor) = Person::visitor(&cluster, 2).await?;
        let session = new.session;
        let nodes = cluster.clients_from(2);
        let window = Person::start(Config::new(nodes, new.token.clone(), Party::Visitor(new.visitor)));
        visitor.client.send(session, "something is broken").await?;
        at_desk.wait("it is ann's", |told| (told.holder(session) == Some(ann)).then_some(())).await?;
        Ok(Talk { cluster, session, visitors: new.token, visitor, window, anns, at_desk })
    }

    fn addr(&self, node: u64) -> &str {
        &self.cluster.node(node).client
    }

    async fn shard(&self) -> anyhow::Result<u64> {
        let shards = self.cluster.overview().await?.data_shards().count() as u32;
        Ok(u64::from(Target::Session(self.session).shard(shards).0))
    }

    async fn leader(&self) -> anyhow::Result<u64> {
        let path = format!("/admin/v1/shards/g{}", self.shard().await?);
        let view = operate(&self.cluster, "GET", &path, &json!({})).await?;
        Ok(view["leader"].as_str().context("no leader")?.trim_start_matches('n').parse()?)
    }

    /// The leader dies while pieces of a large file are on their way; the answer comes all the same, and again under the same key.
    async fn large_file_while_the_leader_dies(&mut self, bytes: &[u8]) -> anyhow::Result<Value> {
        let (leader, shard) = (self.leader().await?, self.shard().await?);
        let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
        let (addr, again_at) = (self.addr(others[0]).to_owned(), self.addr(others[1]).to_owned());
        let (token, path) = (self.visitors.clone(), "/v1/attachments?name=dump.bin");
        let first = self.applied(leader, shard).await?;
        let death = async {
            let some = wait::until("some pieces are there", SOON, async || {
                self.applied(leader, shard).await.ok().filter(|applied| *applied > first + 7)
            });
            let applied = some.await?;
            self.cluster.kill(leader);
            anyhow::Ok(applied - first)
        };
        let (told, pieces) = tokio::join!(uploaded(&addr, &token, path, "k-large", bytes), death);
        let (told, pieces) = (told?, pieces?);
        ensure!(pieces <= bytes.len() as u64 >> 18, "the last piece was there before the leader died");
        println!("n{leader} died after {pieces} of {} commands", bytes.len() / (256 << 10) + 2);
        self.cluster.restart(&[leader]).await?;
        let again = uploaded(&again_at, &token, path, "k-large", bytes).await?;
        ensure!(again["id"] == told["id"], "{again} {told}");
        let other = upload(&again_at, &token, path, "k-large", b"another file").await?;
        ensure!(other.status == 422 && other.text().contains("key-reused"), "{}", other.text());
        Ok(told)
    }

    /// What a node's replica has applied.
    async fn applied(&self, node: u64, shard: u64) -> anyhow::Result<u64> {
        let status = self.cluster.status(node).await?;
        let found = status.data_shards().find(|found| found.shard == shard).and_then(|found| found.applied);
        found.context("no such shard")
    }

    /// Everybody who may, by every way, at every node.
    async fn reads(&self, file: &Attachment<'_>, path: &str, expected: &[u8]) -> anyhow::Result<()> {
        for node in 1..=3 {
            for (token, path) in [(&self.visitors, path), (&self.anns, path), (&String::new(), &*file.url)] {
                let answer = wait::until("it is read", SOON, async || {
                    get(self.addr(node), token, path).await.ok().filter(|answer| answer.status != 503)
                });
                let answer = answer.await?;
                ensure!(answer.status == 200, "{path} at n{node}: {} {}", answer.status, answer.text());
                ensure!(answer.body == expected, "{path} at n{node}: {} bytes differ", answer.body.len());
                let is = |name: &str, value: &str| header(&answer.head, name).is_some_and(|found| found == value);
                ensure!(is("x-content-type-options", "nosniff"), "{}", answer.head);
                ensure!(is("content-security-policy", "sandbox; default-src 'none'"), "{}", answer.head);
                let disposition = header(&answer.head, "content-disposition").unwrap_or_default().to_owned();
                if path.starts_with("/v1/files/") {
                    ensure!(disposition.starts_with("attachment; "), "{}", answer.head);
                    ensure!(is("content-type", "application/octet-stream"), "{}", answer.head);
                } else {
                    ensure!(disposition.starts_with("inline; ") && is("content-type", "image/png"), "{}", answer.head);
                }
            }
        }
        Ok(())
    }
}

/// The files of the message with that text, once this client is told of it.
async fn files_of(person: &Person, said: &str) -> anyhow::Result<Vec<Attachment<'static>>> {
    let heard = person.wait("the message is told", |told| {
        told.events.iter().find_map(|event| match &event.kind {
            EventKind::Message { attachments, text, .. } if text == said => Some(attachments.clone()),
            _ => None,
        })
    });
    heard.await
}

async fn status(addr: &str, token: &str, path: &str) -> anyhow::Result<u16> {
    Ok(get(addr, token, path).await?.status)
}

#[tokio::test]
async fn files_that_were_answered_for_are_read_back_from_every_node_whoever_dies() -> anyhow::Result<()> {
    let mut talk = Talk::start().await?;
    let (session, large) = (talk.session, noise(7, 9 << 20));
    let sent = png(400, 300);
    let image =
        uploaded(talk.addr(1), &talk.visitors, "/v1/attachments?name=broken%20%F0%9F%98%80.png", "", &sent).await?;
    ensure!(image["type"] == "image/png" && image["width"] == 400 && image["name"] == "broken 😀.png", "{image}");
    let html = uploaded(talk.addr(2), &talk.visitors, "/v1/attachments?name=..%2Fevil.html", "", HTML).await?;
    ensure!(html["type"] == "text/html" && html["name"] == "evil.html" && html["width"].is_null(), "{html}");
    let kept = talk.large_file_while_the_leader_dies(&large).await?;
    let ids = [id_of(&image)?, id_of(&html)?, id_of(&kept)?];
    let ack = talk.visitor.client.send_files(session, "", ids.to_vec()).await?;
    let leader = talk.leader().await?;
    talk.cluster.kill(leader);
    let files = talk.at_desk.wait("ann sees the files", |told| {
        told.events.iter().find_map(|event| match &event.kind {
            EventKind::Message { attachments, text, .. } if event.seq == ack.seq && text.is_empty() => {
                Some(attachments.clone())
            }
            _ => None,
        })
    });
    let files = files.await?;
    ensure!(files.iter().map(|file| file.id).collect::<Vec<_>>() == ids, "{files:?}");
    talk.cluster.restart(&[leader]).await?;
    let at = |kind: &str, id: AttachmentId| format!("/v1/{kind}/{session}/{id}");
    let shown = get(talk.addr(1), &talk.anns, &at("images", ids[0])).await?.body;
    ensure!(shown.starts_with(b"\x89PNG") && shown != sent, "it was made anew");
    ensure!(!shown.windows(5).any(|part| part == b"52.52"), "where it was taken is nobody's to know");
    talk.reads(&files[0], &at("images", ids[0]), &shown).await?;
    talk.reads(&files[1], &at("files", ids[1]), HTML).await?;
    talk.reads(&files[2], &at("files", ids[2]), &large).await?;
    let small = get(talk.addr(3), "", files[0].thumbnail.as_deref().context("no thumbnail")?).await?;
    ensure!(small.status == 200 && header(&small.head, "content-type") == Some("image/png"), "{}", small.head);
    ensure!(status(talk.addr(1), &talk.anns, &at("images", ids[1])).await? == 404, "HTML is no image");
    ensure!(talk.visitor.client.send_files(session, "again", vec![ids[1]]).await.is_err(), "it was sent before");
    talk.visitor.client.act(session, Act::Recall { seq: ack.seq }).await?;
    for node in 1..=3 {
        ensure!(status(talk.addr(node), &talk.anns, &at("files", ids[2])).await? == 404, "it was taken back");
        ensure!(status(talk.addr(node), "", &files[2].url).await? == 401, "so was its address");
    }
    check_same_state(&talk.cluster).await
}

#[tokio::test]
async fn files_are_only_for_those_of_their_session_and_site() -> anyhow::Result<()> {
    let talk = Talk::start().await?;
    let (addr, session) = (talk.addr(1).to_owned(), talk.session);
    let told = uploaded(&addr, &talk.visitors, "/v1/attachments?name=a.txt", "", b"for ann only").await?;
    let of_ann = format!("/v1/conversations/{session}/attachments?name=b.txt");
    let hers = uploaded(&addr, &talk.anns, &of_ann, "", b"not sent yet").await?;
    let (id, not_sent) = (id_of(&told)?, id_of(&hers)?);
    let path = |id: AttachmentId| format!("/v1/files/{session}/{id}");
    ensure!(get(&addr, &talk.anns, &path(id)).await?.body == b"for ann only");
    ensure!(status(&addr, &talk.visitors, &path(not_sent)).await? == 404, "ann has not sent it yet");
    // Another visitor, and another tenant with everything that it can have.
    let (other, _there) = Person::visitor(&talk.cluster, 0).await?;
    operate(&talk.cluster, "POST", "/admin/v1/sites", &json!({ "name": "shop" })).await?;
    let (_, eve) = person(&talk.cluster, "shop", "eve", "owner").await?;
    let all = key(&addr, &eve, "all", &["conversations:read", "conversations:write"]).await?;
    for (who, token) in [("a visitor", &other.token), ("an owner elsewhere", &eve), ("a key elsewhere", &all)] {
        ensure!(status(&addr, token, &path(id)).await? == 404, "{who}");
        let there = upload(&addr, token, &of_ann, "", b"x").await?;
        ensure!(there.status == if who == "a visitor" { 401 } else { 404 }, "{who}: {}", there.text());
    }
    let own = format!("/v1/files/{}/{id}", other.session);
    ensure!(status(&addr, &other.token, &own).await? == 404, "it is in no other session");
    for token in ["", "v1.x.y", "key.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        ensure!(status(&addr, token, &path(id)).await? == 401, "{token}");
        ensure!(upload(&addr, token, "/v1/attachments", "", b"x").await?.status == 401, "{token}");
    }
    // An address is good as it was told, and in no other way.
    let url = told["url"].as_str().context("no address")?;
    ensure!(status(&addr, "", url).await? == 200);
    let unknown = url.replace(&id.to_string(), &not_sent.to_string());
    for wrong in [unknown, url.replace("sign=", "sign=0"), url.replace("until=1", "until=2"), path(id)] {
        ensure!(status(&addr, "", &wrong).await? == 401, "{wrong}");
    }
    ensure!(status(&addr, &talk.anns, &path(AttachmentId(5))).await? == 404);
    let wrong = talk.visitor.client.send_files(session, "", vec![not_sent]).await;
    ensure!(wrong.is_err(), "a visitor cannot send what ann uploaded");
    let large = upload(&addr, &talk.visitors, "/v1/attachments", "", &vec![0; (10 << 20) + 1]).await?;
    ensure!(large.status == 413, "{}", large.text());
    ensure!(upload(&addr, &talk.visitors, "/v1/attachments", "", b"").await?.status == 400);
    // By the API, with a text.
    let events = format!("/v1/conversations/{session}/events");
    let said =
        ask(&addr, &talk.anns, "POST", &events, Some(&json!({ "text": "here", "attachments": [not_sent] }))).await?;
    ensure!(said.status == 200, "{}", said.text());
    let heard = files_of(&talk.visitor, "here").await?;
    ensure!(heard.len() == 1 && heard[0].name == "b.txt" && heard[0].media == "text/plain", "{heard:?}");
    ensure!(get(&addr, &talk.visitors, &path(not_sent)).await?.body == b"not sent yet");
    // The node of the author's other window learns of the files from the history.
    talk.visitor.client.send_files(session, "for both windows", vec![id]).await?;
    for window in [&talk.window, &talk.at_desk] {
        let files = files_of(window, "for both windows").await?;
        ensure!(files.len() == 1 && files[0].id == id && files[0].name == "a.txt", "{files:?}");
        ensure!(get(&addr, "", &files[0].url).await?.body == b"for ann only");
    }
    let transcript = get(&addr, &talk.anns, &format!("/v1/conversations/{session}/transcript")).await?;
    ensure!(transcript.text().contains("[b.txt]"), "{}", transcript.text());
    Ok(())
}

#[tokio::test]
async fn a_node_takes_so_many_uploads_at_once_and_says_when_to_come_again() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let addr = cluster.node(1).client.clone();
    let visitor = http::create_visitor(&addr, SITE).await?;
    let head = format!(
        "POST /v1/attachments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 9\r\n\r\nhalf",
        visitor.token
    );
    let mut slow = Vec::new();
    // More than there is room for: the question below may come before some of them, and take a place for a moment.
    for _ in 0..16 {
        let mut stream = TcpStream::connect(&addr).await?;
        stream.write_all(head.as_bytes()).await?;
        slow.push(stream);
    }
    let refused = wait::until("there is no room", SOON, async || {
        let answer = upload(&addr, &visitor.token, "/v1/attachments", "", b"one more").await.ok()?;
        (answer.status == 503).then_some(answer)
    });
    let refused = refused.await?;
    ensure!(header(&refused.head, "retry-after") == Some("2"), "{}", refused.head);
    // Those that end early make room, and leave nothing behind.
    drop(slow);
    uploaded(&addr, &visitor.token, "/v1/attachments", "", b"one more").await?;
    Ok(())
}
