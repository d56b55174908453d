//! Owns the tests of the admin API: every route with every role, and what a route promises across nodes. Does not break anything,
//! but for the drill.

use crate::asks::{ask, ask_with_key, json_of};
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::http as plain;
use chaos_tests::wait;
use node::admin::{Method, Route, role_name, table};
use node::client::{ChatClient, Config, http};
use proto::client::Party;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SOON: Duration = Duration::from_secs(20);
const PASSWORD: &str = "correct horse battery staple";

/// The status line of an answer that may never end.
async fn status_of_stream(addr: &str, token: &str, path: &str) -> anyhow::Result<u16> {
    let mut stream = tokio::net::TcpStream::connect(addr).await?;
    let bearer = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{bearer}\r\n").as_bytes()).await?;
    let mut bytes = vec![0; 512];
    let count = tokio::time::timeout(SOON, stream.read(&mut bytes)).await??;
    let head = String::from_utf8_lossy(&bytes[..count]).into_owned();
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(|| head.clone())
}

/// A path with things that do not exist in the place of names: what is allowed finds nothing to change.
fn path_of(route: &Route) -> String {
    let mut path = route.path.to_owned();
    for (name, value) in [
        ("{node}", "n99"),
        ("{shard}", "g99"),
        ("{replica}", "r99999"),
        ("{session}", "000000000000000000000000000000aa"),
        ("{seq}", "1"),
        ("{name}", "no-such-name"),
        ("{site}", "no-such-site"),
        ("{team}", "t9"),
        ("{agent}", "a999999"),
    ] {
        path = path.replace(name, value);
    }
    if path.contains("/profiles/") { format!("{path}?seconds=1") } else { path }
}

async fn status_of(addr: &str, token: &str, route: &Route) -> anyhow::Result<u16> {
    if route.words == "settings watch" {
        return status_of_stream(addr, token, route.path).await;
    }
    // A body without its fields is refused by the route itself, behind the guard.
    let body = route.body.as_ref().map(|_| json!({}));
    let answer = ask(addr, token, route.method.name(), &path_of(route), body.as_ref()).await?;
    if answer.status >= 400 {
        let problem = json_of(&answer)?;
        let kind = plain::header(&answer.head, "content-type");
        ensure!(kind == Some("application/problem+json"), "{} is a {kind:?}", route.words);
        ensure!(problem["status"] == answer.status && problem["detail"].is_string(), "{} {problem}", route.words);
    }
    Ok(answer.status)
}

#[tokio::test]
async fn every_route_allows_its_roles_and_denies_the_others() -> anyhow::Result<()> {
    let cluster = Cluster::start_with(1, &["--allow-drills"]).await?;
    let addr = &cluster.node(1).admin;
    let founder = cluster.admin_token()?;
    let mut tokens = BTreeMap::new();
    for role in ["viewer", "operator", "admin"] {
        let body = json!({ "name": format!("test-{role}"), "role": role });
        let made = json_of(&ask(addr, &founder, "POST", "/admin/v1/api-tokens", Some(&body)).await?)?;
        tokens.insert(role, made["token"].as_str().context("no token")?.to_owned());
    }
    let mut wrong = Vec::new();
    let mut checked = 0;
    for route in table() {
        let allowed = |role: &str| {
            role == "admin"
                || role == role_name(route.access)
                || role == "operator" && role_name(route.access) == "viewer"
        };
        for who in ["nobody", "a wrong token", "viewer", "operator", "admin"] {
            let token = match who {
                "nobody" => "",
                "a wrong token" => "admin.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                role => &tokens[role],
            };
            let status = status_of(addr, token, &route).await?;
            let is_right = match who {
                "nobody" | "a wrong token" => status == 401,
                role if !allowed(role) => status == 403,
                _ => {
                    status != 401 && status != 403 && (status == route.success.0 || route.refusals().contains(&status))
                }
            };
            checked += 1;
            if !is_right {
                wrong.push(format!("{} as {who}: {status}", route.words));
            }
        }
    }
    println!("{checked} pairs of route and role");
    ensure!(wrong.is_empty(), "{wrong:#?}");
    ask(addr, &founder, "DELETE", "/admin/v1/api-tokens/test-admin", None).await?;
    let revoked = ask(addr, &tokens["admin"], "GET", "/admin/v1/cluster", None).await?;
    ensure!(revoked.status == 401, "a revoked token gets {}", revoked.status);
    Ok(())
}

