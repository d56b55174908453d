//! Owns what the operator of a simulated cluster wants of its nodes, and says it until it is so. Does not choose what is wanted.
//! Invariant: a wish is repeated until a node that serves shows it, and again if what was said earlier comes late and undoes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::node::ClusterNode;
use proto::command::{MetaCommand, NodeState};
use proto::ids::NodeId;

use super::run::World;

const SAY_EVERY: Duration = Duration::from_millis(400);
const WITHIN: Duration = Duration::from_secs(2);

/// What the operator wanted last of each node.
#[derive(Default)]
pub(super) struct Wishes {
    wanted: BTreeMap<NodeId, NodeState>,
    /// One of them is not so.
    is_open: bool,
    looked_at: Duration,
    said_at: Duration,
}

impl Wishes {
    /// From now on a node is to be in that state.
    pub fn want(&mut self, node: NodeId, state: NodeState) {
        // Who has to go does not come back.
        if self.wanted.get(&node) != Some(&NodeState::Leaving) {
            self.wanted.insert(node, state);
            self.is_open = true;
        }
    }

    /// All is as it was wanted, and nothing that was said is still under way.
    pub fn are_true(&self, now: Duration) -> bool {
        !self.is_open && (self.said_at.is_zero() || now > self.said_at + WITHIN)
    }

    /// Says what is not so yet, now and then.
    pub fn say(&mut self, world: &World) {
        let now = world.sim.elapsed();
        if self.wanted.is_empty() || now < self.looked_at + SAY_EVERY {
            return;
        }
        self.looked_at = now;
        let machines = world.machines.iter().filter_map(|machine| Some((machine.node()?, machine.runtime()?)));
        let Some((node, runtime)) = machines.max_by_key(|(node, _)| is_leader(node)) else { return };
        let _entered = runtime.enter();
        self.is_open = false;
        for (&of, &state) in self.wanted.iter().filter(|(of, state)| !is_so(&node, **of, **state)) {
            self.is_open = true;
            self.said_at = now;
            let ask = node.clone();
            node.spawn(async move {
                // A refusal or no answer: it is said again.
                let _ = ask.meta_propose(MetaCommand::SetNodeState { node: of, state }, WITHIN).await;
            });
        }
    }
}

fn is_leader(node: &Arc<ClusterNode>) -> bool {
    node.running().iter().any(|running| running.group.shard.0 == 0 && running.group.leadership().serving)
}

fn is_so(node: &Arc<ClusterNode>, of: NodeId, wanted: NodeState) -> bool {
    let state = node.with_meta(|state| state.nodes.get(&of).map(|row| row.state));
    match state {
        // Gone for good.
        Some(None | Some(NodeState::Removed)) => true,
        Some(Some(state)) => state == wanted && wanted != NodeState::Leaving,
        // A node that knows nothing yet.
        None => false,
    }
}
