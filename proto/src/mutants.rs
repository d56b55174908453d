//! Owns the seeded bugs with which the chaos suite is itself tested. Without the feature `mutants` none can be switched on and
//! none is compiled in. Invariant: with all of them off, the build behaves as one without the feature.

/// A bug that somebody could write. Each is found by the simulation or by a run with real processes; docs/RELIABILITY.md says by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutant {
    /// Once a replica has taken entries over a link, the leader takes more for stored there as soon as they are sent.
    AckBeforeCommit = 1,
    /// The log is written and not synced.
    NoFsync,
    /// A vote is answered and never gets to the disk.
    VoteNotSynced,
    /// A vote is written after the entries that came behind it.
    VoteBehindLog,
    /// A snapshot leaves out what devices have sent.
    DedupeNotInSnapshot,
    /// A new leader, or a node that starts, knows no device.
    DedupeForgotten,
    /// A leader pushes a message when it comes, not when it is applied.
    PushBeforeApply,
    /// A leader answers reads without asking a quorum whether it still leads.
    ReadWithoutBarrier,
    /// What was queued in one epoch is logged in the next.
    NoEpochFence,
    /// A new leader takes the mail that waits for delivered.
    OutboxLostAtTransfer,
    /// Mails come again after a while, and are applied again.
    OutboxTwice,
    /// A checkpoint writes the applied index before the rows.
    IndexApartFromState,
    /// The log is purged although the checkpoint may not be on the disk.
    PurgePastSnapshot,
    /// A replica that lost its log goes on under its old id.
    ReplicaIdReused,
    /// A socket that resumes is not told the first event that it missed.
    CursorSkips,
    /// An agent may send in a session that is not its own any more.
    NoHolderCheck,
    /// A numbered send is not looked up among those that were answered.
    DedupeSkipped,
    /// An answer goes to whoever bears the caller's name now.
    AnswerToNewLink,
    /// What a deposed leader pushes late is told like news.
    StaleLeaderPushes,
}

impl Mutant {
    pub const ALL: [(&'static str, Mutant); 19] = [
        ("ack-before-commit", Mutant::AckBeforeCommit),
        ("no-fsync", Mutant::NoFsync),
        ("vote-not-synced", Mutant::VoteNotSynced),
        ("vote-behind-log", Mutant::VoteBehindLog),
        ("dedupe-not-in-snapshot", Mutant::DedupeNotInSnapshot),
        ("dedupe-forgotten-at-fail-over", Mutant::DedupeForgotten),
        ("push-before-apply", Mutant::PushBeforeApply),
        ("read-without-barrier", Mutant::ReadWithoutBarrier),
        ("no-epoch-fence", Mutant::NoEpochFence),
        ("outbox-lost-at-transfer", Mutant::OutboxLostAtTransfer),
        ("outbox-delivered-twice", Mutant::OutboxTwice),
        ("index-apart-from-state", Mutant::IndexApartFromState),
        ("purge-past-snapshot", Mutant::PurgePastSnapshot),
        ("replica-id-reused", Mutant::ReplicaIdReused),
        ("cursor-skips-on-resume", Mutant::CursorSkips),
        ("no-holder-check", Mutant::NoHolderCheck),
        ("dedupe-skipped", Mutant::DedupeSkipped),
        ("answer-to-new-link", Mutant::AnswerToNewLink),
        ("stale-leader-pushes", Mutant::StaleLeaderPushes),
    ];

    /// Whether this bug is there.
    #[cfg(not(feature = "mutants"))]
    #[inline(always)]
    pub const fn is_on(self) -> bool {
        false
    }

    /// Whether this bug is there.
    #[cfg(feature = "mutants")]
    pub fn is_on(self) -> bool {
        on::MUTANT.load(std::sync::atomic::Ordering::Relaxed) == self as u8
    }
}

#[cfg(feature = "mutants")]
pub use on::switch_on;

#[cfg(feature = "mutants")]
mod on {
    use super::Mutant;
    use std::sync::atomic::{AtomicU8, Ordering};

    pub(super) static MUTANT: AtomicU8 = AtomicU8::new(0);

    /// Puts one bug into this process. False: there is none of that name.
    pub fn switch_on(name: &str) -> bool {
        let found = Mutant::ALL.iter().find(|(known, _)| *known == name);
        if let Some((_, mutant)) = found {
            MUTANT.store(*mutant as u8, Ordering::Relaxed);
        }
        found.is_some()
    }
}
