//! Owns what a closed loop needs of a protocol, and a socket with its buffers. Does not know either protocol.
//! Invariant: bytes are parsed in place; a message costs no allocation.

use std::time::Duration;

use anyhow::{bail, ensure};
use tokio::net::TcpStream;

/// What the other side said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Acked {
        n: u64,
    },
    /// Send it again after this.
    Refused {
        n: u64,
        after: Duration,
    },
}

/// A protocol with numbered sends and one answer to each.
pub trait Wire {
    /// Appends the send of message `n`.
    fn put(&mut self, n: u64, out: &mut Vec<u8>);

    /// Reads one unit from the front of `input`: how many bytes it took, and the answer if it was one. `None`: not whole yet.
    /// Control traffic is answered into `out`.
    /// # Errors
    /// The other side broke a promise, or closed.
    fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> anyhow::Result<Option<(usize, Option<Answer>)>>;
}

/// A socket with its buffers.
pub struct Line {
    stream: TcpStream,
    pub out: Vec<u8>,
    input: Vec<u8>,
    /// `input[start..end]` came and is not parsed yet.
    start: usize,
    end: usize,
}

const INPUT_LEN: usize = 32 << 10;

impl Line {
    /// # Errors
    /// Nobody listens.
    pub async fn connect(addr: &str) -> anyhow::Result<Line> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Line { stream, out: Vec::with_capacity(4096), input: Vec::new(), start: 0, end: 0 })
    }

    /// What came and is not parsed yet.
    pub fn unread(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    /// What came and is not parsed yet, and where answers to it go.
    pub fn parts(&mut self) -> (&[u8], &mut Vec<u8>) {
        (&self.input[self.start..self.end], &mut self.out)
    }

    pub fn advance(&mut self, len: usize) {
        self.start += len;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Waits for more bytes.
    /// # Errors
    /// The socket is closed.
    pub async fn read(&mut self) -> anyhow::Result<()> {
        loop {
            self.stream.readable().await?;
            if self.read_now()? {
                return Ok(());
            }
        }
    }

    /// Takes what is there; false if there is nothing.
    /// # Errors
    /// The socket is closed.
    pub fn read_now(&mut self) -> anyhow::Result<bool> {
        self.make_room()?;
        match self.stream.try_read(&mut self.input[self.end..]) {
            Ok(0) => bail!("the node closed the socket"),
            Ok(len) => {
                self.end += len;
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn make_room(&mut self) -> anyhow::Result<()> {
        if self.input.is_empty() {
            self.input = vec![0; INPUT_LEN];
        }
        if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end == self.input.len() {
                ensure!(self.input.len() < (1 << 20), "a frame above 1 MiB");
                self.input.resize(self.input.len() * 2, 0);
            }
        }
        Ok(())
    }

    /// Gives the buffers back: an idle socket needs none.
    pub fn shrink(&mut self) {
        if self.start == self.end {
            self.input = Vec::new();
            (self.start, self.end) = (0, 0);
        }
        self.out.shrink_to(0);
    }

    /// Writes all of `out`.
    /// # Errors
    /// The socket is broken.
    pub async fn flush(&mut self) -> anyhow::Result<()> {
        let mut done = 0;
        while done < self.out.len() {
            match self.stream.try_write(&self.out[done..]) {
                Ok(len) => done += len,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
        self.out.clear();
        Ok(())
    }
}

/// Appends a number in decimal.
pub fn put_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Reads decimal digits from the front: the number and how many there were.
pub fn take_number(bytes: &[u8]) -> Option<(u64, usize)> {
    let len = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number =
        bytes[..len].iter().try_fold(0u64, |sum, byte| sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')));
    number.filter(|_| len > 0).map(|number| (number, len))
}

/// Where `what` begins.
pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
