//! Owns what a data shard logs: its commands, and the events they become. Those of the meta group are in `meta`.
//! Does not know how they are applied. Invariant: enums grow only at their end, structs never change.

use crate::act::{Act, Prompt};
use crate::archive::ArchiveChange;
use crate::attachment::{Attachment, Variant};
use crate::audit::AuditAct;
use crate::desk::{About, Ask, SeatRules, SeatState, SiteRules, TeamRules};
use crate::email::EmailChange;
use crate::ids::{AgentId, AttachmentId, SessionId, ShardId, SiteId, TeamId, VisitorId, WebhookId};
use crate::shelf::ItemKind;
use crate::webhook::WebhookChange;
use bincode::{Decode, Encode};

pub use crate::meta::{
    AgentRole, IdentityMode, MetaBatch, MetaCommand, NodeAddress, NodeState, OnceAnswer, OnceState, Role, SiteChange,
};
pub use crate::target::Target;

/// SHA-256 of a token; tokens themselves are never stored.
pub type TokenHash = [u8; 32];

/// Bytes that do not show up in logs.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct SecretBytes(pub Vec<u8>);

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// One raft entry of a data shard: what arrived while the last round was under way.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Batch {
    /// The leader's clock when it proposed, milliseconds since 1970. Apply never lets it go back.
    pub now_ms: u64,
    pub commands: Vec<Command>,
}

/// Who speaks or acts in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Party {
    Visitor,
    Agent(AgentId),
    System,
}

