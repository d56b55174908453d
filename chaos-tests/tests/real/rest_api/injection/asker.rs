//! Owns asking a node over a connection that is kept, and looking at each answer: its status, its kind, its head. Does not know what was
//! asked. Invariant: an answer that it hands out is of a form that the guides promise.

use anyhow::{Context, ensure};
use chaos_tests::http::{Answer, Connection, header};
use chaos_tests::wait;
use serde_json::Value;
use std::time::Duration;

/// A shard may have no leader for a moment.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// Every header that a node's answer may have; none of them is a text of somebody's.
const HEADERS: [&str; 17] = [
    "allow",
    "cache-control",
    "connection",
    "content-disposition",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-resource-policy",
    "date",
    "location",
    "referrer-policy",
    "retry-after",
    "transfer-encoding",
    "vary",
    "www-authenticate",
    "x-content-type-options",
    "idempotent-replayed",
];

/// What is sent.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub token: String,
    pub key: Option<String>,
    pub body: Option<Value>,
    /// In place of a body of JSON.
    pub file: Option<Vec<u8>>,
}

/// One connection to a node, opened anew when the node has closed it.
pub struct Asker {
    addr: String,
    open: Option<Connection>,
}

impl Asker {
    pub fn new(addr: &str) -> Asker {
        Asker { addr: addr.to_owned(), open: None }
    }

    /// Asks until somebody answers.
    /// # Errors
    /// Nobody does, or the answer is of a form that no guide knows.
    pub async fn ask(&mut self, request: &Request) -> anyhow::Result<Answer> {
        let (addr, mut kept) = (self.addr.clone(), self.open.take());
        let answered = wait::until("an answer", ANSWERED_WITHIN, async || {
            let mut connection = match kept.take() {
                Some(open) => open,
                None => Connection::open(&addr).await.ok()?,
            };
            let answer = send(&mut connection, request).await.ok()?;
            let closes = header(&answer.head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            kept = (!closes).then_some(connection);
            (answer.status != 503).then_some(answer)
        });
        let answer = answered.await.with_context(|| format!("{} {:.200}", request.method, request.path))?;
        self.open = kept;
        check(&answer).with_context(|| format!("{}\n{:.500}", answer.head, answer.text()))?;
        Ok(answer)
    }

    /// The same, of what must succeed with JSON.
    /// # Errors
    /// It does not.
    pub async fn json(&mut self, request: &Request) -> anyhow::Result<Value> {
        let answer = self.ask(request).await?;
        ensure!(answer.status < 300, "{} {}: {} {}", request.method, request.path, answer.status, answer.text());
        if answer.body.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&answer.body)?) }
    }
}

async fn send(connection: &mut Connection, request: &Request) -> anyhow::Result<Answer> {
    let bearer = format!("Bearer {}", request.token);
    let mut headers = Vec::new();
    if !request.token.is_empty() {
        headers.push(("Authorization", bearer.as_str()));
    }
    headers.extend(request.key.as_deref().map(|key| ("Idempotency-Key", key)));
    let body = match (&request.body, &request.file) {
        (Some(body), _) => {
            headers.push(("Content-Type", "application/json"));
            body.to_string().into_bytes()
        }
        (None, Some(file)) => file.clone(),
        (None, None) => Vec::new(),
    };
    connection.request(&request.method, &request.path, &headers, &body).await
}

/// What holds for every answer.
fn check(answer: &Answer) -> anyhow::Result<()> {
    for line in answer.head.split("\r\n").skip(1) {
        ensure!(!line.contains(char::is_control), "a line holds what ends or hides lines: {line:?}");
        let (name, _) = line.split_once(": ").with_context(|| format!("no header: {line:?}"))?;
        ensure!(HEADERS.contains(&name.to_ascii_lowercase().as_str()), "nobody knows the header {name}");
    }
    ensure!(answer.status < 500, "a fault of the node: {}", answer.status);
    ensure!(header(&answer.head, "x-content-type-options") == Some("nosniff"), "a browser may guess what it is");
    let kind = header(&answer.head, "content-type").unwrap_or_default();
    match answer.status {
        200..300 if answer.body.is_empty() => {}
        200..300 => ensure!(!kind.is_empty(), "nobody knows what it is"),
        400..500 => {
            let body: Value = serde_json::from_slice(&answer.body)?;
            let is_problem = kind == "application/problem+json"
                && body["status"] == answer.status
                && ["type", "title", "detail"].iter().all(|part| body[part].is_string());
            let is_error =
                kind == "application/json" && ["code", "message"].iter().all(|part| body["error"][part].is_string());
            ensure!(is_problem || is_error, "a refusal of no known form");
        }
        _ => anyhow::bail!("neither done nor refused"),
    }
    Ok(())
}

/// For a path or a query: nothing in it means anything there.
pub fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
