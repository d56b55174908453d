//! Owns a small cluster of real nodes in a network of the lab. Does not cause faults. Invariant: its processes end with it, by their ids.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use chaos_tests::lab::net::{ADMIN_PORT, CLIENT_PORT, End, Network, PEER_PORT};
use chaos_tests::lab::owner;

const LOOK_EVERY: Duration = Duration::from_millis(20);
pub const READY_WITHIN: Duration = Duration::from_secs(60);

/// Looks until `look` gives something.
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "not within {within:?}: {what}");
        pause(LOOK_EVERY);
    }
}

/// A pause that is part of a fault.
pub fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// The node's program.
pub fn binary() -> Result<PathBuf, String> {
    chaos_tests::cluster::binary().map_err(|error| format!("{error:#}"))
}

pub struct Node {
    pub number: u64,
    pub data_dir: PathBuf,
    pub log: PathBuf,
    /// Put before the program, e.g. to load a library.
    pub prefix: Vec<String>,
    is_member: bool,
    child: Option<Child>,
}

pub struct Rig {
    nodes: Vec<Node>,
    binary: PathBuf,
    pub network: Arc<Network>,
    pub dir: tempfile::TempDir,
}

/// A message that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Acked {
    /// The node's time, in milliseconds since 1970.
    pub ts_ms: i64,
    pub took: Duration,
}

impl Rig {
    /// Knows `count` nodes, and starts none.
    pub fn new(count: u64) -> anyhow::Result<Rig> {
        let network = Arc::new(Network::new(count)?);
        let dir = owner::directory()?;
        let node = |number: u64| Node {
            number,
            data_dir: dir.path().join(number.to_string()),
            log: dir.path().join(format!("{number}.log")),
            prefix: Vec::new(),
            is_member: false,
            child: None,
        };
        let nodes = (1..=count).map(node).collect();
        Ok(Rig { nodes, binary: binary().map_err(anyhow::Error::msg)?, network, dir })
    }

    /// Starts `count` nodes and waits until each votes in every group.
    pub fn started(count: u64) -> anyhow::Result<Rig> {
        let mut rig = Rig::new(count)?;
        rig.start_all()?;
        Ok(rig)
    }

    pub fn start_all(&mut self) -> anyhow::Result<()> {
        for number in self.network.numbers() {
            self.start(number)?;
            self.wait_ready(number)?;
        }
        self.wait_whole()
    }

    pub fn node(&mut self, number: u64) -> &mut Node {
        &mut self.nodes[number as usize - 1]
    }

    pub fn start(&mut self, number: u64) -> anyhow::Result<()> {
        let mut args = vec!["start".to_owned(), "--data-dir".to_owned()];
        args.push(self.node(number).data_dir.display().to_string());
        for (flag, port) in [("--listen", CLIENT_PORT), ("--peer-listen", PEER_PORT), ("--admin-listen", ADMIN_PORT)] {
            args.extend([flag.to_owned(), self.network.host_port(number, port)]);
        }
        if number > 1 && !self.node(number).is_member {
            let token = self.command(1, &["token", "create"])?;
            let token = token.lines().last().context("no token")?.to_owned();
            args.extend(["--join".to_owned(), self.network.host_port(1, PEER_PORT), "--token".to_owned(), token]);
        }
        let mut line = vec!["/usr/bin/setpriv".to_owned()];
        line.extend(["--pdeathsig", "KILL", "--"].map(str::to_owned));
        line.extend(self.network.exec_in(End::Node(number)));
        line.extend(self.node(number).prefix.clone());
        line.push(self.binary.display().to_string());
        line.extend(args);
        let log = || OpenOptions::new().create(true).append(true).open(&self.nodes[number as usize - 1].log);
        let child = Command::new(&line[0]).args(&line[1..]).stdin(Stdio::null()).stdout(log()?).stderr(log()?).spawn();
        let child = child.with_context(|| format!("start {line:?}"))?;
        self.node(number).child = Some(child);
        Ok(())
    }

