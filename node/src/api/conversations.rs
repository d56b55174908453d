//! Owns the conversations of a site as its people and other systems see and change them. Does not decide: the rules of `chat` do.
//! Invariant: a session of another site is one that is not there.

use crate::admin::accounts::{id_of, limit};
use crate::admin::desk::ChannelName;
use crate::admin::problem::Problem;
use crate::admin::sessions::{
    AttributesView, CursorView, FactView, InvitationView, PromptView, RatingView, SessionState, SessionView,
    SessionsAsk, call_shard, closed, found_in, known, of,
};
use crate::admin::{Answer, Tenant};
use crate::connection::client_event;
use crate::run::App;
use actix_web::web::{Data, Json, Path, Query};
use proto::client;
use proto::client::limits::{HISTORY_LIMIT_DEFAULT, HISTORY_LIMIT_MAX};
use proto::command::Target;
use proto::ids::{AgentId, SessionId, SiteId, VisitorId};
use proto::peer::{Page, Refused, ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ConversationsQuery {
    #[param(inline, nullable = false)]
    state: Option<SessionState>,
    /// Only those that are this agent's, or were last.
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

#[derive(Debug, Serialize, ToSchema)]
pub struct Conversations {
    pub conversations: Vec<ConversationLine>,
    /// Ask again with this as `after`; null: there are no more. A page may be short, or empty, and yet not the last.
    #[schema(value_type = Option<String>)]
    pub next: Option<SessionId>,
    /// Some could not be asked for just now, and are left out.
    pub partial: bool,
}

/// One of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConversationLine {
    #[schema(value_type = String)]
    pub session: SessionId,
    #[schema(value_type = String)]
    pub visitor: VisitorId,
    pub state: SessionState,
    /// Whose it is, or was last.
    #[schema(value_type = Option<String>)]
    pub agent: Option<AgentId>,
    /// The last seq.
    pub head: u64,
}

/// A visitor's session, with the conversation that is open in it or was last.
#[derive(Debug, Serialize, ToSchema)]
pub struct Conversation {
    #[schema(value_type = String)]
    pub session: SessionId,
    #[schema(value_type = String)]
    pub visitor: VisitorId,
    pub state: SessionState,
    /// Which of the session's conversations is open; null: none.
    pub conversation: Option<u64>,
    /// Who has it.
    #[schema(value_type = Option<String>)]
    pub agent: Option<AgentId>,
    #[schema(value_type = Option<String>)]
    pub last_agent: Option<AgentId>,
    /// The last seq.
    pub head: u64,
    pub labels: Vec<String>,
    /// What people and systems said of the visitor and of the conversation, by name; as text.
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
    /// It is laid aside until then, milliseconds since 1970.
    pub snoozed_until_ms: Option<u64>,
    pub visitor_cursor: CursorView,
    pub agent_cursor: CursorView,
}

impl Conversation {
    pub fn of(view: SessionView) -> Conversation {
        Conversation {
            session: view.session,
            visitor: view.visitor,
            state: view.state,
            conversation: view.conversation,
            agent: view.agent,
            last_agent: view.last_agent,
            head: view.head,
            labels: view.labels,
            attributes: view.attributes,
            rating: view.rating,
            blocked_until_ms: view.blocked_until_ms,
            identified: view.identified,
            merged: view.merged,
            merged_into: view.merged_into,
            erased: view.erased,
            facts: view.facts,
            channel: view.channel,
            prompts: view.prompts,
            invitation: view.invitation,
            snoozed_until_ms: view.snoozed_until_ms,
            visitor_cursor: view.visitor_cursor,
            agent_cursor: view.agent_cursor,
        }
    }
}

pub async fn list(app: Data<App>, Tenant(site): Tenant, query: Query<ConversationsQuery>) -> Answer<Conversations> {
    let asked = SessionsAsk {
        site: Some(site),
        state: query.state,
        agent: id_of("agent", query.agent.as_deref())?,
        visitor: id_of("visitor", query.visitor.as_deref())?,
        after: id_of("after", query.after.as_deref())?,
        limit: limit(query.limit)?,
    };
    let found = found_in(&app, asked).await;
    let line = |line: crate::admin::sessions::SessionLine| ConversationLine {
        session: line.session,
        visitor: line.visitor,
        state: line.state,
        agent: line.agent,
        head: line.head,
    };
    Ok(Json(Conversations {
        conversations: found.sessions.into_iter().map(line).collect(),
        next: found.next,
        partial: !found.missing.is_empty(),
    }))
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfSession {
    pub session: String,
}

/// The session of a path, if it is the site's.
/// # Errors
/// It is not.
pub async fn own(app: &App, site: SiteId, session: &str) -> Result<SessionView, Problem> {
    let view = of(app, known(session)?).await?;
    if view.site == site { Ok(view) } else { Err(Problem::not_found("no such session")) }
}

pub async fn one(app: Data<App>, Tenant(site): Tenant, path: Path<OfSession>) -> Answer<Conversation> {
    Ok(Json(Conversation::of(own(&app, site, &path.session).await?)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    /// Events behind this seq, oldest first.
    #[param(nullable = false)]
    after: Option<u64>,
    /// The newest events before this seq. Without both: the newest.
    #[param(nullable = false)]
    before: Option<u64>,
    #[param(minimum = 1, maximum = 200, nullable = false)]
    limit: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryView {
    /// Oldest first, without gaps. As agents get them: see the client protocol, `event`.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<client::Event<'static>>,
    /// The last seq.
    pub head: u64,
}

pub async fn events(
    app: Data<App>,
    Tenant(site): Tenant,
    path: Path<OfSession>,
    query: Query<HistoryQuery>,
) -> Answer<HistoryView> {
    let limit = query.limit.unwrap_or(HISTORY_LIMIT_DEFAULT);
    if !(1..=HISTORY_LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_request("limit is 1 to 200"));
    }
    let page = match (query.after, query.before) {
        (Some(seq), None) => Page::After(seq),
        (None, Some(seq)) => Page::Before(seq),
        (None, None) => Page::Latest,
        (Some(_), Some(_)) => return Err(Problem::bad_request("after or before, not both")),
    };
    let SessionView { session, visitor, .. } = own(&app, site, &path.session).await?;
    let call = ShardCall::History { session, page, limit: limit as u32, site: Some(site) };
    match call_session(&app, session, call).await? {
        ShardReply::History { events, head } => {
            let event = |event| client_event(session, visitor, event, true).into_owned();
            Ok(Json(HistoryView { events: events.iter().map(event).collect(), head }))
        }
        _ => Err(crate::admin::unexpected()),
    }
}

/// Asks the leader of a session; a refusal is a problem.
pub async fn call_session(app: &App, session: SessionId, call: ShardCall) -> Result<ShardReply, Problem> {
    let shard = app.cluster.router.shard_of(Target::Session(session));
    done(call_shard(app, shard, call).await)
}

/// What a refusal means over HTTP.
/// # Errors
/// It is one.
pub fn done(reply: ShardReply) -> Result<ShardReply, Problem> {
    let refused = match reply {
        ShardReply::Refused(refused) => refused,
        ShardReply::NotLeader { .. } | ShardReply::Overloaded { .. } | ShardReply::Unknown => {
            return Err(Problem::unavailable("the session's shard has no leader just now, try again"));
        }
        other => return Ok(other),
    };
    Err(match refused {
        Refused::UnknownSession => Problem::not_found("no such session"),
        Refused::UnknownAgent => Problem::not_found("no such agent"),
        Refused::NotYours | Refused::BadToken => super::deeds::not_yours(),
        Refused::ConversationClosed => closed(),
        Refused::Changed | Refused::OfferGone => {
            Problem::conflict("the conversation has changed meanwhile: look again")
        }
        Refused::SeatFull => Problem::refused("the agent has as many conversations as the seat allows"),
        Refused::NotThere => Problem::refused("the agent is not there"),
        Refused::TextTooLarge => Problem::refused("a text has at most 16384 bytes"),
        Refused::TextEmpty => Problem::refused("a text is not empty"),
        Refused::TargetInvalid => Problem::refused("there is no such message, or it is none that this can be done to"),
        Refused::TooLate => Problem::refused("the time in which this could be done is over"),
        Refused::ActInvalid => Problem::refused("a part of it is empty, too long, or out of range"),
        Refused::Blocked => Problem::refused("nothing is taken from this visitor"),
        Refused::AttachmentInvalid => {
            Problem::refused("there is no such attachment, it is not finished, or it is not yours to send now")
        }
        Refused::DayFull => {
            Problem::refused("as many files as may be were uploaded into this session today: 100, or 200 MiB")
        }
        Refused::SiteFull => Problem::refused("the site keeps as many files as it may"),
        Refused::Talking => Problem::conflict("somebody talks with the visitor already, or is about to"),
        Refused::Invited => Problem::conflict("the visitor is invited already"),
        Refused::TooOften => Problem::refused("the visitor was invited too often, or does not want to be"),
        Refused::ArchiveAway => Problem::unavailable(crate::archive::AWAY),
        Refused::LimitReached => Problem::refused("there are as many as there may be"),
        Refused::CidGap { .. }
        | Refused::CidInvalid
        | Refused::DeviceInvalid
        | Refused::InboxGap { .. }
        | Refused::RulesInvalid => Problem::refused("the rules do not allow it"),
    })
}
