//! Owns the tests of the client against a fake cluster: one log, several doors, sockets that break in the middle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use proto::client::limits::SUBPROTOCOL;
use proto::client::{
    Ack, Content, ErrorCode, ErrorInfo, Event, EventKind, Party, Reply, ServerFrame, SessionHead, Verb, Welcome, parse,
};
use proto::ids::{SessionId, VisitorId};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::{ChatClient, Config, Item};

const S: SessionId = SessionId(7);
const ME: Party = Party::Visitor(VisitorId(1));

/// What the replicas would hold.
#[derive(Default)]
struct Log {
    events: Vec<Event<'static>>,
    /// cid -> seq.
    seqs: BTreeMap<String, u64>,
    n_last: u64,
    sends: u64,
    /// Every so many sends are refused as overloaded, or break the socket after they were applied. 0: never.
    refuse_every: u64,
    break_every: u64,
    /// Leaves this seq out of the pushes after a hello.
    hide: Option<u64>,
}

enum Told {
    Frame(ServerFrame<'static>),
    Broken,
}

impl Log {
    fn send(&mut self, id: u64, send: &proto::client::Send<'_>) -> Told {
        self.sends += 1;
        let n = send.n.expect("the client numbers");
        if self.refuse_every > 0 && self.sends.is_multiple_of(self.refuse_every) {
            let full = ErrorInfo::retry(ErrorCode::Overloaded, "full", Duration::from_millis(5));
            return Told::Frame(ServerFrame { id: Some(id), body: Reply::Error(full) });
        }
        if n > self.n_last + 1 {
            return Told::Frame(ServerFrame { id: Some(id), body: Reply::Error(ErrorInfo::cid_gap(self.n_last + 1)) });
        }
        let dup = n <= self.n_last;
        if !dup {
            self.n_last = n;
            let seq = self.events.len() as u64 + 1;
            self.seqs.insert(send.cid.clone().into_owned(), seq);
            let Content::Text { text, reply_to, .. } = send.content.clone().into_owned() else {
                panic!("not a message")
            };
            let cid = Some(send.cid.clone().into_owned().into());
            self.events.push(Event {
                session: S,
                seq,
                ts: seq,
                kind: EventKind::Message { from: ME, text, attachments: Vec::new(), reply_to, cid },
            });
        }
        if self.break_every > 0 && self.sends.is_multiple_of(self.break_every) {
            return Told::Broken;
        }
        let seq = self.seqs[&*send.cid];
        let ack = Ack { session: S, cid: send.cid.clone().into_owned().into(), seq, ts: seq, dup };
        Told::Frame(ServerFrame { id: Some(id), body: Reply::Ack(ack) })
    }

    fn hello(&self, id: u64, after: u64) -> Vec<ServerFrame<'static>> {
        let sessions = vec![SessionHead { session: S, head: self.events.len() as u64 }];
        let welcome = Welcome { node: "n1".into(), ping_s: 15, sessions };
        let missed = self.events.iter().filter(|event| event.seq > after && Some(event.seq) != self.hide);
        let pushes = missed.map(|event| ServerFrame { id: None, body: Reply::Event(event.clone()) });
        std::iter::once(ServerFrame { id: Some(id), body: Reply::Welcome(welcome) }).chain(pushes).collect()
    }
}

#[allow(clippy::result_large_err, reason = "the signature is tungstenite's")]
async fn serve(stream: TcpStream, log: Arc<Mutex<Log>>) {
    let agree = |_: &Request, mut response: Response| {
        response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, agree).await else { return };
    while let Some(Ok(Message::Text(text))) = socket.next().await {
        let frame = parse(text.as_bytes()).expect("our own client speaks v1");
        let answers = match &frame.verb {
            Verb::Hello(hello) => log.lock().hello(frame.id, hello.resume.first().map_or(0, |entry| entry.seq)),
            Verb::Send(send) => match log.lock().send(frame.id, send) {
                Told::Frame(answer) => vec![answer],
                Told::Broken => return,
            },
            _ => vec![ServerFrame { id: Some(frame.id), body: Reply::Ok }],
        };
        for answer in answers {
            if socket.send(Message::text(answer.to_json())).await.is_err() {
                return;
            }
        }
    }
}