/// What a data shard's replicas apply. A command that names a session is proposed only to that session's shard.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// A new visitor's session. Idempotent for the same token hash.
    OpenSession { session: SessionId, site: SiteId, visitor: VisitorId, token: TokenHash },
    /// A message. `n` is the device's own count of its sends in this session from 1; 0: not numbered, deduped by `cid`.
    /// `reply_to`: the seq of the message that it answers. `attachments`: finished uploads of the sender, none of them sent before.
    Send {
        session: SessionId,
        from: Party,
        device: String,
        n: u64,
        cid: String,
        text: String,
        reply_to: Option<u64>,
        attachments: Vec<AttachmentId>,
    },
    /// How far a party has received and read. Never goes back.
    Cursor { session: SessionId, party: Party, received: u64, read: u64 },
    /// Ends the open conversation. Idempotent.
    Close { session: SessionId, by: Party },
    /// A login: creates the agent's row when it is new, and adds the token.
    AgentLogin { agent: AgentId, site: SiteId, name: String, token: TokenHash },
    /// Sets whether the agent has an open socket.
    AgentPresence { agent: AgentId, online: bool },
    /// A message from another actor, out of the outbox of shard `from`; `seq` counts per pair of shards from 1.
    Inbox { from: ShardId, seq: u64, message: Mail },
    /// The target has applied every mail up to `upto`: their outbox rows go.
    OutboxAcked { to: ShardId, upto: u64 },
    /// The version in force for this shard from here on; never back.
    SetShardVersion { version: u16 },
    /// An operator gives the open conversation to this agent of the same site, whoever had it. Idempotent.
    Reassign { session: SessionId, agent: AgentId },
    /// As `Close`, for the conversation that is open after event `seen`; never a later one, however late this is or how often it comes.
    /// `reason`: as an agent says; may be empty.
    CloseSeen { session: SessionId, by: Party, seen: u64, reason: String },
    /// As `Reassign`, unless something became of the conversation after event `seen`.
    ReassignSeen { session: SessionId, agent: AgentId, seen: u64 },
    /// Sets the rules of a team of the site; `None`: its conversations go where the routes say, and it is no more.
    PutTeam { site: SiteId, team: TeamId, rules: Option<TeamRules> },
    /// Sets the rules of an agent's seat.
    PutSeat { site: SiteId, agent: AgentId, rules: SeatRules },
    /// Sets the rules of the site.
    PutSite { site: SiteId, rules: SiteRules },
    /// The agent accepts the offer of that number; a later offer of the same conversation is another. Idempotent.
    Accept { site: SiteId, agent: AgentId, session: SessionId, offer: u64 },
    /// The agent does not take what it was offered. Idempotent.
    Decline { site: SiteId, agent: AgentId, session: SessionId, offer: u64 },
    /// The agent takes a conversation out of the queue. Idempotent.
    Take { site: SiteId, agent: AgentId, session: SessionId, conversation: u64 },
    /// Whether the agent takes conversations, as the person says. What its sockets say is `AgentPresence`.
    AgentState { agent: AgentId, state: SeatState },
    /// Does what is due by the time of the log. The leader proposes it when something is.
    Tick,
    /// What is known of the visitor: for routes, and for whoever answers. Takes the place of what was known before.
    About { session: SessionId, about: About },
    /// The open conversation goes back to the desk, for that team or whichever it was for, unless something became of it after
    /// event `seen`.
    Release { session: SessionId, by: Party, seen: u64, team: Option<TeamId> },
    /// The agent who has the conversation gives it to another of the site who has room. Idempotent.
    /// `part`: as the session counted when it was looked at.
    Hand { site: SiteId, agent: AgentId, session: SessionId, conversation: u64, part: u64, to: AgentId },
    /// As `Send`, of what is not a message: both share a device's count. `site`: an agent's own.
    Act { session: SessionId, site: Option<SiteId>, from: Party, device: String, n: u64, cid: String, act: Act },
    /// What the site's hours say now, by the leader's calendar: open, or closed until then in milliseconds since 1970; 0: nobody knows
    /// until when.
    Hours { site: SiteId, closed: Option<u64> },
    /// The agent has seen to a mention. Idempotent.
    Dismiss { agent: AgentId, session: SessionId, seq: u64 },
    /// What becomes of a webhook in the shard that this is proposed to.
    Webhook { webhook: WebhookId, change: WebhookChange },
    /// Puts something on the site's shelf, or takes it off. Idempotent.
    Shelve { site: SiteId, kind: ItemKind, name: String, text: Option<String> },
    /// Nothing that the visitor sends is taken until then, milliseconds since 1970; `None`: it is taken again. Idempotent.
    Block { session: SessionId, until_ms: Option<u64> },
    /// A send that the visitor's node does not let through. It uses its number, and is answered so for ever.
    Bar { session: SessionId, from: Party, device: String, n: u64, cid: String },
    /// What happened up to `upto` is gone, but for its places. `forget`: with all that is known of the visitor; refused while a
    /// conversation is open. Idempotent.
    Erase { session: SessionId, upto: u64, forget: bool },
    /// As `OpenSession`, of a visitor who proved who they are: the proof opens it once, and again only for a moment or with the same
    /// token. `until_ms`: the proof is good no longer than that, milliseconds since 1970.
    Identify { session: SessionId, site: SiteId, visitor: VisitorId, token: TokenHash, proof: TokenHash, until_ms: u64 },
    /// The visitor's token is good no longer. Idempotent.
    Logout { session: SessionId, token: TokenHash },
    /// The visitor with this token has said who they are: `into` is their session from now on.
    Merge { session: SessionId, token: TokenHash, into: SessionId },
    /// Puts an act at the end of the site's audit chain; site 0: of the operators'. Idempotent for a while, by the number of the act.
    Audit { site: SiteId, act: Box<AuditAct> },
    /// A piece of a file that is uploaded: the first one that comes begins the upload. Idempotent.
    AttachmentChunk {
        session: SessionId,
        attachment: AttachmentId,
        by: Party,
        variant: Variant,
        number: u32,
        bytes: SecretBytes,
    },
    /// All pieces are there: from now on a message can name the attachment. `source`, `sha256`: of what was uploaded and of what is kept.
    /// Idempotent.
    AttachmentDone { session: SessionId, by: Party, attachment: Attachment, source: TokenHash, sha256: TokenHash },
    /// A trigger speaks to the visitor, unless it has said so before, or somebody talks with them. Idempotent: see `Again`.
    Prompt { session: SessionId, site: SiteId, prompt: Box<Prompt> },
    /// What became of a session's old events in the archive.
    Archive { session: SessionId, change: Box<ArchiveChange> },
    /// What becomes of e-mails that wait in a shard.
    Email { change: EmailChange },
    /// Counts in a session's row: what the next release might add.
    #[cfg(feature = "next")]
    Tally { session: SessionId },
}

