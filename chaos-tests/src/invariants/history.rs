//! Owns "acknowledged is stored, once, at its place, for ever". Does not look at streams. Invariant: pure.

use std::collections::BTreeMap;
use std::ops::Deref;

use anyhow::{Context, ensure};
use proto::client::EventKind;

use crate::oracle::Histories;
use crate::workload::Seen;

/// Seqs count 1, 2, 3, ... and time does not go back.
/// # Errors
/// The first gap.
pub fn check_gapless(histories: &Histories) -> anyhow::Result<()> {
    for (session, events) in histories {
        let mut ts = 0;
        for (expected, event) in (1..).zip(events) {
            ensure!(event.seq == expected, "{session}: seq {} where {expected} was due", event.seq);
            ensure!(event.ts >= ts, "{session}: ts of seq {} goes back", event.seq);
            ts = event.ts;
        }
    }
    Ok(())
}

/// Every acked message stands at its acked seq, with its text, and nowhere else.
/// # Errors
/// The first that is lost, doubled or moved.
pub fn check_acked<S: Deref<Target = Seen>>(histories: &Histories, seen: &[S]) -> anyhow::Result<()> {
    let mut places = BTreeMap::new();
    for (session, events) in histories {
        for event in events {
            let EventKind::Message { text, .. } = &event.kind else { continue };
            let before = places.insert((*session, text.as_ref()), event.seq);
            ensure!(before.is_none(), "{session}: `{text:.20}` stands at {before:?} and at {}", event.seq);
        }
    }
    for acked in seen.iter().flat_map(|one| &one.acked) {
        let at = places.get(&(acked.session, acked.text.as_str()));
        let at =
            at.with_context(|| format!("{}: `{:.20}`, acked at {}, is lost", acked.session, acked.text, acked.seq))?;
        ensure!(
            *at == acked.seq,
            "{}: `{:.20}` was acked at {} and stands at {at}",
            acked.session,
            acked.text,
            acked.seq
        );
    }
    Ok(())
}

/// What was read before is still there, unchanged.
/// # Errors
/// The first event that differs.
pub fn check_extends(later: &Histories, earlier: &Histories) -> anyhow::Result<()> {
    for (session, before) in earlier {
        let now = later.get(session).with_context(|| format!("{session} is not there"))?;
        ensure!(now.len() >= before.len(), "{session}: {} events, another node had {}", now.len(), before.len());
        for (a, b) in before.iter().zip(now) {
            ensure!(a == b, "{session}: seq {} differs between nodes: {a:?} and {b:?}", a.seq);
        }
    }
    Ok(())
}
