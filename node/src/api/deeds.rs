//! Owns what people and other systems do in the conversations of a site. Does not decide whether they may: the rules of `chat` do.
//! Invariant: under one `Idempotency-Key` something is done once, whatever becomes of the answer.

use super::access::{Caller, Who};
use super::conversations::{Conversation, OfSession, call_session, done, own};
use crate::admin::move_session::has_room;
use crate::admin::problem::Problem;
use crate::admin::sessions::{SessionView, call_shard, closed, of};
use crate::admin::{Answer, once, read_meta};
use crate::auth::{self, mint_plain_token};
use crate::backup::chunk::hex;
use crate::run::App;
use actix_web::HttpRequest;
use actix_web::web::{Data, Json, Path, ReqData};
use proto::act::Act;
use proto::command::{AgentRole, Command, Party, Target};
use proto::ids::{AgentId, AttachmentId, TeamId};
use proto::peer::{ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The device under which this API sends.
const DEVICE: &str = "rest";

/// One of these: a message, or what else people do in a session.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendBody {
    /// A message, up to 16 KiB.
    #[schema(max_length = 16384)]
    pub text: Option<String>,
    /// With a text: the seq of the message that it answers.
    pub reply_to: Option<u64>,
    /// With a text or in its place: the ids of files that the caller has uploaded into this session.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 8)]
    pub attachments: Vec<AttachmentId>,
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

/// What is said or done.
pub enum What {
    Text { text: String, reply_to: Option<u64>, attachments: Vec<AttachmentId> },
    Act(Act),
}

impl What {
    /// A name of its own for each thing to say, the same whatever build makes it.
    pub fn name(&self) -> String {
        let hash = match self {
            What::Text { text, reply_to, attachments } => {
                let files: String = attachments.iter().map(|id| format!(" {id}")).collect();
                auth::hash_token(&format!("{}{files}\n{text}", reply_to.unwrap_or(0)))
            }
            What::Act(act) => auth::hash_token(&hex(&proto::codec::encode_bare(act))),
        };
        hex(&hash)
    }
}

impl SendBody {
    fn what(self) -> Result<What, Problem> {
        let SendBody { text, reply_to, attachments, note, label, edit, recall, react, snooze, reopen } = self;
        let has_text = text.is_some() || !attachments.is_empty();
        let mut all: Vec<What> = Vec::new();
        all.extend(has_text.then(|| What::Text { text: text.unwrap_or_default(), reply_to, attachments }));
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
                "one of text, note, label, edit, recall, react, snooze, reopen; attachments and reply_to go with a text",
            )),
        }
    }
}

/// What a caller does in one session, under one key: each part of it is done once, however often all of it is repeated.
pub struct Deeds<'a> {
    app: &'a Data<App>,
    caller: &'a Caller,
    key: String,
    pub view: SessionView,
    /// The last seq of what was said under this key: the same when it is repeated.
    said: Option<u64>,
}

