//! Owns one client of a person with its book-keeping: operations in, what was told out. Does not decide what to do.
//! Invariant: every operation that was begun ends in the book as ok, fail or unknown, or stands there as open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use node::client::{ChatClient, ClientError, Config, Item, PendingAck, ResumePoint};
use parking_lot::Mutex;
use proto::client::{
    Act, Content, Event, EventKind, HistoryFrom, HistoryPage, Offered, Party, Seat, SeatState, TransferTo,
};
use proto::ids::SessionId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Room;
use super::ways::{Ways, addresses};
use crate::history::{self, Body, ClientId, DeviceId, NodeId, OpId, Recorder, Reply, Seq, Socket, What, Who};

/// Events that wait for the person; one who does not look misses only the chance to answer.
const UNSEEN_LEN_MAX: usize = 1024;

/// What a person does beside writing; a message is named by its seq.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed {
    Edit(u64),
    Recall(u64),
    React(u64),
    Note,
    /// One of few, put or taken away.
    Label(usize, bool),
}

/// A connected client.
pub(crate) struct Client<W> {
    room: Arc<Room<W>>,
    pub id: ClientId,
    chat: ChatClient,
    device: DeviceId,
    /// Number of the last send per session.
    sent: BTreeMap<SessionId, u64>,
    /// What was told, for the person to look at.
    pub unseen: mpsc::Receiver<Event<'static>>,
    /// The newest seq that was told, per session.
    heads: Arc<Mutex<BTreeMap<SessionId, u64>>>,
    /// What is offered to an agent, and their state, as told last.
    seat: Arc<Mutex<Option<Seat>>>,
    under_way: JoinSet<()>,
    /// Gives the socket that was open in the end.
    reader: JoinSet<Option<(Socket, NodeId)>>,
}

impl<W: Ways> Client<W> {
    /// Begins a client on a fresh device. A visitor's follows its session from the beginning.
    pub fn start(
        room: Arc<Room<W>>,
        turn: usize,
        who: Who,
        me: Party,
        token: String,
        follows: Option<SessionId>,
    ) -> Self {
        let id = ClientId(room.clients.fetch_add(1, Ordering::Relaxed) + 1);
        let device = format!("device-{id}");
        room.book.record(Body::Client { client: id, who });
        room.follows.lock().extend(follows.map(|session| (id, session)));
        let resume = follows.map(|session| ResumePoint { session, seq: 0, last_n: 0 }).into_iter().collect();
        let nodes = addresses(&room.ways, turn);
        let config = Config { device: Some(device.clone()), resume, ..Config::new(nodes, token, me) };
        let (chat, items) = room.ways.connect(config);
        let (tell, unseen) = mpsc::channel(UNSEEN_LEN_MAX);
        let heads: Arc<Mutex<BTreeMap<SessionId, u64>>> = Arc::default();
        let mut reader = JoinSet::new();
        let seat: Arc<Mutex<Option<Seat>>> = Arc::default();
        reader.spawn(read(room.clone(), id, items, tell, heads.clone(), seat.clone()));
        let device = DeviceId::from(device.as_str());
        let (sent, under_way) = (BTreeMap::new(), JoinSet::new());
        Client { room, id, chat, device, sent, unseen, heads, seat, under_way, reader }
    }

    /// The newest seq of a session that this client was told.
    pub fn head(&self, session: SessionId) -> u64 {
        self.heads.lock().get(&session).copied().unwrap_or(0)
    }

    /// Operations without an answer yet.
    pub fn under_way(&mut self) -> usize {
        while self.under_way.try_join_next().is_some() {}
        self.under_way.len()
    }

    /// Sends a message and does not wait.
    pub async fn send(&mut self, session: SessionId) {
        let n = self.sent.entry(session).or_default();
        *n += 1;
        let text: Arc<str> = format!("{} of {} to {session}", *n, self.device).into();
        let (device, n) = (self.device.clone(), *n);
        let op = self.invoke(What::Send { session: name(session), device, n, text: text.clone() });
        let pending = self.chat.enqueue(session, text.to_string()).await;
        self.await_ack(op, pending);
    }

    /// The answer goes into the book.
    fn await_ack(&mut self, op: OpId, pending: Result<PendingAck, ClientError>) {
        let room = self.room.clone();
        self.under_way.spawn(async move {
            let acked = match pending {
                Ok(pending) => pending.acked().await,
                Err(error) => Err(error),
            };
            if acked.is_ok() {
                room.acked();
            }
            let reply = acked.map(|ack| Some(Reply::Sent { seq: Seq(ack.seq), ts: ack.ts, dup: ack.dup }));
            ended(&room.book, op, reply);
        });
    }

