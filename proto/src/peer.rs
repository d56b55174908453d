//! Owns the bytes between nodes: the handshake, the raft messages, the calls to a shard's leader and its pushes.
//! Does not know sockets or openraft. Invariant: enums grow only at their end, structs never change.

use crate::attachment::{AttachmentState, Variant};
use crate::audit::AuditPage;
use crate::command::{Command, Event, OnceState, Party, SecretBytes, TokenHash};
use crate::desk::SeatState;
use crate::email::Email;
use crate::feed::FeedPage;
use crate::ids::{AgentId, AttachmentId, NodeId, ReplicaId, SessionId, SiteId, TeamId, VisitorId, WebhookId};
use crate::report::{ReportAsk, ReportPage};
use crate::search::{SearchAsk, SearchPage};
use crate::shelf::{Item, ItemKind};
use crate::webhook::WebhookState;
use bincode::{Decode, Encode};

pub use crate::hello::{Hello, HelloReply};
pub use crate::push::{Push, Pushes};

/// The first bytes of every peer connection, so that a stray HTTP client is told apart at once.
pub const MAGIC: [u8; 8] = *b"EVERDESK";
/// Longest handshake message, in bytes.
pub const HELLO_BYTES_MAX: usize = 32 << 10;
/// Longest frame on a link, in bytes. A larger length closes the link before anything is allocated.
pub const FRAME_BYTES_MAX: usize = 24 << 20;

/// A raft log id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct LogPoint {
    pub term: u64,
    pub index: u64,
}

/// A raft vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct VoteRow {
    pub term: u64,
    pub replica: u64,
    pub committed: bool,
}

/// Voter sets (two while joint) and every member with its node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct MembershipRow {
    pub configs: Vec<Vec<u64>>,
    pub members: Vec<(u64, NodeId)>,
}

/// The applied state's place in the log: stored beside the state rows, sent ahead of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct AppliedRow {
    pub applied: Option<LogPoint>,
    pub membership_at: Option<LogPoint>,
    pub membership: MembershipRow,
}

