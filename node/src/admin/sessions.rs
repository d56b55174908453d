//! Owns finding, inspecting and closing sessions for administrators. Does not decide: the rules of `chat` do.
//! Invariant: a list looks at a bounded number of sessions per call; an inspected session is read behind a barrier.

use super::accounts::{LIMIT_MAX, id_of, limit};
use super::ask::{Ask, ask, ask_all, leader_of};
use super::desk::ChannelName;
use super::problem::Problem;
use super::{Answer, read_meta};
use crate::hooks::Local;
use crate::run::App;
use actix_web::web::{Data, Json, Path, Query};
use chat::SessionBrief;
use cluster::node::ClusterNode;
use cluster::shard::Shard;
use proto::act::Whose;
use proto::command::{Command, Party, Target};
use proto::ids::{AgentId, NodeId, SessionId, ShardId, SiteId, VisitorId};
use proto::peer::{Refused, ShardCall, ShardReply};
use proto::search::Standing;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Sessions of one shard that one call looks at.
const SCAN_MAX: usize = 2_000;
/// Sessions that are looked at while the shard waits.
const SLICE: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// A conversation is open, with an agent.
    Open,
    /// A conversation is open and waits for an agent.
    Waiting,
    /// A conversation is open and laid aside for a while: nobody has it, and it is on no desk.
    Snoozed,
    /// No conversation is open.
    Closed,
}

