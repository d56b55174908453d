//! Owns the tests of who writes to a visitor first: the site by its triggers, and agents by invitations. On real nodes, of which the one
//! that leads the session dies in the midst of it.

use super::visitors::{Desk, code};
use super::*;
use chaos_tests::socket::{Came, Socket};
use node::client::ClientError;
use proto::act::Act;
use proto::client::{ErrorCode, Event, EventKind, HistoryFrom, PageSeen, Visit};
use proto::ids::SessionId;

fn visit(session: SessionId, url: &str, visits: u64) -> Visit<'static> {
    let page = PageSeen { url: url.to_owned().into(), title: "Shoes".into(), at: 1_000 };
    Visit { session, trail: vec![page], referrer: None, visits: Some(visits) }
}

fn prompts(events: &[Event<'_>]) -> Vec<(u64, String)> {
    let prompt = |event: &Event<'_>| match &event.kind {
        EventKind::Act { act: Act::Prompt { text, .. }, .. } => Some((event.seq, text.clone())),
        _ => None,
    };
    events.iter().filter_map(prompt).collect()
}

/// Waits until the newest list of triggers on the visitor's page is this.
async fn waits_for(visitor: &Person, names: &[&str]) -> anyhow::Result<()> {
    let is_it = |told: &chaos_tests::person::Told| {
        let newest = told.triggers.last()?;
        newest.triggers.iter().map(|one| one.trigger.as_str()).eq(names.iter().copied()).then_some(())
    };
    visitor.wait(&format!("the page waits for {names:?}"), is_it).await
}

#[tokio::test]
async fn a_trigger_speaks_once_though_the_leader_dies_and_the_page_goes_on_elsewhere() -> anyhow::Result<()> {
    let mut desk = Desk::start(&[]).await?;
    let hostile = "Which size, {{visitor.name|you}}? <script>alert(1)</script>";
    let shoes = json!({ "text": hostile, "speaks_as": "Ada", "priority": 1,
        "when": { "page": ["*/shoes*"], "page_s": 20, "scroll": 50, "visits_min": 2, "online": true } });
    ensure!(desk.ask(&desk.anns, "PUT", "/v1/triggers/shoes", Some(shoes.clone())).await?.status == 403);
    for (name, body, status) in [
        ("shoes", shoes, 200),
        ("any", json!({ "text": "Hello", "again": "visit", "when": { "page": ["https://shop.example/*"] } }), 200),
        ("gold", json!({ "text": "Dear customer", "priority": 9, "when": { "attributes": { "plan": "gold" } } }), 200),
        ("off", json!({ "text": "Hello", "enabled": false }), 200),
        ("wrong", json!({ "text": "" }), 422),
    ] {
        let answer = desk.ask(&desk.owner, "PUT", &format!("/v1/triggers/{name}"), Some(body)).await?;
        ensure!(answer.status == status, "{name}: {} {}", answer.status, answer.text());
    }
    let (new, visitor) = Person::visitor(&desk.cluster, 2).await?;
    let session = new.session;
    visitor.client.visit(visit(session, "https://shop.example/hats", 2)).await?;
    waits_for(&visitor, &["any"]).await?;
    visitor.client.visit(visit(session, "https://shop.example/shoes/7", 2)).await?;
    waits_for(&visitor, &["shoes", "any"]).await?;
    for unfit in ["gold", "off", "none"] {
        ensure!(code(visitor.client.trigger(session, unfit).await)? == ErrorCode::NotFound, "{unfit}");
    }

    // Asked while the leader dies, twice, and repeated by the client at another node if need be.
    let leader = desk.cluster.leader_of(session).await?;
    let (one, other) = tokio::join!(
        async {
            let asked = visitor.client.trigger(session, "shoes");
            desk.cluster.kill(leader);
            asked.await
        },
        visitor.client.trigger(session, "shoes"),
    );
    one?;
    other?;
    let first = visitor.wait("it speaks", |told| prompts(&told.events).pop()).await?;
    ensure!(first == (1, hostile.replace("{{visitor.name|you}}", "you")), "as text: {first:?}");
    // It takes its turn, and each other at least half a minute.
    ensure!(code(visitor.client.trigger(session, "any").await)? == ErrorCode::Closed);
    visitor.client.hop().await?;
    visitor.client.trigger(session, "shoes").await?;
    waits_for(&visitor, &["any"]).await?;
    desk.cluster.restart(&[leader]).await?;

    // Nobody was called for it; what it said stands before the answer.
    let view = desk.show(session).await?;
    ensure!(view["state"] == "closed" && view["head"] == 1, "{view}");
    visitor.client.send(session, "43").await?;
    desk.ann.wait("it is ann's", |told| told.holder(session)).await?;
    let history = desk.ann.client.history(session, HistoryFrom::After(0), None).await?;
    let kinds: Vec<&str> = history.events.iter().map(|event| event.kind.name()).collect();
    ensure!(kinds == ["prompt", "message", "assigned"], "{kinds:?}");
    ensure!(prompts(&visitor.told.lock().events).len() == 1);
    ensure!(prompts(&desk.ann.told.lock().events).len() == 1, "her conversation begins with what is answered");
    ensure!(code(visitor.client.trigger(session, "any").await)? == ErrorCode::Closed, "somebody talks with them");
    let counted = wait::until("it is counted", SOON, async || {
        let list = desk.done(&desk.anns, "GET", "/v1/triggers", None).await.ok()?;
        let shoes = list["triggers"].as_array()?.iter().find(|one| one["name"] == "shoes")?.clone();
        (shoes["spoken"] == 1 && shoes["answered"] == 1).then_some(())
    });
    counted.await?;
    ensure!(desk.ask(&desk.owner, "DELETE", "/v1/triggers/shoes", None).await?.status == 204);
    visitor.check()
}

