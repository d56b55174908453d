//! Owns the tests of a site's API: every route with every role, scope and foreign tenant, and what people and systems do by it. Does not
//! test the rules behind it.

/// Who may do what.
mod access;
/// What becomes of old conversations.
mod archive;
mod archived_files;

/// What they find.
mod filters;
/// What becomes of texts that are written to do something.
mod injection;
/// What is said of it in figures.
mod reports;
mod search;
/// What agents do about themselves.
mod seat;
/// What other systems hear.
mod stream;
/// Who writes first.
mod triggers;
/// What becomes of visitors.
mod visitors;

/// What they do.
mod attachments;
mod macros;
mod mail;
mod mail_tls;
mod work;

use crate::asks::{ask, ask_with_key, json_of};
use anyhow::{Context, ensure};
use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::http::Answer;
use chaos_tests::person::{Person, SOON};
use chaos_tests::wait;
use node::client::http;
use proto::ids::AgentId;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery staple";

async fn operate(cluster: &Cluster, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    let answer = ask(&cluster.node(1).admin, &cluster.admin_token()?, method, path, Some(body)).await?;
    ensure!(answer.status < 300, "{method} {path}: {}", answer.text());
    if answer.body.is_empty() { Ok(Value::Null) } else { json_of(&answer) }
}

/// Asks whichever node answers.
async fn ask_any(
    cluster: &Cluster,
    token: &str,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Answer> {
    let answered = wait::until("an answer", SOON, async || {
        for node in cluster.members() {
            let asked = ask(&node.client, token, method, path, body.as_ref()).await;
            if let Ok(answer) = asked
                && answer.status != 503
            {
                return Some(answer);
            }
        }
        None
    });
    answered.await.with_context(|| path.to_owned())
}

/// The same, of what must succeed.
async fn done_by_any(
    cluster: &Cluster,
    token: &str,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Value> {
    let answer = ask_any(cluster, token, method, path, body).await?;
    ensure!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.text());
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
