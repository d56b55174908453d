//! Owns the way from the command line to the admin API. Does not know what is asked. Invariant: a refusal is one line, with the
//! reason that the node gave.

use anyhow::{Context, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for an answer: a profile or a drill takes up to a minute.
const ANSWER_WITHIN: Duration = Duration::from_secs(75);
/// Longest answer, in bytes: a heap profile.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Which node to ask.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// Admin address of the node, e.g. http://127.0.0.1:9080; from the data directory unless given.
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Where the node's credential lies.
    #[arg(long, env = "EVERDESK_DATA_DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// A token for the admin API; the credential in the data directory unless given.
    #[arg(long, env = "EVERDESK_API_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub api_token: Option<String>,
}

/// What a node answered.
pub struct Told {
    pub kind: String,
    pub body: Vec<u8>,
}

impl Told {
    /// # Errors
    /// It is not JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).context("the answer is not JSON")
    }
}

fn credential(dir: &Path) -> anyhow::Result<Value> {
    let path = dir.join(crate::run::CREDENTIAL);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}; name the node's data directory with --data-dir", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a credential", path.display()))
}

/// Where to ask, and with which token.
fn where_to(target: &Target) -> anyhow::Result<(String, String)> {
    let (url, token) = match (&target.admin, &target.api_token) {
        (Some(url), Some(token)) => (url.clone(), token.clone()),
        (url, token) => {
            let known = credential(&target.data_dir)?;
            let of = |key: &str| known[key].as_str().unwrap_or_default().to_owned();
            (url.clone().unwrap_or_else(|| of("url")), token.clone().unwrap_or_else(|| of("token")))
        }
    };
    Ok((url.trim_end_matches('/').to_owned(), token))
}

fn sent(
    target: &Target,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: Option<&Value>,
    within: Option<Duration>,
) -> anyhow::Result<ureq::http::Response<ureq::Body>> {
    let (base, token) = where_to(target)?;
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(within).build().into();
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{base}{path}"))
        .header("authorization", format!("Bearer {token}"));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let text = body.map(Value::to_string);
    if text.is_some() {
        request = request.header("content-type", "application/json");
    }
    let request = request.body(text.unwrap_or_default()).context("this cannot be asked for")?;
    agent.run(request).with_context(|| format!("{base} does not answer"))
}

/// Asks the node.
/// # Errors
/// Nobody answers, or the answer is a refusal.
pub fn ask(target: &Target, method: &str, path: &str, key: Option<&str>, body: Option<&Value>) -> anyhow::Result<Told> {
    let mut response = sent(target, method, path, key, body, Some(ANSWER_WITHIN))?;
    let status = response.status();
    let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("").to_owned();
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
    if !status.is_success() {
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        // The second form is that of the clients' listener.
        let told = value["detail"].as_str().or(value["error"]["message"].as_str());
        bail!("{}", told.map_or_else(|| String::from_utf8_lossy(&body).into_owned(), str::to_owned));
    }
    Ok(Told { kind, body })
}

/// Copies a stream to standard output until it ends.
/// # Errors
/// Nobody answers, or the answer is a refusal.
pub fn follow(target: &Target, path: &str) -> anyhow::Result<()> {
    let response = sent(target, "GET", path, None, None, None)?;
    let status = response.status();
    let mut body = response.into_body();
    if !status.is_success() {
        bail!("{}", body.read_to_string()?);
    }
    std::io::copy(&mut body.as_reader(), &mut std::io::stdout())?;
    Ok(())
}

/// Asks the node for JSON.
/// # Errors
/// As `ask`.
pub fn call(target: &Target, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
    ask(target, method, path, None, body.as_ref())?.json()
}
