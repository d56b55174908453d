//! Owns the sockets: dials peers with a higher id, accepts those with a lower one, runs a reader and a writer per link.
//! Does not understand messages. Invariant: between two nodes at most one link is current, and its end is told at once.

use super::frame::{Message, MessageKind, messages, next_frame};
use super::hello::{HandshakeError, read_message, write_message};
use super::peer::{Caller, Peer};
use super::socket::{Listener, Socket};
use crate::tls::{Identities, Pin, joiner_config};
use bytes::BytesMut;
use parking_lot::Mutex;
use proto::ids::{ClusterId, NodeId, ShardId};
use proto::peer::{Hello, HelloReply};
use proto::version::{VERSION_MAX, version_text};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A connection that has not introduced itself by then is closed.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// Pause between attempts to dial a peer that is down.
const REDIAL_EVERY: Duration = Duration::from_millis(100);
/// The same after a peer has refused the link.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// A link on which nothing came for so long is dead: a machine without power does not close its sockets.
const SILENT_MAX: Duration = Duration::from_secs(5);
/// Connections that may be in their handshake at once.
const HANDSHAKES_MAX: usize = 64;
/// What a link reads of its socket at once. By itself rustls asks for 4 KiB at a time: an append of a megabyte would be 250 reads.
const READ_BYTES: usize = 64 << 10;

type Stream = TlsStream<BufReader<Socket>>;

/// Who this node is to its peers.
#[derive(Clone)]
pub struct TransportConfig {
    pub cluster: ClusterId,
    pub node: NodeId,
    /// Drawn at every start: a peer's restart is seen even when its old link lingers.
    pub incarnation: u64,
    /// A link on which nothing else is sent says so this often.
    pub keepalive: Duration,
    pub tls: Arc<Identities>,
}

/// What the transport hands up. Called on the link's reader task: must not block.
pub trait Inbound: Send + Sync + 'static {
    /// One frame's messages, in order. Answers have been taken out.
    fn messages(&self, caller: &Caller, messages: Vec<Message>);
    /// A link came up (`true`) or broke.
    fn link(&self, peer: &Arc<Peer>, link: u64, up: bool);
    /// A machine asks to join.
    fn join(&self, hello: Hello) -> futures_util::future::BoxFuture<'static, HelloReply>;
    /// Why a node may not link; `None` for those of the cluster.
    fn refusal(&self, node: NodeId) -> Option<&'static str>;
    /// The version in force, as far as this node knows.
    fn version(&self) -> u16;
    /// A peer is at a version that this build does not speak: this node has been left behind.
    fn outdated(&self, version: u16);
}

/// The links of this node.
pub struct Transport {
    config: TransportConfig,
    inbound: Arc<dyn Inbound>,
    peers: Mutex<BTreeMap<NodeId, Known>>,
    next_link: AtomicU64,
    /// A drill: groups for which this node sends nothing until then.
    muted: Mutex<BTreeMap<ShardId, Instant>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct Known {
    peer: Arc<Peer>,
    address: Arc<Mutex<String>>,
}

impl Transport {
    pub fn new(config: TransportConfig, inbound: Arc<dyn Inbound>, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Transport {
            config,
            inbound,
            peers: Mutex::default(),
            next_link: AtomicU64::new(1),
            muted: Mutex::default(),
            tasks: TaskTracker::new(),
            stop,
        })
    }

    /// A drill: for so long this node's replica of the group sends nothing.
    pub fn mute(&self, shard: ShardId, for_how_long: Duration) {
        self.muted.lock().insert(shard, Instant::now() + for_how_long);
    }

    pub fn is_muted(&self, shard: ShardId) -> bool {
        let mut muted = self.muted.lock();
        match muted.get(&shard) {
            None => false,
            Some(until) if Instant::now() < *until => true,
            Some(_) => {
                muted.remove(&shard);
                false
            }
        }
    }

