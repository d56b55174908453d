//! Owns the tests of a site's API: every route with every role, scope and foreign tenant, and what people and systems do by it. Does not
//! test the rules behind it.

use crate::asks::{ask, ask_with_key, json_of};
use anyhow::{Context, ensure};
use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::http as plain;
use chaos_tests::person::{Person, SOON};
use chaos_tests::wait;
use node::admin::Route;
use node::api::{Access, SCOPES, Scope, Who, table};
use node::client::http;
use proto::client::{EventKind, Party};
use proto::command::AgentRole;
use proto::ids::AgentId;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const PASSWORD: &str = "correct horse battery staple";
const ROLES: [(AgentRole, &str); 5] = [
    (AgentRole::Viewer, "viewer"),
    (AgentRole::Agent, "agent"),
    (AgentRole::Supervisor, "supervisor"),
    (AgentRole::Admin, "admin"),
    (AgentRole::Owner, "owner"),
];

async fn operate(cluster: &Cluster, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    let answer = ask(&cluster.node(1).admin, &cluster.admin_token()?, method, path, Some(body)).await?;
    ensure!(answer.status < 300, "{method} {path}: {}", answer.text());
    if answer.body.is_empty() { Ok(Value::Null) } else { json_of(&answer) }
}

/// An agent of that role, logged in.
async fn person(cluster: &Cluster, site: &str, name: &str, role: &str) -> anyhow::Result<(AgentId, String)> {
    let body = json!({ "site": site, "name": name, "password": PASSWORD });
    operate(cluster, "POST", "/admin/v1/agents", &body).await?;
    let login = http::login(&cluster.node(1).client, site, name, PASSWORD).await?;
    let path = format!("/admin/v1/agents/{}/role", login.agent);
    operate(cluster, "PUT", &path, &json!({ "role": role })).await?;
    Ok((login.agent, login.token))
}

async fn key(addr: &str, owner: &str, name: &str, scopes: &[&str]) -> anyhow::Result<String> {
    let body = json!({ "name": name, "scopes": scopes });
    let made = ask(addr, owner, "POST", "/v1/keys", Some(&body)).await?;
    ensure!(made.status == 201, "{}", made.text());
    Ok(json_of(&made)?["key"].as_str().context("no key")?.to_owned())
}

/// Names of what there is at the first site.
struct There {
    session: String,
    agent: AgentId,
}

impl There {
    fn path(&self, route: &Route<Access>) -> String {
        let name = if route.path.starts_with("/v1/keys") { "crm-key" } else { "crm" };
        let path = route.path.replace("{session}", &self.session).replace("{agent}", &self.agent.to_string());
        path.replace("{team}", "t2").replace("{name}", name).replace("{letter}", "g1-1").replace("{shortcut}", "hello")
    }

    /// A body that would do something.
    fn body(&self, route: &Route<Access>) -> Option<Value> {
        let body = match route.words {
            "conversations send" => json!({ "note": { "text": "by somebody else" } }),
            "conversations close" => json!({ "reason": "by somebody else" }),
            "conversations transfer" => json!({ "note": "by somebody else" }),
            "desk set-rules" => json!({ "sticky_s": 77 }),
            "teams set" => json!({ "name": "by somebody else" }),
            "seats set" => json!({ "capacity": 77 }),
            "agents add" => json!({ "name": "mallory", "password": PASSWORD }),
            "agents set-role" => json!({ "role": "agent" }),
            "keys create" => json!({ "name": format!("k{}", std::process::id()), "scopes": ["desk:read"] }),
            "webhooks set" => json!({ "url": "https://elsewhere.example/" }),
            "webhooks replay" => json!({}),
            "canned set" => json!({ "text": "by somebody else" }),
            "macros set" => json!({ "actions": [{ "note": "by somebody else" }] }),
            _ => return None,
        };
        Some(body)
    }
}

/// What the site's owner sees of everything.
async fn all(addr: &str, owner: &str, there: &There) -> anyhow::Result<String> {
    let mut seen = String::new();
    for path in [
        "/v1/desk".to_owned(),
        "/v1/agents".to_owned(),
        "/v1/keys".to_owned(),
        "/v1/webhooks".to_owned(),
        "/v1/canned".to_owned(),
        "/v1/macros".to_owned(),
        format!("/v1/conversations/{}", there.session),
        format!("/v1/conversations/{}/events", there.session),
    ] {
        let answer = ask(addr, owner, "GET", &path, None).await?;
        ensure!(answer.status == 200, "{path}: {}", answer.text());
        seen.push_str(&answer.text());
    }
    Ok(seen)
}

