//! Owns the clockwork of retention: which sessions this node's shards hold that are older than their site keeps them. Does not erase: the
//! log does. Invariant: a shard is looked through in bounded slices, and one without a quorum holds up no other.

use crate::archive::Archive;
use crate::push::Hub;
use cluster::node::ClusterNode;
use cluster::router::ReplyTo;
use cluster::shard::{Shard, now_ms};
use proto::command::Command;
use proto::ids::{SessionId, ShardId, SiteId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Between two slices of a shard.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Sessions in one slice.
const SLICE: usize = 200;
/// A shard that was looked through is looked through again after this part of a day.
const ROUNDS_PER_DAY: u64 = 96;

/// As long as it is on the clock.
pub const DAY: Duration = Duration::from_secs(86_400);

/// What becomes of old conversations on this node.
pub struct Aging {
    /// How long a day is.
    pub day: Duration,
    pub archive: Arc<Archive>,
}

impl Aging {
    /// `archive`: a place, if there is one.
    /// # Errors
    /// No such form of a place.
    pub fn new(day: Duration, archive: Option<&str>) -> Result<Aging, crate::backup::BackupError> {
        Ok(Aging { day, archive: Archive::open(archive)? })
    }

    /// Real days, and no archive.
    #[cfg(any(test, feature = "sim"))]
    pub fn nowhere() -> Aging {
        Aging::new(DAY, None).expect("no place cannot be wrong")
    }
}

/// How far a shard was looked through.
#[derive(Default)]
struct Round {
    after: Option<SessionId>,
    /// It is through: not again before then.
    rests_until: Option<Instant>,
}

/// Erases what is too old in the shards that this node leads, until the node is gone. `day`: how long a day is.
pub async fn watch(hub: Weak<Hub>, day: Duration) {
    let mut rounds: HashMap<ShardId, Round> = HashMap::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(hub) = hub.upgrade() else { return };
        let Some(node) = hub.node() else { continue };
        let kept = kept(&node, day);
        let led: Vec<Arc<Shard>> =
            node.router.locals().into_iter().filter(|shard| shard.serving().is_some() && !kept.is_empty()).collect();
        rounds.retain(|id, _| led.iter().any(|shard| shard.id == *id));
        for shard in led {
            let round = rounds.entry(shard.id).or_default();
            if round.rests_until.is_some_and(|until| Instant::now() < until) {
                continue;
            }
            match look(&shard, &kept, round.after, now_ms()) {
                Ok(next) => {
                    let rests = next.is_none().then(|| Instant::now() + day / ROUNDS_PER_DAY as u32);
                    *round = Round { after: next, rests_until: rests };
                }
                Err(error) => tracing::error!(shard = %shard.id, %error, "retention cannot read the shard"),
            }
        }
    }
}

/// How long each site keeps what was said; one that is not there keeps it for ever.
fn kept(node: &ClusterNode, day: Duration) -> BTreeMap<SiteId, Duration> {
    let read = |state: &cluster::meta::MetaState| {
        let limited = state.site_configs.iter().filter(|(_, config)| config.retention_days > 0);
        limited.map(|(site, config)| (*site, day * config.retention_days)).collect()
    };
    node.with_meta(read).unwrap_or_default()
}

/// Looks through one slice; where the next begins.
fn look(
    shard: &Arc<Shard>,
    kept: &BTreeMap<SiteId, Duration>,
    after: Option<SessionId>,
    now_ms: u64,
) -> Result<Option<SessionId>, chat::ApplyError> {
    let wanted = |brief: &chat::SessionBrief| !brief.is_open() && brief.head > 0 && kept.contains_key(&brief.site);
    let page = shard.peek(|state, rows| state.find_sessions(rows, after, SLICE, wanted))?;
    for brief in page.sessions {
        let before_ms = now_ms.saturating_sub(u64::try_from(kept[&brief.site].as_millis()).unwrap_or(u64::MAX));
        // The lock is given back between two sessions: each reads a block or two.
        if let Some(upto) = shard.peek(|state, rows| state.erasable(rows, brief.session, before_ms))? {
            metrics::counter!("chat_retention_erased_total").increment(1);
            // Whatever becomes of it, the next round sees.
            shard.propose(&Command::Erase { session: brief.session, upto, forget: false }, ReplyTo::Nobody);
        }
    }
    Ok(page.next)
}
