//! Owns a cluster of real `everdesk` processes: founding, joining, ends and returns. Does not know conversations.
//! Invariant: dropping it ends every process that it started, by its id.

mod places;
mod process;
mod status;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use proto::command::Target;
use proto::ids::SessionId;
use tokio::io::AsyncWriteExt;

pub use places::{binary, directory, free_port, is_in_memory};
pub use process::{NodeProcess, cpu_of, rss_bytes_of};
pub use status::{ReplicaStatus, ShardStatus, Status};

use crate::lab::net::{ADMIN_PORT, CLIENT_PORT, End, Network, PEER_PORT};
use crate::{http, wait};

/// A node must answer as ready within this.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A fresh cluster must have all its voters, and leaders must be spread, within this.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// One call of the command line.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// The site that exists on a fresh node.
pub const SITE: &str = "demo";

/// One node, running or not.
pub struct Node {
    /// Counts from 1, as the cluster's own ids do.
    pub number: u64,
    pub data_dir: PathBuf,
    /// All that the process printed and logged.
    pub log: PathBuf,
    /// `host:port` for clients.
    pub client: String,
    pub peer: String,
    pub admin: String,
    process: Option<NodeProcess>,
    binary: PathBuf,
    /// Where it says that it stands.
    zone: String,
    /// It was removed from the cluster: nothing is asked of it any more.
    removed: bool,
}

impl Node {
    pub fn zone(&self) -> &str {
        &self.zone
    }
}

/// The cluster.
pub struct Cluster {
    nodes: Vec<Node>,
    binary: PathBuf,
    args: Vec<String>,
    /// Programs that replace themselves by a node, such as `env`.
    prefix: Vec<String>,
    /// Where each node has an address of its own; `None`: all are on this machine's own.
    network: Option<Network>,
    // Last: the directory goes after the processes that write into it.
    dir: tempfile::TempDir,
}

impl Cluster {
    /// Starts `count` nodes: the first founds, the others join with a token each. Returns once all are voters everywhere.
    /// # Errors
    /// A node does not start or settle in time; the text holds the end of its log.
    pub async fn start(count: usize) -> anyhow::Result<Cluster> {
        Self::start_with(count, &[]).await
    }

    /// The same with further arguments for `everdesk start`.
    /// # Errors
    /// As `start`.
    pub async fn start_with(count: usize, args: &[&str]) -> anyhow::Result<Cluster> {
        let mut cluster = Self::empty(args)?;
        cluster.found(count).await?;
        Ok(cluster)
    }

    /// The same in a network of its own, which can lose packets.
    /// # Errors
    /// As `start`, or what `Network::available` says.
    pub async fn start_in(network: Network) -> anyhow::Result<Cluster> {
        let count = network.nodes() as usize;
        let mut cluster = Cluster { network: Some(network), ..Self::empty(&[])? };
        cluster.found(count).await?;
        Ok(cluster)
    }