#[tokio::test]
async fn a_write_with_a_key_is_done_once_whichever_node_is_asked() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let token = cluster.admin_token()?;
    let node = |number: u64| cluster.node(number).admin.as_str();
    let create = |name: &str| json!({ "name": name, "role": "viewer" });
    let post = async |number, path: &str, body: &Value, key| {
        ask_with_key(node(number), &token, "POST", path, Some(body), Some(key)).await
    };
    let first = post(1, "/admin/v1/sites", &json!({ "name": "shop" }), "k1").await?;
    ensure!(first.status == 200, "{}", first.text());
    for number in 1..=3 {
        let again = post(number, "/admin/v1/sites", &json!({ "name": "shop" }), "k1").await?;
        ensure!((again.status, &again.body) == (200, &first.body), "n{number}: {}", again.text());
        ensure!(plain::header(&again.head, "idempotent-replayed") == Some("true"), "{}", again.head);
        let other = post(number, "/admin/v1/sites", &json!({ "name": "other" }), "k1").await?;
        ensure!(other.status == 422, "n{number}: {}", other.text());
        ensure!(json_of(&other)?["type"] == "urn:everdesk:problem:key-reused", "{}", other.text());
    }
    // A refusal is an answer too; a secret is told once.
    let refused = post(2, "/admin/v1/sites", &json!({ "name": "a b" }), "k2").await?;
    let again = post(3, "/admin/v1/sites", &json!({ "name": "a b" }), "k2").await?;
    ensure!((refused.status, again.status) == (422, 422) && refused.body == again.body, "{}", again.text());
    let made = post(2, "/admin/v1/api-tokens", &create("ci"), "k3").await?;
    ensure!(made.status == 201, "{}", made.text());
    let again = post(3, "/admin/v1/api-tokens", &create("ci"), "k3").await?;
    ensure!(again.status == 409 && !again.text().contains("admin."), "{}", again.text());
    // The same key with another token is another key.
    let secret = json_of(&made)?["token"].as_str().context("no token")?.to_owned();
    let sites = ask(node(1), &secret, "GET", "/admin/v1/sites", None).await?;
    ensure!(
        sites.text().matches("\"name\":\"shop\"").count() == 1 && !sites.text().contains("other"),
        "{}",
        sites.text()
    );
    let tokens = ask(node(1), &token, "GET", "/admin/v1/api-tokens", None).await?;
    ensure!(!tokens.text().contains(&secret) && tokens.text().contains("\"ci\""), "{}", tokens.text());
    Ok(())
}