impl From<Standing> for SessionState {
    fn from(standing: Standing) -> SessionState {
        match standing {
            Standing::Open => SessionState::Open,
            Standing::Waiting => SessionState::Waiting,
            Standing::Snoozed => SessionState::Snoozed,
            Standing::Closed => SessionState::Closed,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SessionsQuery {
    /// Only those of this site, by its name.
    #[param(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.@-]+$", nullable = false)]
    site: Option<String>,
    #[param(inline, nullable = false)]
    state: Option<SessionState>,
    /// Only those whose open or last conversation is this agent's.
    #[param(pattern = "^a(0|[1-9][0-9]{0,18})$", nullable = false)]
    agent: Option<String>,
    #[param(pattern = "^[0-9a-f]{32}$", nullable = false)]
    visitor: Option<String>,
    /// The `next` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$", nullable = false)]
    after: Option<String>,
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<u32>,
}

/// What one node is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionsAsk {
    pub site: Option<SiteId>,
    pub state: Option<SessionState>,
    pub agent: Option<AgentId>,
    pub visitor: Option<VisitorId>,
    pub after: Option<SessionId>,
    pub limit: usize,
}

/// One session of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SessionLine {
    #[schema(value_type = String)]
    pub session: SessionId,
    #[schema(value_type = String, example = "g1")]
    pub shard: ShardId,
    #[schema(value_type = String, example = "site1")]
    pub site: SiteId,
    #[schema(value_type = String)]
    pub visitor: VisitorId,
    pub state: SessionState,
    /// Whose the conversation is, or was last.
    #[schema(value_type = Option<String>)]
    pub agent: Option<AgentId>,
    /// The last seq.
    pub head: u64,
}

/// What one node found in the shards that it leads.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionsFound {
    shards: Vec<ShardId>,
    lines: Vec<SessionLine>,
    /// The lowest id at which a shard stopped looking.
    next: Option<SessionId>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Sessions {
    pub sessions: Vec<SessionLine>,
    /// Ask again with this as `after`; null: there are no more. A page may be short, or empty, and yet not the last.
    #[schema(value_type = Option<String>)]
    pub next: Option<SessionId>,
    /// Shards that had no leader just now: their sessions are left out.
    #[schema(value_type = Vec<String>)]
    pub missing: Vec<ShardId>,
}

pub async fn list(app: Data<App>, query: Query<SessionsQuery>) -> Answer<Sessions> {
    let limit = limit(query.limit)?;
    let site = match &query.site {
        None => None,
        Some(name) => {
            let found = read_meta(&app, |state| state.site_by_name(name).map(|(site, _)| site))?;
            Some(found.ok_or_else(|| Problem::not_found("no such site"))?)
        }
    };
    let asked = SessionsAsk {
        site,
        state: query.state,
        agent: id_of("agent", query.agent.as_deref())?,
        visitor: id_of("visitor", query.visitor.as_deref())?,
        after: id_of("after", query.after.as_deref())?,
        limit,
    };
    Ok(Json(found_in(&app, asked).await))
}

/// Asks every node that leads a shard.
pub async fn found_in(app: &App, asked: SessionsAsk) -> Sessions {
    let limit = asked.limit;
    let found: Vec<(NodeId, SessionsFound)> = ask_all(app, || Ask::Sessions(asked.clone())).await;
    let mut missing: BTreeSet<ShardId> = (1..=app.cluster.shards).map(ShardId).collect();
    let (mut sessions, mut next) = (Vec::new(), None::<SessionId>);
    for (_, found) in found {
        for shard in found.shards {
            missing.remove(&shard);
        }
        sessions.extend(found.lines);
        next = [next, found.next].into_iter().flatten().min();
    }
    // Beyond where one shard stopped, the order of ids would have holes.
    sessions.retain(|line: &SessionLine| next.is_none_or(|next| line.session <= next));
    sessions.sort_by_key(|line| line.session);
    if sessions.len() > limit {
        sessions.truncate(limit);
        next = sessions.last().map(|line| line.session);
    }
    Sessions { sessions, next, missing: missing.into_iter().collect() }
}

/// Looks through the shards that this node leads.
/// # Errors
/// Their rows cannot be read.
pub fn find(node: &ClusterNode, ask: &SessionsAsk) -> Result<SessionsFound, Problem> {
    let mut found = SessionsFound { shards: Vec::new(), lines: Vec::new(), next: None };
    for shard in node.router.locals().into_iter().filter(|shard| shard.serving().is_some()) {
        let wanted = |brief: &SessionBrief| {
            ask.site.is_none_or(|site| brief.site == site)
                && ask.state.is_none_or(|state| SessionState::from(brief.standing) == state)
                && ask.agent.is_none_or(|agent| brief.agent == Some(agent))
                && ask.visitor.is_none_or(|visitor| brief.visitor == visitor)
        };
        let limit = ask.limit.min(LIMIT_MAX);
        let (mut lines, mut next) = (Vec::<SessionLine>::new(), ask.after);
        for _ in 0..SCAN_MAX / SLICE {
            let page = shard.peek(|state, rows| state.find_sessions(rows, next, SLICE, wanted));
            let page = page.map_err(|error| Problem::fault(format!("{}: {error}", shard.id)))?;
            lines.extend(page.sessions.iter().map(|brief| line(shard.id, brief)));
            next = page.next;
            if next.is_none() || lines.len() > limit {
                break;
            }
        }
        if lines.len() > limit {
            lines.truncate(limit);
            next = lines.last().map(|line| line.session);
        }
        found.next = [found.next, next].into_iter().flatten().min();
        found.lines.extend(lines);
        found.shards.push(shard.id);
    }
    Ok(found)
}

fn line(shard: ShardId, brief: &SessionBrief) -> SessionLine {
    let SessionBrief { session, site, visitor, head, agent, .. } = *brief;
    SessionLine { session, shard, site, visitor, state: SessionState::from(brief.standing), agent, head }
}

/// How far a party has come.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct CursorView {
    pub received: u64,
    pub read: u64,
}

/// What a page says of its visitor.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FactView {
    pub name: String,
    pub value: String,
}

/// Attributes by name; their values as text.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct AttributesView {
    pub visitor: BTreeMap<String, String>,
    /// Of the open conversation, or of the last one.
    pub conversation: BTreeMap<String, String>,
}

impl AttributesView {
    fn of(attributes: Vec<(Whose, String, String)>) -> AttributesView {
        let mut view = AttributesView::default();
        for (whose, name, value) in attributes {
            match whose {
                Whose::Visitor => view.visitor.insert(name, value),
                Whose::Conversation => view.conversation.insert(name, value),
            };
        }
        view
    }
}

/// How good a visitor found a conversation.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct RatingView {
    /// Counted within the session.
    pub conversation: u64,
    /// 1 to 5, 5 is best.
    pub score: u8,
}