/// A raft append, without its entries: they follow as `(term, index, length, body)` so that bodies are not copied.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AppendHead {
    pub vote: VoteRow,
    pub prev: Option<LogPoint>,
    pub commit: Option<LogPoint>,
    pub entries: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum AppendReply {
    Success,
    PartialSuccess(Option<LogPoint>),
    Conflict,
    HigherVote(VoteRow),
    /// The replica has stopped or is not here.
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct VoteCall {
    pub vote: VoteRow,
    pub last: Option<LogPoint>,
    pub leadership_transfer: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct VoteReply {
    pub vote: VoteRow,
    pub granted: bool,
    pub last: Option<LogPoint>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TransferCall {
    pub from: VoteRow,
    pub to: u64,
    pub last: Option<LogPoint>,
}

/// Asks a voter whether it, too, lost its link to the leader of `term`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LostCall {
    pub term: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LostReply {
    pub lost: bool,
    pub last: Option<LogPoint>,
}

/// Ahead of, between and after the chunks of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SnapshotCall {
    Begin { vote: VoteRow, applied: AppliedRow },
    Chunk { number: u32, rows: Vec<u8> },
    End { vote: VoteRow, chunks: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SnapshotReply {
    Next,
    Installed { vote: VoteRow },
    HigherVote { vote: VoteRow },
    Failed { reason: String },
}

/// Which page of a session's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Page {
    After(u64),
    Before(u64),
    Latest,
}

/// A call from any node to the leader of a data shard.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ShardCall {
    /// Logs the command and answers once it is applied.
    Propose(Command),
    /// Subscribes the calling node to a session and reads where it stands. With a token: only if it is the visitor's.
    Attach {
        session: SessionId,
        token: Option<TokenHash>,
        after: Option<u64>,
    },
    Detach {
        session: SessionId,
    },
    /// Subscribes the calling node to an agent and marks the agent online. With a token: only if it is the agent's.
    AttachAgent {
        agent: AgentId,
        token: Option<TokenHash>,
    },
    DetachAgent {
        agent: AgentId,
    },
    /// A linearizable page of at most `limit` events. With a site: only if the session belongs to it.
    History {
        session: SessionId,
        page: Page,
        limit: u32,
        site: Option<SiteId>,
    },
    /// Fans out to subscribers; nothing is logged. `draft`: what a visitor has typed so far, for agents; may be empty.
    Typing {
        session: SessionId,
        party: Party,
        on: bool,
        draft: String,
    },
    /// The first who wait at a site's desk, in the order in which they are served; at most `limit`.
    Queue {
        site: SiteId,
        limit: u32,
    },
    /// Where these sessions stand in the queue of their site.
    Places {
        site: SiteId,
        sessions: Vec<SessionId>,
    },
    /// Whether a site is open.
    Hours {
        site: SiteId,
    },
    /// At most `limit` of the shard's events of a site, with a number above `after`. All are committed; the newest may be missing.
    Feed {
        site: SiteId,
        after: u64,
        limit: u32,
    },
    /// How far the shard has come with a webhook.
    Webhook {
        webhook: WebhookId,
    },
    /// Whether the token is the agent's.
    AgentToken {
        agent: AgentId,
        token: TokenHash,
    },
    /// What a site keeps of a kind.
    Shelf {
        site: SiteId,
        kind: ItemKind,
    },
    /// At most `limit` entries of a site's audit chain with a seq above `after`, with everything acknowledged before.
    Audit {
        site: SiteId,
        after: u64,
        limit: u32,
    },
    /// What is known of a finished attachment. With a token: only if it is the visitor's.
    Attachment {
        session: SessionId,
        attachment: AttachmentId,
        token: Option<TokenHash>,
    },
    /// One piece of a finished attachment.
    AttachmentChunk {
        session: SessionId,
        attachment: AttachmentId,
        variant: Variant,
        number: u32,
    },
    /// Looks for what was said in the shard's sessions. What is found is committed; the newest may be missing.
    Search(Box<SearchAsk>),
    /// Sums of figures, with everything acknowledged before.
    Report(Box<ReportAsk>),
    /// What waits of a site's e-mails in the shard, and what could not be delivered; at most `limit`.
    Emails {
        site: SiteId,
        limit: u32,
    },
}

/// A conversation that waits for an agent.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Waiting {
    pub session: SessionId,
    pub conversation: u64,
    /// 0: everybody.
    pub team: TeamId,
    pub priority: u8,
    /// When it came, milliseconds since 1970.
    pub since_ms: u64,
}

/// Where a conversation stands in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct PlaceInQueue {
    pub session: SessionId,
    /// 1: the next of its team. 0: an agent is being asked.
    pub position: u64,
    /// By the pace at which its team has taken conversations; `None`: nobody knows yet.
    pub wait_ms: Option<u64>,
    /// The site is closed until then, milliseconds since 1970; 0: nobody knows until when. `None`: it is open.
    pub opens_ms: Option<u64>,
}

/// Where a session stands.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SessionState {
    pub site: SiteId,
    pub visitor: VisitorId,
    pub head: u64,
    /// First event of the open conversation that its agent follows; `head + 1` if none is open.
    pub open_from: u64,
    pub agent: Option<AgentId>,
    /// Of the open conversation, or of the last one; 0: there was none.
    pub conversation: u64,
    /// How often the open conversation has gone from one agent to another, or back to the desk.
    pub part: u64,
    /// (received, read) of the visitor and of the agents.
    pub visitor_cursor: (u64, u64),
    pub agent_cursor: (u64, u64),
    /// The visitor proved who they are.
    pub is_identified: bool,
    /// The visitor's tokens that are good.
    pub tokens: Vec<TokenHash>,
    /// The first events that the caller has not seen, oldest first; more follow through `History`.
    pub events: Vec<Event>,
}

