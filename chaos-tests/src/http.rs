//! Owns one plain HTTP/1.1 connection, kept alive. Does not know paths. Invariant: a whole answer or an error, never a part.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 32 << 20;
const WITHIN: Duration = Duration::from_secs(15);

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text, for messages and for JSON.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    addr: String,
}

impl Connection {
    /// # Errors
    /// Nobody listens.
    pub async fn open(addr: &str) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(addr).await.with_context(|| format!("connect {addr}"))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, addr: addr.to_owned() })
    }

    /// Sends one request and reads its answer.
    /// # Errors
    /// The connection broke, or nothing came within 15 s.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.addr);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.raw(&bytes).await
    }

    /// Sends these bytes as they are and reads one answer.
    /// # Errors
    /// As `request`.
    pub async fn raw(&mut self, bytes: &[u8]) -> anyhow::Result<Answer> {
        // A node may refuse and close before it has read everything: the answer counts, not the write.
        let _ = self.stream.write_all(bytes).await;
        tokio::time::timeout(WITHIN, self.read_answer()).await.context("no answer in time")?
    }

    async fn read_answer(&mut self) -> anyhow::Result<Answer> {
        let mut bytes = Vec::with_capacity(1024);
        let head_end = loop {
            if let Some(at) = find(&bytes, b"\r\n\r\n") {
                break at;
            }
            self.more(&mut bytes).await?;
        };
        let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
        let mut rest = bytes.split_off(head_end + 4);
        let body = match header(&head, "content-length") {
            Some(length) => {
                let length: usize = length.parse()?;
                while rest.len() < length {
                    self.more(&mut rest).await?;
                }
                rest.truncate(length);
                rest
            }
            None if header(&head, "transfer-encoding").is_some() => self.read_chunks(rest).await?,
            None => Vec::new(),
        };
        Ok(Answer { status, head, body })
    }

    async fn read_chunks(&mut self, mut rest: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                if let Some(at) = find(&rest, b"\r\n") {
                    break at;
                }
                self.more(&mut rest).await?;
            };
            let length = usize::from_str_radix(std::str::from_utf8(&rest[..line_end])?.trim(), 16)?;
            while rest.len() < line_end + 2 + length + 2 {
                self.more(&mut rest).await?;
            }
            body.extend_from_slice(&rest[line_end + 2..line_end + 2 + length]);
            rest.drain(..line_end + 2 + length + 2);
            if length == 0 {
                return Ok(body);
            }
        }
    }

    async fn more(&mut self, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
        if self.stream.read_buf(bytes).await? == 0 {
            bail!("the connection was closed after {} bytes", bytes.len());
        }
        anyhow::ensure!(bytes.len() <= ANSWER_BYTES_MAX, "an answer above {ANSWER_BYTES_MAX} bytes");
        Ok(())
    }
}

/// One GET on a connection of its own.
/// # Errors
/// Nobody listens, or the answer did not come.
pub async fn get(addr: &str, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
    Connection::open(addr).await?.request("GET", path, headers, b"").await
}

/// The value of a header, if it is there.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