/// A trigger that has spoken to a visitor.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PromptView {
    pub trigger: String,
    /// When it did last, milliseconds since 1970.
    pub at_ms: u64,
    /// In which visit of the browser; 0: it does not count them.
    pub visit: u64,
}

/// An agent who wrote first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct InvitationView {
    #[schema(value_type = String, example = "a17")]
    pub agent: AgentId,
    /// Its event.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub until_ms: u64,
}

/// One session as its leader knows it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    #[schema(value_type = String)]
    pub session: SessionId,
    #[schema(value_type = String, example = "g1")]
    pub shard: ShardId,
    #[schema(value_type = String, example = "n1")]
    pub leader: NodeId,
    pub epoch: u64,
    #[schema(value_type = String, example = "site1")]
    pub site: SiteId,
    #[schema(value_type = String)]
    pub visitor: VisitorId,
    pub state: SessionState,
    /// Of the open conversation, counted within the session.
    pub conversation: Option<u64>,
    /// The first event of the open conversation that its agent follows.
    pub open_from: Option<u64>,
    /// Who has the open conversation.
    #[schema(value_type = Option<String>)]
    pub agent: Option<AgentId>,
    #[schema(value_type = Option<String>)]
    pub last_agent: Option<AgentId>,
    /// The last seq.
    pub head: u64,
    /// How often the open conversation has gone from one agent to another, or back to the desk.
    pub part: u64,
    /// It is laid aside until then, milliseconds since 1970.
    pub snoozed_until_ms: Option<u64>,
    /// Of the open conversation, or of the last one.
    pub labels: Vec<String>,
    pub attributes: AttributesView,
    /// What the visitor said last of how it was.
    pub rating: Option<RatingView>,
    /// Nothing is taken from the visitor until then, milliseconds since 1970.
    pub blocked_until_ms: Option<u64>,
    /// The visitor proved who they are.
    pub identified: bool,
    /// Sessions that the visitor had before they said who they are, oldest first.
    #[schema(value_type = Vec<String>)]
    pub merged: Vec<SessionId>,
    /// The visitor has that one since they said who they are.
    #[schema(value_type = Option<String>)]
    pub merged_into: Option<SessionId>,
    /// Everything up to this seq is erased.
    pub erased: u64,
    /// What is known of the visitor.
    pub facts: Vec<FactView>,
    /// By which way the visitor writes.
    pub channel: ChannelName,
    /// Triggers that have spoken to the visitor.
    pub prompts: Vec<PromptView>,
    /// The last one that the visitor has neither answered nor declined; it may be over.
    pub invitation: Option<InvitationView>,
    pub visitor_cursor: CursorView,
    pub agent_cursor: CursorView,
    /// Nodes whose sockets follow it.
    #[schema(value_type = Vec<String>)]
    pub followed_by: Vec<NodeId>,
    /// Its actor runs; else the next call activates it.
    pub active: bool,
}

/// Reads a session at its leader.
/// # Errors
/// This node does not lead, or there is no such session.
pub async fn inspect(local: &Local, node: &Arc<ClusterNode>, session: SessionId) -> Result<SessionView, Problem> {
    let shard = led(node, Target::Session(session), "session")?;
    let view = read_led(&shard, "session", |state, rows| state.session(rows, session)).await?.ok_or_else(no_session)?;
    let cursor = |view: chat::CursorView| CursorView { received: view.received, read: view.read };
    let state = SessionState::from(view.standing);
    Ok(SessionView {
        session,
        shard: shard.id,
        leader: node.me,
        epoch: shard.serving().map_or(0, |epoch| epoch.0),
        site: view.site,
        visitor: view.visitor,
        state,
        conversation: view.open.map(|open| open.number),
        open_from: view.open.map(|open| open.first_seq),
        agent: view.open.and_then(|open| open.agent),
        last_agent: view.last_agent,
        head: view.head,
        part: view.open.map_or(0, |open| open.part),
        snoozed_until_ms: view.open.and_then(|open| open.snoozed).map(|(_, until_ms)| until_ms),
        labels: view.labels,
        attributes: AttributesView::of(view.attributes),
        rating: view.rating.map(|(conversation, score)| RatingView { conversation, score }),
        blocked_until_ms: view.blocked_ms,
        identified: view.is_identified,
        merged: view.merged,
        merged_into: view.merged_into,
        erased: view.erased,
        facts: view.facts.into_iter().map(|(name, value)| FactView { name, value }).collect(),
        channel: ChannelName::of(view.channel),
        prompts: view.prompts.into_iter().map(|(trigger, at_ms, visit)| PromptView { trigger, at_ms, visit }).collect(),
        invitation: view.invite.map(|(agent, seq, until_ms)| InvitationView { agent, seq, until_ms }),
        visitor_cursor: cursor(view.visitor_cursor),
        agent_cursor: cursor(view.agent_cursor),
        followed_by: local.subscribers.of_session(session),
        active: local.sessions.is_active(session),
    })
}

