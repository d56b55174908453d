//! Owns the tests of what a site does about visitors as a whole: attributes, ratings, blocks, proofs of who they are, retention, export
//! and erasure. On real nodes, of which one dies.

use super::*;
use base64ct::{Base64UrlUnpadded, Encoding};
use chaos_tests::socket::Socket;
use node::client::{ClientError, Config};
use proto::act::Act;
use proto::client::{ErrorCode, EventKind, HistoryFrom, PageSeen, Party, Visit};
use proto::ids::{SessionId, VisitorId};
use ring::hmac;
use std::time::Duration;

/// A retention's day, in seconds.
const DAY_S: u64 = 3;

/// A site at work: ann has a visitor's conversation.
pub(super) struct Desk {
    pub cluster: Cluster,
    pub owner: String,
    pub anns: String,
    pub ann: Person,
}

impl Desk {
    pub async fn start(args: &[&str]) -> anyhow::Result<Desk> {
        let cluster = Cluster::start_with(3, args).await?;
        let (_, owner) = person(&cluster, SITE, "olga", "owner").await?;
        let (_, anns) = person(&cluster, SITE, "ann", "agent").await?;
        let (_, ann) = Person::agent(&cluster, "ann", PASSWORD, 1).await?;
        Ok(Desk { cluster, owner, anns, ann })
    }

