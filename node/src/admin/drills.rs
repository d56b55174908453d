//! Owns faults that an administrator causes on purpose, and the report of what was seen. Does not carry the faults: links and the
//! log writer do. Invariant: only with `--allow-drills`, one at a time from a node, and each ends by itself after a bounded time.

use super::Answer;
use super::ask::{Ask, ask, leader_of};
use super::nodes::known;
use super::problem::Problem;
use super::sessions::call_shard;
use crate::hooks::Local;
use crate::run::App;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Json};
use cluster::node::ClusterNode;
use cluster::shard::now_ms;
use parking_lot::Mutex;
use proto::command::Target;
use proto::ids::{META_SHARD, NodeId, SessionId, ShardId};
use proto::peer::{Page, Refused, ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use utoipa::ToSchema;

const FOR_MS: std::ops::RangeInclusive<u64> = 100..=20_000;
const DELAY_MS: std::ops::RangeInclusive<u64> = 1..=2_000;
/// Reports that a node keeps.
const REPORTS_MAX: usize = 20;
/// Pause between two probes of a shard.
const PROBE_EVERY: Duration = Duration::from_millis(20);
/// How long is looked on after the fault has ended.
const LOOK_ON: Duration = Duration::from_secs(1);

/// A fault on one node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Its replica of the shard says nothing.
    Mute { shard: ShardId, for_ms: u64 },
    /// Nothing passes between it and the peer.
    Pause { peer: NodeId, for_ms: u64 },
    /// Each sync of its log takes longer.
    SlowDisk { delay_ms: u64, for_ms: u64 },
}

