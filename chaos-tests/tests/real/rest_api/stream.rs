//! Owns the test of a site's stream of events by its own API: page by page with a wait, and as server-sent events. Does not test the
//! operators' path: `desk/events.rs` does. Invariant: each way gives every event once, those of a session in order, whatever leader dies.

use super::visitors::Desk;
use super::*;
use parking_lot::Mutex;
use proto::client::HistoryFrom;
use proto::ids::SessionId;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A stream is left for another node after so many events.
const HOP_AFTER: usize = 25;
const READ_WITHIN: Duration = Duration::from_secs(120);

/// By session, the newest seq.
type Heads = BTreeMap<String, u64>;

/// What a system has read, and how far.
#[derive(Default)]
struct Reader {
    after: Option<String>,
    seen: Heads,
    /// What was said, in the order in which it came.
    kinds: Vec<String>,
}

impl Reader {
    fn take(&mut self, one: &Value) -> anyhow::Result<()> {
        let event = &one["event"];
        let session = event["session"].as_str().context("no session")?;
        let seq = event["seq"].as_u64().context("no seq")?;
        let last = self.seen.insert(session.to_owned(), seq).unwrap_or(0);
        ensure!(seq == last + 1, "{session}: {seq} after {last}");
        ensure!(one["id"] == format!("{session}-{seq}") && one["visitor"].is_string(), "{one}");
        self.kinds.push(event["kind"].as_str().context("no kind")?.to_owned());
        Ok(())
    }
}

/// Where everything ends, once it is known.
type Ends<'a> = &'a Mutex<Option<Heads>>;

fn is_at(reader: &Reader, ends: Ends<'_>) -> bool {
    ends.lock().as_ref().is_some_and(|heads| *heads == reader.seen)
}

/// Page by page, each at the next node, waiting for what comes.
async fn polls(addrs: &[String], token: &str, ends: Ends<'_>) -> anyhow::Result<Reader> {
    let mut reader = Reader::default();
    for addr in addrs.iter().cycle() {
        if is_at(&reader, ends) {
            break;
        }
        let after = reader.after.as_ref().map(|after| format!("&after={after}")).unwrap_or_default();
        let path = format!("/v1/events?limit=7&wait_s=1{after}");
        let Ok(answer) = ask(addr, token, "GET", &path, None).await else {
            wait::pause(Duration::from_millis(50)).await;
            continue;
        };
        if answer.status == 503 {
            wait::pause(Duration::from_millis(50)).await;
            continue;
        }
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        let page = json_of(&answer)?;
        let events = page["events"].as_array().context("no events")?;
        ensure!(events.len() <= 7, "more than were asked for");
        events.iter().try_for_each(|one| reader.take(one))?;
        reader.after = Some(page["next"].as_str().context("no cursor")?.to_owned());
    }
    Ok(reader)
}

