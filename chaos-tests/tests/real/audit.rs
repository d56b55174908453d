//! Owns the tests of the audit log on real nodes: acts of operators and of a site's people at all nodes while leaders die, and the command
//! that verifies. Does not test the rules of a chain.

use crate::asks::{ask, json_of};
use anyhow::{Context, ensure};
use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::invariants::replicas;
use chaos_tests::wait;
use node::audit::verify::EntryView;
use node::client::http;
use proto::audit::OPERATORS;
use proto::command::Target;
use proto::ids::SiteId;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

const PASSWORD: &str = "correct horse battery staple";
const SOON: Duration = Duration::from_secs(60);
/// Acts of each of those who act.
const ACTS: usize = 120;

/// How a request is made again and again.
#[derive(Clone)]
struct Doer {
    addrs: Vec<String>,
    token: String,
    method: &'static str,
    path: &'static str,
    body: Value,
}

impl Doer {
    fn target(&self, number: usize) -> String {
        self.path.replace('#', &number.to_string())
    }

    /// Does it under other names, at one node after the other, until each is done. How often each was tried.
    async fn act(self) -> anyhow::Result<BTreeMap<String, usize>> {
        let mut tried = BTreeMap::new();
        for number in 1..=ACTS {
            let target = self.target(number);
            let mut tries = 0;
            let done = wait::until("an act is done", SOON, async || {
                let addr = &self.addrs[(number + tries) % self.addrs.len()];
                tries += 1;
                let answer = ask(addr, &self.token, self.method, &target, Some(&self.body)).await.ok()?;
                (answer.status < 300).then_some(())
            });
            done.await.with_context(|| target.clone())?;
            tried.insert(target, tries);
        }
        Ok(tried)
    }
}

struct Scene {
    cluster: Cluster,
    founder: String,
    olga: String,
    ann: String,
    eve: String,
    robot: String,
}

impl Scene {
    async fn start() -> anyhow::Result<Scene> {
        let cluster = Cluster::start(3).await?;
        let founder = cluster.admin_token()?;
        let scene = |olga, ann, eve| Scene { cluster, founder, olga, ann, eve, robot: String::new() };
        let mut scene = scene(String::new(), String::new(), String::new());
        scene.operate("POST", "/admin/v1/sites", json!({ "name": "shop" })).await?;
        scene.ann = scene.person(SITE, "ann", "agent").await?;
        scene.olga = scene.person(SITE, "olga", "owner").await?;
        scene.eve = scene.person("shop", "eve", "owner").await?;
        let body = json!({ "name": "robot", "scopes": ["desk:write"] });
        let made = ask(&scene.cluster.node(2).client, &scene.olga, "POST", "/v1/keys", Some(&body)).await?;
        scene.robot = json_of(&made)?["key"].as_str().context("no key")?.to_owned();
        Ok(scene)
    }

    async fn operate(&self, method: &str, path: &str, body: Value) -> anyhow::Result<Value> {
        let answer = ask(&self.cluster.node(1).admin, &self.founder, method, path, Some(&body)).await?;
        ensure!(answer.status < 300, "{method} {path}: {}", answer.text());
        if answer.body.is_empty() { Ok(Value::Null) } else { json_of(&answer) }
    }

    /// An agent of that role, who logged in with it.
    async fn person(&self, site: &str, name: &str, role: &str) -> anyhow::Result<String> {
        let body = json!({ "site": site, "name": name, "password": PASSWORD });
        let made = self.operate("POST", "/admin/v1/agents", body).await?;
        let path = format!("/admin/v1/agents/{}/role", made["agent"].as_str().context("no agent")?);
        self.operate("PUT", &path, json!({ "role": role })).await?;
        Ok(http::login(&self.cluster.node(1).client, site, name, PASSWORD).await?.token)
    }

    fn doers(&self) -> Vec<Doer> {
        let clients: Vec<String> = self.cluster.nodes().iter().map(|node| node.client.clone()).collect();
        let admins: Vec<String> = self.cluster.nodes().iter().map(|node| node.admin.clone()).collect();
        let doer = |addrs: &[String], token: &str, path, body| Doer {
            addrs: addrs.to_vec(),
            token: token.to_owned(),
            method: "PUT",
            path,
            body,
        };
        vec![
            doer(&admins, &self.founder, "/admin/v1/sites/shop/teams/t#", json!({ "name": "by an operator" })),
            doer(&clients, &self.olga, "/v1/canned/c#", json!({ "text": "by olga" })),
            doer(&clients, &self.robot, "/v1/teams/t#", json!({ "name": "by a robot" })),
        ]
    }

