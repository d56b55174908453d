//! Owns the names of the places where a crash is dangerous. Without the feature `failpoints` nothing happens at them and nothing of
//! them is compiled in. Does not decide what happens there: a test does. Invariant: a name is passed in one place of the code.

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place where a process or a machine may end, or where a test makes something happen. Each is passed once per work
        /// that it names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FailPoint {
            $($(#[$doc])* $point,)*
        }

        impl FailPoint {
            /// All of them, in the order of the code below a client's send.
            pub const ALL: &[FailPoint] = &[$(FailPoint::$point,)*];

            /// As the command line and reports write it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(FailPoint::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// A send came over a socket and has gone nowhere.
    SendTaken = "send-taken",
    /// The commands of an entry are joined, and raft has not seen it.
    BeforePropose = "before-propose",
    /// The entry is applied at the leader, and nobody who waits was told.
    BeforeReplies = "before-replies",
    /// Everybody who waits was told, and no subscriber.
    BeforePushes = "before-pushes",
    /// Subscribers on other nodes were told.
    AfterPushes = "after-pushes",
    /// The answer to a send is there, and the client's ack is not written.
    BeforeAck = "before-ack",
    /// The ack is written to the client's socket.
    AfterAck = "after-ack",
    /// The leader is about to send an append.
    BeforeAppendSent = "before-append-sent",
    /// A follower has an append, and its raft has not.
    AppendCame = "append-came",
    /// A follower has stored an append and not answered.
    BeforeAppendAnswer = "before-append-answer",
    /// The log writer has taken a round.
    RoundTaken = "round-taken",
    /// The marks of logs that are cut are lowered, and the cut is not written.
    MarksLowered = "marks-lowered",
    /// Just before the log's fsync.
    BeforeFsync = "before-fsync",
    /// Just after it; no mark is up.
    AfterFsync = "after-fsync",
    /// A vote is on the disk and its mark is not.
    BeforeVoteMark = "before-vote-mark",
    /// The round is on the disk, and raft has not been told.
    BeforeStoredTold = "before-stored-told",
    /// Raft has been told.
    AfterStoredTold = "after-stored-told",
    /// Before the watermark file is written.
    BeforeMarksWritten = "before-marks-written",
    /// After it was written.
    AfterMarksWritten = "after-marks-written",
    /// An entry is committed and not applied.
    BeforeApply = "before-apply",
    /// It is applied; who proposed it was not told.
    AfterApply = "after-apply",
    /// A checkpoint's rows are collected and not written.
    BeforeCheckpoint = "before-checkpoint",
    /// They are written, not flushed.
    AfterCheckpoint = "after-checkpoint",
    /// A snapshot is about to be flushed.
    BeforeFlush = "before-flush",
    /// It is flushed; the log below it is still there.
    AfterFlush = "after-flush",
    /// The log is about to be purged.
    BeforePurge = "before-purge",
    /// It is purged.
    AfterPurge = "after-purge",
    /// A follower's log is about to be cut back to what the leader has.
    BeforeTruncate = "before-truncate",
    /// It is cut back.
    AfterTruncate = "after-truncate",
    /// A snapshot begins to arrive.
    SnapshotBegins = "snapshot-begins",
    /// A chunk of it is written.
    ChunkPut = "chunk-put",
    /// All chunks are written, not flushed.
    BeforeSnapshotFlush = "before-snapshot-flush",
    /// They are flushed, and the replica still stands on its old state.
    BeforeFlip = "before-flip",
    /// The replica stands on the new state; the old rows are still there.
    AfterFlip = "after-flip",
    /// The rules have read the new state.
    AfterReload = "after-reload",
    /// A vote is asked for.
    BeforeVoteSent = "before-vote-sent",
    /// A vote is granted and stored, and not answered.
    BeforeVoteAnswer = "before-vote-answer",
    /// A leader is about to serve its shard.
    BeforeServing = "before-serving",
    /// A leader has learnt that it is none any more.
    AfterServing = "after-serving",
    /// A leader is about to hand its shard over.
    BeforeTransfer = "before-transfer",
    /// It has asked the other one to take it.
    AfterTransfer = "after-transfer",
    /// Mail to another shard is about to be sent.
    BeforeMail = "before-mail",
    /// The other shard has it, and its row is still in the outbox.
    BeforeMailAcked = "before-mail-acked",
    /// The row is out of the outbox.
    AfterMailAcked = "after-mail-acked",
    /// A machine was let in, and has no certificate.
    BeforeCertified = "before-certified",
    /// A machine has its certificate, and nothing of it is on its disk.
    BeforeIdentitySaved = "before-identity-saved",
    /// Its identity is on the disk, and no replica runs.
    AfterIdentitySaved = "after-identity-saved",
    /// A replica is about to start.
    BeforeReplicaStart = "before-replica-start",
    /// The rows of a replica that was retired are about to go.
    BeforeRowsDestroyed = "before-rows-destroyed",
    /// They are gone.
    AfterRowsDestroyed = "after-rows-destroyed",
}

impl FailPoint {
    /// The point of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<FailPoint> {
        FailPoint::ALL.iter().copied().find(|point| point.name() == name)
    }

    /// The code is here.
    #[cfg(not(feature = "failpoints"))]
    #[inline(always)]
    pub const fn pass(self) {}

    /// The code is here: what a test put here happens.
    #[cfg(feature = "failpoints")]
    pub fn pass(self) {
        if !IS_ARMED.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        // What is put here returns nothing: a place is passed or the process ends in it.
        let _: Option<()> = fail::eval(self.name(), |_| ());
    }
}

/// Something was put somewhere.
#[cfg(feature = "failpoints")]
static IS_ARMED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Environment variable of a node that was built with the feature: `POINT` or `POINT=N` ends the process when the place is passed
/// for the `N`th time, as kill -9 there would.
pub const CRASH_AT: &str = "EVERDESK_CRASH_AT";

/// Puts the crash here that the environment asks for.
/// # Errors
/// The variable is not understood.
#[cfg(feature = "failpoints")]
pub fn arm_from_environment() -> Result<(), String> {
    use std::sync::atomic::{AtomicU64, Ordering};
    let Ok(wanted) = std::env::var(CRASH_AT) else { return Ok(()) };
    let (name, times) = wanted.split_once('=').unwrap_or((&wanted, "1"));
    let point = FailPoint::named(name).ok_or_else(|| format!("{CRASH_AT}: there is no point {name}"))?;
    let left: u64 = times.parse().map_err(|error| format!("{CRASH_AT}: {times}: {error}"))?;
    let left = AtomicU64::new(left.max(1));
    let crash = move || {
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    };
    put(point, Some(Box::new(crash)));
    Ok(())
}

/// Lets `happen` happen whenever the place is passed, in the task that passes it; `None`: nothing any more.
#[cfg(feature = "failpoints")]
pub fn put(point: FailPoint, happen: Option<Box<dyn Fn() + Send + Sync>>) {
    IS_ARMED.store(true, std::sync::atomic::Ordering::Relaxed);
    match happen {
        // Only a name with an unknown action is refused.
        Some(happen) => fail::cfg_callback(point.name(), happen).unwrap_or_default(),
        None => fail::remove(point.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let names: BTreeSet<_> = FailPoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), FailPoint::ALL.len());
        assert!(names.len() >= 30);
        assert!(FailPoint::ALL.iter().all(|point| FailPoint::named(point.name()) == Some(*point)));
        assert_eq!(FailPoint::named("nowhere"), None);
    }
}
