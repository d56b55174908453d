//! Owns what agents do about their own seat and the conversations that are offered to them, without a socket. Does not decide who gets
//! whom: the desk does. Invariant: an agent acts in their own name only; a key has no seat.

use super::access::{Caller, Who};
use super::conversations::{Conversation, OfSession, call_session, done, own};
use crate::admin::ask::{Ask, ask, leader_of};
use crate::admin::desk::State;
use crate::admin::problem::Problem;
use crate::admin::sessions::{call_shard, led, of, read_led};
use crate::admin::{Answer, unexpected};
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Json, Path, ReqData};
use cluster::node::ClusterNode;
use proto::command::{Command, Target};
use proto::desk::SeatState;
use proto::ids::{AgentId, SessionId};
use proto::peer::{ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A conversation that the agent has.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OpenOfMine {
    #[schema(value_type = String)]
    pub session: SessionId,
    pub conversation: u64,
}

/// A conversation that the agent may accept or decline.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OfferOfMine {
    #[schema(value_type = String)]
    pub session: SessionId,
    pub offer: u64,
    /// Milliseconds since 1970; then somebody else is asked.
    pub until_ms: u64,
}

/// A note that mentions the agent, and that they have not seen to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MentionOfMine {
    #[schema(value_type = String)]
    pub session: SessionId,
    pub seq: u64,
}

/// What is the agent's.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SeatOfMine {
    #[schema(value_type = String, example = "a17")]
    pub agent: AgentId,
    /// A console of theirs is connected: who has none is given nothing, whatever their state.
    pub connected: bool,
    /// What they say of themselves.
    pub state: State,
    pub open: Vec<OpenOfMine>,
    pub offers: Vec<OfferOfMine>,
    /// Oldest first.
    pub mentions: Vec<MentionOfMine>,
}

/// Reads it at the agent's leader.
/// # Errors
/// This node does not lead, or there is no such agent.
pub async fn seat_here(node: &ClusterNode, agent: AgentId) -> Result<SeatOfMine, Problem> {
    let shard = led(node, Target::Agent(agent), "agent")?;
    let view = read_led(&shard, "agent", |state, rows| state.agent(rows, agent)).await?;
    let view = view.ok_or_else(|| Problem::not_found("no such agent"))?;
    let open = |(session, conversation)| OpenOfMine { session, conversation };
    let offer = |(session, offer, until_ms)| OfferOfMine { session, offer, until_ms };
    let mention = |(session, seq)| MentionOfMine { session, seq };
    Ok(SeatOfMine {
        agent,
        connected: view.online,
        state: view.state.into(),
        open: view.open.into_iter().map(open).collect(),
        offers: view.offers.into_iter().map(offer).collect(),
        mentions: view.mentions.into_iter().map(mention).collect(),
    })
}

/// Who asks.
fn me(caller: &Caller) -> Result<AgentId, Problem> {
    match caller.who {
        Who::Agent { agent, .. } => Ok(agent),
        Who::Key { .. } => Err(Problem::new(StatusCode::FORBIDDEN, "a key has no seat")),
    }
}

async fn seat_of(app: &App, agent: AgentId) -> Answer<SeatOfMine> {
    let leader = leader_of(app, app.cluster.router.shard_of(Target::Agent(agent)))?;
    Ok(Json(ask(app, leader, &Ask::Mine { agent }).await?))
}

async fn call_agent(app: &App, agent: AgentId, command: Command) -> Result<(), Problem> {
    let shard = app.cluster.router.shard_of(Target::Agent(agent));
    done(call_shard(app, shard, ShardCall::Propose(command)).await).map(drop)
}

pub async fn show(app: Data<App>, caller: ReqData<Caller>) -> Answer<SeatOfMine> {
    seat_of(&app, me(&caller)?).await
}

/// What an agent says of themselves.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    Online,
    Busy,
    Away,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeatBody {
    #[schema(inline)]
    pub state: Said,
}

