//! Owns malformed input over the WebSocket: what leaves the socket open, and what a protocol breaker gets.

use std::time::Duration;

use anyhow::ensure;
use chaos_tests::cluster::Cluster;
use chaos_tests::socket::{Came, Socket};
use proto::client::limits::{FAULTS_IN_A_ROW_MAX, FRAME_BYTES_MAX, HEADS_MAX, TEXT_BYTES_MAX};
use proto::ids::SessionId;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::Message;

use super::{Report, SOON, check_growth, check_still_serves, line_of, peaks, say, welcome};

/// The frames of the protocol's own list, each with the exact error it gets.
const REFUSED: &str = include_str!("../../../../proto/golden/client/refused.json");
/// Of the right form, and nobody's.
const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const TOO_LARGE: &str = "- frame_too_large: the frame is larger than 65536 bytes; closed 1009";
const BROKEN: &str = "closed 1002";
/// A node closes a silent socket after 5 s.
const SILENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn malformed_frames_get_an_error_each_and_the_socket_goes_on() -> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let mut report = Report::of("WebSocket, stays open");
    let (mut socket, visitor) = welcome(&cluster).await?;
    let own = visitor.session.to_string();
    for (name, frame, wanted) in OPEN {
        let frame = frame.replace("OWN", &own).replace("OTHER", "00000000000000000000000000000abc");
        report.same(name, wanted, answer_and_pong(&mut socket, frame).await);
    }
    for (name, frame, wanted) in long_cases(&own) {
        report.same(name, wanted, answer_and_pong(&mut socket, frame).await);
    }
    let refused: Vec<Value> = serde_json::from_str(REFUSED)?;
    for case in &refused {
        let text = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
        let id = if case["id"].is_null() { "-".to_owned() } else { case["id"].to_string() };
        let wanted = format!("{id} {}: {}", text("code"), text("message"));
        let got = answer_and_pong(&mut socket, text("frame")).await;
        report.same(&text("name"), &wanted, got);
    }
    let answer = say(&mut socket, &visitor, 2).await?;
    ensure!(answer["ack"]["seq"] == 1, "the socket that was told {} errors gets {answer}", report.cases);
    check_still_serves(&cluster).await?;
    report.end(16 + refused.len())
}

