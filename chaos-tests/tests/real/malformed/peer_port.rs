//! Owns malformed input on the port for other nodes: before the handshake, in it, and on a link that a member has opened.
//! Does not speak raft. Invariant: what is announced and never sent is not allocated.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use chaos_tests::cluster::{Cluster, free_port};
use chaos_tests::wait;
use cluster::tls::{Credentials, Identities, Pin, joiner_config, new_key, request};
use proto::codec;
use proto::command::NodeAddress;
use proto::ids::{ClusterId, NodeId};
use proto::peer::{FRAME_BYTES_MAX, HELLO_BYTES_MAX, Hello, HelloReply, MAGIC};
use proto::version::{VERSION_MAX, VERSION_MIN};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Report, SOON, check_growth, check_still_serves, peaks};

/// A node closes a connection that says nothing after 5 s.
const SILENCE: Duration = Duration::from_secs(10);
/// Connections that announce too much at the same time.
const LIARS: usize = 32;

/// A connection, with TLS or without.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}
type Stream = Box<dyn Duplex>;

/// How to open one.
#[derive(Clone)]
enum Way {
    Plain,
    /// As a machine that wants to join, or as a member.
    Tls(TlsConnector, ServerName<'static>),
}

impl Way {
    async fn open_and_write(&self, addr: &str, bytes: &[u8]) -> anyhow::Result<Stream> {
        let stream = TcpStream::connect(addr).await?;
        let mut stream: Stream = match self {
            Way::Plain => Box::new(stream),
            Way::Tls(connector, name) => Box::new(connector.connect(name.clone(), stream).await?),
        };
        // The node may close before it has taken everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
        Ok(stream)
    }
}

/// The lines that a node logs about its peers.
struct Log<'a> {
    cluster: &'a Cluster,
}

impl Log<'_> {
    fn lines_with(&self, part: &str) -> usize {
        let text = std::fs::read(&self.cluster.node(1).log).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().filter(|line| line.contains(part)).count()
    }

    /// Waits for a line more than there were.
    async fn line_after(&self, before: usize, part: &str) -> anyhow::Result<()> {
        let what = format!("a log line with `{part}`");
        wait::until(&what, SOON, async || (self.lines_with(part) > before).then_some(())).await
    }
}

#[tokio::test]
async fn the_peer_port_closes_on_what_is_no_peer_and_allocates_nothing_for_it() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let mut report = Report::of("peer port");
    let addr = cluster.node(1).peer.clone();
    let mut silent = TcpStream::connect(&addr).await?;
    let before = peaks(&mut cluster)?;
    for (name, bytes, reason) in plain_cases() {
        report.same(name, reason, closes(&cluster, &Way::Plain, &bytes, reason).await);
    }
    let token = cluster.command(&["token", "create"], "").await?.trim().to_owned();
    let stranger = stranger(&token)?;
    for (name, bytes, reason) in stray_cases() {
        report.same(name, reason, closes(&cluster, &stranger, &bytes, reason).await);
    }
    let lie = stray_of(u32::MAX, b"");
    let liars = (0..LIARS).map(|_| stranger.open_and_write(&addr, &lie));
    let liars = futures_util::future::try_join_all(liars).await?;
    for mut liar in liars {
        until_closed(&mut liar, SOON).await?;
    }
    let member = Member::join(&cluster, token, stranger).await?;
    for (name, hello, wanted) in member.hellos() {
        report.holds(name, wanted, member.reason(&member.way, &hello).await);
    }
    let hello = link_hello(member.cluster, member.node, NodeId(1));
    let (name, wanted) = ("a member's link without its certificate", "the certificate is not that of this node");
    report.same(name, wanted, member.reason(&member.stranger, &hello).await);
    let told = "WrongVersion { version: 1 } WrongVersion { version: 1 }";
    report.same("builds that are too old or too new", told, member.of_an_old_build().await);
    for (name, bytes, reason) in link_cases() {
        report.same(name, reason, member.closes(&cluster, &bytes, reason).await);
    }
    let name = "the longest frame, announced and not sent";
    report.same(name, "closed by this side", member.announces(FRAME_BYTES_MAX as u32).await);
    let name = "a call of garbage, which is answered and leaves the link open";
    report.same(name, "call not understood", member.garbage_call(&cluster).await);
    check_growth(&mut cluster, before)?;
    let closed = until_closed(&mut silent, SILENCE).await;
    // The socket goes before the line is written.
    let log = Log { cluster: &cluster };
    log.line_after(0, "no handshake in time").await?;
    let logged = log.lines_with("no handshake in time");
    report.same("silence", "1 line", closed.map(|()| format!("{logged} line")));
    check_still_serves(&cluster).await?;
    report.end(8)
}

