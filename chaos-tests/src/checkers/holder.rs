//! Owns "there is an order of what was done to a session in which every answer is right": the model of who holds it. Does not
//! use the order of the seqs, only when events can have come to be (`assignment` uses it). Invariant: pure; sessions whose
//! search was given up are counted apart.

use std::collections::HashMap;
use std::rc::Rc;

use crate::checkers::findings::Findings;
use crate::checkers::index::{End, Index, Line, Message, Op, Session};
use crate::checkers::refusals::CODES;
use crate::checkers::talk::Holder;
use crate::checkers::wgl::{Answer, Effect, Model, Timed, search};
use crate::history::{AgentId, EventKind, Party, What};

pub const NAME: &str = "linearizable-holder";

/// An agent, by the order in which a session's history names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seat(pub usize);

/// Who has a session.
pub struct HolderModel;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No conversation is open.
    Idle,
    /// One is open and nobody has it.
    Waiting,
    Held(Seat),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub act: Act,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// The visitor's message that opened a conversation.
    Open,
    /// The desk gives it to an agent.
    Assign(Seat),
    /// An operator gives it to an agent.
    Move(Seat),
    AgentSend(Seat),
    AgentClose(Seat),
    /// By the visitor or the system.
    Close,
    /// It goes back to the desk.
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Refused,
    Unknown,
}

impl State {
    /// What the act makes of the state; `None` when it is refused. A close of what is not open is answered either way.
    pub fn after(self, act: Act) -> Option<State> {
        match (act, self) {
            (Act::Open, State::Idle) => Some(State::Waiting),
            (Act::Assign(seat), State::Waiting) => Some(State::Held(seat)),
            (Act::Move(seat), State::Waiting | State::Held(_)) => Some(State::Held(seat)),
            (Act::AgentSend(seat), State::Held(holder)) if seat == holder => Some(self),
            (Act::AgentClose(seat), State::Held(holder)) if seat == holder => Some(State::Idle),
            (Act::Release, State::Held(_)) => Some(State::Waiting),
            (Act::AgentClose(_), State::Idle) | (Act::Close, _) => Some(State::Idle),
            _ => None,
        }
    }

    /// Whether the act may be refused.
    pub fn refuses(self, act: Act) -> bool {
        self.after(act).is_none() || (self == State::Idle && matches!(act, Act::Close | Act::AgentClose(_)))
    }
}

impl Model for HolderModel {
    type State = State;
    type Call = Call;

    fn start(&self) -> State {
        State::Idle
    }

    fn step(&self, state: &State, call: &Call) -> Option<State> {
        match call.outcome {
            Outcome::Ok => state.after(call.act),
            Outcome::Refused => state.refuses(call.act).then_some(*state),
            Outcome::Unknown => Some(state.after(call.act).unwrap_or(*state)),
        }
    }

    fn is_read(&self, call: &Call) -> bool {
        call.outcome == Outcome::Refused || matches!(call.act, Act::AgentSend(_))
    }
}

/// A call of the history with the lines that tell of it.
struct Told {
    call: Call,
    invoked: Line,
    returned: Line,
    lines: [Line; 2],
}

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for session in index.sessions.values().filter(|session| session.has_final()) {
        check_session(session, index.limits.search_steps_max, &mut found);
    }
    found
}

fn check_session(session: &Session<'_>, steps_max: u64, found: &mut Findings) {
    let mut gather = Gather { session, seats: Vec::new(), calls: Vec::new() };
    session.ops.iter().for_each(|op| gather.add_op(op));
    session.messages.iter().for_each(|message| gather.add_message(message));
    if gather.calls.is_empty() {
        return;
    }
    gather.add_events();
    let Gather { mut calls, seats, .. } = gather;
    calls.sort_by_key(|one| (one.invoked, one.returned));
    let changes = Changes::of(session, &seats);
    let timed: Vec<_> = calls
        .iter()
        .map(|one| Timed {
            call: one.call,
            invoked: one.invoked.0,
            returned: (one.returned != Line::NEVER).then_some(one.returned.0),
            effect: changes.of_act(one.call.act),
        })
        .collect();
    match search(&HolderModel, &timed, steps_max) {
        Answer::Linearizable => found.count(),
        Answer::GaveUp => found.gave_up += 1,
        Answer::Not { stuck } => {
            found.count();
            let culprit = &calls[stuck];
            let mut lines = culprit.lines.to_vec();
            // What began last before its end: one of these is the other half of the contradiction.
            let nearby = calls.iter().rev().filter(|one| one.invoked <= culprit.returned);
            lines.extend(nearby.flat_map(|one| one.lines).filter(|line| line.is_real()).take(8));
            let text = format!("no order of what was done explains {}", describe(&culprit.call, &seats));
            found.breach(session, None, text, &lines);
        }
    }
}

/// When each act can have changed the holder: each change is an event of the final history.
struct Changes(HashMap<Act, Rc<[(usize, usize)]>>);

impl Changes {
    fn of(session: &Session<'_>, seats: &[&AgentId]) -> Changes {
        let mut times = HashMap::<Act, Vec<(usize, usize)>>::new();
        let seat = |agent: &AgentId| seats.iter().position(|known| *known == agent).map(Seat);
        for (at, event) in session.events.iter().enumerate() {
            let act = match &event.kind {
                EventKind::Assigned { agent } => seat(agent).map(Act::Move),
                EventKind::Closed { by: Party::Agent(agent) } => seat(agent).map(Act::AgentClose),
                EventKind::Closed { .. } => Some(Act::Close),
                _ => None,
            };
            if let Some(act) = act {
                let window = (session.timeline.earliest[at].0, session.timeline.latest[at].0);
                times.entry(act).or_default().push(window);
            }
        }
        Changes(times.into_iter().map(|(act, times)| (act, times.into())).collect())
    }

