//! Owns the stream of a site's events for other systems: page by page, waiting, or as server-sent events. Does not number them: each
//! shard does. Invariant: who goes on from a cursor gets every later event once, those of a session in order, whatever leaders do.

use super::Answer;
use super::problem::Problem;
use super::sessions::call_shard;
use super::tenant::Tenant;
use crate::api::Caller;
use crate::connection::client_event;
use crate::run::App;
use actix_web::web::{Bytes, Data, Json, Query};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use proto::client;
use proto::feed::{FeedItem, FeedPage, event_id};
use proto::ids::{SiteId, VisitorId};
use proto::peer::{ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use utoipa::{IntoParams, ToSchema};

/// Events of one answer, unless asked otherwise.
const LIMIT_DEFAULT: u32 = 100;
/// Most events of one answer.
const LIMIT_MAX: u32 = 1_000;
/// Longest wait for an event, in seconds.
const WAIT_S_MAX: u64 = 60;
/// Between two looks while nothing comes.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// So long is a stream of a site's own: its reader goes on with a new one, if the credential is still good.
const SITE_STREAM: Duration = Duration::from_secs(60);
/// A stream without events says that it is still there.
const STILL_THERE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// `next` of an earlier answer; `now`: what happens from now on; without it, the oldest that is kept.
    #[param(max_length = 2048, nullable = false)]
    after: Option<String>,
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<u32>,
    /// Wait so long for an event, in seconds.
    #[param(maximum = 60, nullable = false)]
    wait_s: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Events {
    /// Those of a session are in order.
    pub events: Vec<EventView>,
    /// Go on after this. The same as asked when nothing has come.
    pub next: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct EventView {
    /// The same for the same event, for ever: what was had can be told by it.
    #[schema(example = "4f1c2b7a90de4c31a5b6c7d8e9f00112-15")]
    pub id: String,
    #[schema(value_type = String)]
    pub visitor: VisitorId,
    /// As agents get it: see the client protocol, `event`.
    #[schema(value_type = Object)]
    pub event: client::Event<'static>,
}

/// How far a caller has come in each shard. `None`: it has read nothing there, and whatever is kept is the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    after: Vec<Option<u64>>,
}

impl Cursor {
    fn text(&self) -> String {
        let part = |after: &Option<u64>| after.map_or_else(|| "-".to_owned(), |number| number.to_string());
        self.after.iter().fold("e1".to_owned(), |text, after| format!("{text}.{}", part(after)))
    }

    fn read(text: &str, shards: usize) -> Option<Cursor> {
        let part = |text: &str| if text == "-" { Some(None) } else { text.parse().ok().map(Some) };
        let after: Option<Vec<Option<u64>>> = text.strip_prefix("e1.")?.split('.').map(part).collect();
        Some(Cursor { after: after.filter(|after| after.len() == shards)? })
    }
}

fn gone(why: &str) -> Problem {
    Problem::gone(format!("{why}: begin anew, without after"))
}

/// What was found behind a cursor.
#[derive(Default)]
struct Found {
    /// Each event, and the cursor behind it.
    events: Vec<(EventView, String)>,
    /// A shard has more: the next look needs no pause.
    is_behind: bool,
}

async fn read(app: &Data<App>, site: SiteId, cursor: &mut Cursor, limit: u32) -> Result<Found, Problem> {
    let shards = app.cluster.router.shards();
    let asked = shards.iter().zip(cursor.after.clone()).map(|(shard, after)| async move {
        call_shard(app, *shard, ShardCall::Feed { site, after: after.unwrap_or(0), limit }).await
    });
    let pages = futures_util::future::join_all(asked).await;
    if !pages.iter().any(|page| matches!(page, ShardReply::Feed(_))) {
        return Err(Problem::unavailable("no shard has a leader just now, try again"));
    }
    let mut found = Found::default();
    for (at, page) in pages.into_iter().enumerate() {
        // A shard without a leader is asked again the next time.
        let ShardReply::Feed(FeedPage { items, next, head, first }) = page else { continue };
        if let Some(after) = cursor.after[at] {
            if after > head {
                return Err(gone("the cursor is ahead: the cluster was restored from a backup"));
            }
            if after + 1 < first {
                return Err(gone("the events after the cursor are not kept any more"));
            }
        }
        let room = (limit as usize).saturating_sub(found.events.len());
        let is_cut = items.len() > room;
        found.is_behind |= is_cut || next < head;
        for item in items.into_iter().take(room) {
            cursor.after[at] = Some(item.number);
            found.events.push((view(item), cursor.text()));
        }
        if !is_cut {
            cursor.after[at] = Some(next);
        }
    }
    Ok(found)
}

fn view(FeedItem { session, visitor, event, .. }: FeedItem) -> EventView {
    let id = event_id(session, event.seq);
    EventView { id, visitor, event: client_event(session, visitor, &event, true).into_owned() }
}

async fn begin(app: &Data<App>, site: SiteId, after: Option<&str>) -> Result<Cursor, Problem> {
    let shards = app.cluster.router.shards();
    match after {
        None => Ok(Cursor { after: vec![None; shards.len()] }),
        Some("now") => {
            let mut after = Vec::with_capacity(shards.len());
            for shard in shards {
                // Far ahead of any: the answer says where the head is.
                let page = call_shard(app, shard, ShardCall::Feed { site, after: u64::MAX, limit: 1 }).await;
                let ShardReply::Feed(page) = page else {
                    return Err(Problem::unavailable(format!("{shard} has no leader just now, try again")));
                };
                after.push(Some(page.head));
            }
            Ok(Cursor { after })
        }
        Some(text) => {
            Cursor::read(text, shards.len()).ok_or_else(|| Problem::bad_request("after is `now` or an earlier `next`"))
        }
    }
}

pub async fn list(
    app: Data<App>,
    Tenant(site): Tenant,
    query: Query<EventsQuery>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let is_of_site = request.extensions().contains::<Caller>();
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    let wait_s = query.wait_s.unwrap_or(0);
    if !(1..=LIMIT_MAX).contains(&limit) || wait_s > WAIT_S_MAX {
        return Err(Problem::bad_request("limit is 1 to 1000, wait_s at most 60"));
    }
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    // A browser that connects again says where it was in this header.
    let after = header("last-event-id").or(query.after.as_deref());
    let cursor = begin(&app, site, after).await?;
    if header("accept").is_some_and(|types| types.contains("text/event-stream")) {
        return stream(app, site, cursor, limit, is_of_site);
    }
    Ok(HttpResponse::Ok().json(page(&app, site, cursor, limit, Duration::from_secs(wait_s)).await?.into_inner()))
}

async fn page(app: &Data<App>, site: SiteId, mut cursor: Cursor, limit: u32, wait: Duration) -> Answer<Events> {
    let until = Instant::now() + wait;
    loop {
        let Found { events, is_behind } = read(app, site, &mut cursor, limit).await?;
        // A page that looked only at other sites' events is no answer yet, and no reason to wait either.
        if !events.is_empty() || (Instant::now() >= until && !is_behind) {
            let events = events.into_iter().map(|(event, _)| event).collect();
            return Ok(Json(Events { events, next: cursor.text() }));
        }
        if !is_behind {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

struct Stream {
    app: Data<App>,
    site: SiteId,
    cursor: Cursor,
    limit: u32,
    /// Ends then, so that whoever reads it shows again that they may.
    until: Option<Instant>,
    waiting: VecDeque<Bytes>,
    told: Instant,
    _place: tokio::sync::OwnedSemaphorePermit,
}

fn stream(app: Data<App>, site: SiteId, cursor: Cursor, limit: u32, is_of_site: bool) -> Result<HttpResponse, Problem> {
    // Sites do not take the operators' places.
    let places = if is_of_site { &app.admin.site_streams } else { &app.admin.watchers };
    let place = places.clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::unavailable("too many streams are open"))?;
    let until = is_of_site.then(|| Instant::now() + SITE_STREAM);
    let (waiting, told) = (VecDeque::new(), Instant::now());
    let first = Stream { app, site, cursor, limit, until, waiting, told, _place: place };
    let events = futures_util::stream::unfold(first, |mut stream| async move {
        let bytes = stream.next().await?;
        stream.told = Instant::now();
        Some((Ok::<_, std::convert::Infallible>(bytes), stream))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-store"))
        .streaming(events))
}

impl Stream {
    /// The next bytes; `None`: the stream ends, and its reader asks anew.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.waiting.pop_front() {
                return Some(bytes);
            }
            if self.until.is_some_and(|until| Instant::now() >= until) {
                return None;
            }
            if self.told.elapsed() >= STILL_THERE {
                return Some(Bytes::from_static(b": still there\n\n"));
            }
            let mut is_behind = false;
            match read(&self.app, self.site, &mut self.cursor, self.limit).await {
                Ok(found) => {
                    is_behind = found.is_behind;
                    for (event, cursor) in found.events {
                        let data = serde_json::to_string(&event).ok()?;
                        self.waiting.push_back(Bytes::from(format!("id: {cursor}\ndata: {data}\n\n")));
                    }
                }
                Err(problem) if problem.status == 503 => {}
                Err(_) => return None,
            }
            if self.waiting.is_empty() && !is_behind {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_one_of_another_cluster_is_none() {
        let cursor = Cursor { after: vec![Some(0), Some(7), None] };
        assert_eq!(Cursor::read(&cursor.text(), 3), Some(cursor));
        for wrong in ["", "e1", "e1.", "e1.1.2", "e1.1.2.3.4", "e1.1.2.x", "e1.1.2.-3", "e1.1.2.--", "e2.1.2.3", "now"]
        {
            assert_eq!(Cursor::read(wrong, 3), None, "{wrong}");
        }
    }
}
