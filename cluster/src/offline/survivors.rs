//! Owns the choice of what is kept when a quorum is lost for good: of each group the replica whose log goes furthest. Does not
//! ask the operator. Invariant: a log that lost entries is never chosen unless it was accepted by name.
//!
//! Why the furthest log is the best one, voter or not: of two logs the one with the higher (term, index) of its last entry
//! holds every committed entry that the other one holds. Source: Raft dissertation, sections 3.5 and 3.6.

use super::OfflineError;
use super::draft::{Draft, Drafted};
use crate::meta::{Fresh, MetaState};
use crate::node::Identity;
use proto::codec::{self, Frozen};
use proto::command::{Batch, MetaBatch};
use proto::ids::{ClusterId, META_SHARD, NodeId, ReplicaId, ShardId};
use proto::peer::{AppliedRow, LogPoint, MembershipRow};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use storage::{StoppedNode, Survey};

/// What the operator takes the loss of.
#[derive(Debug, Clone, Default)]
pub struct Accepted {
    /// Shards that may begin empty: no replica is left.
    pub empty: BTreeSet<ShardId>,
    /// Groups of which a damaged log may be taken as far as it can be read.
    pub damaged: BTreeSet<ShardId>,
}

/// The replica that a group goes on from.
#[derive(Debug, Clone)]
pub struct Choice {
    pub node: NodeId,
    pub replica: ReplicaId,
    /// Its last entry.
    pub last: LogPoint,
    /// Up to where it knew that entries were committed; it may be older than it was.
    pub committed: Option<LogPoint>,
    /// When its last command was logged, milliseconds since 1970, by the clock of the leader.
    pub last_ms: Option<u64>,
    pub is_voter: bool,
    /// Voters of the group, and how many of them are not among the given directories.
    pub voters: usize,
    pub missing: usize,
    /// Why its log is not whole.
    pub damage: Option<String>,
    from: usize,
    survey: Survey,
    applied: Option<LogPoint>,
}

struct Survivor {
    dir: PathBuf,
    identity: Identity,
    disk: StoppedNode,
    meta: Option<MetaState>,
    replicas: Vec<Left>,
}

/// One replica on the disk of a survivor.
struct Left {
    survey: Survey,
    applied: Option<LogPoint>,
    membership: MembershipRow,
    last_ms: Option<u64>,
}

/// The directories of nodes of one cluster, none of which runs.
pub struct Survivors {
    survivors: Vec<Survivor>,
    pub name: ClusterId,
    shards: u32,
}

impl Survivors {
    /// Reads the directories. Takes about a second per GiB of log.
    /// # Errors
    /// `Refused`: they are not of one cluster, or no meta group is among them. `Storage`, `Identity`.
    pub fn read(dirs: &[PathBuf]) -> Result<Survivors, OfflineError> {
        let mut survivors: Vec<Survivor> = Vec::new();
        for dir in dirs {
            let found = Survivor::read(dir)?;
            if let Some(other) = survivors.iter().find(|one| one.identity.cluster != found.identity.cluster) {
                let (a, b) = (other.dir.display(), dir.display());
                return Err(OfflineError::Refused(format!("{a} and {b} are of different clusters")));
            }
            if let Some(other) = survivors.iter().find(|one| one.identity.node == found.identity.node) {
                let (node, a, b) = (found.identity.node, other.dir.display(), dir.display());
                return Err(OfflineError::Refused(format!("{a} and {b} are both of {node}: give the newer one")));
            }
            survivors.push(found);
        }
        let no_meta = || OfflineError::Refused("no directory holds a readable replica of the meta group".into());
        let first = survivors.first().ok_or_else(|| OfflineError::Refused("no directory was given".into()))?;
        let (shards, cluster) = (first.identity.shards, first.identity.cluster);
        let mut names = survivors.iter().filter_map(|one| one.meta.as_ref()?.name());
        let name = names.next_back().ok_or_else(no_meta)?;
        tracing::debug!(%name, cluster = %ClusterId(cluster), "survivors read");
        Ok(Survivors { survivors, name, shards })
    }