fn stray_of(length: u32, body: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &length.to_le_bytes(), body].concat()
}

fn message_of(body: &[u8]) -> Vec<u8> {
    stray_of(body.len() as u32, body)
}

/// Whoever knows the pins, which are in every join token, gets so far.
fn stranger(token: &str) -> anyhow::Result<Way> {
    let pins = token.split('.').skip(2).map(|pin| pin.parse::<Pin>().map_err(anyhow::Error::msg));
    let connector = joiner_config(pins.collect::<Result<_, _>>()?)?;
    Ok(Way::Tls(connector, ServerName::try_from("any.internal")?))
}

/// Without TLS: name, bytes, what the node logs when it closes.
fn plain_cases() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let hello = message_of(&codec::encode(&link_hello(1, NodeId(2), NodeId(1))));
    let garbage: Vec<u8> = (0..4_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    vec![
        ("garbage", garbage, "TLS: received corrupt message"),
        ("HTTP", b"GET /v1/ws HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "TLS: received corrupt message"),
        ("a handshake without TLS", hello, "TLS: received corrupt message"),
        ("half of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "connection lost: tls handshake eof"),
    ]
}

/// Behind TLS: name, bytes, what the node logs when it closes.
fn stray_cases() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let no_peer = "not an everdesk peer: wrong first bytes";
    let hello = codec::encode(&link_hello(1, NodeId(2), NodeId(1)));
    let (mut foreign_tag, mut flipped, mut longer) = (hello.clone(), hello.clone(), hello.clone());
    foreign_tag[0] += 1;
    flipped[1] = 9;
    longer.push(0);
    let lower: Vec<u8> = stray_of(4, b"xxxx").iter().map(u8::to_ascii_lowercase).collect();
    let garbage: Vec<u8> = (0..4_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    vec![
        ("garbage", garbage, no_peer),
        ("HTTP", b"GET /v1/ws HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), no_peer),
        ("the magic in lower case", lower, no_peer),
        (
            "a length of 4 GiB",
            stray_of(u32::MAX, b"x"),
            "handshake message of 4294967295 bytes is longer than the limit of 32768",
        ),
        (
            "a length just above the limit",
            stray_of(HELLO_BYTES_MAX as u32 + 1, &[0; HELLO_BYTES_MAX + 1]),
            "handshake message of 32769 bytes is longer than the limit of 32768",
        ),
        ("half a handshake", stray_of(hello.len() as u32, &hello[..hello.len() / 2]), "connection lost: early eof"),
        ("half the magic", MAGIC[..4].to_vec(), "connection lost: early eof"),
        ("an empty handshake", message_of(b""), "handshake message not understood: no bytes"),
        ("a message of another kind", message_of(&foreign_tag), "tag 41 where 40 was expected"),
        ("a handshake with a byte changed", message_of(&flipped), "handshake message not understood: not decodable"),
        ("a handshake with a byte too many", message_of(&longer), "1 bytes left over"),
    ]
}

/// Behind a good handshake: name, bytes, what the node logs when it closes.
fn link_cases() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let unknown_kind = message(99, b"");
    let mut too_long = message(7, b"abc");
    too_long[4] = 200;
    vec![
        (
            "a frame of 4 GiB",
            u32::MAX.to_le_bytes().to_vec(),
            "frame of 4294967295 bytes is longer than the limit of 25165824",
        ),
        ("a message kind that is not there", unknown_kind, "unknown message kind 99"),
        ("a message longer than its frame", too_long, "frame is cut short"),
        ("a frame that ends in a message's head", [&3u32.to_le_bytes()[..], b"abc"].concat(), "frame is cut short"),
    ]
}

/// One frame with one message of the meta group.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend_from_slice(&0u32.to_le_bytes());
    message.extend_from_slice(&77u64.to_le_bytes());
    message.extend_from_slice(body);
    let length = message.len() as u32;
    [&(length + 4).to_le_bytes()[..], &length.to_le_bytes(), &message].concat()
}

fn link_hello(cluster: u128, node: NodeId, to: NodeId) -> Hello {
    Hello::Link { cluster, node, to, incarnation: 1, protocol_min: VERSION_MIN, protocol_max: VERSION_MAX }
}

/// The reason, once the node has closed and logged it.
async fn closes(cluster: &Cluster, way: &Way, bytes: &[u8], reason: &str) -> anyhow::Result<String> {
    let log = Log { cluster };
    let before = log.lines_with(reason);
    let mut stream = way.open_and_write(&cluster.node(1).peer, bytes).await?;
    // For those that are cut short: nothing more comes.
    let _ = stream.shutdown().await;
    until_closed(&mut stream, SOON).await?;
    log.line_after(before, reason).await?;
    Ok(reason.to_owned())
}

/// Reads past what the node says, to the end.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin), within: Duration) -> anyhow::Result<()> {
    let mut bytes = [0; 4096];
    let closing = async {
        // An error is a close as well: a reset tells that bytes were left unread.
        while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    };
    tokio::time::timeout(within, closing).await.context("the connection stays open")
}

