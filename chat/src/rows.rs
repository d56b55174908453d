//! Owns the forms of the state rows and the seam they are read through. Does not write them: a checkpoint returns bytes.
//! Invariant: from the first release on a form never changes; a new layout is a new struct with a new tag, and the golden bytes stay
//! readable.

use crate::archive::Archived;
use crate::outcome::ApplyError;
pub(crate) use crate::side_rows::*;
use bincode::{Decode, Encode};
use proto::act::Whose;
use proto::codec::{self, Frozen};
use proto::command::{Event, SecretBytes, TokenHash};
use proto::desk::{About, Channel, SeatRules, SeatState, SiteRules, TeamRules};
use proto::email::Email;
use proto::ids::{AgentId, SessionId, ShardId, SiteId, TeamId, VisitorId};
use proto::shelf::Item;
use proto::webhook::WebhookState;
use std::sync::Arc;

/// The rows as of the last checkpoint that ended well.
pub trait Rows {
    /// # Errors
    /// `RowsError` when the store cannot be read; the replica must stop.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError>;

    /// Visits rows whose key starts with `prefix`, ascending from `from`, or descending from it when `reverse`
    /// (`from` included), until `visit` returns false.
    /// # Errors
    /// `RowsError` when the store cannot be read; the replica must stop.
    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), RowsError>;

    /// What the caller knows of an object of the archive. Apply never does, and never asks.
    fn archived(&self, _object: &str) -> Option<Archived> {
        None
    }
}

/// The store could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RowsError(pub String);

/// The shard's own facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct HeaderRow {
    pub clock_ms: u64,
    pub state_hash: u64,
    pub outbox: Vec<MailsRow>,
    /// The last mail applied of each shard.
    pub inbox: Vec<(ShardId, u64)>,
    /// The last number of the feed.
    pub feed: u64,
}

/// Consecutive entries of the feed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct FeedBlockRow {
    pub entries: Vec<FeedEntryRow>,
}

/// An event of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct FeedEntryRow {
    pub site: SiteId,
    pub session: SessionId,
    pub seq: u64,
}

/// One target of the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct MailsRow {
    pub to: ShardId,
    pub acked: u64,
    pub head: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SessionRow {
    pub site: SiteId,
    pub visitor: VisitorId,
    /// Oldest first.
    pub tokens: Vec<TokenHash>,
    pub head: u64,
    /// First seq of the block that takes the next event.
    pub block_first: u64,
    /// Conversations opened so far; the number of the last one.
    pub conversations: u64,
    pub open: Option<OpenRow>,
    /// The last agent who had a conversation here.
    pub last_agent: Option<AgentId>,
    /// When the last conversation was closed, milliseconds since 1970; 0: none was.
    pub closed_ms: u64,
    pub visitor_cursor: CursorRow,
    pub agent_cursor: CursorRow,
    /// Device rows of this session.
    pub devices: u32,
    /// What is known of the visitor.
    pub about: About,
    /// Of the open conversation, or of the last one; ascending.
    pub labels: Vec<String>,
    /// `OpenRow::part` of the last conversation, when it was closed.
    pub last_part: u64,
    /// Ascending by whose they are and name.
    pub attributes: Vec<AttributeRow>,
    /// The visitor's last one.
    pub rating: Option<RatingRow>,
    /// Nothing is taken from the visitor until then, milliseconds since 1970.
    pub blocked_ms: Option<u64>,
    /// Events up to here are gone, but for their places.
    pub erased: u64,
    /// Proofs of who the visitor is, oldest first.
    pub proofs: Vec<ProofRow>,
    /// Sessions that the visitor had before they said who they are, oldest first.
    pub merged: Vec<SessionId>,
    pub merged_into: Option<SessionId>,
}

/// A proof that opened a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ProofRow {
    pub proof: TokenHash,
    /// When it did first, milliseconds since 1970.
    pub used_ms: u64,
    /// It is good no longer than that.
    pub until_ms: u64,
}

/// What somebody said of a visitor or a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct AttributeRow {
    pub whose: Whose,
    pub name: String,
    pub value: String,
}

/// How good the visitor found a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct RatingRow {
    pub conversation: u64,
    pub score: u8,
}

/// The open conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct OpenRow {
    pub number: u64,
    /// The first event of the conversation; once it went from one agent to another, the event that gave it to this one. While it
    /// waits again, the event that says so.
    pub first_seq: u64,
    pub agent: Option<AgentId>,
    /// It was an agent's, and went back to the desk.
    pub waits_again: bool,
    /// How often it has gone from one agent to another, back to the desk, or out of the way.
    pub part: u64,
    /// It is with nobody, and does not wait.
    pub snoozed: Option<SnoozeRow>,
    /// The team that it was given to last, by somebody who had it.
    pub team: Option<TeamId>,
}

