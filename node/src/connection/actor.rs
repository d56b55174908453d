//! Owns the one WebSocket actor: the only place that knows actix-web-actors, which is deprecated upstream (ADR 0001).
//! Does not know verbs. Invariant: bytes handed to the HTTP layer and not yet taken by it stay within the credit window.

use super::heads::Checked;
use super::socket::Socket;
use super::verbs;
use crate::run::App;
use actix::{Actor, ActorContext, ActorFuture, AsyncContext, StreamHandler};
use actix_http::ws::Codec;
use actix_web::web::{Bytes, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use actix_web_actors::ws::{self, CloseReason, Message, ProtocolError, WebsocketContext};
use futures_util::Stream;
use proto::client::limits::{FRAME_BYTES_MAX, HELLO_WITHIN, PING_EVERY, SILENT_PINGS_MAX, SUBPROTOCOL};
use proto::client::{CloseCode, ErrorCode, ErrorInfo};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

/// Bytes that may be with the HTTP layer at once per socket; more waits in the socket's own bounded queue.
const CREDIT_BYTES: usize = 128 << 10;

/// What is kept of the text by which a client names itself, in characters of ASCII.
const USER_AGENT_CHARS_MAX: usize = 256;

/// Upgrades a request to a socket of protocol v1.
/// # Errors
/// 400 without the subprotocol or a proper handshake, 503 when the node is full or going away.
pub async fn upgrade(request: HttpRequest, payload: Payload, app: Data<App>) -> Result<HttpResponse, actix_web::Error> {
    let offered = request.headers().get_all("sec-websocket-protocol").filter_map(|value| value.to_str().ok());
    if !offered.flat_map(|list| list.split(',')).any(|name| name.trim() == SUBPROTOCOL) {
        return Ok(crate::gateway::refuse(ErrorCode::BadRequest, "offer the subprotocol everdesk.v1.json"));
    }
    if app.draining.load(Ordering::Acquire) {
        return Ok(crate::gateway::refuse(ErrorCode::Unavailable, "this node is going away"));
    }
    let mut response = match ws::handshake_with_protocols(&request, &[SUBPROTOCOL]) {
        Ok(response) => response,
        Err(error) => {
            let message = format!("this is no WebSocket handshake: {error}");
            return Ok(crate::gateway::refuse_with(ErrorInfo::new(ErrorCode::BadRequest, message)));
        }
    };
    let header = request.headers().get(actix_web::http::header::USER_AGENT).and_then(|value| value.to_str().ok());
    let user_agent = header.map(|text| text.chars().take(USER_AGENT_CHARS_MAX).collect());
    let address = crate::client_address::of(&request, &app.trusted_proxies);
    let socket = Socket::new(app.hub.clone(), address, user_agent, app.geo.place(address));
    if !app.hub.opened(&socket) {
        return Ok(crate::gateway::refuse(ErrorCode::Overloaded, "this node has as many sockets as it can have"));
    }
    let credit = Arc::new(AtomicUsize::new(0));
    let actor = Connection { socket: socket.clone(), credit: credit.clone(), fragments: None, heard: Instant::now() };
    let codec = Codec::new().max_size(FRAME_BYTES_MAX);
    let inner = WebsocketContext::with_codec(actor, Checked::new(payload, socket.clone()), codec);
    Ok(response.streaming(Counted { inner: Box::pin(inner), socket, credit }))
}

struct Connection {
    socket: Arc<Socket>,
    /// Bytes that the HTTP layer has not taken yet.
    credit: Arc<AtomicUsize>,
    /// A fragmented text message so far.
    fragments: Option<Vec<u8>>,
    heard: Instant,
}

impl Actor for Connection {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_later(HELLO_WITHIN, |actor, _| {
            if !actor.socket.with(|state| state.hello_said) {
                actor.socket.error(None, ErrorInfo::new(ErrorCode::HelloTimeout, "no hello within 5 s"));
            }
        });
        ctx.run_interval(PING_EVERY, |actor, _| {
            if actor.heard.elapsed() > PING_EVERY * SILENT_PINGS_MAX {
                // Nobody reads what waits.
                actor.socket.with(|state| state.frames.clear());
                actor.socket.close(CloseCode::Policy);
            }
        });
        ctx.spawn(Pump);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.socket.hub.closed(&self.socket);
    }
}

/// Moves frames from the socket's queue to the HTTP layer as far as the credit goes.
struct Pump;

