//! Owns the tests that cut the power after every sync. Does not test lost files (see `amnesia`).
//! Invariant: what comes back is the state after some prefix of the writes, at least the acknowledged ones, and never an alarm.

use bytes::Bytes;
use proptest::prelude::*;
use storage::{LogState, MemEngine, RaftLog, Watermarks, WriterOptions};

use crate::support::{LogExt, Node, Ticket, entries, ticket};

#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    Vote,
    /// Keeps all but this many of the last entries.
    Truncate(u64),
    /// Purges this many of the first entries, or beyond the last one.
    Purge(u64),
}

/// What a log must look like after some steps.
#[derive(Debug, Clone, PartialEq)]
struct Model {
    purged: Option<(u64, u64)>,
    entries: Vec<(u64, u64)>,
    votes: u64,
    term: u64,
}

impl Model {
    fn new() -> Model {
        Model { purged: None, entries: Vec::new(), votes: 0, term: 1 }
    }

    fn state(&self) -> LogState {
        LogState { purged: self.purged, last: self.entries.last().copied().or(self.purged) }
    }

    fn next(&self) -> u64 {
        self.state().last.map_or(0, |(index, _)| index + 1)
    }

    /// Does the step to the model and to the log.
    fn step(&mut self, step: &Step, log: &RaftLog) -> Ticket {
        let (done, ticket) = ticket();
        let next = self.next();
        match *step {
            Step::Append(count) => {
                self.entries.extend((next..next + count).map(|index| (index, self.term)));
                log.append(entries(next..next + count, self.term), done);
            }
            Step::Vote => {
                self.votes += 1;
                log.save_vote(Bytes::from(self.votes.to_string()), done);
            }
            Step::Truncate(count) => {
                let kept = self.entries.len().saturating_sub(usize::try_from(count).unwrap());
                self.entries.truncate(kept);
                self.term += 1;
                log.truncate_after(self.state().last.map(|(index, _)| index), done);
            }
            Step::Purge(count) => {
                let first = self.purged.map_or(0, |(index, _)| index + 1);
                let upto = first + count;
                let term = self.entries.iter().find(|(index, _)| *index == upto).map_or(self.term, |(_, term)| *term);
                self.entries.retain(|(index, _)| *index > upto);
                self.purged = Some((upto, term));
                log.purge((upto, term), done);
            }
        }
        ticket
    }

    fn of(log: &RaftLog, term: u64) -> Model {
        let votes = log.vote().map_or(0, |vote| std::str::from_utf8(&vote).unwrap().parse().unwrap());
        Model { purged: log.state().purged, entries: log.all(), votes, term }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u64..6).prop_map(Step::Append),
        1 => Just(Step::Vote),
        2 => (0u64..6).prop_map(Step::Truncate),
        1 => (0u64..8).prop_map(Step::Purge),
    ];
    prop::collection::vec(step, 1..14)
}

/// Runs the steps until the power fails, restarts, and checks what came back. Returns it with the restarted machine.
fn run(
    engine: &MemEngine,
    node: &Node,
    steps: &[Step],
    waits: bool,
    mut model: Model,
) -> (Model, std::sync::Arc<MemEngine>) {
    let mut states = vec![model.clone()];
    let mut tickets = Vec::new();
    let mut acked = 0;
    // The power may fail before the replica is born.
    if let Ok(storage::Opened::Intact(log)) =
        RaftLog::open(node.engine.clone(), node.writer.clone(), crate::support::REPLICA, storage::LogOptions::default())
    {
        for step in steps {
            let ticket = model.step(step, &log);
            states.push(model.clone());
            if !waits {
                tickets.push(ticket);
            } else if ticket.wait().is_ok() {
                acked += 1;
            }
        }
    }
    // Without power every answer is an error, so the good ones are a prefix.
    let answers: Vec<bool> = tickets.into_iter().map(|ticket| ticket.wait().is_ok()).collect();
    acked += answers.iter().filter(|ok| **ok).count();
    assert!(answers.is_sorted_by(|earlier, later| earlier >= later), "answers after the first error: {answers:?}");
    node.writer.stop();
    let engine = engine.restart();
    let log = Node::mem(&engine).log();
    let found = Model::of(&log, 0);
    let same = |state: &&Model| Model { term: 0, ..(*state).clone() } == found;
    let matching = states[acked..].iter().rev().find(same);
    let matching = matching.unwrap_or_else(|| panic!("{acked} acked of {states:?}, found {found:?}")).clone();
    assert_eq!(log.state(), matching.state());
    (matching, engine)
}

fn node(engine: &std::sync::Arc<MemEngine>, eager_marks: bool) -> Node {
    // An eager file follows every batch, a lazy one is written only by those who wait for it.
    let pace = std::time::Duration::from_millis(if eager_marks { 0 } else { 60_000 });
    Node::with(
        engine.clone(),
        Watermarks::in_memory(engine),
        WriterOptions { watermark_pace: pace, ..WriterOptions::default() },
    )
}

#[test]
fn acked_append_survives_a_crash() {
    let engine = MemEngine::new();
    let node = Node::mem(&engine);
    let log = node.log();
    log.append_wait(entries(0..5, 1)).unwrap();
    log.vote_wait(b"vote").unwrap();
    let restarted = Node::mem(&engine.restart()).log();
    assert_eq!((restarted.all().len(), restarted.vote().as_deref()), (5, Some(&b"vote"[..])));
}

#[test]
fn a_crash_at_every_sync_leaves_a_prefix_and_no_alarm() {
    use Step::{Append, Purge, Truncate, Vote};
    let script = [
        Vote,
        Append(5),
        Append(3),
        Truncate(4),
        Append(1),
        Vote,
        Append(6),
        Purge(3),
        Truncate(2),
        Append(2),
        Purge(20),
        Append(3),
    ];
    for eager in [true, false] {
        for waits in [true, false] {
            for syncs in 0..45 {
                let engine = MemEngine::new();
                engine.power_off_after(syncs);
                run(&engine, &node(&engine, eager), &script, waits, Model::new());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_writes_and_two_crashes_leave_a_prefix_and_no_alarm(
        first in steps(), second in steps(), syncs in (0u64..40, 0u64..40), waits: bool, eager: bool,
    ) {
        let engine = MemEngine::new();
        engine.power_off_after(syncs.0);
        let (mut model, engine) = run(&engine, &node(&engine, eager), &first, waits, Model::new());
        model.term += 100;
        engine.power_off_after(syncs.1);
        run(&engine, &node(&engine, eager), &second, waits, model);
    }
}
