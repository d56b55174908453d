//! Owns the bodies about what nodes tell each other. Does not open sockets. Invariant: a length that lies is refused before
//! anything is allocated for it.

use cluster::tls::{Authority, Pin, check_request};
use cluster::transport::{read_message, write_message};
use futures_util::FutureExt;
use proto::codec::Frozen;
use proto::ids::ClusterId;
use proto::peer::{Hello, HelloReply};
use std::fmt::Debug;
use std::sync::LazyLock;

/// What opens a connection, before anybody knows who it is: the call and its answer.
pub fn peer_hello(bytes: &[u8]) {
    message::<Hello>(bytes);
    message::<HelloReply>(bytes);
}

fn message<T: Frozen + PartialEq + Debug>(mut bytes: &[u8]) {
    // All bytes are there, so that nothing is waited for.
    let read = read_message::<T>(&mut bytes).now_or_never().expect("a slice is never pending");
    let Ok(read) = read else { return };
    let mut written = Vec::new();
    write_message(&mut written, &read).now_or_never().expect("a Vec is never pending").expect("a Vec takes every byte");
    let again = read_message::<T>(&mut &written[..]).now_or_never().expect("a slice is never pending");
    assert_eq!(again.expect("read as it was written"), read);
}

/// A link: how it is cut, then its frames with their messages and bodies.
pub fn peer_link(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let whole = cluster::fuzzing::link(bytes, bytes.len());
    let pieces = cluster::fuzzing::link(bytes, 1 + usize::from(*piece));
    assert_eq!(whole, pieces, "messages do not depend on how the network cuts them");
}

/// The body of an append.
pub fn raft_append(bytes: &[u8]) {
    cluster::fuzzing::append(bytes);
}

/// The body of a log entry, and rows that hold a membership.
pub fn raft_entry(bytes: &[u8]) {
    cluster::fuzzing::entry(bytes);
}

static AUTHORITY: LazyLock<Authority> =
    LazyLock::new(|| Authority::mint(ClusterId(7)).expect("the system gives randomness"));

/// The request of a machine that joins, a certificate, and an authority as rows hold it.
pub fn certificate(bytes: &[u8]) {
    let _ = Pin::of(bytes);
    if check_request(bytes).is_ok() {
        let signed = AUTHORITY.sign(bytes, "node").expect("what was checked can be signed");
        assert_ne!(Pin::of(&signed), Pin::of(&[]), "what was signed is a certificate");
    }
    let damaged = Authority { certificate: bytes.to_vec(), key: AUTHORITY.key.clone() };
    let _ = damaged.pin();
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(pin) = text.parse::<Pin>() {
        assert_eq!(pin.to_string(), text);
    }
    let pins = cluster::fuzzing::join_pins(text);
    assert!(pins <= text.len() / 43);
}
