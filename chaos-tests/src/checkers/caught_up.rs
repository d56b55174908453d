//! Owns "whoever is connected at the end has been told everything". Does not judge the order (`stream`). Invariant: pure.

use std::collections::BTreeMap;

use crate::checkers::findings::Findings;
use crate::checkers::index::{Client, Index, Line, Session, Told};
use crate::checkers::stream::{by_client, ends_part};
use crate::checkers::talk::Holder;
use crate::history::{AgentId, ClientId, Seq, Socket, Who};

pub const NAME: &str = "caught-up";

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of(NAME);
    let mut connected = BTreeMap::<&Who, Vec<(ClientId, Socket)>>::new();
    for (id, client) in &index.clients {
        if let Some(socket) = client.connected {
            connected.entry(client.who).or_default().push((*id, socket));
        }
    }
    for session in index.sessions.values().filter(|session| session.has_final()) {
        let told = by_client(session);
        let mut due: Vec<(ClientId, usize)> = Vec::new();
        let holder = if let Holder::Held(agent) = session.talk.last { Some(Who::Agent(agent.clone())) } else { None };
        for who in [Some(Who::Visitor(session.id.clone())), holder].iter().flatten() {
            due.extend(connected.get(who).into_iter().flatten().map(|(id, _)| (*id, session.events.len())));
        }
        for (id, told) in &told {
            let Some(Client { who: Who::Agent(agent), connected: Some(socket) }) = index.clients.get(id) else {
                continue;
            };
            if session.talk.last != Holder::Held(agent) {
                due.extend(end_of_part(session, agent, *socket, told).map(|end| (*id, end)));
            }
        }
        for (client, due) in due {
            found.count();
            check_reached(session, client, told.get(&client).and_then(|told| told.last()), due, &mut found);
        }
    }
    found
}

/// How many events an agent that no longer holds the session is due, when it was told part of them on the socket that is
/// open. What it may no longer read since it came back is not told to it.
fn end_of_part(session: &Session<'_>, agent: &AgentId, socket: Socket, told: &[&Told<'_>]) -> Option<usize> {
    let last = told.last().filter(|last| last.socket == socket)?;
    let at = session.position(last.event.seq)?;
    if ends_part(session, agent, at) {
        return None;
    }
    (at + 1..session.events.len()).find(|at| ends_part(session, agent, *at)).map(|end| end + 1)
}

/// That a client was told the event before position `due`.
fn check_reached(session: &Session<'_>, client: ClientId, last: Option<&&Told<'_>>, due: usize, found: &mut Findings) {
    let Some(event) = due.checked_sub(1).map(|at| &session.events[at]) else { return };
    let reached = last.map_or(Seq(0), |told| told.event.seq);
    if reached < event.seq {
        let text = format!("client {client} is connected and was told {reached} of {}", event.seq);
        let shown = session.timeline.shown[due - 1];
        let lines = [last.map_or(Line::NEVER, |told| told.line), shown, session.final_line];
        found.breach(session, Some(event.seq), text, &lines);
    }
}