    /// Kills the leader of a chain's shard, and starts the node again. Its name.
    async fn kill_the_leader_of(&mut self, site: SiteId) -> anyhow::Result<String> {
        let found = wait::until("the chain has a leader", SOON, async || {
            let status = self.cluster.overview().await.ok()?;
            let shard = Target::Desk(site).shard(status.data_shards().count() as u32);
            status.data_shards().find(|one| one.shard == u64::from(shard.0)).and_then(|one| one.leader)
        });
        let leader = found.await?;
        self.cluster.kill(leader);
        self.cluster.restart(&[leader]).await?;
        Ok(format!("n{leader}"))
    }

    async fn kill_leaders(&mut self) -> anyhow::Result<BTreeSet<String>> {
        let mut killed = BTreeSet::new();
        for site in [OPERATORS, SiteId(1), OPERATORS] {
            killed.insert(self.kill_the_leader_of(site).await?);
        }
        Ok(killed)
    }

    /// A whole chain as a node tells it.
    async fn chain(&self, node: u64, site: Option<&str>) -> anyhow::Result<Vec<EntryView>> {
        let base = site.map_or_else(|| "/admin/v1/audit".to_owned(), |site| format!("/admin/v1/sites/{site}/audit"));
        let (mut after, mut all) = (0, Vec::<EntryView>::new());
        loop {
            let path = format!("{base}?after={after}&limit=70");
            let page = json_of(&ask(&self.cluster.node(node).admin, &self.founder, "GET", &path, None).await?)?;
            all.extend(serde_json::from_value::<Vec<EntryView>>(page["entries"].clone())?);
            after = all.last().map_or(0, |last| last.seq);
            if page["head"]["seq"] == after {
                return Ok(all);
            }
        }
    }

    /// The head that the command prints.
    async fn verified(&self, args: &[&str]) -> anyhow::Result<String> {
        let printed = self.cluster.command(&[&["audit", "verify"], args].concat(), "").await?;
        Ok(printed.lines().last().context("no head")?.to_owned())
    }
}

/// Every act that was done is there, begun and ended; who died owes ends at most.
fn check_acts(
    chain: &[EntryView],
    tried: &BTreeMap<String, usize>,
    killed: &BTreeSet<String>,
) -> anyhow::Result<usize> {
    let places: BTreeSet<(&str, &str)> = chain.iter().map(|entry| (entry.act.as_str(), entry.phase.as_str())).collect();
    ensure!(places.len() == chain.len(), "an act is there twice");
    let ends: BTreeMap<u64, &EntryView> =
        chain.iter().filter(|entry| entry.phase == "done").map(|entry| (entry.begun, entry)).collect();
    let mut open = 0;
    for begun in chain.iter().filter(|entry| entry.phase == "begun") {
        match ends.get(&begun.seq) {
            Some(end) => ensure!((&end.act, &end.target, &end.who) == (&begun.act, &begun.target, &begun.who)),
            None => {
                ensure!(killed.contains(&begun.node), "nobody killed {}, and it owes the end of {begun:?}", begun.node);
                open += 1;
            }
        }
    }
    for (target, tries) in tried {
        let begun: Vec<&EntryView> =
            chain.iter().filter(|entry| entry.target == *target && entry.phase == "begun").collect();
        ensure!((1..=*tries).contains(&begun.len()), "{target} was tried {tries} times and begun {}", begun.len());
        let is_done = |entry: &&EntryView| ends.get(&entry.seq).is_none_or(|end| end.status < 300);
        ensure!(begun.iter().any(is_done), "{target} was done, and the log says of no try that it was");
    }
    Ok(open)
}

