//! Owns who held a session when, as its final history tells it. Does not judge: a history that cannot be is followed as far as
//! possible, and `assignment` names what is wrong. Invariant: pure; one pass over the events.

use crate::history::{AgentId, Event, EventKind, Party};

/// What a session is in between two events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Holder<'a> {
    /// No conversation is open.
    #[default]
    Idle,
    /// A conversation is open and nobody has it.
    Waiting,
    Held(&'a AgentId),
}

/// From an `assigned` to the event that takes the session away.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    pub agent: &'a AgentId,
    /// Position of the `assigned`.
    pub from: usize,
    /// Position of the `closed` or of the next `assigned`.
    pub to: Option<usize>,
    /// Position of the first event that the agent may be told: the conversation's first, or, when another agent had it
    /// before, the `assigned`.
    pub follows_from: usize,
}

/// Positions of the first event of a conversation and of the one that closes it.
#[derive(Debug, Clone, Copy)]
pub struct Conversation {
    pub from: usize,
    pub to: Option<usize>,
}

#[derive(Default)]
pub struct Talk<'a> {
    /// The first event for whoever gets the conversation that waits again.
    again_from: Option<usize>,
    /// The holder just before each event.
    pub before: Vec<Holder<'a>>,
    /// After the last one.
    pub last: Holder<'a>,
    pub spans: Vec<Span<'a>>,
    pub conversations: Vec<Conversation>,
}

impl<'a> Talk<'a> {
    pub fn of(events: &'a [Event]) -> Talk<'a> {
        let mut talk = Talk::default();
        for (at, event) in events.iter().enumerate() {
            talk.before.push(talk.last);
            talk.follow(at, event);
        }
        talk
    }

    fn follow(&mut self, at: usize, event: &'a Event) {
        let opens =
            matches!(event.kind, EventKind::Message { .. } | EventKind::Assigned { .. } | EventKind::Queued { .. });
        if self.last == Holder::Idle && opens {
            self.conversations.push(Conversation { from: at, to: None });
        }
        self.last = match &event.kind {
            EventKind::Message { from: Party::Visitor, .. } if self.last == Holder::Idle => Holder::Waiting,
            EventKind::Message { .. }
            | EventKind::Act { .. }
            | EventKind::Hidden
            | EventKind::Gone
            | EventKind::Erased { .. }
            | EventKind::Other => self.last,
            EventKind::Assigned { agent } => {
                let is_moved = self.end_span(at);
                let begun = self.conversations.last().map_or(at, |conversation| conversation.from);
                let first = self.again_from.take().unwrap_or(begun);
                self.spans.push(Span { agent, from: at, to: None, follows_from: if is_moved { at } else { first } });
                Holder::Held(agent)
            }
            EventKind::Queued { .. } => {
                self.end_span(at);
                self.again_from = Some(at + 1);
                Holder::Waiting
            }
            EventKind::Closed { .. } => {
                self.end_span(at);
                self.again_from = None;
                if let Some(open) = self.conversations.last_mut().filter(|open| open.to.is_none()) {
                    open.to = Some(at);
                }
                Holder::Idle
            }
        };
    }

    /// True when somebody held it until now.
    fn end_span(&mut self, at: usize) -> bool {
        let Holder::Held(_) = self.last else { return false };
        let Some(span) = self.spans.last_mut() else { return false };
        span.to = Some(at);
        true
    }

    /// The position of the `assigned` that gave a held session to somebody else, for each time that happened.
    pub fn moves(&self) -> impl Iterator<Item = &Span<'a>> {
        self.spans.iter().filter(|span| matches!(self.before[span.from], Holder::Held(_)))
    }
}
