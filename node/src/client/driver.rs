//! Owns the private loop of a client: connect, hello, write what is due, judge what comes, try the next node.
//! Does not know callers. Invariant: what is not answered when a socket breaks leaves again on the next one.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use proto::client::limits::TEXT_BYTES_MAX;
use proto::client::{
    Ack, ClientFrame, Content, ErrorCode, ErrorInfo, Event, EventKind, Hello, Ping, Reply, Send, ServerFrame, Verb,
    Visit, Watch, Welcome,
};
use proto::ids::SessionId;
use tokio::sync::{mpsc, oneshot};

use super::asked_wait;
use super::asks::{AskReply, Asks};
use super::cursors::{Cursors, Verdict, Violation};
use super::handle::{ClientError, Config, Item, Stats};
use super::link::Link;
use super::outbox::{AckReply, Acked, Outbox};

const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Messages and requests that wait for answers, over all sessions; above it commands stay in their queue.
const WAITING_LEN_MAX: usize = 4096;
const SILENT_PINGS_MAX: u32 = 3;

pub(super) enum Command {
    Send {
        session: SessionId,
        content: Content<'static>,
        reply: AckReply,
    },
    Ask {
        verb: Verb<'static>,
        reply: AskReply,
    },
    /// The node said so.
    Watched {
        session: SessionId,
        on: bool,
    },
    Hop,
}

/// Why a socket was left.
enum Left {
    Broken(String),
    /// The node asked for it; wait so long.
    Drained(Duration),
    /// All handles are gone, or the token is not valid.
    Finished,
}

pub(super) struct Driver {
    config: Config,
    device: String,
    commands: mpsc::Receiver<Command>,
    items: mpsc::Sender<Item>,
    stats: Arc<Stats>,
    cursors: Cursors,
    outbox: Outbox,
    asks: Asks,
    /// Counts frame ids over all sockets, so that a late answer can't meet a new request.
    id_next: u64,
    cid_next: u64,
    cid_prefix: String,
    out: Vec<String>,
    sockets: u64,
    /// Where our visitor is, as it was said last.
    visit: Option<Visit<'static>>,
    /// From the last welcome.
    ping_every: Duration,
    /// An answer has been due since then.
    waiting_since: Option<Instant>,
    /// The last ping has no pong yet.
    pinged: bool,
}

impl Driver {
    pub fn new(
        config: Config,
        commands: mpsc::Receiver<Command>,
        items: mpsc::Sender<Item>,
        stats: Arc<Stats>,
    ) -> Self {
        let mut cursors = Cursors::new(config.me);
        let mut outbox = Outbox::new(config.numbered);
        for point in &config.resume {
            cursors.start_at(point.session, point.seq);
            outbox.start_after(point.session, point.last_n);
        }
        let device = config.device.clone().unwrap_or_else(|| format!("d-{:016x}", random()));
        Driver {
            device,
            commands,
            items,
            stats,
            cursors,
            outbox,
            asks: Asks::default(),
            id_next: 1,
            cid_next: 1,
            cid_prefix: format!("{:08x}", random() as u32),
            out: Vec::new(),
            sockets: 0,
            visit: None,
            ping_every: proto::client::limits::PING_EVERY,
            waiting_since: None,
            pinged: false,
            config,
        }
    }

