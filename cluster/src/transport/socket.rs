//! Owns the kind of socket below the links: TCP, and in a simulation the simulated one. Does not know TLS or frames.
//! Invariant: which kind it is follows from where the code runs, never from a setting.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Bytes that may wait in the kernel to be sent. Its own measure is megabytes: where little bandwidth is left, heartbeats and votes
/// would stand behind seconds of entries there, whatever lane they have here.
#[cfg(target_os = "linux")]
const UNSENT_MAX: u32 = 64 << 10;

/// One connection.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    #[cfg(feature = "sim")]
    Simulated(turmoil::net::TcpStream),
}

/// Where connections arrive.
pub enum Listener {
    Tcp(TcpListener),
    #[cfg(feature = "sim")]
    Simulated(turmoil::net::TcpListener),
}

impl Listener {
    /// The next connection.
    /// # Errors
    /// The system's, e.g. too many open files; the listener stays good.
    pub async fn accept(&self) -> io::Result<Socket> {
        match self {
            Listener::Tcp(listener) => Ok(Socket::Tcp(listener.accept().await?.0)),
            #[cfg(feature = "sim")]
            Listener::Simulated(listener) => Ok(Socket::Simulated(listener.accept().await?.0)),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener::Tcp(listener)
    }
}

impl Socket {
    /// Connects to `host:port`. What is written leaves at once, without Nagle's delay.
    /// # Errors
    /// Nobody listens there, or it cannot be reached.
    pub async fn connect(address: &str) -> io::Result<Socket> {
        #[cfg(feature = "sim")]
        if turmoil::in_simulation() {
            return turmoil::net::TcpStream::connect(address).await.map(Socket::Simulated);
        }
        let socket = Socket::Tcp(TcpStream::connect(address).await?);
        socket.send_in_turn()?;
        Ok(socket)
    }

    /// Switches Nagle's delay off, and keeps what cannot be sent yet out of the kernel, where nothing overtakes it.
    /// # Errors
    /// The connection has ended.
    pub fn send_in_turn(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => {
                #[cfg(target_os = "linux")]
                socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_MAX)?;
                socket.set_nodelay(true)
            }
            #[cfg(feature = "sim")]
            Socket::Simulated(_) => Ok(()),
        }
    }
}

/// Ends a connection whose other side has taken nothing of what was sent for so long. The kernel by itself tries for a quarter of an
/// hour where packets vanish, and for ever where they are acknowledged and nobody reads.
/// # Errors
/// The connection has ended.
/// Source: tcp(7), `TCP_USER_TIMEOUT`.
#[cfg_attr(not(target_os = "linux"), allow(unused_variables, reason = "other systems keep their own patience"))]
pub fn end_untaken_after(socket: &TcpStream, patience: Duration) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(socket).set_tcp_user_timeout(Some(patience))?;
    Ok(())
}

macro_rules! either {
    ($self:expr, $socket:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Tcp($socket) => $call,
            #[cfg(feature = "sim")]
            Socket::Simulated($socket) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => Pin::new(socket).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, socket => Pin::new(socket).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => Pin::new(socket).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, socket => Pin::new(socket).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Socket::Tcp(socket) => socket.is_write_vectored(),
            #[cfg(feature = "sim")]
            Socket::Simulated(socket) => socket.is_write_vectored(),
        }
    }
}