    /// Does something beside writing, and does not wait. Texts are made here.
    pub async fn act(&mut self, session: SessionId, act: Deed) {
        let n = self.sent.entry(session).or_default();
        *n += 1;
        let (device, n) = (self.device.clone(), *n);
        let text = || format!("{n} of {device} to {session}, beside");
        let act = match act {
            Deed::Edit(seq) => Act::Edit { seq, text: text() },
            Deed::Recall(seq) => Act::Recall { seq },
            Deed::React(seq) => Act::React { seq, emoji: "👍".to_owned(), on: true },
            Deed::Note => Act::Note { text: text(), mentions: Vec::new() },
            Deed::Label(label, on) => Act::Label { label: format!("label-{label}"), on },
        };
        let Some(noted) = act_of(&act) else { return };
        let op = self.invoke(What::Act { session: name(session), device, n, act: noted });
        let pending = self.chat.enqueue_content(session, Content::Act(act)).await;
        self.await_ack(op, pending);
    }

    /// Ends the conversation and does not wait.
    pub fn close(&mut self, session: SessionId) {
        let seen = self.head(session);
        let op = self.invoke(What::Close { session: name(session), seen: Some(seen) });
        self.ask(op, move |chat| async move { chat.close_seen(session, seen).await.map(|()| None) });
    }

    /// Says how far it has read, and does not wait.
    pub fn cursor(&mut self, session: SessionId, received: Option<u64>, read: Option<u64>) {
        let op = self.invoke(What::Cursor { session: name(session), received, read });
        self.ask(op, move |chat| async move {
            let state = chat.cursor(session, received, read).await?;
            Ok(state.map(|state| Reply::Cursor { received: state.received, read: state.read }))
        });
    }

    /// Reads a page of history and does not wait.
    pub fn history(&mut self, session: SessionId, after: u64, limit: u64) {
        let op = self.invoke(What::History { session: name(session), after, limit });
        self.ask(op, move |chat| async move {
            let page = chat.history(session, HistoryFrom::After(after), Some(limit)).await?;
            Ok(Some(page_of(&page)))
        });
    }

    /// What is offered, and the agent's state.
    pub fn seat(&self) -> Option<Seat> {
        self.seat.lock().clone()
    }

    /// Answers an offer and does not wait. Who has the conversation then, its events say.
    pub fn answer(&mut self, offer: Offered, accepts: bool) {
        let chat = self.chat.clone();
        self.under_way.spawn(async move {
            // An offer that is gone is an answer, too.
            let _ = if accepts { chat.accept(offer).await } else { chat.decline(offer).await };
        });
    }

    /// Takes the first of the queue and does not wait.
    pub fn take(&mut self) {
        let chat = self.chat.clone();
        self.under_way.spawn(async move {
            if let Some(first) = chat.queue(Some(1)).await.ok().and_then(|queue| queue.waiting.first().copied()) {
                // Somebody else may have been faster.
                let _ = chat.take(first.session, first.conversation).await;
            }
        });
    }

    /// Gives a conversation back and does not wait. That it waits again, its events say.
    pub fn give_back(&mut self, session: SessionId) {
        let chat = self.chat.clone();
        self.under_way.spawn(async move {
            // Refused: somebody else has it.
            let _ = chat.transfer(session, TransferTo::Queue).await;
        });
    }

    /// Says whether the agent takes conversations, and does not wait.
    pub fn say_state(&mut self, state: SeatState) {
        let chat = self.chat.clone();
        self.under_way.spawn(async move {
            // It is said again if it is not told.
            let _ = chat.seat(state).await;
        });
    }

    /// Goes to another node, whatever is under way.
    pub async fn hop(&self) {
        // A client that has stopped has told so by its operations.
        let _ = self.chat.hop().await;
    }

    /// Waits for everything that is under way, here and with the others.
    pub async fn finish(mut self) {
        while self.under_way.join_next().await.is_some() {}
        // A socket whose machine went dark without a word looks open until it is used. A refusal is an answer too.
        let any = self.room.sessions.lock().first().copied();
        if let Some(session) = any {
            let _ = self.chat.history(session, HistoryFrom::After(0), Some(1)).await;
        }
        self.room.rest().await;
        drop(self.chat);
        while self.reader.join_next().await.is_some() {}
    }

    /// The client is gone in the middle of what it did; what it had begun stays open or is noted as unknown.
    pub async fn die(self) {
        drop(self.chat);
        let (mut under_way, mut reader) = (self.under_way, self.reader);
        // Their handles are the client's last ones.
        while under_way.join_next().await.is_some() {}
        while let Some(left) = reader.join_next().await {
            if let Ok(Some((socket, node))) = left {
                self.room.book.record(Body::Disconnected { client: self.id, socket, node });
            }
        }
    }

    fn invoke(&self, what: What) -> OpId {
        self.room.book.invoke(self.id, what)
    }

    fn ask<F>(&mut self, op: OpId, work: impl FnOnce(ChatClient) -> F)
    where
        F: Future<Output = Result<Option<Reply>, ClientError>> + Send + 'static,
    {
        let (book, work) = (self.room.book.clone(), work(self.chat.clone()));
        self.under_way.spawn(async move { ended(&book, op, work.await) });
    }
}

