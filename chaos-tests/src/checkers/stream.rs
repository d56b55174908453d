//! Owns "a subscriber is told every event once, in order, and nothing else". Does not ask whether it was told the last ones
//! (`caught_up`). Invariant: pure.
//!
//! A visitor follows its session from seq 1 for ever. An agent's part begins at the first event of a conversation that is
//! then assigned to it, or at the `assigned` that moves one to it; it ends with `closed` or an `assigned` to somebody else.
//! Only a part that ended while no socket was open may lack its end.

use std::collections::BTreeMap;

use crate::checkers::findings::Findings;
use crate::checkers::index::{Client, Index, Line, Session, Told};
use crate::history::{AgentId, ClientId, EventKind, Seq, Socket, Who};

pub const NAME: &str = "stream";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    for session in index.sessions.values().filter(|session| session.has_final()) {
        for (client, told) in by_client(session) {
            let Some(client) = index.clients.get(&client) else { continue };
            let mut stream = Stream { session, client, before: None };
            for one in told {
                found.count();
                if let Err(text) = stream.tell(one) {
                    let before = stream.before.map_or(Line::NEVER, |(_, line, _)| line);
                    found.breach(session, Some(one.event.seq), text, &[before, one.line, session.final_line]);
                }
                stream.before = Some((one.event.seq, one.line, one.socket));
            }
        }
    }
    found
}

/// What each client was told of a session, in order.
pub(super) fn by_client<'s, 'a>(session: &'s Session<'a>) -> BTreeMap<ClientId, Vec<&'s Told<'a>>> {
    let mut clients = BTreeMap::<ClientId, Vec<_>>::new();
    for told in &session.told {
        clients.entry(told.client).or_default().push(told);
    }
    clients
}

struct Stream<'s, 'a> {
    session: &'s Session<'a>,
    client: &'s Client<'a>,
    before: Option<(Seq, Line, Socket)>,
}

impl Stream<'_, '_> {
    fn tell(&self, told: &Told<'_>) -> Result<(), String> {
        let event = told.event;
        let seq = event.seq;
        let Some(at) = self.session.position(seq) else {
            return Err(format!("client {} was told seq {seq}, which is not stored", told.client));
        };
        if self.session.events[at] != *event {
            return Err(format!("client {} was told another seq {seq} than is stored", told.client));
        }
        let Some((before, _, socket)) = self.before else {
            return match self.client.who {
                Who::Visitor(_) if seq == Seq(1) => Ok(()),
                Who::Agent(agent) if begins_part(self.session, agent, at) => Ok(()),
                _ => Err(format!("client {} begins at seq {seq}", told.client)),
            };
        };
        if told.socket < socket {
            return Err(format!("client {} was told seq {seq} on a socket that it had left", told.client));
        }
        if seq <= before {
            return Err(format!("client {} was told seq {seq} after {before}", told.client));
        }
        match self.client.who {
            Who::Agent(agent) => self.tell_agent(agent, told, at, before, socket),
            _ if seq.0 == before.0 + 1 => Ok(()),
            _ => Err(format!("client {} was told seq {seq} after {before}", told.client)),
        }
    }

    fn tell_agent(
        &self,
        agent: &AgentId,
        told: &Told<'_>,
        at: usize,
        before: Seq,
        socket: Socket,
    ) -> Result<(), String> {
        let (seq, client) = (told.event.seq, told.client);
        // What was told before need not be stored; that is a violation of its own.
        let Some(last) = self.session.position(before) else { return Ok(()) };
        let has_ended = ends_part(self.session, agent, last);
        if !has_ended && at == last + 1 {
            return Ok(());
        }
        if !begins_part(self.session, agent, at) {
            return Err(match has_ended {
                true => format!("agent {agent}'s client {client} was told seq {seq}; its part had ended with {before}"),
                false => format!("agent {agent}'s client {client} was told seq {seq} after {before}"),
            });
        }
        let may_skip_end = told.socket != socket && (last + 1..at).any(|at| ends_part(self.session, agent, at));
        if has_ended || may_skip_end {
            return Ok(());
        }
        Err(format!("agent {agent}'s client {client} was told seq {seq} after {before}, and not how that part ended"))
    }
}

/// Whether an agent's part may begin with the event at this position.
pub(super) fn begins_part(session: &Session<'_>, agent: &AgentId, at: usize) -> bool {
    let spans = &session.talk.spans;
    // Ascending, and not equal for two parts.
    let near = spans.partition_point(|span| span.follows_from < at);
    let first = spans.get(near).is_some_and(|span| span.follows_from == at && span.agent == agent);
    let near = spans.partition_point(|span| span.from < at);
    first || spans.get(near).is_some_and(|span| span.from == at && span.agent == agent)
}

/// Whether the event at this position ends an agent's part.
pub(super) fn ends_part(session: &Session<'_>, agent: &AgentId, at: usize) -> bool {
    match &session.events[at].kind {
        EventKind::Closed { .. } | EventKind::Queued { .. } => true,
        EventKind::Assigned { agent: to } => to != agent,
        _ => false,
    }
}
