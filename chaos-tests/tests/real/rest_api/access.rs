//! Owns the tests of who may use which route, generated from the table: roles, scopes, and the tenants that must not.

use super::*;
use chaos_tests::http as plain;
use node::admin::Route;
use node::api::{Access, SCOPES, Scope, Who, table};
use proto::command::AgentRole;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

const ROLES: [(AgentRole, &str); 5] = [
    (AgentRole::Viewer, "viewer"),
    (AgentRole::Agent, "agent"),
    (AgentRole::Supervisor, "supervisor"),
    (AgentRole::Admin, "admin"),
    (AgentRole::Owner, "owner"),
];

/// What a system cannot do, whatever its key may: who writes first is somebody.
const NOT_FOR_KEYS: &str = "conversations invite";
/// What people do in a conversation that they have.
const IN_ONE_S_OWN: [&str; 2] = ["conversations read", "conversations typing"];
/// What agents may change of their own, and supervisors of all.
const OWN_OR_OF_ALL: [&str; 4] = ["canned set", "canned remove", "views set", "views remove"];

/// Names of what there is at the first site.
struct There {
    session: String,
    visitor: String,
    agent: AgentId,
}

/// Whoever is made has a name of their own.
static MADE: AtomicU64 = AtomicU64::new(0);

impl There {
    fn path(&self, route: &Route<Access>) -> String {
        let name = if route.path.starts_with("/v1/keys") { "crm-key" } else { "crm" };
        let path = route.path.replace("{session}", &self.session).replace("{agent}", &self.agent.to_string());
        path.replace("{team}", "t2")
            .replace("{name}", name)
            .replace("{letter}", "g1-1")
            .replace("{shortcut}", "hello")
            .replace("{number}", "1")
            .replace("{visitor}", &self.visitor)
            .replace("{whose}", "visitor")
            .replace("{seq}", "1")
    }

