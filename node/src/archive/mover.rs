//! Owns the clockwork of the archive: which sessions this node's shards hold that are old enough, and the way of their events to objects. Does
//! not change the state: the log does. Invariant: the log knows of an object before it is written, and names it only after it was read back;
//! a leader that dies in between leaves nothing that the next one does not find.

use super::gate::Gate;
use super::pack::{self, Packed};
use super::{Archive, ArchiveError, tidy};
use crate::push::Hub;
use chat::{ApplyError, Movable, SessionBrief};
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
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// With nothing to do there, the place is asked so often whether it is still the archive.
const ASK_EVERY: Duration = Duration::from_secs(30);
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
/// So many bytes of them are read while the shard waits.
const STEP_BYTES: usize = 256 << 10;

/// What a site says of old conversations and files.
#[derive(Clone, Copy, Default)]
pub(super) struct Rules {
    archive: Option<Duration>,
    retention: Option<Duration>,
    pub files: Option<Duration>,
}

impl Rules {
    fn is_of_events(&self) -> bool {
        self.archive.is_some() || self.retention.is_some()
    }
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
    let mut asked_at = Instant::now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(hub) = hub.upgrade() else { return };
        let Some(node) = hub.node() else { continue };
        let rules = rules(&node, day);
        let led = led(&node);
        rounds.retain(|id, _| led.iter().any(|shard| shard.id == *id));
        let turn = Turn::new(&archive, &node, day);
        for shard in &led {
            turn.clear(shard).await;
            let round = rounds.entry(shard.id).or_default();
            let rests = round.rests_until.is_some_and(|until| Instant::now() < until);
            if rests || !rules.values().any(Rules::is_of_events) {
                continue;
            }
            match turn.look(shard, &rules, round.after).await {
                Ok(next) => {
                    let rests = next.is_none().then(|| Instant::now() + day / ROUNDS_PER_DAY);
                    *round = Round { after: next, rests_until: rests };
                }
                Err(error) => tracing::error!(shard = %shard.id, %error, "the archive cannot read the shard"),
            }
        }
        // Who will need the place hears early that it is away.
        if !rules.is_empty() && !led.is_empty() && asked_at.elapsed() >= ASK_EVERY {
            asked_at = Instant::now();
            if let Err(error) = turn.gate.pass().await {
                tracing::warn!(%error, "the archive does not answer");
            }
        }
    }
}

/// Shards that this node leads.
pub(super) fn led(node: &ClusterNode) -> Vec<Arc<Shard>> {
    node.router.locals().into_iter().filter(|shard| shard.serving().is_some()).collect()
}

/// Sites that let go of old conversations or of files; the others keep all here.
pub(super) fn rules(node: &ClusterNode, day: Duration) -> BTreeMap<SiteId, Rules> {
    let days = |days: u32| (days > 0).then(|| day * days);
    let read = |state: &cluster::meta::MetaState| {
        let of = |config: &cluster::meta::SiteConfigRow| Rules {
            archive: days(config.archive_days),
            retention: days(config.retention_days),
            files: config.archive_files_hours.map(|hours| day * hours / 24),
        };
        let all = state.site_configs.iter().map(|(site, config)| (*site, of(config)));
        all.filter(|(_, rules)| rules.is_of_events() || rules.files.is_some()).collect()
    };
    node.with_meta(read).unwrap_or_default()
}

/// One look at every shard.
pub(super) struct Turn<'a> {
    pub archive: &'a Archive,
    pub gate: Gate<'a>,
    /// Folders of objects that are this cluster's own; new ones go to the first.
    pub folders: Vec<String>,
    /// Whoever wrote an object for so long is dead.
    pub orphan_after: Duration,
}

impl<'a> Turn<'a> {
    pub fn new(archive: &'a Archive, node: &'a ClusterNode, day: Duration) -> Turn<'a> {
        Turn {
            archive,
            gate: Gate::new(archive, node),
            folders: tidy::folders(node),
            orphan_after: day / ROUNDS_PER_DAY,
        }
    }

    /// Where new objects of a shard go.
    pub fn folder(&self, shard: &Shard) -> Option<String> {
        self.folders.first().map(|folder| format!("{folder}{}/", shard.id.0))
    }
}

