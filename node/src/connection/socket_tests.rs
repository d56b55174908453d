//! Owns the tests of a socket without its actor. Does not test frames.

use super::outbox::WAITING_BYTES_MAX;
use super::socket::Socket;
use crate::geo::Place;
use crate::push::Hub;
use proto::client::{CloseCode, ErrorCode, ErrorInfo, Reply, ServerFrame};
use tokio::runtime::Handle;

#[tokio::test]
async fn a_socket_that_does_not_read_answers_is_told_so_once_and_closed_as_one_that_does_not_read_events() {
    let socket = Socket::new(Hub::new(Handle::current()), None, None, Place::default());
    let message = "x".repeat(WAITING_BYTES_MAX / 4);
    let answer = || {
        let error = ErrorInfo::new(ErrorCode::NotFound, message.clone());
        socket.write(&ServerFrame { id: Some(7), body: Reply::Error(error) });
    };
    for _ in 0..3 {
        answer();
    }
    assert_eq!(socket.with(|state| state.close), None);
    for _ in 0..5 {
        answer();
    }
    let (frames, close) = socket.with(|state| {
        let frames: Vec<String> = std::iter::from_fn(|| state.frames.pop()).collect();
        (frames, state.close)
    });
    assert_eq!(close, Some(CloseCode::TryAgain));
    let told: Vec<bool> = frames.iter().map(|frame| frame.contains("too_slow")).collect();
    assert_eq!(told, [false, false, false, false, true], "what comes behind that is not queued");
}
