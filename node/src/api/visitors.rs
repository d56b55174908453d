//! Owns what a site does about a visitor as a whole: taking nothing from them any more, giving out and erasing everything that is known.
//! Does not erase itself: the rules of `chat` do. Invariant: a visitor of another site is one that is not there.

use super::access::Caller;
use super::conversations::{Conversation, OfSession, call_session, done, own};
use crate::admin::problem::Problem;
use crate::admin::sessions::{SessionView, call_shard, of};
use crate::admin::{Answer, Tenant};
use crate::connection::client_event;
use crate::gateway::session_of;
use crate::run::App;
use actix_web::web::{Data, Json, Path, ReqData};
use cluster::shard::now_ms;
use proto::client;
use proto::client::limits::HISTORY_LIMIT_MAX;
use proto::command::{Command, Party, Target};
use proto::ids::{SessionId, SiteId, VisitorId};
use proto::peer::{Page, Refused, ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Visitors in one request.
const ERASE_MAX: usize = 100;
/// A conversation that begins while a visitor is being erased is ended, so often.
const CLOSE_TRIES: usize = 5;
/// Longest block, in seconds: ten years. Without one it is for good.
const BLOCK_S_MAX: u64 = 315_360_000;
/// Events in one export; beyond them it is asked for again from the last seq on.
const EXPORT_EVENTS_MAX: usize = 10_000;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockBody {
    /// For so long, in seconds; for good unless given.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 315_360_000)]
    pub for_s: Option<u64>,
}

async fn set_block(app: &Data<App>, site: SiteId, session: &str, until_ms: Option<u64>) -> Answer<Conversation> {
    let view = own(app, site, session).await?;
    let command = Command::Block { session: view.session, until_ms };
    call_session(app, view.session, ShardCall::Propose(command)).await?;
    Ok(Json(Conversation::of(of(app, view.session).await?)))
}

/// What the visitor sends is refused from now on.
pub async fn block(
    app: Data<App>,
    Tenant(site): Tenant,
    path: Path<OfSession>,
    body: Json<BlockBody>,
) -> Answer<Conversation> {
    let until_ms = match body.for_s {
        None => u64::MAX >> 1,
        Some(seconds) if (1..=BLOCK_S_MAX).contains(&seconds) => now_ms() + seconds * 1_000,
        Some(_) => return Err(Problem::refused("a block lasts 1 to 315360000 seconds")),
    };
    set_block(&app, site, &path.session, Some(until_ms)).await
}

/// Also right when the visitor was not blocked.
pub async fn unblock(app: Data<App>, Tenant(site): Tenant, path: Path<OfSession>) -> Answer<Conversation> {
    set_block(&app, site, &path.session, None).await
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfVisitor {
    visitor: String,
}

/// The session of a visitor of this site.
fn session_named(site: SiteId, visitor: &str) -> Result<SessionId, Problem> {
    let visitor: VisitorId = visitor.parse().map_err(|_| Problem::not_found("no such visitor"))?;
    Ok(session_of(site, visitor))
}

async fn view_of(app: &App, site: SiteId, visitor: &str) -> Result<SessionView, Problem> {
    let view = of(app, session_named(site, visitor)?).await.map_err(|problem| match problem.status {
        404 => Problem::not_found("no such visitor"),
        _ => problem,
    })?;
    if view.site == site { Ok(view) } else { Err(Problem::not_found("no such visitor")) }
}

/// Everything that is kept of a visitor.
#[derive(Debug, Serialize, ToSchema)]
pub struct Export {
    pub session: Conversation,
    /// What the visitor was before they said who they are, oldest first.
    pub earlier: Vec<Conversation>,
    /// Everything that happened, oldest first, of `earlier` and then of `session`, as agents get it: see the client protocol, `event`.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<client::Event<'static>>,
    /// There is more: ask again with this as `after`.
    pub next: Option<String>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    /// The `next` of the part before.
    #[param(pattern = "^(0|[1-9][0-9]{0,3})-(0|[1-9][0-9]{0,18})$", nullable = false)]
    after: Option<String>,
}

/// The number of a session and a seq of it.
fn place_of(text: &str) -> Option<(usize, u64)> {
    let (number, seq) = text.split_once('-')?;
    Some((number.parse().ok()?, seq.parse().ok()?))
}

pub async fn export(
    app: Data<App>,
    Tenant(site): Tenant,
    path: Path<OfVisitor>,
    query: actix_web::web::Query<ExportQuery>,
) -> Answer<Export> {
    let view = view_of(&app, site, &path.visitor).await?;
    let wrong = || Problem::bad_request("after: not the `next` of an export");
    let place = query.after.as_deref().map_or(Ok((0, 0)), |text| place_of(text).ok_or_else(wrong));
    let (mut number, mut after) = place?;
    let mut views = Vec::new();
    for session in &view.merged {
        views.push(of(&app, *session).await?);
    }
    views.push(view);
    let mut events: Vec<client::Event<'static>> = Vec::new();
    while let Some(SessionView { session, visitor, head, .. }) = views.get(number)
        && events.len() < EXPORT_EVENTS_MAX
    {
        let (session, visitor) = (*session, *visitor);
        let call =
            ShardCall::History { session, page: Page::After(after), limit: HISTORY_LIMIT_MAX as u32, site: Some(site) };
        let ShardReply::History { events: found, .. } = call_session(&app, session, call).await? else {
            return Err(crate::admin::unexpected());
        };
        match found.last() {
            Some(last) if last.seq < *head => after = last.seq,
            _ => (number, after) = (number + 1, 0),
        }
        events.extend(found.iter().map(|event| client_event(session, visitor, event, true).into_owned()));
    }
    let next = (number < views.len()).then(|| format!("{number}-{after}"));
    let session = Conversation::of(views.pop().ok_or_else(crate::admin::unexpected)?);
    let earlier = views.into_iter().map(Conversation::of).collect();
    Ok(Json(Export { session, earlier, events, next }))
}

/// What is gone.
#[derive(Debug, Serialize, ToSchema)]
pub struct Erased {
    #[schema(value_type = Vec<String>)]
    pub erased: Vec<VisitorId>,
    /// There is no such visitor at this site.
    pub unknown: Vec<String>,
}

/// Everything that was said and is known of a visitor goes; an open conversation ends first.
pub async fn erase(app: Data<App>, Tenant(site): Tenant, path: Path<OfVisitor>) -> Answer<Erased> {
    let view = view_of(&app, site, &path.visitor).await?;
    forget_all(&app, &view).await?;
    Ok(Json(Erased { erased: vec![view.visitor], unknown: Vec::new() }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseBody {
    #[schema(min_items = 1, max_items = 100)]
    pub visitors: Vec<String>,
}

/// As for one; done again it is the same.
pub async fn erase_many(app: Data<App>, caller: ReqData<Caller>, body: Json<EraseBody>) -> Answer<Erased> {
    if !(1..=ERASE_MAX).contains(&body.visitors.len()) {
        return Err(Problem::refused("1 to 100 visitors at once"));
    }
    let mut told = Erased { erased: Vec::new(), unknown: Vec::new() };
    for visitor in &body.visitors {
        match view_of(&app, caller.site, visitor).await {
            Ok(view) => {
                forget_all(&app, &view).await?;
                told.erased.push(view.visitor);
            }
            Err(problem) if problem.status == 404 => told.unknown.push(visitor.chars().take(64).collect()),
            Err(problem) => return Err(problem),
        }
    }
    Ok(Json(told))
}

/// Erases a visitor's session, after those that they had before they said who they are.
async fn forget_all(app: &App, view: &SessionView) -> Result<(), Problem> {
    for session in &view.merged {
        let earlier = of(app, *session).await?;
        forget(app, *session, earlier.head).await?;
    }
    forget(app, view.session, view.head).await
}

/// Erases a session up to what it is by then, in as many steps as it takes.
async fn forget(app: &App, session: SessionId, head: u64) -> Result<(), Problem> {
    let shard = app.cluster.router.shard_of(Target::Session(session));
    let (mut upto, mut tries) = (head, 0);
    loop {
        let command = Command::Erase { session, upto, forget: true };
        match call_shard(app, shard, ShardCall::Propose(command)).await {
            ShardReply::Refused(Refused::Changed) if tries < CLOSE_TRIES => {
                tries += 1;
                let by = Party::System;
                call_session(app, session, ShardCall::Propose(Command::Close { session, by })).await?;
                // With the word that it ended.
                upto = of(app, session).await?.head;
            }
            ShardReply::Sent { seq, .. } if seq >= upto => return Ok(()),
            ShardReply::Sent { .. } => {}
            other => drop(done(other)?),
        }
    }
}
