//! Owns one WebSocket to one node: connect, write text, read text. Does not know frames' meaning.
//! Invariant: the subprotocol was agreed on before the first frame.

use std::time::Duration;

use cluster::transport::Socket;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use proto::client::limits::SUBPROTOCOL;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};

pub(super) struct Link {
    sink: SplitSink<WebSocketStream<Socket>, Message>,
    stream: SplitStream<WebSocketStream<Socket>>,
}

impl Link {
    /// Connects and upgrades.
    /// # Errors
    /// Why not, as text for the log: the caller tries the next node in any case.
    pub async fn open(addr: &str, within: Duration) -> Result<Link, String> {
        let connecting = async {
            let stream = Socket::connect(addr).await.map_err(|error| error.to_string())?;
            let url = format!("ws://{addr}/v1/ws");
            let mut request = url.into_client_request().map_err(|error| error.to_string())?;
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
            let (socket, _) =
                tokio_tungstenite::client_async(request, stream).await.map_err(|error| error.to_string())?;
            let (sink, stream) = socket.split();
            Ok(Link { sink, stream })
        };
        tokio::time::timeout(within, connecting).await.unwrap_or_else(|_| Err("connecting took too long".to_owned()))
    }

    /// Writes frames and flushes once.
    pub async fn write(&mut self, frames: &mut Vec<String>) -> Result<(), String> {
        for frame in frames.drain(..) {
            self.sink.feed(Message::text(frame)).await.map_err(|error| error.to_string())?;
        }
        self.sink.flush().await.map_err(|error| error.to_string())
    }

    /// The next text frame.
    /// # Cancel safety
    /// Nothing is lost when it is dropped midway.
    /// # Errors
    /// The socket is closed; the text says why.
    pub async fn read(&mut self) -> Result<Utf8Bytes, String> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(Some(close)))) => return Err(format!("closed with {}", close.code)),
                Some(Ok(Message::Close(None))) | None => return Err("closed".to_owned()),
                Some(Ok(_)) => {}
                Some(Err(Error::ConnectionClosed)) => return Err("closed".to_owned()),
                Some(Err(error)) => return Err(error.to_string()),
            }
        }
    }
}
