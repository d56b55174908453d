//! Owns finding out whether a visitor has a page open, at whichever node. Does not remember it. Invariant: a node that does not answer has
//! no pages: it is most likely gone.

use crate::admin::ask::{Ask, ask_node};
use crate::push::Hub;
use cluster::node::ClusterNode;
use proto::ids::SessionId;
use std::sync::Arc;

/// Whether a socket of the visitor is open at this node.
pub fn on_this_node(hub: &Hub, session: SessionId) -> bool {
    hub.has_visitor(session)
}

/// Whether one is open anywhere.
pub async fn anywhere(hub: &Hub, node: &Arc<ClusterNode>, session: SessionId) -> bool {
    if on_this_node(hub, session) {
        return true;
    }
    let nodes = node.with_meta(|state| state.members().map(|(id, _)| id).collect::<Vec<_>>()).unwrap_or_default();
    let asked = nodes.into_iter().filter(|id| *id != node.me).map(|id| {
        let ask = Ask::Present { session };
        async move { ask_node::<bool>(node, id, &ask).await.unwrap_or(false) }
    });
    futures_util::future::join_all(asked).await.contains(&true)
}
