//! Owns what a simulated machine needs of this crate: a disk without threads. Compiled with the feature `sim` only.
//! Does not inject faults. Invariant: everything random here comes from the seed, through the system's random numbers.

use std::sync::Arc;
use std::time::Duration;
use storage::{DrivenWriter, LogWriter, MemEngine, OnFatal, Watermarks, WriterOptions};
use tokio::sync::Notify;

use crate::node::Storage;

/// Longest time that a step of the disk takes. Most take a tenth.
const DISK_STEP_MAX: Duration = Duration::from_millis(4);
/// How long the watermark file may lag behind.
const WATERMARKS_PACE: Duration = Duration::from_millis(5);

/// How long the disk takes for the next step.
pub fn disk_pause() -> Duration {
    let random = getrandom::u32().unwrap_or(0);
    // Most steps are quick, some are not: orders that never vary hide faults.
    let max = if random.is_multiple_of(16) { DISK_STEP_MAX } else { DISK_STEP_MAX / 10 };
    max / 256 * (random >> 8 & 0xff)
}

/// Opens the storage of a node on a simulated disk. Its log writer is a task of the current runtime and ends with it.
pub fn open_storage(engine: Arc<MemEngine>, on_fatal: OnFatal) -> Storage {
    let watermarks = Watermarks::in_memory(&engine);
    let holds_replicas = !watermarks.is_empty();
    let queued = Arc::new(Notify::new());
    let wake = queued.clone();
    let (writer, driven) = LogWriter::driven(
        engine.clone(),
        watermarks,
        WriterOptions::default(),
        on_fatal,
        Arc::new(move || wake.notify_one()),
    );
    #[expect(clippy::disallowed_methods, reason = "stands for the writer's thread, which ends with the machine")]
    tokio::spawn(write(driven, queued));
    Storage { engine, writer, holds_replicas }
}

async fn write(mut writer: DrivenWriter, queued: Arc<Notify>) {
    let mut follows_at = tokio::time::Instant::now();
    loop {
        while writer.gather() {
            tokio::time::sleep(disk_pause()).await;
            writer.store();
            // The disk has it, and nobody was told: a crash here leaves the outcome open.
            tokio::time::sleep(disk_pause() / 2).await;
            writer.answer();
            if follows_at.elapsed() >= WATERMARKS_PACE {
                writer.follow();
                follows_at = tokio::time::Instant::now();
            }
        }
        if tokio::time::timeout(WATERMARKS_PACE, queued.notified()).await.is_err() {
            writer.follow();
            queued.notified().await;
        }
    }
}
