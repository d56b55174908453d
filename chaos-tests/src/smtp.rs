//! Owns an SMTP server that e-mails are sent to: it can refuse, stall and reset as such servers do, and speak TLS from the first byte or from
//! STARTTLS on. Does not read what it gets. Invariant: an e-mail counts as taken only when its success was written out whole.
//! Source: RFC 5321, RFC 3207, RFC 8314.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

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
    /// By TLS.
    pub is_secret: bool,
}

/// When a server speaks TLS.
#[derive(Clone)]
pub enum Tls {
    Never,
    /// Once the client asks for it.
    StartTls(Arc<ServerConfig>),
    FromTheFirstByte(Arc<ServerConfig>),
}

type Decide = dyn Fn(&Came, usize) -> Verdict + Send + Sync;

/// What connections share.
#[derive(Clone)]
struct Shared {
    came: Arc<Mutex<Vec<Came>>>,
    /// Commands that everybody on the way can read.
    open: Arc<Mutex<Vec<String>>>,
    decide: Arc<Mutex<Arc<Decide>>>,
    tls: Tls,
}

/// The server. Ends with this.
pub struct SmtpServer {
    pub address: SocketAddr,
    shared: Shared,
    _tasks: JoinSet<()>,
}

impl SmtpServer {
    /// Listens on a free port of this machine and takes everything.
    /// # Errors
    /// It cannot listen.
    pub async fn start() -> anyhow::Result<SmtpServer> {
        SmtpServer::start_with(Tls::Never).await
    }

    /// The same with TLS.
    /// # Errors
    /// As `start`.
    pub async fn start_with(tls: Tls) -> anyhow::Result<SmtpServer> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let decide: Arc<Mutex<Arc<Decide>>> = Arc::new(Mutex::new(Arc::new(|_, _| Verdict::Take)));
        let shared = Shared { came: Arc::default(), open: Arc::default(), decide, tls };
        let mut tasks = JoinSet::new();
        let of_all = shared.clone();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let shared = of_all.clone();
                open.spawn(async move {
                    // A client that goes away is none of our business.
                    let _ = connection(socket, &shared).await;
                });
            }
        });
        Ok(SmtpServer { address, shared, _tasks: tasks })
    }

    pub fn url(&self) -> String {
        format!("smtp-plain://{}", self.address)
    }

    /// From now on: by the e-mail, and how many came before it.
    pub fn decide(&self, decide: impl Fn(&Came, usize) -> Verdict + Send + Sync + 'static) {
        *self.shared.decide.lock() = Arc::new(decide);
    }

    /// In the order in which they came.
    pub fn came(&self) -> Vec<Came> {
        self.shared.came.lock().clone()
    }

    pub fn taken(&self) -> Vec<Came> {
        self.came().into_iter().filter(|came| came.taken).collect()
    }

    /// What was said without TLS, a line each.
    pub fn said_openly(&self) -> Vec<String> {
        self.shared.open.lock().clone()
    }
}

async fn connection(socket: TcpStream, shared: &Shared) -> anyhow::Result<()> {
    match &shared.tls {
        Tls::FromTheFirstByte(config) => {
            let socket = TlsAcceptor::from(config.clone()).accept(socket).await?;
            let mut talk = Talk { socket: BufReader::new(socket), is_secret: true, shared };
            talk.greet().await?;
            talk.go_on().await?;
        }
        Tls::Never | Tls::StartTls(_) => {
            let mut talk = Talk { socket: BufReader::new(socket), is_secret: false, shared };
            talk.greet().await?;
            if let (true, Tls::StartTls(config)) = (talk.go_on().await?, &shared.tls) {
                // What was sent behind STARTTLS without waiting is not read: it was not under TLS.
                let socket = TlsAcceptor::from(config.clone()).accept(talk.socket.into_inner()).await?;
                Talk { socket: BufReader::new(socket), is_secret: true, shared }.go_on().await?;
            }
        }
    }
    Ok(())
}

/// One connection, with TLS or without.
struct Talk<'a, S> {
    socket: BufReader<S>,
    is_secret: bool,
    shared: &'a Shared,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<'_, S> {
    async fn greet(&mut self) -> anyhow::Result<()> {
        Ok(self.socket.write_all(b"220 sink.example ESMTP\r\n").await?)
    }

    /// Until it ends; true: TLS begins now.
    async fn go_on(&mut self) -> anyhow::Result<bool> {
        // `at`: of the last e-mail of this connection.
        let (mut from, mut to, mut at) = (String::new(), Vec::new(), 0);
        let offers_tls = !self.is_secret && matches!(self.shared.tls, Tls::StartTls(_));
        loop {
            let mut line = String::new();
            if self.socket.read_line(&mut line).await? == 0 {
                return Ok(false);
            }
            if !self.is_secret {
                self.shared.open.lock().push(line.trim_end().to_owned());
            }
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            let said = match verb.as_str() {
                "EHLO" if offers_tls => "250-sink.example\r\n250-8BITMIME\r\n250-STARTTLS\r\n250 SIZE 4194304",
                "EHLO" => "250-sink.example\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE 4194304",
                "STAR" if offers_tls => {
                    self.socket.write_all(b"220 go on\r\n").await?;
                    return Ok(true);
                }
                "AUTH" => "235 welcome",
                "MAIL" => {
                    (from, to) = (address(&line)?, Vec::new());
                    "250 ok"
                }
                "RCPT" => {
                    to.push(address(&line)?);
                    "250 ok"
                }
                "DATA" => {
                    self.socket.write_all(b"354 go on\r\n").await?;
                    let text = data(&mut self.socket).await?;
                    let is_secret = self.is_secret;
                    let came = Came { from: from.clone(), to: to.clone(), text, taken: false, is_secret };
                    let (number, said) = verdict(came, self.shared).await;
                    at = number;
                    match said {
                        Some(said) => said,
                        None => return Ok(false),
                    }
                }
                "RSET" | "NOOP" => "250 ok",
                "QUIT" => {
                    self.socket.write_all(b"221 bye\r\n").await?;
                    return Ok(false);
                }
                _ => "502 what?",
            };
            self.socket.write_all(format!("{said}\r\n").as_bytes()).await?;
            if said == TAKEN
                && let Some(last) = self.shared.came.lock().get_mut(at)
            {
                last.taken = true;
            }
        }
    }
}

const TAKEN: &str = "250 taken";

/// The e-mail's place among those that came, and what is said; `None`: nothing, and the connection ends.
async fn verdict(came: Came, shared: &Shared) -> (usize, Option<&'static str>) {
    let decide = shared.decide.lock().clone();
    let (at, verdict) = {
        let mut all = shared.came.lock();
        let (at, verdict) = (all.len(), decide(&came, all.len()));
        all.push(Came { taken: verdict == Verdict::TakeAndReset, ..came });
        (at, verdict)
    };
    let said = match verdict {
        Verdict::Take => Some(TAKEN),
        Verdict::Say(said) => Some(said),
        Verdict::Reset | Verdict::TakeAndReset => None,
        Verdict::Stall(time) => {
            tokio::time::sleep(time).await;
            None
        }
    };
    (at, said)
}

fn address(line: &str) -> anyhow::Result<String> {
    let (_, rest) = line.split_once('<').context("no address")?;
    Ok(rest.split_once('>').context("no address")?.0.to_owned())
}

/// What stands between DATA and the dot.
async fn data<S: AsyncRead + Unpin>(socket: &mut BufReader<S>) -> anyhow::Result<Vec<u8>> {
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
