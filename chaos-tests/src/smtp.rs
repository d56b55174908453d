//! Owns an SMTP server that e-mails are sent to: it can refuse, stall and reset as such servers do. Does not read what it gets. Invariant:
//! an e-mail counts as taken only when its success was written out whole.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Longest e-mail, in bytes.
const EMAIL_BYTES_MAX: usize = 4 << 20;

/// What becomes of an e-mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Take,
    /// Said in place of 250 behind the text, e.g. `451 later`.
    Say(&'static str),
    /// The connection breaks when the text was read.
    Reset,
    /// It is taken, and the connection breaks before anybody hears of it.
    TakeAndReset,
    /// Nothing is answered for so long; then the connection closes.
    Stall(Duration),
}

/// An e-mail as it came.
#[derive(Debug, Clone)]
pub struct Came {
    pub from: String,
    pub to: Vec<String>,
    pub text: Vec<u8>,
    pub taken: bool,
}

type Decide = dyn Fn(&Came, usize) -> Verdict + Send + Sync;

/// The server. Ends with this.
pub struct SmtpServer {
    pub address: SocketAddr,
    came: Arc<Mutex<Vec<Came>>>,
    decide: Arc<Mutex<Arc<Decide>>>,
    _tasks: JoinSet<()>,
}

impl SmtpServer {
    /// Listens on a free port of this machine and takes everything.
    /// # Errors
    /// It cannot listen.
    pub async fn start() -> anyhow::Result<SmtpServer> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let came = Arc::new(Mutex::new(Vec::new()));
        let decide: Arc<Mutex<Arc<Decide>>> = Arc::new(Mutex::new(Arc::new(|_, _| Verdict::Take)));
        let mut tasks = JoinSet::new();
        let (all, judge) = (came.clone(), decide.clone());
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (all, judge) = (all.clone(), judge.clone());
                open.spawn(async move {
                    // A client that goes away is none of our business.
                    let _ = connection(socket, &all, &judge).await;
                });
            }
        });
        Ok(SmtpServer { address, came, decide, _tasks: tasks })
    }

    pub fn url(&self) -> String {
        format!("smtp-plain://{}", self.address)
    }

    /// From now on: by the e-mail, and how many came before it.
    pub fn decide(&self, decide: impl Fn(&Came, usize) -> Verdict + Send + Sync + 'static) {
        *self.decide.lock() = Arc::new(decide);
    }

    /// In the order in which they came.
    pub fn came(&self) -> Vec<Came> {
        self.came.lock().clone()
    }

    pub fn taken(&self) -> Vec<Came> {
        self.came().into_iter().filter(|came| came.taken).collect()
    }
}

async fn connection(socket: TcpStream, all: &Mutex<Vec<Came>>, judge: &Mutex<Arc<Decide>>) -> anyhow::Result<()> {
    let mut socket = BufReader::new(socket);
    socket.write_all(b"220 sink.example ESMTP\r\n").await?;
    let (mut from, mut to) = (String::new(), Vec::new());
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let said = match verb.as_str() {
            "EHLO" => "250-sink.example\r\n250-8BITMIME\r\n250 SIZE 4194304",
            "MAIL" => {
                (from, to) = (address(&line)?, Vec::new());
                "250 ok"
            }
            "RCPT" => {
                to.push(address(&line)?);
                "250 ok"
            }
            "DATA" => {
                socket.write_all(b"354 go on\r\n").await?;
                let text = data(&mut socket).await?;
                let came = Came { from: from.clone(), to: to.clone(), text, taken: false };
                match verdict(came, all, judge).await {
                    Some(said) => said,
                    None => return Ok(()),
                }
            }
            "RSET" | "NOOP" => "250 ok",
            "QUIT" => {
                socket.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "502 what?",
        };
        socket.write_all(format!("{said}\r\n").as_bytes()).await?;
        if said == TAKEN
            && let Some(last) = all.lock().iter_mut().rev().find(|came| came.from == from && came.to == to)
        {
            last.taken = true;
        }
    }
}

const TAKEN: &str = "250 taken";

/// What is said; `None`: nothing, and the connection ends.
async fn verdict(came: Came, all: &Mutex<Vec<Came>>, judge: &Mutex<Arc<Decide>>) -> Option<&'static str> {
    let decide = judge.lock().clone();
    let verdict = decide(&came, all.lock().len());
    let taken = verdict == Verdict::TakeAndReset;
    all.lock().push(Came { taken, ..came });
    match verdict {
        Verdict::Take => Some(TAKEN),
        Verdict::Say(said) => Some(said),
        Verdict::Reset | Verdict::TakeAndReset => None,
        Verdict::Stall(time) => {
            tokio::time::sleep(time).await;
            None
        }
    }
}

fn address(line: &str) -> anyhow::Result<String> {
    let (_, rest) = line.split_once('<').context("no address")?;
    Ok(rest.split_once('>').context("no address")?.0.to_owned())
}

/// What stands between DATA and the dot.
async fn data(socket: &mut BufReader<TcpStream>) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        let mut line = Vec::new();
        ensure!(socket.read_until(b'\n', &mut line).await? > 0, "it ended in the middle");
        if line == b".\r\n" {
            return Ok(text);
        }
        let line = line.strip_prefix(b".").unwrap_or(&line);
        text.extend_from_slice(line);
        ensure!(text.len() <= EMAIL_BYTES_MAX, "it is too long");
    }
}