/// The text of a chunked body, as far as it has come.
fn text_of(mut bytes: &[u8]) -> String {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let length = std::str::from_utf8(&bytes[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(chunk) = length.and_then(|length| bytes.get(end + 2..end + 2 + length)) else { break };
        body.extend_from_slice(chunk);
        bytes = bytes.get(end + 2 + chunk.len() + 2..).unwrap_or_default();
    }
    String::from_utf8_lossy(&body).into_owned()
}

#[test]
fn a_chunked_body_is_read_as_far_as_it_is_whole() {
    assert_eq!(text_of(b"3\r\nabc\r\n2\r\nde\r\n"), "abcde");
    assert_eq!(text_of(b"3\r\nabc\r\n4\r\nde"), "abc");
    assert_eq!(text_of(b"3\r\nabc\r"), "abc");
}

/// One stream from one node, until it ends, the node dies, enough has come, or everything was read.
async fn stream(addr: &str, token: &str, reader: &mut Reader, ends: Ends<'_>) -> anyhow::Result<()> {
    let Ok(mut socket) = TcpStream::connect(addr).await else { return Ok(()) };
    let last = reader.after.as_ref().map(|after| format!("Last-Event-ID: {after}\r\n")).unwrap_or_default();
    let asked = format!(
        "GET /v1/events?limit=7 HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {token}\r\nAccept: text/event-stream\r\n{last}\r\n"
    );
    if socket.write_all(asked.as_bytes()).await.is_err() {
        return Ok(());
    }
    let (mut bytes, mut part, mut taken) = (Vec::new(), [0; 4096], 0);
    loop {
        // Looks up now and then: the last event may have come by now.
        match tokio::time::timeout(Duration::from_millis(500), socket.read(&mut part)).await {
            Ok(Ok(len)) if len > 0 => bytes.extend_from_slice(&part[..len]),
            Ok(_) => return Ok(()),
            Err(_) => {}
        }
        let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let status = String::from_utf8_lossy(&bytes[..head]).into_owned();
        if status.starts_with("HTTP/1.1 503") {
            return Ok(());
        }
        ensure!(status.starts_with("HTTP/1.1 200") && status.contains("text/event-stream"), "{status}");
        let text = text_of(&bytes[head + 4..]);
        let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
        let messages: Vec<&str> = whole.split("\n\n").filter(|message| message.starts_with("id: ")).collect();
        for message in messages.iter().skip(taken) {
            let (id, data) = message.split_once("\ndata: ").with_context(|| format!("not an event: {message}"))?;
            reader.take(&serde_json::from_str(data)?)?;
            reader.after = Some(id.trim_start_matches("id: ").to_owned());
        }
        taken = messages.len();
        if taken >= HOP_AFTER || is_at(reader, ends) {
            return Ok(());
        }
    }
}

async fn streams(addrs: &[String], token: &str, ends: Ends<'_>) -> anyhow::Result<Reader> {
    let mut reader = Reader::default();
    for addr in addrs.iter().cycle() {
        if is_at(&reader, ends) {
            break;
        }
        stream(addr, token, &mut reader, ends).await?;
        wait::pause(Duration::from_millis(50)).await;
    }
    Ok(reader)
}

/// Visitors write, ann notes, and the leader of each visitor's shard dies in turn. Returns where everything ends.
async fn talk(desk: &mut Desk, visitors: &[(SessionId, Person)]) -> anyhow::Result<Heads> {
    for (session, _) in visitors {
        for n in 0..10 {
            for (session, visitor) in visitors {
                visitor.client.send(*session, format!("message {n}")).await?;
            }
        }
        let note = proto::act::Act::Note { text: "between us".into(), mentions: Vec::new() };
        desk.ann.wait("ann has it", |told| told.holder(*session)).await?;
        desk.ann.client.act(*session, note).await?;
        let victim = desk.cluster.leader_of(*session).await?;
        desk.cluster.kill(victim);
        for (session, visitor) in visitors {
            visitor.client.send(*session, "still here").await?;
        }
        desk.cluster.restart(&[victim]).await?;
    }
    let mut heads = BTreeMap::new();
    for (session, visitor) in visitors {
        desk.ann.client.close(*session).await?;
        let page = visitor.client.history(*session, HistoryFrom::Latest, Some(1)).await?;
        heads.insert(session.to_string(), page.head);
    }
    Ok(heads)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_reads_its_events_once_and_in_order_by_pages_and_as_a_stream_while_leaders_die() -> anyhow::Result<()> {
    let mut desk = Desk::start(&[]).await?;
    let addrs: Vec<String> = desk.cluster.nodes().iter().map(|node| node.client.clone()).collect();
    let (_, sues) = person(&desk.cluster, SITE, "sue", "supervisor").await?;
    let robots = key(&addrs[0], &desk.owner, "reader", &["events:read"]).await?;
    let mut visitors = Vec::new();
    for at in 0..3 {
        let (new, visitor) = Person::visitor(&desk.cluster, at).await?;
        visitors.push((new.session, visitor));
    }
    let ends = Mutex::new(None);
    let talks = async {
        let heads = talk(&mut desk, &visitors).await?;
        *ends.lock() = Some(heads);
        anyhow::Ok(())
    };
    let reading = async {
        let (polled, streamed, ()) =
            tokio::try_join!(polls(&addrs, &sues, &ends), streams(&addrs, &robots, &ends), talks)?;
        anyhow::Ok((polled, streamed))
    };
    let read = tokio::time::timeout(READ_WITHIN * 2, reading).await;
    let (polled, streamed) = read.with_context(|| format!("not all was read: {:?}", ends.lock()))??;

    let count = |reader: &Reader, kind: &str| reader.kinds.iter().filter(|one| *one == kind).count();
    for reader in [&polled, &streamed] {
        // Three rounds of ten messages and one, by three visitors; a note in each round; each was given once and closed once.
        let kinds = ["message", "note", "assigned", "closed"].map(|kind| count(reader, kind));
        ensure!(kinds == [99, 3, 3, 3] && reader.kinds.len() == 108, "{kinds:?} of {:?}", reader.kinds);
    }
    // From now on, and nothing of what was.
    let now = ask_any(&desk.cluster, &sues, "GET", "/v1/events?after=now", None).await?;
    let next = json_of(&now)?;
    ensure!(next["events"] == json!([]), "{next}");
    visitors[0].1.client.send(visitors[0].0, "one more").await?;
    let after = next["next"].as_str().context("no cursor")?;
    let one = wait::until("it comes", SOON, async || {
        let page =
            ask_any(&desk.cluster, &sues, "GET", &format!("/v1/events?wait_s=5&after={after}"), None).await.ok()?;
        let page = json_of(&page).ok()?;
        page["events"].as_array()?.first().cloned()
    });
    let one = one.await?;
    ensure!(one["event"]["text"] == "one more" && one["event"]["session"] == visitors[0].0.to_string(), "{one}");
    // Agents have no business with it.
    ensure!(ask_any(&desk.cluster, &desk.anns, "GET", "/v1/events", None).await?.status == 403);
    Ok(())
}