    /// The peer, if it is known.
    pub fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.peers.lock().get(&node).map(|known| known.peer.clone())
    }

    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.lock().values().map(|known| known.peer.clone()).collect()
    }

    /// Makes a node known; dials it for ever if its id is above ours. Idempotent; a new address is used from the next dial on.
    pub fn add_peer(self: &Arc<Self>, node: NodeId, address: &str) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        if let Some(known) = peers.get(&node) {
            *known.address.lock() = address.to_string();
            return known.peer.clone();
        }
        let peer = Arc::new(Peer::new(node));
        let address = Arc::new(Mutex::new(address.to_string()));
        peers.insert(node, Known { peer: peer.clone(), address: address.clone() });
        if node > self.config.node {
            let transport = self.clone();
            let dialled = peer.clone();
            self.tasks.spawn(async move { transport.dial_loop(dialled, address).await });
        }
        peer
    }

    /// No longer dials a node, nor sends to it, and ends its link.
    pub fn forget_peer(&self, node: NodeId) {
        let known = self.peers.lock().remove(&node);
        if let Some(known) = known {
            known.peer.gone.cancel();
        }
    }

    /// Accepts links until the stop token fires.
    pub fn serve(self: &Arc<Self>, listener: Listener) {
        let transport = self.clone();
        let places = Arc::new(tokio::sync::Semaphore::new(HANDSHAKES_MAX));
        self.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = transport.stop.cancelled() => return,
                };
                match accepted {
                    Ok(socket) => {
                        // Over the limit the connection is dropped: an honest peer dials again.
                        let Ok(place) = places.clone().try_acquire_owned() else { continue };
                        let handler = transport.clone();
                        transport.tasks.spawn(async move { handler.accept(socket, place).await });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "peer accept failed");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        });
    }

    async fn dial_loop(self: Arc<Self>, peer: Arc<Peer>, address: Arc<Mutex<String>>) {
        while !self.stop.is_cancelled() && self.peers.lock().contains_key(&peer.node) {
            let target = address.lock().clone();
            let mut pause = REDIAL_EVERY;
            match tokio::time::timeout(HELLO_WITHIN, self.dial(&peer, &target)).await {
                Ok(Ok(socket)) => self.run_link(&peer, socket).await,
                Ok(Err(HandshakeError::Io(_))) | Err(_) => {}
                Ok(Err(HandshakeError::Tls(error))) => {
                    let text =
                        "another cluster answers where this peer was: perhaps this one, started over without this node";
                    tracing::warn!(peer = %peer.node, %error, "{text}");
                    pause = REFUSED_PAUSE;
                }
                Ok(Err(error)) => {
                    tracing::warn!(peer = %peer.node, %error, "peer refused the link");
                    pause = REFUSED_PAUSE;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn dial(&self, peer: &Peer, address: &str) -> Result<Stream, HandshakeError> {
        let (tls, name) =
            self.config.tls.connector(peer.node).map_err(|error| HandshakeError::Refused(error.to_string()))?;
        let socket = BufReader::with_capacity(READ_BYTES, Socket::connect(address).await?);
        let mut socket = TlsStream::from(tls.connect(name, socket).await?);
        let hello = Hello::Link {
            cluster: self.config.cluster.0,
            node: self.config.node,
            to: peer.node,
            incarnation: self.config.incarnation,
            protocol_min: self.inbound.version(),
            protocol_max: VERSION_MAX,
        };
        write_message(&mut socket, &hello).await?;
        match read_message(&mut socket).await? {
            HelloReply::Linked { .. } => Ok(socket),
            HelloReply::Refused { reason } => Err(HandshakeError::Refused(reason)),
            HelloReply::WrongVersion { version } => {
                if version > VERSION_MAX {
                    self.inbound.outdated(version);
                }
                Err(HandshakeError::Refused(version_text(version)))
            }
            _ => Err(HandshakeError::Refused("unexpected answer".into())),
        }
    }

    async fn accept(self: Arc<Self>, socket: Socket, place: tokio::sync::OwnedSemaphorePermit) {
        let heard = tokio::time::timeout(HELLO_WITHIN, self.hear_hello(socket)).await;
        let (mut socket, hello) = match heard {
            Ok(Ok(heard)) => heard,
            Ok(Err(error)) => {
                tracing::info!(%error, "peer connection closed");
                return;
            }
            Err(_) => {
                tracing::info!(error = %HandshakeError::Timeout, "peer connection closed");
                return;
            }
        };
        let reply = self.welcome(hello.clone(), &socket).await;
        let linked = matches!(reply, HelloReply::Linked { .. });
        if write_message(&mut socket, &reply).await.is_err() {
            return;
        }
        drop(place);
        let Hello::Link { node, .. } = hello else { return };
        if linked {
            let peer = self.peer(node).unwrap_or_else(|| self.add_peer(node, ""));
            self.run_link(&peer, socket).await;
        }
    }

    async fn hear_hello(&self, socket: Socket) -> Result<(Stream, Hello), HandshakeError> {
        socket.send_in_turn()?;
        let socket = BufReader::with_capacity(READ_BYTES, socket);
        let mut socket = TlsStream::from(self.config.tls.acceptor().accept(socket).await?);
        let hello = read_message(&mut socket).await?;
        Ok((socket, hello))
    }

    async fn welcome(&self, hello: Hello, socket: &Stream) -> HelloReply {
        let refuse = |reason: &str| HelloReply::Refused { reason: reason.to_string() };
        match &hello {
            Hello::Link { cluster, node, to, protocol_min, protocol_max, .. } => {
                if *cluster != self.config.cluster.0 {
                    return refuse("this node belongs to another cluster");
                }
                if *to != self.config.node {
                    return refuse("this address belongs to another node");
                }
                if *node == self.config.node {
                    return refuse("not a member of this cluster");
                }
                if let Some(reason) = self.inbound.refusal(*node) {
                    return refuse(reason);
                }
                if !self.config.tls.is_of(socket.get_ref().1.peer_certificates(), *node) {
                    return refuse("the certificate is not that of this node");
                }
                // Only now: what a stranger says of versions must not end a node.
                if *protocol_min > VERSION_MAX {
                    self.inbound.outdated(*protocol_min);
                    return refuse("this node speaks only older versions, and ends");
                }
                let version = self.inbound.version();
                if *protocol_max < version {
                    return HelloReply::WrongVersion { version };
                }
                HelloReply::Linked { incarnation: self.config.incarnation, protocol: VERSION_MAX.min(*protocol_max) }
            }
            Hello::Join { .. } => refuse("this cluster asks for a certificate request: join with a newer version"),
            Hello::Enroll { .. } => self.inbound.join(hello).await,
        }
    }

    async fn run_link(self: &Arc<Self>, peer: &Arc<Peer>, socket: Stream) {
        let link = self.next_link.fetch_add(1, Ordering::Relaxed);
        let (reader, writer) = tokio::io::split(socket);
        {
            let _turn = peer.turn.lock();
            if let Some(old) = peer.current_link()
                && peer.link_down(old)
            {
                // The peer dialled again: it knows that the old link is dead before we do.
                self.inbound.link(peer, old, false);
            }
            peer.link_up(link);
            tracing::info!(peer = %peer.node, "link up");
            self.inbound.link(peer, link, true);
        }
        let end = tokio::select! {
            end = read_loop(&self.inbound, Caller { peer: peer.clone(), link }, reader) => end,
            end = write_loop(peer, link, writer, self.config.keepalive) => end,
            () = peer.gone.cancelled() => Ok(()),
            () = self.stop.cancelled() => Ok(()),
        };
        let _turn = peer.turn.lock();
        if peer.link_down(link) {
            let error = end.err().map_or_else(|| "closed".to_string(), |error| error.to_string());
            tracing::info!(peer = %peer.node, error, "link down");
            self.inbound.link(peer, link, false);
        }
    }

    /// Ends every link and waits for the tasks.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn read_loop(inbound: &Arc<dyn Inbound>, caller: Caller, mut reader: ReadHalf<Stream>) -> std::io::Result<()> {
    let peer = &caller.peer;
    let mut buffer = BytesMut::with_capacity(64 << 10);
    loop {
        while let Some(frame) = next_frame(&mut buffer).map_err(std::io::Error::other)? {
            peer.unpaused().await;
            let mut found = messages(frame).map_err(std::io::Error::other)?;
            found.retain(|message| {
                let is_answer = message.kind == MessageKind::Answer;
                if is_answer {
                    peer.answered(message.clone());
                }
                !is_answer
            });
            if !found.is_empty() {
                inbound.messages(&caller, found);
            }
        }
        if buffer.capacity() - buffer.len() < 4 << 10 {
            buffer.reserve(64 << 10);
        }
        match tokio::time::timeout(SILENT_MAX, reader.read_buf(&mut buffer)).await {
            Ok(read) => {
                if read? == 0 {
                    return Ok(());
                }
                peer.hear();
            }
            Err(_) => return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "silent")),
        }
    }
}

async fn write_loop(peer: &Peer, link: u64, mut writer: WriteHalf<Stream>, keepalive: Duration) -> std::io::Result<()> {
    let mut frame = Vec::with_capacity(64 << 10);
    loop {
        if !peer.take(link, &mut frame) {
            return Ok(());
        }
        let is_empty = frame.len() == 4;
        // Nothing to say for a while: the empty frame itself says that this side lives.
        if is_empty && tokio::time::timeout(keepalive, peer.wake.notified()).await.is_ok() {
            // Whoever runs next may have something for the same frame: the other groups' heartbeats, for one.
            tokio::task::yield_now().await;
            continue;
        }
        writer.write_all(&frame).await?;
        // TLS keeps what the socket did not take at once.
        writer.flush().await?;
        if frame.capacity() > (2 << 20) {
            frame.shrink_to(64 << 10);
        }
        peer.unpaused().await;
    }
}

/// Asks the node at `address`, of the cluster with one of these pins, to let this machine join.
/// # Errors
/// The connection or the other side's refusal; `Tls`: another cluster answers there, and it was told nothing.
pub async fn dial_join(address: &str, pins: &[Pin], hello: &Hello) -> Result<HelloReply, HandshakeError> {
    let tls = joiner_config(pins.to_vec()).map_err(|error| HandshakeError::Refused(error.to_string()))?;
    let any = rustls::pki_types::ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    let ask = async {
        let mut socket = tls.connect(any, Socket::connect(address).await?).await?;
        write_message(&mut socket, hello).await?;
        read_message(&mut socket).await
    };
    tokio::time::timeout(HELLO_WITHIN * 2, ask).await.unwrap_or(Err(HandshakeError::Timeout))
}