/// Opens `doors` listening ports onto one log.
async fn cluster(log: Log, doors: usize) -> (Vec<String>, Arc<Mutex<Log>>, JoinSet<()>) {
    let log = Arc::new(Mutex::new(log));
    let mut tasks = JoinSet::new();
    let mut nodes = Vec::new();
    for _ in 0..doors {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        nodes.push(listener.local_addr().unwrap().to_string());
        let log = log.clone();
        tasks.spawn(async move {
            let mut sockets = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                sockets.spawn(serve(stream, log.clone()));
            }
        });
    }
    (nodes, log, tasks)
}

/// Sends `count` texts and returns the events in the order they were handed out.
async fn talk(log: Log, config: impl FnOnce(&mut Config), count: u64) -> (Vec<Event<'static>>, ChatClient, u64) {
    let (nodes, log, _tasks) = cluster(log, 2).await;
    let mut settings = Config::new(nodes, "token".to_owned(), ME);
    config(&mut settings);
    let (client, mut items) = ChatClient::start(settings);
    let work = async {
        let mut acks = Vec::new();
        for i in 1..=count {
            acks.push(client.enqueue(S, format!("text {i}")).await.unwrap());
        }
        let mut events = Vec::new();
        while (events.len() as u64) < count {
            match items.recv().await.unwrap() {
                Item::Event(event) => events.push(event),
                Item::ProtocolViolation(violation) => panic!("{violation}"),
                _ => {}
            }
        }
        for (i, ack) in acks.into_iter().enumerate() {
            assert_eq!(ack.acked().await.unwrap().seq, i as u64 + 1);
        }
        events
    };
    let events = tokio::time::timeout(Duration::from_secs(30), work).await.expect("within the deadline");
    let stored = log.lock().events.len() as u64;
    (events, client, stored)
}

fn assert_in_order(events: &[Event<'_>]) {
    for (i, event) in events.iter().enumerate() {
        assert_eq!(event.seq, i as u64 + 1);
        let EventKind::Message { text, .. } = &event.kind else { panic!("not a message") };
        assert_eq!(*text, format!("text {}", i + 1));
    }
}

#[tokio::test]
async fn broken_sockets_and_refusals_lose_double_and_reorder_nothing() {
    let log = Log { break_every: 29, refuse_every: 31, ..Log::default() };
    let (events, client, stored) = talk(log, |_| {}, 300).await;
    assert_in_order(&events);
    assert_eq!(stored, 300);
    assert!(client.stats().reconnects.load(std::sync::atomic::Ordering::Relaxed) > 0);
    assert_eq!(client.stats().reloads_needed.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_client_that_sends_everything_twice_gets_each_seq_once() {
    let log = Log { break_every: 37, ..Log::default() };
    let (events, _client, stored) = talk(log, |config| config.send_twice = true, 100).await;
    assert_in_order(&events);
    assert_eq!(stored, 100);
}

#[tokio::test]
async fn a_gap_after_a_resume_is_reported() {
    let mut log = Log { hide: Some(2), ..Log::default() };
    for n in 1..=3 {
        let (cid, content) = (format!("c{n}").into(), Content::text(format!("text {n}")));
        log.send(n, &proto::client::Send { session: S, cid, content, n: Some(n) });
    }
    let (nodes, _log, _tasks) = cluster(log, 1).await;
    let (_client, mut items) = ChatClient::start(Config::new(nodes, "token".to_owned(), ME));
    let found = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Item::ProtocolViolation(violation) = items.recv().await.unwrap() {
                return violation;
            }
        }
    });
    assert!(found.await.expect("within the deadline").to_string().contains("expected seq 2, got 3"));
}