    pub fn wait_ready(&mut self, number: u64) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let what = format!("node {number} is ready");
        let ready = until(&what, READY_WITHIN, || match self.ended(number) {
            Some(status) => Some(Err(status)),
            None => self.is_ready(number).then_some(Ok(())),
        });
        match ready {
            Ok(Ok(())) => self.node(number).is_member = true,
            Ok(Err(status)) => bail!("node {number} ended with {status}; its log:\n{}", self.log_tail(number)),
            Err(error) => bail!("{error}; its log:\n{}", self.log_tail(number)),
        }
        Ok(begun.elapsed())
    }

    /// Every group has a leader, all its replicas vote, and all nodes agree on that.
    pub fn wait_whole(&self) -> anyhow::Result<()> {
        let numbers = self.network.numbers();
        let mut last = String::new();
        let whole = until("every node sees a leader and all replicas of every group", READY_WITHIN, || {
            let mut seen = None;
            for &number in &numbers {
                last = self.command(number, &["status"]).unwrap_or_else(|error| format!("{error:#}"));
                let groups = leaders_in(&last);
                let is_whole = !groups.is_empty()
                    && groups.iter().all(|(leader, replicas)| leader.is_some() && *replicas == numbers.len());
                // A node that was cut off may still name the leader of before.
                let leaders: Vec<_> = groups.into_iter().map(|(leader, _)| leader).collect();
                let detail = self.command(number, &["status", "--json"]).unwrap_or_default();
                let voters = detail.matches("\"voter\":true").count();
                if !is_whole
                    || voters != leaders.len() * numbers.len()
                    || *seen.get_or_insert_with(|| leaders.clone()) != leaders
                {
                    return None;
                }
            }
            Some(())
        });
        whole.with_context(|| format!("last status:\n{last}"))
    }

    pub fn is_ready(&self, number: u64) -> bool {
        self.ready_status(number) == Some(200)
    }

    /// The status of `/health/ready`.
    pub fn ready_status(&self, number: u64) -> Option<u16> {
        http_status(&self.network.host_port(number, CLIENT_PORT), "/health/ready")
    }

    pub fn command(&self, number: u64, args: &[&str]) -> anyhow::Result<String> {
        let admin = format!("http://{}", self.network.host_port(number, ADMIN_PORT));
        let mut command = Command::new(&self.binary);
        command.args(args).args(["--admin", &admin, "--data-dir"]).arg(&self.nodes[0].data_dir);
        let out = command.stdin(Stdio::null()).output()?;
        ensure!(out.status.success(), "{args:?} at n{number}: {}", String::from_utf8_lossy(&out.stderr).trim());
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Leader of each group as node `number` sees it, meta first.
    pub fn leaders(&self, number: u64) -> anyhow::Result<Vec<Option<u64>>> {
        let text = self.command(number, &["status"])?;
        Ok(leaders_in(&text).into_iter().map(|(leader, _)| leader).collect())
    }

    /// Sends a message as a new visitor by these nodes and waits for its acknowledgement.
    pub fn say(&self, by: &[u64], within: Duration) -> anyhow::Result<Acked> {
        self.say_all(by, &["is anybody there?"], within)
    }

    /// The same with several messages; tells of the last acknowledgement.
    pub fn say_all(&self, by: &[u64], texts: &[&str], within: Duration) -> anyhow::Result<Acked> {
        let (lines, count) = (texts.join("\n") + "\n", texts.len());
        let mut command = Command::new(&self.binary);
        command.args(["chat", "--as", "visitor", "--json"]);
        for &number in by {
            command.args(["--node", &self.network.host_port(number, CLIENT_PORT)]);
        }
        let begun = Instant::now();
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("chat")?;
        let mut stdin = child.stdin.take().context("piped")?;
        let mut stderr = child.stderr.take().context("piped")?;
        let printed = BufReader::new(child.stdout.take().context("piped")?).lines();
        let (told, acked) = sync_channel(1);
        let reader = std::thread::spawn(move || {
            let acks = printed.map_while(Result::ok).filter_map(|line| ack_in(&line));
            acks.take(count).enumerate().filter(|(at, _)| at + 1 == count).for_each(|(_, ts_ms)| {
                let _ = told.send(ts_ms);
            });
        });
        // A client that gave up does not read; what it says is told below.
        let _ = stdin.write_all(lines.as_bytes());
        let ack = acked.recv_timeout(within);
        let took = begun.elapsed();
        let _ = child.kill();
        let _ = child.wait();
        let _ = reader.join();
        let mut said = String::new();
        stderr.read_to_string(&mut said)?;
        let ts_ms = ack.with_context(|| format!("no acknowledgement by {by:?} within {within:?}: {}", said.trim()))?;
        Ok(Acked { ts_ms, took })
    }

    pub fn ended(&mut self, number: u64) -> Option<ExitStatus> {
        self.node(number).child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    pub fn kill(&mut self, number: u64) {
        if let Some(mut child) = self.node(number).child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn log_tail(&self, number: u64) -> String {
        let text = std::fs::read(&self.nodes[number as usize - 1].log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Keeps the logs for a report.
    pub fn keep_logs(&self, into: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(into)?;
        for node in &self.nodes {
            if node.log.is_file() {
                std::fs::copy(&node.log, into.join(format!("{}.log", node.number)))?;
            }
        }
        Ok(())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for number in 1..=self.nodes.len() as u64 {
            self.kill(number);
        }
        if let Some(into) = std::env::var_os("LAB_KEEP_LOGS") {
            let _ = self.keep_logs(Path::new(&into));
        }
    }
}

/// Leader and count of replicas of each group in what `everdesk status` prints.
fn leaders_in(status: &str) -> Vec<(Option<u64>, usize)> {
    let lines = status.lines().filter(|line| line.starts_with('g'));
    let read = |line: &str| {
        let leader = line.split_whitespace().nth(1).and_then(|word| word.strip_prefix('n')?.parse().ok());
        (leader, line.matches('(').count())
    };
    lines.map(read).collect()
}

/// The time in a frame that acknowledges a message.
fn ack_in(line: &str) -> Option<i64> {
    let (_, rest) = line.split_once("\"ack\":")?;
    let (_, rest) = rest.split_once("\"ts\":")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn http_status(addr: &str, path: &str) -> Option<u16> {
    let addr: SocketAddr = addr.parse().ok()?;
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    // A connection that breaks after the answer has given it.
    let _ = stream.read_to_string(&mut text);
    text.split(' ').nth(1)?.parse().ok()
}

/// How long a connection takes: one way there and one back.
pub fn connect_time(addr: &str) -> anyhow::Result<Duration> {
    let addr: SocketAddr = addr.parse()?;
    let begun = Instant::now();
    TcpStream::connect_timeout(&addr, Duration::from_secs(20))?;
    Ok(begun.elapsed())
}
