//! Owns moving leaderships away from a node that stops. Does not spread them in calm times: the janitor does.
//! Invariant: a group goes only to a voter that is linked and has caught up; else it stays, and the others elect.

use super::ClusterNode;
use super::janitor::lags;
use crate::meta::NodeRow;
use crate::raft::Group;
use proto::failpoints::FailPoint;
use proto::ids::{NodeId, ShardId};
use std::sync::Arc;
use std::time::Duration;

/// A transfer target at most this many entries behind gets the leadership.
const LAG_MAX: u64 = 50;
/// A target that does not lead by then is passed over.
const TAKEN_WITHIN: Duration = Duration::from_millis(500);

/// An operator's transfer that has not happened by then is told as such.
const TRANSFERRED_WITHIN: Duration = Duration::from_secs(3);

/// Why a leadership was not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Ask the node that leads now.
    #[error("this node does not lead the shard")]
    NotLeader,
    #[error("that node has no voting replica of this shard")]
    NoVoter,
    #[error("that replica is not linked, or has not caught up")]
    Behind,
    /// Look who leads, and try again.
    #[error("that replica did not take the leadership in time")]
    NotTaken,
}

/// What became of the groups that a node led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOver {
    pub moved: usize,
    /// Nobody could take these, or not in time.
    pub kept: usize,
}

impl ClusterNode {
    /// Gives every group that this node leads to another voter, all at once, and waits until they are led there; at most
    /// `within`. Calls under way are repeated at the new leaders by their routers. `at_any_cost`: rather to a node that is
    /// to be left alone than to nobody.
    pub async fn hand_over(&self, within: Duration, at_any_cost: bool) -> HandedOver {
        let led = self.running().into_iter().map(|running| running.group).filter(|group| group.leadership().serving);
        let moves = led.map(|group| async move {
            tokio::time::timeout(within, self.hand_over_group(&group, at_any_cost)).await.unwrap_or(false)
        });
        let moved = futures_util::future::join_all(moves).await;
        let count = |wanted| moved.iter().filter(|moved| **moved == wanted).count();
        HandedOver { moved: count(true), kept: count(false) }
    }

    /// Tries each voter that can lead, beginning with another one in each shard.
    pub(super) async fn hand_over_group(&self, group: &Arc<Group>, at_any_cost: bool) -> bool {
        let (voters, members) = group.members();
        let others = voters.into_iter().filter(|replica| *replica != u64::from(group.replica.0));
        // Two nodes that are drained would hand their leaders to each other for ever.
        let may_lead = |replica: &u64| {
            let node = members.get(replica);
            self.with_meta(|state| node.and_then(|node| state.nodes.get(node)).is_some_and(NodeRow::is_placeable))
                .unwrap_or(false)
        };
        let (mut targets, rest): (Vec<u64>, Vec<u64>) = others.partition(may_lead);
        let count = targets.len().max(1);
        targets.rotate_left(group.shard.0 as usize % count);
        if at_any_cost {
            targets.extend(rest);
        }
        for target in targets {
            if self.can_lead(group, target) && transfer_to(group, target, TAKEN_WITHIN).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Hands a group that this node leads to the replica on `to`, and waits until that one leads.
    /// # Errors
    /// Why it was not done, for the operator.
    pub async fn transfer(&self, shard: ShardId, to: NodeId) -> Result<(), TransferError> {
        let Some(group) =
            self.running_of(shard).map(|running| running.group).filter(|group| group.leadership().serving)
        else {
            return Err(TransferError::NotLeader);
        };
        if to == self.me {
            return Ok(());
        }
        let (voters, members) = group.members();
        let target = voters.into_iter().find(|id| members.get(id) == Some(&to)).ok_or(TransferError::NoVoter)?;
        if !self.can_lead(&group, target) {
            return Err(TransferError::Behind);
        }
        transfer_to(&group, target, TRANSFERRED_WITHIN).await
    }

    /// Whether a replica can take over a group that is led here: a transfer to a dead or slow one would freeze the group.
    pub(super) fn can_lead(&self, group: &Group, replica: u64) -> bool {
        let (voters, members) = group.members();
        let peer = members.get(&replica).and_then(|node| self.transport.peer(*node));
        voters.contains(&replica)
            && peer.is_some_and(|peer| peer.is_up())
            && lags(group).get(&replica).is_some_and(|lag| *lag <= LAG_MAX)
    }
}

/// Hands a led group over and waits until the other replica leads.
async fn transfer_to(group: &Group, target: u64, within: Duration) -> Result<(), TransferError> {
    FailPoint::BeforeTransfer.pass();
    group.raft.trigger().transfer_leader(target).await.map_err(|_| TransferError::NotLeader)?;
    FailPoint::AfterTransfer.pass();
    let mut leadership = group.watch_leadership();
    let moved = leadership.wait_for(|now| now.leader.is_some_and(|(replica, _)| replica == target));
    match tokio::time::timeout(within, moved).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(TransferError::NotTaken),
    }
}
