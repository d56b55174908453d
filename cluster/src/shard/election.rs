//! Owns the election that follows a broken link to a leader, without waiting out its lease. Does not vote.
//! Invariant: it starts only when a quorum of voters lost the leader's link, and never lets a shorter log stand.

use crate::raft::Group;
use crate::raft::types::point;
use crate::transport::{Lane, MessageKind, Transport};
use openraft::raft::TransferLeaderRequest;
use proto::codec;
use proto::ids::NodeId;
use proto::peer::{LogPoint, LostCall, LostReply};
use std::sync::Arc;
use std::time::Duration;

/// A voter that has not answered by then counts as one that still sees the leader.
const ASK_WITHIN: Duration = Duration::from_millis(120);
/// Each place behind the best candidate waits this much longer before it stands.
const STAGGER: Duration = Duration::from_millis(60);
/// After this many tries the ordinary election timeout takes over.
const TRIES: u32 = 3;

/// The link to `dead` broke. If it led `group`, stand for election as soon as a quorum agrees that it is gone.
pub async fn fast_election(group: Arc<Group>, transport: Arc<Transport>, me: NodeId, dead: NodeId) {
    for _ in 0..TRIES {
        let leadership = group.leadership();
        let Some(vote) = group.leader_vote() else { return };
        if leadership.leader.map(|(_, node)| node) != Some(dead) {
            return;
        }
        let (voters, members) = group.members();
        let my_id = u64::from(group.replica.0);
        if !voters.contains(&my_id) {
            return;
        }
        let others: Vec<(u64, NodeId)> = voters
            .iter()
            .filter_map(|id| members.get(id).map(|node| (*id, *node)))
            .filter(|(_, node)| *node != me && *node != dead)
            .collect();
        let answers = ask(&group, &transport, leadership.epoch.0, &others).await;
        // I lost it, and so did these.
        if (1 + answers.len()) * 2 > voters.len() {
            let mine = (group.last_log().as_ref().map(point).map(order), std::cmp::Reverse(my_id));
            let place =
                answers.iter().filter(|(id, last)| (last.map(order), std::cmp::Reverse(*id)) > mine).count() as u32;
            tokio::time::sleep(STAGGER * place).await;
            if group.leader_vote() != Some(vote) {
                return;
            }
            tracing::info!(shard = %group.shard, %dead, place, "leader's links broke, standing for election");
            let _ = group.raft.handle_transfer_leader(TransferLeaderRequest::new(vote, my_id, None)).await;
        }
        tokio::time::sleep(STAGGER * 2).await;
    }
}

fn order(at: LogPoint) -> (u64, u64) {
    (at.term, at.index)
}

/// The voters that lost the leader too, with their last log ids.
async fn ask(
    group: &Arc<Group>,
    transport: &Arc<Transport>,
    term: u64,
    voters: &[(u64, NodeId)],
) -> Vec<(u64, Option<LogPoint>)> {
    let asked = voters.iter().map(|(id, node)| async move {
        let pending = transport.peer(*node)?.start_call(Lane::Pulse, MessageKind::Lost, group.shard.0, |out| {
            out.extend_from_slice(&(*id as u32).to_le_bytes());
            codec::encode_into(&LostCall { term }, out);
        });
        let answer = pending.wait(ASK_WITHIN).await.ok()?;
        let reply: LostReply = codec::decode(&answer).ok()?;
        reply.lost.then_some((*id, reply.last))
    });
    futures_util::future::join_all(asked).await.into_iter().flatten().collect()
}