/// The leader's answer to a [`ShardCall`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ShardReply {
    /// A message has its place. `dup`: it had it before.
    Sent {
        seq: u64,
        ts_ms: u64,
        dup: bool,
    },
    /// Done; nothing more to say.
    Done,
    Attached(SessionState),
    AgentAttached(AgentState),
    History {
        events: Vec<Event>,
        head: u64,
    },
    /// The rules say no; a retry gets the same answer.
    Refused(Refused),
    /// This replica does not serve the shard; `hint` may.
    NotLeader {
        hint: Option<NodeId>,
    },
    /// Too much is under way; nothing was logged.
    Overloaded {
        retry_after_ms: u32,
    },
    /// The outcome is open: repeat the same call.
    Unknown,
    /// Where the party's cursor stands now.
    Cursor {
        received: u64,
        read: u64,
    },
    Queue {
        waiting: Vec<Waiting>,
        /// Of the whole queue.
        total: u64,
    },
    /// Of those that wait or are offered; in the order in which they were asked for.
    Places(Vec<PlaceInQueue>),
    /// `closed`: until when, milliseconds since 1970; 0: nobody knows.
    Hours {
        closed: Option<u64>,
    },
    Feed(FeedPage),
    /// `None`: it has not begun. `head`: the last number of the feed.
    Webhook {
        state: Option<WebhookState>,
        head: u64,
    },
    /// Ascending by name.
    Shelf(Vec<Item>),
    /// The act has this place in its audit chain.
    Audited {
        seq: u64,
    },
    Audit(AuditPage),
    Attachment(Box<AttachmentState>),
    AttachmentChunk(SecretBytes),
    Found(SearchPage),
    Report(ReportPage),
    /// `total`: of the site in the shard.
    Emails {
        emails: Vec<Email>,
        total: u64,
    },
}

/// Where an agent stands.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AgentState {
    pub site: SiteId,
    pub name: String,
    /// Grows with every change of what follows.
    pub version: u64,
    /// Session and conversation, ascending.
    pub open: Vec<(SessionId, u64)>,
    /// Session, offer, and until when in milliseconds since 1970; ascending.
    pub offers: Vec<(SessionId, u64, u64)>,
    /// What the person says; never `Offline`.
    pub state: SeatState,
    /// Session and seq of notes that mention the agent, oldest first.
    pub mentions: Vec<(SessionId, u64)>,
}

/// Why the rules say no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Refused {
    UnknownSession,
    UnknownAgent,
    BadToken,
    NotYours,
    ConversationClosed,
    CidGap {
        expected: u64,
    },
    TextTooLarge,
    TextEmpty,
    CidInvalid,
    DeviceInvalid,
    InboxGap {
        expected: u64,
    },
    LimitReached,
    Changed,
    /// The conversation is not offered to this agent any more, or was never.
    OfferGone,
    RulesInvalid,
    /// The agent has as many conversations as the seat allows.
    SeatFull,
    /// The agent has no socket.
    NotThere,
    /// There is no such message, or it is none that this can be done to.
    TargetInvalid,
    /// The time in which this could be done is over.
    TooLate,
    ActInvalid,
    /// Nothing is taken from this visitor, or not this.
    Blocked,
    /// There is no such attachment, it is not finished, or it is not for this sender and this message.
    AttachmentInvalid,
    /// The session has uploaded as much as it may in a day.
    DayFull,
    /// The site keeps as many attachments as it may.
    SiteFull,
    /// Somebody talks with the visitor already, or is about to.
    Talking,
    /// An invitation to the visitor is open.
    Invited,
    /// The visitor was written to too often, or does not want to be.
    TooOften,
    /// What is wanted is in the archive, which does not give it now.
    ArchiveAway,
}

/// A call about the meta group, to its leader.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum MetaCall {
    Propose(crate::command::MetaCommand),
    /// Where the log stands, proved by a quorum: a replica that has applied it has seen everything acknowledged.
    Barrier,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum MetaReply {
    Done,
    Node { node: NodeId, shards: u32 },
    Replica { replica: ReplicaId },
    Site { site: SiteId },
    Agent { agent: AgentId },
    Refused { reason: String },
    NotLeader { hint: Option<NodeId> },
    Unknown,
    At { index: u64 },
    Once(OnceState),
    Webhook { webhook: WebhookId, is_new: bool },
}

crate::frozen!(
    Hello = 40,
    HelloReply = 41,
    VoteRow = 42,
    MembershipRow = 43,
    AppliedRow = 44,
    AppendHead = 45,
    AppendReply = 46,
    VoteCall = 47,
    VoteReply = 48,
    TransferCall = 49,
    LostCall = 50,
    LostReply = 51,
    SnapshotCall = 52,
    SnapshotReply = 53,
    ShardCall = 54,
    ShardReply = 55,
    Pushes = 56,
    MetaCall = 57,
    MetaReply = 58,
    LogPoint = 59,
);
