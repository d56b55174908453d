//! Owns what becomes of nodes: dead ones are found, leaving ones removed, and this one learns what it is wanted to be.
//! Does not place replicas: `meta::plan` does. Invariant: a node is removed only when no data rests on it and meta's
//! quorum does without it.

use super::identity::mark_removed;
use super::{ClusterNode, HandedOver};
use crate::meta::MetaState;
use proto::command::{MetaCommand, NodeState};
use proto::ids::NodeId;
use proto::peer::MetaReply;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Setting: a node that has not been reached for so many seconds counts as dead.
pub const DEAD_AFTER: &str = "dead_after_s";
/// One try to tell meta.
const TELL_WITHIN: Duration = Duration::from_secs(2);
/// After this, a removed node is cut off whether it has ended itself or not.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// Longest that one round of a draining node waits for its leaders to move.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(1);

impl ClusterNode {
    /// Follows what is wanted of this node.
    pub fn watch_wanted(&self) -> watch::Receiver<NodeState> {
        self.wanted.subscribe()
    }

    /// What is wanted of a node; `None` while this one does not know.
    pub fn wanted_of(&self, node: NodeId) -> Option<NodeState> {
        self.with_meta(|state| state.nodes.get(&node).map(|row| row.state)).flatten()
    }

    /// Takes note of what is wanted of this node, and moves its leaders away when it is to go. False: it was removed.
    pub(super) async fn follow_own_state(&self) -> bool {
        let Some(wanted) = self.wanted_of(self.me) else { return true };
        if wanted == NodeState::Removed
            && let Err(error) = mark_removed(&self.data_dir)
        {
            tracing::error!(%error, "the data directory could not be marked: it will be refused by the others");
        }
        self.wanted.send_if_modified(|known| std::mem::replace(known, wanted) != wanted);
        match wanted {
            NodeState::Active => true,
            NodeState::Draining | NodeState::Leaving => {
                let led = self.running().iter().any(|running| running.group.leadership().serving);
                if led {
                    let HandedOver { moved, kept } = self.hand_over(HAND_OVER_WITHIN, false).await;
                    // What is kept is tried again in every round: not worth a line each time.
                    if moved > 0 {
                        tracing::info!(moved, kept, "this node is drained: handed leaders over");
                    }
                }
                true
            }
            NodeState::Removed => false,
        }
    }

    /// One round of the meta leader. `unreached`: since when nodes have not been reached from here.
    pub(super) async fn judge_nodes(&self, unreached: &mut BTreeMap<NodeId, Instant>) {
        let members = self.with_meta(|state| {
            let member = |(id, row): (NodeId, &crate::meta::NodeRow)| (id, row.state, row.dead, state.holds_data(id));
            state.members().map(member).collect::<Vec<_>>()
        });
        let dead_after = self.dead_after();
        for (node, state, dead, holds_data) in members.unwrap_or_default() {
            let is_up = node == self.me || self.transport.peer(node).is_some_and(|peer| peer.is_up());
            if is_up {
                unreached.remove(&node);
            } else {
                unreached.entry(node).or_insert_with(Instant::now);
            }
            let is_dead = unreached.get(&node).is_some_and(|since| since.elapsed() >= dead_after);
            if dead && is_up || is_dead && !dead {
                self.tell_meta(MetaCommand::SetNodeDead { node, dead: is_dead }).await;
            }
            if state == NodeState::Leaving && !holds_data && !self.votes_in_meta(node) {
                self.tell_meta(MetaCommand::SetNodeState { node, state: NodeState::Removed }).await;
            }
        }
    }

    /// The cluster's setting, or else what this node was started with.
    pub fn dead_after(&self) -> Duration {
        let set = self.with_meta(|state| state.setting(DEAD_AFTER)?.parse().ok()).flatten();
        set.map_or(self.dead_after, Duration::from_secs)
    }

    fn votes_in_meta(&self, node: NodeId) -> bool {
        let Some(group) = self.meta_group() else { return true };
        let (voters, members) = group.members();
        voters.iter().any(|replica| members.get(replica) == Some(&node))
    }

    /// Has meta log a command; what is refused or unknown is looked at again in a later round.
    pub(super) async fn tell_meta(&self, command: MetaCommand) -> MetaReply {
        let reply = self.meta_propose(command.clone(), TELL_WITHIN).await;
        tracing::info!(?command, ?reply, "told meta");
        reply
    }

    /// A removed node that is still linked: it must hear of its removal before it is cut off.
    pub(super) fn is_being_told(&self, state: &MetaState, node: NodeId) -> bool {
        let removed = state.nodes.get(&node).is_some_and(|row| row.state == NodeState::Removed);
        let since = || *self.removals.lock().entry(node).or_insert_with(Instant::now);
        removed && since().elapsed() < TOLD_WITHIN && self.transport.peer(node).is_some_and(|peer| peer.is_up())
    }
}
