//! Owns what people and other systems do in the conversations of a site. Does not decide whether they may: the rules of `chat` do.
//! Invariant: under one `Idempotency-Key` something is done once, whatever becomes of the answer.

use super::access::{Caller, Who};
use super::conversations::{Conversation, OfSession, call_session, done, own};
use crate::admin::problem::Problem;
use crate::admin::sessions::{call_shard, closed, of};
use crate::admin::{Answer, read_meta};
use crate::auth::mint_plain_token;
use crate::run::App;
use actix_web::HttpRequest;
use actix_web::web::{Data, Json, Path, ReqData};
use proto::act::Act;
use proto::command::{AgentRole, Command, Party, Target};
use proto::ids::{AgentId, SessionId, TeamId};
use proto::peer::{ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The device under which this API sends.
const DEVICE: &str = "rest";
/// Longest key of a repetition that is the cid itself, in bytes; of a longer one it is the hash.
const CID_BYTES_MAX: usize = chat::limits::CID_BYTES_MAX;

/// One of these: a message, or what else people do in a session.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendBody {
    /// A message, up to 16 KiB.
    #[schema(max_length = 16384)]
    pub text: Option<String>,
    /// With a text: the seq of the message that it answers.
    pub reply_to: Option<u64>,
    pub note: Option<NoteBody>,
    pub label: Option<LabelBody>,
    pub edit: Option<EditBody>,
    pub recall: Option<OfSeq>,
    pub react: Option<ReactBody>,
    pub snooze: Option<SnoozeBody>,
    pub reopen: Option<ReopenBody>,
}

/// Between agents.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteBody {
    #[schema(min_length = 1, max_length = 16384)]
    pub text: String,
    /// Agents who are told of it.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 16)]
    pub mentions: Vec<AgentId>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelBody {
    #[schema(min_length = 1, max_length = 64)]
    pub label: String,
    #[serde(default = "is_on")]
    pub on: bool,
}