/// Name, frame, error; said behind a welcome. `OWN` stands for the visitor's session, `OTHER` for a stranger's.
const OPEN: &[(&str, &str, &str)] = &[
    (
        "a send into a stranger's session",
        r#"{"id":2,"send":{"session":"OTHER","cid":"c","text":"x"}}"#,
        "2 forbidden: this session is not yours",
    ),
    (
        "the history of a stranger's session",
        r#"{"id":3,"history":{"session":"OTHER"}}"#,
        "3 forbidden: this session is not yours",
    ),
    (
        "a cursor in a stranger's session",
        r#"{"id":4,"cursor":{"session":"OTHER","read":1}}"#,
        "4 forbidden: this session is not yours",
    ),
    (
        "typing in a stranger's session",
        r#"{"id":5,"typing":{"session":"OTHER"}}"#,
        "5 forbidden: this session is not yours",
    ),
    (
        "the close of a stranger's session",
        r#"{"id":6,"close":{"session":"OTHER"}}"#,
        "6 forbidden: this session is not yours",
    ),
    ("a second hello", r#"{"id":7,"hello":{"token":"t","device":"d"}}"#, "7 already_hello: this socket has said hello"),
    (
        "a send that skips numbers",
        r#"{"id":8,"send":{"session":"OWN","cid":"c","text":"x","n":5}}"#,
        "8 cid_gap: send.n: expected 1",
    ),
    (
        "the largest id and an unknown verb",
        r#"{"id":18446744073709551615,"shout":{}}"#,
        r#"18446744073709551615 unknown_verb: unknown verb "shout""#,
    ),
    ("a verb of the node", r#"{"id":9,"welcome":{}}"#, r#"9 unknown_verb: unknown verb "welcome""#),
    (
        "history after what is no number",
        r#"{"id":10,"history":{"session":"OWN","after":"1"}}"#,
        "10 bad_request: history.after: expected a whole number",
    ),
    ("an id that is true", r#"{"id":true,"ping":{}}"#, "- bad_request: id: expected a whole number"),
];

/// The same for what is too long to be written down.
fn long_cases(own: &str) -> [(&'static str, String, &'static str); 5] {
    let send = |id: u64, text: &str| json!({"id": id, "send": {"session": own, "cid": "c", "text": text}}).to_string();
    let hello = |id: u64, token: &str, device: &str| json!({"id": id, "hello": {"token": token, "device": device}});
    let heads = vec![json!({"session": own, "seq": 1}); HEADS_MAX + 1];
    let too_large = "11 too_large: send.text: is larger than 16384 bytes";
    let bad_device = "14 bad_request: hello.device: must have 1 to 64 bytes and no control characters";
    [
        ("a text of 16 KiB and one byte", send(11, &"x".repeat(TEXT_BYTES_MAX + 1)), too_large),
        ("a text of few characters and many bytes", send(11, &"你".repeat(5_462)), too_large),
        (
            "a ping with 501 heads",
            json!({"id": 12, "ping": {"heads": heads}}).to_string(),
            "12 bad_request: ping.heads: has more than 500 entries",
        ),
        (
            "a token of 257 bytes",
            hello(13, &"t".repeat(257), "d").to_string(),
            "13 bad_request: hello.token: must have 1 to 256 bytes",
        ),
        ("a device of 65 bytes", hello(14, "t", &"d".repeat(65)).to_string(), bad_device),
    ]
}

/// What the frame gets; the same socket must then answer a ping.
async fn answer_and_pong(socket: &mut Socket, frame: String) -> anyhow::Result<String> {
    socket.send_text(frame).await?;
    let came = socket.next(SOON).await?;
    let pong = socket.ask(&json!({"id": 1_000_000, "ping": {}}), SOON, &mut Vec::new()).await?;
    ensure!(!pong["pong"].is_null(), "instead of a pong: {pong}");
    Ok(line_of(&came))
}

enum Input {
    Text(String),
    Binary(&'static [u8]),
    /// Below the WebSocket layer.
    Bytes(Vec<u8>),
    /// A head that announces so many bytes, and so many of them.
    Flood(u64, usize),
    /// The same frame so many times.
    Repeated(&'static str, u32),
}

#[tokio::test]
async fn protocol_breakers_are_told_why_and_disconnected() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let addr = cluster.node(1).client.clone();
    let mut report = Report::of("WebSocket, closed");
    // Opened first, so that its 5 s pass meanwhile.
    let mut silent = Socket::open(&addr).await?;
    let before = peaks(&mut cluster)?;
    for (name, input, wanted) in closed_cases() {
        report.same(name, wanted, until_closed(Socket::open(&addr).await?, input).await);
    }
    for (name, input, wanted) in closed_after_welcome() {
        report.same(name, &wanted, until_closed(welcome(&cluster).await?.0, input).await);
    }
    check_growth(&mut cluster, before)?;
    let name = "a first frame that is not JSON is an error, and hello may follow";
    report.same(name, "- malformed: the frame is not JSON", fault_then_hello(&cluster).await);
    let told = line_of(&silent.next(SILENCE).await?);
    let closed = line_of(&silent.next(SOON).await?);
    report.same("silence", "- hello_timeout: no hello within 5 s; closed 1008", Ok(format!("{told}; {closed}")));
    check_still_serves(&cluster).await?;
    report.end(16)
}

/// Name, input, all that comes back; on a socket that has said nothing yet.
fn closed_cases() -> Vec<(&'static str, Input, &'static str)> {
    let hello = |token: String| Input::Text(json!({"id": 1, "hello": {"token": token, "device": "d"}}).to_string());
    let not_hello = "1 hello_expected: the first frame must be hello; closed 1008";
    let unauthorized = "1 unauthorized: the token is not valid; closed 1008";
    let twice = [frame(0x01, b"{\"id\":1,"), frame(0x01, b"\"ping\":{}}")].concat();
    vec![
        ("a first frame that is not hello", Input::Text(r#"{"id":1,"ping":{}}"#.to_owned()), not_hello),
        ("a token that is none", hello("let me in".to_owned()), unauthorized),
        ("a token with another secret", hello(format!("v1.{}.{SECRET}", SessionId(7))), unauthorized),
        ("a token of an agent who is not there", hello(format!("a1.a99.{SECRET}")), unauthorized),
        ("a frame that announces 2^63 - 1 bytes", Input::Flood(u64::MAX >> 1, 0), TOO_LARGE),
        ("a frame of 1 GiB, of which 128 MiB are sent", Input::Flood(1 << 30, 128 << 20), TOO_LARGE),
        ("a frame without a mask", Input::Bytes(b"\x81\x02{}".to_vec()), BROKEN),
        ("an opcode that is reserved", Input::Bytes(head(0x83, 0)), BROKEN),
        ("a ping above 125 bytes", Input::Bytes(frame(0x89, &[b'x'; 126])), BROKEN),
        ("a continuation of nothing", Input::Bytes(frame(0x80, b"{}")), BROKEN),
        ("a new text inside a fragmented one", Input::Bytes(twice), BROKEN),
        ("HTTP behind the upgrade", Input::Bytes(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()), BROKEN),
    ]
}

/// The same on a socket that has been welcomed.
fn closed_after_welcome() -> Vec<(&'static str, Input, String)> {
    let pieces = [frame(0x01, &[b'x'; 40_000]), frame(0x80, &[b'x'; 40_000])].concat();
    let whole = frame(0x81, b"{\"id\":1,\"p\xffng\":{}}");
    let halves = [frame(0x01, b"{\"id\":1,"), frame(0x80, b"\"p\xffng\":{}}")].concat();
    let tenth = "- malformed: the frame is not JSON; ".repeat(FAULTS_IN_A_ROW_MAX as usize) + "closed 1008";
    let text = str::to_owned;
    vec![
        ("a frame of 64 KiB and one byte", Input::Text("x".repeat(FRAME_BYTES_MAX + 1)), text(TOO_LARGE)),
        ("two fragments that are too large together", Input::Bytes(pieces), text(TOO_LARGE)),
        ("a binary frame", Input::Binary(b"{\"id\":1,\"ping\":{}}"), text("closed 1003")),
        ("a text that is not UTF-8", Input::Bytes(whole), text("closed 1007")),
        ("a fragmented text that is not UTF-8", Input::Bytes(halves), text("closed 1007")),
        ("ten faulty frames in a row", Input::Repeated("?", FAULTS_IN_A_ROW_MAX), tenth),
    ]
}

/// The head of a masked frame; the mask is zero, so that payloads stay as they are.
fn head(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes
}

/// All that comes until the socket is closed.
async fn until_closed(mut socket: Socket, input: Input) -> anyhow::Result<String> {
    match input {
        Input::Text(text) => socket.send_text(text).await?,
        Input::Binary(bytes) => socket.send_message(Message::binary(bytes)).await?,
        Input::Bytes(bytes) => socket.send_bytes(&bytes).await?,
        Input::Flood(announced, sent) => {
            socket.send_bytes(&head(0x81, announced)).await?;
            // The node closes before it has all of them.
            let _ = socket.send_bytes(&vec![b' '; sent]).await;
        }
        Input::Repeated(text, times) => {
            for _ in 0..times {
                socket.send_text(text.to_owned()).await?;
            }
        }
    }
    let mut lines = Vec::new();
    loop {
        let came = socket.next(SOON).await?;
        lines.push(line_of(&came));
        if !matches!(came, Came::Frame(_)) {
            return Ok(lines.join("; "));
        }
    }
}

async fn fault_then_hello(cluster: &Cluster) -> anyhow::Result<String> {
    let visitor = node::client::http::create_visitor(&cluster.node(1).client, chaos_tests::cluster::SITE).await?;
    let mut socket = Socket::open(&cluster.node(1).client).await?;
    socket.send_text("hello there".to_owned()).await?;
    let told = line_of(&socket.next(SOON).await?);
    let hello = json!({"id": 1, "hello": {"token": visitor.token, "device": "d"}});
    let answer = socket.ask(&hello, SOON, &mut Vec::new()).await?;
    ensure!(!answer["welcome"].is_null(), "after {told}, instead of a welcome: {answer}");
    Ok(told)
}
