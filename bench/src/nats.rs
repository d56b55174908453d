//! Owns the comparison's other side: three NATS servers with JetStream and a lean publisher. Does not judge.
//! Invariant: every message is a file-stored, replicated, synced publish with its own `PubAck`, as an Everdesk ack is.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use chaos_tests::cluster::{NodeProcess, cpu_of, directory, free_port};
use chaos_tests::wait;
use serde_json::{Value, json};

use crate::Load;
use crate::closed_loop::{self, Lane};
use crate::figures::Level;
use crate::target::Counters;
use crate::wire::{Answer, Line, Wire, find, put_number, take_number};

const SERVERS: usize = 3;
const STREAMS_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, clap::Args)]
pub struct NatsOptions {
    /// The `nats-server` binary; compare.sh installs it.
    #[arg(long, env = "NATS_SERVER")]
    server: PathBuf,
    /// Streams, each with three replicas; sockets are spread over them. One stream is the fastest at 64 and more in flight.
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// `sync_interval` of JetStream.
    #[arg(long, default_value = "always")]
    sync_interval: String,
}

struct Servers {
    processes: Vec<NodeProcess>,
    clients: Vec<String>,
    // Last: it goes after the processes that write into it.
    dir: tempfile::TempDir,
}

/// Runs every level on three fresh servers.
/// # Errors
/// They do not start, or a publish is refused for good.
pub async fn measure(load: &Load, options: &NatsOptions) -> anyhow::Result<Vec<Level>> {
    let servers = Servers::start(options)?;
    servers.create_streams(options.streams.max(1)).await.with_context(|| servers.log_tails())?;
    let pids: Vec<u32> = servers.processes.iter().map(NodeProcess::pid).collect();
    let counters = async || Counters {
        cpu: Some(pids.iter().map(|&pid| cpu_of(pid)).sum()),
        fsyncs: None,
        client_cpu: cpu_of(std::process::id()),
    };
    let mut levels = Vec::new();
    for in_flight in load.levels() {
        let sockets = load.sockets(in_flight);
        let mut lanes = Vec::with_capacity(sockets);
        for number in 0..sockets {
            let addr = &servers.clients[number % SERVERS];
            // Apart from the server's number, so that every server talks to leaders near and far.
            let stream = number / SERVERS % options.streams.max(1);
            let line = connect(addr, &format!("_INBOX.l{in_flight}c{number}")).await?;
            lanes.push(Lane::new(line, NatsWire::new(stream, in_flight, number, load.size)));
        }
        let level = closed_loop::run(in_flight, lanes, load, counters).await?;
        eprintln!("nats     {level}");
        levels.push(level);
    }
    Ok(levels)
}

impl Servers {
    fn start(options: &NatsOptions) -> anyhow::Result<Servers> {
        let dir = directory()?;
        let port = |_| free_port();
        let clients: Vec<u16> = (0..SERVERS).map(port).collect::<Result<_, _>>()?;
        let peers: Vec<u16> = (0..SERVERS).map(port).collect::<Result<_, _>>()?;
        let routes: Vec<String> = peers.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let routes = routes.join(", ");
        let sync = &options.sync_interval;
        let mut processes = Vec::new();
        for (number, (client, peer)) in clients.iter().zip(&peers).enumerate() {
            let store = dir.path().join(format!("store-{number}"));
            let config = format!(
                "server_name: n{number}\nlisten: 127.0.0.1:{client}\n\
                 jetstream {{ store_dir: \"{}\", sync_interval: {sync}, max_file_store: 20GB, max_memory_store: 1GB }}\n\
                 cluster {{ name: bench, listen: 127.0.0.1:{peer}, routes: [{routes}] }}\n",
                store.display()
            );
            let file = dir.path().join(format!("{number}.conf"));
            std::fs::write(&file, config)?;
            let args = ["-c".to_owned(), file.display().to_string()];
            processes.push(NodeProcess::start(&options.server, &args, &dir.path().join(format!("{number}.log")))?);
        }
        let clients = clients.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Ok(Servers { processes, clients, dir })
    }

    async fn create_streams(&self, count: usize) -> anyhow::Result<()> {
        for stream in 0..count {
            let config = json!({
                "name": format!("S{stream}"), "subjects": [format!("s{stream}.>")], "storage": "file",
                "retention": "limits", "num_replicas": SERVERS, "discard": "old", "max_bytes": 4u64 << 30,
            });
            let mut last = Value::Null;
            let what = format!("stream S{stream}");
            let created = wait::until(&what, STREAMS_WITHIN, async || {
                let answer = ask(&self.clients[0], &format!("$JS.API.STREAM.CREATE.S{stream}"), &config).await;
                last = answer.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
                last["error"].is_null().then_some(())
            });
            created.await.with_context(|| last.to_string())?;
        }
        Ok(())
    }