    pub async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        for node in 0.. {
            let Some(addr) = self.config.nodes.get(node % self.config.nodes.len().max(1)).cloned() else { return };
            let sockets_before = self.sockets;
            let left = match self.connect(&addr).await {
                Ok(mut link) => self.serve(&mut link).await,
                Err(left) => left,
            };
            if self.sockets > sockets_before {
                backoff = BACKOFF_MIN;
            }
            self.outbox.on_disconnect();
            self.asks.on_disconnect(Instant::now());
            self.out.clear();
            self.waiting_since = None;
            self.pinged = false;
            let (reason, pause) = match left {
                Left::Finished => return,
                Left::Drained(pause) => ("the node is draining".to_owned(), jittered(pause)),
                Left::Broken(reason) => (reason, jittered(backoff)),
            };
            self.tell(Item::Disconnected { reason }).await;
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn connect(&mut self, addr: &str) -> Result<Link, Left> {
        let mut link = Link::open(addr, self.config.answer_within).await.map_err(Left::Broken)?;
        let resume = self.cursors.resume_list();
        let hello = Hello {
            token: Cow::Borrowed(&self.config.token),
            device: Cow::Borrowed(&self.device),
            resume: resume.clone(),
        };
        let id = self.id_next;
        self.id_next += 1;
        let hello = ClientFrame { id, verb: Verb::Hello(hello) }.to_json();
        link.write(&mut vec![hello]).await.map_err(Left::Broken)?;
        let answer = tokio::time::timeout(self.config.answer_within, link.read()).await;
        let text = answer.map_err(|_| Left::Broken("no welcome in time".to_owned()))?.map_err(Left::Broken)?;
        self.tell_raw(&text).await;
        let frame: ServerFrame<'_> = match serde_json::from_str(&text) {
            Ok(frame) => frame,
            Err(error) => return Err(Left::Broken(error.to_string())),
        };
        match frame.body {
            Reply::Welcome(welcome) => self.on_welcome(welcome, &resume, addr).await,
            Reply::Error(error) if error.code == ErrorCode::Unauthorized => {
                self.tell(Item::Stopped(error.into_owned())).await;
                return Err(Left::Finished);
            }
            Reply::Error(error) => return Err(Left::Broken(format!("hello was refused: {}", error.code))),
            Reply::Drain(drain) => return Err(Left::Drained(asked_wait(drain.retry_ms))),
            _ => return Err(Left::Broken("the first answer was no welcome".to_owned())),
        }
        Ok(link)
    }

    async fn on_welcome(&mut self, welcome: Welcome<'_>, resumed: &[proto::client::SessionSeq], addr: &str) {
        self.sockets += 1;
        if self.sockets > 1 {
            Stats::add(&self.stats.reconnects);
        }
        let (missing, broken) = self.cursors.on_welcome(resumed, &welcome.sessions);
        self.stats.reloads_needed.fetch_add(missing as u64, Ordering::Relaxed);
        if missing == 0 && !resumed.is_empty() {
            Stats::add(&self.stats.resumed_ok);
        }
        for session in self.cursors.watched_beside(resumed) {
            let watch = Watch { session, on: true, seq: self.cursors.head(session) };
            // Nobody waits for it; a refusal shows by the silence.
            self.asks.push(self.id_next, Verb::Watch(watch), oneshot::channel().0, Instant::now());
            self.id_next += 1;
        }
        // Only this socket's node knows where our visitor is.
        if let Some(visit) = self.visit.clone().filter(|_| self.sockets > 1) {
            self.asks.push(self.id_next, Verb::Visit(visit), oneshot::channel().0, Instant::now());
            self.id_next += 1;
        }
        self.ping_every = asked_wait(welcome.ping_s.max(1).saturating_mul(1_000));
        self.tell(Item::Connected { node: welcome.node.into_owned(), addr: addr.to_owned() }).await;
        if let Some(violation) = broken {
            self.violation(violation).await;
        }
    }

