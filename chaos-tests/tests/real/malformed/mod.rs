//! Owns what a node says to input that is not right: one table per interface, each case with the error it gets.
//! Does not load the node. Invariant: after each table the node still takes a message.

mod commands;
mod peer_port;
mod requests;
mod sockets;

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use chaos_tests::cluster::{Cluster, SITE};
use chaos_tests::socket::{Came, Socket};
use node::client::http;
use proto::client::http::VisitorCreated;
use serde_json::{Value, json};

/// An answer comes at once or not at all; the machine may be busy.
const SOON: Duration = Duration::from_secs(10);
/// What a node may grow by during a table, for other reasons: far below one length that is announced there.
const RESIDENT_MAX: u64 = 48 << 20;
const MAPPED_MAX: u64 = 512 << 20;

/// Prints what each case got and collects those that got something else.
struct Report {
    interface: &'static str,
    cases: usize,
    failures: Vec<String>,
}

impl Report {
    fn of(interface: &'static str) -> Report {
        Report { interface, cases: 0, failures: Vec::new() }
    }

    /// Compares whole texts.
    fn same(&mut self, name: &str, wanted: &str, got: anyhow::Result<String>) {
        self.note(name, wanted, got, |got| got == wanted);
    }

    /// Looks for a part: texts of the system or of other crates stand around it.
    fn holds(&mut self, name: &str, wanted: &str, got: anyhow::Result<String>) {
        self.note(name, wanted, got, |got| got.contains(wanted));
    }

    fn note(&mut self, name: &str, wanted: &str, got: anyhow::Result<String>, fits: impl FnOnce(&str) -> bool) {
        self.cases += 1;
        let (fits, got) = match got {
            Ok(got) => (fits(&got), got),
            Err(error) => (false, format!("no outcome: {error:#}")),
        };
        println!("{} | {name} | {got}", self.interface);
        if !fits {
            self.failures.push(format!("{name}\n    wanted {wanted}\n    got    {got}"));
        }
    }

    /// # Errors
    /// A case failed, or there are fewer than the protocol promises.
    fn end(self, cases_min: usize) -> anyhow::Result<()> {
        let Report { interface, cases, failures } = self;
        ensure!(cases >= cases_min, "{interface}: only {cases} cases");
        println!("{interface}: {cases} cases, {} failed", failures.len());
        if !failures.is_empty() {
            bail!("{interface}: {} of {cases} cases failed:\n{}", failures.len(), failures.join("\n"));
        }
        Ok(())
    }
}

/// A new visitor whose message is acked: the node is as good as before.
async fn check_still_serves(cluster: &Cluster) -> anyhow::Result<()> {
    let (mut socket, visitor) = welcome(cluster).await.context("a good client is turned away")?;
    let answer = say(&mut socket, &visitor, 2).await?;
    ensure!(answer["ack"]["seq"] == 1, "a good client gets {answer}");
    Ok(())
}

/// The most that node 1 ever had resident and mapped, in bytes.
fn peaks(cluster: &mut Cluster) -> anyhow::Result<(u64, u64)> {
    let process = cluster.process(1).context("node 1 is gone")?;
    Ok((process.rss_peak_bytes(), process.vm_peak_bytes()))
}

/// What was announced and refused was neither kept nor allocated.
fn check_growth(cluster: &mut Cluster, before: (u64, u64)) -> anyhow::Result<()> {
    let now = peaks(cluster)?;
    let (resident, mapped) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
    println!("the node grew by {resident} bytes resident, {mapped} bytes mapped");
    ensure!(resident < RESIDENT_MAX && mapped < MAPPED_MAX, "the node grew by {resident} bytes, {mapped} mapped");
    Ok(())
}

async fn welcome(cluster: &Cluster) -> anyhow::Result<(Socket, VisitorCreated)> {
    let addr = &cluster.node(1).client;
    let visitor = http::create_visitor(addr, SITE).await?;
    let socket = Socket::hello(addr, &visitor.token, None).await?;
    Ok((socket, visitor))
}

async fn say(socket: &mut Socket, visitor: &VisitorCreated, id: u64) -> anyhow::Result<Value> {
    let send = json!({"session": visitor.session.to_string(), "cid": format!("good-{id}"), "text": "all is well"});
    socket.ask(&json!({"id": id, "send": send}), SOON, &mut Vec::new()).await
}

/// A frame of the node in one line: `id code: message`, or what else came.
fn line_of(came: &Came) -> String {
    let Came::Frame(frame) = came else {
        return match came {
            Came::Closed(Some(code)) => format!("closed {code}"),
            Came::Closed(None) => "closed without a code".to_owned(),
            _ => "nothing".to_owned(),
        };
    };
    let error = &frame["error"];
    if error.is_null() {
        return frame.to_string();
    }
    let id = if frame["id"].is_null() { "-".to_owned() } else { frame["id"].to_string() };
    let text = |part: &Value| part.as_str().unwrap_or("?").to_owned();
    format!("{id} {}: {}", text(&error["code"]), text(&error["message"]))
}