impl ActorFuture<Connection> for Pump {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut Connection,
        ctx: &mut WebsocketContext<Connection>,
        task: &mut Context<'_>,
    ) -> Poll<()> {
        actor.socket.waker.register(task.waker());
        while actor.credit.load(Ordering::Relaxed) < CREDIT_BYTES {
            let Some(frame) = actor.socket.with(|state| state.frames.pop()) else { break };
            actor.credit.fetch_add(bytes_of_frame(frame.len()), Ordering::Relaxed);
            ctx.text(frame);
        }
        let closing = actor.socket.with(|state| {
            let emptied = state.frames.is_empty() || state.close == Some(CloseCode::TryAgain);
            state.close.filter(|_| emptied && !state.closed)
        });
        if let Some(code) = closing {
            actor.socket.with(|state| state.closed = true);
            ctx.close(Some(CloseReason { code: code.number().into(), description: None }));
            ctx.stop();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Connection {
    fn text(&mut self, bytes: &[u8]) {
        verbs::take(&self.socket, bytes);
    }

    fn fragment(&mut self, item: actix_http::ws::Item) {
        use actix_http::ws::Item;
        match item {
            Item::FirstText(bytes) => self.fragments = Some(bytes.to_vec()),
            Item::FirstBinary(_) => self.socket.close(CloseCode::Unsupported),
            Item::Continue(bytes) | Item::Last(bytes) if self.fragments.is_none() => drop(bytes),
            Item::Continue(bytes) => self.gather(&bytes),
            Item::Last(bytes) => {
                self.gather(&bytes);
                if let Some(whole) = self.fragments.take() {
                    self.whole_text(&whole);
                }
            }
        }
    }

    fn gather(&mut self, bytes: &Bytes) {
        let Some(whole) = &mut self.fragments else { return };
        if whole.len() + bytes.len() > FRAME_BYTES_MAX {
            self.fragments = None;
            self.socket.frame_too_large();
        } else {
            whole.extend_from_slice(bytes);
        }
    }

    fn whole_text(&mut self, whole: &[u8]) {
        if std::str::from_utf8(whole).is_err() {
            self.socket.close(CloseCode::NotUtf8);
        } else {
            self.text(whole);
        }
    }

    /// A client that pings but does not read gets no pong: nothing else would bound what waits for it.
    fn pong(&self, bytes: &[u8], ctx: &mut WebsocketContext<Self>) {
        if self.credit.load(Ordering::Relaxed) < CREDIT_BYTES {
            self.credit.fetch_add(bytes_of_frame(bytes.len()), Ordering::Relaxed);
            ctx.pong(bytes);
        }
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for Connection {
    fn handle(&mut self, message: Result<Message, ProtocolError>, ctx: &mut Self::Context) {
        self.heard = Instant::now();
        match message {
            Ok(Message::Text(text)) => self.text(text.as_bytes()),
            Ok(Message::Binary(_)) => self.socket.close(CloseCode::Unsupported),
            Ok(Message::Ping(bytes)) => self.pong(&bytes, ctx),
            Ok(Message::Pong(_) | Message::Nop) => {}
            Ok(Message::Continuation(item)) => self.fragment(item),
            Ok(Message::Close(_)) => {
                self.socket.with(|state| state.closed = true);
                ctx.close(Some(CloseReason { code: CloseCode::Normal.number().into(), description: None }));
                ctx.stop();
            }
            Err(ProtocolError::Overflow) => self.socket.frame_too_large(),
            // So actix-web-actors says that a text is not UTF-8; reserved bits would be `InvalidData`.
            Err(ProtocolError::Io(error)) if error.kind() == std::io::ErrorKind::Other => {
                self.socket.close(CloseCode::NotUtf8);
            }
            Err(_) => self.socket.close(CloseCode::Protocol),
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        // After a fault of the framing the stream has ended, but the socket still has an error to say.
        if self.socket.with(|state| state.close.is_none() || state.closed) {
            ctx.stop();
        }
    }
}

/// What a payload takes on the wire, to the byte: a rest that nobody takes back would use the credit up for ever.
/// Source: RFC 6455, section 5.2, frames without a mask.
const fn bytes_of_frame(payload: usize) -> usize {
    match payload {
        0..=125 => payload + 2,
        126..=0xffff => payload + 4,
        _ => payload + 10,
    }
}

/// Tells the pump when the HTTP layer has taken bytes.
struct Counted {
    inner: Pin<Box<dyn Stream<Item = Result<Bytes, actix_web::Error>>>>,
    socket: Arc<Socket>,
    credit: Arc<AtomicUsize>,
}

impl Stream for Counted {
    type Item = Result<Bytes, actix_web::Error>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.inner.as_mut().poll_next(task);
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            let before = self.credit.load(Ordering::Relaxed);
            self.credit.store(before.saturating_sub(bytes.len()), Ordering::Relaxed);
            if before >= CREDIT_BYTES {
                self.socket.waker.wake();
            }
        }
        next
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // The HTTP layer may drop the response without letting the actor stop: the hub must know all the same.
        self.socket.hub.closed(&self.socket);
    }
}