/// A conversation that was laid aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SnoozeRow {
    /// Whose it was.
    pub agent: AgentId,
    /// Milliseconds since 1970.
    pub until_ms: u64,
}

/// How far one side has come; `read <= received <= head`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct CursorRow {
    pub received: u64,
    pub read: u64,
}

/// Consecutive events.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct BlockRow {
    pub events: Vec<Arc<Event>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct DeviceRow {
    /// The device's last numbered send.
    pub last_n: u64,
    /// Its unnumbered sends; each has a row of its own.
    pub cids: u64,
    /// The numbered sends of the page that is not full yet.
    pub page: Vec<SentRow>,
}

/// A full page of numbered sends.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PageRow {
    pub sent: Vec<SentRow>,
}

/// Where a send went: the answer to every repetition of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SentRow {
    pub seq: u64,
    pub ts_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct AgentRow {
    pub site: SiteId,
    pub name: String,
    /// Oldest first.
    pub tokens: Vec<TokenHash>,
    /// A socket is open.
    pub online: bool,
    /// What the person says: never `Offline`.
    pub state: SeatState,
    /// Grows with every change of `open`, `offers` and `state`.
    pub version: u64,
    /// Session and conversation, ascending.
    pub open: Vec<(SessionId, u64)>,
    /// What is to be accepted: session, number of the offer, and until when in milliseconds since 1970; ascending.
    pub offers: Vec<(SessionId, u64, u64)>,
    /// Notes that mention the agent, and were not seen to: session and seq, oldest first.
    pub mentions: Vec<(SessionId, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct DeskRow {
    pub rules: SiteRules,
    /// Conversations that were declined, and wait for a while.
    pub aside: u64,
    /// Offers and assignments so far.
    pub turn: u64,
    pub next_ticket: u64,
    /// A wake-up mail of the desk to itself is under way.
    pub nudged: bool,
    /// Somebody came, or had room, while that mail was under way.
    pub again: bool,
    /// Ascending by team.
    pub paces: Vec<PaceRow>,
    /// Outside of the site's hours: until when, milliseconds since 1970; 0: nobody knows.
    pub closed: Option<u64>,
}

/// How fast a team takes from its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PaceRow {
    pub team: TeamId,
    /// When it took the last one, or began to have a queue, milliseconds since 1970.
    pub last_ms: u64,
    /// Mean time between two, milliseconds; 0: nobody knows.
    pub every_ms: u64,
}

/// A team of a site.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct TeamRow {
    pub rules: TeamRules,
}

/// An agent on a site's roster.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SeatRow {
    pub state: SeatState,
    /// Conversations offered and assigned.
    pub open: u32,
    /// The same, by channel; ascending, none with 0.
    pub channels: Vec<(Channel, u32)>,
    /// The desk's turn that last gave this agent a conversation; 0: never.
    pub last_turn: u64,
    pub rules: SeatRules,
    /// What is offered to the agent; ascending.
    pub offers: Vec<SessionId>,
    /// When the agent's last socket went, milliseconds since 1970; 0: there is one.
    pub gone_ms: u64,
}

/// Conversations that ask for the same.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct LaneRow {
    pub need: NeedRow,
    /// No ticket below this one waits any more.
    pub front: u64,
    pub queued: u64,
    /// How many wait in each stretch of 256 tickets, by ticket / 256; ascending, none with 0.
    pub spread: Vec<(u64, u32)>,
}

/// What a seat must have to serve a conversation, and how urgent that is.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub(crate) struct NeedRow {
    pub team: TeamId,
    pub priority: u8,
    pub channel: Channel,
    /// Ascending.
    pub skills: Vec<String>,
}

/// A conversation that waits for an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct QueuedRow {
    pub session: SessionId,
    pub conversation: u64,
    /// As in its `WantRow`.
    pub since_ms: u64,
    pub part: u64,
}

/// A conversation the desk knows of.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct WantRow {
    pub conversation: u64,
    pub need: NeedRow,
    /// Its age; it keeps it when it comes back to the queue.
    pub ticket: u64,
    /// When it came, milliseconds since 1970.
    pub since_ms: u64,
    /// As its session counts.
    pub part: u64,
    pub place: PlaceRow,
}

/// Where the desk has put it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum PlaceRow {
    /// In the lane of this number.
    Queued { lane: u32 },
    /// Its only agents have declined; they are asked again at that time, milliseconds since 1970.
    Aside { until_ms: u64 },
    /// The agent may accept it until then. An offer has the number of its turn.
    Offered { agent: AgentId, offer: u64, until_ms: u64 },
    /// `offer`: the one that was accepted, or 0. `turn`: in which the desk gave it; 0: it did not.
    Assigned { agent: AgentId, offer: u64, turn: u64 },
}

