//! Owns the lines of a run sorted by session, so that each property reads only what concerns it. Does not judge, except that
//! it notes lines which do not fit together. Invariant: within a session everything stands in the order of the file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::checkers::acts::Story;
use crate::checkers::findings::Findings;
use crate::checkers::talk::Talk;
use crate::checkers::timeline::Timeline;
use crate::checkers::{Limits, form};
use crate::history::{
    Body, ClientId, DeviceId, Event, EventKind, NodeId, OpId, Party, Record, Reply, Seq, SessionId, Socket, What, Who,
};

/// What a client saw so many events ago no longer counts (docs/PROTOCOL.md, `close`).
const SEEN_LOOK_MAX: u64 = 1000;

/// Number of a line, from 1: its place in time, which is finer than the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line(pub usize);

impl Line {
    pub const BEFORE_ALL: Line = Line(0);
    pub const NEVER: Line = Line(usize::MAX);

    /// Whether there is such a line.
    pub fn is_real(self) -> bool {
        self != Line::BEFORE_ALL && self != Line::NEVER
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The first line of the file.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    pub seed: u64,
    pub nodes: &'a [NodeId],
    pub shards: u32,
    pub sessions: u64,
}

/// A whole run.
pub struct Index<'a> {
    pub records: &'a [Record],
    pub limits: Limits,
    pub run: Option<Run<'a>>,
    pub clients: BTreeMap<ClientId, Client<'a>>,
    pub sessions: BTreeMap<&'a SessionId, Session<'a>>,
    /// Sessions that were erased, or may have been: only `taken-back` looks at them.
    pub erased: BTreeSet<&'a SessionId>,
    /// What was done beside writing, as it was told.
    pub(super) story: Story<'a>,
    /// What does not fit together.
    pub form: Findings,
    /// Where each operation stands: its session, and its place there.
    begun: HashMap<OpId, (&'a SessionId, usize)>,
}

pub struct Client<'a> {
    pub who: &'a Who,
    /// The socket that is open at the end of the file.
    pub connected: Option<Socket>,
}

/// All that concerns one session.
pub struct Session<'a> {
    pub id: &'a SessionId,
    /// Ascending.
    pub lines: Vec<Line>,
    pub ops: Vec<Op<'a>>,
    pub told: Vec<Told<'a>>,
    pub cursors: Vec<ToldCursor<'a>>,
    pub finals: Vec<Final<'a>>,
    /// Sends, with all attempts at one message together.
    pub messages: Vec<Message<'a>>,
    by_text: HashMap<&'a str, usize>,
    /// The longest of the final histories: the one against which the rest is held. Whether the others agree is a property.
    pub events: &'a [Event],
    pub final_line: Line,
    /// Where each text stands in `events`.
    places: HashMap<&'a str, Vec<Seq>>,
    pub talk: Talk<'a>,
    pub timeline: Timeline,
}

#[derive(Debug, Clone)]
pub struct Op<'a> {
    pub id: OpId,
    pub client: ClientId,
    pub by: Party,
    pub what: &'a What,
    pub invoked: Line,
    pub end: End<'a>,
}

#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    Ok { line: Line, reply: Option<&'a Reply> },
    Failed { line: Line, code: &'a str },
    Unknown { line: Line },
}

/// An event that a client was handed.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    pub line: Line,
    pub client: ClientId,
    pub socket: Socket,
    pub event: &'a Event,
}

#[derive(Debug, Clone, Copy)]
pub struct ToldCursor<'a> {
    pub line: Line,
    pub client: ClientId,
    pub by: &'a Party,
    pub received: u64,
    pub read: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct Final<'a> {
    pub line: Line,
    pub node: NodeId,
    pub events: &'a [Event],
}

/// One message that somebody tried to send, once or several times.
pub struct Message<'a> {
    pub by: Party,
    pub device: &'a DeviceId,
    pub n: u64,
    pub text: &'a str,
    /// Places in `ops`, in the order of their begin.
    pub attempts: Vec<usize>,
}

impl<'a> Op<'a> {
    /// When the outcome was known; `NEVER` when it was not.
    pub fn ended(&self) -> Line {
        match self.end {
            End::Ok { line, .. } | End::Failed { line, .. } => line,
            End::Unknown { .. } => Line::NEVER,
        }
    }

    pub fn is_failed(&self) -> bool {
        matches!(self.end, End::Failed { .. })
    }

    /// The seq, time and line of an acknowledged send.
    pub fn acked(&self) -> Option<(Seq, u64, Line)> {
        match self.end {
            End::Ok { line, reply: Some(Reply::Sent { seq, ts, .. }) } => Some((*seq, *ts, line)),
            _ => None,
        }
    }

    /// The events, head and line of an answered history read.
    pub fn page(&self) -> Option<(&'a [Event], u64, Line)> {
        match self.end {
            End::Ok { line, reply: Some(Reply::History { events, head }) } => Some((events, *head, line)),
            _ => None,
        }
    }

