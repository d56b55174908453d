//! Owns CPU and heap profiles of the node that is asked. Does not read them. Invariant: one at a time, for a bounded time; at rest
//! neither profiler runs.

use super::problem::Problem;
use crate::run::App;
use actix_web::web::{self, Data, Query};
use actix_web::{HttpResponse, http::StatusCode};
use pprof::ProfilerGuard;
use pprof_util::{StackProfile, WeightedStack};
use serde::Deserialize;
use std::fmt::Write;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// Looks per second of the CPU profile; odd, so that it does not beat with what runs every so many milliseconds.
const LOOKS_HZ: i32 = 97;
const SECONDS_MAX: u64 = 60;
const SECONDS_DEFAULT: u64 = 10;
/// What the two forms are sent as.
pub const TYPES: &[&str] = &["application/octet-stream", "text/plain"];

/// How a profile is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Gzipped protobuf for `go tool pprof EVERDESK FILE`, which reads the names from the program.
    Pprof,
    /// One stack per line with names, for flame graphs.
    Folded,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct CpuQuery {
    #[param(minimum = 1, maximum = 60, nullable = false)]
    seconds: Option<u64>,
    #[param(inline, nullable = false)]
    format: Option<Form>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct HeapQuery {
    #[param(minimum = 1, maximum = 60, nullable = false)]
    seconds: Option<u64>,
}

fn seconds(asked: Option<u64>) -> Result<Duration, Problem> {
    match asked.unwrap_or(SECONDS_DEFAULT) {
        seconds @ 1..=SECONDS_MAX => Ok(Duration::from_secs(seconds)),
        _ => Err(Problem::bad_request("seconds is 1 to 60")),
    }
}

fn busy() -> Problem {
    Problem::unavailable("a profile is being taken already")
}

/// Where the program spends its time.
pub async fn cpu(app: Data<App>, query: Query<CpuQuery>) -> Result<HttpResponse, Problem> {
    let seconds = seconds(query.seconds)?;
    let _one = app.admin.profiling.try_lock().map_err(|_| busy())?;
    // Frames of these may be half-way through their own locks when the signal comes.
    let guard = pprof::ProfilerGuardBuilder::default()
        .frequency(LOOKS_HZ)
        .blocklist(&["libc", "libgcc", "pthread", "vdso"])
        .build()
        .map_err(no_profile)?;
    tokio::time::sleep(seconds).await;
    let is_folded = query.format == Some(Form::Folded);
    // Finding the names of addresses takes seconds.
    let made = web::block(move || if is_folded { folded(&guard).map(String::into_bytes) } else { pprof_of(&guard) });
    let bytes = made.await.map_err(|_| Problem::fault("no profile"))?.map_err(no_profile)?;
    let kind = if is_folded { "text/plain; charset=utf-8" } else { "application/octet-stream" };
    Ok(HttpResponse::Ok().content_type(kind).body(bytes))
}

fn no_profile(error: pprof::Error) -> Problem {
    Problem::fault(format!("no profile: {error}"))
}

/// Addresses as they are; who reads the profile finds their names in the binary.
fn pprof_of(guard: &ProfilerGuard<'_>) -> pprof::Result<Vec<u8>> {
    let mut profile = StackProfile::default();
    for mapping in mappings::MAPPINGS.as_deref().unwrap_or_default() {
        profile.push_mapping(mapping.clone());
    }
    for (frames, count) in guard.report().build_unresolved()?.data {
        let addrs = frames.frames.iter().map(|frame| frame.ip() as usize).collect();
        profile.push_stack(WeightedStack { addrs, weight: count as f64 }, None);
    }
    Ok(profile.to_pprof(("samples", "count"), ("cpu", "nanoseconds"), None))
}

fn folded(guard: &ProfilerGuard<'_>) -> pprof::Result<String> {
    let report = guard.report().build()?;
    let mut text = String::new();
    for (frames, count) in &report.data {
        // The thread first, then from the outermost call inwards.
        text.push_str(&frames.thread_name);
        for symbol in frames.frames.iter().rev().flat_map(|inlined| inlined.iter().rev()) {
            let _ = write!(text, ";{}", symbol.name());
        }
        let _ = writeln!(text, " {count}");
    }
    Ok(text)
}

/// What was allocated while the profile was taken and is still held at its end.
pub async fn heap(app: Data<App>, query: Query<HeapQuery>) -> Result<HttpResponse, Problem> {
    let seconds = seconds(query.seconds)?;
    let _one = app.admin.profiling.try_lock().map_err(|_| busy())?;
    let missing = || Problem::new(StatusCode::NOT_IMPLEMENTED, "this build's allocator cannot take profiles");
    let control = jemalloc_pprof::PROF_CTL.as_ref().ok_or_else(missing)?;
    let failed = |_| Problem::fault("the allocator does not take profiles");
    let active = Active(control.clone());
    control.lock().await.activate().map_err(failed)?;
    tokio::time::sleep(seconds).await;
    let dumped = control.lock().await.dump_pprof();
    drop(active);
    let bytes = dumped.map_err(|error| Problem::fault(format!("no profile: {error}")))?;
    Ok(HttpResponse::Ok().content_type("application/octet-stream").body(bytes))
}

/// Ends heap profiling also when the one who asked goes away.
struct Active(std::sync::Arc<tokio::sync::Mutex<jemalloc_pprof::JemallocProfCtl>>);

impl Drop for Active {
    fn drop(&mut self) {
        // Nobody else holds it: profiles are taken one at a time.
        if let Ok(mut control) = self.0.try_lock()
            && let Err(error) = control.deactivate()
        {
            tracing::warn!(%error, "heap profiling goes on");
        }
    }
}
