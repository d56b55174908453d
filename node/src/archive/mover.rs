//! Owns the clockwork of the archive: which sessions this node's shards hold that are old enough, and the way of their events to objects. Does
//! not change the state: the log does. Invariant: the log knows of an object before it is written, and names it only after it was read back;
//! a leader that dies in between leaves nothing that the next one does not find.

use super::pack::{self, Packed};
use super::{Archive, ArchiveError, tidy};
use crate::push::Hub;
use chat::{ApplyError, SessionBrief};
use cluster::node::ClusterNode;
use cluster::router::ReplyTo;
use cluster::shard::{Shard, now_ms};
use futures_util::StreamExt;
use proto::archive::{ArchiveChange, ArchivedRange};
use proto::command::{Command, Event};
use proto::ids::{SessionId, ShardId, SiteId};
use proto::peer::ShardReply;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Between two slices of a shard.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Sessions in one slice.
const SLICE: usize = 200;
/// Of them so many are moved at once.
const MOVES_MAX: usize = 8;
/// A shard that was looked through is looked through again after this part of a day.
const ROUNDS_PER_DAY: u32 = 96;
/// Events of one session that are moved at once; one that has more stays, compressed by RocksDB.
const EVENTS_MAX: usize = 16_000;
/// Their bytes.
const BYTES_MAX: usize = 12 << 20;

/// What a site says of old conversations.
#[derive(Clone, Copy)]
struct Rules {
    archive: Option<Duration>,
    retention: Option<Duration>,
}

/// How far a shard was looked through.
#[derive(Default)]
struct Round {
    after: Option<SessionId>,
    rests_until: Option<Instant>,
}

/// Moves what is old enough in the shards that this node leads, until the node is gone. `day`: how long a day is.
pub async fn watch(hub: Weak<Hub>, archive: Arc<Archive>, day: Duration) {
    if archive.place.is_none() {
        return;
    }
    let mut rounds: HashMap<ShardId, Round> = HashMap::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(hub) = hub.upgrade() else { return };
        let Some(node) = hub.node() else { continue };
        let rules = rules(&node, day);
        let led: Vec<Arc<Shard>> = node.router.locals().into_iter().filter(|shard| shard.serving().is_some()).collect();
        rounds.retain(|id, _| led.iter().any(|shard| shard.id == *id));
        match is_there(&archive, &node, !rules.is_empty()).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::warn!(%error, "the archive does not answer");
                continue;
            }
        }
        let turn = Turn { archive: &archive, folders: tidy::folders(&node), orphan_after: day / ROUNDS_PER_DAY };
        for shard in led {
            turn.clear(&shard).await;
            let round = rounds.entry(shard.id).or_default();
            if rules.is_empty() || round.rests_until.is_some_and(|until| Instant::now() < until) {
                continue;
            }
            match turn.look(&shard, &rules, round.after).await {
                Ok(next) => {
                    let rests = next.is_none().then(|| Instant::now() + day / ROUNDS_PER_DAY);
                    *round = Round { after: next, rests_until: rests };
                }
                Err(error) => tracing::error!(shard = %shard.id, %error, "the archive cannot read the shard"),
            }
        }
    }
}

/// Whether the place is the archive. It is made one when something is to be moved for the first time, and never again, wherever it went:
/// an empty directory below a disk that is not mounted is none.
async fn is_there(archive: &Archive, node: &ClusterNode, is_wanted: bool) -> Result<bool, ArchiveError> {
    if archive.is_there().await? {
        return Ok(true);
    }
    let shards = node.router.locals();
    let has_any = |shard: &Arc<Shard>| shard.peek(|state, rows| state.has_archived(rows)).unwrap_or(true);
    if !is_wanted || shards.is_empty() {
        return Ok(false);
    }
    if shards.iter().any(has_any) {
        return Err(ArchiveError::Missing);
    }
    archive.found().await.map(|()| true)
}

/// Sites that let go of old conversations; the others keep all here.
fn rules(node: &ClusterNode, day: Duration) -> BTreeMap<SiteId, Rules> {
    let days = |days: u32| (days > 0).then(|| day * days);
    let read = |state: &cluster::meta::MetaState| {
        let of = |config: &cluster::meta::SiteConfigRow| Rules {
            archive: days(config.archive_days),
            retention: days(config.retention_days),
        };
        let all = state.site_configs.iter().map(|(site, config)| (*site, of(config)));
        all.filter(|(_, rules)| rules.archive.is_some() || rules.retention.is_some()).collect()
    };
    node.with_meta(read).unwrap_or_default()
}

/// One look at every shard.
pub(super) struct Turn<'a> {
    pub archive: &'a Archive,
    /// Folders of objects that are this cluster's own; new ones go to the first.
    pub folders: Vec<String>,
    /// Whoever wrote an object for so long is dead.
    pub orphan_after: Duration,
}