    /// A body that would do something.
    fn body(&self, route: &Route<Access>) -> Option<Value> {
        let body = match route.words {
            "conversations send" => json!({ "note": { "text": "by somebody else" } }),
            "conversations close" => json!({ "reason": "by somebody else" }),
            "conversations transfer" => json!({ "note": "by somebody else" }),
            "conversations accept" | "conversations decline" => json!({ "offer": 1 }),
            "conversations take" => json!({ "conversation": 1 }),
            "conversations read" => json!({ "read": 1 }),
            "conversations typing" => json!({ "on": true }),
            "me set-seat" => json!({ "state": "busy" }),
            "desk set-rules" => json!({ "sticky_s": 77 }),
            "teams set" => json!({ "name": "by somebody else" }),
            "seats set" => json!({ "capacity": 77 }),
            "agents add" => {
                json!({ "name": format!("mallory-{}", MADE.fetch_add(1, Ordering::Relaxed)), "password": PASSWORD })
            }
            "agents set-role" => json!({ "role": "agent" }),
            "keys create" => json!({ "name": format!("k{}", std::process::id()), "scopes": ["desk:read"] }),
            "webhooks set" => json!({ "url": "https://elsewhere.example/" }),
            "webhooks replay" => json!({}),
            "canned set" => json!({ "text": "by somebody else" }),
            "conversations set-attributes" => json!({ "visitor": { "crm": "by somebody else" } }),
            "conversations block" => json!({}),
            "visitors erase-many" => json!({ "visitors": [self.visitor] }),
            "attributes set" => json!({ "type": "text", "title": "by somebody else" }),
            "blocklist set" => json!({ "word": "by somebody else" }),
            "mail set" => json!({ "sender": "by somebody else" }),
            "mail test" => json!({ "to": "somebody@else.example" }),
            "conversations mail-transcript" => json!({ "to": "somebody@else.example" }),
            "settings set" => json!({ "retention_days": 77 }),
            "views set" => json!({ "filters": { "q": "by somebody else" } }),
            "macros set" => json!({ "actions": [{ "note": "by somebody else" }] }),
            "triggers set" => json!({ "text": "by somebody else" }),
            "conversations invite" => json!({ "text": "by somebody else" }),
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
        "/v1/mail".to_owned(),
        "/v1/canned".to_owned(),
        "/v1/macros".to_owned(),
        "/v1/triggers".to_owned(),
        "/v1/attributes".to_owned(),
        "/v1/settings".to_owned(),
        "/v1/blocklist".to_owned(),
        "/v1/views".to_owned(),
        format!("/v1/conversations/{}", there.session),
        format!("/v1/conversations/{}/events", there.session),
    ] {
        let answer = ask(addr, owner, "GET", &path, None).await?;
        ensure!(answer.status == 200, "{path}: {}", answer.text());
        seen.push_str(&answer.text());
    }
    Ok(seen)
}

/// Two sites, and everybody who could ask.
struct Everybody {
    cluster: Cluster,
    there: There,
    people: BTreeMap<AgentRole, String>,
    visitor: String,
    every_scope: String,
    /// By the scope that it has not.
    lacking: BTreeMap<&'static str, String>,
    foreign_owner: String,
    foreign_key: String,
}

impl Everybody {
    async fn start() -> anyhow::Result<Everybody> {
        let cluster = Cluster::start(1).await?;
        let addr = cluster.node(1).client.clone();
        operate(&cluster, "POST", "/admin/v1/sites", &json!({ "name": "shop" })).await?;
        let (mut people, mut agents) = (BTreeMap::new(), BTreeMap::new());
        for (role, name) in ROLES {
            let (agent, token) = person(&cluster, SITE, &format!("demo-{name}"), name).await?;
            people.insert(role, token);
            agents.insert(role, agent);
        }
        let owner = people[&AgentRole::Owner].clone();
        let visitor = http::create_visitor(&addr, SITE).await?;
        let there = There {
            session: visitor.session.to_string(),
            visitor: visitor.visitor.to_string(),
            agent: agents[&AgentRole::Agent],
        };
        for (method, path, body) in [
            ("PUT", "/v1/teams/t2", json!({ "name": "demo-team" })),
            ("PUT", "/v1/webhooks/crm", json!({ "url": "https://demo-hook.example/" })),
            ("POST", "/v1/keys", json!({ "name": "crm-key", "scopes": ["desk:read"] })),
            ("PUT", "/v1/attributes/visitor/crm", json!({ "type": "text", "title": "demo-title" })),
            ("PUT", "/v1/blocklist/crm", json!({ "word": "demo-word" })),
            ("PUT", "/v1/canned/hello", json!({ "text": "demo-text" })),
            ("PUT", "/v1/views/crm", json!({ "filters": { "q": "demo-view" } })),
            ("PUT", "/v1/macros/crm", json!({ "actions": [{ "note": "demo-note" }] })),
            ("PUT", "/v1/triggers/crm", json!({ "text": "demo-trigger" })),
        ] {
            let made = ask(&addr, &owner, method, path, Some(&body)).await?;
            ensure!(made.status < 300, "{path}: {}", made.text());
        }
        let names: Vec<&str> = SCOPES.iter().map(|(_, name)| *name).collect();
        let every_scope = key(&addr, &owner, "demo-all", &names).await?;
        let mut lacking = BTreeMap::new();
        for (_, lacks) in SCOPES {
            let others: Vec<&str> = names.iter().copied().filter(|name| *name != lacks).collect();
            let name = format!("demo-not-{}", lacks.replace(':', "-"));
            lacking.insert(lacks, key(&addr, &owner, &name, &others).await?);
        }
        // The other tenant: with the highest role, and with every scope.
        let (_, foreign_owner) = person(&cluster, "shop", "eve", "owner").await?;
        let foreign_key = key(&addr, &foreign_owner, "all", &names).await?;
        let visitor = visitor.token;
        Ok(Everybody { cluster, there, people, visitor, every_scope, lacking, foreign_owner, foreign_key })
    }

    fn addr(&self) -> &str {
        &self.cluster.node(1).client
    }

    fn owner(&self) -> &str {
        &self.people[&AgentRole::Owner]
    }