fn is_on() -> bool {
    true
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditBody {
    pub of: u64,
    #[schema(min_length = 1, max_length = 16384)]
    pub text: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OfSeq {
    pub of: u64,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReactBody {
    pub of: u64,
    #[schema(min_length = 1, max_length = 32)]
    pub emoji: String,
    #[serde(default = "is_on")]
    pub on: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnoozeBody {
    pub conversation: u64,
    /// Milliseconds since 1970.
    pub until: u64,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReopenBody {
    pub conversation: u64,
}

/// Where it has its place.
#[derive(Debug, Serialize, ToSchema)]
pub struct SentView {
    pub seq: u64,
    /// Milliseconds since 1970.
    pub ts: u64,
    /// It had it before.
    pub dup: bool,
}

enum What {
    Text { text: String, reply_to: Option<u64> },
    Act(Act),
}

impl SendBody {
    fn what(self) -> Result<What, Problem> {
        let SendBody { text, reply_to, note, label, edit, recall, react, snooze, reopen } = self;
        let has_text = text.is_some();
        let mut all: Vec<What> = Vec::new();
        all.extend(text.map(|text| What::Text { text, reply_to }));
        all.extend(note.map(|NoteBody { text, mentions }| What::Act(Act::Note { text, mentions })));
        all.extend(label.map(|LabelBody { label, on }| What::Act(Act::Label { label, on })));
        all.extend(edit.map(|EditBody { of, text }| What::Act(Act::Edit { seq: of, text })));
        all.extend(recall.map(|OfSeq { of }| What::Act(Act::Recall { seq: of })));
        all.extend(react.map(|ReactBody { of, emoji, on }| What::Act(Act::React { seq: of, emoji, on })));
        all.extend(
            snooze.map(|SnoozeBody { conversation, until }| What::Act(Act::Snooze { conversation, until_ms: until })),
        );
        all.extend(reopen.map(|ReopenBody { conversation }| What::Act(Act::Reopen { conversation })));
        let is_one = all.len() == 1 && (has_text || reply_to.is_none());
        match all.pop().filter(|_| is_one) {
            Some(what) => Ok(what),
            None => Err(Problem::bad_request(
                "one of text, note, label, edit, recall, react, snooze, reopen; reply_to goes with a text",
            )),
        }
    }
}

/// The id under which a send is done once: of the key that the caller repeats it with, or drawn.
fn cid_of(request: &HttpRequest, part: &str) -> Result<String, Problem> {
    let key = request.headers().get(crate::admin::once::HEADER).and_then(|value| value.to_str().ok());
    let text = match key {
        Some(key) => format!("{part}{key}"),
        None => mint_plain_token(part).map_err(|_| Problem::fault("no randomness"))?.expose().to_owned(),
    };
    if text.len() <= CID_BYTES_MAX {
        return Ok(text);
    }
    Ok(hex(&crate::auth::hash_token(&text)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The command that sends something in the caller's name.
fn command(caller: &Caller, session: SessionId, cid: String, what: What) -> Command {
    let (from, n) = (caller.party(), 0);
    let device = match &caller.who {
        Who::Agent { .. } => DEVICE.to_owned(),
        // Each key counts for itself.
        Who::Key { .. } => format!("{DEVICE}:{}", hex(&caller.hash[..8])),
    };
    match what {
        What::Text { text, reply_to } => Command::Send { session, from, device, n, cid, text, reply_to },
        What::Act(act) => Command::Act { session, site: Some(caller.site), from, device, n, cid, act },
    }
}

pub async fn send(
    app: Data<App>,
    caller: ReqData<Caller>,
    path: Path<OfSession>,
    request: HttpRequest,
    body: Json<SendBody>,
) -> Answer<SentView> {
    let what = body.into_inner().what()?;
    let session = own(&app, caller.site, &path.session).await?.session;
    let command = command(&caller, session, cid_of(&request, "")?, what);
    match call_session(&app, session, ShardCall::Propose(command)).await? {
        ShardReply::Sent { seq, ts_ms, dup } => Ok(Json(SentView { seq, ts: ts_ms, dup })),
        _ => Err(crate::admin::unexpected()),
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseBody {
    /// For agents, up to 256 bytes.
    #[serde(default)]
    #[schema(max_length = 256)]
    pub reason: String,
    /// The last seq that the caller knows: a conversation of which more has become since is left alone. Without it: as it is now.
    pub seen: Option<u64>,
}

/// Also right when none is open. An agent ends their own, a supervisor and a key those of others, too.
pub async fn close(
    app: Data<App>,
    caller: ReqData<Caller>,
    path: Path<OfSession>,
    body: Json<CloseBody>,
) -> Answer<Conversation> {
    let CloseBody { reason, seen } = body.into_inner();
    let view = own(&app, caller.site, &path.session).await?;
    let (session, seen) = (view.session, seen.unwrap_or(view.head));
    let is_own = caller.party() == view.agent.map_or(Party::System, Party::Agent);
    let by = if is_own || caller.role() < AgentRole::Supervisor { caller.party() } else { Party::System };
    call_session(&app, session, ShardCall::Propose(Command::CloseSeen { session, by, seen, reason })).await?;
    Ok(Json(Conversation::of(of(&app, session).await?)))
}

/// To one of them; without both, to whoever is free.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferBody {
    #[schema(value_type = Option<String>, example = "a17")]
    pub agent: Option<AgentId>,
    #[schema(value_type = Option<String>, example = "t2")]
    pub team: Option<TeamId>,
    /// A note for whoever gets it; it is there before they are.
    #[schema(max_length = 16384)]
    pub note: Option<String>,
}

/// An agent gives away their own; a supervisor and a key those of others, too.
pub async fn transfer(
    app: Data<App>,
    caller: ReqData<Caller>,
    path: Path<OfSession>,
    request: HttpRequest,
    body: Json<TransferBody>,
) -> Answer<Conversation> {
    let TransferBody { agent: to, team, note } = body.into_inner();
    if to.is_some() && team.is_some() {
        return Err(Problem::bad_request("agent or team, not both"));
    }
    let view = own(&app, caller.site, &path.session).await?;
    let Some(conversation) = view.conversation else { return Err(closed()) };
    if let Some(to) = to
        && read_meta(&app, |state| state.agents.get(&to).map(|row| row.site))? != Some(caller.site)
    {
        return Err(Problem::not_found("no such agent"));
    }
    let (session, site) = (view.session, caller.site);
    let holder = view.agent;
    let may = caller.role() >= AgentRole::Supervisor || holder.map(Party::Agent) == Some(caller.party());
    if !may {
        return Err(not_yours());
    }
    if to.is_some() && to == holder {
        return Ok(Json(Conversation::of(view)));
    }
    let mut seen = view.head;
    if let Some(text) = note {
        let what = What::Act(Act::Note { text, mentions: Vec::new() });
        let note = command(&caller, session, cid_of(&request, "n.")?, what);
        if let ShardReply::Sent { seq, .. } = call_session(&app, session, ShardCall::Propose(note)).await? {
            seen = seen.max(seq);
        }
    }
    match (to, holder) {
        // The desk knows who is there and has room.
        (Some(to), Some(agent)) => {
            let hand = Command::Hand { site, agent, session, conversation, part: view.part, to };
            let shard = app.cluster.router.shard_of(Target::Desk(site));
            done(call_shard(&app, shard, ShardCall::Propose(hand)).await)?;
        }
        (Some(agent), None) => {
            let give = Command::ReassignSeen { session, agent, seen };
            call_session(&app, session, ShardCall::Propose(give)).await?;
        }
        (None, _) => {
            let by = holder.map_or(Party::System, Party::Agent);
            let release = Command::Release { session, by, seen, team };
            call_session(&app, session, ShardCall::Propose(release)).await?;
        }
    }
    Ok(Json(Conversation::of(of(&app, session).await?)))
}

pub fn not_yours() -> Problem {
    Problem::new(actix_web::http::StatusCode::FORBIDDEN, "the open conversation is not yours")
}
