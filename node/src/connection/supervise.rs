//! Owns what supervisors do about conversations that are not theirs: following them. Does not know accounts: meta does. Invariant: who
//! may not is refused before anything is read.

use super::socket::{Socket, Who};
use super::verbs::{ask_target, forbidden};
use crate::push::Hub;
use proto::client::{Reply, Watch};
use proto::command::{AgentRole, Target};
use proto::ids::{AgentId, SiteId};
use proto::peer::{Refused, ShardReply};
use std::sync::Arc;

/// Whether the agent's role allows what is for supervisors, as this node knows it.
pub fn may(hub: &Hub, agent: AgentId) -> bool {
    let role = |node: Arc<cluster::node::ClusterNode>| node.with_meta(|state| Some(state.agents.get(&agent)?.role));
    hub.node().and_then(role).flatten().is_some_and(|role| role >= AgentRole::Supervisor)
}

/// Whether there is such an agent of the site.
pub fn is_of_site(hub: &Hub, agent: AgentId, site: SiteId) -> bool {
    let of = |node: Arc<cluster::node::ClusterNode>| node.with_meta(|state| Some(state.agents.get(&agent)?.site));
    hub.node().and_then(of).flatten() == Some(site)
}

/// Follows a session of the supervisor's site, or ends that.
pub fn watch(socket: &Arc<Socket>, who: Who, id: u64, Watch { session, on }: Watch) {
    let Who::Agent { agent, site } = who else { return socket.error(Some(id), forbidden()) };
    if !may(&socket.hub, agent) {
        return socket.error(Some(id), forbidden());
    }
    let me = socket.clone();
    ask_target(socket, id, Target::Session(session), move |_, _| async move {
        if !on {
            stop(&me, agent, session);
            return Ok(Reply::Ok);
        }
        let hub = me.hub.clone();
        let found = match hub.attach_session(&me, session, None, None, true).await {
            Ok(found) => found,
            // It is followed already, and so it is one of this site.
            Err(ShardReply::Done) => {
                me.with(|state| state.subscription(session).into_iter().for_each(|sub| sub.watching = true));
                return Ok(Reply::Ok);
            }
            Err(other) => return Err(other),
        };
        if found.site != site {
            hub.detach(&me, session);
            return Err(ShardReply::Refused(Refused::NotYours));
        }
        hub.settle(&me, session);
        Ok(Reply::Ok)
    });
}

fn stop(socket: &Arc<Socket>, agent: AgentId, session: proto::ids::SessionId) {
    let watched = socket.with(|state| state.subscription(session).is_some_and(|sub| std::mem::take(&mut sub.watching)));
    // If it is the supervisor's own by now, it goes on as any other.
    if watched && !socket.hub.is_open_with(agent, session) {
        socket.hub.detach(socket, session);
    }
}
