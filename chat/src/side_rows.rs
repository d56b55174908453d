//! Owns the stored forms of what a shard keeps beside conversations: files that go with messages, audit chains, what reports are made of,
//! what was said first, and what is known of the archive. See `rows`.

use bincode::{Decode, Encode};
use proto::archive::{ArchivedRange, FileObject};
use proto::attachment::{Attachment, Variant};
use proto::audit::{AuditLine, ChainPoint};
use proto::command::{Party, TokenHash};
use proto::desk::SeatState;
use proto::ids::{AgentId, SiteId, TeamId};
use proto::report::Figures;

/// A file that goes with a message, or is being uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct AttachmentRow {
    pub site: SiteId,
    pub by: Party,
    /// When its first piece came, milliseconds since 1970.
    pub made_ms: u64,
    /// In the order in which they came.
    pub pieces: Vec<PieceRow>,
    /// All pieces are there.
    pub done: Option<DoneRow>,
    /// The message that it goes with.
    pub seq: Option<u64>,
    /// When that was said, milliseconds since 1970; 0: it was not.
    pub sent_ms: u64,
    /// Its bytes are in these objects of the archive, by `Variant`, and its pieces are no more; empty: they are here.
    pub objects: Vec<FileObject>,
}

/// A piece that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PieceRow {
    pub variant: Variant,
    pub number: u32,
    pub bytes: u32,
    /// XXH3 of its bytes: a repetition is told from another piece.
    pub hash: u64,
}

/// A finished upload.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct DoneRow {
    pub attachment: Attachment,
    /// SHA-256 of what was uploaded.
    pub source: TokenHash,
    /// SHA-256 of what is kept.
    pub sha256: TokenHash,
}

/// The bytes of a piece.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ChunkRow {
    pub bytes: Vec<u8>,
}

/// What was uploaded into a session in a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct DayRow {
    /// Since 1970, UTC.
    pub day: u64,
    pub files: u64,
    pub bytes: u64,
}

/// What a shard keeps of a site's attachments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct UsageRow {
    pub files: u64,
    pub bytes: u64,
    /// Files of them whose bytes are in the archive.
    pub moved: u64,
}

/// A message names the file, and its bytes are here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct HereRow {
    pub bytes: u64,
}

/// An entry of an audit chain.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct AuditRow {
    pub line: AuditLine,
}

/// Where an audit chain stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ChainRow {
    pub head: ChainPoint,
    /// The last entry that is not kept any more; seq 0: all are.
    pub cut: ChainPoint,
    /// The time of the head, milliseconds since 1970.
    pub ts_ms: u64,
    /// The newest acts, oldest first.
    pub seen: Vec<SeenRow>,
}

/// Which place an act has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SeenRow {
    pub act: u128,
    /// It is the entry that says what became of the act.
    pub is_end: bool,
    pub seq: u64,
}

/// What happened in an hour at a site, with a team, to an agent or under a label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct RollupRow {
    pub figures: Figures,
    /// Of a label's row.
    pub label: String,
    /// Of a site's row: labels that have rows of their own in this hour.
    pub labels: u64,
}

/// What an agent has been doing since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StintRow {
    pub site: SiteId,
    /// Milliseconds since 1970, as all times here.
    pub since_ms: u64,
    /// When it is counted at the latest.
    pub due_ms: u64,
    pub state: SeatState,
    /// Conversations that the agent has.
    pub held: u64,
}

/// What is still to be counted of a session's last conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct TalkRow {
    /// When it was opened, or opened again, milliseconds since 1970, as all times here; 0: nobody counted it.
    pub opened_ms: u64,
    /// When it was opened, until an agent has written.
    pub first_ms: u64,
    /// The first message of the visitor that nobody has answered; 0: there is none.
    pub asked_ms: u64,
    /// Since when it waits; 0: it does not.
    pub waits_ms: u64,
    /// For whom it waited when it was given to an agent.
    pub team: Option<TeamId>,
    /// Who has or had it last.
    pub agent: Option<AgentId>,
    /// What its labels are told when it is closed.
    pub first_response_ms: Option<u64>,
    pub waits: SomeRow,
    pub responses: SomeRow,
    pub from_visitors: u64,
    pub from_agents: u64,
    pub rated: Option<RatedRow>,
}

/// How long several things took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SomeRow {
    pub count: u64,
    pub sum_ms: u64,
    pub max_ms: u64,
}

/// A rating as it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct RatedRow {
    pub score: u8,
    pub team: Option<TeamId>,
    pub agent: Option<AgentId>,
}

/// What was said to a visitor before the visitor wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ReachRow {
    /// Ascending by trigger.
    pub prompts: Vec<PromptRow>,
    /// The last of them, until the visitor writes.
    pub said: Option<SaidRow>,
    pub invite: Option<InviteRow>,
    /// When agents invited the visitor, milliseconds since 1970; the newest, oldest first.
    pub invited_ms: Vec<u64>,
    /// When the visitor declined last, milliseconds since 1970; 0: never.
    pub declined_ms: u64,
}

/// A trigger that has spoken.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PromptRow {
    pub trigger: String,
    /// When it did last, milliseconds since 1970.
    pub ms: u64,
    /// In which visit.
    pub visit: u64,
}

/// The last thing that a trigger said.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SaidRow {
    pub trigger: String,
    /// Milliseconds since 1970.
    pub ms: u64,
    /// Its event.
    pub seq: u64,
    pub team: Option<TeamId>,
}

/// An agent's invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct InviteRow {
    pub agent: AgentId,
    /// Its event.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub until_ms: u64,
}

/// What the archive has of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ArchivedRow {
    /// From the first event on, without a gap.
    pub ranges: Vec<ArchivedRange>,
}

/// An object of the archive that may exist, and that no range names.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ObjectRow {
    pub name: String,
    /// Milliseconds since 1970.
    pub since_ms: u64,
    /// It is to be deleted; else it is being written.
    pub is_dropped: bool,
}

proto::frozen!(
    AuditRow = 121,
    ChainRow = 122,
    AttachmentRow = 124,
    ChunkRow = 125,
    DayRow = 126,
    UsageRow = 127,
    RollupRow = 130,
    StintRow = 131,
    TalkRow = 132,
    ReachRow = 135,
    ArchivedRow = 140,
    ObjectRow = 141,
    HereRow = 150,
);