#[tokio::test]
async fn an_operator_finds_a_session_traces_its_message_and_closes_it_from_any_node() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    cluster.add_agent("ann", PASSWORD).await?;
    let token = cluster.admin_token()?;
    let (second, third) = (cluster.clients_from(1), cluster.clients_from(2));
    let login = http::login(&third[0], SITE, "ann", PASSWORD).await?;
    let (agent, _to_agent) = ChatClient::start(Config::new(third, login.token, Party::Agent(login.agent)));
    let new = http::create_visitor(&second[0], SITE).await?;
    let config = Config::new(second, new.token.clone(), Party::Visitor(new.visitor));
    let (visitor, _to_visitor) = ChatClient::start(config);
    let seq = visitor.send(new.session, "is anybody there?").await?.seq;
    let session = new.session.to_string();
    let get = async |path: String| json_of(&ask(&cluster.node(1).admin, &token, "GET", &path, None).await?);

    wait::until("the session is ann's", SOON, async || {
        let found = get("/admin/v1/sessions?state=open&site=demo&limit=10".into()).await.ok()?;
        let line = &found["sessions"][0];
        (line["session"] == session.as_str() && line["agent"] == login.agent.to_string()).then_some(())
    })
    .await?;
    // The shard gave it to ann; her node may hear of that a moment later.
    wait::until("the cursor is taken", SOON, async || agent.cursor(new.session, Some(seq), Some(seq)).await.ok())
        .await?;
    let mut last = Value::Null;
    let traced = wait::until("every step of the message is traced", SOON, async || {
        last = get(format!("/admin/v1/sessions/{session}/messages/{seq}/trace")).await.ok()?;
        let steps: Vec<&str> = last["steps"].as_array()?.iter().filter_map(|step| step["step"].as_str()).collect();
        ["accepted", "committed", "routed", "acked", "delivered", "read"]
            .iter()
            .all(|step| steps.contains(step))
            .then_some(())
    });
    traced.await.with_context(|| last.to_string())?;
    println!("{}", serde_json::to_string_pretty(&last)?);
    let steps = last["steps"].as_array().context("no steps")?;
    let of = |name: &str| steps.iter().find(|step| step["step"] == name).expect("waited for it");
    ensure!(of("committed")["index"].as_u64() > Some(0) && of("committed")["term"].as_u64() > Some(0), "{last}");
    ensure!(of("accepted")["node"] == "n2" && of("delivered")["node"] == "n3", "{last}");

    let sockets = get("/admin/v1/nodes/n2/sockets".into()).await?;
    ensure!(sockets["count"] == 1 && sockets["sockets"][0]["who"] == new.visitor.to_string(), "{sockets}");
    let path = format!("/admin/v1/sessions/{session}/close");
    let closed = json_of(&ask(&cluster.node(3).admin, &token, "POST", &path, None).await?)?;
    ensure!(closed["state"] == "closed" && closed["last_agent"] == login.agent.to_string(), "{closed}");
    let found = get("/admin/v1/sessions?state=open".into()).await?;
    ensure!(found["sessions"] == json!([]) && found["missing"] == json!([]), "{found}");
    Ok(())
}