/// A durable message between actors of different shards.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Mail {
    /// Session to desk: find an agent for this conversation.
    Want { site: SiteId, session: SessionId, conversation: u64, ask: Box<Ask> },
    /// Session to desk: the conversation ended. `agent`: whose seat becomes free.
    Done { site: SiteId, session: SessionId, conversation: u64, agent: Option<AgentId> },
    /// Agent to desk: whether the agent takes conversations.
    AgentState { site: SiteId, agent: AgentId, state: SeatState },
    /// Desk to session: this agent takes the conversation, if it is still in that part: parts count each time that it goes from one
    /// agent to another or back to the desk. `turn` counts what the desk gives. `team`: for which it waited.
    Assign { session: SessionId, conversation: u64, part: u64, agent: AgentId, turn: u64, team: TeamId },
    /// Session to agent: the conversation is now yours.
    Assigned { agent: AgentId, session: SessionId, conversation: u64 },
    /// Session to agent: the conversation is over.
    Unassigned { agent: AgentId, session: SessionId, conversation: u64 },
    /// Session to desk: the conversation is this agent's now, wherever it was.
    Reassigned { site: SiteId, session: SessionId, conversation: u64, part: u64, agent: AgentId },
    /// Desk to agent: accept this until then, milliseconds since 1970.
    Offered { agent: AgentId, session: SessionId, offer: u64, until_ms: u64 },
    /// Desk to agent: that is offered no longer. `missed`: the agent let it pass, and is away now.
    Withdrawn { agent: AgentId, session: SessionId, offer: u64, missed: bool },
    /// Desk to itself: go on behind the lane of this urgency and number, where the last command left off.
    Onward { site: SiteId, urgency: u8, lane: u32 },
    /// Session to desk: what was given in that turn came too late, and goes back.
    Returned { site: SiteId, session: SessionId, turn: u64 },
    /// Session to desk: the conversation waits again, wherever it was.
    Requeued { site: SiteId, session: SessionId, conversation: u64, part: u64, ask: Box<Ask> },
    /// Desk to session: the conversation is `agent`'s in place of `from`, and in that part from now on.
    Handed { session: SessionId, conversation: u64, part: u64, from: AgentId, agent: AgentId, turn: u64 },
    /// Desk to agent: nobody has seen the agent for so long that the site's rules take back what is open.
    Absent { agent: AgentId },
    /// Agent to session: the agent is not there; the conversation goes back to the desk.
    Release { session: SessionId, conversation: u64, agent: AgentId },
    /// Session to agent: a note at `seq` mentions the agent, if they are of that site.
    Mentioned { agent: AgentId, site: SiteId, session: SessionId, seq: u64 },
    /// Session to desk: a trigger has spoken, or was answered.
    Prompted { site: SiteId, trigger: String, answered: bool },
    /// A visitor's session to the one that is theirs now that they said who they are. `from` holds events up to `upto`.
    Merged { session: SessionId, from: SessionId, site: SiteId, upto: u64, carried: Box<Carried> },
}

/// What a session hands over to the one it is merged into.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Carried {
    /// Names and values, of the visitor.
    pub attributes: Vec<(String, String)>,
    pub about: About,
    /// The last agent who had a conversation there.
    pub agent: Option<AgentId>,
    /// A conversation was open.
    pub is_open: bool,
    /// Nothing is taken from the visitor until then, milliseconds since 1970.
    pub blocked_ms: Option<u64>,
    /// The visitor wants no e-mails.
    pub unsubscribed: bool,
}

/// A numbered event of a session, as stored and as sent between nodes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Event {
    /// Gapless from 1 within the session.
    pub seq: u64,
    /// Milliseconds since 1970, the leader's clock, never less than the event before.
    pub ts_ms: u64,
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum EventBody {
    Message {
        from: Party,
        device: String,
        n: u64,
        cid: String,
        /// Empty, and no attachments: it was recalled.
        text: String,
        reply_to: Option<u64>,
        attachments: Vec<Attachment>,
    },
    Assigned {
        agent: AgentId,
        conversation: u64,
    },
    Closed {
        by: Party,
        conversation: u64,
        /// Between agents; may be empty.
        reason: String,
    },
    /// The conversation waits for an agent again.
    Queued {
        by: Party,
        conversation: u64,
    },
    /// What is not a message.
    Act {
        from: Party,
        device: String,
        n: u64,
        cid: String,
        act: Act,
    },
    /// What was here is erased.
    Gone,
    /// Everything up to `upto` was erased.
    Erased {
        upto: u64,
    },
}

impl EventBody {
    /// Whether it is between agents: visitors are told that something has this place in the session, and not what.
    pub fn is_internal(&self) -> bool {
        matches!(self, EventBody::Act { act, .. } if act.is_internal())
    }

    /// Author, device and cid of what a client sent.
    pub fn sent_by(&self) -> Option<(Party, &str, &str)> {
        match self {
            EventBody::Message { from, device, cid, .. } | EventBody::Act { from, device, cid, .. } => {
                Some((*from, device, cid))
            }
            EventBody::Assigned { .. }
            | EventBody::Closed { .. }
            | EventBody::Queued { .. }
            | EventBody::Gone
            | EventBody::Erased { .. } => None,
        }
    }
}

crate::frozen!(Batch = 1, Event = 2, Mail = 4,);