pub async fn set(app: Data<App>, caller: ReqData<Caller>, body: Json<SeatBody>) -> Answer<SeatOfMine> {
    let agent = me(&caller)?;
    let state = match body.state {
        Said::Online => SeatState::Online,
        Said::Busy => SeatState::Busy,
        Said::Away => SeatState::Away,
    };
    call_agent(&app, agent, Command::AgentState { agent, state }).await?;
    seat_of(&app, agent).await
}

#[derive(Debug, Deserialize)]
pub struct OfMention {
    session: String,
    seq: u64,
}

/// Also right when there was no such mention.
pub async fn dismiss(app: Data<App>, caller: ReqData<Caller>, of: Path<OfMention>) -> Result<HttpResponse, Problem> {
    let agent = me(&caller)?;
    let session = own(&app, caller.site, &of.session).await?.session;
    call_agent(&app, agent, Command::Dismiss { agent, session, seq: of.seq }).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OfferBody {
    /// As the seat shows it.
    pub offer: u64,
}

pub async fn accept(
    app: Data<App>,
    caller: ReqData<Caller>,
    path: Path<OfSession>,
    body: Json<OfferBody>,
) -> Answer<Conversation> {
    let offer = body.offer;
    at_desk(&app, &caller, &path, |site, agent, session| Command::Accept { site, agent, session, offer }).await
}

pub async fn decline(
    app: Data<App>,
    caller: ReqData<Caller>,
    path: Path<OfSession>,
    body: Json<OfferBody>,
) -> Answer<Conversation> {
    let offer = body.offer;
    at_desk(&app, &caller, &path, |site, agent, session| Command::Decline { site, agent, session, offer }).await
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TakeBody {
    /// As the queue shows it.
    pub conversation: u64,
}

pub async fn take(
    app: Data<App>,
    caller: ReqData<Caller>,
    path: Path<OfSession>,
    body: Json<TakeBody>,
) -> Answer<Conversation> {
    let conversation = body.conversation;
    at_desk(&app, &caller, &path, |site, agent, session| Command::Take { site, agent, session, conversation }).await
}

/// Has the site's desk carry it out.
async fn at_desk(
    app: &App,
    caller: &Caller,
    path: &OfSession,
    command: impl FnOnce(proto::ids::SiteId, AgentId, SessionId) -> Command,
) -> Answer<Conversation> {
    let (agent, site) = (me(caller)?, caller.site);
    let session = own(app, site, &path.session).await?.session;
    let shard = app.cluster.router.shard_of(Target::Desk(site));
    let command = command(site, agent, session);
    done(call_shard(app, shard, ShardCall::Propose(command)).await)?;
    Ok(Json(Conversation::of(of(app, session).await?)))
}

/// How far the agent has got in a conversation that they have.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CursorBody {
    /// The last seq that came; not less than `read`.
    #[serde(default)]
    pub received: u64,
    /// The last seq that was read; the visitor sees it.
    #[serde(default)]
    pub read: u64,
}

/// Cursors never go back: what they are then.
pub async fn cursor(
    app: Data<App>,
    caller: ReqData<Caller>,
    path: Path<OfSession>,
    body: Json<CursorBody>,
) -> Answer<CursorBody> {
    me(&caller)?;
    let session = own(&app, caller.site, &path.session).await?.session;
    let CursorBody { received, read } = body.into_inner();
    let command = Command::Cursor { session, party: caller.party(), received, read };
    match call_session(&app, session, ShardCall::Propose(command)).await? {
        ShardReply::Cursor { received, read } => Ok(Json(CursorBody { received, read })),
        _ => Err(unexpected()),
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TypingBody {
    pub on: bool,
}

/// The visitor sees it for some seconds, unless it is said again.
pub async fn typing(
    app: Data<App>,
    caller: ReqData<Caller>,
    path: Path<OfSession>,
    body: Json<TypingBody>,
) -> Result<HttpResponse, Problem> {
    me(&caller)?;
    let session = own(&app, caller.site, &path.session).await?.session;
    let call = ShardCall::Typing { session, party: caller.party(), on: body.on, draft: String::new() };
    call_session(&app, session, call).await?;
    Ok(HttpResponse::NoContent().finish())
}