    fn log_tails(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("0.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// Connects and subscribes to `inbox.*`; returns once the server has both.
async fn connect(addr: &str, inbox: &str) -> anyhow::Result<Line> {
    let mut line = Line::connect(addr).await?;
    let hello = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}";
    line.out.extend_from_slice(format!("{hello}\r\nSUB {inbox}.* 1\r\nPING\r\n").as_bytes());
    line.flush().await?;
    loop {
        while let Some(end) = find(line.unread(), b"\r\n") {
            let text = String::from_utf8_lossy(&line.unread()[..end]).into_owned();
            line.advance(end + 2);
            ensure!(!text.starts_with("-ERR"), "{text}");
            if text == "PONG" {
                return Ok(line);
            }
        }
        line.read().await?;
    }
}

/// One request to the JetStream API.
async fn ask(addr: &str, subject: &str, body: &Value) -> anyhow::Result<Value> {
    let asking = async {
        let mut line = connect(addr, "_INBOX.api").await?;
        let body = body.to_string();
        let request = format!("PUB {subject} _INBOX.api.1 {}\r\n{body}\r\n", body.len());
        line.out.extend_from_slice(request.as_bytes());
        line.flush().await?;
        loop {
            if let Some(unit) = unit(line.unread())? {
                let whole = line.unread()[unit.head..unit.end].to_vec();
                line.advance(unit.end);
                match unit.kind {
                    // The payload's own line end is white space to JSON.
                    Kind::Message { .. } => return Ok(serde_json::from_slice(&whole)?),
                    Kind::NoResponders => bail!("JetStream does not answer yet"),
                    _ => continue,
                }
            }
            line.read().await?;
        }
    };
    tokio::time::timeout(ANSWER_WITHIN, asking).await.context("no answer")?
}

/// One publisher on one socket.
struct NatsWire {
    /// `PUB <subject> <inbox>.`
    head: Vec<u8>,
    /// ` <size>\r\n<payload>\r\n`
    tail: Vec<u8>,
}

impl NatsWire {
    fn new(stream: usize, in_flight: usize, number: usize, size: usize) -> Self {
        NatsWire {
            head: format!("PUB s{stream}.c{number} _INBOX.l{in_flight}c{number}.").into_bytes(),
            tail: format!(" {size}\r\n{}\r\n", "m".repeat(size)).into_bytes(),
        }
    }
}

impl Wire for NatsWire {
    fn put(&mut self, n: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        put_number(n, out);
        out.extend_from_slice(&self.tail);
    }

    fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> anyhow::Result<Option<(usize, Option<Answer>)>> {
        let Some(unit) = unit(input)? else { return Ok(None) };
        let answer = match unit.kind {
            Kind::Message { n } => {
                let payload = &input[unit.head..unit.end - 2];
                // A `PubAck` is `{"stream":"S0","seq":7}`; an error has `"error":{...}` in front or behind.
                let acked = payload.starts_with(b"{\"stream\":") && find(payload, b"\"error\"").is_none();
                Some(if acked { Answer::Acked { n } } else { Answer::Refused { n, after: RETRY_AFTER } })
            }
            Kind::NoResponders => bail!("no JetStream leader answers"),
            Kind::Ping => {
                out.extend_from_slice(b"PONG\r\n");
                None
            }
            Kind::Other => None,
        };
        Ok(Some((unit.end, answer)))
    }
}

enum Kind {
    /// On `<inbox>.<n>`.
    Message {
        n: u64,
    },
    NoResponders,
    Ping,
    Other,
}

struct Unit {
    kind: Kind,
    head: usize,
    end: usize,
}

/// The first protocol line of a server's bytes with its payload, if it is whole.
fn unit(input: &[u8]) -> anyhow::Result<Option<Unit>> {
    let Some(line_end) = find(input, b"\r\n") else { return Ok(None) };
    let line = &input[..line_end];
    let head = line_end + 2;
    if line.starts_with(b"MSG ") || line.starts_with(b"HMSG ") {
        let mut fields = line.split(|&byte| byte == b' ');
        let subject = fields.nth(1).context("no subject")?;
        let length = fields.next_back().and_then(take_number).context("no length")?.0;
        let end = head + usize::try_from(length)? + 2;
        let n = subject.rsplit(|&byte| byte == b'.').next().and_then(take_number).context("no number")?.0;
        let kind = if line.starts_with(b"HMSG ") { Kind::NoResponders } else { Kind::Message { n } };
        return Ok((input.len() >= end).then_some(Unit { kind, head, end }));
    }
    ensure!(!line.starts_with(b"-ERR"), "{}", String::from_utf8_lossy(line));
    let kind = if line == b"PING" { Kind::Ping } else { Kind::Other };
    Ok(Some(Unit { kind, head, end: head }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pub_ack_is_an_ack_and_an_error_a_refusal() {
        let mut wire = NatsWire::new(0, 1, 0, 5);
        let mut out = Vec::new();
        let ack = b"MSG _INBOX.l1c0.7 1 23\r\n{\"stream\":\"S0\",\"seq\":7}\r\nPING\r\n";
        let (len, answer) = wire.take(ack, &mut out).unwrap().unwrap();
        assert_eq!(answer, Some(Answer::Acked { n: 7 }));
        assert_eq!(&ack[len..], b"PING\r\n");
        assert_eq!(wire.take(&ack[len..], &mut out).unwrap(), Some((6, None)));
        assert_eq!(out, b"PONG\r\n");
        assert_eq!(wire.take(&ack[..30], &mut out).unwrap(), None);
        let error = b"MSG _INBOX.l1c0.8 1 21\r\n{\"error\":{\"code\":503}}\r\n";
        assert!(matches!(wire.take(error, &mut out), Ok(None) | Ok(Some((_, Some(Answer::Refused { n: 8, .. }))))));
    }
}
