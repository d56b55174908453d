//! Owns how stored events look to clients. Does not decide who gets them. Invariant: visitors see nothing internal.

use proto::attachment::Attachment;
use proto::client::{Event, EventKind};
use proto::command::{EventBody, Party};
use proto::ids::{SessionId, VisitorId};
use std::borrow::Cow;

pub fn client_party(party: Party, visitor: VisitorId) -> proto::client::Party {
    match party {
        Party::Visitor => proto::client::Party::Visitor(visitor),
        Party::Agent(agent) => proto::client::Party::Agent(agent),
        Party::System => proto::client::Party::System,
    }
}

/// A stored event as agents or visitors see it.
pub fn client_event(
    session: SessionId,
    visitor: VisitorId,
    event: &proto::command::Event,
    for_agents: bool,
) -> Event<'_> {
    let some = |text: &'_ String| (!text.is_empty()).then(|| text.clone());
    let kind = match &event.body {
        body if body.is_internal() && !for_agents => EventKind::Hidden,
        EventBody::Message { from, cid, text, reply_to, attachments, .. } => EventKind::Message {
            from: client_party(*from, visitor),
            text: Cow::Borrowed(text),
            attachments: told(session, attachments),
            reply_to: *reply_to,
            cid: (!cid.is_empty()).then_some(Cow::Borrowed(cid.as_str())),
        },
        EventBody::Act { from, cid, act, .. } => {
            EventKind::Act { from: client_party(*from, visitor), act: act.clone(), cid: some(cid).map(Cow::Owned) }
        }
        EventBody::Assigned { agent, .. } => EventKind::Assigned { agent: *agent },
        EventBody::Closed { by, reason, .. } => {
            let reason = some(reason).filter(|_| for_agents).map(Cow::Owned);
            EventKind::Closed { by: client_party(*by, visitor), reason }
        }
        EventBody::Queued { by, .. } => EventKind::Queued { by: client_party(*by, visitor) },
        EventBody::Gone => EventKind::Gone,
        EventBody::Erased { upto } => EventKind::Erased { upto: *upto },
    };
    Event { session, seq: event.seq, ts: event.ts_ms, kind }
}

/// Attachments with addresses that are good from now on.
fn told(session: SessionId, attachments: &[Attachment]) -> Vec<proto::client::Attachment<'_>> {
    if attachments.is_empty() {
        return Vec::new();
    }
    let now_ms = cluster::shard::now_ms();
    attachments.iter().map(|attachment| crate::attachments::for_client(session, attachment, now_ms)).collect()
}
