//! Owns a socket's hello: who it is, which sessions it follows, its welcome. Does not read sockets.
//! Invariant: the welcome is written before any event of its sessions.

use super::socket::{Socket, Who, error_of};
use super::supervise;
use crate::auth::Bearer;
use crate::push::Hub;
use proto::client::limits::PING_EVERY;
use proto::client::{ErrorCode, ErrorInfo, Reply, ServerFrame, SessionHead, Welcome};
use proto::command::{AgentRole, Party, Target, TokenHash};
use proto::ids::{AgentId, SessionId};
use proto::mutants::Mutant;
use proto::peer::{Refused, SessionState, ShardCall, ShardReply};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What a hello asked for.
pub struct HelloAsk {
    pub id: u64,
    pub bearer: Bearer,
    pub token: TokenHash,
    /// What the client has of each session, and whether it watches it.
    pub resume: HashMap<SessionId, (u64, bool)>,
}

/// Carries out a hello; runs on the cluster's runtime.
pub async fn hello(hub: Arc<Hub>, socket: Arc<Socket>, ask: HelloAsk) {
    let id = ask.id;
    let done = match ask.bearer {
        Bearer::Visitor { session } => visitor(&hub, &socket, session, &ask).await,
        Bearer::Agent { agent } => self::agent(&hub, &socket, agent, &ask).await,
    };
    match done {
        Ok(found) => {
            welcome(&hub, &socket, id, found);
            if let Bearer::Agent { agent } = ask.bearer {
                hub.tell_seat(&socket, agent);
                hub.follow_open(&socket, agent);
                hub.attach_agent_missed(agent);
            }
        }
        Err(error) => {
            // The client may say hello again once it has waited, or must get a new token.
            hub.forget(&socket);
            socket.with(|state| (state.hello_said, state.who) = (false, None));
            socket.error(Some(id), error);
        }
    }
    if socket.with(|state| state.closed) {
        // It went while it was being introduced.
        hub.forget(&socket);
        if let Bearer::Agent { agent } = ask.bearer {
            hub.leave_agent_if_gone(agent);
        }
    }
}

type Found = Vec<(SessionId, SessionState)>;

fn refused(reply: &ShardReply) -> ErrorInfo<'static> {
    match reply {
        ShardReply::Refused(Refused::UnknownSession) => {
            ErrorInfo::new(ErrorCode::Unauthorized, "the token is not valid")
        }
        other => error_of(other),
    }
}

async fn visitor(
    hub: &Arc<Hub>,
    socket: &Arc<Socket>,
    session: SessionId,
    ask: &HelloAsk,
) -> Result<Found, ErrorInfo<'static>> {
    let skipped = u64::from(Mutant::CursorSkips.is_on());
    let after = ask.resume.get(&session).map(|(seq, _)| seq + skipped);
    let found =
        hub.attach_session(socket, session, Some(ask.token), after, false).await.map_err(|reply| refused(&reply))?;
    if let Some(router) = hub.router() {
        let list = hub.blocklists.ensure(&router, found.site).await;
        if socket.address.is_some_and(|address| list.has_address(address)) {
            return Err(ErrorInfo::new(ErrorCode::Forbidden, "nothing is taken from there"));
        }
    }
    let (visitor, site, is_identified, token) = (found.visitor, found.site, found.is_identified, ask.token);
    socket.with(|state| state.who = Some(Who::Visitor { session, visitor, site, is_identified, token }));
    Ok(vec![(session, found)])
}

async fn agent(
    hub: &Arc<Hub>,
    socket: &Arc<Socket>,
    agent: AgentId,
    ask: &HelloAsk,
) -> Result<Found, ErrorInfo<'static>> {
    let Some(router) = hub.router() else { return Err(error_of(&ShardReply::Unknown)) };
    if supervise::role(hub, agent) == Some(AgentRole::Viewer) {
        return Err(ErrorInfo::new(ErrorCode::Unauthorized, "a viewer has no seat, and reads over HTTP"));
    }
    hub.add_agent(socket, agent);
    let shard = router.shard_of(Target::Agent(agent));
    let reply = router.call(shard, ShardCall::AttachAgent { agent, token: Some(ask.token) }).await;
    let ShardReply::AgentAttached(state) = reply else { return Err(refused(&reply)) };
    let site = state.site;
    socket.with(|state| state.who = Some(Who::Agent { agent, site }));
    let mut sessions: BTreeSet<SessionId> = state.open.iter().map(|(session, _)| *session).collect();
    sessions.extend(ask.resume.keys());
    hub.agent_changed(agent, state);
    let may_watch = supervise::may(hub, agent);
    let attaches = sessions.into_iter().map(|session| async move {
        let known = ask.resume.get(&session);
        let watching = may_watch && known.is_some_and(|(_, watch)| *watch);
        let found = hub.attach_session(socket, session, None, known.map(|(seq, _)| *seq), watching).await;
        (session, found)
    });
    let mut found = Vec::new();
    for (session, attached) in futures_util::future::join_all(attaches).await {
        match attached {
            Ok(state) if state.agent == Some(agent) => found.push((session, state)),
            // What was missed, up to the event that ended this agent's part.
            Ok(state) if state.site == site && ask.resume.contains_key(&session) => found.push((session, state)),
            // Closed or handed on since the agent's row was read, or not this site's.
            Ok(_) => hub.detach(socket, session),
            Err(ShardReply::Done | ShardReply::Refused(_)) => {}
            Err(reply) => return Err(refused(&reply)),
        }
    }
    Ok(found)
}

fn welcome(hub: &Arc<Hub>, socket: &Arc<Socket>, id: u64, found: Found) {
    let node = hub.node().map(|node| node.me.to_string()).unwrap_or_default();
    let sessions = found.iter().map(|(session, state)| SessionHead { session: *session, head: state.head }).collect();
    let welcome = Welcome { node: node.into(), ping_s: PING_EVERY.as_secs(), sessions };
    socket.write(&ServerFrame { id: Some(id), body: Reply::Welcome(welcome) });
    metrics::counter!("chat_connections_opened_total").increment(1);
    socket.with(|state| state.welcomed = true);
    let me = socket.with(|state| state.who.map(Who::party));
    for (session, state) in found {
        hub.settle(socket, session);
        let (party, (received, read)) = match me {
            Some(Party::Visitor) => (state.agent.map(Party::Agent), state.agent_cursor),
            _ => (Some(Party::Visitor), state.visitor_cursor),
        };
        if let Some(party) = party {
            socket.tell_cursor(session, party, received, read);
        }
    }
}