/// The drills of one node.
#[derive(Default)]
pub struct Drills {
    running: tokio::sync::Mutex<()>,
    reports: Mutex<VecDeque<DrillReport>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DrillKind {
    /// The leader of `shard` falls silent: the others elect a new one.
    Leader,
    /// Nothing passes between `node` and `peer`.
    Link,
    /// Each sync of the log of `node` takes `delay_ms` longer.
    Disk,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrillBody {
    pub kind: DrillKind,
    /// How long the fault lasts.
    #[schema(minimum = 100, maximum = 20_000)]
    pub for_ms: u64,
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^g[1-9][0-9]{0,8}$")]
    pub shard: Option<ShardId>,
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^n[1-9][0-9]{0,8}$")]
    pub node: Option<NodeId>,
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^n[1-9][0-9]{0,8}$")]
    pub peer: Option<NodeId>,
    #[serde(default)]
    #[schema(minimum = 1, maximum = 2_000)]
    pub delay_ms: Option<u64>,
}

/// What was seen of one shard, by linearizable reads from the node that was asked.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ShardSeen {
    #[schema(value_type = String, example = "g1")]
    pub shard: ShardId,
    #[schema(value_type = Option<String>)]
    pub leader_before: Option<NodeId>,
    #[schema(value_type = Option<String>)]
    pub leader_after: Option<NodeId>,
    pub epoch_before: u64,
    pub epoch_after: u64,
    /// Reads that were answered, and those that were not.
    pub answered: u64,
    pub unanswered: u64,
    /// The longest time without an answer.
    pub gap_ms: u64,
}

/// What a drill did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DrillReport {
    pub kind: DrillKind,
    /// The node that had the fault.
    #[schema(value_type = String, example = "n1")]
    pub node: NodeId,
    /// Milliseconds since 1970.
    pub started_ms: u64,
    pub for_ms: u64,
    pub shards: Vec<ShardSeen>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Reports {
    /// The newest last; only those of the node that is asked.
    pub drills: Vec<DrillReport>,
}

fn not_allowed() -> Problem {
    let detail = "drills are not allowed: the nodes must be started with --allow-drills";
    Problem::new(StatusCode::FORBIDDEN, detail).of_kind("drills-not-allowed")
}

/// Causes a fault on this node.
/// # Errors
/// 403 unless the node was started for it.
pub fn cause(local: &Local, node: &Arc<ClusterNode>, fault: &Fault) -> Result<(), Problem> {
    if !local.allow_drills {
        return Err(not_allowed());
    }
    let lasts = |for_ms: u64| Duration::from_millis(for_ms.min(*FOR_MS.end()));
    tracing::warn!(?fault, "an administrator causes a fault for a drill");
    match *fault {
        Fault::Mute { shard, for_ms } => node.transport.mute(shard, lasts(for_ms)),
        Fault::Pause { peer, for_ms } => {
            let peer = node.transport.peer(peer).ok_or_else(|| Problem::refused("these nodes have no link"))?;
            peer.pause(lasts(for_ms));
        }
        Fault::SlowDisk { delay_ms, for_ms } => {
            node.slow_disk(Duration::from_millis(delay_ms.min(*DELAY_MS.end())), lasts(for_ms));
        }
    }
    Ok(())
}

/// The node that has the fault, the fault, and the shards to watch.
fn plan(app: &App, body: &DrillBody) -> Result<(NodeId, Fault, Vec<ShardId>), Problem> {
    let for_ms = body.for_ms;
    if !FOR_MS.contains(&for_ms) {
        return Err(Problem::refused("for_ms is 100 to 20000"));
    }
    let node = |id: Option<NodeId>, what: &str| {
        let id = id.ok_or_else(|| Problem::refused(format!("this kind needs `{what}`")))?;
        known(app, &id.to_string()).map_err(|_| Problem::refused(format!("`{what}`: no such node")))
    };
    let all = (1..=app.cluster.shards).map(ShardId).collect();
    match body.kind {
        DrillKind::Leader => {
            let shard = body.shard.filter(|shard| *shard != META_SHARD && shard.0 <= app.cluster.shards);
            let shard = shard.ok_or_else(|| Problem::refused("this kind needs `shard`, one that holds sessions"))?;
            Ok((leader_of(app, shard)?, Fault::Mute { shard, for_ms }, vec![shard]))
        }
        DrillKind::Link => {
            let (node, peer) = (node(body.node, "node")?, node(body.peer, "peer")?);
            if node == peer {
                return Err(Problem::refused("a node has no link to itself"));
            }
            Ok((node, Fault::Pause { peer, for_ms }, all))
        }
        DrillKind::Disk => {
            let delay_ms = body.delay_ms.filter(|delay| DELAY_MS.contains(delay));
            let delay_ms = delay_ms.ok_or_else(|| Problem::refused("this kind needs `delay_ms`, 1 to 2000"))?;
            Ok((node(body.node, "node")?, Fault::SlowDisk { delay_ms, for_ms }, all))
        }
    }
}

/// Causes the fault, looks on until a second after its end, and reports.
pub async fn run(app: Data<App>, body: Json<DrillBody>) -> Answer<DrillReport> {
    if !app.admin.allow_drills {
        return Err(not_allowed());
    }
    let _one = app.admin.drills.running.try_lock().map_err(|_| Problem::unavailable("a drill is under way already"))?;
    let (node, fault, shards) = plan(&app, &body)?;
    let started_ms = now_ms();
    let until = Instant::now() + Duration::from_millis(body.for_ms) + LOOK_ON;
    let seen =
        async { futures_util::future::join_all(shards.into_iter().map(|shard| watch(&app, shard, until))).await };
    let (caused, shards) = futures_util::future::join(ask::<()>(&app, node, &Ask::Fault(fault)), seen).await;
    caused?;
    let report = DrillReport { kind: body.kind, node, started_ms, for_ms: body.for_ms, shards };
    let mut reports = app.admin.drills.reports.lock();
    if reports.len() >= REPORTS_MAX {
        reports.pop_front();
    }
    reports.push_back(report.clone());
    Ok(Json(report))
}

async fn watch(app: &App, shard: ShardId, until: Instant) -> ShardSeen {
    let told = || app.cluster.router.told_leader(shard);
    let before = told();
    let session = some_session(app, shard);
    let (mut answered, mut unanswered, mut gap, mut last) = (0, 0, Duration::ZERO, Instant::now());
    while Instant::now() < until {
        let probe = ShardCall::History { session, page: Page::Latest, limit: 1, site: None };
        match call_shard(app, shard, probe).await {
            // A quorum proved that the leader leads before it looked, and found nothing.
            ShardReply::Refused(Refused::UnknownSession) | ShardReply::History { .. } => {
                answered += 1;
                gap = gap.max(last.elapsed());
                last = Instant::now();
            }
            _ => unanswered += 1,
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
    let after = told();
    ShardSeen {
        shard,
        leader_before: before.map(|(node, _)| node),
        leader_after: after.map(|(node, _)| node),
        epoch_before: before.map_or(0, |(_, epoch)| epoch.0),
        epoch_after: after.map_or(0, |(_, epoch)| epoch.0),
        answered,
        unanswered,
        gap_ms: gap.max(last.elapsed()).as_millis() as u64,
    }
}

/// A session id that belongs to the shard and to nobody.
fn some_session(app: &App, shard: ShardId) -> SessionId {
    let ids = (0..u128::MAX).map(SessionId);
    ids.into_iter().find(|id| app.cluster.router.shard_of(Target::Session(*id)) == shard).unwrap_or_default()
}

pub async fn list(app: Data<App>) -> Answer<Reports> {
    Ok(Json(Reports { drills: app.admin.drills.reports.lock().iter().cloned().collect() }))
}
