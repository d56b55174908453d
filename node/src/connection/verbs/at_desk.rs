//! Owns the verbs of a site's desk: what agents do about offers and the queue, what a page says of its visitor. Does not decide
//! who gets whom. Invariant: an agent acts at the desk of their own site only, and in their own name.

use super::{ask_shard, ask_target, forbidden};
use crate::connection::socket::{Socket, Who};
use crate::connection::supervise;
use proto::act::Act;
use proto::client::limits::{FACTS_MAX, QUEUE_LIMIT_DEFAULT};
use proto::client::{About, Queue, Reply, Transfer, TransferTo, Verb, Waiting};
use proto::command::{Command, EventBody, Party, Target};
use proto::ids::TeamId;
use proto::peer::{Refused, ShardCall, ShardReply};
use std::sync::Arc;

/// Carries out a verb that only agents have.
pub fn carry_out(socket: &Arc<Socket>, who: Who, id: u64, verb: &Verb<'_>) {
    let Who::Agent { agent, site } = who else { return socket.error(Some(id), forbidden()) };
    let call = match *verb {
        Verb::Accept(of) => Command::Accept { site, agent, session: of.session, offer: of.offer },
        Verb::Decline(of) => Command::Decline { site, agent, session: of.session, offer: of.offer },
        Verb::Take(of) => Command::Take { site, agent, session: of.session, conversation: of.conversation },
        Verb::Seat(said) => Command::AgentState { agent, state: said.state },
        Verb::Dismiss(of) => Command::Dismiss { agent, session: of.session, seq: of.seq },
        Verb::Queue(asked) => {
            let limit = asked.limit.unwrap_or(QUEUE_LIMIT_DEFAULT) as u32;
            return call_desk(socket, id, Target::Desk(site), ShardCall::Queue { site, limit });
        }
        _ => return socket.error(Some(id), forbidden()),
    };
    let is_own = matches!(call, Command::AgentState { .. } | Command::Dismiss { .. });
    let target = if is_own { Target::Agent(agent) } else { Target::Desk(site) };
    call_desk(socket, id, target, ShardCall::Propose(call));
}

fn call_desk(socket: &Arc<Socket>, id: u64, target: Target, call: ShardCall) {
    ask_target(socket, id, target, |router, shard| {
        let asked = router.call(shard, call);
        async move {
            match asked.await {
                ShardReply::Done => Ok(Reply::Ok),
                ShardReply::Queue { waiting, total } => {
                    let waiting = waiting.into_iter().map(client_waiting).collect();
                    Ok(Reply::Queue(Queue { waiting, total }))
                }
                other => Err(other),
            }
        }
    });
}

fn client_waiting(one: proto::peer::Waiting) -> Waiting {
    let proto::peer::Waiting { session, conversation, team, priority, since_ms } = one;
    let team = (team != TeamId(0)).then_some(team);
    Waiting { session, conversation, team, priority, since: since_ms }
}

/// The conversation goes to somebody else: by way of its session, which knows whose it is, or to an agent by way of the desk, which
/// knows who has room.
pub fn transfer(socket: &Arc<Socket>, who: Who, id: u64, ask: Transfer) {
    let Who::Agent { agent, site } = who else { return socket.error(Some(id), forbidden()) };
    let Transfer { session, to, seen } = ask;
    let to = match to {
        TransferTo::Agent(to) => to,
        TransferTo::Team(_) | TransferTo::Queue => {
            let team = if let TransferTo::Team(team) = to { Some(team) } else { None };
            let seen = seen.unwrap_or_else(|| socket.with(|state| state.known(session)));
            let call = ShardCall::Propose(Command::Release { session, by: Party::Agent(agent), seen, team });
            return ask_shard(socket, who, id, session, call, |_| Reply::Ok);
        }
    };
    ask_target(socket, id, Target::Session(session), |router, shard| {
        // Which conversation it is, the desk must be told: a later one stays where it is.
        let seen = seen.unwrap_or_else(|| socket.with(|state| state.known(session)));
        let look = router.call(shard, ShardCall::Attach { session, token: None, after: Some(seen) });
        let hub = socket.hub.clone();
        async move {
            let state = match look.await {
                ShardReply::Attached(state) => state,
                other => return Err(other),
            };
            if !hub.follows(session) {
                hub.unfollow(session);
            }
            match state.agent {
                // Said again.
                Some(holder) if holder == to && state.site == site => return Ok(Reply::Ok),
                Some(holder) if holder == agent => {}
                // A supervisor takes over; what somebody else is given, they must be there for and have room.
                _ if to == agent && state.site == site && supervise::may(&hub, agent) => {
                    let seen = seen.min(state.head);
                    let call = ShardCall::Propose(Command::ReassignSeen { session, agent, seen });
                    return match router.call(shard, call).await {
                        ShardReply::Done => Ok(Reply::Ok),
                        other => Err(other),
                    };
                }
                _ => return Err(ShardReply::Refused(Refused::NotYours)),
            }
            // It went and came back since: that part was not meant.
            if state.events.iter().any(|event| !stays_in_part(&event.body)) {
                return Err(ShardReply::Refused(Refused::Changed));
            }
            let (conversation, part) = (state.conversation, state.part);
            let hand = Command::Hand { site, agent, session, conversation, part, to };
            match router.call(router.shard_of(Target::Desk(site)), ShardCall::Propose(hand)).await {
                ShardReply::Done => Ok(Reply::Ok),
                other => Err(other),
            }
        }
    });
}

/// Whether a conversation is still in the same part after the event.
fn stays_in_part(body: &EventBody) -> bool {
    match body {
        EventBody::Message { .. } => true,
        EventBody::Act { act, .. } => !matches!(act, Act::Snooze { .. } | Act::Reopen { .. }),
        EventBody::Assigned { .. }
        | EventBody::Closed { .. }
        | EventBody::Queued { .. }
        | EventBody::Gone
        | EventBody::Erased { .. } => false,
    }
}

/// What a page says of its visitor.
pub fn about(socket: &Arc<Socket>, who: Who, id: u64, ask: About<'_>) {
    let Who::Visitor { .. } = who else { return socket.error(Some(id), forbidden()) };
    let mut facts = ask.facts;
    // Better than what a page could know of it.
    if let Some(country) = socket.place.country.as_deref().filter(|_| facts.len() < FACTS_MAX) {
        facts.insert("country".into(), country.to_owned().into());
    }
    let facts = facts.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    let about = proto::desk::About { team: ask.team, facts, channel: ask.channel };
    let command = Command::About { session: ask.session, about };
    ask_shard(socket, who, id, ask.session, ShardCall::Propose(command), |_| Reply::Ok);
}