    /// Those whom a route must deny, and how.
    fn denied(&self, route: &Route<Access>) -> anyhow::Result<Vec<(&'static str, String, u16)>> {
        let mut denied = vec![
            ("nobody", String::new(), 401),
            ("a wrong token", "a1.a1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(), 401),
            ("a wrong key", "key.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(), 401),
            ("a visitor", self.visitor.clone(), 401),
            ("an operator", self.cluster.admin_token()?, 401),
        ];
        for (role, name) in ROLES {
            if !route.access.allows(&Who::Agent { agent: self.there.agent, role }) {
                denied.push((name, self.people[&role].clone(), 403));
            }
        }
        match route.access.scope.name() {
            Some(scope) => denied.push(("a key without the scope", self.lacking[scope].clone(), 403)),
            None => denied.push(("a key with every scope", self.every_scope.clone(), 403)),
        }
        Ok(denied)
    }

    /// Asks a route as everybody who must be denied; those who are not.
    async fn ask_denied(&self, route: &Route<Access>) -> anyhow::Result<Vec<String>> {
        let (path, body) = (self.there.path(route), self.there.body(route));
        let mut wrong = Vec::new();
        for (who, token, expected) in self.denied(route)? {
            let answer = ask(self.addr(), &token, route.method.name(), &path, body.as_ref()).await?;
            let kind = plain::header(&answer.head, "content-type");
            if answer.status != expected || kind != Some("application/problem+json") {
                wrong.push(format!("{} as {who}: {} {kind:?}", route.words, answer.status));
            }
        }
        Ok(wrong)
    }

    /// Asks a route as the other tenant: what both sites may have is the other's own, what only this one has is not there.
    async fn ask_foreign(&self, route: &Route<Access>) -> anyhow::Result<Vec<String>> {
        let path = self.there.path(route);
        let has = |part: &str| route.path.contains(part);
        let makes = route.words.ends_with(" set") || route.words.ends_with(" remove");
        let is_named = has("{session}") || has("{agent}") || has("{visitor}") || has("{name}") && !makes;
        let mut wrong = Vec::new();
        for (who, token) in [("a foreign owner", &self.foreign_owner), ("a foreign key", &self.foreign_key)] {
            let body = self.there.body(route);
            let answer = ask(self.addr(), token, route.method.name(), &path, body.as_ref()).await?;
            let may = route.access.scope != Scope::Nothing || who == "a foreign owner";
            let is_right = match (may, is_named) {
                (false, _) => answer.status == 403,
                (true, true) => answer.status == 404,
                (true, false) => answer.status < 300,
            };
            if !is_right || answer.text().contains("demo-") || answer.text().contains(&self.there.session) {
                wrong.push(format!("{} as {who}: {} {}", route.words, answer.status, answer.text()));
            }
        }
        Ok(wrong)
    }

    /// Asks a route as those for whom it is: whatever else may be wrong with what they ask, they are not kept out.
    async fn ask_allowed(&self, route: &Route<Access>) -> anyhow::Result<Vec<String>> {
        let least = route.access.role.context("for nobody")?;
        let mut askers = vec![("the least role", self.people[&least].as_str()), ("the owner", self.owner())];
        if route.access.scope.name().is_some() && route.words != NOT_FOR_KEYS {
            askers.push(("a key", self.every_scope.as_str()));
        }
        let mut wrong = Vec::new();
        for (who, token) in askers {
            let (mut path, mut body) = (self.there.path(route), self.there.body(route));
            if who == "the least role" && least == AgentRole::Agent && OWN_OR_OF_ALL.contains(&route.words) {
                // Agents change their own alone.
                match &mut body {
                    Some(body) => body["mine"] = json!(true),
                    None => path.push_str("?mine=true"),
                }
            }
            let answer = ask(self.addr(), token, route.method.name(), &path, body.as_ref()).await?;
            let is_known = answer.status == route.success.0 || route.refusals().contains(&answer.status);
            // Of a conversation that somebody else has, or nobody: that is no matter of roles.
            let is_of_others = IN_ONE_S_OWN.contains(&route.words) && answer.text().contains("is not yours");
            if !is_known || matches!(answer.status, 401 | 403) && !is_of_others {
                wrong.push(format!("{} is for {who}: {} {}", route.words, answer.status, answer.text()));
            }
        }
        Ok(wrong)
    }
}

#[tokio::test]
async fn every_route_is_for_its_roles_and_scopes_and_never_for_another_tenant() -> anyhow::Result<()> {
    let everybody = Everybody::start().await?;
    let before = all(everybody.addr(), everybody.owner(), &everybody.there).await?;
    let (mut wrong, mut denied) = (Vec::new(), 0);
    for route in table() {
        let body = everybody.there.body(&route);
        ensure!(route.body.is_some() == body.is_some(), "{}: say what its body is", route.words);
        denied += everybody.denied(&route)?.len() + 2;
        wrong.extend(everybody.ask_denied(&route).await?);
        wrong.extend(everybody.ask_foreign(&route).await?);
    }
    println!("{denied} pairs of route and credential denied, or kept to their own site");
    let after = all(everybody.addr(), everybody.owner(), &everybody.there).await?;
    ensure!(after == before, "somebody else changed the site: {after}");
    for route in table() {
        wrong.extend(everybody.ask_allowed(&route).await?);
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}
