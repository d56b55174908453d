//! Owns the question whether the place is the archive. Does not ask it before somebody needs the place. Invariant: nothing is written,
//! and nothing is taken for deleted, where the marker is missing.

use super::{Archive, ArchiveError};
use cluster::node::ClusterNode;
use cluster::shard::Shard;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Asked once in a turn, by whoever is first to need the place.
pub(super) struct Gate<'a> {
    archive: &'a Archive,
    node: &'a ClusterNode,
    is_open: OnceCell<()>,
}

impl<'a> Gate<'a> {
    pub fn new(archive: &'a Archive, node: &'a ClusterNode) -> Gate<'a> {
        Gate { archive, node, is_open: OnceCell::new() }
    }

    /// The place is the archive. A store without the marker is made one as long as no shard here names anything in it: the first turn in
    /// which a site lets go of something does that, also when nothing is old enough yet. An empty directory below a disk that is not
    /// mounted is none.
    pub async fn pass(&self) -> Result<(), ArchiveError> {
        self.is_open.get_or_try_init(|| self.ask()).await.copied()
    }

    async fn ask(&self) -> Result<(), ArchiveError> {
        if self.archive.is_there().await? {
            return Ok(());
        }
        let has_any = |shard: &Arc<Shard>| shard.peek(|state, rows| state.has_archived(rows)).unwrap_or(true);
        if self.node.router.locals().iter().any(has_any) {
            return Err(ArchiveError::Elsewhere);
        }
        self.archive.found().await
    }
}
