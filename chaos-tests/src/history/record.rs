//! Owns the shape of every line of `history.jsonl` (FORMAT.md). Does not read or write files.
//! Invariant: a field that is not known is refused, so that a checker never passes over what it does not understand.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

macro_rules! name {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Arc<str>);

        impl From<&str> for $name {
            fn from(name: &str) -> $name {
                $name(name.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

number! {
    /// An operation of a client, unique in the run.
    OpId,
    /// A program that a person uses; a person may have several.
    ClientId,
    /// The count of a client's connections.
    Socket,
    NodeId,
    ShardId,
    /// One leadership of one shard.
    Epoch,
    FaultId,
    /// Place of an event in its session, from 1.
    Seq,
    /// Log index that a replica's state has reached.
    Applied,
}

name! {
    SessionId,
    AgentId,
    /// One client's store of unsent messages.
    DeviceId,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Microseconds since the run began, on one monotonic clock.
    pub t: u64,
    #[serde(flatten)]
    pub body: Body,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "k", rename_all = "snake_case", deny_unknown_fields)]
pub enum Body {
    /// The first line.
    Run {
        seed: u64,
        nodes: Vec<NodeId>,
        shards: u32,
        sessions: u64,
        kind: RunKind,
    },
    Client {
        client: ClientId,
        who: Who,
    },
    Invoke {
        op: OpId,
        client: ClientId,
        what: What,
    },
    Ok {
        op: OpId,
        result: Option<Reply>,
    },
    Fail {
        op: OpId,
        code: String,
    },
    Unknown {
        op: OpId,
        why: String,
    },
    Event {
        client: ClientId,
        socket: Socket,
        event: Event,
    },
    Cursor {
        client: ClientId,
        session: SessionId,
        by: Party,
        received: u64,
        read: u64,
    },
    Connected {
        client: ClientId,
        socket: Socket,
        node: NodeId,
    },
    Disconnected {
        client: ClientId,
        socket: Socket,
        node: NodeId,
    },
    Final {
        node: NodeId,
        session: SessionId,
        events: Vec<Event>,
    },
    Hash {
        node: NodeId,
        shard: ShardId,
        applied: Applied,
        hash: String,
    },
    Leader {
        shard: ShardId,
        node: Option<NodeId>,
        epoch: Epoch,
    },
    Serving {
        node: NodeId,
        shard: ShardId,
        epoch: Epoch,
    },
    Fault {
        fault: FaultId,
        kind: String,
        nodes: Vec<NodeId>,
        note: String,
    },
    Healed {
        fault: FaultId,
    },
    /// A client noticed by itself that a node broke the protocol: an event twice, a gap, two seqs for one send.
    Broken {
        client: ClientId,
        what: String,
    },
    /// `since`: microseconds from the last heal until all shards served again.
    Ready {
        since: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Real processes.
    Chaos,
    /// One process with simulated time.
    Sim,
}

/// Whose client it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    Visitor(SessionId),
    Agent(AgentId),
    /// Moves conversations from outside.
    Operator,
}

/// Who speaks in a session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Arc<str>", into = "Arc<str>")]
pub enum Party {
    Visitor,
    Agent(AgentId),
    System,
}

impl From<Arc<str>> for Party {
    fn from(name: Arc<str>) -> Party {
        match &*name {
            "visitor" => Party::Visitor,
            "system" => Party::System,
            _ => Party::Agent(AgentId(name)),
        }
    }
}

impl From<Party> for Arc<str> {
    fn from(party: Party) -> Arc<str> {
        match party {
            Party::Visitor => "visitor".into(),
            Party::System => "system".into(),
            Party::Agent(agent) => agent.0,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::Visitor => f.write_str("the visitor"),
            Party::System => f.write_str("the system"),
            Party::Agent(agent) => write!(f, "agent {agent}"),
        }
    }
}

impl Who {
    /// The party as which this client speaks; an operator speaks for the system.
    pub fn party(&self) -> Party {
        match self {
            Who::Visitor(_) => Party::Visitor,
            Who::Agent(agent) => Party::Agent(agent.clone()),
            Who::Operator => Party::System,
        }
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// The text is unique in the run; it is the same in every repetition of a send.
    Send {
        session: SessionId,
        device: DeviceId,
        n: u64,
        text: Arc<str>,
    },
    /// `seen`: the last event that the client had; a conversation that began later must stay open.
    Close {
        session: SessionId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<u64>,
    },
    Cursor {
        session: SessionId,
        received: Option<u64>,
        read: Option<u64>,
    },
    History {
        session: SessionId,
        after: u64,
        limit: u64,
    },
    Move {
        session: SessionId,
        agent: AgentId,
    },
    /// Something beside writing, under the device's own count of sends.
    Act {
        session: SessionId,
        device: DeviceId,
        n: u64,
        act: Act,
    },
    /// All that was said goes, and all that is known of the visitor.
    Erase {
        session: SessionId,
    },
}

/// What is done beside writing. Texts are unique in the run, and a party reacts to a message and takes one back once at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    /// The text is empty once the message was taken back.
    Edit {
        of: Seq,
        text: Arc<str>,
    },
    Recall {
        of: Seq,
    },
    React {
        of: Seq,
        emoji: Arc<str>,
    },
    Note {
        text: Arc<str>,
    },
    Label {
        label: Arc<str>,
        on: bool,
    },
}

impl Act {
    /// Whether visitors see no more of it than its place.
    pub fn is_internal(&self) -> bool {
        matches!(self, Act::Note { .. } | Act::Label { .. })
    }
}

impl What {
    pub fn session(&self) -> &SessionId {
        match self {
            What::Send { session, .. }
            | What::Close { session, .. }
            | What::Cursor { session, .. }
            | What::History { session, .. }
            | What::Move { session, .. }
            | What::Act { session, .. }
            | What::Erase { session } => session,
        }
    }
}

/// The answer to an operation that was acknowledged; `close` and `move` have none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Reply {
    Sent { seq: Seq, ts: u64, dup: bool },
    Cursor { received: u64, read: u64 },
    History { events: Vec<Event>, head: u64 },
}

/// A numbered entry of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub session: SessionId,
    pub seq: Seq,
    /// Milliseconds on the clock of the shard's leader.
    pub ts: u64,
    pub kind: EventKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EventKind {
    Message {
        from: Party,
        text: Arc<str>,
    },
    Assigned {
        agent: AgentId,
    },
    Closed {
        by: Party,
    },
    /// It waits for an agent again.
    Queued {
        by: Party,
    },
    Act {
        from: Party,
        act: Act,
    },
    /// Something that is between agents.
    Hidden,
    /// Something that was erased.
    Gone,
    Erased {
        upto: Seq,
    },
    /// What the people of a recorded talk do not do.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[&str] = &[
        r#"{"t":0,"k":"run","seed":7,"nodes":[1,2,3],"shards":4,"sessions":20,"kind":"sim"}"#,
        r#"{"t":1,"k":"client","client":1,"who":{"visitor":"s1"}}"#,
        r#"{"t":1,"k":"client","client":2,"who":{"agent":"a1"}}"#,
        r#"{"t":1,"k":"client","client":3,"who":"operator"}"#,
        r#"{"t":2,"k":"invoke","op":1,"client":1,"what":{"send":{"session":"s1","device":"d","n":1,"text":"x"}}}"#,
        r#"{"t":2,"k":"invoke","op":2,"client":1,"what":{"close":{"session":"s1"}}}"#,
        r#"{"t":2,"k":"invoke","op":2,"client":1,"what":{"close":{"session":"s1","seen":4}}}"#,
        r#"{"t":2,"k":"invoke","op":3,"client":1,"what":{"cursor":{"session":"s1","received":3,"read":null}}}"#,
        r#"{"t":2,"k":"invoke","op":4,"client":1,"what":{"history":{"session":"s1","after":0,"limit":200}}}"#,
        r#"{"t":2,"k":"invoke","op":5,"client":3,"what":{"move":{"session":"s1","agent":"a2"}}}"#,
        r#"{"t":2,"k":"invoke","op":6,"client":1,"what":{"act":{"session":"s1","device":"d","n":2,"act":{"edit":{"of":1,"text":"y"}}}}}"#,
        r#"{"t":2,"k":"invoke","op":7,"client":2,"what":{"act":{"session":"s1","device":"d","n":2,"act":{"label":{"label":"l","on":true}}}}}"#,
        r#"{"t":2,"k":"invoke","op":8,"client":3,"what":{"erase":{"session":"s1"}}}"#,
        r#"{"t":3,"k":"ok","op":1,"result":{"seq":1,"ts":9,"dup":false}}"#,
        r#"{"t":3,"k":"ok","op":2,"result":null}"#,
        r#"{"t":3,"k":"ok","op":3,"result":{"received":3,"read":0}}"#,
        r#"{"t":3,"k":"ok","op":4,"result":{"events":[],"head":0}}"#,
        r#"{"t":3,"k":"fail","op":5,"code":"closed"}"#,
        r#"{"t":3,"k":"unknown","op":6,"why":"time out"}"#,
        r#"{"t":4,"k":"event","client":1,"socket":1,"event":{"session":"s1","seq":1,"ts":9,"kind":{"message":{"from":"visitor","text":"x"}}}}"#,
        r#"{"t":4,"k":"event","client":1,"socket":1,"event":{"session":"s1","seq":2,"ts":9,"kind":{"assigned":{"agent":"a1"}}}}"#,
        r#"{"t":4,"k":"event","client":1,"socket":1,"event":{"session":"s1","seq":3,"ts":9,"kind":{"closed":{"by":"system"}}}}"#,
        r#"{"t":4,"k":"event","client":1,"socket":1,"event":{"session":"s1","seq":4,"ts":9,"kind":{"act":{"from":"visitor","act":{"recall":{"of":1}}}}}}"#,
        r#"{"t":4,"k":"event","client":1,"socket":1,"event":{"session":"s1","seq":5,"ts":9,"kind":"hidden"}}"#,
        r#"{"t":4,"k":"event","client":1,"socket":1,"event":{"session":"s1","seq":6,"ts":9,"kind":{"erased":{"upto":5}}}}"#,
        r#"{"t":5,"k":"cursor","client":1,"session":"s1","by":"a1","received":2,"read":1}"#,
        r#"{"t":5,"k":"connected","client":1,"socket":1,"node":2}"#,
        r#"{"t":5,"k":"disconnected","client":1,"socket":1,"node":2}"#,
        r#"{"t":6,"k":"final","node":1,"session":"s1","events":[]}"#,
        r#"{"t":6,"k":"hash","node":1,"shard":1,"applied":77,"hash":"00ff"}"#,
        r#"{"t":6,"k":"leader","shard":1,"node":null,"epoch":3}"#,
        r#"{"t":6,"k":"serving","node":1,"shard":1,"epoch":4}"#,
        r#"{"t":7,"k":"fault","fault":1,"kind":"kill","nodes":[1],"note":""}"#,
        r#"{"t":8,"k":"healed","fault":1}"#,
        r#"{"t":8,"k":"broken","client":1,"what":"a gap"}"#,
        r#"{"t":9,"k":"ready","since":1000}"#,
    ];

    #[test]
    fn every_kind_of_line_is_read_and_written_back_the_same() {
        for line in LINES {
            let record: Record = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(&serde_json::to_string(&record).expect("plain data"), line);
        }
    }

    #[test]
    fn an_unknown_field_is_refused_wherever_it_stands() {
        for line in LINES {
            let outer = line.replacen('{', r#"{"surprise":1,"#, 1);
            assert!(serde_json::from_str::<Record>(&outer).is_err(), "{outer}");
        }
        for inner in [r#""result":{"#, r#""event":{"#, r#""send":{"#, r#""message":{"#, r#""close":{"#, r#""edit":{"#] {
            let line = LINES.iter().find(|line| line.contains(inner)).expect("there is one of each");
            let line = line.replacen(inner, &format!(r#"{inner}"surprise":1,"#), 1);
            assert!(serde_json::from_str::<Record>(&line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_missing_field_is_refused() {
        assert!(serde_json::from_str::<Record>(r#"{"t":9,"k":"ready"}"#).is_err());
        assert!(serde_json::from_str::<Record>(r#"{"k":"ready","since":1}"#).is_err());
    }
}