    /// Asks whichever node answers.
    pub async fn ask(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Answer> {
        ask_any(&self.cluster, token, method, path, body).await
    }

    pub async fn done(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        done_by_any(&self.cluster, token, method, path, body).await
    }

    /// Makes a visitor who says that to ann, and is answered.
    async fn talk(&self, text: &str) -> anyhow::Result<(SessionId, VisitorId, Person)> {
        let (new, visitor) = Person::visitor(&self.cluster, 2).await?;
        visitor.client.send(new.session, text).await?;
        self.ann.wait("it is ann's", |told| told.holder(new.session)).await?;
        self.ann.client.send(new.session, format!("about {text}?")).await?;
        Ok((new.session, new.visitor, visitor))
    }

    pub async fn show(&self, session: SessionId) -> anyhow::Result<Value> {
        self.done(&self.owner, "GET", &format!("/v1/conversations/{session}"), None).await
    }

    /// Everything that any node gives out of a session.
    async fn all_texts(&self, session: SessionId, visitor: VisitorId) -> anyhow::Result<String> {
        let mut all = String::new();
        for path in [
            format!("/v1/conversations/{session}"),
            format!("/v1/conversations/{session}/events?limit=200"),
            format!("/v1/conversations/{session}/transcript?notes=true"),
            format!("/v1/visitors/{visitor}/export"),
            "/v1/events".to_owned(),
        ] {
            let answer = self.ask(&self.owner, "GET", &path, None).await?;
            ensure!(answer.status == 200, "{path}: {}", answer.text());
            all.push_str(&answer.text());
        }
        Ok(all)
    }
}

pub(super) fn code<T: std::fmt::Debug>(refused: Result<T, ClientError>) -> anyhow::Result<ErrorCode> {
    match refused {
        Err(ClientError::Refused(info)) => Ok(info.code),
        other => anyhow::bail!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn attributes_have_types_visitors_rate_and_blocked_ones_are_not_heard() -> anyhow::Result<()> {
    let desk = Desk::start(&[]).await?;
    let (new, visitor) = Person::visitor(&desk.cluster, 2).await?;
    let (session, token) = (new.session, new.token.clone());
    visitor.client.send(session, "a question").await?;
    desk.ann.wait("it is ann's", |told| told.holder(session)).await?;
    desk.ann.client.send(session, "about it?").await?;
    for (path, body) in [
        ("/v1/attributes/visitor/plan", json!({ "type": "choice", "options": ["free", "pro"] })),
        ("/v1/attributes/conversation/order", json!({ "type": "number", "title": "Order" })),
    ] {
        desk.done(&desk.owner, "PUT", path, Some(body)).await?;
    }
    let path = format!("/v1/conversations/{session}/attributes");
    for wrong in [
        json!({ "visitor": { "plan": "gold" } }),
        json!({ "conversation": { "order": "17" } }),
        json!({ "visitor": { "shoe": 43 } }),
        json!({ "visitor": { "plan": "pro" }, "conversation": { "order": true } }),
        json!({ "visitor": { "user": "root" } }),
        json!({}),
    ] {
        let answer = desk.ask(&desk.anns, "PUT", &path, Some(wrong.clone())).await?;
        ensure!(answer.status == 422, "{wrong}: {} {}", answer.status, answer.text());
    }
    let set = json!({ "visitor": { "plan": "pro" }, "conversation": { "order": 17 } });
    let view = desk.done(&desk.anns, "PUT", &path, Some(set)).await?;
    ensure!(view["attributes"] == json!({ "visitor": { "plan": "pro" }, "conversation": { "order": "17" } }), "{view}");
    ensure!(view["rating"] == Value::Null && view["identified"] == false);

    // Between agents: the visitor knows of a place, and not of what.
    let seen = visitor.client.history(session, HistoryFrom::After(0), None).await?;
    ensure!(seen.events.iter().filter(|event| event.kind == EventKind::Hidden).count() == 2, "{seen:?}");

    desk.ann.client.close(session).await?;
    let rate = |score| Act::Rate { conversation: 1, score, comment: "<b>quick</b>".into() };
    visitor.client.act(session, rate(3)).await?;
    visitor.client.act(session, rate(5)).await?;
    ensure!(desk.show(session).await?["rating"] == json!({ "conversation": 1, "score": 5 }));

    let block = format!("/v1/conversations/{session}/block");
    ensure!(desk.ask(&desk.anns, "PUT", &block, Some(json!({}))).await?.status == 403, "an agent blocks nobody");
    let blocked = desk.done(&desk.owner, "PUT", &block, Some(json!({ "for_s": 600 }))).await?;
    ensure!(blocked["blocked_until_ms"].is_u64(), "{blocked}");
    ensure!(code(visitor.client.send(session, "spam").await)? == ErrorCode::Forbidden);
    ensure!(super::attachments::upload_status(&desk.cluster, &token, "spam.txt").await? == 403, "nor files");
    desk.done(&desk.owner, "DELETE", &block, None).await?;
    visitor.client.send(session, "sorry").await?;
    let events = desk.done(&desk.owner, "GET", &format!("/v1/conversations/{session}/events"), None).await?;
    ensure!(!events.to_string().contains("spam"), "{events}");
    words_and_networks_are_not_let_through(&desk, (session, &token), &visitor).await
}

async fn words_and_networks_are_not_let_through(
    desk: &Desk,
    (session, token): (SessionId, &str),
    visitor: &Person,
) -> anyhow::Result<()> {
    desk.done(&desk.owner, "PUT", "/v1/blocklist/casino", Some(json!({ "word": "Casino" }))).await?;
    let refused = wait::until("every node knows it", SOON, async || {
        code(visitor.client.send(session, "come to the CASINO").await).ok()
    });
    ensure!(refused.await? == ErrorCode::Forbidden);
    visitor.client.send(session, "casinos are another word").await?;
    ensure!(super::attachments::upload_status(&desk.cluster, token, "the casino.txt").await? == 403, "nor in names");
    ensure!(super::attachments::upload_status(&desk.cluster, token, "casinos.txt").await? == 200);
    for wrong in
        [json!({ "network": "0.0.0.0/0" }), json!({ "word": "" }), json!({ "word": "a", "network": "::1/128" })]
    {
        let answer = desk.ask(&desk.owner, "PUT", "/v1/blocklist/wrong", Some(wrong.clone())).await?;
        ensure!((400..500).contains(&answer.status), "{wrong}: {}", answer.status);
    }
    desk.done(&desk.owner, "PUT", "/v1/blocklist/here", Some(json!({ "network": "127.0.0.0/8" }))).await?;
    let path = format!("/v1/sites/{SITE}/visitors");
    let kept_out = wait::until("nobody comes from here", SOON, async || {
        let asked = desk.ask("", "POST", &path, None).await.ok()?;
        (asked.status == 403).then_some(())
    });
    kept_out.await?;
    let silent =
        wait::until("who is here is not heard", SOON, async || code(visitor.client.send(session, "hello?").await).ok());
    ensure!(silent.await? == ErrorCode::Forbidden);
    desk.done(&desk.owner, "DELETE", "/v1/blocklist/here", None).await?;
    let heard = wait::until("they are heard again", SOON, async || visitor.client.send(session, "hello!").await.ok());
    heard.await?;
    Ok(())
}

/// A page's word on who its visitor is.
pub fn token(key: &[u8], user: &str, jti: &str) -> String {
    token_of(key, (user, "Zoë", "zoe@example.org"), jti)
}

/// The same, of whoever it is: user, name and address.
pub fn token_of(key: &[u8], (user, name, email): (&str, &str, &str), jti: &str) -> String {
    let exp = cluster::shard::now_ms() / 1_000 + 600;
    let claims = json!({ "sub": user, "aud": SITE, "exp": exp, "jti": jti, "name": name, "email": email });
    let part = |value: Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    let message = format!("{}.{}", part(json!({ "alg": "HS256" })), part(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes());
    format!("{message}.{}", Base64UrlUnpadded::encode_string(signature.as_ref()))
}

#[tokio::test]
async fn a_visitor_who_proves_who_they_are_has_one_session_everywhere_and_others_are_not_heard() -> anyhow::Result<()> {
    let desk = Desk::start(&[]).await?;
    let (anonymous, _, stranger) = desk.talk("who am I?").await?;
    let mut keys = Vec::new();
    for name in ["one", "two"] {
        let made = desk.done(&desk.owner, "PUT", &format!("/v1/identity-keys/{name}"), None).await?;
        keys.push(Base64UrlUnpadded::decode_vec(made["secret"].as_str().context("no secret")?)?);
    }
    let first = json_of(&identify(&desk, json!({ "token": token(&keys[0], "u17", "j1") })).await?)?;
    let second = json_of(&identify(&desk, json!({ "token": token(&keys[1], "u17", "j2") })).await?)?;
    ensure!(first["session"] == second["session"] && first["token"] != second["token"], "{first} {second}");
    let other = json_of(&identify(&desk, json!({ "token": token(&keys[1], "u18", "j3") })).await?)?;
    ensure!(other["session"] != first["session"]);
    let tag: String = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &keys[0]), b"u17")
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let hashed = json_of(&identify(&desk, json!({ "hmac": { "user": "u17", "hash": tag } })).await?)?;
    ensure!(hashed["session"] == first["session"], "{hashed}");
    for forged in [
        json!({ "token": token(&[7; 32], "u17", "j9") }),
        json!({ "token": token(&keys[0], "u17", "") }),
        json!({ "hmac": { "user": "u18", "hash": tag } }),
    ] {
        ensure!(identify(&desk, forged.clone()).await?.status == 401, "{forged}");
    }
    // What agents see of them.
    let session: SessionId = first["session"].as_str().context("no session")?.parse()?;
    let view = desk.show(session).await?;
    let expected = json!({ "user": "u17", "name": "Zoë", "email": "zoe@example.org" });
    ensure!(view["attributes"]["visitor"] == expected && view["identified"] == true, "{view}");

    // Two devices, one conversation.
    let (phone, laptop) = (device(&desk, &first)?, device(&desk, &second)?);
    phone.client.send(session, "from the phone").await?;
    laptop.wait("the laptop sees it", |told| told.events.iter().any(|event| event.seq > 0).then_some(())).await?;

    // From now on, strangers are not heard; their number is used up, and what was said stays.
    desk.done(&desk.owner, "PUT", "/v1/settings", Some(json!({ "identity": "required" }))).await?;
    let refused = wait::until("a stranger is refused", SOON, async || {
        code(stranger.client.send(anonymous, "still me").await).ok()
    });
    ensure!(refused.await? == ErrorCode::Forbidden);
    ensure!(desk.ask("", "POST", &format!("/v1/sites/{SITE}/visitors"), None).await?.status == 401);
    laptop.client.send(session, "from the laptop").await?;
    desk.done(&desk.owner, "PUT", "/v1/settings", Some(json!({ "identity": "optional" }))).await?;
    let heard =
        wait::until("the stranger is heard again", SOON, async || stranger.client.send(anonymous, "hello?").await.ok());
    heard.await?;

    devices_log_out_and_keys_end(&desk, &keys[0], &first, session, phone, &laptop).await
}

/// As `identify`; the page had that token before.
async fn identify_from(desk: &Desk, user: &str, key: &[u8], was: &str) -> anyhow::Result<Value> {
    let body = json!({ "identity": { "token": token(key, user, &format!("j {user}")) }, "was": was });
    desk.done("", "POST", &format!("/v1/sites/{SITE}/visitors"), Some(body)).await
}

#[tokio::test]
async fn a_visitor_who_says_who_they_are_takes_along_what_was_said_before_whoever_dies() -> anyhow::Result<()> {
    let mut desk = Desk::start(&[]).await?;
    let made = desk.done(&desk.owner, "PUT", "/v1/identity-keys/one", None).await?;
    let key = Base64UrlUnpadded::decode_vec(made["secret"].as_str().context("no secret")?)?;
    let mut pages = Vec::new();
    for number in 0..6 {
        let (new, visitor) = Person::visitor(&desk.cluster, 2).await?;
        visitor.client.send(new.session, format!("secret{number}")).await?;
        desk.ann.wait("it is ann's", |told| told.holder(new.session)).await?;
        pages.push((new, visitor));
    }
    let mut named = Vec::new();
    for (number, (new, _)) in pages.iter().enumerate() {
        if number == 3 {
            desk.cluster.kill(2);
        }
        let own = identify_from(&desk, &format!("u{number}"), &key, &new.token).await?;
        ensure!(own["merged"] == true, "{own}");
        let session: SessionId = own["session"].as_str().context("no session")?.parse()?;
        desk.ann.wait("ann has it under the name", |told| told.holder(session)).await?;
        named.push((session, own));
    }
    for (number, ((new, _), (session, own))) in pages.iter().zip(&named).enumerate() {
        let (before, view) = (desk.show(new.session).await?, desk.show(*session).await?);
        ensure!(view["merged"] == json!([new.session.to_string()]) && view["state"] == "open", "{view}");
        ensure!(before["merged_into"] == json!(session.to_string()) && before["state"] == "closed", "{before}");
        // The talk goes on, and agents read what was said before where it was said.
        let now = device(&desk, own)?;
        now.client.send(*session, format!("it is me {number}")).await?;
        desk.ann.client.send(*session, "I know").await?;
        let seen = now.client.history(*session, HistoryFrom::After(0), None).await?;
        let tells = |event: &proto::client::Event<'_>| matches!(&event.kind, EventKind::Act { act: Act::Merge { session, .. }, .. } if *session == new.session);
        ensure!(seen.events.iter().filter(|event| tells(event)).count() == 1, "{number}: {seen:?}");
        let all = desk.all_texts(new.session, new.visitor).await?;
        ensure!(all.contains(&format!("secret{number}")), "{all}");
    }
    // What is given out under the name is all of it.
    let path = format!("/v1/visitors/{}/export", text(&named[2].1["visitor"])?);
    let whole = desk.done(&desk.owner, "GET", &path, None).await?;
    let texts = whole["events"].as_array().context("no events")?;
    let seqs: Vec<(&str, u64)> =
        texts.iter().filter_map(|event| Some((event["session"].as_str()?, event["seq"].as_u64()?))).collect();
    let (before, after) = (pages[2].0.session.to_string(), named[2].0.to_string());
    ensure!(seqs.iter().position(|(of, _)| *of == after) == Some(seqs.iter().filter(|(of, _)| *of == before).count()));
    ensure!(whole["earlier"][0]["session"] == json!(before) && whole["next"] == Value::Null, "{whole}");
    ensure!(whole["events"].to_string().contains("secret2") && whole["events"].to_string().contains("it is me 2"));
    // A token that is no one's, or one of a name, brings nothing along and keeps nobody out.
    for was in ["v1.nonsense", named[1].1["token"].as_str().context("no token")?] {
        let own = identify_from(&desk, "u9", &key, was).await?;
        ensure!(own["merged"] == false, "{own}");
    }
    // Who is erased is erased under both.
    let (session, own) = &named[0];
    let visitor = own["visitor"].as_str().context("none")?;
    desk.done(&desk.owner, "DELETE", &format!("/v1/visitors/{visitor}"), None).await?;
    for (session, visitor) in [(*session, visitor.parse()?), (pages[0].0.session, pages[0].0.visitor)] {
        let all = desk.all_texts(session, visitor).await?;
        ensure!(!all.contains("secret0") && !all.contains("it is me 0"), "something stayed");
    }
    Ok(())
}

fn text(value: &Value) -> anyhow::Result<&str> {
    value.as_str().context("no text")
}

/// A page's proof, given to the desk.
async fn identify(desk: &Desk, identity: Value) -> anyhow::Result<Answer> {
    desk.ask("", "POST", &format!("/v1/sites/{SITE}/visitors"), Some(json!({ "identity": identity }))).await
}

/// The client of a visitor as it was made.
fn device(desk: &Desk, made: &Value) -> anyhow::Result<Person> {
    let (token, visitor) = (made["token"].as_str().context("no token")?, made["visitor"].as_str().context("none")?);
    let me = Party::Visitor(visitor.parse()?);
    Ok(Person::start(Config::new(desk.cluster.clients_from(0), token.to_owned(), me)))
}

async fn devices_log_out_and_keys_end(
    desk: &Desk,
    key: &[u8],
    first: &Value,
    session: SessionId,
    phone: Person,
    laptop: &Person,
) -> anyhow::Result<()> {
    // A device that logs out is out; the other is not.
    let out = first["token"].as_str().context("no token")?;
    desk.done(out, "POST", "/v1/visitors/logout", None).await?;
    // Its open page, too.
    let told = wait::until("it is told so", SOON, async || phone.told.lock().broken.clone()).await?;
    ensure!(told == "unauthorized", "{told}");
    drop(phone);
    let back = device(desk, first)?;
    let told = wait::until("it is told so", SOON, async || back.told.lock().broken.clone()).await?;
    ensure!(told == "unauthorized", "{told}");
    laptop.client.send(session, "still here").await?;
    // A key that is removed proves nothing any more.
    desk.done(&desk.owner, "DELETE", "/v1/identity-keys/one", None).await?;
    let gone = wait::until("the key is good no longer", SOON, async || {
        let answer = identify(desk, json!({ "token": token(key, "u17", "j4") })).await.ok()?;
        (answer.status == 401).then_some(())
    });
    gone.await
}

#[tokio::test]
async fn what_a_site_keeps_for_days_goes_and_visitors_are_erased_in_bulk_whoever_dies() -> anyhow::Result<()> {
    let day = DAY_S.to_string();
    let mut desk = Desk::start(&["--retention-day-s", &day]).await?;
    let mut talks = Vec::new();
    for number in 0..6 {
        let (session, visitor, person) = desk.talk(&format!("secret{number}")).await?;
        talks.push((session, visitor, person));
    }
    let closed = &talks[..4];
    for (session, ..) in closed {
        desk.ann.client.close(*session).await?;
    }
    desk.cluster.kill(2);

    // By name, as many as one likes; done again it is the same. One of them still talks.
    let (open, open_visitor, _) = &talks[4];
    let visitors: Vec<String> = [talks[0].1, talks[1].1, *open_visitor].iter().map(ToString::to_string).collect();
    let mut body = json!({ "visitors": visitors });
    body["visitors"].as_array_mut().context("a list")?.push(json!("00000000000000000000000000000009"));
    for _ in 0..2 {
        let erased = desk.done(&desk.owner, "POST", "/v1/visitors/erase", Some(body.clone())).await?;
        ensure!(erased["erased"].as_array().map(Vec::len) == Some(3), "{erased}");
        ensure!(erased["unknown"] == json!(["00000000000000000000000000000009"]), "{erased}");
    }
    for (number, (session, visitor)) in
        [(0, (talks[0].0, talks[0].1)), (1, (talks[1].0, talks[1].1)), (4, (*open, *open_visitor))]
    {
        let all = desk.all_texts(session, visitor).await?;
        ensure!(!all.contains(&format!("secret{number}")), "{all}");
    }
    // Who is not erased is still there, and may ask for everything.
    let export = desk.done(&desk.owner, "GET", &format!("/v1/visitors/{}/export", talks[2].1), None).await?;
    ensure!(export["events"].to_string().contains("secret2") && export["next"] == Value::Null, "{export}");

    // What is closed and older than a day goes by itself, also where another leads by now; what is open stays.
    desk.cluster.restart(&[2]).await?;
    desk.done(&desk.owner, "PUT", "/v1/settings", Some(json!({ "retention_days": 1 }))).await?;
    for number in [2, 3] {
        let (session, visitor, _) = &talks[number];
        let gone = wait::until("it is too old", Duration::from_secs(60), async || {
            let all = desk.all_texts(*session, *visitor).await.ok()?;
            (!all.contains(&format!("secret{number}"))).then_some(())
        });
        gone.await?;
    }
    let (session, _, visitor) = &talks[5];
    let seen = visitor.client.history(*session, HistoryFrom::After(0), None).await?;
    ensure!(seen.events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "no gap");
    let has = |text: &str| {
        seen.events.iter().any(|event| matches!(&event.kind, EventKind::Message { text: said, .. } if said == text))
    };
    ensure!(has("secret5"), "it is open: {seen:?}");
    // Nobody's numbers moved: the visitor of an erased talk writes on.
    let (session, _, visitor) = &talks[3];
    visitor.client.send(*session, "back again").await?;
    let seen = visitor.client.history(*session, HistoryFrom::After(0), None).await?;
    ensure!(seen.events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "no gap");
    ensure!(seen.events.iter().any(|event| event.kind == EventKind::Gone), "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn agents_see_who_is_on_the_site_and_where_and_again_when_a_node_has_died() -> anyhow::Result<()> {
    let mut desk = Desk::start(&[]).await?;
    let (new, visitor) = Person::visitor(&desk.cluster, 1).await?;
    let page = |url: &'static str, at| PageSeen { url: url.into(), title: "<b>Shop</b>".into(), at };
    let trail = vec![page("https://shop.example/?utm_source=mail", 1_000), page("https://shop.example/shoes", 2_000)];
    let visit =
        Visit { session: new.session, trail, referrer: Some("https://search.example/".into()), visits: Some(3) };
    let online = async || desk.done(&desk.anns, "GET", "/v1/visitors/online", None).await;
    let is_there = |seen: &Value| seen["visitors"].as_array().is_some_and(|all| all.len() == 1);
    wait::until("there is somebody", SOON, async || online().await.ok().filter(is_there)).await?;
    visitor.client.visit(visit).await?;
    let check = |seen: &Value| -> anyhow::Result<()> {
        let one = &seen["visitors"][0];
        ensure!(one["session"] == new.session.to_string() && one["tabs"] == 1 && one["identified"] == false, "{one}");
        ensure!(
            one["visit"]["trail"][1]["url"] == "https://shop.example/shoes" && one["visit"]["visits"] == 3,
            "{one}"
        );
        ensure!(one["visit"]["trail"][0]["title"] == "<b>Shop</b>", "as text: {one}");
        let times = [&one["visit"]["trail"][0]["at_ms"], &one["visit"]["trail"][1]["at_ms"]];
        ensure!(times == [1_000, 2_000] && one["visit"]["trail"].as_array().map(Vec::len) == Some(2), "{one}");
        ensure!(one["visit"]["referrer"] == "https://search.example/", "{one}");
        ensure!(one["since_ms"].as_u64().is_some_and(|since| since > 0), "{one}");
        ensure!(one["campaign"] == json!({ "utm_source": "mail" }), "{one}");
        Ok(())
    };
    // Whichever node is asked.
    for node in desk.cluster.members() {
        check(&json_of(&ask(&node.client, &desk.anns, "GET", "/v1/visitors/online", None).await?)?)?;
    }
    // Another site sees nobody, and a page that is none is not taken.
    operate(&desk.cluster, "POST", "/admin/v1/sites", &json!({ "name": "shop" })).await?;
    let (_, eve) = person(&desk.cluster, "shop", "eve", "owner").await?;
    let seen = desk.done(&eve, "GET", "/v1/visitors/online", None).await?;
    ensure!(seen["visitors"] == json!([]) && seen["count"] == 0, "{seen}");
    let wrong =
        Visit { session: new.session, trail: vec![page("javascript:alert(1)", 3_000)], referrer: None, visits: None };
    let other = Person::visitor(&desk.cluster, 0).await?;
    ensure!(code(other.1.client.visit(Visit { session: other.0.session, ..wrong }).await)? == ErrorCode::BadRequest);
    drop(other);
    // The node that knew it is gone; the page says it to another.
    desk.cluster.kill(2);
    let back = wait::until("it is there again", SOON, async || {
        let seen = desk.done(&desk.anns, "GET", "/v1/visitors/online", None).await.ok()?;
        (is_there(&seen) && seen["visitors"][0]["visit"].is_object()).then_some(seen)
    });
    check(&back.await?)?;
    drop(visitor);
    what_they_look_with_is_told(&desk).await?;
    let gone = wait::until("it is gone", SOON, async || {
        let seen = desk.done(&desk.anns, "GET", "/v1/visitors/online", None).await.ok()?;
        (seen["visitors"] == json!([])).then_some(())
    });
    gone.await
}

/// Browser, system and device are those that the client says; who says nothing has none.
async fn what_they_look_with_is_told(desk: &Desk) -> anyhow::Result<()> {
    let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36";
    let phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1";
    for (agent, expected) in [
        (Some(chrome), json!(["Chrome 120.0.0.0", "Windows 10 NT 10.0", "pc"])),
        (Some(phone), json!(["Safari 17.1", "iPhone 17.1", "smartphone"])),
        (None, json!([null, null, null])),
    ] {
        let addr = &desk.cluster.node(3).client;
        let new = http::create_visitor(addr, SITE).await?;
        let headers: Vec<_> = agent.map(|agent| ("user-agent", agent)).into_iter().collect();
        let mut socket = Socket::open_with(addr, &headers).await?;
        let hello = json!({ "id": 1, "hello": { "token": new.token, "device": "d" } });
        ensure!(!socket.ask(&hello, SOON, &mut Vec::new()).await?["welcome"].is_null());
        let online = wait::until("the visitor is there", SOON, async || {
            let seen = desk.done(&desk.anns, "GET", "/v1/visitors/online", None).await.ok()?;
            let is_it = |one: &&Value| one["session"] == new.session.to_string();
            seen["visitors"].as_array()?.iter().find(is_it).cloned()
        });
        let online = online.await?;
        let told = json!([online["browser"], online["system"], online["device"]]);
        ensure!(told == expected && online["visit"].is_null(), "{agent:?}: {online}");
    }
    Ok(())
}
