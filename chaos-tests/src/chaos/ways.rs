//! Owns the way into real nodes: HTTP. Does not talk. Invariant: only an answer that came is `Ok` or `Refused`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use node::client::http::{self, HttpError};
use parking_lot::Mutex;
use proto::client::http::{LoggedIn, VisitorCreated};
use proto::ids::{AgentId, SessionId, VisitorId};
use serde_json::{Value, json};

use super::admin::Admin;
use crate::cluster::SITE;
use crate::history::NodeId;
use crate::talk::{Answer, Ways};
use crate::workload::PASSWORD;

/// Which machine the cluster knows by which id; a machine that was wiped gets another id.
pub type Ids = Arc<Mutex<BTreeMap<u64, u64>>>;

/// The addresses of one machine.
#[derive(Debug, Clone)]
pub struct Address {
    pub machine: u64,
    pub client: String,
    pub admin: String,
}

/// The ways into the machines.
pub struct HttpWays {
    pub machines: Vec<Address>,
    pub admin: Admin,
    pub ids: Ids,
    /// The token of the person who erases visitors.
    pub eraser: Mutex<Option<String>>,
}

/// Their name.
const ERASER: &str = "eraser";

impl HttpWays {
    fn admin_of(&self, node: NodeId) -> &str {
        self.machines.iter().find(|one| one.machine == node.0).map_or("", |one| &one.admin)
    }

    /// Sets something for good, whose answer says no more.
    async fn set(&self, node: NodeId, method: &str, path: &str, body: &Value) -> Answer<()> {
        match self.admin.ask(self.admin_of(node), method, path, Some(body)).await {
            Ok((200..300, _)) => Answer::Ok(()),
            Ok((400..500, said)) => Answer::Refused(said["detail"].as_str().unwrap_or_default().to_owned()),
            Ok((status, said)) => Answer::Unknown(format!("{status} {said}")),
            Err(error) => Answer::Unknown(format!("{error:#}")),
        }
    }

    /// The token of somebody who may erase visitors, once there is such a person.
    async fn eraser(&self, node: NodeId) -> Option<String> {
        if let Some(token) = self.eraser.lock().clone() {
            return Some(token);
        }
        // Refused: an earlier try without an answer was done.
        let _ = self.add_agent(node, ERASER).await;
        let Answer::Ok(login) = self.log_in(node, ERASER).await else { return None };
        let path = format!("/admin/v1/agents/{}/role", login.agent);
        let Answer::Ok(()) = self.set(node, "PUT", &path, &json!({ "role": "admin" })).await else { return None };
        Some(self.eraser.lock().insert(login.token).clone())
    }

    fn client_of(&self, node: NodeId) -> &str {
        self.machines.iter().find(|one| one.machine == node.0).map_or("", |one| &one.client)
    }
}

fn answer<T>(result: Result<T, HttpError>) -> Answer<T> {
    match result {
        Ok(done) => Answer::Ok(done),
        Err(HttpError::Refused(error)) => Answer::Refused(error.code.as_str().to_owned()),
        Err(HttpError::NoAnswer(why)) => Answer::Unknown(why),
    }
}

impl Ways for HttpWays {
    fn nodes(&self) -> Vec<(NodeId, String)> {
        self.machines.iter().map(|one| (NodeId(one.machine), one.client.clone())).collect()
    }

    async fn create_visitor(&self, node: NodeId) -> Answer<VisitorCreated> {
        answer(http::create_visitor(self.client_of(node), SITE).await)
    }

    async fn add_agent(&self, node: NodeId, name: &str) -> Answer<()> {
        let body = json!({ "site": SITE, "name": name, "password": PASSWORD });
        self.set(node, "POST", "/admin/v1/agents", &body).await
    }

    async fn set_team(&self, node: NodeId, accept_within: Duration) -> Answer<()> {
        let body = json!({ "name": "all", "accept_s": accept_within.as_secs(), "shares": true });
        self.set(node, "PUT", &format!("/admin/v1/sites/{SITE}/teams/t1"), &body).await
    }

    async fn set_seat(&self, node: NodeId, agent: AgentId, capacity: u32) -> Answer<()> {
        let body = json!({ "capacity": capacity, "teams": ["t1"] });
        self.set(node, "PUT", &format!("/admin/v1/sites/{SITE}/seats/{agent}"), &body).await
    }

    async fn log_in(&self, node: NodeId, name: &str) -> Answer<LoggedIn> {
        answer(http::login(self.client_of(node), SITE, name, PASSWORD).await)
    }

    async fn erase(&self, node: NodeId, _: SessionId, visitor: VisitorId) -> Answer<()> {
        let Some(token) = self.eraser(node).await else { return Answer::Unknown("nobody may erase yet".to_owned()) };
        let path = format!("/v1/visitors/{visitor}");
        match Admin::new(token).ask(self.client_of(node), "DELETE", &path, None).await {
            Ok((200..300, _)) => Answer::Ok(()),
            // It may have been half done.
            Ok((status, said)) => Answer::Unknown(format!("{status} {said}")),
            Err(_) => Answer::Unknown("no answer".to_owned()),
        }
    }

    async fn move_session(&self, node: NodeId, session: SessionId, agent: AgentId) -> Answer<()> {
        let (path, body) = (format!("/admin/v1/sessions/{session}/move"), json!({ "agent": agent.to_string() }));
        match self.admin.ask(self.admin_of(node), "POST", &path, Some(&body)).await {
            Ok((200..300, _)) => Answer::Ok(()),
            Ok((400..500, said)) => Answer::Refused(refusal(said["detail"].as_str().unwrap_or_default())),
            Ok((status, _)) => Answer::Unknown(format!("status {status}")),
            // Without the address: the page counts reasons.
            Err(_) => Answer::Unknown("no answer".to_owned()),
        }
    }

    fn number_of(&self, name: &str) -> NodeId {
        let id: u64 = name.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap_or(0);
        NodeId(self.ids.lock().get(&id).copied().unwrap_or(id))
    }
}

/// The admin API says in words what the socket's protocol says in codes.
fn refusal(detail: &str) -> String {
    match detail {
        "no conversation is open" => "closed",
        _ if detail.contains("not online") => "not_online",
        _ if detail.contains("as many as there may be") => "agent_full",
        _ => "refused",
    }
    .to_owned()
}
