//! Owns the bytes that open a connection: the magic, then one length-prefixed message each way.
//! Does not decide who is welcome. Invariant: at most `HELLO_BYTES_MAX` bytes are read before that is decided.

use proto::codec::{self, CodecError, Frozen};
use proto::peer::{HELLO_BYTES_MAX, MAGIC};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why a connection was closed before it became a link.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("not an everdesk peer: wrong first bytes")]
    Magic,
    #[error("handshake message of {0} bytes is longer than the limit of {HELLO_BYTES_MAX}")]
    TooLong(usize),
    #[error("handshake message not understood: {0}")]
    Codec(#[from] CodecError),
    #[error("connection lost: {0}")]
    Io(std::io::Error),
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    #[error("no handshake in time")]
    Timeout,
    #[error("refused: {0}")]
    Refused(String),
}

impl From<std::io::Error> for HandshakeError {
    fn from(error: std::io::Error) -> Self {
        match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(cause) => HandshakeError::Tls(cause.clone()),
            None => HandshakeError::Io(error),
        }
    }
}

/// Writes the magic and one message.
/// # Errors
/// `Io` when the connection breaks.
pub async fn write_message<T: Frozen>(socket: &mut (impl AsyncWrite + Unpin), value: &T) -> Result<(), HandshakeError> {
    let body = codec::encode(value);
    let mut out = Vec::with_capacity(MAGIC.len() + 4 + body.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&body);
    socket.write_all(&out).await?;
    socket.flush().await?;
    Ok(())
}

/// Reads the magic and one message.
/// # Errors
/// `Magic`, `TooLong`, `Codec`: the peer is foreign; `Io`: the connection broke.
pub async fn read_message<T: Frozen>(socket: &mut (impl AsyncRead + Unpin)) -> Result<T, HandshakeError> {
    let mut head = [0; MAGIC.len()];
    socket.read_exact(&mut head).await?;
    if head != MAGIC {
        return Err(HandshakeError::Magic);
    }
    let length = socket.read_u32_le().await? as usize;
    if length > HELLO_BYTES_MAX {
        return Err(HandshakeError::TooLong(length));
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    Ok(codec::decode(&body)?)
}
