//! Owns the lean visitor: upgrade, hello and hand-built frames. Does not time anything.
//! Invariant: acks of a session come with seqs that have no gap; anything else ends the run.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use chaos_tests::cluster::SITE;
use chaos_tests::http::Connection;
use proto::client::http::VisitorCreated;
use proto::client::limits::SUBPROTOCOL;
use proto::client::{ErrorCode, Reply, ServerFrame};
use proto::ids::SessionId;

use crate::Load;
use crate::closed_loop::{self, Lane};
use crate::figures::Level;
use crate::target::{Target, TargetArgs};
use crate::wire::{Answer, Line, Wire, find, put_number, take_number};

const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Runs every level on a fresh cluster.
/// # Errors
/// The cluster does not start, or a node broke a promise.
pub async fn measure(load: &Load, args: &TargetArgs) -> anyhow::Result<Vec<Level>> {
    let target = Target::open(args).await?;
    let mut levels = Vec::new();
    for in_flight in load.levels() {
        let level = measure_level(&target, load, in_flight).await?;
        eprintln!("everdesk {level}");
        levels.push(level);
    }
    Ok(levels)
}

/// Runs one level with fresh sessions.
/// # Errors
/// A node broke a promise.
pub async fn measure_level(target: &Target, load: &Load, in_flight: usize) -> anyhow::Result<Level> {
    let clients = target.clients();
    let sockets = load.sockets(in_flight);
    let mut lanes = Vec::with_capacity(sockets);
    for number in 0..sockets {
        let addr = &clients[number % clients.len()];
        let visitor = create_visitors(addr, 1).await?.pop().context("no visitor")?;
        let (line, wire) = connect(addr, &visitor, load.size).await?;
        lanes.push(Lane::new(line, wire));
    }
    closed_loop::run(in_flight, lanes, load, async || target.counters().await).await
}

/// Makes visitors over one connection.
/// # Errors
/// The node refuses.
pub async fn create_visitors(addr: &str, count: usize) -> anyhow::Result<Vec<VisitorCreated>> {
    let mut connection = Connection::open(addr).await?;
    let mut visitors = Vec::with_capacity(count);
    let path = format!("/v1/sites/{SITE}/visitors");
    while visitors.len() < count {
        let answer = connection.request("POST", &path, &[("Content-Type", "application/json")], b"{}").await?;
        match answer.status {
            200 => visitors.push(serde_json::from_slice(&answer.body)?),
            429 | 503 => tokio::time::sleep(RETRY_AFTER).await,
            status => bail!("no visitor: status {status}: {}", answer.text()),
        }
    }
    Ok(visitors)
}