#[tokio::test]
async fn every_route_is_for_its_roles_and_scopes_and_never_for_another_tenant() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let addr = &cluster.node(1).client;
    operate(&cluster, "POST", "/admin/v1/sites", &json!({ "name": "shop" })).await?;
    let mut people = BTreeMap::new();
    for (role, name) in ROLES {
        let (agent, token) = person(&cluster, SITE, &format!("demo-{name}"), name).await?;
        people.insert(role, (agent, token));
    }
    let owner = people[&AgentRole::Owner].1.clone();
    let visitor = http::create_visitor(addr, SITE).await?;
    let there = There { session: visitor.session.to_string(), agent: people[&AgentRole::Agent].0 };
    for (method, path, body) in [
        ("PUT", "/v1/teams/t2", json!({ "name": "demo-team" })),
        ("PUT", "/v1/webhooks/crm", json!({ "url": "https://demo-hook.example/" })),
        ("POST", "/v1/keys", json!({ "name": "crm-key", "scopes": ["desk:read"] })),
        ("PUT", "/v1/canned/hello", json!({ "text": "demo-text" })),
        ("PUT", "/v1/macros/crm", json!({ "actions": [{ "note": "demo-note" }] })),
    ] {
        let made = ask(addr, &owner, method, path, Some(&body)).await?;
        ensure!(made.status < 300, "{path}: {}", made.text());
    }
    let names: Vec<&str> = SCOPES.iter().map(|(_, name)| *name).collect();
    let every_scope = key(addr, &owner, "demo-all", &names).await?;
    let mut lacking = BTreeMap::new();
    for (_, lacks) in SCOPES {
        let others: Vec<&str> = names.iter().copied().filter(|name| *name != lacks).collect();
        lacking.insert(lacks, key(addr, &owner, &format!("demo-not-{}", lacks.replace(':', "-")), &others).await?);
    }
    // The other tenant: with the highest role, and with every scope.
    let (_, foreign_owner) = person(&cluster, "shop", "eve", "owner").await?;
    let foreign_key = key(addr, &foreign_owner, "all", &names).await?;
    let before = all(addr, &owner, &there).await?;

    let mut wrong = Vec::new();
    let mut checked = 0;
    for route in table() {
        let (path, body) = (there.path(&route), there.body(&route));
        ensure!(route.body.is_some() == body.is_some(), "{} has a body here", route.words);
        let method = route.method.name();
        let mut denied = vec![
            ("nobody", String::new(), 401),
            ("a wrong token", "a1.a1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(), 401),
            ("a wrong key", "key.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(), 401),
            ("a visitor", visitor.token.clone(), 401),
            ("an operator", cluster.admin_token()?, 401),
        ];
        for (role, name) in ROLES {
            let who = Who::Agent { agent: there.agent, role };
            if !route.access.allows(&who) {
                denied.push((name, people[&role].1.clone(), 403));
            }
        }
        match route.access.scope.name() {
            Some(scope) => denied.push(("a key without the scope", lacking[scope].clone(), 403)),
            None => denied.push(("a key with every scope", every_scope.clone(), 403)),
        }
        for (who, token, expected) in denied {
            let answer = ask(addr, &token, method, &path, body.as_ref()).await?;
            let kind = plain::header(&answer.head, "content-type");
            if answer.status != expected || kind != Some("application/problem+json") {
                wrong.push(format!("{} as {who}: {} {kind:?}", route.words, answer.status));
            }
            checked += 1;
        }
        for (who, token) in [("a foreign owner", &foreign_owner), ("a foreign key", &foreign_key)] {
            let answer = ask(addr, token, method, &path, body.as_ref()).await?;
            let is_named = route.path.contains("{session}")
                || route.path.contains("{agent}")
                || route.path.contains("{name}") && !route.words.ends_with(" set") && !route.words.ends_with(" remove");
            let may = route.access.scope != Scope::Nothing || who == "a foreign owner";
            // What both sites may have is the foreign one's own; what only this one has is not there.
            let is_right = match (may, is_named) {
                (false, _) => answer.status == 403,
                (true, true) => matches!(answer.status, 404),
                (true, false) => answer.status < 300,
            };
            if !is_right || answer.text().contains("demo-") || answer.text().contains(&there.session) {
                wrong.push(format!("{} as {who}: {} {}", route.words, answer.status, answer.text()));
            }
            checked += 1;
        }
    }
    println!("{checked} pairs of route and credential denied");
    ensure!(all(addr, &owner, &there).await? == before, "somebody else changed the site");

    // And who may, can.
    for route in table() {
        let (path, body) = (there.path(&route), there.body(&route));
        let least = route.access.role.context("for nobody")?;
        let mut tokens = vec![people[&least].1.clone(), owner.clone()];
        tokens.extend(route.access.scope.name().map(|_| every_scope.clone()));
        for token in tokens {
            let answer = ask(addr, &token, route.method.name(), &path, body.as_ref()).await?;
            let is_known = answer.status == route.success.0 || route.refusals().contains(&answer.status);
            if !is_known || matches!(answer.status, 401) {
                wrong.push(format!("{} is for them: {} {}", route.words, answer.status, answer.text()));
            }
            checked += 1;
        }
    }
    println!("{checked} in all");
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_and_systems_work_through_the_api_and_what_is_repeated_is_done_once() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let (sue, sues) = person(&cluster, SITE, "sue", "supervisor").await?;
    let (_, olgas) = person(&cluster, SITE, "olga", "owner").await?;
    let (ann, anns) = person(&cluster, SITE, "ann", "agent").await?;
    let (_, at_desk) = Person::agent(&cluster, "ann", PASSWORD, 1).await?;
    let (new, visitor) = Person::visitor(&cluster, 2).await?;
    let session = new.session;
    let conversation = format!("/v1/conversations/{session}");
    visitor.client.send(session, "is anybody there?").await?;
    at_desk.wait("it is ann's", |told| (told.holder(session) == Some(ann)).then_some(())).await?;
    let addrs: Vec<String> = cluster.nodes().iter().map(|node| node.client.clone()).collect();
    let get = async |path: &str| json_of(&ask(&addrs[0], &sues, "GET", path, None).await?);

    let list = get("/v1/conversations?state=open").await?;
    ensure!(list["conversations"][0]["session"] == session.to_string(), "{list}");
    // Said once, however often and wherever it is repeated, and whoever leads by then.
    let say = json!({ "text": "good day" });
    let events = format!("{conversation}/events");
    for addr in &addrs {
        let said = ask_with_key(addr, &anns, "POST", &events, Some(&say), Some("k-1")).await?;
        ensure!(said.status == 200 && json_of(&said)?["seq"] == 3, "{}", said.text());
    }
    let overview = cluster.overview().await?;
    let shard = proto::command::Target::Session(session).shard(overview.data_shards().count() as u32);
    let victim = wait::until("there is a leader", SOON, async || {
        let path = format!("/admin/v1/shards/{shard}");
        let token = cluster.admin_token().ok()?;
        let view = json_of(&ask(&cluster.node(1).admin, &token, "GET", &path, None).await.ok()?).ok()?;
        view["leader"].as_str()?.trim_start_matches('n').parse::<u64>().ok()
    });
    let victim = victim.await?;
    cluster.kill(victim);
    let alive = addrs[usize::from(victim == 1)].clone();
    let again = wait::until("the answer is the first one", SOON, async || {
        let said = ask_with_key(&alive, &anns, "POST", &events, Some(&say), Some("k-1")).await.ok()?;
        (said.status == 200).then(|| json_of(&said).ok()).flatten()
    });
    ensure!(again.await?["seq"] == 3);
    cluster.restart(&[victim]).await?;

    // A system writes in its own name, and only where its scopes allow it.
    let robot = key(&alive, &olgas, "robot", &["conversations:read", "conversations:write"]).await?;
    let posted = ask(&alive, &robot, "POST", &events, Some(&json!({ "text": "a robot says" }))).await?;
    ensure!(posted.status == 200, "{}", posted.text());
    let heard = visitor
        .wait("the robot is heard", |told| {
            told.events.iter().find(|event| matches!(&event.kind, EventKind::Message { from: Party::System, text, .. } if text == "a robot says")).cloned()
        })
        .await?;
    ensure!(ask(&alive, &robot, "GET", "/v1/desk", None).await?.status == 403);
    let label = ask(&alive, &anns, "POST", &events, Some(&json!({ "label": { "label": "vip" } }))).await?;
    ensure!(label.status == 200, "{}", label.text());
    for wrong in
        [json!({}), json!({ "text": "a", "recall": { "of": 1 } }), json!({ "label": { "label": "x" }, "reply_to": 1 })]
    {
        let refused = ask(&alive, &anns, "POST", &events, Some(&wrong)).await?;
        ensure!(refused.status == 400, "{wrong}: {}", refused.text());
    }
    // A canned reply with what is known, and a macro that is repeated elsewhere and done once.
    let facts = [("name".into(), "Ada".into())].into();
    visitor.client.about(proto::client::About { session, team: None, facts }).await?;
    let put = async |token: &str, path: &str, body: Value| ask(&alive, token, "PUT", path, Some(&body)).await;
    let text = "Hello {{visitor.name|you}}, {{agent.name}} of {{site}} here{{visitor.age}}";
    ensure!(put(&anns, "/v1/canned/hello", json!({ "text": text })).await?.status == 403);
    ensure!(put(&sues, "/v1/canned/hello", json!({ "text": "for all" })).await?.status == 200);
    ensure!(put(&anns, "/v1/canned/hello", json!({ "text": text, "mine": true })).await?.status == 200);
    let fill = format!("{conversation}/canned/hello");
    let filled = json_of(&ask(&alive, &anns, "GET", &fill, None).await?)?;
    ensure!(filled["text"] == "Hello Ada, ann of demo here", "{filled}");
    ensure!(get(&fill).await?["text"] == "for all", "her own is nobody else's");
    let actions =
        json!({ "actions": [{ "say": "One moment, {{visitor.name}}" }, { "label": "vip" }, { "note": "asks often" }] });
    ensure!(put(&sues, "/v1/macros/vip", actions).await?.status == 200);
    let early = json!({ "actions": [{ "close": "" }, { "say": "too late" }] });
    ensure!(put(&sues, "/v1/macros/wrong", early).await?.status == 422);
    let run = format!("{conversation}/macros/vip");
    for addr in &addrs {
        let done = ask_with_key(addr, &anns, "POST", &run, None, Some("k-3")).await?;
        ensure!(done.status == 200 && json_of(&done)?["done"] == 3, "{}", done.text());
    }
    // A supervisor gives it to somebody with a note, which is there before they are.
    let (_, sue_at_desk) = Person::agent(&cluster, "sue", PASSWORD, 0).await?;
    let there = wait::until("sue is there", SOON, async || {
        let desk = get("/v1/desk").await.ok()?;
        desk["seats"]
            .as_array()?
            .iter()
            .any(|seat| seat["agent"] == sue.to_string() && seat["state"] == "online")
            .then_some(())
    });
    there.await?;
    let give = json!({ "agent": sue.to_string(), "note": "an old friend" });
    let given =
        ask_with_key(&alive, &anns, "POST", &format!("{conversation}/transfer"), Some(&give), Some("k-2")).await?;
    ensure!(given.status == 200, "{}", given.text());
    sue_at_desk.wait("it is sue's", |told| (told.holder(session) == Some(sue)).then_some(())).await?;
    let history = get(&format!("{events}?after=0&limit=200")).await?;
    let kinds: Vec<&str> =
        history["events"].as_array().context("no events")?.iter().filter_map(|event| event["kind"].as_str()).collect();
    ensure!(kinds.ends_with(&["label", "message", "label", "note", "note", "assigned"]), "{kinds:?}");
    ensure!(heard.seq == 4 && history["head"] == kinds.len(), "{history}");
    let not_hers = ask(&alive, &anns, "POST", &format!("{conversation}/close"), Some(&json!({}))).await?;
    ensure!(not_hers.status == 403, "{}", not_hers.text());
    let closed =
        ask(&alive, &robot, "POST", &format!("{conversation}/close"), Some(&json!({ "reason": "solved" }))).await?;
    let closed_view = json_of(&closed)?;
    ensure!(
        closed.status == 200 && closed_view["state"] == "closed" && closed_view["labels"][0] == "vip",
        "{closed_view}"
    );
    visitor
        .wait("it is closed", |told| {
            told.events.iter().any(|event| matches!(event.kind, EventKind::Closed { .. })).then_some(())
        })
        .await?;

    // A key that was revoked is nobody's; nobody makes anybody more than they are.
    ensure!(ask(&alive, &olgas, "DELETE", "/v1/keys/robot", None).await?.status == 204);
    let gone = wait::until("the key is gone", SOON, async || {
        (ask(&alive, &robot, "GET", "/v1/me", None).await.ok()?.status == 401).then_some(())
    });
    gone.await?;
    let (adam, adams) = person(&cluster, SITE, "adam", "admin").await?;
    let role_of = |agent: AgentId| format!("/v1/agents/{agent}/role");
    let raise = ask(&alive, &adams, "PUT", &role_of(adam), Some(&json!({ "role": "owner" }))).await?;
    ensure!(raise.status == 403, "{}", raise.text());
    let password = json!({ "name": "olga", "password": "another password" });
    ensure!(ask(&alive, &adams, "POST", "/v1/agents", Some(&password)).await?.status == 403);
    ensure!(ask(&alive, &olgas, "PUT", &role_of(adam), Some(&json!({ "role": "viewer" }))).await?.status == 200);
    let only_reads = wait::until("adam only reads", SOON, async || {
        let write = ask(&alive, &adams, "PUT", "/v1/rules", Some(&json!({}))).await.ok()?;
        (write.status == 403).then_some(())
    });
    only_reads.await?;
    ensure!(ask(&alive, &adams, "GET", "/v1/desk", None).await?.status == 200);
    let (_, no_seat) = Person::agent(&cluster, "adam", PASSWORD, 0).await?;
    let refused = wait::until("a viewer has no seat", SOON, async || no_seat.told.lock().broken.clone());
    ensure!(refused.await?.contains("unauthorized"));
    at_desk.check()
}