async fn read_reply(stream: &mut Stream) -> anyhow::Result<HelloReply> {
    let reading = async {
        let mut head = [0; MAGIC.len()];
        stream.read_exact(&mut head).await?;
        ensure!(head == MAGIC, "an answer that starts with {head:?}");
        let mut body = vec![0; stream.read_u32_le().await? as usize];
        stream.read_exact(&mut body).await?;
        Ok(codec::decode(&body)?)
    };
    tokio::time::timeout(SOON, reading).await.context("no answer to the handshake")?
}

/// A machine that was let in, and misbehaves.
struct Member {
    addr: String,
    cluster: u128,
    node: NodeId,
    token: String,
    address: NodeAddress,
    certificate_request: Vec<u8>,
    stranger: Way,
    /// With the member's certificate.
    way: Way,
}

impl Member {
    /// Joins as a node would, with a token; nobody listens at its addresses.
    async fn join(cluster: &Cluster, token: String, stranger: Way) -> anyhow::Result<Member> {
        let nowhere = || Ok::<_, anyhow::Error>(format!("127.0.0.1:{}", free_port()?));
        let address = NodeAddress { peer: nowhere()?, client: nowhere()?, admin: nowhere()? };
        let addr = cluster.node(1).peer.clone();
        let way = stranger.clone();
        let key = new_key()?;
        let certificate_request = request(&key)?;
        let (cluster, node) = (0, NodeId(0));
        let mut member = Member { addr, cluster, node, token, address, certificate_request, stranger, way };
        match member.ask(&member.join_hello(&member.token, 1, member.certificate_request.clone())).await? {
            HelloReply::Enrolled { cluster, node, certificate, issuer, trusted, .. } => {
                (member.cluster, member.node) = (cluster, node);
                let credentials = Credentials { key, certificate, issuer, trusted, authority: None };
                let (connector, name) = Identities::new(ClusterId(cluster), &credentials)?.connector(NodeId(1))?;
                member.way = Way::Tls(connector, name);
            }
            other => bail!("a good token gets {other:?}"),
        }
        Ok(member)
    }

    fn join_hello(&self, token: &str, request: u128, certificate_request: Vec<u8>) -> Hello {
        let (token, address) = (token.to_owned(), self.address.clone());
        let (protocol_min, protocol_max) = (VERSION_MIN, VERSION_MAX);
        Hello::Enroll { token, request, address, certificate_request, protocol_min, protocol_max }
    }

