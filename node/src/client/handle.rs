//! Owns the public face of the client: configuration, handle, items. Does not touch sockets; `driver` does.
//! Invariant: dropping the last handle ends every task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::client::limits::ANSWER_WITHIN;
use proto::client::{
    About, Ack, Act, Close, Content, Cursor, CursorState, Dismiss, ErrorInfo, Event, History, HistoryFrom, HistoryPage,
    Mention, Offer, Offered, Party, Place, Presence, Queue, QueueAsk, Seat, SeatSaid, SeatState, Take, Transfer,
    TransferTo, Trigger, Triggers, Typing, TypingNotice, Verb, Visit, Watch,
};
use proto::ids::{AttachmentId, SessionId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::asks::Answer;
use super::cursors::Violation;
use super::driver::{Command, Driver};

/// Commands that wait for the driver; a full queue makes the caller wait.
const COMMANDS_LEN_MAX: usize = 1024;

/// How to connect and as whom.
#[derive(Clone)]
pub struct Config {
    /// `host:port` of the nodes; the first is tried first, a failure hops to the next.
    pub nodes: Vec<String>,
    /// From [`super::http::create_visitor`] or [`super::http::login`].
    pub token: String,
    /// Who the token stands for; the author of the events made from our own acks.
    pub me: Party,
    /// `None` draws a fresh one. A device used before needs its `last_n` in `resume`.
    pub device: Option<String>,
    /// What an earlier run already holds.
    pub resume: Vec<ResumePoint>,
    /// Number the sends (`n`), with up to 64 unacked per session; else one at a time.
    pub numbered: bool,
    /// Write every send twice and check that both get the same seq. For tests.
    pub send_twice: bool,
    /// Also hand out each received frame as it came, before what it means.
    pub raw: bool,
    /// No sign of the node for so long while an answer is due: try the next. Default 3 s.
    pub answer_within: Duration,
    /// Items that wait for the consumer; at the limit the client stops reading its socket. Default 1024.
    pub items_len_max: usize,
}

/// Where an earlier run stopped in one session.
#[derive(Debug, Clone, Copy)]
pub struct ResumePoint {
    /// The session.
    pub session: SessionId,
    /// Every event up to here was handed out.
    pub seq: u64,
    /// The last number this device used; 0 for a fresh device.
    pub last_n: u64,
}

impl Config {
    /// The usual settings: a fresh device, numbered sends, no cursors.
    pub fn new(nodes: Vec<String>, token: String, me: Party) -> Self {
        Config {
            nodes,
            token,
            me,
            device: None,
            resume: Vec::new(),
            numbered: true,
            send_twice: false,
            raw: false,
            answer_within: ANSWER_WITHIN,
            items_len_max: 1024,
        }
    }
}

/// What the client has to tell.
#[derive(Debug, Clone)]
pub enum Item {
    /// The next event of a session; our own messages too, made from their acks.
    Event(Event<'static>),
    /// Another party's cursors.
    Cursor(CursorState),
    /// Somebody types.
    Typing(TypingNotice),
    /// Somebody came or went.
    Presence(Presence),
    /// What is offered to our agent, and their state.
    Seat(Seat),
    /// Where our visitor stands in the queue.
    Place(Place),
    /// What may be said to our visitor on this page, and when.
    Triggers(Triggers),
    /// The node said welcome.
    Connected { node: String, addr: String },
    /// The socket is gone; the client goes on trying.
    Disconnected { reason: String },
    /// The node broke its promise.
    ProtocolViolation(Violation),
    /// A received frame as it came; only with `Config::raw`.
    Raw(String),
    /// The token is not valid; the client has stopped.
    Stopped(ErrorInfo<'static>),
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Stats {
    /// Sockets after the first that got a welcome.
    pub reconnects: AtomicU64,
    /// Welcomes that listed every session we resumed.
    pub resumed_ok: AtomicU64,
    /// Sessions whose resume was not honoured, or whose stream stalled below the head.
    pub reloads_needed: AtomicU64,
    /// Broken promises.
    pub violations: AtomicU64,
    /// Sends acked.
    pub acked: AtomicU64,
    /// Of them, acked with `dup`.
    pub dups: AtomicU64,
}

impl Stats {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why a call has no answer. Anything temporary was retried inside.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The node refuses this for good: show it, don't repeat it.
    #[error("{}: {}", .0.code, .0.message)]
    Refused(ErrorInfo<'static>),
    /// The client has stopped: make a new one.
    #[error("the client has stopped")]
    Stopped,
}

/// A send on its way; awaits its ack through reconnects and fail-overs.
#[derive(Debug)]
pub struct PendingAck(oneshot::Receiver<Result<Ack<'static>, ClientError>>);

impl PendingAck {
    /// Waits for the ack.
    /// # Cancel safety
    /// Dropping it does not take the message back.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn acked(self) -> Result<Ack<'static>, ClientError> {
        self.0.await.unwrap_or(Err(ClientError::Stopped))
    }
}

/// The handle of a running client. Cheap to clone; the last one dropped ends the client.
#[derive(Clone)]
pub struct ChatClient {
    commands: mpsc::Sender<Command>,
    stats: Arc<Stats>,
    _tasks: Arc<JoinSet<()>>,
}

impl ChatClient {
    /// Starts the client inside the current tokio runtime. It connects by itself and goes on until the last handle is dropped.
    /// Keep the items flowing: at `items_len_max` unread ones the client stops reading. A dropped receiver discards them.
    pub fn start(config: Config) -> (ChatClient, mpsc::Receiver<Item>) {
        let (commands, commands_in) = mpsc::channel(COMMANDS_LEN_MAX);
        let (items, items_out) = mpsc::channel(config.items_len_max.max(1));
        let stats = Arc::new(Stats::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(Driver::new(config, commands_in, items, stats.clone()).run());
        (ChatClient { commands, stats, _tasks: Arc::new(tasks) }, items_out)
    }

    /// Puts a message in the outbox; messages of a session leave in the order of these calls.
    /// # Errors
    /// `Stopped`.
    pub async fn enqueue(&self, session: SessionId, text: impl Into<String>) -> Result<PendingAck, ClientError> {
        self.enqueue_content(session, Content::text(text)).await
    }

    /// As [`ChatClient::enqueue`], of anything that can be sent.
    /// # Errors
    /// `Stopped`.
    pub async fn enqueue_content(
        &self,
        session: SessionId,
        content: Content<'static>,
    ) -> Result<PendingAck, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Send { session, content, reply }).await?;
        Ok(PendingAck(answer))
    }

    /// Does what is kept with the messages, once, and waits for its ack.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn act(&self, session: SessionId, act: Act) -> Result<Ack<'static>, ClientError> {
        self.enqueue_content(session, Content::Act(act)).await?.acked().await
    }

    /// Answers the message at `reply_to`, and waits for the ack.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn reply(
        &self,
        session: SessionId,
        reply_to: u64,
        text: impl Into<String>,
    ) -> Result<Ack<'static>, ClientError> {
        let content = Content::Text { text: text.into().into(), reply_to: Some(reply_to), attachments: Vec::new() };
        self.enqueue_content(session, content).await?.acked().await
    }

    /// Sends a message with files that were uploaded before, and waits for the ack. The text may be empty.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn send_files(
        &self,
        session: SessionId,
        text: impl Into<String>,
        attachments: Vec<AttachmentId>,
    ) -> Result<Ack<'static>, ClientError> {
        let content = Content::Text { text: text.into().into(), reply_to: None, attachments };
        self.enqueue_content(session, content).await?.acked().await
    }

    /// Sends a message and waits for its ack.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn send(&self, session: SessionId, text: impl Into<String>) -> Result<Ack<'static>, ClientError> {
        self.enqueue(session, text).await?.acked().await
    }

    /// Says what was received and read; returns our cursors as the node keeps them.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn cursor(
        &self,
        session: SessionId,
        received: Option<u64>,
        read: Option<u64>,
    ) -> Result<Option<CursorState>, ClientError> {
        match self.ask(Verb::Cursor(Cursor { session, received, read })).await? {
            Answer::Cursor(state) => Ok(Some(state)),
            _ => Ok(None),
        }
    }

    /// Says that the person types, or stopped. Lost when the socket breaks.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn typing(&self, session: SessionId, on: bool) -> Result<(), ClientError> {
        self.ask(Verb::Typing(Typing { session, on, draft: None })).await.map(drop)
    }

    /// Shows agents what our visitor has typed so far. Lost when the socket breaks.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn draft(&self, session: SessionId, draft: impl Into<String>) -> Result<(), ClientError> {
        self.ask(Verb::Typing(Typing { session, on: true, draft: Some(draft.into().into()) })).await.map(drop)
    }

    /// Ends the conversation that is open after the last event that was handed out.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn close(&self, session: SessionId) -> Result<(), ClientError> {
        self.ask(Verb::Close(Close { session, seen: None, reason: None })).await.map(drop)
    }

    /// As [`ChatClient::close`], and says why.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn close_because(&self, session: SessionId, reason: impl Into<String>) -> Result<(), ClientError> {
        self.ask(Verb::Close(Close { session, seen: None, reason: Some(reason.into().into()) })).await.map(drop)
    }

    /// Ends the conversation that was open after event `seen`; one that began later stays open.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn close_seen(&self, session: SessionId, seen: u64) -> Result<(), ClientError> {
        self.ask(Verb::Close(Close { session, seen: Some(seen), reason: None })).await.map(drop)
    }

    /// Reads one page of history.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn history(
        &self,
        session: SessionId,
        from: HistoryFrom,
        limit: Option<u64>,
    ) -> Result<HistoryPage<'static>, ClientError> {
        match self.ask(Verb::History(History { session, from, limit })).await? {
            Answer::History(page) => Ok(page),
            _ => Ok(HistoryPage { session, events: Vec::new(), head: 0 }),
        }
    }

    /// Takes what is offered to our agent.
    /// # Errors
    /// `Refused`: the offer is gone; or `Stopped`.
    pub async fn accept(&self, Offered { session, offer, .. }: Offered) -> Result<(), ClientError> {
        self.ask(Verb::Accept(Offer { session, offer })).await.map(drop)
    }

    /// Lets somebody else have what is offered to our agent.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn decline(&self, Offered { session, offer, .. }: Offered) -> Result<(), ClientError> {
        self.ask(Verb::Decline(Offer { session, offer })).await.map(drop)
    }

    /// Takes a conversation out of the queue.
    /// # Errors
    /// `Refused`: somebody else has it, or our seat is full; or `Stopped`.
    pub async fn take(&self, session: SessionId, conversation: u64) -> Result<(), ClientError> {
        self.ask(Verb::Take(Take { session, conversation })).await.map(drop)
    }

    /// Gives a conversation of our agent to another agent, to a team, or back to the queue.
    /// # Errors
    /// `Refused`: it is not ours, or the other is not there or has no room; or `Stopped`.
    pub async fn transfer(&self, session: SessionId, to: TransferTo) -> Result<(), ClientError> {
        self.ask(Verb::Transfer(Transfer { session, to, seen: None })).await.map(drop)
    }

    /// Says whether our agent takes conversations.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn seat(&self, state: SeatState) -> Result<(), ClientError> {
        self.ask(Verb::Seat(SeatSaid { state })).await.map(drop)
    }

    /// Looks at who waits; at most `limit`, 1 to 200.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn queue(&self, limit: Option<u64>) -> Result<Queue, ClientError> {
        match self.ask(Verb::Queue(QueueAsk { limit })).await? {
            Answer::Queue(queue) => Ok(queue),
            _ => Ok(Queue { waiting: Vec::new(), total: 0 }),
        }
    }

    /// Says what is known of our visitor, for the next conversation.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn about(&self, about: About<'static>) -> Result<(), ClientError> {
        self.ask(Verb::About(about)).await.map(drop)
    }

    /// Says where our visitor is; said again on every new socket.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn visit(&self, visit: Visit<'static>) -> Result<(), ClientError> {
        self.ask(Verb::Visit(visit)).await.map(drop)
    }

    /// What a trigger waits for has come: it speaks, and its event follows.
    /// # Errors
    /// `Refused`: not now, or not here; or `Stopped`.
    pub async fn trigger(&self, session: SessionId, trigger: impl Into<String>) -> Result<(), ClientError> {
        self.ask(Verb::Trigger(Trigger { session, trigger: trigger.into().into() })).await.map(drop)
    }

    /// Our agent has seen to a note that mentions them.
    /// # Errors
    /// `Refused` for good, or `Stopped`.
    pub async fn dismiss(&self, Mention { session, seq }: Mention) -> Result<(), ClientError> {
        self.ask(Verb::Dismiss(Dismiss { session, seq })).await.map(drop)
    }

    /// Follows a session of somebody else, or ends that; goes on at the next socket.
    /// # Errors
    /// `Refused`: our agent is no supervisor; or `Stopped`.
    pub async fn watch(&self, session: SessionId, on: bool) -> Result<(), ClientError> {
        self.ask(Verb::Watch(Watch { session, on, seq: None })).await?;
        self.command(Command::Watched { session, on }).await
    }

    /// Leaves this socket and connects to the next node.
    /// # Errors
    /// `Stopped`.
    pub async fn hop(&self) -> Result<(), ClientError> {
        self.command(Command::Hop).await
    }

    /// The running counts.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    async fn ask(&self, verb: Verb<'static>) -> Result<Answer, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Ask { verb, reply }).await?;
        answer.await.unwrap_or(Err(ClientError::Stopped))
    }

    async fn command(&self, command: Command) -> Result<(), ClientError> {
        self.commands.send(command).await.map_err(|_| ClientError::Stopped)
    }
}
