//! Owns a node that is a cluster by itself, for unit tests. Does not listen to clients.

use crate::hooks::{NodeHooks, Outside};
use crate::push::Hub;
use crate::search::Indexes;
use cluster::config::RaftTimings;
use cluster::node::{ClusterNode, NodeConfig};
use proto::command::NodeAddress;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// The node, with one shard, and its data for as long as it runs.
pub(crate) async fn alone() -> (Arc<ClusterNode>, tempfile::TempDir) {
    alone_with(Outside::nowhere()).await
}

/// The same, with a world outside.
pub(crate) async fn alone_with(outside: Outside) -> (Arc<ClusterNode>, tempfile::TempDir) {
    let data = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = listener.local_addr().unwrap().to_string();
    let config = NodeConfig {
        data_dir: data.path().to_owned(),
        address: NodeAddress { peer, client: String::new(), admin: String::new() },
        join: None,
        shards: 1,
        timings: RaftTimings::default(),
        compaction: Default::default(),
        dead_after: Duration::from_secs(300),
        zone: String::new(),
        admin_token: [0; 32],
    };
    let hub = Hub::new(Handle::current());
    let for_hooks = hub.clone();
    let indexes = Indexes::new(None);
    let make_hooks = |weak| NodeHooks::new(weak, for_hooks, Handle::current(), false, outside, indexes) as Arc<_>;
    let cluster = ClusterNode::start(config, None, listener.into(), make_hooks, || Ok(String::new())).await.unwrap();
    hub.attach(&cluster);
    (cluster, data)
}