    /// Name, handshake, reason of the refusal.
    fn hellos(&self) -> Vec<(&'static str, Hello, &'static str)> {
        let (founder, stranger) = (NodeId(1), NodeId(77));
        let link = |cluster, node, to| link_hello(cluster, node, to);
        let (token, address) = (self.token.clone(), self.address.clone());
        let (protocol_min, protocol_max) = (VERSION_MIN, VERSION_MAX);
        let old_join = Hello::Join { token, request: 1, address, protocol_min, protocol_max };
        let no_request = "the certificate request is of no use";
        vec![
            (
                "a foreign cluster id",
                link(self.cluster ^ 1, self.node, founder),
                "this node belongs to another cluster",
            ),
            (
                "a link for another node",
                link(self.cluster, self.node, stranger),
                "this address belongs to another node",
            ),
            ("a link of a stranger", link(self.cluster, stranger, founder), "not a member of this cluster"),
            ("a link of the node itself", link(self.cluster, founder, founder), "not a member of this cluster"),
            (
                "a join token that was never made",
                self.join_hello("join.x", 2, self.certificate_request.clone()),
                "unknown join token",
            ),
            (
                "a join token that was spent",
                self.join_hello(&self.token, 2, self.certificate_request.clone()),
                "this join token was used already",
            ),
            ("a repeat without a certificate request", self.join_hello(&self.token, 1, Vec::new()), no_request),
            ("a join without a certificate request", old_join, "this cluster asks for a certificate request"),
        ]
    }

    /// A build that is older than the version in force.
    async fn of_an_old_build(&self) -> anyhow::Result<String> {
        let (cluster, node, to) = (self.cluster, self.node, NodeId(1));
        let link = Hello::Link { cluster, node, to, incarnation: 1, protocol_min: 0, protocol_max: 0 };
        let (token, address) = (String::from("join.x"), self.address.clone());
        let (certificate_request, protocol_min) = (self.certificate_request.clone(), VERSION_MAX + 1);
        let join =
            Hello::Enroll { token, request: 3, address, certificate_request, protocol_min, protocol_max: protocol_min };
        Ok(format!("{:?} {:?}", self.ask(&link).await?, self.ask(&join).await?))
    }

    async fn ask(&self, hello: &Hello) -> anyhow::Result<HelloReply> {
        read_reply(&mut self.way.open_and_write(&self.addr, &message_of(&codec::encode(hello))).await?).await
    }

    /// Why the node refuses this handshake; it must close behind its answer.
    async fn reason(&self, way: &Way, hello: &Hello) -> anyhow::Result<String> {
        let mut stream = way.open_and_write(&self.addr, &message_of(&codec::encode(hello))).await?;
        let HelloReply::Refused { reason } = read_reply(&mut stream).await? else { bail!("it was let in") };
        until_closed(&mut stream, SOON).await?;
        Ok(reason)
    }

    async fn link(&self) -> anyhow::Result<Stream> {
        let hello = link_hello(self.cluster, self.node, NodeId(1));
        let mut stream = self.way.open_and_write(&self.addr, &message_of(&codec::encode(&hello))).await?;
        match read_reply(&mut stream).await? {
            HelloReply::Linked { .. } => Ok(stream),
            other => bail!("a member's link gets {other:?}"),
        }
    }

    /// The reason, once the node has closed the link and logged it.
    async fn closes(&self, cluster: &Cluster, bytes: &[u8], reason: &str) -> anyhow::Result<String> {
        let log = Log { cluster };
        let before = log.lines_with(reason);
        let mut stream = self.link().await?;
        stream.write_all(bytes).await?;
        stream.flush().await?;
        until_closed(&mut stream, SOON).await?;
        log.line_after(before, reason).await?;
        Ok(reason.to_owned())
    }

    /// A length that is allowed: the node waits for the bytes.
    async fn announces(&self, length: u32) -> anyhow::Result<String> {
        let mut stream = self.link().await?;
        stream.write_all(&length.to_le_bytes()).await?;
        stream.flush().await?;
        let closed = until_closed(&mut stream, Duration::from_millis(300)).await;
        ensure!(closed.is_err(), "the node closed the link");
        Ok("closed by this side".to_owned())
    }

    /// Garbage where a call to a shard's leader belongs, then a sign that the link still carries messages.
    async fn garbage_call(&self, cluster: &Cluster) -> anyhow::Result<String> {
        let (log, part) = (Log { cluster }, "call not understood");
        let before = log.lines_with(part);
        let mut stream = self.link().await?;
        for _ in 0..2 {
            stream.write_all(&message(7, b"\xff\xff garbage")).await?;
        }
        stream.flush().await?;
        log.line_after(before + 1, part).await?;
        Ok(part.to_owned())
    }
}