impl Turn<'_> {
    /// Looks through one slice; where the next begins.
    async fn look(
        &self,
        shard: &Arc<Shard>,
        rules: &BTreeMap<SiteId, Rules>,
        after: Option<SessionId>,
    ) -> Result<Option<SessionId>, ApplyError> {
        let has_rules = |site: &SiteId| rules.get(site).is_some_and(Rules::is_of_events);
        let wanted = |brief: &SessionBrief| !brief.is_open() && brief.head > 0 && has_rules(&brief.site);
        let page = shard.peek(|state, rows| state.find_sessions(rows, after, SLICE, wanted))?;
        let Some(folder) = self.folder(shard) else { return Ok(after) };
        let moved = page.sessions.into_iter().map(|brief| self.one(shard, &folder, brief.session, rules[&brief.site]));
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
            let movable = shard.peek(|state, rows| state.movable(rows, id, before_ms, EVENTS_MAX))?;
            if let Some(of) = movable
                && let Some(events) = events_of(shard, id, of).await?
            {
                self.write(shard, folder, id, &events, |ranges| ArchiveChange::Moved { ranges }).await?;
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
        let held = match self.archive.fetch(object.clone()).await {
            Ok(held) => held,
            Err(error) => {
                let ranges = shard.peek(|state, rows| state.archived(rows, id))?;
                if matches!(error, ArchiveError::Missing) && ranges.contains(range) {
                    self.archive.tell_lost(&object.name);
                }
                // It is tried again in the next round; the others go on.
                return Ok(());
            }
        };
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
        let Some(attempt) = attempt() else { return Ok(()) };
        let packed = cluster::blocking(move || pack::pack(&folder, id, attempt, &owned)).await;
        let Ok(packed) = packed else { return Ok(()) };
        let names: Vec<String> = packed.iter().map(|packed| packed.object.name.clone()).collect();
        self.gate.pass().await?;
        if names.is_empty() || !log(shard, id, ArchiveChange::Begin { objects: names.clone() }).await {
            return Ok(());
        }
        let (mut ranges, mut bytes) = (Vec::new(), [0_u64; 2]);
        for Packed { range, object, bytes: object_bytes } in packed {
            if let Err(error) = self.archive.store(&object, object_bytes).await {
                drop_all(shard, id, names).await;
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
            drop_all(shard, id, names).await;
        }
        Ok(())
    }
}

/// What is to be moved, step by step: the shard goes on in between. `None`: it is not worth it, or too much, or something has happened.
async fn events_of(shard: &Arc<Shard>, id: SessionId, of: Movable) -> Result<Option<Vec<Arc<Event>>>, ApplyError> {
    let (mut events, mut bytes) = (Vec::new(), 0);
    loop {
        let seq = events.last().map_or(of.after, |event: &Arc<Event>| event.seq);
        if seq == of.upto {
            break;
        }
        let page = shard.peek(|state, rows| state.movable_page(rows, id, of, seq, STEP_BYTES))?;
        let Some((page, page_bytes)) = page else { return Ok(None) };
        bytes += page_bytes;
        if bytes > BYTES_MAX {
            return Ok(None);
        }
        events.extend(page);
        tokio::task::yield_now().await;
    }
    Ok(chat::is_worth_moving(&events).then_some(events))
}

/// Why a session was not moved.
#[derive(Debug, thiserror::Error)]
pub(super) enum MoveError {
    #[error(transparent)]
    Rows(#[from] ApplyError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Of names of objects, drawn anew each time; `None`: there is no randomness.
pub(super) fn attempt() -> Option<u64> {
    let mut drawn = [0; 8];
    getrandom::fill(&mut drawn).ok()?;
    Some(u64::from_le_bytes(drawn))
}

/// Has the log give up objects that nothing names.
pub(super) async fn drop_all(shard: &Arc<Shard>, session: SessionId, objects: Vec<String>) {
    for object in objects {
        log(shard, session, ArchiveChange::Dropped { object }).await;
    }
}

/// Whether the log took a change.
pub(super) async fn log(shard: &Arc<Shard>, session: SessionId, change: ArchiveChange) -> bool {
    let (tell, told) = oneshot::channel();
    shard.propose(&Command::Archive { session, change: Box::new(change) }, ReplyTo::Once(tell));
    matches!(told.await, Ok(ShardReply::Done))
}