    pub fn lines(&self) -> [Line; 2] {
        match self.end {
            End::Ok { line, .. } | End::Failed { line, .. } | End::Unknown { line } => [self.invoked, line],
        }
    }
}

impl Message<'_> {
    /// Every attempt was refused.
    pub fn is_failed(&self, session: &Session<'_>) -> bool {
        self.attempts.iter().all(|at| session.ops[*at].is_failed())
    }

    /// An attempt was acknowledged.
    pub fn is_acked(&self, session: &Session<'_>) -> bool {
        self.attempts.iter().any(|at| session.ops[*at].acked().is_some())
    }

    pub fn lines(&self, session: &Session<'_>) -> Vec<Line> {
        self.attempts.iter().flat_map(|at| session.ops[*at].lines()).collect()
    }
}

impl Session<'_> {
    /// Whether an acknowledged close may have done nothing: the conversation that its client saw was closed by then.
    pub fn may_be_over(&self, op: &Op<'_>) -> bool {
        let End::Ok { line, .. } = op.end else { return false };
        // One of who saw none open did nothing by then; a copy that comes after so many events is another matter.
        self.came_unseen(op, line, |kind| matches!(kind, EventKind::Closed { .. })) || self.saw_none(op)
    }

    /// Whether a close did nothing, whenever it came: its client, no agent, saw that none was open. An agent is refused then.
    pub fn saw_none_open(&self, op: &Op<'_>) -> bool {
        let What::Close { seen: Some(seen), .. } = op.what else { return false };
        self.saw_none(op) && self.head().saturating_sub(*seen) <= SEEN_LOOK_MAX
    }

    fn saw_none(&self, op: &Op<'_>) -> bool {
        let What::Close { seen: Some(seen), .. } = op.what else { return false };
        let is_agent = matches!(op.by, Party::Agent(_));
        let Some(at) = self.position(Seq(*seen)) else { return !is_agent && *seen == 0 };
        // What is done beside writing does not say whether one is open.
        let mut kinds = self.events[..=at].iter().rev().map(|event| &event.kind);
        let last = kinds.find(|kind| !matches!(kind, EventKind::Other));
        !is_agent && last.is_none_or(|kind| matches!(kind, EventKind::Closed { .. }))
    }

    /// The last seq; 0 when there is none.
    fn head(&self) -> u64 {
        self.events.last().map_or(0, |event| event.seq.0)
    }

    /// Whether an agent's close may be refused to the one who holds the session: it was given to the agent after what the agent saw.
    pub fn may_be_unseen(&self, op: &Op<'_>) -> bool {
        let (End::Failed { line, .. }, Party::Agent(by)) = (op.end, &op.by) else { return false };
        self.came_unseen(op, line, |kind| matches!(kind, EventKind::Assigned { agent } if agent == by))
    }

    /// Whether such an event may have come after what a close's client saw and before its answer.
    fn came_unseen(&self, op: &Op<'_>, answer: Line, is_such: impl Fn(&EventKind) -> bool) -> bool {
        let What::Close { seen: Some(seen), .. } = op.what else { return false };
        let mut events = self.events.iter().zip(&self.timeline.earliest);
        events.any(|(event, earliest)| event.seq.0 > *seen && is_such(&event.kind) && *earliest < answer)
    }
}

impl<'a> Session<'a> {
    fn new(id: &'a SessionId) -> Session<'a> {
        Session {
            id,
            lines: Vec::new(),
            ops: Vec::new(),
            told: Vec::new(),
            cursors: Vec::new(),
            finals: Vec::new(),
            messages: Vec::new(),
            by_text: HashMap::new(),
            events: &[],
            final_line: Line::NEVER,
            places: HashMap::new(),
            talk: Talk::default(),
            timeline: Timeline::default(),
        }
    }

    pub fn has_final(&self) -> bool {
        !self.finals.is_empty()
    }

    pub fn message(&self, text: &str) -> Option<&Message<'a>> {
        self.by_text.get(text).map(|at| &self.messages[*at])
    }

    /// The seqs at which a text stands in the final history.
    pub fn places(&self, text: &str) -> &[Seq] {
        self.places.get(text).map_or(&[], Vec::as_slice)
    }

    /// Where an event stands in `events`.
    pub fn position(&self, seq: Seq) -> Option<usize> {
        self.events.binary_search_by_key(&seq, |event| event.seq).ok()
    }

    fn derive(&mut self, form: &mut Findings) {
        self.gather_messages(form);
        if let Some(longest) = self.finals.iter().max_by_key(|one| (one.events.len(), std::cmp::Reverse(one.line))) {
            (self.events, self.final_line) = (longest.events, longest.line);
        }
        for event in self.events {
            if let EventKind::Message { text, .. } = &event.kind {
                self.places.entry(text).or_default().push(event.seq);
            }
        }
        self.talk = Talk::of(self.events);
        self.timeline = Timeline::of(self);
    }

