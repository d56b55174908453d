//! Owns asking nodes as an administrator. Does not choose what. Invariant: every question has a deadline.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::cluster::Status;
use crate::http::Connection;

const WITHIN: Duration = Duration::from_secs(10);

/// The administrator: a token that is good at every node.
#[derive(Debug, Clone)]
pub struct Admin {
    token: String,
}

impl Admin {
    pub fn new(token: String) -> Admin {
        Admin { token }
    }

    /// Asks the node at `addr`; the status and the body.
    /// # Errors
    /// No answer. Whether it was done is open.
    pub async fn ask(
        &self,
        addr: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, Value)> {
        let bearer = format!("Bearer {}", self.token);
        let headers =
            [("Connection", "close"), ("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let asked = async {
            let mut connection = Connection::open(addr).await?;
            let body = body.map(Value::to_string).unwrap_or_default();
            let answer = connection.request(method, path, &headers, body.as_bytes()).await?;
            anyhow::Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null)))
        };
        tokio::time::timeout(WITHIN, asked).await.with_context(|| format!("{addr}: no answer in time"))?
    }

    /// Asks and wants a yes.
    /// # Errors
    /// No answer, or a no, with what was said.
    pub async fn done(&self, addr: &str, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let (status, said) = self.ask(addr, method, path, body).await?;
        ensure!((200..300).contains(&status), "{method} {path}: {status} {said}");
        Ok(said)
    }

    /// What a node says of the cluster.
    /// # Errors
    /// As `done`.
    pub async fn status(&self, addr: &str) -> anyhow::Result<Status> {
        Status::read(self.done(addr, "GET", "/admin/v1/cluster", None).await?)
    }

    /// A token with which one node may join.
    /// # Errors
    /// As `done`.
    pub async fn join_token(&self, addr: &str) -> anyhow::Result<String> {
        let said = self.done(addr, "POST", "/admin/v1/join-tokens", None).await?;
        Ok(said["token"].as_str().context("no token in the answer")?.to_owned())
    }

    /// Says what is wanted of the node that the cluster knows as `n{id}`: `active`, `draining` or `leaving`.
    /// # Errors
    /// As `done`.
    pub async fn set_state(&self, addr: &str, id: u64, state: &str) -> anyhow::Result<()> {
        let path = format!("/admin/v1/nodes/n{id}/state");
        self.done(addr, "PUT", &path, Some(&json!({ "state": state }))).await.map(drop)
    }

    /// Lets `n{id}` lead a shard.
    /// # Errors
    /// As `done`.
    pub async fn lead(&self, addr: &str, shard: u64, id: u64) -> anyhow::Result<()> {
        let path = format!("/admin/v1/shards/g{shard}/leader");
        self.done(addr, "POST", &path, Some(&json!({ "to": format!("n{id}") }))).await.map(drop)
    }
}
