//! Owns the admin API's part about backups: begins one, and says how it goes. Does not make it. Invariant: one at a time per node.

use super::problem;
use crate::backup::{self, BackupError, JobState, Order, Place};
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Json};
use cluster::shard::now_ms;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBackup {
    /// A directory of this node, or a store that it reaches.
    to: String,
    #[serde(default)]
    full: bool,
    /// MiB of rows per second at most.
    rate_mib_s: Option<u32>,
}

/// Begins a backup and answers at once.
pub(super) async fn create(app: Data<App>, body: Json<NewBackup>) -> HttpResponse {
    let NewBackup { to, full, rate_mib_s } = body.into_inner();
    if rate_mib_s == Some(0) {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "rate_mib_s is at least 1");
    }
    let opened = Place::open(&to, true).and_then(|place| Ok((place, backup::new_id(now_ms())?)));
    let (place, id) = match opened {
        Ok(opened) => opened,
        Err(error) => return problem(StatusCode::UNPROCESSABLE_ENTITY, &told(&error)),
    };
    let Some(job) = app.backups.begin(id, to) else {
        return problem(StatusCode::CONFLICT, "this node makes a backup already");
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
    HttpResponse::Accepted().json(json!({ "id": job.id }))
}

/// The causes below an error are what the operator must see to.
fn told(error: &BackupError) -> String {
    error.to_string()
}

/// The last backup that this node made or makes; `null` when there was none since its start.
pub(super) async fn last(app: Data<App>) -> HttpResponse {
    let body = app.backups.last().map_or(Value::Null, |job| shown(&job));
    HttpResponse::Ok().json(json!({ "backup": body }))
}

fn shown(job: &Arc<crate::backup::Job>) -> Value {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let progress = &job.progress;
    let mut body = json!({
        "id": job.id,
        "to": job.to,
        "rows": count(&progress.rows),
        "bytes": count(&progress.bytes),
        "chunks": count(&progress.chunks),
        "chunks_new": count(&progress.chunks_new),
        "bytes_stored": count(&progress.bytes_stored),
    });
    match &*job.state.lock() {
        JobState::Running => body["state"] = "running".into(),
        JobState::Failed(error) => {
            body["state"] = "failed".into();
            body["error"] = error.as_str().into();
        }
        JobState::Done(manifest) => {
            body["state"] = "done".into();
            body["took_ms"] = manifest.finished_ms.saturating_sub(manifest.started_ms).into();
        }
    }
    body
}
