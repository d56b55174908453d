//! Owns the admin API's part about backups: begins one, and says how it goes. Does not make it. Invariant: one at a time per node.

use super::Answer;
use super::problem::Problem;
use crate::backup::{self, BackupError, JobState, Order, Place};
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::web::{Data, Json};
use cluster::shard::now_ms;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use utoipa::ToSchema;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBackup {
    /// A directory of this node, or a store that it reaches.
    to: String,
    #[serde(default)]
    full: bool,
    /// MiB of rows per second at most.
    #[serde(default)]
    #[schema(minimum = 1)]
    rate_mib_s: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Begun {
    pub id: String,
}

/// Begins a backup and answers at once.
pub async fn create(app: Data<App>, body: Json<NewBackup>) -> Result<HttpResponse, Problem> {
    let NewBackup { to, full, rate_mib_s } = body.into_inner();
    if rate_mib_s == Some(0) {
        return Err(Problem::refused("rate_mib_s is at least 1"));
    }
    let opened = Place::open(&to, true).and_then(|place| Ok((place, backup::new_id(now_ms())?)));
    let (place, id) = opened.map_err(|error| Problem::refused(told(&error)))?;
    let Some(job) = app.backups.begin(id, to) else {
        return Err(Problem::conflict("this node makes a backup already"));
    };
    let order = Order { full, bytes_per_s_max: rate_mib_s.map(|rate| u64::from(rate) << 20) };
    let (node, running) = (app.cluster.clone(), job.clone());
    app.cluster.spawn(async move {
        let made = backup::create(node, place, order, running.clone()).await;
        *running.state.lock() = match made {
            Ok(manifest) => {
                tracing::info!(id = running.id, bytes = manifest.bytes(), "backup made");
                JobState::Done(Box::new(manifest))
            }
            Err(error) => {
                let error = told(&error);
                tracing::error!(id = running.id, error, "backup failed");
                JobState::Failed(error)
            }
        };
    });
    Ok(HttpResponse::Accepted().json(Begun { id: job.id.clone() }))
}

/// The causes below an error are what the operator must see to.
fn told(error: &BackupError) -> String {
    error.to_string()
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackupState {
    Running,
    Done,
    Failed,
}

/// One backup.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackupView {
    pub id: String,
    pub to: String,
    pub state: BackupState,
    pub rows: u64,
    pub bytes: u64,
    pub chunks: u64,
    pub chunks_new: u64,
    pub bytes_stored: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LastBackup {
    pub backup: Option<BackupView>,
}

/// The last backup that this node made or makes; `null` when there was none since its start.
pub async fn last(app: Data<App>) -> Answer<LastBackup> {
    Ok(Json(LastBackup { backup: app.backups.last().map(|job| shown(&job)) }))
}

fn shown(job: &backup::Job) -> BackupView {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let progress = &job.progress;
    let (state, error, took_ms) = match &*job.state.lock() {
        JobState::Running => (BackupState::Running, None, None),
        JobState::Failed(error) => (BackupState::Failed, Some(error.clone()), None),
        JobState::Done(manifest) => {
            (BackupState::Done, None, Some(manifest.finished_ms.saturating_sub(manifest.started_ms)))
        }
    };
    BackupView {
        id: job.id.clone(),
        to: job.to.clone(),
        state,
        rows: count(&progress.rows),
        bytes: count(&progress.bytes),
        chunks: count(&progress.chunks),
        chunks_new: count(&progress.chunks_new),
        bytes_stored: count(&progress.bytes_stored),
        error,
        took_ms,
    }
}