impl Turn<'_> {
    /// Looks through one slice; where the next begins.
    async fn look(
        &self,
        shard: &Arc<Shard>,
        rules: &BTreeMap<SiteId, Rules>,
        after: Option<SessionId>,
    ) -> Result<Option<SessionId>, ApplyError> {
        let wanted = |brief: &SessionBrief| !brief.is_open && brief.head > 0 && rules.contains_key(&brief.site);
        let page = shard.peek(|state, rows| state.find_sessions(rows, after, SLICE, wanted))?;
        let (first, sessions) = (self.folders.first(), page.sessions);
        let Some(folder) = first.map(|folder| format!("{folder}{}/", shard.id.0)) else { return Ok(after) };
        let moved = sessions.into_iter().map(|brief| self.one(shard, &folder, brief.session, rules[&brief.site]));
        let mut moved = futures_util::stream::iter(moved).buffer_unordered(MOVES_MAX);
        while let Some(moved) = moved.next().await {
            match moved {
                Ok(()) => {}
                Err(MoveError::Rows(error)) => return Err(error),
                Err(MoveError::Archive(error)) => {
                    // The same slice is tried again.
                    tracing::warn!(shard = %shard.id, %error, "the archive takes nothing");
                    return Ok(after);
                }
            }
        }
        Ok(page.next)
    }

    async fn one(&self, shard: &Arc<Shard>, folder: &str, id: SessionId, rules: Rules) -> Result<(), MoveError> {
        let before = |age: Duration| now_ms().saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        if let Some(before_ms) = rules.retention.map(before)
            && let Some((range, upto)) = shard.peek(|state, rows| state.cuttable(rows, id, before_ms))?
        {
            self.cut(shard, folder, id, &range, upto).await?;
        }
        if let Some(before_ms) = rules.archive.map(before) {
            let movable = shard.peek(|state, rows| state.movable(rows, id, before_ms, EVENTS_MAX, BYTES_MAX))?;
            if let Some(movable) = movable {
                self.write(shard, folder, id, &movable.events, |ranges| ArchiveChange::Moved { ranges }).await?;
            }
        }
        Ok(())
    }

    /// Writes what is left of a range anew, and lets go of the rest.
    async fn cut(
        &self,
        shard: &Arc<Shard>,
        folder: &str,
        id: SessionId,
        range: &ArchivedRange,
        upto: u64,
    ) -> Result<(), MoveError> {
        let Some(object) = range.object.clone() else { return Ok(()) };
        // It is tried again in the next round; the others go on.
        let Some(held) = self.archive.fetch(object).await else { return Ok(()) };
        let rest: Vec<Arc<Event>> = held.iter().filter(|event| event.seq > upto).cloned().collect();
        let change = |mut ranges: Vec<ArchivedRange>| ArchiveChange::Cut { range: ranges.remove(0) };
        self.write(shard, folder, id, &rest, change).await
    }

    /// Writes events to objects, and then has the log name them.
    async fn write(
        &self,
        shard: &Arc<Shard>,
        folder: &str,
        id: SessionId,
        events: &[Arc<Event>],
        change: impl FnOnce(Vec<ArchivedRange>) -> ArchiveChange,
    ) -> Result<(), MoveError> {
        let (folder, owned) = (folder.to_owned(), events.to_vec());
        let mut attempt = [0; 8];
        if getrandom::fill(&mut attempt).is_err() {
            return Ok(());
        }
        let attempt = u64::from_le_bytes(attempt);
        let packed = cluster::blocking(move || pack::pack(&folder, id, attempt, &owned)).await;
        let Ok(packed) = packed else { return Ok(()) };
        let names: Vec<String> = packed.iter().map(|packed| packed.object.name.clone()).collect();
        if names.is_empty() || !log(shard, id, ArchiveChange::Begin { objects: names.clone() }).await {
            return Ok(());
        }
        let (mut ranges, mut bytes) = (Vec::new(), [0_u64; 2]);
        for Packed { range, object, bytes: object_bytes } in packed {
            if let Err(error) = self.archive.store(&object, object_bytes).await {
                for object in names {
                    log(shard, id, ArchiveChange::Dropped { object }).await;
                }
                return Err(error.into());
            }
            bytes = [bytes[0] + u64::from(object.plain_bytes), bytes[1] + u64::from(object.bytes)];
            ranges.push(range);
        }
        if log(shard, id, change(ranges)).await {
            metrics::counter!("chat_archive_moved_total").increment(1);
            metrics::counter!("chat_archive_plain_bytes_total").increment(bytes[0]);
            metrics::counter!("chat_archive_object_bytes_total").increment(bytes[1]);
        } else {
            // Something has happened in the session meanwhile. Should the log have taken it after all, this is refused.
            tracing::debug!(session = %id, "a session changed while it was moved");
            for object in names {
                log(shard, id, ArchiveChange::Dropped { object }).await;
            }
        }
        Ok(())
    }
}

/// Why a session was not moved.
#[derive(Debug, thiserror::Error)]
pub(super) enum MoveError {
    #[error(transparent)]
    Rows(#[from] ApplyError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Whether the log took a change.
pub(super) async fn log(shard: &Arc<Shard>, session: SessionId, change: ArchiveChange) -> bool {
    let (tell, told) = oneshot::channel();
    shard.propose(&Command::Archive { session, change: Box::new(change) }, ReplyTo::Once(tell));
    matches!(told.await, Ok(ShardReply::Done))
}