    fn gather_messages(&mut self, form: &mut Findings) {
        let mut clashes = Vec::new();
        for (at, op) in self.ops.iter().enumerate() {
            let What::Send { device, n, text, .. } = op.what else { continue };
            let number = *self.by_text.entry(text).or_insert_with(|| {
                self.messages.push(Message { by: op.by.clone(), device, n: *n, text, attempts: Vec::new() });
                self.messages.len() - 1
            });
            let message = &mut self.messages[number];
            if (&message.by, message.device, message.n) != (&op.by, device, *n) {
                clashes.push((text, self.ops[message.attempts[0]].invoked, op.invoked));
            }
            message.attempts.push(at);
        }
        for (text, first, second) in clashes {
            form.breach(self, None, format!("two different sends have the text `{text}`"), &[first, second]);
        }
    }
}

impl<'a> Index<'a> {
    pub fn of(records: &'a [Record], limits: Limits) -> Index<'a> {
        let mut index = Index {
            records,
            limits,
            run: None,
            clients: BTreeMap::new(),
            sessions: BTreeMap::new(),
            erased: BTreeSet::new(),
            story: Story::default(),
            form: Findings::of(form::NAME),
            begun: HashMap::new(),
        };
        for (record, number) in records.iter().zip(1..) {
            index.add(&record.body, Line(number));
        }
        form::check_file(records, &mut index.form);
        let Index { sessions, form, .. } = &mut index;
        for session in sessions.values_mut() {
            session.derive(form);
        }
        index
    }

    /// The same of a whole run: `plain` is what `plain::of` makes of the records.
    pub(super) fn of_run(records: &'a [Record], plain: &'a [Record], limits: Limits) -> Index<'a> {
        let mut index = Index::of(plain, limits);
        index.records = records;
        index.story = Story::of(records);
        index.erased = index.story.erased().collect();
        let erased = &index.erased;
        index.sessions.retain(|id, _| !erased.contains(id));
        index
    }

    fn add(&mut self, body: &'a Body, line: Line) {
        match body {
            Body::Run { seed, nodes, shards, sessions, .. } => {
                self.run = Some(Run { seed: *seed, nodes, shards: *shards, sessions: *sessions });
            }
            Body::Client { client, who } => {
                if let Who::Visitor(session) = who {
                    self.session(session, line);
                }
                self.clients.insert(*client, Client { who, connected: None });
            }
            Body::Invoke { op, client, what } => {
                let Some(by) = self.clients.get(client).map(|client| client.who.party()) else { return };
                let session = self.session(what.session(), line);
                let place = (session.id, session.ops.len());
                let end = End::Unknown { line: Line::NEVER };
                session.ops.push(Op { id: *op, client: *client, by, what, invoked: line, end });
                self.begun.insert(*op, place);
            }
            Body::Ok { op, result } => self.end(*op, line, End::Ok { line, reply: result.as_ref() }),
            Body::Fail { op, code } => self.end(*op, line, End::Failed { line, code }),
            Body::Unknown { op, .. } => self.end(*op, line, End::Unknown { line }),
            Body::Event { client, socket, event } => {
                let told = Told { line, client: *client, socket: *socket, event };
                self.session(&event.session, line).told.push(told);
            }
            Body::Cursor { client, session, by, received, read } => {
                let told = ToldCursor { line, client: *client, by, received: *received, read: *read };
                self.session(session, line).cursors.push(told);
            }
            Body::Connected { client, socket, .. } => self.connection(*client, Some(*socket), line),
            Body::Disconnected { client, .. } => self.connection(*client, None, line),
            Body::Final { node, session, events } => {
                self.session(session, line).finals.push(Final { line, node: *node, events });
            }
            // The state of the cluster: few lines, which their properties find themselves.
            Body::Hash { .. }
            | Body::Leader { .. }
            | Body::Serving { .. }
            | Body::Fault { .. }
            | Body::Healed { .. }
            | Body::Ready { .. }
            | Body::Broken { .. } => {}
        }
    }

    fn session(&mut self, id: &'a SessionId, line: Line) -> &mut Session<'a> {
        let session = self.sessions.entry(id).or_insert_with(|| Session::new(id));
        session.lines.push(line);
        session
    }

    fn end(&mut self, op: OpId, line: Line, end: End<'a>) {
        let Some((session, at)) = self.begun.get(&op).copied() else { return };
        self.session(session, line).ops[at].end = end;
    }

    pub fn op(&self, op: OpId) -> Option<&Op<'a>> {
        let (session, at) = self.begun.get(&op)?;
        Some(&self.sessions.get(session)?.ops[*at])
    }

    fn connection(&mut self, client: ClientId, socket: Option<Socket>, line: Line) {
        let Some(known) = self.clients.get_mut(&client) else { return };
        known.connected = socket;
        if let Who::Visitor(session) = known.who {
            self.session(session, line);
        }
    }
}