    async fn serve(&mut self, link: &mut Link) -> Left {
        let mut ping_at = Instant::now() + self.ping_every;
        let mut heard_at = Instant::now();
        loop {
            self.fill();
            if !self.out.is_empty() {
                self.waiting_since.get_or_insert_with(Instant::now);
                let mut out = std::mem::take(&mut self.out);
                let writing = tokio::time::timeout(self.config.answer_within, link.write(&mut out)).await;
                match writing {
                    Ok(Ok(())) => self.out = out,
                    Ok(Err(reason)) => return Left::Broken(reason),
                    Err(_) => return Left::Broken("the node does not read".to_owned()),
                }
            }
            let room = self.outbox.len() + self.asks.len() < WAITING_LEN_MAX;
            let wake = self.wake_at(ping_at);
            let step = tokio::select! {
                text = link.read() => Step::Frame(text),
                command = self.commands.recv(), if room => Step::Command(command),
                () = tokio::time::sleep_until(wake.into()) => Step::Clock,
            };
            let left = match step {
                Step::Frame(Err(reason)) => Some(Left::Broken(reason)),
                Step::Frame(Ok(text)) => {
                    heard_at = Instant::now();
                    self.tell_raw(&text).await;
                    self.on_frame(&text).await
                }
                Step::Command(None) => Some(Left::Finished),
                Step::Command(Some(command)) => self.on_command(command),
                Step::Clock => self.on_clock(&mut ping_at, heard_at),
            };
            if let Some(left) = left {
                return left;
            }
        }
    }

    /// Collects every frame that may leave now.
    fn fill(&mut self) {
        let now = Instant::now();
        let (out, id_next, twice) = (&mut self.out, &mut self.id_next, self.config.send_twice);
        self.outbox.send_ready(now, |send| {
            let mut frames = Vec::with_capacity(1 + usize::from(twice));
            for _ in 0..=usize::from(twice) {
                let (cid, content) = (Cow::Borrowed(send.cid), borrowed(send.content));
                let verb = Verb::Send(Send { session: send.session, cid, content, n: send.n });
                out.push(ClientFrame { id: *id_next, verb }.to_json());
                frames.push(*id_next);
                *id_next += 1;
            }
            frames
        });
        self.asks.send_ready(now, |frame| out.push(frame.to_json()));
    }

    fn wake_at(&self, ping_at: Instant) -> Instant {
        let answer_due = self.waiting_since.map(|since| since + self.config.answer_within);
        [self.outbox.next_due(), self.asks.next_due(), answer_due].into_iter().flatten().fold(ping_at, Instant::min)
    }

    fn on_clock(&mut self, ping_at: &mut Instant, heard_at: Instant) -> Option<Left> {
        let now = Instant::now();
        if self.waiting_since.is_some_and(|since| now >= since + self.config.answer_within) {
            return Some(Left::Broken("no answer in time".to_owned()));
        }
        if now < *ping_at {
            return None;
        }
        if now >= heard_at + self.ping_every * SILENT_PINGS_MAX {
            return Some(Left::Broken("the node is silent".to_owned()));
        }
        // What the node pushes does not say that it hears us.
        if std::mem::replace(&mut self.pinged, true) {
            return Some(Left::Broken("the node does not hear us".to_owned()));
        }
        *ping_at = now + self.ping_every;
        let verb = Verb::Ping(Ping { heads: self.cursors.heads() });
        self.out.push(ClientFrame { id: self.id_next, verb }.to_json());
        self.id_next += 1;
        None
    }

    fn on_command(&mut self, command: Command) -> Option<Left> {
        match command {
            Command::Send { session, content, reply } => {
                let cid = format!("{}-{}", self.cid_prefix, self.cid_next);
                if let Some(fault) = fault_of(session, &cid, &content) {
                    // No node would use a number up for it, and numbers must not shift.
                    // The caller may have given up waiting; then nobody misses the answer.
                    let _ = reply.send(Err(ClientError::Refused(fault)));
                    return None;
                }
                self.cid_next += 1;
                self.outbox.push(session, cid, content, reply);
            }
            Command::Ask { mut verb, reply } => {
                match &mut verb {
                    Verb::Visit(visit) => self.visit = Some(visit.clone()),
                    Verb::Watch(watch) => watch.seq = watch.seq.or_else(|| self.cursors.head(watch.session)),
                    // Kept through every repetition: what was given to somebody later stays there.
                    Verb::Transfer(transfer) => {
                        transfer.seen = transfer.seen.or_else(|| self.cursors.live_head(transfer.session));
                    }
                    _ => {}
                }
                if let Verb::Close(close) = &mut verb {
                    // Kept through every repetition: a conversation that begins later must stay open, and the one that our
                    // own message begins must not.
                    let own = u64::from(self.outbox.has_any(close.session));
                    close.seen = close.seen.or_else(|| Some(self.cursors.head(close.session)? + own));
                }
                self.asks.push(self.id_next, verb, reply, Instant::now());
                self.id_next += 1;
            }
            Command::Watched { session, on } => self.cursors.watch(session, on),
            Command::Hop => return Some(Left::Broken("asked to hop".to_owned())),
        }
        None
    }