    /// Meta and every data shard.
    pub fn groups(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..=self.shards).map(ShardId)
    }

    /// The best replica of a group; `None` when no directory holds one that can be read.
    pub fn choose(&self, shard: ShardId) -> Option<Choice> {
        let mut all: Vec<Choice> = Vec::new();
        let mut here = BTreeSet::new();
        for (from, survivor) in self.survivors.iter().enumerate() {
            for left in &survivor.replicas {
                here.insert(u64::from(left.survey.replica.0));
                if self.shard_of(left.survey.replica, survivor) == Some(shard) {
                    all.extend(left.choice(from, survivor.identity.node));
                }
            }
        }
        let rank = |one: &Choice| (one.damage.is_none(), one.last.term, one.last.index, one.is_voter);
        let mut best = all.into_iter().max_by_key(rank)?;
        let left = self.survivors[best.from].replicas.iter().find(|left| left.survey.replica == best.replica)?;
        let voters: BTreeSet<u64> = left.membership.configs.iter().flatten().copied().collect();
        best.voters = voters.len();
        best.missing = voters.difference(&here).count();
        Some(best)
    }

    /// Which group a replica is of: a replica id is given once, so every meta state that knows it says the same.
    fn shard_of(&self, replica: ReplicaId, of: &Survivor) -> Option<ShardId> {
        if of.identity.meta_replica == Some(replica) {
            return Some(META_SHARD);
        }
        let mut metas = self.survivors.iter().filter_map(|one| one.meta.as_ref());
        metas.find_map(|meta| meta.replicas.get(&replica).map(|row| row.shard))
    }

    /// Whether the given directories and what was accepted are enough.
    /// # Errors
    /// `Refused`: the first group that cannot be had.
    pub fn check(&self, accepted: &Accepted) -> Result<(), OfflineError> {
        for shard in self.groups() {
            match self.choose(shard) {
                None if shard != META_SHARD && accepted.empty.contains(&shard) => {}
                None if shard == META_SHARD => {
                    return Err(OfflineError::Refused("no replica of the meta group can be read".into()));
                }
                None => {
                    let text = "no replica is in the given directories: find one, or give its conversations up with";
                    return Err(OfflineError::of(shard, format!("{text} --accept-empty {shard}")));
                }
                Some(Choice { node, damage: Some(damage), .. }) if !accepted.damaged.contains(&shard) => {
                    let text = format!("the log of {node}, the best there is, is damaged ({damage})");
                    let text = format!("{text}: find another one, or take what can be read of it with");
                    return Err(OfflineError::of(shard, format!("{text} --accept-damaged {shard}")));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Makes a cluster of one node in `into` out of the best replica of each group. The given directories stay as they are.
    /// # Errors
    /// As [`Survivors::check`]; `Refused` when `into` is not empty; `Storage`, `Shard`.
    pub fn recover(&self, into: &Path, accepted: &Accepted, fresh: &Fresh) -> Result<Drafted, OfflineError> {
        self.check(accepted)?;
        let meta = self.choose(META_SHARD).ok_or_else(|| OfflineError::Refused("no meta group".into()))?;
        let disk = &self.survivors[meta.from].disk;
        let state = read_meta(disk, &meta.survey, meta.applied)?;
        let mut draft = Draft::begin(into, state, meta.last, fresh)?;
        for shard in draft.data_shards() {
            let mut filling = draft.shard(shard)?;
            let Some(best) = self.choose(shard) else {
                draft.filled(filling, None)?;
                continue;
            };
            let disk = &self.survivors[best.from].disk;
            let mut failed = None;
            disk.rows(&best.survey, &mut |key, value| until_error(&mut failed, filling.put(key, value)))?;
            failed.take().map_or(Ok(()), Err)?;
            let first = next_index(best.applied);
            disk.entries(&best.survey, first, &mut |entry| until_error(&mut failed, filling.replay(&entry.body)))?;
            failed.map_or(Ok(()), Err)?;
            draft.filled(filling, Some(best.last))?;
        }
        draft.finish()
    }
}

impl Survivor {
    fn read(dir: &Path) -> Result<Survivor, OfflineError> {
        let identity = Identity::load(dir)?;
        let identity = identity.ok_or_else(|| {
            OfflineError::Refused(format!("{} holds no file `identity`: it is no node's data directory", dir.display()))
        })?;
        let disk = StoppedNode::open(dir)?;
        let mut replicas = Vec::new();
        let mut meta = None;
        for replica in disk.replicas()? {
            let left = Left::read(&disk, replica)?;
            if identity.meta_replica == Some(replica) && left.is_usable() {
                meta = Some(read_meta(&disk, &left.survey, left.applied)?);
            }
            replicas.push(left);
        }
        Ok(Survivor { dir: dir.to_owned(), identity, disk, meta, replicas })
    }
}

impl Left {
    fn read(disk: &StoppedNode, replica: ReplicaId) -> Result<Left, OfflineError> {
        let mut membership = None;
        let mut newest = Vec::new();
        let survey = disk.survey(replica, &mut |_, _, body| match body.first() {
            Some(&MembershipRow::TAG) => membership = codec::decode::<MembershipRow>(body).ok().or(membership.take()),
            Some(&(Batch::TAG | MetaBatch::TAG)) => {
                newest.clear();
                newest.extend_from_slice(body);
            }
            _ => {}
        })?;
        let header = survey.header.as_deref().map(codec::decode::<AppliedRow>).transpose();
        let header = header.map_err(|error| OfflineError::Refused(format!("{replica}: its header: {error}")))?;
        let header = header.unwrap_or_default();
        let last_ms = match newest.first() {
            Some(&Batch::TAG) => codec::decode::<Batch>(&newest).ok().map(|batch| batch.now_ms),
            _ => codec::decode::<MetaBatch>(&newest).ok().map(|batch| batch.now_ms),
        };
        let membership = membership.unwrap_or(header.membership);
        Ok(Left { survey, applied: header.applied, membership, last_ms })
    }

    /// The state reaches up to where the log begins.
    fn is_usable(&self) -> bool {
        let purged = self.survey.purged.map_or(0, |(index, _)| index + 1);
        next_index(self.applied) >= purged && (self.applied.is_some() || self.survey.last.is_some())
    }

    fn choice(&self, from: usize, node: NodeId) -> Option<Choice> {
        if !self.is_usable() {
            return None;
        }
        let of_log = self.survey.last.map(|(index, term)| LogPoint { term, index });
        // A damaged log may end before what was applied.
        let furthest = |a: LogPoint, b: LogPoint| if (b.term, b.index) > (a.term, a.index) { b } else { a };
        let last = match (of_log, self.applied) {
            (Some(log), Some(applied)) => furthest(log, applied),
            (one, other) => one.or(other)?,
        };
        let replica = self.survey.replica;
        Some(Choice {
            node,
            replica,
            last,
            committed: self.survey.committed.as_deref().and_then(|bytes| codec::decode(bytes).ok()),
            last_ms: self.last_ms,
            is_voter: self.membership.configs.iter().flatten().any(|id| *id == u64::from(replica.0)),
            voters: 0,
            missing: 0,
            damage: self.survey.damage.clone(),
            from,
            survey: self.survey.clone(),
            applied: self.applied,
        })
    }
}

fn next_index(applied: Option<LogPoint>) -> u64 {
    applied.map_or(0, |at| at.index + 1)
}

fn until_error(failed: &mut Option<OfflineError>, done: Result<(), OfflineError>) -> ControlFlow<()> {
    *failed = done.err();
    if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// The state of meta as far as the log goes.
fn read_meta(disk: &StoppedNode, survey: &Survey, applied: Option<LogPoint>) -> Result<MetaState, OfflineError> {
    let mut state = MetaState::default();
    let mut failed = None;
    disk.rows(survey, &mut |key, value| {
        let loaded = state.load(key, value).map_err(|error| OfflineError::of(META_SHARD, error));
        until_error(&mut failed, loaded)
    })?;
    failed.take().map_or(Ok(()), Err)?;
    disk.entries(survey, next_index(applied), &mut |entry| {
        if entry.body.first() != Some(&MetaBatch::TAG) {
            return ControlFlow::Continue(());
        }
        let applied = codec::decode::<MetaBatch>(&entry.body).map(|batch| {
            batch.commands.into_iter().for_each(|command| drop(state.apply(batch.now_ms, command)));
        });
        until_error(&mut failed, applied.map_err(|error| OfflineError::of(META_SHARD, error)))
    })?;
    failed.map_or(Ok(state), Err)
}