async fn check_refusals(scene: &Scene) -> anyhow::Result<()> {
    let addr = &scene.cluster.node(2).client;
    let body = json!({ "name": "by ann" });
    for (token, status) in [(scene.ann.as_str(), 403), ("", 401)] {
        let refused = ask(addr, token, "PUT", "/v1/teams/t9999", Some(&body)).await?;
        ensure!(refused.status == status, "{}", refused.text());
    }
    for (site, status, who) in [(Some(SITE), 403, "agent:"), (None, 401, "unknown")] {
        let told = wait::until("the refusal is told", SOON, async || {
            let chain = scene.chain(1, site).await.ok()?;
            let is_it = |entry: &EntryView| entry.target == "/v1/teams/t9999";
            chain.into_iter().find(|entry| is_it(entry))
        });
        let told = told.await?;
        ensure!((told.phase.as_str(), told.status) == ("refused", status) && told.who.starts_with(who), "{told:?}");
        ensure!(told.address == "127.0.0.1" && told.node == "n2" && told.route == "/v1/teams/{team}", "{told:?}");
    }
    Ok(())
}

/// Passwords leave no trace, not even a hash; logins of those who rule are told.
fn check_people(operators: &[EntryView], ours: &[EntryView]) -> anyhow::Result<()> {
    let made: Vec<&EntryView> = operators.iter().filter(|entry| entry.target == "/admin/v1/agents").collect();
    ensure!(made.len() >= 6 && made.iter().all(|entry| entry.body_sha256.is_empty()), "{made:?}");
    ensure!(made.iter().all(|entry| entry.who == "founder" && entry.role == "admin"), "{made:?}");
    let roles = operators.iter().filter(|entry| entry.route == "/admin/v1/agents/{agent}/role");
    ensure!(roles.clone().count() >= 6 && roles.clone().all(|entry| entry.body_sha256.len() == 64));
    let logins: Vec<&EntryView> = ours.iter().filter(|entry| entry.route == "/v1/agents/login").collect();
    ensure!(logins.len() == 1 && logins[0].phase == "told" && logins[0].role == "owner", "olga only: {logins:?}");
    ensure!(ours.iter().any(|entry| entry.who == "key:robot" && entry.role == "key"));
    Ok(())
}

/// What the other tenant reads is its own.
async fn check_tenants(scene: &Scene) -> anyhow::Result<()> {
    let addr = &scene.cluster.node(3).client;
    let theirs = ask(addr, &scene.eve, "GET", "/v1/audit", None).await?;
    let text = theirs.text();
    ensure!(theirs.status == 200 && text.contains("/v1/agents/login"), "{text}");
    for foreign in ["/v1/canned", "key:robot", "/admin/v1", "\"unknown\""] {
        ensure!(!text.contains(foreign), "{foreign}: {text}");
    }
    let ours = json_of(&ask(addr, &scene.olga, "GET", "/v1/audit?limit=1000", None).await?)?;
    ensure!(ours["chain"] != json_of(&theirs)?["chain"]);
    ensure!(!ours.to_string().contains("/admin/v1"), "{ours}");
    Ok(())
}