/// Connects, upgrades and says hello.
/// # Errors
/// The node refuses.
pub async fn connect(addr: &str, visitor: &VisitorCreated, size: usize) -> anyhow::Result<(Line, EverdeskWire)> {
    let mut line = Line::connect(addr).await?;
    let upgrade = format!(
        "GET /v1/ws HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    );
    line.out.extend_from_slice(upgrade.as_bytes());
    line.flush().await?;
    let head = loop {
        line.read().await?;
        if let Some(end) = find(line.unread(), b"\r\n\r\n") {
            break end + 4;
        }
    };
    let status = String::from_utf8_lossy(&line.unread()[..head]).lines().next().unwrap_or_default().to_owned();
    ensure!(status.contains(" 101 "), "no upgrade: {status}");
    line.advance(head);
    let hello = format!(
        r#"{{"id":0,"hello":{{"token":"{}","device":"bench","resume":[{{"session":"{}","seq":0}}]}}}}"#,
        visitor.token, visitor.session
    );
    put_frame(hello.as_bytes(), &mut line.out);
    line.flush().await?;
    let wire = EverdeskWire::new(visitor.session, size);
    loop {
        if let Some(frame) = frame(line.unread())? {
            let text = String::from_utf8_lossy(&line.unread()[frame.head..frame.end]).into_owned();
            line.advance(frame.end);
            ensure!(text.contains("\"welcome\""), "no welcome: {text}");
            return Ok((line, wire));
        }
        line.read().await?;
    }
}

/// One visitor's session on one socket.
pub struct EverdeskWire {
    /// `,"send":{"session":"...","text":"...","cid":"c`, the same for every message.
    middle: Vec<u8>,
    seq_last: u64,
}

impl EverdeskWire {
    fn new(session: SessionId, size: usize) -> Self {
        let text = "m".repeat(size);
        EverdeskWire {
            middle: format!(r#","send":{{"session":"{session}","text":"{text}","cid":"c"#).into_bytes(),
            seq_last: 0,
        }
    }

    /// The general way, for all that is not a plain ack.
    fn read_slowly(&mut self, text: &[u8]) -> anyhow::Result<Option<Answer>> {
        let shown = || String::from_utf8_lossy(text).into_owned();
        let frame: ServerFrame<'_> = serde_json::from_slice(text).with_context(shown)?;
        match (frame.body, frame.id) {
            (Reply::Ack(ack), Some(n)) => self.acked(n, ack.seq).map(Some),
            (Reply::Event(event), _) => {
                ensure!(event.seq == self.seq_last + 1, "seq {} after {}", event.seq, self.seq_last);
                self.seq_last = event.seq;
                Ok(None)
            }
            (Reply::Error(error), Some(n)) if error.code.retryable() => {
                let gap = error.code == ErrorCode::CidGap;
                let after = error.retry_after_ms.map_or(RETRY_AFTER, Duration::from_millis);
                Ok(Some(Answer::Refused { n, after: if gap { Duration::ZERO } else { after } }))
            }
            (Reply::Error(_), _) => bail!("refused for good: {}", shown()),
            _ => Ok(None),
        }
    }

    fn acked(&mut self, n: u64, seq: u64) -> anyhow::Result<Answer> {
        ensure!(seq == self.seq_last + 1, "send {n} was acked at seq {seq} after {}", self.seq_last);
        self.seq_last = seq;
        Ok(Answer::Acked { n })
    }
}

impl Wire for EverdeskWire {
    fn put(&mut self, n: u64, out: &mut Vec<u8>) {
        // Head with room for a 16-bit length, then a zero mask: masking with it changes nothing.
        let start = out.len();
        out.extend_from_slice(&[0x81, 0x80 | 126, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(b"{\"id\":");
        put_number(n, out);
        out.extend_from_slice(&self.middle);
        put_number(n, out);
        out.extend_from_slice(b"\",\"n\":");
        put_number(n, out);
        out.extend_from_slice(b"}}");
        let length = out.len() - start - 8;
        out[start + 2..start + 4].copy_from_slice(&(length as u16).to_be_bytes());
    }

    fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> anyhow::Result<Option<(usize, Option<Answer>)>> {
        let Some(frame) = frame(input)? else { return Ok(None) };
        let body = &input[frame.head..frame.end];
        let answer = match frame.opcode {
            1 => match quick_ack(body) {
                Some((n, seq)) => Some(self.acked(n, seq)?),
                None => self.read_slowly(body)?,
            },
            9 => {
                out.extend_from_slice(&[0x8a, 0x80, 0, 0, 0, 0]);
                None
            }
            8 => bail!("the node closed: {}", String::from_utf8_lossy(body.get(2..).unwrap_or_default())),
            _ => None,
        };
        Ok(Some((frame.end, answer)))
    }
}

/// `{"id":7,"ack":{"session":"<32>","cid":"c7","seq":7,"ts":..}}` as a node writes it: the id and the seq.
fn quick_ack(body: &[u8]) -> Option<(u64, u64)> {
    const MIDDLE: &[u8] = b",\"ack\":{\"session\":\"";
    const SEQ: &[u8] = b"\",\"seq\":";
    let rest = body.strip_prefix(b"{\"id\":")?;
    let (n, len) = take_number(rest)?;
    let rest = rest[len..].strip_prefix(MIDDLE)?.get(32..)?;
    let at = find(rest, SEQ)? + SEQ.len();
    let (seq, len) = take_number(&rest[at..])?;
    // A dup is rare, and another thing: the general way looks at it.
    (rest.get(at + len) == Some(&b',') && !body.ends_with(b"true}}")).then_some((n, seq))
}

struct Frame {
    opcode: u8,
    head: usize,
    end: usize,
}

/// The first frame of a node's bytes, if it is whole.
fn frame(input: &[u8]) -> anyhow::Result<Option<Frame>> {
    let [first, second, ..] = *input else { return Ok(None) };
    ensure!(first & 0x80 != 0 && second & 0x80 == 0, "a fragmented or masked frame");
    let (head, length) = match second {
        126 if input.len() >= 4 => (4, usize::from(u16::from_be_bytes([input[2], input[3]]))),
        127 => bail!("a frame above 64 KiB"),
        126 => return Ok(None),
        short => (2, usize::from(short)),
    };
    let end = head + length;
    Ok((input.len() >= end).then_some(Frame { opcode: first & 0x0f, head, end }))
}

/// Appends one client text frame, masked with zero.
pub fn put_frame(body: &[u8], out: &mut Vec<u8>) {
    out.push(0x81);
    match u8::try_from(body.len()) {
        Ok(short) if short < 126 => out.push(0x80 | short),
        _ => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(body.len() as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::client::Ack;

    #[test]
    fn acks_are_read_as_the_node_writes_them() {
        let session = SessionId(7);
        let mut out = Vec::new();
        let ack = Ack { session, cid: "c41".into(), seq: 42, ts: 1_763_700_000_000, dup: false };
        proto::client::encode::encode_ack(41, &ack, &mut out);
        assert_eq!(quick_ack(&out), Some((41, 42)));
        out.clear();
        proto::client::encode::encode_ack(41, &Ack { dup: true, ..ack }, &mut out);
        assert_eq!(quick_ack(&out), None);
    }

    #[test]
    fn sends_are_frames_of_v1() {
        let mut wire = EverdeskWire::new(SessionId(7), 200);
        let mut out = Vec::new();
        wire.put(12, &mut out);
        let length = usize::from(u16::from_be_bytes([out[2], out[3]]));
        assert_eq!(length, out.len() - 8);
        let text = std::str::from_utf8(&out[8..]).unwrap();
        let frame = proto::client::parse(text.as_bytes()).unwrap();
        assert_eq!(frame.id, 12);
    }
}
