//! Owns the way of one message, put together from what the nodes remember. Does not remember it: `trace.rs` does.
//! Invariant: what is durable (the event, the cursors) comes from the leader; the rest only while a node remembers it.

use super::Answer;
use super::ask::{Ask, ask_all};
use super::problem::Problem;
use super::sessions::{CursorView, call_shard, known, of};
use crate::hooks::Local;
use crate::run::App;
use crate::trace::{Step, party_text};
use actix_web::web::{Data, Json, Path};
use proto::command::EventBody;
use proto::ids::{NodeId, SessionId, ShardId};
use proto::peer::{Page, ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What happened, in the order of a message's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StepName {
    /// The author's socket took the frame.
    Accepted,
    /// On the disks of a quorum, and applied at the leader.
    Committed,
    /// The leader queued the pushes.
    Routed,
    /// The ack is in the queue of the author's socket.
    Acked,
    /// In the queue of a socket.
    Delivered,
    /// The party's cursor says that it has it.
    Received,
    /// The party's cursor says that it read it.
    Read,
}

/// One step.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    pub step: StepName,
    /// Where it happened.
    #[schema(value_type = String, example = "n1")]
    pub node: NodeId,
    /// Milliseconds since 1970, by that node's clock.
    pub at_ms: u64,
    /// `visitor`, an agent such as `a1`, or null.
    pub party: Option<String>,
    /// The leader's term.
    pub term: Option<u64>,
    /// Of the log entry; null when an earlier leader proposed it.
    pub index: Option<u64>,
    /// To how many nodes the leader pushed it; the author's own node learns it from the answer.
    pub nodes: Option<u32>,
}

/// The way of one message.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageTrace {
    #[schema(value_type = String)]
    pub session: SessionId,
    pub seq: u64,
    #[schema(value_type = String, example = "g1")]
    pub shard: ShardId,
    /// `message`, `assigned` or `closed`.
    pub event: String,
    /// Who wrote it, if it is a message.
    pub from: Option<String>,
    /// The time that is stored with it, milliseconds since 1970: when the leader proposed it.
    pub ts_ms: u64,
    pub visitor_cursor: CursorView,
    pub agent_cursor: CursorView,
    /// What the nodes remember, in order of time; each remembers its last 65,536 steps.
    pub steps: Vec<StepView>,
}

/// What this node remembers.
pub fn steps(local: &Local, node: NodeId, session: SessionId, seq: u64) -> Vec<StepView> {
    let view = |(at_ms, step)| {
        let blank =
            StepView { step: StepName::Accepted, node, at_ms, party: None, term: None, index: None, nodes: None };
        match step {
            Step::Accepted => blank,
            Step::Committed { epoch, index } => {
                StepView { step: StepName::Committed, term: Some(epoch), index, ..blank }
            }
            Step::Routed { nodes } => StepView { step: StepName::Routed, nodes: Some(nodes), ..blank },
            Step::Acked => StepView { step: StepName::Acked, ..blank },
            Step::Delivered { to } => StepView { step: StepName::Delivered, party: Some(party_text(to)), ..blank },
            Step::Received { by } => StepView { step: StepName::Received, party: Some(party_text(by)), ..blank },
            Step::Read { by } => StepView { step: StepName::Read, party: Some(party_text(by)), ..blank },
        }
    };
    local.hub.trace.of(session, seq).into_iter().map(view).collect()
}

pub async fn trace(app: Data<App>, path: Path<(String, String)>) -> Answer<MessageTrace> {
    let session = known(&path.0)?;
    let seq: u64 = path.1.parse().ok().filter(|seq| *seq > 0).ok_or_else(|| Problem::not_found("no such message"))?;
    let view = of(&app, session).await?;
    let call = ShardCall::History { session, page: Page::After(seq - 1), limit: 1, site: None };
    let event = match call_shard(&app, view.shard, call).await {
        ShardReply::History { events, .. } => events.into_iter().find(|event| event.seq == seq),
        _ => return Err(Problem::unavailable(format!("{} has no leader just now, try again", view.shard))),
    };
    let event = event.ok_or_else(|| Problem::not_found("no such message"))?;
    let (name, from) = match &event.body {
        EventBody::Message { from, .. } => ("message", Some(party_text(*from))),
        EventBody::Assigned { .. } => ("assigned", None),
        EventBody::Closed { .. } => ("closed", None),
        EventBody::Queued { .. } => ("queued", None),
        EventBody::Gone | EventBody::Erased { .. } => ("erased", None),
        EventBody::Act { from, act, .. } => (proto::client::acts::kind(act), Some(party_text(*from))),
    };
    let told: Vec<(NodeId, Vec<StepView>)> = ask_all(&app, || Ask::Trace { session, seq }).await;
    let mut steps: Vec<StepView> = told.into_iter().flat_map(|(_, steps)| steps).collect();
    // An author's own cursor says nothing of the message.
    steps.retain(|step| !(matches!(step.step, StepName::Received | StepName::Read) && step.party == from));
    steps.sort_by_key(|step| (step.at_ms, step.step));
    Ok(Json(MessageTrace {
        session,
        seq,
        shard: view.shard,
        event: name.into(),
        from,
        ts_ms: event.ts_ms,
        visitor_cursor: view.visitor_cursor,
        agent_cursor: view.agent_cursor,
        steps,
    }))
}