/// Asks one node, until it answers.
async fn invite(addr: &str, token: &str, session: SessionId, key: &str) -> anyhow::Result<Answer> {
    let (path, body) = (format!("/v1/conversations/{session}/invite"), json!({ "text": "May I help?" }));
    let answered = wait::until("an answer", SOON, async || {
        let asked = ask_with_key(addr, token, "POST", &path, Some(&body), Some(key)).await;
        asked.ok().filter(|answer| answer.status != 503)
    });
    answered.await
}

#[tokio::test]
async fn of_two_agents_who_invite_at_once_one_does_and_the_answer_is_theirs() -> anyhow::Result<()> {
    let mut desk = Desk::start(&[]).await?;
    let (bob, bobs) = person(&desk.cluster, SITE, "bob", "agent").await?;
    let (_, at_bobs) = Person::agent(&desk.cluster, "bob", PASSWORD, 0).await?;
    let addrs: Vec<String> = desk.cluster.nodes().iter().map(|node| node.client.clone()).collect();
    for round in 0..3 {
        let (new, visitor) = Person::visitor(&desk.cluster, round).await?;
        let session = new.session;
        visitor.client.visit(visit(session, "https://shop.example/", 1)).await?;
        let leader = desk.cluster.leader_of(session).await?;
        let up: Vec<&String> =
            addrs.iter().enumerate().filter(|(at, _)| *at as u64 + 1 != leader).map(|(_, addr)| addr).collect();
        let both =
            async { tokio::try_join!(invite(up[0], &desk.anns, session, "k-1"), invite(up[1], &bobs, session, "k-1")) };
        let (anns, bobs_answer) = both.await?;
        let mut statuses = [anns.status, bobs_answer.status];
        let is_bobs = bobs_answer.status == 200;
        statuses.sort_unstable();
        ensure!(statuses == [200, 409], "{} {}", anns.text(), bobs_answer.text());
        let invited = |event: &Event<'_>| matches!(&event.kind, EventKind::Act { act: Act::Invite { .. }, .. });
        visitor.wait("the visitor is invited", |told| told.events.iter().any(invited).then_some(())).await?;
        // Whoever leads now, it is done once, and the other one is still refused.
        desk.cluster.kill(leader);
        let (winners, losers) = if is_bobs { (&bobs, &desk.anns) } else { (&desk.anns, &bobs) };
        let again = invite(up[0], winners, session, "k-1").await?;
        ensure!(
            again.status == 200 && json_of(&again)?["seq"] == 1 && json_of(&again)?["dup"] == true,
            "{}",
            again.text()
        );
        ensure!(invite(up[1], losers, session, "k-2").await?.status == 409);
        visitor.client.send(session, "yes, please").await?;
        let winner = if is_bobs { &at_bobs } else { &desk.ann };
        let holder = winner.wait("the inviter has it", |told| told.holder(session)).await?;
        ensure!((holder == bob) == is_bobs);
        let talking = invite(up[1], losers, session, "k-3").await?;
        ensure!(talking.status == 409 && talking.text().contains("talks"), "{}", talking.text());
        ensure!(visitor.told.lock().events.iter().filter(|event| invited(event)).count() == 1);
        visitor.check()?;
        desk.cluster.restart(&[leader]).await?;
    }
    who_declines_or_is_not_there_is_left_alone(&desk, &addrs, &bobs).await
}

