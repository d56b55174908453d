//! Owns what supervisors do about conversations that are not theirs: following them. Does not know accounts: meta does. Invariant: who
//! may not is refused before anything is read.

use super::socket::{Socket, Who};
use super::verbs::{ask_target, forbidden};
use crate::push::Hub;
use proto::client::limits::RESUME_SESSIONS_MAX;
use proto::client::{ErrorCode, ErrorInfo, Reply, Watch};
use proto::command::{AgentRole, Target};
use proto::ids::{AgentId, SessionId};
use proto::peer::{Refused, ShardReply};
use std::sync::Arc;

/// What the agent may do, as this node knows it.
pub fn role(hub: &Hub, agent: AgentId) -> Option<AgentRole> {
    let role = |node: Arc<cluster::node::ClusterNode>| node.with_meta(|state| Some(state.agents.get(&agent)?.role));
    hub.node().and_then(role).flatten()
}

/// Whether the agent's role allows what is for supervisors.
pub fn may(hub: &Hub, agent: AgentId) -> bool {
    role(hub, agent).is_some_and(|role| role >= AgentRole::Supervisor)
}

/// Follows a session of the supervisor's site, or ends that.
pub fn watch(socket: &Arc<Socket>, who: Who, id: u64, Watch { session, on, seq }: Watch) {
    let Who::Agent { agent, site } = who else { return socket.error(Some(id), forbidden()) };
    if !may(&socket.hub, agent) {
        return socket.error(Some(id), forbidden());
    }
    if on && socket.with(|state| state.sessions.iter().filter(|sub| sub.watching).count()) >= RESUME_SESSIONS_MAX {
        return socket
            .error(Some(id), ErrorInfo::new(ErrorCode::BadRequest, "watch: this socket watches 500 sessions"));
    }
    let me = socket.clone();
    ask_target(socket, id, Target::Session(session), move |_, _| async move {
        if !on {
            stop(&me, agent, session);
            return Ok(Reply::Ok);
        }
        let hub = me.hub.clone();
        let found = match hub.attach_session(&me, session, None, seq, true).await {
            Ok(found) => found,
            // It is followed already, and so it is one of this site.
            Err(ShardReply::Done) => {
                me.with(|state| state.subscription(session).into_iter().for_each(|sub| sub.watching = true));
                return Ok(Reply::Ok);
            }
            Err(other) => {
                // It may be the supervisor's own by now, and was taken for followed.
                hub.follow_open(&me, agent);
                return Err(other);
            }
        };
        if found.site != site {
            hub.detach(&me, session);
            return Err(ShardReply::Refused(Refused::NotYours));
        }
        hub.settle(&me, session);
        Ok(Reply::Ok)
    });
}

/// If it is the supervisor's own by now, it goes on as any other.
fn stop(socket: &Arc<Socket>, agent: AgentId, session: SessionId) {
    let is_over = socket.with(|state| {
        let sub = state.subscription(session)?;
        Some(std::mem::take(&mut sub.watching) && sub.agent != Some(agent))
    });
    if is_over == Some(true) {
        socket.hub.detach(socket, session);
    }
}
