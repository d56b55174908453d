//! Owns the figures that are true when they are read: cluster, lag, desks. Does not own what is counted as it happens.
//! Invariant: reading them waits for no other node, and a figure of a shard is told by its leader alone, so that sums are right.

use crate::run::App;
use cluster::node::{ClusterNode, ClusterStatus};
use proto::command::Target;
use proto::desk::SeatState;
use proto::ids::SiteId;

/// What the sites whose desks this node leads add up to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Desks {
    waiting: u64,
    assigned: u64,
    agents_online: u64,
}

/// Sets the gauges. A node that is stopping keeps its last ones.
pub async fn refresh(app: &App) {
    let node = app.cluster.clone();
    // The state of a shard may be on disk: not for an HTTP thread.
    let Some((status, desks)) = app.on_raft(async move { (node.status(), desks(&node)) }).await else { return };
    show_cluster(&status);
    metrics::gauge!("chat_desk_waiting_count").set(desks.waiting as f64);
    metrics::gauge!("chat_desk_assigned_count").set(desks.assigned as f64);
    metrics::gauge!("chat_desk_agents_online_count").set(desks.agents_online as f64);
}

fn show_cluster(status: &ClusterStatus) {
    let count = |count: usize| count as f64;
    let led = status.shards.iter().filter(|shard| shard.serving);
    let lag = led.clone().flat_map(|shard| &shard.replicas).filter_map(|replica| replica.lag).max();
    let (up, down): (Vec<_>, Vec<_>) = status.nodes.iter().partition(|node| node.up);
    metrics::gauge!("chat_cluster_shards_count").set(count(status.shards.len()));
    metrics::gauge!("chat_cluster_shards_led_count").set(count(led.count()));
    metrics::gauge!("chat_cluster_shards_leaderless_count")
        .set(count(status.shards.iter().filter(|shard| shard.leader.is_none()).count()));
    metrics::gauge!("chat_cluster_lag_max_count").set(lag.unwrap_or(0) as f64);
    metrics::gauge!("chat_cluster_nodes_up_count").set(count(up.len()));
    metrics::gauge!("chat_cluster_nodes_down_count").set(count(down.len()));
    metrics::gauge!("chat_cluster_nodes_dead_count").set(count(status.nodes.iter().filter(|node| node.dead).count()));
}

fn desks(node: &ClusterNode) -> Desks {
    let sites: Vec<SiteId> = node.with_meta(|state| state.sites.keys().copied().collect()).unwrap_or_default();
    let mut sum = Desks::default();
    for shard in node.router.locals().iter().filter(|shard| shard.serving().is_some()) {
        let here = sites.iter().filter(|site| Target::Desk(**site).shard(node.shards) == shard.id);
        for site in here {
            // One site at a time: the shard's own work comes in between.
            match shard.peek(|state, rows| state.desk(rows, *site)) {
                Ok(desk) => {
                    sum.waiting += desk.queue_len;
                    let is_here = |seat: &&chat::SeatView| seat.state != SeatState::Offline;
                    sum.agents_online += desk.seats.iter().filter(is_here).count() as u64;
                    sum.assigned += desk.seats.iter().map(|seat| u64::from(seat.open)).sum::<u64>();
                }
                Err(error) => drop(shard.halt(&error.to_string())),
            }
        }
    }
    sum
}
