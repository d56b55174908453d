//! Owns one bare WebSocket to one node that never reconnects. Does not judge what comes.
//! Invariant: what the node wrote is handed out as it came, the close code included.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use proto::client::limits::SUBPROTOCOL;
use proto::ids::SessionId;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::Message;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// What came from the node.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    Frame(Value),
    /// Closed, with the code if there was one.
    Closed(Option<u16>),
    /// Nothing in the time given.
    Nothing,
}

/// One socket.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
}

impl Socket {
    /// Connects and upgrades.
    /// # Errors
    /// Nobody listens, or the upgrade is refused.
    pub async fn open(addr: &str) -> anyhow::Result<Socket> {
        Socket::open_for(addr, None).await
    }

    /// As `open`, by a proxy that says whom it asks for.
    /// # Errors
    /// As `open`.
    pub async fn open_for(addr: &str, client: Option<&str>) -> anyhow::Result<Socket> {
        let headers: Vec<_> = client.map(|client| ("x-forwarded-for", client)).into_iter().collect();
        Socket::open_with(addr, &headers).await
    }

    /// As `open`, with further headers.
    /// # Errors
    /// As `open`.
    pub async fn open_with(addr: &str, headers: &[(&'static str, &str)]) -> anyhow::Result<Socket> {
        let connecting = async {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            let mut request = format!("ws://{addr}/v1/ws").into_client_request()?;
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
            for (name, value) in headers {
                request.headers_mut().insert(*name, HeaderValue::from_str(value)?);
            }
            let (stream, _) = tokio_tungstenite::client_async(request, stream).await?;
            Ok(Socket { stream })
        };
        tokio::time::timeout(CONNECT_WITHIN, connecting).await.context("no upgrade in time")?
    }

    /// Connects and says hello with one session to resume.
    /// # Errors
    /// As `open`, or no welcome.
    pub async fn hello(addr: &str, token: &str, resume: Option<(SessionId, u64)>) -> anyhow::Result<Socket> {
        let mut socket = Socket::open(addr).await?;
        let resume = resume.map(|(session, seq)| json!({"session": session.to_string(), "seq": seq}));
        let resume: Vec<Value> = resume.into_iter().collect();
        let device = format!("bare-{}", std::process::id());
        socket.send(&json!({"id": 1, "hello": {"token": token, "device": device, "resume": resume}})).await?;
        match socket.next(CONNECT_WITHIN).await? {
            Came::Frame(frame) if !frame["welcome"].is_null() => Ok(socket),
            other => bail!("no welcome: {other:?}"),
        }
    }

    /// The port at this side.
    /// # Errors
    /// The socket is broken.
    pub fn port(&self) -> anyhow::Result<u16> {
        Ok(self.stream.get_ref().local_addr()?.port())
    }

    /// # Errors
    /// The socket is broken.
    pub async fn send(&mut self, frame: &Value) -> anyhow::Result<()> {
        self.send_text(frame.to_string()).await
    }

    /// # Errors
    /// The socket is broken.
    pub async fn send_text(&mut self, text: String) -> anyhow::Result<()> {
        self.send_message(Message::text(text)).await
    }

    /// # Errors
    /// The socket is broken.
    pub async fn send_message(&mut self, message: Message) -> anyhow::Result<()> {
        Ok(self.stream.send(message).await?)
    }

    /// Writes bytes below the WebSocket layer.
    /// # Errors
    /// The socket is broken.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        use tokio::io::AsyncWriteExt;
        self.stream.flush().await?;
        Ok(self.stream.get_mut().write_all(bytes).await?)
    }

    /// The next frame, close, or nothing.
    /// # Errors
    /// What came is not JSON.
    pub async fn next(&mut self, within: Duration) -> anyhow::Result<Came> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let Ok(message) = tokio::time::timeout_at(deadline, self.stream.next()).await else {
                return Ok(Came::Nothing);
            };
            match message {
                Some(Ok(Message::Text(text))) => return Ok(Came::Frame(serde_json::from_str(&text)?)),
                Some(Ok(Message::Close(close))) => return Ok(Came::Closed(close.map(|close| close.code.into()))),
                Some(Ok(_)) => {}
                None | Some(Err(_)) => return Ok(Came::Closed(None)),
            }
        }
    }

    /// Asks and waits for the answer with the same id; pushes that come before it go to `pushes`.
    /// # Errors
    /// No answer in time, or the socket is closed.
    pub async fn ask(&mut self, frame: &Value, within: Duration, pushes: &mut Vec<Value>) -> anyhow::Result<Value> {
        self.send(frame).await?;
        loop {
            match self.next(within).await? {
                Came::Frame(answer) if answer["id"] == frame["id"] => return Ok(answer),
                Came::Frame(push) => pushes.push(push),
                other => bail!("instead of an answer to {frame}: {other:?}"),
            }
        }
    }
}
