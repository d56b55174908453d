//! Owns asking a node's HTTP listeners as another system would. Does not know routes. Invariant: a refusal is an answer, not an error.

use anyhow::Context;
use chaos_tests::http::{Answer, Connection};
use serde_json::Value;

/// Asks with a bearer token; an empty one is left out.
pub async fn ask(addr: &str, token: &str, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
    ask_with_key(addr, token, method, path, body, None).await
}

/// The same with an `Idempotency-Key`.
pub async fn ask_with_key(
    addr: &str,
    token: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
    key: Option<&str>,
) -> anyhow::Result<Answer> {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("Connection", "close")];
    if !token.is_empty() {
        headers.push(("Authorization", &bearer));
    }
    let text = body.map(Value::to_string).unwrap_or_default();
    if body.is_some() {
        headers.push(("Content-Type", "application/json"));
    }
    headers.extend(key.map(|key| ("Idempotency-Key", key)));
    Connection::open(addr).await?.request(method, path, &headers, text.as_bytes()).await
}

pub fn json_of(answer: &Answer) -> anyhow::Result<Value> {
    serde_json::from_slice(&answer.body).with_context(|| format!("{} {}", answer.status, answer.text()))
}
