//! Owns this node's part in upgrades: the mark on its directory, what it tells meta it speaks, and how a version comes into force.
//! Does not know what a version changes. Invariant: a build never touches a directory whose version it does not speak.

use super::{ClusterNode, Running, StartError, on_disk};
use crate::checked_file::{self, FileError};
use crate::router::ReplyTo;
use proto::command::{Command, MetaCommand};
use proto::ids::{NodeId, ShardId};
use proto::peer::MetaReply;
use proto::version::{VERSION_MIN, Versions};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// One line of text, so that people can read it, and builds of any age.
const FILE: &str = "version";
const BEFORE: &str = "everdesk data directory, version ";

/// The setting that puts a version in force by itself, so many seconds after every node speaks it; 0 or unset: by hand.
pub const FINALIZE_AFTER: &str = "finalize_after_s";

/// What an operator sees of an upgrade.
#[derive(Debug, Clone)]
pub struct UpgradeStatus {
    /// In force in the cluster.
    pub version: u16,
    /// What each node's build speaks; `None`: it has not said yet.
    pub nodes: Vec<(NodeId, Option<Versions>)>,
    /// In force for this node's replicas.
    pub shards: Vec<(ShardId, u16)>,
    /// What could be put in force now.
    pub next: Option<u16>,
}

/// The version of a directory; `None`: it has no mark yet.
/// # Errors
/// The mark cannot be read, or says nothing; `Version` when this build does not speak it.
pub(super) fn check_mark(data_dir: &Path) -> Result<Option<u16>, StartError> {
    let text = match std::fs::read_to_string(data_dir.join(FILE)) {
        Ok(text) => text,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(FileError::Io { what: "cannot read", file: FILE, cause }.into()),
    };
    match marked(&text) {
        Some(version) if Versions::MINE.speaks(version) => Ok(Some(version)),
        Some(version) => Err(StartError::Version { version, speaks: Versions::MINE }),
        None => Err(FileError::damaged(FILE, "it names no version").into()),
    }
}

/// The version that a mark names.
pub(crate) fn marked(text: &str) -> Option<u16> {
    text.trim_end().strip_prefix(BEFORE)?.parse().ok()
}

/// On the disk once this returns.
pub(crate) fn put_mark(data_dir: &Path, version: u16) -> Result<(), FileError> {
    checked_file::replace(data_dir, FILE, &[format!("{BEFORE}{version}\n").as_bytes()])
}

impl ClusterNode {
    /// The version in force in the cluster, as far as this node knows.
    pub fn version(&self) -> u16 {
        let told = self.with_meta(|state| state.version()).unwrap_or(0);
        told.max(VERSION_MIN).max(self.marked.load(Ordering::Acquire))
    }

    pub fn upgrade_status(&self) -> UpgradeStatus {
        let (nodes, next) = self
            .with_meta(|state| {
                let said = |node: &NodeId| state.versions.get(node).copied();
                let nodes = state.members().map(|(node, _)| (node, said(&node))).collect();
                (nodes, state.next_version())
            })
            .unwrap_or_default();
        let version = |running: &Running| running.shard.as_ref().map(|shard| shard.version());
        let shards =
            self.running().iter().filter_map(|running| Some((running.group.shard, version(running)?))).collect();
        UpgradeStatus { version: self.version(), nodes, shards, next }
    }

    /// Puts the newest version that every node speaks in force. The way back ends here.
    pub async fn finalize(&self, within: Duration) -> MetaReply {
        // What was said last counts: a node may have just come back with another build.
        self.meta_catch_up(within).await;
        match self.with_meta(|state| state.next_version()).flatten() {
            Some(version) => self.meta_propose(MetaCommand::Finalize { version }, within).await,
            None => MetaReply::Refused { reason: self.why_not_next() },
        }
    }

    fn why_not_next(&self) -> String {
        let behind = self.with_meta(|state| state.behind()).unwrap_or_default();
        let names: Vec<String> = behind.iter().map(ToString::to_string).collect();
        let version = self.version();
        if names.is_empty() || !Versions::MINE.speaks(version + 1) {
            return format!("no newer version than {version} is spoken by every node");
        }
        format!("{} do not speak a newer version than {version}: upgrade them first", names.join(", "))
    }

    /// One round of the meta leader. `spoken`: the version that could be put in force in the round before, and since when.
    pub(super) async fn finalize_when_due(&self, spoken: &mut Option<(u16, Instant)>) {
        let due = self.with_meta(|state| {
            let after = state.setting(FINALIZE_AFTER)?.parse().ok().filter(|after| *after > 0)?;
            Some((state.next_version()?, Duration::from_secs(after)))
        });
        let Some((version, after)) = due.flatten() else {
            *spoken = None;
            return;
        };
        let since = match *spoken {
            Some((before, since)) if before == version => since,
            _ => spoken.insert((version, Instant::now())).1,
        };
        if since.elapsed() >= after {
            self.tell_meta(MetaCommand::Finalize { version }).await;
        }
    }

    /// One round: marks the directory, tells meta what this build speaks, and brings led shards to the version in force.
    pub(super) async fn tend_version(&self) {
        let version = self.version();
        if version > self.marked.load(Ordering::Acquire) {
            let dir = self.data_dir.clone();
            match on_disk(move || put_mark(&dir, version)).await {
                Ok(()) => self.marked.store(version, Ordering::Release),
                Err(error) => tracing::error!(%error, "the data directory could not be marked with its version"),
            }
        }
        let node = self.me;
        let said = self.with_meta(|state| state.nodes.contains_key(&node).then(|| state.versions.get(&node).copied()));
        if let Some(Some(said)) = said
            && said != Some(Versions::MINE)
        {
            self.tell_meta(MetaCommand::SetNodeVersions { node, versions: Versions::MINE }).await;
        }
        let Some(version) = self.with_meta(|state| state.version()) else { return };
        for running in self.running() {
            let Some(shard) = running.shard else { continue };
            if shard.serving().is_some() && shard.version() < version {
                // Asked again in the next round if it is lost; the same version twice changes nothing.
                shard.propose(&Command::SetShardVersion { version }, ReplyTo::Nobody);
                tracing::info!(shard = %shard.id, version, "brings the shard to the version in force");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_another_version_is_refused_and_the_text_says_which_build_would_do() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(check_mark(dir.path()), Ok(None)));
        put_mark(dir.path(), Versions::MINE.max).unwrap();
        assert!(matches!(check_mark(dir.path()), Ok(Some(version)) if version == Versions::MINE.max));
        for wrong in [0, Versions::MINE.max + 1] {
            put_mark(dir.path(), wrong).unwrap();
            let text = check_mark(dir.path()).unwrap_err().to_string();
            assert!(text.contains(&format!("start one that speaks {wrong}")), "{text}");
        }
        std::fs::write(dir.path().join(FILE), "garbage").unwrap();
        assert!(check_mark(dir.path()).unwrap_err().to_string().contains("names no version"));
    }
}
