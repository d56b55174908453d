//! Owns the proof that a short run with real nodes and a dozen faults is green. Does not replace the long ones of `make chaos`.

use std::time::Duration;

use anyhow::ensure;
use chaos_tests::chaos::kinds::Kind;
use chaos_tests::chaos::{Abilities, Ended, Settings, run};

const KINDS: [Kind; 12] = [
    Kind::KillLeader,
    Kind::KillMajority,
    Kind::KillAll,
    Kind::Stop,
    Kind::IsolateLeader,
    Kind::Bridge,
    Kind::Loss,
    Kind::PowerLossAll,
    Kind::FsyncEio,
    Kind::DiskFull,
    Kind::ClockJump,
    Kind::Wipe,
];

#[test]
fn a_dozen_mixed_faults_lose_and_double_nothing() -> anyhow::Result<()> {
    let abilities = Abilities::look();
    let mut possible = Vec::new();
    for kind in KINDS {
        match kind.possible(&abilities) {
            Ok(()) => possible.push(kind),
            Err(why) => println!("SKIPPED {}: {why}", kind.name()),
        }
    }
    let dir = tempfile::tempdir()?;
    let ended = run(Settings {
        seed: 20,
        faults_for: Duration::from_secs(150),
        faults_max: Some(KINDS.len() as u64),
        nodes: 3,
        sessions: 100,
        agents: 8,
        pace: Duration::from_millis(400),
        lasts_max: Duration::from_secs(6),
        required: possible.iter().map(|kind| (kind.name().to_owned(), 1)).collect(),
        kinds: possible,
        out: dir.path().to_path_buf(),
        command: "cargo nextest run -E 'test(a_dozen_mixed_faults)'".to_owned(),
    })?;
    if ended != Ended::Passed {
        // The page and the history are worth more than a clean directory.
        println!("kept: {}", dir.keep().display());
    }
    ensure!(ended == Ended::Passed, "the run ended as {ended:?}; its summary stands above");
    Ok(())
}
