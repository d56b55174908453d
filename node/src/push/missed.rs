//! Owns the pushes that found a full lane: the last event of each session, the last list of each agent, sent again soon.
//! Does not keep all of them. Invariant: a node whose link stays up hears of the newest event in the end, and reads what lies before it.

use super::Hub;
use cluster::node::ClusterNode;
use parking_lot::Mutex;
use proto::ids::{AgentId, NodeId, SessionId, ShardId};
use proto::peer::{Push, Pushes};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

const RETRY_EVERY: Duration = Duration::from_millis(100);
/// Sessions and agents per node; above it a node that does not read loses its link, and follows everything anew.
const MISSED_MAX: usize = 50_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum About {
    Session(SessionId),
    Agent(AgentId),
    Tokens(SessionId),
}

type ByNode = BTreeMap<NodeId, HashMap<About, (ShardId, Push)>>;

/// What could not be pushed.
#[derive(Default)]
pub struct Missed {
    by_node: Mutex<ByNode>,
    wake: Notify,
}

impl Missed {
    /// Starts the task that tries again; it ends with the node.
    pub fn start(node: Weak<ClusterNode>, hub: &Arc<Hub>) -> Arc<Missed> {
        let missed = Arc::new(Missed::default());
        let retried = missed.clone();
        hub.spawn(async move {
            loop {
                retried.wake.notified().await;
                tokio::time::sleep(RETRY_EVERY).await;
                let Some(node) = node.upgrade() else { return };
                retried.retry(&node);
            }
        });
        missed
    }

    /// Remembers what is worth repeating; cursors, typing and presence may be lost.
    pub fn add(&self, to: NodeId, pushes: Pushes) {
        let mut by_node = self.by_node.lock();
        let kept = by_node.entry(to).or_default();
        for push in pushes.items {
            let about = match &push {
                Push::Event { session, .. } => About::Session(*session),
                Push::Agent { agent, .. } => About::Agent(*agent),
                Push::LoggedOut { session, .. } => About::Tokens(*session),
                Push::Cursor { .. } | Push::Typing { .. } | Push::Presence { .. } => continue,
            };
            let is_newer = kept.get(&about).is_none_or(|(_, known)| place(known) <= place(&push));
            self.wake.notify_one();
            if let (Push::LoggedOut { gone, .. }, Some((_, Push::LoggedOut { gone: known, .. }))) =
                (&push, kept.get_mut(&about))
            {
                known.extend(gone);
            } else if is_newer && (kept.len() < MISSED_MAX || kept.contains_key(&about)) {
                kept.insert(about, (pushes.shard, push));
            }
        }
    }

    /// Its link broke: it will follow everything anew.
    pub fn forget_node(&self, node: NodeId) {
        self.by_node.lock().remove(&node);
    }

    fn retry(&self, node: &ClusterNode) {
        // The lock is let go first: what finds no room again is added again.
        let taken = std::mem::take(&mut *self.by_node.lock());
        for (to, kept) in taken {
            let mut by_shard: BTreeMap<ShardId, Vec<Push>> = BTreeMap::new();
            for (shard, push) in kept.into_values() {
                by_shard.entry(shard).or_default().push(push);
            }
            for (shard, items) in by_shard {
                // A shard that is led elsewhere now was followed anew there.
                let Some(epoch) = node.router.local(shard).and_then(|local| local.serving()) else { continue };
                if let Err(dropped) = node.push(to, Pushes { shard, epoch: epoch.0, items }) {
                    self.add(to, dropped);
                }
            }
        }
    }
}

/// Newer pushes about the same thing have a higher place.
fn place(push: &Push) -> u64 {
    match push {
        Push::Event { event, .. } => event.seq,
        Push::Agent { state, .. } => state.version,
        Push::Cursor { .. } | Push::Typing { .. } | Push::Presence { .. } | Push::LoggedOut { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::command::{Event, EventBody, Party};

    fn event(session: u128, seq: u64) -> Push {
        let body = EventBody::Closed { by: Party::System, conversation: 1, reason: String::new() };
        Push::Event { session: SessionId(session), event: Event { seq, ts_ms: 1, body } }
    }

    #[test]
    fn only_the_newest_event_of_a_session_is_kept() {
        let missed = Missed::default();
        for (session, seq) in [(1, 4), (1, 6), (2, 9), (1, 5)] {
            missed.add(NodeId(2), Pushes { shard: ShardId(1), epoch: 1, items: vec![event(session, seq)] });
        }
        let kept = missed.by_node.lock().remove(&NodeId(2)).unwrap();
        let mut seqs: Vec<u64> = kept.values().map(|(_, push)| place(push)).collect();
        seqs.sort_unstable();
        assert_eq!(seqs, [6, 9]);
    }

    #[test]
    fn a_node_whose_link_broke_is_forgotten() {
        let missed = Missed::default();
        missed.add(NodeId(2), Pushes { shard: ShardId(1), epoch: 1, items: vec![event(1, 4)] });
        missed.forget_node(NodeId(2));
        assert!(missed.by_node.lock().is_empty());
    }
}