    async fn on_frame(&mut self, text: &str) -> Option<Left> {
        let frame: ServerFrame<'_> = match serde_json::from_str(text) {
            Ok(frame) => frame,
            Err(error) => {
                self.violation(Violation::NotAFrame { reason: error.to_string() }).await;
                return None;
            }
        };
        let mut left = None;
        match (frame.body, frame.id) {
            (Reply::Event(event), _) => {
                let verdict = self.cursors.on_event(&event);
                let event = event.into_owned();
                let settled = self.settle(&event);
                self.pass_on(verdict, event).await;
                if let Some((reply, ack)) = settled {
                    // The caller may have given up waiting; the event told the rest.
                    let _ = reply.send(Ok(ack));
                }
            }
            (Reply::Ack(ack), Some(id)) => self.on_ack(id, ack).await,
            (Reply::Error(error), Some(id)) => {
                let now = Instant::now();
                let error = error.into_owned();
                if !self.outbox.on_refusal(id, &error, now) {
                    self.asks.on_refusal(id, error, now);
                }
            }
            (Reply::Error(error), None) => left = Some(Left::Broken(format!("refused: {}", error.code))),
            (Reply::Cursor(state), None) => self.tell(Item::Cursor(state)).await,
            (Reply::Typing(notice), _) => self.tell(Item::Typing(notice)).await,
            (Reply::Presence(presence), _) => self.tell(Item::Presence(presence)).await,
            (Reply::Seat(seat), _) => self.tell(Item::Seat(seat)).await,
            (Reply::Place(place), _) => self.tell(Item::Place(place)).await,
            (Reply::Triggers(triggers), _) => self.tell(Item::Triggers(triggers)).await,
            (Reply::Drain(drain), _) => left = Some(Left::Drained(asked_wait(drain.retry_ms))),
            (Reply::Pong(pong), _) => {
                self.pinged = false;
                if self.cursors.on_pong(&pong.heads) {
                    Stats::add(&self.stats.reloads_needed);
                    left = Some(Left::Broken("the stream stands still below the head".to_owned()));
                }
            }
            (reply, Some(id)) => self.asks.on_reply(id, reply),
            (_, None) => self.violation(Violation::NotAFrame { reason: "an answer without id".to_owned() }).await,
        }
        let waits = self.outbox.awaits_answers() || self.asks.awaits_answers();
        self.waiting_since = waits.then(Instant::now);
        left
    }

    /// Finds the send whose message came as an event because its ack was lost with an earlier socket.
    fn settle(&mut self, event: &Event<'_>) -> Option<(AckReply, Ack<'static>)> {
        let (EventKind::Message { from, cid: Some(cid), .. } | EventKind::Act { from, cid: Some(cid), .. }) =
            &event.kind
        else {
            return None;
        };
        if *from != self.config.me {
            return None;
        }
        let acked = self.outbox.on_own_event(event.session, cid, event.seq)?;
        Stats::add(&self.stats.acked);
        Stats::add(&self.stats.dups);
        let cid = Cow::Owned(acked.cid);
        Some((acked.reply, Ack { session: event.session, cid, seq: event.seq, ts: event.ts, dup: true }))
    }

    async fn on_ack(&mut self, id: u64, ack: Ack<'_>) {
        let acked = match self.outbox.on_ack(id, &ack) {
            Ok(acked) => acked,
            Err(violation) => return self.violation(violation).await,
        };
        let verdict = self.cursors.on_ack(ack.session, ack.seq, ack.ts);
        let Some(Acked { cid, content, reply }) = acked else {
            // A second attempt of a settled send: its seq was handed out, unless the node made it up.
            if verdict != Verdict::Known {
                let (session, got) = (ack.session, ack.seq);
                self.violation(Violation::TwoSeqs { session, first: 0, second: got }).await;
            }
            return;
        };
        Stats::add(&self.stats.acked);
        if ack.dup {
            Stats::add(&self.stats.dups);
        }
        let (from, own) = (self.config.me, Some(Cow::Owned(cid.clone())));
        let kind = match content {
            // What its files are called and where they are, the history knows.
            Content::Text { text, reply_to, .. } => {
                EventKind::Message { from, text, attachments: Vec::new(), reply_to, cid: own }
            }
            Content::Act(act) => EventKind::Act { from, act, cid: own },
        };
        let event = Event { session: ack.session, seq: ack.seq, ts: ack.ts, kind };
        let ack = Ack { session: ack.session, cid: Cow::Owned(cid), seq: ack.seq, ts: ack.ts, dup: ack.dup };
        // The event goes first: who has the ack may look for it. A caller that gave up waiting misses nothing else.
        self.pass_on(verdict, event).await;
        let _ = reply.send(Ok(ack));
    }

    async fn pass_on(&mut self, verdict: Verdict, event: Event<'static>) {
        match verdict {
            Verdict::Next => self.tell(Item::Event(event)).await,
            Verdict::Known => {}
            Verdict::Broken(violation) => {
                let is_double = matches!(violation, Violation::Double { .. });
                self.violation(violation).await;
                if !is_double {
                    self.tell(Item::Event(event)).await;
                }
            }
        }
    }

    async fn violation(&mut self, violation: Violation) {
        Stats::add(&self.stats.violations);
        self.tell(Item::ProtocolViolation(violation)).await;
    }

    async fn tell_raw(&mut self, text: &str) {
        if self.config.raw {
            self.tell(Item::Raw(text.to_owned())).await;
        }
    }

    async fn tell(&mut self, item: Item) {
        // A consumer that dropped its receiver wants no items; the sends go on.
        let _ = self.items.send(item).await;
    }
}