#[tokio::test]
async fn a_setting_and_a_log_filter_hold_at_once_on_every_node() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let token = cluster.admin_token()?;
    let put = async |path: &str, body: Value| ask(&cluster.node(1).admin, &token, "PUT", path, Some(&body)).await;
    let mut stream = tokio::net::TcpStream::connect(&cluster.node(2).admin).await?;
    let head = format!("GET /admin/v1/settings/watch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut told = String::new();
    read_until(&mut stream, &mut told, "event: settings").await?;
    ensure!(put("/admin/v1/settings/drain_over_s", json!({ "value": "9" })).await?.status == 200, "not set");
    read_until(&mut stream, &mut told, r#""name":"drain_over_s","value":"9""#).await?;
    ensure!(put("/admin/v1/settings/drain_over_s", json!({ "value": "many" })).await?.status == 422, "set");
    ensure!(put("/admin/v1/settings/none", json!({ "value": "9" })).await?.status == 404, "set");
    ensure!(put("/admin/v1/settings/log_filter", json!({ "value": "warn" })).await?.status == 200, "not set");
    wait::until("node 3 logs what the setting says", SOON, async || {
        let answer = ask(&cluster.node(1).admin, &token, "GET", "/admin/v1/nodes/n3/log", None).await.ok()?;
        answer.text().contains(r#""filter":"warn""#).then_some(())
    })
    .await?;
    let answer = put("/admin/v1/nodes/n2/log", json!({ "filter": "node=debug,info" })).await?;
    ensure!(answer.status == 200 && answer.text().contains("node=debug"), "{}", answer.text());
    ensure!(put("/admin/v1/nodes/n2/log", json!({ "filter": "no=such=thing" })).await?.status == 422, "set");
    Ok(())
}

async fn read_until(stream: &mut tokio::net::TcpStream, told: &mut String, what: &str) -> anyhow::Result<()> {
    let mut bytes = vec![0; 16 << 10];
    while !told.contains(what) {
        let count = tokio::time::timeout(SOON, stream.read(&mut bytes)).await.with_context(|| told.clone())??;
        ensure!(count > 0, "the stream ended: {told}");
        told.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    Ok(())
}

#[tokio::test]
async fn a_leadership_goes_where_the_operator_says_and_a_drill_reports_the_fail_over() -> anyhow::Result<()> {
    let cluster = Cluster::start_with(3, &["--allow-drills"]).await?;
    let token = cluster.admin_token()?;
    let post =
        async |path: &str, body: Value| json_of(&ask(&cluster.node(1).admin, &token, "POST", path, Some(&body)).await?);
    let leader = cluster.status(1).await?.data_shards().next().and_then(|shard| shard.leader).context("no leader")?;
    let to = leader % 3 + 1;
    let moved = post("/admin/v1/shards/g1/leader", json!({ "to": format!("n{to}") })).await?;
    ensure!(moved["leader"] == format!("n{to}"), "{moved}");
    let refused = post("/admin/v1/shards/g1/leader", json!({ "to": "n9" })).await?;
    ensure!(refused["status"] == 422, "{refused}");

    let report = post("/admin/v1/drills", json!({ "kind": "leader", "shard": "g2", "for_ms": 3_000 })).await?;
    println!("{report}");
    let seen = &report["shards"][0];
    ensure!(seen["leader_before"] != seen["leader_after"], "nobody took over: {report}");
    ensure!(seen["epoch_after"].as_u64() > seen["epoch_before"].as_u64(), "{report}");
    ensure!(seen["gap_ms"].as_u64().is_some_and(|gap| (50..4_000).contains(&gap)), "{report}");
    let report =
        post("/admin/v1/drills", json!({ "kind": "disk", "node": "n1", "delay_ms": 50, "for_ms": 500 })).await?;
    ensure!(report["shards"].as_array().map(Vec::len) == Some(6), "{report}");
    let refused = post("/admin/v1/drills", json!({ "kind": "link", "node": "n1", "for_ms": 500 })).await?;
    ensure!(refused["status"] == 422, "{refused}");
    let report =
        post("/admin/v1/drills", json!({ "kind": "link", "node": "n2", "peer": "n3", "for_ms": 1_000 })).await?;
    println!("{report}");
    cluster.wait_settled().await
}

#[tokio::test]
async fn profiles_are_taken_one_at_a_time_and_the_page_needs_no_token() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let (addr, token) = (&cluster.node(1).admin, cluster.admin_token()?);
    let cpu = async || ask(addr, &token, "GET", "/admin/v1/profiles/cpu?seconds=2", None).await;
    let (one, other) = futures_util::future::try_join(cpu(), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        ask(addr, &token, "GET", "/admin/v1/profiles/heap?seconds=1", None).await
    })
    .await?;
    ensure!(one.status == 200 && one.body.starts_with(&[0x1f, 0x8b]), "{} {}", one.status, one.text());
    ensure!(other.status == 503, "two at once: {}", other.status);
    let heap = ask(addr, &token, "GET", "/admin/v1/profiles/heap?seconds=1", None).await?;
    ensure!(heap.status == 200 && heap.body.starts_with(&[0x1f, 0x8b]), "{} {}", heap.status, heap.text());
    let document = json_of(&ask(addr, "", "GET", "/openapi.json", None).await?)?;
    for route in table() {
        ensure!(document["paths"][route.path][route.method.name().to_lowercase()].is_object(), "{}", route.path);
    }
    ensure!(table().iter().any(|route| route.method == Method::Delete), "no route deletes");
    let page = ask(addr, "", "GET", "/docs/", None).await?;
    ensure!(page.status == 200 && page.text().contains("swagger-ui"), "{}", page.text());
    ensure!(!page.text().contains("//cdn") && !page.text().contains("https://unpkg"), "{}", page.text());
    Ok(())
}
