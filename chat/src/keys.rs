//! Owns the keys of the state rows. Does not know their values. Invariant: keys sort as scans need them, ids big-endian,
//! and no key is the beginning of another one of its scan.

use crate::attachment::{AttachmentKey, ChunkKey};
use crate::email::EmailKey;
use crate::file_objects::HereKey;
use crate::rollup::RollupKey;
use proto::command::Party;
use proto::ids::{AgentId, AttachmentId, SessionId, ShardId, SiteId, TeamId, WebhookId};
use proto::report::ReportKind;
use proto::shelf::ItemKind;

pub(crate) const HEADER: &[u8] = b"H";

/// The version in force: `VersionRow`; absent at version 1.
pub(crate) const VERSION: &[u8] = b"V";

fn key(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    out.push(kind);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// One byte for the kind, then the agent's id.
fn party_bytes(party: Party) -> ([u8; 9], usize) {
    let mut bytes = [0; 9];
    match party {
        Party::Visitor => (bytes, 1),
        Party::Agent(AgentId(id)) => {
            bytes[0] = 1;
            bytes[1..].copy_from_slice(&id.to_be_bytes());
            (bytes, 9)
        }
        Party::System => {
            bytes[0] = 2;
            (bytes, 1)
        }
    }
}

/// Entries `256 * block + 1 ..= 256 * block + 256` of the feed: `FeedBlockRow`.
pub(crate) fn feed(block: u64) -> Vec<u8> {
    key(b'F', &[&block.to_be_bytes()])
}

/// How far the shard has come with a webhook: `WebhookRow`.
pub(crate) fn webhook(webhook: WebhookId) -> Vec<u8> {
    key(b'B', &[&webhook.0.to_be_bytes()])
}

/// Every webhook's row begins so.
pub(crate) const WEBHOOKS: &[u8] = b"B";

/// Something that a site keeps: `ItemRow`.
pub(crate) fn item((site, kind, name): (SiteId, ItemKind, u128)) -> Vec<u8> {
    key(b'I', &[&site.0.to_be_bytes(), &[kind as u8], &name.to_be_bytes()])
}

/// All that a site keeps of a kind.
pub(crate) fn items(site: SiteId, kind: ItemKind) -> Vec<u8> {
    key(b'I', &[&site.0.to_be_bytes(), &[kind as u8]])
}

/// How much of a kind a site keeps: `ShelfRow`.
pub(crate) fn shelf(site: SiteId, kind: ItemKind) -> Vec<u8> {
    key(b'J', &[&site.0.to_be_bytes(), &[kind as u8]])
}

/// Where a site's audit chain stands: `ChainRow`.
pub(crate) fn chain(site: SiteId) -> Vec<u8> {
    key(b'U', &[&site.0.to_be_bytes()])
}

/// An entry of a site's audit chain: `AuditRow`.
pub(crate) fn audit(site: SiteId, seq: u64) -> Vec<u8> {
    key(b'X', &[&site.0.to_be_bytes(), &seq.to_be_bytes()])
}

/// What is known of a file that goes with a message: `AttachmentRow`.
pub(crate) fn attachment((session, id): AttachmentKey) -> Vec<u8> {
    key(b'M', &[&session.0.to_be_bytes(), &id.0.to_be_bytes()])
}

/// A piece of it: `ChunkRow`.
pub(crate) fn attachment_chunk((session, id, variant, number): ChunkKey) -> Vec<u8> {
    key(b'N', &[&session.0.to_be_bytes(), &id.0.to_be_bytes(), &[variant as u8], &number.to_be_bytes()])
}

/// What was uploaded into the session in a day: `DayRow`.
pub(crate) fn attachment_day(session: SessionId) -> Vec<u8> {
    key(b'Z', &[&session.0.to_be_bytes()])
}

/// What the shard keeps of a site's attachments: `UsageRow`.
pub(crate) fn attachment_usage(site: SiteId) -> Vec<u8> {
    key(b'Y', &[&site.0.to_be_bytes()])
}

/// Every site's of them begins so.
pub(crate) const ATTACHMENT_USAGES: &[u8] = b"Y";

/// A file of a site that a message names and whose bytes are here, by time: `HereRow`.
pub(crate) fn here((site, sent_ms, session, id): HereKey) -> Vec<u8> {
    key(b'n', &[&site.0.to_be_bytes(), &sent_ms.to_be_bytes(), &session.0.to_be_bytes(), &id.0.to_be_bytes()])
}

/// All such files of a site.
pub(crate) fn all_here(site: SiteId) -> Vec<u8> {
    key(b'n', &[&site.0.to_be_bytes()])
}

/// Time, session and file of such a key.
pub(crate) fn read_here(key: &[u8]) -> Option<(u64, AttachmentKey)> {
    let (sent_ms, rest) = key.get(5..)?.split_first_chunk::<8>()?;
    let (session, id) = rest.split_first_chunk::<16>()?;
    let id = AttachmentId(u128::from_be_bytes(id.try_into().ok()?));
    Some((u64::from_be_bytes(*sent_ms), (SessionId(u128::from_be_bytes(*session)), id)))
}

/// What happened in an hour: `RollupRow`.
pub(crate) fn rollup(RollupKey { site, kind, hour, id }: RollupKey) -> Vec<u8> {
    key(b'a', &[&site.0.to_be_bytes(), &[kind as u8], &hour.to_be_bytes(), &id.to_be_bytes()])
}

/// What happened, by one kind of division.
pub(crate) fn rollups(site: SiteId, kind: ReportKind) -> Vec<u8> {
    key(b'a', &[&site.0.to_be_bytes(), &[kind as u8]])
}

/// Hour and number at the end of a roll-up's key.
pub(crate) fn last_hour(key: &[u8]) -> Option<(u32, u128)> {
    let (rest, id) = key.split_last_chunk::<16>()?;
    Some((u32::from_be_bytes(*rest.last_chunk::<4>()?), u128::from_be_bytes(*id)))
}

/// What an agent is doing: `StintRow`.
pub(crate) fn stint(agent: AgentId) -> Vec<u8> {
    key(b'b', &[&agent.0.to_be_bytes()])
}

/// What every agent is doing.
pub(crate) const STINTS: &[u8] = b"b";

/// What is to be counted of a session's last conversation: `TalkRow`.
pub(crate) fn talk(session: SessionId) -> Vec<u8> {
    key(b'c', &[&session.0.to_be_bytes()])
}

/// Who wrote first to a session's visitor: `ReachRow`.
pub(crate) fn reach(session: SessionId) -> Vec<u8> {
    key(b'e', &[&session.0.to_be_bytes()])
}

/// What the archive has of a session: `ArchivedRow`.
pub(crate) fn archived(session: SessionId) -> Vec<u8> {
    key(b'g', &[&session.0.to_be_bytes()])
}

/// Every session's of them begins so.
pub(crate) const ARCHIVED: &[u8] = b"g";

/// An object that may exist and that nothing names: `ObjectRow`.
pub(crate) fn object((session, name): (SessionId, u128)) -> Vec<u8> {
    key(b'h', &[&session.0.to_be_bytes(), &name.to_be_bytes()])
}

/// Every such object begins so.
pub(crate) const OBJECTS: &[u8] = b"h";

/// Session and hash of an object's key.
pub(crate) fn read_object(key: &[u8]) -> Option<(SessionId, u128)> {
    let (session, name) = key.get(1..)?.split_first_chunk::<16>()?;
    Some((SessionId(u128::from_be_bytes(*session)), u128::from_be_bytes(name.try_into().ok()?)))
}
/// An e-mail that waits: `EmailRow`.
pub(crate) fn email((session, kind, number): EmailKey) -> Vec<u8> {
    key(b'k', &[&session.0.to_be_bytes(), &[kind as u8], &number.to_be_bytes()])
}

/// Every e-mail's row begins so.
pub(crate) const EMAILS: &[u8] = b"k";

/// What a visitor wants of e-mails: `EmailStandRow`.
pub(crate) fn email_stand(session: SessionId) -> Vec<u8> {
    key(b'l', &[&session.0.to_be_bytes()])
}

/// How far e-mails have come with the feed: `EmailCourseRow`.
pub(crate) const EMAIL_COURSE: &[u8] = b"m";

/// The session's facts: `SessionRow`.
pub(crate) fn session(session: SessionId) -> Vec<u8> {
    key(b'S', &[&session.0.to_be_bytes()])
}

/// A run of events that starts at `first_seq`: `BlockRow`.
pub(crate) fn block(session: SessionId, first_seq: u64) -> Vec<u8> {
    key(b'E', &[&session.0.to_be_bytes(), &first_seq.to_be_bytes()])
}

/// All blocks of a session.
pub(crate) fn blocks(session: SessionId) -> Vec<u8> {
    key(b'E', &[&session.0.to_be_bytes()])
}

/// A device that sent in the session: `DeviceRow`.
pub(crate) fn device(session: SessionId, party: Party, device: &str) -> Vec<u8> {
    let (bytes, len) = party_bytes(party);
    key(b'D', &[&session.0.to_be_bytes(), &bytes[..len], device.as_bytes()])
}

/// The seqs of a device's sends `32 * page + 1 ..= 32 * page + 32`: `PageRow`. Devices hold no NUL.
pub(crate) fn page(session: SessionId, party: Party, device: &str, page: u64) -> Vec<u8> {
    let (bytes, len) = party_bytes(party);
    key(b'P', &[&session.0.to_be_bytes(), &bytes[..len], device.as_bytes(), &[0], &page.to_be_bytes()])
}

/// An unnumbered send: `SentRow`. Devices hold no NUL.
pub(crate) fn cid(session: SessionId, party: Party, device: &str, cid: &str) -> Vec<u8> {
    let (bytes, len) = party_bytes(party);
    key(b'C', &[&session.0.to_be_bytes(), &bytes[..len], device.as_bytes(), &[0], cid.as_bytes()])
}

/// An agent: `AgentRow`.
pub(crate) fn agent(agent: AgentId) -> Vec<u8> {
    key(b'A', &[&agent.0.to_be_bytes()])
}

/// Every agent's row begins so.
pub(crate) const AGENTS: &[u8] = b"A";

/// A seat of a site: `SeatRow`.
pub(crate) fn seat(site: SiteId, agent: AgentId) -> Vec<u8> {
    key(b'R', &[&site.0.to_be_bytes(), &agent.0.to_be_bytes()])
}

/// All seats of a site.
pub(crate) fn seats(site: SiteId) -> Vec<u8> {
    key(b'R', &[&site.0.to_be_bytes()])
}

/// A team of a site: `TeamRow`.
pub(crate) fn team(site: SiteId, team: TeamId) -> Vec<u8> {
    key(b'G', &[&site.0.to_be_bytes(), &team.0.to_be_bytes()])
}

/// All teams of a site.
pub(crate) fn teams(site: SiteId) -> Vec<u8> {
    key(b'G', &[&site.0.to_be_bytes()])
}

/// What is known of a lane of a site: `LaneRow`.
pub(crate) fn lane_facts(site: SiteId, lane: u32) -> Vec<u8> {
    key(b'L', &[&site.0.to_be_bytes(), &lane.to_be_bytes()])
}

/// All lanes of a site.
pub(crate) fn lanes(site: SiteId) -> Vec<u8> {
    key(b'L', &[&site.0.to_be_bytes()])
}

/// Every seat's row begins so.
pub(crate) const SEATS: &[u8] = b"R";

/// A site's rules and counts: `DeskRow`.
pub(crate) fn desk(site: SiteId) -> Vec<u8> {
    key(b'K', &[&site.0.to_be_bytes()])
}

/// A waiting session: `QueuedRow`.
pub(crate) fn queued(site: SiteId, lane: u32, ticket: u64) -> Vec<u8> {
    key(b'Q', &[&site.0.to_be_bytes(), &lane.to_be_bytes(), &ticket.to_be_bytes()])
}

/// A whole lane of a site's queue, in the order of tickets.
pub(crate) fn lane(site: SiteId, lane: u32) -> Vec<u8> {
    key(b'Q', &[&site.0.to_be_bytes(), &lane.to_be_bytes()])
}

/// What a desk does about a session at a time: `DueRow`.
pub(crate) fn due(due_ms: u64, site: SiteId, session: SessionId) -> Vec<u8> {
    key(b'T', &[&due_ms.to_be_bytes(), &site.0.to_be_bytes(), &session.0.to_be_bytes()])
}

/// Everything that is due at some time, in the order of time.
pub(crate) const DUES: &[u8] = b"T";

/// Time, site and session of a due key.
pub(crate) fn read_due(key: &[u8]) -> Option<(u64, SiteId, SessionId)> {
    let (due_ms, rest) = key.get(1..)?.split_first_chunk::<8>()?;
    let (site, rest) = rest.split_first_chunk::<4>()?;
    let session = SessionId(u128::from_be_bytes(rest.try_into().ok()?));
    Some((u64::from_be_bytes(*due_ms), SiteId(u32::from_be_bytes(*site)), session))
}

/// What the desk knows of a session's conversation: `WantRow`.
pub(crate) fn want(site: SiteId, session: SessionId) -> Vec<u8> {
    key(b'W', &[&site.0.to_be_bytes(), &session.0.to_be_bytes()])
}

/// A mail that waits for shard `to`: `Mail`.
pub(crate) fn mail(to: ShardId, seq: u64) -> Vec<u8> {
    key(b'O', &[&to.0.to_be_bytes(), &seq.to_be_bytes()])
}

/// All mails that wait for shard `to`.
pub(crate) fn mails(to: ShardId) -> Vec<u8> {
    key(b'O', &[&to.0.to_be_bytes()])
}

/// Every session's row begins so.
pub(crate) const SESSIONS: &[u8] = b"S";
/// Every desk's row begins so.
pub(crate) const DESKS: &[u8] = b"K";
/// Every row of a queue begins so.
pub(crate) const QUEUES: &[u8] = b"Q";
/// Every want begins so.
pub(crate) const WANTS: &[u8] = b"W";
/// Every mail begins so.
pub(crate) const OUTBOX: &[u8] = b"O";

/// The session of a session's key.
pub(crate) fn last_session(key: &[u8]) -> Option<SessionId> {
    key.last_chunk::<16>().map(|bytes| SessionId(u128::from_be_bytes(*bytes)))
}

/// The site of a desk's or a queue's key; site 0, which no site has, for a key that is too short.
pub(crate) fn site_of(key: &[u8]) -> SiteId {
    let site = key.get(1..).and_then(|rest| rest.first_chunk::<4>());
    SiteId(site.map_or(0, |bytes| u32::from_be_bytes(*bytes)))
}

/// The number at the end of a team's or lane's key.
pub(crate) fn last_small(key: &[u8]) -> Option<u32> {
    key.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The number at the end of a seat, block, queue or mail key.
pub(crate) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}
