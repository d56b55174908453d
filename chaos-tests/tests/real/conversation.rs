//! Owns the plain way of a message through three nodes. Does not break anything.

use std::time::Duration;

use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::socket::{Came, Socket};
use chaos_tests::wait;
use chaos_tests::workload::{Shape, Workload};
use chaos_tests::{http as plain, oracle};
use node::client::{ChatClient, Config, Item, http};
use proto::client::{Event, EventKind, HistoryFrom, Party};
use serde_json::json;
use tokio::sync::mpsc;

const SOON: Duration = Duration::from_secs(15);

async fn next_event(items: &mut mpsc::Receiver<Item>) -> anyhow::Result<Event<'static>> {
    let next = async {
        while let Some(item) = items.recv().await {
            match item {
                Item::Event(event) => return Ok(event),
                Item::ProtocolViolation(violation) => anyhow::bail!("{violation}"),
                Item::Stopped(error) => anyhow::bail!("{}", error.code),
                _ => {}
            }
        }
        anyhow::bail!("the client ended")
    };
    tokio::time::timeout(SOON, next).await?
}

#[tokio::test]
async fn a_visitor_and_an_agent_talk_through_different_nodes() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    cluster.add_agent("ann", "correct horse battery staple").await?;
    let (second, third) = (cluster.clients_from(1), cluster.clients_from(2));
    let login = http::login(&third[0], SITE, "ann", "correct horse battery staple").await?;
    let me = Party::Agent(login.agent);
    let (agent, mut to_agent) = ChatClient::start(Config::new(third, login.token, me));
    let new = http::create_visitor(&second[0], SITE).await?;
    let (session, who) = (new.session, Party::Visitor(new.visitor));
    let (visitor, mut to_visitor) = ChatClient::start(Config::new(second, new.token.clone(), who));

    assert_eq!(visitor.send(session, "is anybody there?").await?.seq, 1);
    let first = next_event(&mut to_agent).await?;
    assert_eq!((first.session, first.seq), (session, 1));
    assert!(
        matches!(&first.kind, EventKind::Message { from, text, .. } if *from == who && text == "is anybody there?")
    );
    let assigned = next_event(&mut to_agent).await?;
    assert_eq!((assigned.seq, assigned.kind), (2, EventKind::Assigned { agent: login.agent }));
    assert_eq!(agent.send(session, "here I am").await?.seq, 3);
    agent.close(session).await?;

    let mut told = Vec::new();
    while told.len() < 4 {
        told.push(next_event(&mut to_visitor).await?);
    }
    assert_eq!(told.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(told[3].kind, EventKind::Closed { by: me, reason: None });
    for node in cluster.nodes() {
        let config = Config::new(vec![node.client.clone()], new.token.clone(), who);
        let (reader, _items) = ChatClient::start(config);
        let page = reader.history(session, HistoryFrom::After(0), None).await?;
        assert_eq!(page.head, 4, "node {}", node.number);
        assert_eq!(page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3, 4], "node {}", node.number);
    }
    Ok(())
}

#[tokio::test]
async fn a_close_right_behind_a_message_ends_what_the_message_began() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let clients = cluster.clients_from(0);
    let new = http::create_visitor(&clients[0], SITE).await?;
    let (session, who) = (new.session, Party::Visitor(new.visitor));
    let (visitor, mut told) = ChatClient::start(Config::new(clients, new.token, who));
    for seq in [1, 3] {
        let pending = visitor.enqueue(session, "never mind").await?;
        visitor.close(session).await?;
        assert_eq!(pending.acked().await?.seq, seq);
        assert_eq!(next_event(&mut told).await?.seq, seq);
        assert_eq!(next_event(&mut told).await?.kind, EventKind::Closed { by: who, reason: None });
    }
    // Whose frame names no `seen`: the node knows what it told the socket, and what is under way.
    let addr = &cluster.node(1).client;
    let new = http::create_visitor(addr, SITE).await?;
    let mut socket = Socket::hello(addr, &new.token, None).await?;
    let session = new.session.to_string();
    for id in [2, 4] {
        socket
            .send(&json!({"id": id, "send": {"session": session, "cid": id.to_string(), "text": "never mind"}}))
            .await?;
        socket.send(&json!({"id": id + 1, "close": {"session": session}})).await?;
        let closed = json!({"kind": "closed", "seq": id});
        loop {
            match socket.next(SOON).await? {
                Came::Frame(frame)
                    if json!({"kind": frame["event"]["kind"], "seq": frame["event"]["seq"]}) == closed =>
                {
                    break;
                }
                Came::Frame(_) => {}
                other => anyhow::bail!("{other:?} and no {closed}"),
            }
        }
    }
    Ok(())
}

/// Found by review: the refusal ended what the whole node followed.
#[tokio::test]
async fn a_hello_with_a_wrong_token_takes_nothing_from_the_other_sockets_of_its_node() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let (first, second) = (&cluster.node(1).client, &cluster.node(2).client);
    let new = http::create_visitor(first, SITE).await?;
    let mut listener = Socket::hello(first, &new.token, None).await?;
    // Of the right form: one sign of the secret is another of it.
    let (kept, last) = new.token.split_at(new.token.len() - 1);
    let other = kept.chars().rev().find(|sign| !last.contains(*sign)).expect("a secret has many signs");
    let wrong = format!("{kept}{other}");
    let refused = Socket::hello(first, &wrong, None).await;
    assert!(refused.is_err(), "a wrong token is welcome");
    let mut speaker = Socket::hello(second, &new.token, None).await?;
    let said = json!({"session": new.session.to_string(), "cid": "1", "text": "do you hear me?"});
    speaker.send(&json!({"id": 2, "send": said})).await?;
    match listener.next(SOON).await? {
        Came::Frame(frame) => assert_eq!((&frame["event"]["seq"], &frame["event"]["cid"]), (&json!(1), &json!("1"))),
        other => anyhow::bail!("{other:?} and no event"),
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undisturbed_cluster_keeps_every_promise_and_shows_its_figures() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let mut load = Workload::start(&cluster, &Shape { visitors: 50, ..Shape::default() }).await?;
    load.talk(3_000, Duration::from_secs(60)).await?;
    load.stop().await?;
    let tally = oracle::check(&cluster, &load).await?;
    println!("{tally:?}");
    for node in cluster.nodes() {
        let live = plain::get(&node.client, "/health/live", &[]).await?;
        assert_eq!(live.status, 200);
        let metrics = wait::until("/metrics", SOON, async || {
            let there = plain::get(&node.admin, "/metrics", &[]).await.ok().filter(|answer| answer.status == 200);
            if there.is_some() { there } else { plain::get(&node.client, "/metrics", &[]).await.ok() }
        });
        let text = metrics.await?.text();
        for name in ["chat_active_connections", "chat_message_process_seconds", "chat_storage_fsyncs_total"] {
            assert!(text.contains(name), "{name} is not in /metrics of node {}", node.number);
        }
    }
    Ok(())
}
