//! Owns a system that webhooks call: an HTTP server which can fail in every way that such systems do. Does not judge what it was told.
//! Invariant: a delivery counts as taken only when its success was written out whole.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Longest request, in bytes.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Take,
    /// This status, with these header lines.
    Status(u16, String),
    /// The connection is reset when the request was read.
    Reset,
    /// Nothing is answered for so long; then the connection closes.
    Stall(Duration),
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    /// Names of its headers, in their order.
    pub headers: Vec<String>,
    /// As it was sent: what the signature covers.
    pub text: String,
    pub body: Value,
    pub taken: bool,
}

#[derive(Default)]
struct Shared {
    /// In the order in which they were read.
    deliveries: Vec<Delivery>,
    connections: usize,
}

type Decide = dyn Fn(&Delivery, usize) -> Answer + Send + Sync;

/// The server. Ends with this.
pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    decide: Arc<Mutex<Arc<Decide>>>,
    _tasks: JoinSet<()>,
}

impl Receiver {
    /// Listens on a free port of that address and takes everything.
    /// # Errors
    /// It cannot listen.
    pub async fn start(host: &str) -> anyhow::Result<Receiver> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let decide: Arc<Mutex<Arc<Decide>>> = Arc::new(Mutex::new(Arc::new(|_, _| Answer::Take)));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, shared.clone(), decide.clone()));
        Ok(Receiver { address, shared, decide, _tasks: tasks })
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// From now on: by the delivery, and how many came before it.
    pub fn answer(&self, decide: impl Fn(&Delivery, usize) -> Answer + Send + Sync + 'static) {
        *self.decide.lock() = Arc::new(decide);
    }

    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.lock().deliveries.clone()
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }
}

async fn serve(listener: TcpListener, shared: Arc<Mutex<Shared>>, decide: Arc<Mutex<Arc<Decide>>>) {
    let mut open = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        shared.lock().connections += 1;
        let (shared, decide) = (shared.clone(), decide.clone());
        open.spawn(async move {
            // A client that goes away is none of our business.
            let _ = connection(socket, &shared, &decide).await;
        });
        while open.try_join_next().is_some() {}
    }
}

async fn connection(mut socket: TcpStream, shared: &Mutex<Shared>, decide: &Mutex<Arc<Decide>>) -> anyhow::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let delivery = read(&mut socket, &mut buffer).await?;
        let (at, answer) = {
            let decide = decide.lock().clone();
            let mut shared = shared.lock();
            let at = shared.deliveries.len();
            let answer = decide(&delivery, at);
            shared.deliveries.push(delivery);
            (at, answer)
        };
        match answer {
            Answer::Take => {
                socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
                shared.lock().deliveries[at].taken = true;
            }
            Answer::Status(status, lines) => {
                let head = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n{lines}\r\n");
                socket.write_all(head.as_bytes()).await?;
            }
            Answer::Reset => {
                socket.set_zero_linger()?;
                return Ok(());
            }
            Answer::Stall(time) => {
                tokio::time::sleep(time).await;
                return Ok(());
            }
        }
    }
}

/// One request; what follows it stays in the buffer.
async fn read(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<Delivery> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec())?;
            let field = |name: &str| {
                let lines = head.lines().filter_map(|line| line.split_once(':'));
                let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
                found.next().unwrap_or_default().to_owned()
            };
            let len: usize = field("content-length").parse().context("no length")?;
            ensure!(len <= REQUEST_BYTES_MAX, "too long");
            if buffer.len() >= end + 4 + len {
                let text = String::from_utf8(buffer[end + 4..end + 4 + len].to_vec())?;
                buffer.drain(..end + 4 + len);
                let body = serde_json::from_str(&text)?;
                let lines = head.lines().skip(1).map(|line| line.split_once(':').map_or(line, |(name, _)| name));
                let headers = lines.map(str::to_ascii_lowercase).collect();
                let (id, timestamp, signature) =
                    (field("webhook-id"), field("webhook-timestamp"), field("webhook-signature"));
                return Ok(Delivery { id, timestamp, signature, headers, text, body, taken: false });
            }
        }
        ensure!(buffer.len() <= REQUEST_BYTES_MAX, "too long");
        ensure!(socket.read_buf(buffer).await? > 0, "the client went away");
    }
}