    async fn found(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let number = self.add_node(None)?;
            self.run(number).await?;
        }
        self.wait_settled().await
    }

    /// The network of its own.
    /// # Errors
    /// It has none.
    pub fn network(&self) -> anyhow::Result<&Network> {
        self.network.as_ref().context("this cluster has no network of its own")
    }

    /// A cluster without nodes.
    /// # Errors
    /// No binary or no directory.
    pub fn empty(args: &[&str]) -> anyhow::Result<Cluster> {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Ok(Cluster { nodes: Vec::new(), binary: binary()?, args, prefix: Vec::new(), network: None, dir: directory()? })
    }

    /// One node alone whose environment has that variable.
    /// # Errors
    /// As `start`.
    pub async fn start_one_where(variable: &str, args: &[&str]) -> anyhow::Result<Cluster> {
        let mut cluster = Self::empty(args)?;
        cluster.prefix = vec!["/usr/bin/env".to_owned(), variable.to_owned()];
        let number = cluster.add_node(None)?;
        cluster.run(number).await?;
        cluster.wait_settled().await?;
        Ok(cluster)
    }

    /// Makes a node known without starting it; `data_dir` replaces its place below the cluster's directory.
    /// # Errors
    /// No free port.
    pub fn add_node(&mut self, data_dir: Option<PathBuf>) -> anyhow::Result<u64> {
        let number = self.nodes.len() as u64 + 1;
        let network = self.network.as_ref();
        let addr = |port| match network {
            Some(network) => Ok(network.host_port(number, port)),
            None => free_port().map(|port| format!("127.0.0.1:{port}")),
        };
        let (client, peer, admin) = (addr(CLIENT_PORT)?, addr(PEER_PORT)?, addr(ADMIN_PORT)?);
        self.nodes.push(Node {
            number,
            data_dir: data_dir.unwrap_or_else(|| self.dir.path().join(number.to_string())),
            log: self.dir.path().join(format!("{number}.log")),
            client,
            peer,
            admin,
            process: None,
            binary: self.binary.clone(),
            zone: String::new(),
            removed: false,
        });
        Ok(number)
    }

    /// Makes a node known that holds `data_dir` and listens where node `number` of another cluster did, which must not run.
    /// # Errors
    /// None of this cluster's own; see `add_node`.
    pub fn add_in_place_of(&mut self, data_dir: PathBuf, other: &Cluster, number: u64) -> anyhow::Result<u64> {
        let added = self.add_node(Some(data_dir))?;
        let (client, peer, admin) = {
            let before = other.node(number);
            (before.client.clone(), before.peer.clone(), before.admin.clone())
        };
        let node = self.node_mut(added);
        (node.client, node.peer, node.admin) = (client, peer, admin);
        Ok(added)
    }

    /// Where this cluster's own files lie; removed with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a command that asks no node, and returns what it prints.
    /// # Errors
    /// It fails; with what it printed and said.
    pub async fn offline(&self, args: &[&str], input: &str) -> anyhow::Result<String> {
        let mut child = tokio::process::Command::new(&self.binary)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that has failed already does not read.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let out = tokio::time::timeout(COMMAND_WITHIN, child.wait_with_output()).await;
        let out = out.with_context(|| format!("`everdesk {}` hangs", args.join(" ")))??;
        let (said, printed) = (String::from_utf8_lossy(&out.stderr), String::from_utf8_lossy(&out.stdout));
        anyhow::ensure!(out.status.success(), "`everdesk {}`: {}: {printed}{said}", args.join(" "), out.status);
        Ok(printed.into_owned())
    }

    /// Starts one more node in a zone, and waits until it is ready.
    /// # Errors
    /// As `run`.
    pub async fn run_in(&mut self, zone: &str) -> anyhow::Result<u64> {
        let number = self.add_node(None)?;
        zone.clone_into(&mut self.node_mut(number).zone);
        self.run(number).await?;
        Ok(number)
    }

    /// Starts a node, with a token when its data directory is new, and waits until it is ready.
    /// # Errors
    /// It ends or is not ready in time.
    pub async fn run(&mut self, number: u64) -> anyhow::Result<()> {
        self.spawn(number).await?;
        self.wait_ready(number).await
    }

    /// Starts a node without waiting.
    /// # Errors
    /// It is not executable, or nobody gives a token.
    pub async fn spawn(&mut self, number: u64) -> anyhow::Result<()> {
        let is_new = !self.node(number).data_dir.join(".member").exists();
        let token = match is_new && number > 1 {
            true => Some(self.join_token().await?),
            false => None,
        };
        self.spawn_with(number, token.as_deref())
    }

    /// A token with which one node may join.
    /// # Errors
    /// Node 1 gives none.
    pub async fn join_token(&self) -> anyhow::Result<String> {
        let token = self.command(&["token", "create"], "").await?;
        Ok(token.lines().last().context("no token was printed")?.to_owned())
    }

    /// Starts a node without waiting; with a token it joins.
    /// # Errors
    /// It is not executable.
    pub fn spawn_with(&mut self, number: u64, token: Option<&str>) -> anyhow::Result<()> {
        let node = self.node(number);
        let mut args = vec!["start".to_owned(), "--data-dir".to_owned(), node.data_dir.display().to_string()];
        for (flag, value) in
            [("--listen", &node.client), ("--peer-listen", &node.peer), ("--admin-listen", &node.admin)]
        {
            args.extend([flag.to_owned(), value.clone()]);
        }
        args.extend(["--zone".to_owned(), node.zone.clone()]);
        if let Some(token) = token {
            let founder = self.node(1).peer.clone();
            args.extend(["--join".to_owned(), founder, "--token".to_owned(), token.to_owned()]);
        }
        args.extend(self.args.iter().cloned());
        let prefix = self
            .network
            .as_ref()
            .map(|network| network.exec_in(End::Node(number)))
            .unwrap_or_else(|| self.prefix.clone());
        let node = self.node(number);
        let process = NodeProcess::start_behind(&prefix, &node.binary, &args, &node.log)?;
        self.node_mut(number).process = Some(process);
        Ok(())
    }

    /// From its next start on, a node runs this binary.
    pub fn use_binary(&mut self, number: u64, binary: &Path) {
        binary.clone_into(&mut self.node_mut(number).binary);
    }

    /// Waits for `/health/ready`.
    /// # Errors
    /// The node ended or is not ready in time; with the end of its log.
    pub async fn wait_ready(&mut self, number: u64) -> anyhow::Result<()> {
        let client = self.node(number).client.clone();
        let node = self.node_mut(number);
        let what = format!("node {number} is ready");
        let ready = wait::until(&what, READY_WITHIN, async || {
            if let Some(status) = node.process.as_mut().and_then(NodeProcess::ended) {
                return Some(Err(status));
            }
            let answer = http::get(&client, "/health/ready", &[]).await.ok()?;
            (answer.status == 200).then_some(Ok(()))
        });
        let why = match ready.await {
            Ok(Ok(())) => {
                // What this file says goes with the data directory: a member comes back without a token.
                std::fs::write(self.node(number).data_dir.join(".member"), "")?;
                return Ok(());
            }
            Ok(Err(status)) => format!("node {number} ended with {status} before it was ready"),
            Err(error) => error.to_string(),
        };
        bail!("{why}; the end of its log:\n{}", self.log_tail(number))
    }

    /// Waits until every group has a leader and all its voters, and leaders are spread evenly.
    /// # Errors
    /// Not in time; with the last status.
    pub async fn wait_settled(&self) -> anyhow::Result<()> {
        let count = self.nodes.len();
        let mut last = String::from("no answer");
        let settled = wait::until("all nodes are voters and leaders are spread", SETTLED_WITHIN, async || {
            let status = match self.overview().await {
                Ok(status) => status,
                Err(error) => {
                    last = format!("{error:#}");
                    return None;
                }
            };
            last = status.raw.to_string();
            (status.has_voters(count) && status.is_balanced(count)).then_some(())
        });
        settled.await.with_context(|| format!("last status: {last}"))
    }

    /// What node 1 says of the cluster, and of shards that it has no replica of, what those say that have one.
    /// # Errors
    /// A node does not answer.
    pub async fn overview(&self) -> anyhow::Result<Status> {
        let mut status = self.status(1).await?;
        for node in self.members().filter(|node| node.number > 1) {
            if status.shards.iter().all(|shard| !shard.replicas.is_empty()) {
                break;
            }
            // A node that is away says nothing; another one may know.
            let Ok(other) = self.status(node.number).await else { continue };
            for (known, other) in status.shards.iter_mut().zip(other.shards) {
                if known.replicas.is_empty() {
                    *known = other;
                }
            }
        }
        Ok(status)
    }

    /// What node `number` says of the cluster.
    /// # Errors
    /// It does not answer.
    pub async fn status(&self, number: u64) -> anyhow::Result<Status> {
        let admin = format!("http://{}", self.node(number).admin);
        let text = self.run_command(&["status", "--json"], &admin, "").await?;
        Status::read(serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?)
    }

    /// Runs a command of the administrator against node 1 and returns what it prints.
    /// # Errors
    /// It fails; with what it said.
    pub async fn command(&self, args: &[&str], input: &str) -> anyhow::Result<String> {
        self.run_command(args, &format!("http://{}", self.node(1).admin), input).await
    }

    async fn run_command(&self, args: &[&str], admin: &str, input: &str) -> anyhow::Result<String> {
        // The credential lies with the founder; it is good at every node.
        let data_dir = &self.node(1).data_dir;
        let mut child = tokio::process::Command::new(&self.binary)
            .args(args)
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--admin", admin])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let out = tokio::time::timeout(COMMAND_WITHIN, child.wait_with_output()).await;
        let out = out.with_context(|| format!("`everdesk {}` hangs", args.join(" ")))??;
        if !out.status.success() {
            bail!("`everdesk {}`: {}: {}", args.join(" "), out.status, String::from_utf8_lossy(&out.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// The founder's token for the admin API, good at every node.
    /// # Errors
    /// Node 1 has not been started.
    pub fn admin_token(&self) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(self.node(1).data_dir.join("admin.json"))?;
        let credential: serde_json::Value = serde_json::from_str(&text)?;
        Ok(credential["token"].as_str().context("no token")?.to_owned())
    }

    /// Makes a human seat of the site `demo`.
    /// # Errors
    /// The command fails.
    pub async fn add_agent(&self, name: &str, password: &str) -> anyhow::Result<()> {
        self.command(&["agent", "add", "--site", SITE, "--name", name, "--password-stdin"], password).await.map(drop)
    }

    pub fn node(&self, number: u64) -> &Node {
        &self.nodes[number as usize - 1]
    }

    fn node_mut(&mut self, number: u64) -> &mut Node {
        &mut self.nodes[number as usize - 1]
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes that were not removed.
    pub fn members(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !node.removed)
    }

    /// No longer expects anything of a node.
    pub fn forget(&mut self, number: u64) {
        self.node_mut(number).removed = true;
    }

    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The running process of a node.
    pub fn process(&mut self, number: u64) -> Option<&mut NodeProcess> {
        self.node_mut(number).process.as_mut()
    }

    /// Ids of the running processes.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.process.as_ref()).map(NodeProcess::pid).collect()
    }

    /// `host:port` for clients, starting with node `first`.
    pub fn clients_from(&self, first: usize) -> Vec<String> {
        let count = self.nodes.len();
        (0..count).map(|step| self.nodes[(first + step) % count].client.clone()).collect()
    }

    /// A figure of a node, summed over its labels; 0 while it has none.
    /// # Errors
    /// The node does not answer.
    pub async fn figure(&self, number: u64, name: &str) -> anyhow::Result<f64> {
        let text = http::get(&self.node(number).client, "/metrics", &[("Connection", "close")]).await?.text();
        let of_name = |line: &&str| line.split(['{', ' ']).next() == Some(name);
        let values = text.lines().filter(of_name).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum())
    }

    /// The node that leads the shard of a session.
    /// # Errors
    /// No node answers, or nobody leads it just now.
    pub async fn leader_of(&self, session: SessionId) -> anyhow::Result<u64> {
        let status = self.overview().await?;
        let of = u64::from(Target::Session(session).shard(status.data_shards().count() as u32).0);
        status.data_shards().find(|shard| shard.shard == of).and_then(|shard| shard.leader).context("no leader")
    }

    /// The sockets of a node, as its administrator sees them over any cut.
    /// # Errors
    /// The node does not answer.
    pub async fn sockets(&self, number: u64) -> anyhow::Result<serde_json::Value> {
        let bearer = format!("Bearer {}", self.admin_token()?);
        let headers = [("Connection", "close"), ("Authorization", bearer.as_str())];
        let path = format!("/admin/v1/nodes/n{number}/sockets");
        Ok(serde_json::from_slice(&http::get(&self.node(number).admin, &path, &headers).await?.body)?)
    }

    /// Lines of a node's log that hold `part`.
    pub fn log_lines_with(&self, number: u64, part: &str) -> usize {
        let text = std::fs::read(&self.node(number).log).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().filter(|line| line.contains(part)).count()
    }

    /// The last lines of a node's log.
    pub fn log_tail(&self, number: u64) -> String {
        let text = std::fs::read(&self.node(number).log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}