    fn of_act(&self, act: Act) -> Effect {
        match act {
            // Their own event is their time.
            Act::Open | Act::Assign(_) | Act::Release => Effect::Anytime,
            _ => Effect::Within(self.0.get(&act).cloned().unwrap_or_default()),
        }
    }
}

fn describe(call: &Call, seats: &[&AgentId]) -> String {
    let outcome = match call.outcome {
        Outcome::Ok => "acknowledged",
        Outcome::Refused => "refused",
        Outcome::Unknown => "without an answer",
    };
    match call.act {
        Act::Open => format!("a new conversation, {outcome}"),
        Act::Assign(seat) => format!("an assignment to agent {}, {outcome}", seats[seat.0]),
        Act::Move(seat) => format!("a move to agent {}, {outcome}", seats[seat.0]),
        Act::AgentSend(seat) => format!("a send of agent {}, {outcome}", seats[seat.0]),
        Act::AgentClose(seat) => format!("a close of agent {}, {outcome}", seats[seat.0]),
        Act::Close => format!("a close, {outcome}"),
        Act::Release => format!("that it waits again, {outcome}"),
    }
}

/// The calls of a session. Only those with a say are taken: what was neither answered nor had an effect is left out.
struct Gather<'s, 'a> {
    session: &'s Session<'a>,
    seats: Vec<&'s AgentId>,
    calls: Vec<Told>,
}

impl<'s> Gather<'s, '_> {
    fn seat(&mut self, agent: &'s AgentId) -> Seat {
        if let Some(at) = self.seats.iter().position(|known| *known == agent) {
            return Seat(at);
        }
        self.seats.push(agent);
        Seat(self.seats.len() - 1)
    }

    /// Closes, moves and refused sends.
    fn add_op(&mut self, op: &'s Op<'_>) {
        if self.session.saw_none_open(op) {
            return;
        }
        // Whether it did something is open: the conversation that it was for may have ended before.
        let is_open = self.session.may_be_over(op);
        let outcome = match op.end {
            End::Ok { .. } if is_open => Outcome::Unknown,
            End::Ok { .. } => Outcome::Ok,
            End::Failed { .. } if self.session.may_be_unseen(op) => return,
            End::Failed { code, .. } if CODES.contains(&code) => Outcome::Refused,
            End::Failed { .. } => return,
            End::Unknown { .. } => Outcome::Unknown,
        };
        let act = match (op.what, &op.by) {
            (What::Move { agent, .. }, _) => Act::Move(self.seat(agent)),
            (What::Close { .. }, Party::Agent(agent)) => Act::AgentClose(self.seat(agent)),
            (What::Close { .. }, _) => Act::Close,
            (What::Send { .. }, Party::Agent(agent)) if outcome == Outcome::Refused => Act::AgentSend(self.seat(agent)),
            _ => return,
        };
        let call = Call { act, outcome };
        let returned = if is_open { Line::NEVER } else { op.ended() };
        self.calls.push(Told { call, invoked: op.invoked, returned, lines: op.lines() });
    }

    /// An agent's message that took effect: once, whichever attempt did it, before anybody learnt of it.
    fn add_message(&mut self, message: &'s Message<'_>) {
        let Party::Agent(agent) = &message.by else { return };
        let attempts = message.attempts.iter().map(|at| &self.session.ops[*at]);
        let acked = attempts.clone().find_map(Op::acked).map_or(Line::NEVER, |(.., line)| line);
        let place = self.session.places(message.text).first().and_then(|seq| self.session.position(*seq));
        let returned = place.map_or(Line::NEVER, |at| self.session.timeline.latest[at]).min(acked);
        let Some(first) = attempts.into_iter().find(|op| !op.is_failed()) else { return };
        if returned == Line::NEVER || returned < first.invoked {
            return;
        }
        let call = Call { act: Act::AgentSend(self.seat(agent)), outcome: Outcome::Ok };
        self.calls.push(Told { call, invoked: first.invoked, returned, lines: [first.invoked, returned] });
    }

    /// What the system does without being asked, and the visitor's messages that open a conversation.
    fn add_events(&mut self) {
        let session = self.session;
        for one in &session.talk.conversations {
            if matches!(session.events[one.from].kind, EventKind::Message { from: Party::Visitor, .. }) {
                self.add_event(Act::Open, one.from);
            }
        }
        for span in &session.talk.spans {
            // What was taken from another agent was moved by an operation.
            if !matches!(session.talk.before[span.from], Holder::Held(_)) {
                let seat = self.seat(span.agent);
                self.add_event(Act::Assign(seat), span.from);
            }
        }
        for (at, event) in session.events.iter().enumerate() {
            match event.kind {
                EventKind::Closed { by: Party::System } => self.add_event(Act::Close, at),
                EventKind::Queued { .. } => self.add_event(Act::Release, at),
                _ => {}
            }
        }
    }

    fn add_event(&mut self, act: Act, at: usize) {
        let (earliest, returned) = (self.session.timeline.earliest[at], self.session.timeline.latest[at]);
        // A window that cannot be is a violation of the order of seqs, and no reason to see another one here.
        let invoked = if earliest < returned { earliest } else { Line::BEFORE_ALL };
        let call = Call { act, outcome: Outcome::Ok };
        self.calls.push(Told { call, invoked, returned, lines: [earliest, returned] });
    }
}
