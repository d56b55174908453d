//! Owns "a socket is told every event once, in order". Does not look at disks. Invariant: pure.

use anyhow::{Context, ensure};
use proto::client::{Event, EventKind, Party};

use crate::oracle::Histories;
use crate::workload::Seen;

/// Holds what one client was told against the history.
/// # Errors
/// The first event that was missing, doubled, out of order or different.
pub fn check(seen: &Seen, histories: &Histories) -> anyhow::Result<()> {
    ensure!(
        seen.violations.is_empty(),
        "{} broken promises, the first: {}; what led to it:\n{}",
        seen.violations.len(),
        seen.violations[0],
        excerpt(seen)
    );
    for (session, events) in &seen.events {
        let history = histories.get(session).with_context(|| format!("{session} has no history"))?;
        let mut before = 0;
        for event in events {
            ensure!(event.seq > before, "{session}: seq {} came after {before}", event.seq);
            let may_skip = before == 0 || ended(history, before, seen.who);
            ensure!(event.seq == before + 1 || may_skip, "{session}: seq {} came after {before}", event.seq);
            before = event.seq;
            let stored = usize::try_from(event.seq).ok().and_then(|seq| history.get(seq - 1));
            let stored =
                stored.with_context(|| format!("{session}: seq {} was pushed and is not stored", event.seq))?;
            ensure!(same(event, stored), "{session}: pushed {event:?}, stored {stored:?}");
        }
        if matches!(seen.who, Party::Visitor(_)) {
            ensure!(events.first().is_none_or(|event| event.seq == 1), "{session}: the visitor missed the beginning");
            ensure!(events.len() == history.len(), "{session}: told {} of {} events", events.len(), history.len());
        }
    }
    ensure!(seen.reloads_needed == 0, "{} resumed sessions needed a reload", seen.reloads_needed);
    Ok(())
}

/// The end of the client's trail: connections, and what it was told of the session of the first violation.
fn excerpt(seen: &Seen) -> String {
    let last = seen.trail.back().cloned().unwrap_or_default();
    let concerns = |line: &String| {
        let session = line.split(' ').next().unwrap_or_default();
        line.contains("connected") || (session.len() == 32 && last.contains(session)) || *line == last
    };
    let lines: Vec<&str> = seen.trail.iter().filter(|line| concerns(line)).map(String::as_str).collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A visitor has one subscription for ever; an agent's may end and begin anew.
fn ended(history: &[Event<'static>], seq: u64, who: Party) -> bool {
    let Party::Agent(me) = who else { return false };
    let event = usize::try_from(seq).ok().and_then(|seq| history.get(seq.checked_sub(1)?));
    event.is_some_and(|event| match event.kind {
        EventKind::Closed { .. } | EventKind::Queued { .. } => true,
        EventKind::Assigned { agent } => agent != me,
        EventKind::Message { .. }
        | EventKind::Act { .. }
        | EventKind::Gone
        | EventKind::Erased { .. }
        | EventKind::Hidden => false,
    })
}

/// Equal, but for the author's id of the message: it is told to the author only.
fn same(pushed: &Event<'_>, stored: &Event<'_>) -> bool {
    let kinds = match (&pushed.kind, &stored.kind) {
        (EventKind::Message { from: a, text: x, .. }, EventKind::Message { from: b, text: y, .. }) => a == b && x == y,
        (a, b) => a == b,
    };
    kinds && (pushed.session, pushed.seq, pushed.ts) == (stored.session, stored.seq, stored.ts)
}
