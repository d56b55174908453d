//! Owns the tests of the stream of events for other systems, on real nodes: each once, those of a session in order, whatever node dies.

use super::*;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a system reads that keeps its cursor.
#[derive(Default)]
struct Reader {
    after: Option<String>,
    /// By session, the last seq.
    seen: BTreeMap<String, u64>,
}

impl Reader {
    /// Reads one page; `None`: nobody can answer just now.
    async fn read(&mut self, cluster: &Cluster) -> anyhow::Result<Option<usize>> {
        let mut args = vec!["events", "list", SITE, "--limit", "7", "--wait-s", "1"];
        let after = self.after.clone();
        args.extend(after.iter().flat_map(|after| ["--after", after]));
        let Ok(page) = admin(cluster, &args).await else { return Ok(None) };
        let events = page["events"].as_array().context("no events")?;
        for one in events {
            let event = &one["event"];
            let (session, seq) =
                (event["session"].as_str().context("no session")?, event["seq"].as_u64().context("no seq")?);
            let last = self.seen.insert(session.to_owned(), seq).unwrap_or(0);
            ensure!(seq == last + 1, "{session}: {seq} after {last}");
            ensure!(one["id"] == format!("{session}-{seq}") && event["kind"].is_string(), "{one}");
        }
        self.after = Some(page["next"].as_str().context("no cursor")?.to_owned());
        Ok(Some(events.len()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_reaches_who_reads_the_stream_once_and_in_order_while_leaders_die() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let agents = people(&cluster, ["ann"]).await?;
    let mut visitors = Vec::new();
    for at in 0..3 {
        visitors.push(Person::visitor(&cluster, at).await?);
    }
    let mut reader = Reader::default();
    for round in 0..3 {
        for n in 0..8 {
            for (new, visitor) in &visitors {
                visitor.client.send(new.session, format!("{round}: {n}")).await?;
            }
            reader.read(&cluster).await?;
        }
        let victim = leader(&cluster, Target::Session(visitors[round].0.session)).await?;
        cluster.kill(victim);
        for (new, visitor) in &visitors {
            visitor.client.send(new.session, "still here").await?;
        }
        reader.read(&cluster).await?;
        cluster.restart(&[victim]).await?;
    }
    for (new, visitor) in &visitors {
        visitor.client.close(new.session).await?;
    }
    is_empty(&cluster).await?;
    let mut heads = BTreeMap::new();
    for (new, visitor) in &visitors {
        let page = visitor.client.history(new.session, proto::client::HistoryFrom::Latest, Some(1)).await?;
        heads.insert(new.session.to_string(), page.head);
    }
    let ended = wait::until("all was read", wait_within() * 2, async || {
        reader.read(&cluster).await.is_ok_and(|_| reader.seen == heads).then_some(())
    });
    ended.await.with_context(|| format!("{heads:?}"))?;
    agents[0].1.check()?;

    // What is between agents is there too, and a stream begins where the reader left off.
    let note = proto::client::Act::Note { text: "well done".into(), mentions: Vec::new() };
    agents[0].1.client.act(visitors[0].0.session, note).await?;
    let text = first_of_stream(&cluster, reader.after.as_deref().unwrap_or_default()).await?;
    ensure!(text.contains("\"kind\":\"note\"") && text.contains("well done") && text.contains("id: e1."), "{text}");
    let foreign = admin(&cluster, &["events", "list", SITE, "--after", "e1.1"]).await;
    ensure!(foreign.is_err_and(|error| error.to_string().contains("after is")));
    let ahead = reader.after.as_deref().unwrap_or_default().replace("e1.", "e1.9999");
    let ahead = admin(&cluster, &["events", "list", SITE, "--after", &ahead]).await;
    ensure!(ahead.is_err_and(|error| error.to_string().contains("ahead")));
    Ok(())
}

/// What a stream says until its first event has come.
async fn first_of_stream(cluster: &Cluster, after: &str) -> anyhow::Result<String> {
    let node = cluster.node(1);
    let mut socket = TcpStream::connect(&node.admin).await?;
    let token = cluster.admin_token()?;
    let head = format!(
        "GET /admin/v1/sites/{SITE}/events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nAccept: text/event-stream\r\nLast-Event-ID: {after}\r\n\r\n",
        node.admin
    );
    socket.write_all(head.as_bytes()).await?;
    let mut text = Vec::new();
    let reading = async {
        let mut part = [0; 4096];
        while !String::from_utf8_lossy(&text).contains("data: ") {
            let len = socket.read(&mut part).await?;
            ensure!(len > 0, "the stream ended: {}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&part[..len]);
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.context("no event came")??;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