fn no_session() -> Problem {
    Problem::not_found("no such session")
}

pub fn closed() -> Problem {
    Problem::refused("no conversation is open")
}

/// The shard of an actor of that kind, which this node must lead.
/// # Errors
/// It does not.
pub fn led(node: &ClusterNode, target: Target, kind: &str) -> Result<Arc<Shard>, Problem> {
    let shard = node.router.local(node.router.shard_of(target));
    shard.ok_or_else(|| Problem::unavailable(format!("that node does not lead the {kind}'s shard")))
}

/// Reads what was acknowledged before.
/// # Errors
/// This node does not lead any more, or the rows cannot be read.
pub async fn read_led<T>(
    shard: &Shard,
    kind: &str,
    read: impl FnOnce(&mut chat::Shard, &dyn chat::Rows) -> Result<T, chat::ApplyError>,
) -> Result<T, Problem> {
    let read = shard.read(read).await;
    let read =
        read.map_err(|_| Problem::unavailable(format!("that node does not lead the {kind}'s shard just now")))?;
    read.map_err(|error| Problem::fault(format!("{}: {error}", shard.id)))
}

/// The session of a path.
/// # Errors
/// 404.
pub fn known(session: &str) -> Result<SessionId, Problem> {
    session.parse().map_err(|_| no_session())
}

/// Asks the leader of a session's shard about it.
/// # Errors
/// There is no such session, or no leader.
pub async fn of(app: &App, session: SessionId) -> Result<SessionView, Problem> {
    let leader = leader_of(app, app.cluster.router.shard_of(Target::Session(session)))?;
    ask(app, leader, &Ask::Session { session }).await
}

pub async fn one(app: Data<App>, session: Path<String>) -> Answer<SessionView> {
    Ok(Json(of(&app, known(&session)?).await?))
}

/// Ends the open conversation in the name of the system. Also right when none is open.
pub async fn close(app: Data<App>, session: Path<String>) -> Answer<SessionView> {
    let session = known(&session)?;
    let view = of(&app, session).await?;
    change(&app, session, Command::CloseSeen { session, by: Party::System, seen: view.head, reason: String::new() })
        .await
}

/// Logs a command of a session; the session as it is then.
/// # Errors
/// The rules do not allow it, or there is no leader.
pub async fn change(app: &App, session: SessionId, command: Command) -> Answer<SessionView> {
    let shard = app.cluster.router.shard_of(Target::Session(session));
    match call_shard(app, shard, ShardCall::Propose(command)).await {
        ShardReply::Done => Ok(Json(of(app, session).await?)),
        ShardReply::Refused(Refused::UnknownSession) => Err(no_session()),
        ShardReply::Refused(Refused::ConversationClosed) => Err(closed()),
        ShardReply::Refused(Refused::Changed) => {
            Err(Problem::conflict("the conversation has changed meanwhile: look again"))
        }
        ShardReply::Refused(_) => Err(Problem::refused("the rules do not allow it")),
        _ => Err(Problem::unavailable(format!("{shard} has no leader just now, try again"))),
    }
}

/// A call to a shard's leader, wherever it is.
pub async fn call_shard(app: &App, shard: ShardId, call: ShardCall) -> ShardReply {
    let router = app.cluster.router.clone();
    app.on_raft(async move { router.call(shard, call).await }).await.unwrap_or(ShardReply::Unknown)
}
