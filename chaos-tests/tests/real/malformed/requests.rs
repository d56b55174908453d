//! Owns malformed input over HTTP, to the listener for clients and to the one for administration.

use anyhow::{Context, ensure};
use chaos_tests::cluster::Cluster;
use chaos_tests::http::{Answer, Connection, header};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Report, check_still_serves};

/// Longest body for clients and for administrators, in bytes.
const CLIENT_BODY_MAX: usize = 16 << 10;
const ADMIN_BODY_MAX: usize = 256 << 10;
/// Failed logins of one name per minute.
const FAILURES_MAX: usize = 10;
const PASSWORD: &str = "correct horse battery staple";

/// Name, first line, further headers, body, answer. A body has its length in front of it.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str);

const JSON: &str = "Content-Type: application/json\r\n";
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n";
const LOGIN: &str = "POST /v1/agents/login";
const VISITORS: &str = "POST /v1/sites/demo/visitors";

const FOR_CLIENTS: &[Case] = &[
    ("an unknown path", "GET /v2/everything", "", "", "404 not_found: no such path"),
    ("a path that climbs", "GET /demo/../../etc/passwd", "", "", "404 not_found: no such path"),
    ("a page that is not there", "GET /demo/none.js", "", "", "404 not_found: no such path"),
    ("an unknown site", "POST /v1/sites/nowhere/visitors", "", "", "404 not_found: no such site"),
    ("a site that is not UTF-8", "POST /v1/sites/%ff%00/visitors", "", "", "404 not_found: no such site"),
    ("visitors with GET", "GET /v1/sites/demo/visitors", "", "", "405 method_not_allowed: use POST"),
    ("visitors with words", VISITORS, JSON, "hello", "400 malformed: the body is not JSON"),
    ("visitors with a list", VISITORS, JSON, "[]", "400 bad_request: the body must be an object"),
    ("visitors with a form", VISITORS, "", "a=b", "415 unsupported_media: the body must be application/json"),
    ("a login with PUT", "PUT /v1/agents/login", JSON, "{}", "405 method_not_allowed: use POST"),
    ("a login without a body", LOGIN, JSON, "", "400 malformed: the body is not JSON"),
    ("a login that is cut off", LOGIN, JSON, r#"{"site":"demo","na"#, "400 malformed: the body is not JSON"),
    (
        "a login without a password",
        LOGIN,
        JSON,
        r#"{"site":"demo","name":"ann"}"#,
        "400 bad_request: a field is missing or of the wrong type",
    ),
    (
        "a login with a number as password",
        LOGIN,
        JSON,
        r#"{"site":"demo","name":"ann","password":1}"#,
        "400 bad_request: a field is missing or of the wrong type",
    ),
    (
        "a login as plain text",
        LOGIN,
        "Content-Type: text/plain\r\n",
        r#"{"site":"demo","name":"ann","password":"x"}"#,
        "415 unsupported_media: the body must be application/json",
    ),
    (
        "a login with a wrong password",
        LOGIN,
        JSON,
        r#"{"site":"demo","name":"ann","password":"x"}"#,
        "401 unauthorized: name or password is wrong",
    ),
    (
        "a login of nobody",
        LOGIN,
        JSON,
        r#"{"site":"demo","name":"nobody","password":"x"}"#,
        "401 unauthorized: name or password is wrong",
    ),
    (
        "a login at an unknown site",
        LOGIN,
        JSON,
        r#"{"site":"nowhere","name":"ann","password":"x"}"#,
        "401 unauthorized: name or password is wrong",
    ),
    ("a socket with POST", "POST /v1/ws", "", "", "405 method_not_allowed: use GET"),
    (
        "a socket without the subprotocol",
        "GET /v1/ws",
        UPGRADE,
        "",
        "400 bad_request: offer the subprotocol everdesk.v1.json",
    ),
    ("readiness with POST", "POST /health/ready", "", "", "405 method_not_allowed: use GET"),
    ("the metrics with DELETE", "DELETE /metrics", "", "", "405 method_not_allowed: use GET"),
];

/// Name, headers beside the subprotocol, part of the message.
const HANDSHAKES: &[(&str, &str, &str)] = &[
    ("a socket without an upgrade", "", "400 bad_request: this is no WebSocket handshake: "),
    (
        "a socket of WebSocket version 6",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA\r\nSec-WebSocket-Version: 6\r\n",
        "400 bad_request: this is no WebSocket handshake: ",
    ),
    (
        "a socket without a key",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        "400 bad_request: this is no WebSocket handshake: ",
    ),
];

/// What is not HTTP never reaches a path: a status without a body.
const NOT_HTTP: &[(&str, &str, &str)] = &[
    ("a line that is no request", "hello there\r\n\r\n", "400"),
    ("a length that is no number", "POST /v1/agents/login HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n", "400"),
    (
        "two lengths",
        "POST /v1/agents/login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "400",
    ),
];

#[tokio::test]
async fn malformed_requests_get_a_status_and_a_code_each() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    cluster.add_agent("ann", PASSWORD).await?;
    let addr = &cluster.node(1).client;
    let mut report = Report::of("HTTP for clients");
    for &(name, line, headers, body, wanted) in FOR_CLIENTS {
        report.same(name, wanted, ask(addr, line, headers, body).await.map(|answer| line_of(&answer)));
    }
    for &(name, headers, wanted) in HANDSHAKES {
        let headers = format!("{headers}Sec-WebSocket-Protocol: everdesk.v1.json\r\n");
        let got = ask(addr, "GET /v1/ws", &headers, "").await;
        report.holds(name, wanted, got.map(|answer| line_of(&answer)));
    }
    for &(name, bytes, wanted) in NOT_HTTP {
        let got = Connection::open(addr).await?.raw(bytes.as_bytes()).await;
        report.same(name, wanted, got.map(|answer| answer.status.to_string()));
    }
    let large = format!(r#"{{"site":"demo","name":"ann","password":"{}"}}"#, "x".repeat(CLIENT_BODY_MAX));
    let too_large = "413 too_large: the body is too large";
    for (name, line) in [("a login above 16 KiB", LOGIN), ("visitors above 16 KiB", VISITORS)] {
        report.same(name, too_large, ask(addr, line, JSON, &large).await.map(|answer| line_of(&answer)));
    }
    let chunked = format!(
        "{LOGIN} HTTP/1.1\r\nHost: x\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    let got = Connection::open(addr).await?.raw(chunked.as_bytes()).await;
    report.same("a login above 16 KiB in chunks", too_large, got.map(|answer| line_of(&answer)));
    let bomb = format!(r#"{{"x":{}"#, "[".repeat(CLIENT_BODY_MAX - 5));
    let bomb = ask(addr, LOGIN, JSON, &bomb).await;
    report.same("a depth bomb", "400 malformed: the body is not JSON", bomb.map(|answer| line_of(&answer)));
    let crowd = crowd(addr).await;
    report.same("more logins at once than are checked", "503 overloaded: too many logins at once", crowd);
    report.same("an eleventh wrong password", "429 rate_limited: too many failed logins", guesses(addr).await);
    check_still_serves(&cluster).await?;
    report.end(10)
}

/// One of many logins at once is told to come again.
async fn crowd(addr: &str) -> anyhow::Result<String> {
    let logins = (0..24).map(|number| async move {
        let body = json!({"site": "demo", "name": format!("crowd-{number}"), "password": "x"}).to_string();
        ask(addr, LOGIN, JSON, &body).await
    });
    let answers: Vec<Answer> = join_all(logins).await.into_iter().collect::<anyhow::Result<_>>()?;
    let refused = answers.iter().find(|answer| answer.status == 503).context("all 24 were checked at once")?;
    check_says_when(refused, 1..=10_000)?;
    Ok(line_of(refused))
}

/// The answer to the right password after ten wrong ones; another name is not held up.
async fn guesses(addr: &str) -> anyhow::Result<String> {
    let login = |name: &str, password: &str| json!({"site": "demo", "name": name, "password": password}).to_string();
    for _ in 0..FAILURES_MAX {
        let answer = ask(addr, LOGIN, JSON, &login("guessed", "x")).await?;
        ensure!(answer.status == 401, "a wrong password gets {}", line_of(&answer));
    }
    let answer = ask(addr, LOGIN, JSON, &login("guessed", PASSWORD)).await?;
    let other = ask(addr, LOGIN, JSON, &login("ann", PASSWORD)).await?;
    ensure!(other.status == 200, "another name gets {}", line_of(&other));
    check_says_when(&answer, 1_000..=60_000)?;
    Ok(line_of(&answer))
}

/// 429 and 503 say in body and header when to come again.
fn check_says_when(answer: &Answer, wait_ms: std::ops::RangeInclusive<u64>) -> anyhow::Result<()> {
    let body: Value = serde_json::from_slice(&answer.body)?;
    let told = body["error"]["retry_after_ms"].as_u64().with_context(|| format!("no retry_after_ms in {body}"))?;
    ensure!(wait_ms.contains(&told), "retry_after_ms is {told}");
    let seconds: u64 = header(&answer.head, "retry-after").context("no Retry-After")?.parse()?;
    ensure!(seconds == told.div_ceil(1000), "{told} ms in the body, {seconds} s in the header");
    Ok(())
}

const SITES: &str = "POST /admin/v1/sites";
const AGENTS: &str = "POST /admin/v1/agents";
const NODE_1: &str = "PUT /admin/v1/nodes/n1/state";
const DENIED: &str = "401 a valid bearer token is needed";

const FOR_STRANGERS: &[Case] = &[
    ("no bearer", "GET /admin/v1/cluster", "", "", DENIED),
    ("a wrong bearer", "GET /admin/v1/cluster", "Authorization: Bearer admin.x\r\n", "", DENIED),
    ("another scheme", "GET /admin/v1/cluster", "Authorization: Basic YTpi\r\n", "", DENIED),
    ("no bearer and an unknown path", "GET /admin/v1/none", "", "", DENIED),
    ("no bearer and a faulty body", SITES, JSON, "{", DENIED),
    ("no bearer and a node's state", NODE_1, JSON, r#"{"state":"draining"}"#, DENIED),
];

const FOR_ADMINS: &[Case] = &[
    ("an unknown path", "GET /admin/v1/none", "", "", "404 no such path"),
    ("the wrong method", "DELETE /admin/v1/cluster", "", "", "405 use GET"),
    ("the wrong method for a node", "GET /admin/v1/nodes/n1/state", "", "", "405 use PUT"),
    ("a node that is none", "PUT /admin/v1/nodes/9/state", JSON, r#"{"state":"active"}"#, "404 no such node"),
    (
        "a state that is none",
        NODE_1,
        JSON,
        r#"{"state":"tired"}"#,
        "400 Json deserialize error: unknown variant `tired`",
    ),
    ("a state for meta alone", NODE_1, JSON, r#"{"state":"removed"}"#, "400 Json deserialize error: unknown variant"),
    ("the only node drained", NODE_1, JSON, r#"{"state":"draining"}"#, "422 no other node could serve the clients"),
    ("a site as plain text", SITES, "", "{}", "415 the body must be application/json"),
    ("a site that is not JSON", SITES, JSON, "{", "400 Json deserialize error: EOF while parsing"),
    ("a site without a name", SITES, JSON, "{}", "400 Json deserialize error: missing field `name`"),
    (
        "a site with a field too many",
        SITES,
        JSON,
        r#"{"name":"a","b":1}"#,
        "400 Json deserialize error: unknown field `b`",
    ),
    ("a site without letters", SITES, JSON, r#"{"name":""}"#, "422 a site's name has 1 to 64 letters, digits or -_.@"),
    (
        "an agent of an unknown site",
        AGENTS,
        JSON,
        r#"{"site":"nowhere","name":"ann","password":"long enough"}"#,
        "422 no such site",
    ),
    (
        "an agent with blanks",
        AGENTS,
        JSON,
        r#"{"site":"demo","name":"a n n","password":"long enough"}"#,
        "422 an agent's name has 1 to 64 letters, digits or -_.@",
    ),
    (
        "an agent with a short password",
        AGENTS,
        JSON,
        r#"{"site":"demo","name":"ann","password":"short"}"#,
        "422 a password has 8 to 1024 bytes",
    ),
];

#[tokio::test]
async fn malformed_administration_is_refused_with_a_problem_each() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let addr = &cluster.node(1).admin;
    let bearer = format!("Authorization: Bearer {}\r\n", cluster.admin_token()?);
    let mut report = Report::of("HTTP for administration");
    for &(name, line, headers, body, wanted) in FOR_STRANGERS {
        report.same(name, wanted, ask(addr, line, headers, body).await.map(|answer| line_of(&answer)));
    }
    for &(name, line, headers, body, wanted) in FOR_ADMINS {
        let got = ask(addr, line, &format!("{bearer}{headers}"), body).await;
        report.holds(name, wanted, got.map(|answer| line_of(&answer)));
    }
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(ADMIN_BODY_MAX));
    let got = ask(addr, SITES, &format!("{bearer}{JSON}"), &large).await.map(|answer| line_of(&answer));
    report.same("a site above 256 KiB", "413 the body is larger than 262144 bytes", got);
    check_still_serves(&cluster).await?;
    report.end(10)
}

async fn ask(addr: &str, line: &str, headers: &str, body: &str) -> anyhow::Result<Answer> {
    let request = format!("{line} HTTP/1.1\r\nHost: {addr}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
    Connection::open(addr).await?.raw(request.as_bytes()).await
}

/// `status code: message` for clients, `status detail` for administrators.
fn line_of(answer: &Answer) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else {
        return format!("{} {:?}", answer.status, answer.text());
    };
    let text = |part: &Value| part.as_str().map(str::to_owned);
    let error = &body["error"];
    let told = match (text(&error["code"]), text(&error["message"]), text(&body["detail"])) {
        (Some(code), Some(message), _) => format!("{code}: {message}"),
        (_, _, Some(detail)) => detail,
        _ => body.to_string(),
    };
    format!("{} {told}", answer.status)
}