impl<'a> Deeds<'a> {
    /// # Errors
    /// The session is not the site's, or cannot be read now.
    pub async fn begin(
        app: &'a Data<App>,
        caller: &'a Caller,
        session: &str,
        request: &HttpRequest,
    ) -> Result<Deeds<'a>, Problem> {
        let key = once::key_of(request.headers())?.map(str::to_owned);
        let drawn = || mint_plain_token("").map_err(|_| Problem::fault("no randomness"));
        let key = key.map_or_else(|| drawn().map(|token| token.expose().to_owned()), Ok)?;
        let view = own(app, caller.site, session).await?;
        Ok(Deeds { app, caller, key, view, said: None })
    }

    /// The session as it is by now, or else as it was: what was done is done, whether it can be looked at or not.
    pub async fn end(self) -> Conversation {
        Conversation::of(of(self.app, self.view.session).await.unwrap_or(self.view))
    }

    /// The event up to which the caller knows the session: behind what was said under this key, or else as it was found.
    pub fn seen(&self) -> u64 {
        self.said.unwrap_or(self.view.head)
    }

    /// The id under which a part is done once.
    fn cid(&self, part: &str) -> String {
        hex(&auth::hash_token(&format!("{part}\n{}\n{}", hex(&self.caller.hash), self.key)))
    }

    /// Says something, or does what is not a message, in the caller's name.
    /// # Errors
    /// The rules do not allow it.
    pub async fn say(&mut self, part: &str, what: What) -> Result<SentView, Problem> {
        let (from, n, session, cid) = (self.caller.party(), 0, self.view.session, self.cid(part));
        let device = match &self.caller.who {
            Who::Agent { .. } => DEVICE.to_owned(),
            // Each key counts for itself.
            Who::Key { .. } => format!("{DEVICE}:{}", hex(&self.caller.hash[..8])),
        };
        let command = match what {
            What::Text { text, reply_to, attachments } => {
                Command::Send { session, from, device, n, cid, text, reply_to, attachments }
            }
            What::Act(act) => Command::Act { session, site: Some(self.caller.site), from, device, n, cid, act },
        };
        match call_session(self.app, session, ShardCall::Propose(command)).await? {
            ShardReply::Sent { seq, ts_ms, dup } => {
                self.said = self.said.max(Some(seq));
                // The leader left this node out: its sockets learn of it from here.
                self.app.hub.heard(session, seq);
                Ok(SentView { seq, ts: ts_ms, dup })
            }
            _ => Err(crate::admin::unexpected()),
        }
    }

    fn is_own(&self) -> bool {
        self.view.agent.map(Party::Agent) == Some(self.caller.party())
    }

    /// Ends the open conversation, if nothing has become of it after event `seen`. Also right when none is open.
    /// # Errors
    /// It is not the caller's.
    pub async fn close(&self, reason: String, seen: u64) -> Result<(), Problem> {
        let may_all = self.caller.role() >= AgentRole::Supervisor;
        let by = if may_all && !self.is_own() { Party::System } else { self.caller.party() };
        let close = Command::CloseSeen { session: self.view.session, by, seen, reason };
        call_session(self.app, self.view.session, ShardCall::Propose(close)).await.map(drop)
    }

    /// Gives the open conversation to an agent, a team or whoever is free. `note`: it is there before they are.
    /// # Errors
    /// It is not the caller's, there is no such agent, or they are not there.
    pub async fn give(
        &mut self,
        to: Option<AgentId>,
        team: Option<TeamId>,
        note: Option<String>,
    ) -> Result<(), Problem> {
        let (session, site, holder) = (self.view.session, self.caller.site, self.view.agent);
        if to.is_some() && team.is_some() {
            return Err(Problem::bad_request("agent or team, not both"));
        }
        let Some(conversation) = self.view.conversation else { return Err(closed()) };
        if let Some(to) = to
            && read_meta(self.app, |state| state.agents.get(&to).map(|row| row.site))? != Some(site)
        {
            return Err(Problem::not_found("no such agent"));
        }
        // Said again, perhaps by whoever had it.
        if to.is_some() && to == holder {
            return Ok(());
        }
        if self.caller.role() < AgentRole::Supervisor && !self.is_own() {
            return Err(not_yours());
        }
        if to.is_none() && holder.is_none() {
            return Err(Problem::refused("nobody has it: it waits, or is laid aside"));
        }
        if let Some(text) = note {
            self.say("note", What::Act(Act::Note { text, mentions: Vec::new() })).await?;
        }
        let seen = self.seen().max(self.view.head);
        match (to, holder) {
            // The desk knows who is there and has room.
            (Some(to), Some(agent)) => {
                let hand = Command::Hand { site, agent, session, conversation, part: self.view.part, to };
                let shard = self.app.cluster.router.shard_of(Target::Desk(site));
                done(call_shard(self.app, shard, ShardCall::Propose(hand)).await)?;
            }
            (Some(agent), None) => {
                has_room(self.app, agent).await?;
                let give = Command::ReassignSeen { session, agent, seen };
                call_session(self.app, session, ShardCall::Propose(give)).await?;
            }
            (None, _) => {
                let by = holder.map_or(Party::System, Party::Agent);
                let release = Command::Release { session, by, seen, team };
                call_session(self.app, session, ShardCall::Propose(release)).await?;
            }
        }
        Ok(())
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
    let mut deeds = Deeds::begin(&app, &caller, &path.session, &request).await?;
    // Under one key another text is another message.
    let part = format!("say {}", what.name());
    Ok(Json(deeds.say(&part, what).await?))
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
    request: HttpRequest,
    body: Json<CloseBody>,
) -> Answer<Conversation> {
    let CloseBody { reason, seen } = body.into_inner();
    let deeds = Deeds::begin(&app, &caller, &path.session, &request).await?;
    deeds.close(reason, seen.unwrap_or(deeds.view.head)).await?;
    Ok(Json(deeds.end().await))
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
    let TransferBody { agent, team, note } = body.into_inner();
    let mut deeds = Deeds::begin(&app, &caller, &path.session, &request).await?;
    deeds.give(agent, team, note).await?;
    Ok(Json(deeds.end().await))
}

pub fn not_yours() -> Problem {
    Problem::new(actix_web::http::StatusCode::FORBIDDEN, "the open conversation is not yours")
}