enum Step {
    Frame(Result<tokio_tungstenite::tungstenite::Utf8Bytes, String>),
    Command(Option<Command>),
    Clock,
}

fn borrowed<'a>(content: &'a Content<'static>) -> Content<'a> {
    match content {
        Content::Text { text, reply_to, attachments } => {
            Content::Text { text: Cow::Borrowed(text), reply_to: *reply_to, attachments: attachments.clone() }
        }
        Content::Act(act) => Content::Act(act.clone()),
    }
}

/// What any node would say of it before it looks at the session.
fn fault_of(session: SessionId, cid: &str, content: &Content<'static>) -> Option<ErrorInfo<'static>> {
    if let Content::Text { text, .. } = content
        && (1..=TEXT_BYTES_MAX).contains(&text.len())
    {
        return None;
    }
    let send = Send { session, cid: Cow::Borrowed(cid), content: borrowed(content), n: None };
    let frame = ClientFrame { id: 0, verb: Verb::Send(send) }.to_json();
    proto::client::parse(frame.as_bytes()).err().map(|fault| ErrorInfo::new(fault.code, fault.message))
}

/// Half to all of `pause`, so that the clients of a dead node don't come back as one.
fn jittered(pause: Duration) -> Duration {
    let share = random() as u32 % 1024;
    pause / 2 + pause / 2 * share / 1024
}

#[doc(hidden)]
#[path = "driver_fuzzing.rs"]
pub(crate) mod fuzzing;

fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()))
}