/// What a desk does about a session at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum DueRow {
    /// Whoever was asked has let this offer pass.
    Missed { offer: u64 },
    /// Who declined may be asked again.
    Again,
    /// An agent has been away since then, milliseconds since 1970. It stands under the agent's number in the place of a session's.
    Absent { since_ms: u64 },
    /// A snoozed conversation comes back, if it is still in that part. The session does it, not the desk.
    Wake { conversation: u64, part: u64 },
    /// No message has named the upload. It stands under the number of the attachment in the place of a session's.
    Unsent { session: SessionId },
    /// Old roll-ups of the site go.
    Sweep,
    /// An agent has been doing the same for long: it is counted. It stands under the agent's number, and a number that no session has.
    Stint,
}

/// Something that a site keeps for its people.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ItemRow {
    pub item: Item,
}

/// How much of a kind a site keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ShelfRow {
    pub items: u64,
    pub bytes: u64,
}

/// How far the shard has come with a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct WebhookRow {
    pub state: WebhookState,
}

/// An e-mail that waits.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct EmailRow {
    pub email: Email,
}

/// What a visitor wants of e-mails.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct EmailStandRow {
    pub unsubscribed: bool,
    /// Proves who clicks on an address in an e-mail; empty: there is none yet.
    pub secret: SecretBytes,
    /// Transcripts that were asked for within an hour: when, milliseconds since 1970, and by which id.
    pub asked: Vec<(u64, u128)>,
}

impl Default for EmailStandRow {
    fn default() -> Self {
        EmailStandRow { unsubscribed: false, secret: SecretBytes(Vec::new()), asked: Vec::new() }
    }
}

/// How far e-mails have come with the feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct EmailCourseRow {
    /// Steps so far.
    pub version: u64,
    pub after: u64,
    /// E-mails so far.
    pub numbers: u64,
    /// Entries that nobody looked at, and e-mails for which there was no room.
    pub missed: u64,
}

/// The version in force for the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct VersionRow {
    pub version: u16,
}

proto::frozen!(
    HeaderRow = 97,
    FeedBlockRow = 98,
    SessionRow = 94,
    BlockRow = 22,
    DeviceRow = 23,
    PageRow = 24,
    SentRow = 25,
    AgentRow = 95,
    DeskRow = 96,
    QueuedRow = 80,
    WantRow = 36,
    VersionRow = 30,
    DueRow = 31,
    TeamRow = 37,
    SeatRow = 38,
    LaneRow = 39,
    WebhookRow = 103,
    ItemRow = 107,
    ShelfRow = 108,
    EmailRow = 145,
    EmailStandRow = 146,
    EmailCourseRow = 147,
);

/// A row's value. `row` names it in the error.
pub(crate) fn decode<T: Frozen>(row: &'static str, bytes: &[u8]) -> Result<T, ApplyError> {
    codec::decode(bytes).map_err(|error| corrupt(row, error.to_string()))
}

/// The value of `key`, if there is a row.
pub(crate) fn read<T: Frozen>(rows: &dyn Rows, row: &'static str, key: &[u8]) -> Result<Option<T>, ApplyError> {
    rows.get(key)?.map(|bytes| decode(row, &bytes)).transpose()
}

/// Visits the rows of a kind; more than `max` are corrupt.
pub(crate) fn each<T: Frozen>(
    rows: &dyn Rows,
    name: &'static str,
    prefix: &[u8],
    max: usize,
    mut visit: impl FnMut(&[u8], T) -> Result<(), ApplyError>,
) -> Result<(), ApplyError> {
    let (mut failed, mut count) = (None, 0);
    rows.scan(prefix, None, false, &mut |key, value| {
        count += 1;
        let visited = match count > max {
            true => Err(corrupt(name, "there are more than anybody could make")),
            false => decode(name, value).and_then(|row| visit(key, row)),
        };
        failed = visited.err();
        failed.is_none()
    })?;
    failed.map_or(Ok(()), Err)
}

/// No counter of a row ever gets here: one that was counted up every nanosecond would need 146 years.
const COUNT_MAX: u64 = 1 << 62;

/// Refuses counters that nobody counted: whoever goes on from them would overflow.
pub(crate) fn counted(row: &'static str, counters: &[u64]) -> Result<(), ApplyError> {
    match counters.iter().find(|counter| **counter > COUNT_MAX) {
        Some(counter) => Err(corrupt(row, format!("a counter stands at {counter}"))),
        None => Ok(()),
    }
}

pub(crate) fn corrupt(row: &'static str, why: impl Into<String>) -> ApplyError {
    ApplyError::Corrupt { row, why: why.into() }
}

/// Rows that a checkpoint changes: `None` deletes.
pub type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Adds a row to a checkpoint.
pub(crate) fn save<T: Frozen>(out: &mut Changes, key: Vec<u8>, value: &T) {
    out.push((key, Some(codec::encode(value))));
}
