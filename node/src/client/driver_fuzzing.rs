//! Owns the opening through which a fuzz target lets the client hear any frames. Does not open a socket. Invariant: every item has
//! room, so that nothing waits.

use super::*;
use futures_util::FutureExt;

/// Frames that one client hears, and room for what it tells of them.
const FRAMES_MAX: usize = 64;

/// A client with a send and a question under way hears frames, one a line.
pub(crate) fn hear(frames: &str) {
    let (_hand, commands) = mpsc::channel(1);
    let (items, _kept) = mpsc::channel(16 * FRAMES_MAX);
    let session = SessionId(1);
    let me = proto::client::Party::Visitor(proto::ids::VisitorId(1));
    let config = Config { raw: true, ..Config::new(Vec::new(), String::new(), me) };
    let mut driver = Driver::new(config, commands, items, Arc::default());
    for reply in [tokio::sync::oneshot::channel().0, tokio::sync::oneshot::channel().0] {
        driver.on_command(Command::Send { session, content: Content::text("hello"), reply });
    }
    let verb = Verb::History(proto::client::History { session, from: proto::client::HistoryFrom::Latest, limit: None });
    driver.on_command(Command::Ask { verb, reply: tokio::sync::oneshot::channel().0 });
    for frame in frames.lines().take(FRAMES_MAX) {
        driver.fill();
        driver.out.clear();
        if let Ok(ServerFrame { body: Reply::Welcome(welcome), .. }) = serde_json::from_str(frame) {
            let resume = driver.cursors.resume_list();
            driver.on_welcome(welcome, &resume, "n").now_or_never().expect("items have room");
            // As a socket that is served computes it.
            let _ = (Instant::now() + driver.ping_every, driver.ping_every * SILENT_PINGS_MAX);
            continue;
        }
        match driver.on_frame(frame).now_or_never().expect("items have room") {
            Some(Left::Drained(pause)) => drop(Instant::now() + jittered(pause)),
            Some(Left::Broken(_)) => {
                driver.outbox.on_disconnect();
                driver.asks.on_disconnect(Instant::now());
            }
            Some(Left::Finished) | None => {}
        }
        let _ = (driver.outbox.next_due(), driver.asks.next_due());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by the fuzz target `rust_client`: each overflowed the clock.
    #[test]
    fn a_wait_that_no_node_means_is_cut_and_no_panic() {
        let max = u64::MAX;
        hear(&format!(r#"{{"drain":{{"retry_ms":{max}}}}}"#));
        hear(&format!(r#"{{"id":1,"welcome":{{"node":"n1","ping_s":{max},"sessions":[]}}}}"#));
        for id in 1..4 {
            hear(&format!(r#"{{"id":{id},"error":{{"code":"overloaded","message":"full","retry_after_ms":{max}}}}}"#));
        }
        assert_eq!(asked_wait(max), crate::client::WAIT_MAX);
        assert_eq!(asked_wait(50), Duration::from_millis(50));
    }
}