impl Command {
    /// The session, agent or site whose shard must apply this; `None`: the shard that the command itself names.
    pub fn target(&self) -> Option<Target> {
        match self {
            Command::OpenSession { session, .. }
            | Command::Send { session, .. }
            | Command::Act { session, .. }
            | Command::Cursor { session, .. }
            | Command::Close { session, .. }
            | Command::Reassign { session, .. }
            | Command::CloseSeen { session, .. }
            | Command::ReassignSeen { session, .. }
            | Command::About { session, .. }
            | Command::Release { session, .. }
            | Command::Block { session, .. }
            | Command::Bar { session, .. }
            | Command::Erase { session, .. }
            | Command::Archive { session, .. }
            | Command::Identify { session, .. }
            | Command::Logout { session, .. }
            | Command::Merge { session, .. }
            | Command::Prompt { session, .. }
            | Command::AttachmentChunk { session, .. }
            | Command::AttachmentDone { session, .. } => Some(Target::Session(*session)),
            Command::AgentLogin { agent, .. }
            | Command::AgentPresence { agent, .. }
            | Command::AgentState { agent, .. }
            | Command::Dismiss { agent, .. } => Some(Target::Agent(*agent)),
            Command::PutTeam { site, .. }
            | Command::PutSeat { site, .. }
            | Command::PutSite { site, .. }
            | Command::Hours { site, .. }
            | Command::Shelve { site, .. }
            | Command::Audit { site, .. }
            | Command::Accept { site, .. }
            | Command::Decline { site, .. }
            | Command::Take { site, .. }
            | Command::Hand { site, .. } => Some(Target::Desk(*site)),
            Command::Inbox { message, .. } => Some(message.target()),
            Command::OutboxAcked { .. } | Command::SetShardVersion { .. } | Command::Tick | Command::Webhook { .. } => {
                None
            }
            Command::Email { change } => change.session().map(Target::Session),
            #[cfg(feature = "next")]
            Command::Tally { session } => Some(Target::Session(*session)),
        }
    }
}

impl Mail {
    /// The actor that must get this.
    pub fn target(&self) -> Target {
        match self {
            Mail::Want { site, .. }
            | Mail::Done { site, .. }
            | Mail::AgentState { site, .. }
            | Mail::Reassigned { site, .. }
            | Mail::Onward { site, .. }
            | Mail::Returned { site, .. }
            | Mail::Prompted { site, .. }
            | Mail::Requeued { site, .. } => Target::Desk(*site),
            Mail::Assign { session, .. }
            | Mail::Handed { session, .. }
            | Mail::Release { session, .. }
            | Mail::Merged { session, .. } => Target::Session(*session),
            Mail::Assigned { agent, .. }
            | Mail::Unassigned { agent, .. }
            | Mail::Offered { agent, .. }
            | Mail::Withdrawn { agent, .. }
            | Mail::Absent { agent }
            | Mail::Mentioned { agent, .. } => Target::Agent(*agent),
        }
    }
}

/// The bytes of one command, to be joined by [`join_commands`].
pub fn encode_command(command: &Command) -> Vec<u8> {
    crate::codec::encode_bare(command)
}

/// The bytes of a [`Batch`] made of commands that are encoded already.
pub fn join_commands<'a>(now_ms: u64, commands: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    let bytes: usize = commands.clone().map(<[u8]>::len).sum();
    let mut out = Vec::with_capacity(bytes + 24);
    out.push(<Batch as crate::codec::Frozen>::TAG);
    out.extend_from_slice(&crate::codec::encode_bare(&now_ms));
    out.extend_from_slice(&crate::codec::encode_bare(&(commands.len() as u64)));
    for command in commands {
        out.extend_from_slice(command);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_commands_are_a_batch() {
        let commands = vec![
            Command::Close { session: SessionId(7), by: Party::Visitor },
            Command::OutboxAcked { to: ShardId(3), upto: 90_000 },
        ];
        let parts: Vec<Vec<u8>> = commands.iter().map(encode_command).collect();
        let joined = join_commands(1_763_700_000_000, parts.iter().map(Vec::as_slice));
        let batch = Batch { now_ms: 1_763_700_000_000, commands };
        assert_eq!(joined, crate::codec::encode(&batch));
        assert_eq!(crate::codec::decode(&joined), Ok(batch));
    }

    #[test]
    fn actors_spread_over_all_shards() {
        let mut seen = std::collections::BTreeMap::new();
        for n in 0..6000u64 {
            *seen.entry(Target::Agent(AgentId(n)).shard(6)).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 6);
        assert!(seen.values().all(|count| (800..1200).contains(count)), "{seen:?}");
    }
}