/// The file verifies as it is, and not when somebody has touched it.
async fn check_file(scene: &Scene, file: &Path, head: &str) -> anyhow::Result<()> {
    let name = file.display().to_string();
    let args = ["audit", "verify", "--file", &name, "--head", head];
    let printed = scene.cluster.offline(&args, "").await?;
    ensure!(printed.lines().last() == Some(head), "{printed}");
    let text = std::fs::read_to_string(file)?;
    let broken = file.with_extension("broken");
    let lines: Vec<&str> = text.lines().collect();
    let put = |lines: &[&str]| std::fs::write(&broken, lines.join("\n") + "\n");
    let name = broken.display().to_string();
    for change in 0..4 {
        let mut lines = lines.clone();
        let changed = lines[7].replacen("\"who\":\"", "\"who\":\"x", 1);
        match change {
            0 => lines[7] = &changed,
            1 => drop(lines.remove(7)),
            2 => lines.swap(7, 8),
            _ => lines.insert(7, lines[6]),
        }
        put(&lines)?;
        let found = scene.cluster.offline(&["audit", "verify", "--file", &name], "").await;
        let said = format!("{:#}", found.expect_err("somebody has touched it"));
        ensure!(said.contains("exit status: 3") && said.contains("broken at 7"), "change {change}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_act_is_in_the_audit_log_while_leaders_die_and_the_command_proves_it() -> anyhow::Result<()> {
    let mut scene = Scene::start().await?;
    let first = scene.verified(&["--site", SITE]).await?;
    let acting = futures_util::future::try_join_all(scene.doers().into_iter().map(Doer::act));
    let (tried, killed) = futures_util::future::join(acting, scene.kill_leaders()).await;
    let (tried, killed) = (tried?, killed?);
    check_refusals(&scene).await?;
    let (operators, ours) = (scene.chain(1, None).await?, scene.chain(1, Some(SITE)).await?);
    let mut open = check_acts(&operators, &tried[0], &killed)?;
    let of_site: BTreeMap<String, usize> = tried[1].iter().chain(&tried[2]).map(|(to, n)| (to.clone(), *n)).collect();
    open += check_acts(&ours, &of_site, &killed)?;
    check_people(&operators, &ours)?;
    for node in 2..=3 {
        ensure!(scene.chain(node, None).await? == operators && scene.chain(node, Some(SITE)).await? == ours, "n{node}");
    }
    check_tenants(&scene).await?;
    // The head of before is still the beginning; and so is this one later.
    let head = scene.verified(&["--site", SITE, "--head", &first]).await?;
    let file = scene.cluster.dir().join("audit.jsonl");
    scene.cluster.command(&["audit", "export", "--site", SITE, "--output", &file.display().to_string()], "").await?;
    check_file(&scene, &file, &head).await?;
    scene.verified(&[]).await?;
    let other = format!("{}:{}", head.split(':').next().context("no seq")?, "0".repeat(64));
    let said = scene.verified(&["--site", SITE, "--head", &other]).await.expect_err("that was never a head");
    ensure!(format!("{said:#}").contains("exit status: 3"), "{said:#}");
    let listed = scene.cluster.command(&["audit", "list", "--site", SITE, "--last", "5"], "").await?;
    ensure!(listed.lines().count() == 6, "{listed}");
    replicas::check_same_state(&scene.cluster).await?;
    let tries: usize = tried.iter().flat_map(BTreeMap::values).sum();
    println!(
        "{} acts in {tries} tries, {} + {} entries, {open} of them without an end; killed {killed:?}",
        3 * ACTS,
        operators.len(),
        ours.len()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_done_that_the_audit_log_cannot_take() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let (admin, token) = (cluster.node(1).admin.clone(), cluster.admin_token()?);
    // What one node can do alone.
    let (path, body) = ("/admin/v1/nodes/n1/log", json!({ "filter": "info,node=debug" }));
    let filter = async || -> anyhow::Result<Value> {
        Ok(json_of(&ask(&admin, &token, "GET", path, None).await?)?["filter"].clone())
    };
    let before = filter().await?;
    cluster.kill(2);
    cluster.kill(3);
    let refused = ask(&admin, &token, "PUT", path, Some(&body)).await?;
    ensure!(refused.status == 503 && refused.text().contains("nothing was done"), "{}", refused.text());
    ensure!(filter().await? == before, "it was done all the same");
    cluster.restart(&[2, 3]).await?;
    let done = wait::until("it is done", SOON, async || {
        let answer = ask(&admin, &token, "PUT", path, Some(&body)).await.ok()?;
        (answer.status == 200).then_some(())
    });
    done.await?;
    ensure!(filter().await? != before, "it was not done");
    cluster.command(&["audit", "verify"], "").await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_of_a_recovered_cluster_goes_on_and_says_so() -> anyhow::Result<()> {
    let mut dead = Cluster::start(1).await?;
    let made = dead.command(&["site", "add", "shop"], "").await?;
    ensure!(made.contains("site"), "{made}");
    let head = dead.command(&["audit", "verify"], "").await?.lines().last().context("no head")?.to_owned();
    let name = dead.status(1).await?.raw["name"].as_str().context("no name")?.to_owned();
    dead.kill_all();
    let mut cluster = Cluster::empty(&[])?;
    let into = cluster.dir().join("recovered");
    let (from, to) = (dead.node(1).data_dir.display().to_string(), into.display().to_string());
    cluster.offline(&["recover", "--data-dir", &from, "--into", &to, "--confirm", &name], "").await?;
    cluster.add_node(Some(into))?;
    cluster.run(1).await?;
    cluster.command(&["site", "add", "bazaar"], "").await?;
    cluster.command(&["audit", "verify", "--head", &head], "").await?;
    let listed = cluster.command(&["audit", "list"], "").await?;
    let at = |what: &str| listed.find(what).with_context(|| format!("{what}: {listed}"));
    ensure!(at("everdesk recover")? < listed.rfind("/admin/v1/sites").context("no act after it")?, "{listed}");
    Ok(())
}
