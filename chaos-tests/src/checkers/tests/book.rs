//! Owns a short way to write histories by hand: two nodes, one session `s`, its visitor (clients 1 and 2), the agents `a`
//! (client 3) and `b` (client 4), and an operator (client 5). Does not judge.

use crate::checkers::check_all;
use crate::checkers::verdict::Verdict;
use crate::history::*;

pub const VISITOR: u64 = 1;
pub const TAB: u64 = 2;
pub const A: u64 = 3;
pub const B: u64 = 4;
pub const OPERATOR: u64 = 5;

#[derive(Clone)]
pub struct Book {
    pub lines: Vec<Record>,
    ops: u64,
}

pub fn session() -> SessionId {
    SessionId::from("s")
}

fn event(seq: u64, kind: EventKind) -> Event {
    Event { session: session(), seq: Seq(seq), ts: seq, kind }
}

pub fn visitor(seq: u64, text: &str) -> Event {
    event(seq, EventKind::Message { from: Party::Visitor, text: text.into() })
}

pub fn agent(seq: u64, from: &str, text: &str) -> Event {
    event(seq, EventKind::Message { from: Party::Agent(AgentId::from(from)), text: text.into() })
}

pub fn assigned(seq: u64, agent: &str) -> Event {
    event(seq, EventKind::Assigned { agent: AgentId::from(agent) })
}

pub fn closed(seq: u64, by: &str) -> Event {
    event(seq, EventKind::Closed { by: Party::from(std::sync::Arc::from(by)) })
}

pub fn close() -> What {
    What::Close { session: session(), seen: None }
}

pub fn close_seen(seen: u64) -> What {
    What::Close { session: session(), seen: Some(seen) }
}

pub fn history(after: u64, limit: u64) -> What {
    What::History { session: session(), after, limit }
}

pub fn to_agent(agent: &str) -> What {
    What::Move { session: session(), agent: AgentId::from(agent) }
}

pub fn send(n: u64, text: &str) -> What {
    What::Send { session: session(), device: DeviceId::from("d"), n, text: text.into() }
}

pub fn page(events: &[Event], head: u64) -> Option<Reply> {
    Some(Reply::History { events: events.to_vec(), head })
}

impl Book {
    pub fn new() -> Book {
        let mut book = Book { lines: Vec::new(), ops: 0 };
        let nodes = vec![NodeId(1), NodeId(2)];
        book.note(Body::Run { seed: 7, nodes, shards: 1, sessions: 1, kind: RunKind::Sim });
        let agent = |name| Who::Agent(AgentId::from(name));
        let all = [Who::Visitor(session()), Who::Visitor(session()), agent("a"), agent("b"), Who::Operator];
        for (client, who) in (1..).map(ClientId).zip(all) {
            book.note(Body::Client { client, who });
        }
        book
    }

    pub fn note(&mut self, body: Body) -> &mut Book {
        self.lines.push(Record { t: self.lines.len() as u64, body });
        self
    }

    pub fn invoke(&mut self, client: u64, what: What) -> u64 {
        self.ops += 1;
        self.note(Body::Invoke { op: OpId(self.ops), client: ClientId(client), what });
        self.ops
    }

    pub fn ok(&mut self, op: u64, result: Option<Reply>) -> &mut Book {
        self.note(Body::Ok { op: OpId(op), result })
    }

    pub fn acked(&mut self, op: u64, seq: u64) -> &mut Book {
        self.ok(op, Some(Reply::Sent { seq: Seq(seq), ts: seq, dup: false }))
    }

    pub fn fail(&mut self, op: u64, code: &str) -> &mut Book {
        self.note(Body::Fail { op: OpId(op), code: code.to_owned() })
    }

    pub fn unknown(&mut self, op: u64) -> &mut Book {
        self.note(Body::Unknown { op: OpId(op), why: "time out".to_owned() })
    }

    /// A send with its ack.
    pub fn sent(&mut self, client: u64, n: u64, text: &str, seq: u64) -> &mut Book {
        let op = self.invoke(client, send(n, text));
        self.acked(op, seq)
    }

    /// An operation that is acknowledged at once.
    pub fn did(&mut self, client: u64, what: What, result: Option<Reply>) -> &mut Book {
        let op = self.invoke(client, what);
        self.ok(op, result)
    }

    /// An operation that is refused at once.
    pub fn refused(&mut self, client: u64, what: What, code: &str) -> &mut Book {
        let op = self.invoke(client, what);
        self.fail(op, code)
    }

    pub fn told(&mut self, client: u64, socket: u64, events: &[Event]) -> &mut Book {
        for event in events {
            self.note(Body::Event { client: ClientId(client), socket: Socket(socket), event: event.clone() });
        }
        self
    }

    pub fn connected(&mut self, client: u64, socket: u64) -> &mut Book {
        self.note(Body::Connected { client: ClientId(client), socket: Socket(socket), node: NodeId(1) })
    }

    pub fn disconnected(&mut self, client: u64, socket: u64) -> &mut Book {
        self.note(Body::Disconnected { client: ClientId(client), socket: Socket(socket), node: NodeId(1) })
    }

    pub fn final_of(&mut self, node: u64, events: &[Event]) -> &mut Book {
        self.note(Body::Final { node: NodeId(node), session: session(), events: events.to_vec() })
    }

    /// The same final history of both nodes.
    pub fn finals(&mut self, events: &[Event]) -> &mut Book {
        self.final_of(1, events).final_of(2, events)
    }

    pub fn verdict(&self) -> Verdict {
        check_all(&self.lines)
    }

    pub fn passes(&self) {
        let verdict = self.verdict();
        assert_eq!(verdict.broken(), Vec::<&str>::new(), "{verdict}");
    }

    /// That the property is among those that are broken.
    pub fn breaks(&self, property: &str) {
        let verdict = self.verdict();
        assert!(verdict.broken().contains(&property), "{property} passed:\n{verdict}");
    }
}
