//! The simulation as a program: one seed, or many of them in processes of their own. See docs/RELIABILITY.md.

mod system;

use std::time::Duration;

use chaos_tests::sim::{Settings, run};

fn main() -> anyhow::Result<()> {
    let seed: u64 = std::env::args().nth(1).unwrap_or_default().parse()?;
    let seconds: u64 = std::env::args().nth(2).unwrap_or("40".to_owned()).parse()?;
    let dir = tempfile::tempdir_in("/dev/shm")?;
    if std::env::var_os("EVERDESK_SIM_LOG").is_some() {
        tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(std::io::stderr).init();
    }
    // A panic in any task of a node is a fault of the node, even where tokio would only end the task.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("PANIC {panic}\n{}", std::backtrace::Backtrace::force_capture());
        std::process::exit(101);
    }));
    let settings = Settings {
        seed,
        faults_for: Duration::from_secs(seconds),
        nodes: 3,
        shards: 2,
        visitors: 8,
        agents: 3,
        dir: dir.path().to_path_buf(),
    };
    let (result, outcome) = run(&settings);
    let mut lines = String::new();
    for record in &outcome.records {
        lines.push_str(&serde_json::to_string(record)?);
        lines.push('\n');
    }
    let hash = xxhash_rust::xxh3::xxh3_64(lines.as_bytes());
    println!(
        "seed {seed}: {:?}, {} acks, {} lines, trace {hash:016x}: {result:?}",
        outcome.took,
        outcome.acks,
        outcome.records.len()
    );
    if let Some(path) = std::env::var_os("EVERDESK_SIM_OUT") {
        std::fs::write(path, lines)?;
    }
    drop(dir);
    if result.is_err() {
        std::process::exit(1);
    }
    Ok(())
}