async fn who_declines_or_is_not_there_is_left_alone(desk: &Desk, addrs: &[String], bobs: &str) -> anyhow::Result<()> {
    let (new, visitor) = Person::visitor(&desk.cluster, 1).await?;
    let session = new.session;
    visitor.client.visit(visit(session, "https://shop.example/", 1)).await?;
    let key = key(&addrs[0], &desk.owner, "robot", &["conversations:write"]).await?;
    ensure!(invite(&addrs[0], &key, session, "k-1").await?.status == 403, "a key is nobody");
    ensure!(invite(&addrs[0], bobs, session, "k-1").await?.status == 200);
    let refused: Result<_, ClientError> = visitor.client.act(session, Act::Decline { seq: 7 }).await;
    ensure!(code(refused)? == ErrorCode::BadRequest);
    visitor.client.act(session, Act::Decline { seq: 1 }).await?;
    let again = invite(&addrs[1], bobs, session, "k-2").await?;
    ensure!(again.status == 422 && again.text().contains("does not want"), "{}", again.text());
    drop(visitor);
    let gone = wait::until("nobody is there", SOON, async || {
        let seen = desk.done(&desk.anns, "GET", "/v1/visitors/online", None).await.ok()?;
        seen["visitors"].as_array()?.iter().all(|one| one["session"] != session.to_string()).then_some(())
    });
    gone.await?;
    let absent = invite(&addrs[0], &desk.anns, session, "k-1").await?;
    ensure!(absent.status == 409 && absent.text().contains("not on the site"), "{}", absent.text());
    // Said again by whoever did not hear the answer: it was made.
    ensure!(invite(&addrs[2], bobs, session, "k-1").await?.status == 200);
    Ok(())
}

#[tokio::test]
async fn country_and_city_are_those_of_the_address_that_our_proxy_says_and_triggers_know_them() -> anyhow::Result<()> {
    let places = concat!(env!("CARGO_MANIFEST_DIR"), "/../node/testdata/places.mmdb");
    let desk = Desk::start(&["--geo-file", places, "--trusted-proxy", "127.0.0.0/8"]).await?;
    let kia_ora = json!({ "text": "Kia ora", "when": { "country": ["NZ"] } });
    desk.done(&desk.owner, "PUT", "/v1/triggers/kia-ora", Some(kia_ora)).await?;
    for (from, country, city, triggers) in [
        (Some("192.0.2.77"), json!("NZ"), json!("Wellington"), 1),
        (Some("203.0.113.9"), json!("PT"), json!("Porto"), 0),
        (Some("10.1.2.3"), Value::Null, Value::Null, 0),
        (None, Value::Null, Value::Null, 0),
    ] {
        let addr = &desk.cluster.node(2).client;
        let new = http::create_visitor(addr, SITE).await?;
        let mut socket = Socket::open_for(addr, from).await?;
        let session = new.session.to_string();
        socket.send(&json!({ "id": 1, "hello": { "token": new.token, "device": "d" } })).await?;
        let page = json!({ "url": "https://shop.example/", "at": 1_000 });
        let mut told = Vec::new();
        wait::until("it is welcome", SOON, async || match socket.next(SOON).await.ok()? {
            Came::Frame(frame) => (!frame["welcome"].is_null()).then_some(()),
            _ => None,
        })
        .await?;
        let said = json!({ "id": 2, "visit": { "session": session, "trail": [page] } });
        ensure!(!socket.ask(&said, SOON, &mut told).await?["ok"].is_null());
        let online = wait::until("the visitor is there", SOON, async || {
            let seen = desk.done(&desk.anns, "GET", "/v1/visitors/online", None).await.ok()?;
            seen["visitors"].as_array()?.iter().find(|one| one["session"] == session).cloned()
        });
        let online = online.await?;
        ensure!(online["country"] == country && online["city"] == city, "{from:?}: {online}");
        if triggers > 0 {
            let Came::Frame(frame) = socket.next(SOON).await? else { anyhow::bail!("no list of triggers") };
            ensure!(frame["triggers"]["triggers"] == json!([{ "trigger": "kia-ora" }]), "{frame}");
        }
        let wanted = json!({ "id": 3, "trigger": { "session": session, "trigger": "kia-ora" } });
        let answer = socket.ask(&wanted, SOON, &mut told).await?;
        ensure!(answer["ok"].is_null() == (triggers == 0), "{from:?}: {answer}");
    }
    Ok(())
}