fn ended(book: &Recorder, op: OpId, result: Result<Option<Reply>, ClientError>) {
    book.record(match result {
        Ok(result) => Body::Ok { op, result },
        Err(ClientError::Refused(error)) => Body::Fail { op, code: error.code.as_str().to_owned() },
        Err(ClientError::Stopped) => Body::Unknown { op, why: "the client is gone".to_owned() },
    });
}

/// Writes down what a client is told.
async fn read<W: Ways>(
    room: Arc<Room<W>>,
    client: ClientId,
    mut items: mpsc::Receiver<Item>,
    tell: mpsc::Sender<Event<'static>>,
    heads: Arc<Mutex<BTreeMap<SessionId, u64>>>,
    known_seat: Arc<Mutex<Option<Seat>>>,
) -> Option<(Socket, NodeId)> {
    let book = &room.book;
    let (mut socket, mut node, mut is_connected) = (Socket(0), NodeId(0), false);
    while let Some(item) = items.recv().await {
        match item {
            Item::Event(event) => {
                book.record(Body::Event { client, socket, event: event_of(&event) });
                heads.lock().insert(event.session, event.seq);
                // One who does not look at the queue misses the chance to answer, no more.
                let _ = tell.try_send(event);
            }
            Item::Cursor(state) => book.record(Body::Cursor {
                client,
                session: name(state.session),
                by: party_of(state.from),
                received: state.received,
                read: state.read,
            }),
            Item::Connected { node: to, .. } => {
                (socket, node, is_connected) = (Socket(socket.0 + 1), room.ways.number_of(&to), true);
                book.record(Body::Connected { client, socket, node });
            }
            Item::Disconnected { .. } if std::mem::take(&mut is_connected) => {
                book.record(Body::Disconnected { client, socket, node });
            }
            Item::ProtocolViolation(violation) => {
                // No property of the history would show it: the client hides doubles from the person.
                book.record(Body::Broken { client, what: violation.to_string() });
            }
            // Whoever was erased has no token any more.
            Item::Stopped(_) if room.is_erased_of(client) => {}
            Item::Stopped(error) => book.record(Body::Broken { client, what: format!("stopped: {}", error.code) }),
            // The client tells of every attempt to connect that failed.
            Item::Disconnected { .. } | Item::Typing(_) | Item::Presence(_) => {}
            Item::Raw(_) | Item::Place(_) | Item::Triggers(_) => {}
            Item::Seat(seat) => *known_seat.lock() = Some(seat),
        }
    }
    is_connected.then_some((socket, node))
}

pub(crate) fn name(session: SessionId) -> history::SessionId {
    history::SessionId::from(session.to_string().as_str())
}

pub(crate) fn event_of(event: &Event<'_>) -> history::Event {
    let kind = match &event.kind {
        EventKind::Message { from, text, .. } => {
            history::EventKind::Message { from: party_of(*from), text: text.as_ref().into() }
        }
        EventKind::Assigned { agent } => {
            history::EventKind::Assigned { agent: history::AgentId::from(agent.to_string().as_str()) }
        }
        EventKind::Closed { by, .. } => history::EventKind::Closed { by: party_of(*by) },
        EventKind::Queued { by } => history::EventKind::Queued { by: party_of(*by) },
        EventKind::Act { from, act, .. } => match act_of(act) {
            Some(act) => history::EventKind::Act { from: party_of(*from), act },
            None => history::EventKind::Other,
        },
        EventKind::Hidden => history::EventKind::Hidden,
        EventKind::Gone => history::EventKind::Gone,
        EventKind::Erased { upto } => history::EventKind::Erased { upto: Seq(*upto) },
    };
    history::Event { session: name(event.session), seq: Seq(event.seq), ts: event.ts, kind }
}

/// `None`: the people of a recorded talk do none such.
fn act_of(act: &Act) -> Option<history::Act> {
    Some(match act {
        Act::Edit { seq, text } => history::Act::Edit { of: Seq(*seq), text: text.as_str().into() },
        Act::Recall { seq } => history::Act::Recall { of: Seq(*seq) },
        Act::React { seq, emoji, on: true } => history::Act::React { of: Seq(*seq), emoji: emoji.as_str().into() },
        Act::Note { text, .. } => history::Act::Note { text: text.as_str().into() },
        Act::Label { label, on } => history::Act::Label { label: label.as_str().into(), on: *on },
        _ => return None,
    })
}

fn party_of(party: Party) -> history::Party {
    match party {
        Party::Visitor(_) => history::Party::Visitor,
        Party::Agent(agent) => history::Party::Agent(history::AgentId::from(agent.to_string().as_str())),
        Party::System => history::Party::System,
    }
}

fn page_of(page: &HistoryPage<'_>) -> Reply {
    Reply::History { events: page.events.iter().map(event_of).collect(), head: page.head }
}
