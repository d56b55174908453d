//! Owns looking for what was said at a site, over all its shards. Does not look itself: each shard's leader does. Invariant: the site is that
//! of the credential; pages behind each other hold everything once that stays as it is, from the newest to the oldest.

use crate::admin::accounts::id_of;
use crate::admin::desk::ChannelName;
use crate::admin::problem::Problem;
use crate::admin::sessions::{SessionState, call_shard};
use crate::admin::{Answer, Tenant};
use crate::run::App;
use crate::search::Wanted;
use actix_web::web::{Data, Json, Query};
use chat::limits::SCORE_MAX;
use proto::command::Party;
use proto::ids::{AgentId, SessionId, SiteId, VisitorId};
use proto::peer::{ShardCall, ShardReply};
use proto::search::{SaidBy, SearchAsk, SearchHit, SearchPage, SearchPlace, Standing};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Hits of one answer, unless asked otherwise.
const LIMIT_DEFAULT: u32 = 20;
/// Most hits of one answer.
const LIMIT_MAX: u32 = 100;

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum By {
    Visitor,
    Agent,
    System,
    /// An agent, for agents only.
    Note,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SearchQuery {
    /// Words, all of which are in what is found; in quotation marks, behind each other. Without it: whatever was said.
    #[param(max_length = 512, nullable = false)]
    q: Option<String>,
    #[param(inline, nullable = false)]
    by: Option<By>,
    /// Said then or later, milliseconds since 1970.
    #[param(nullable = false)]
    from: Option<u64>,
    /// Said before then, milliseconds since 1970.
    #[param(nullable = false)]
    to: Option<u64>,
    /// Only where the session's conversation is this agent's, or was last.
    #[param(pattern = "^a(0|[1-9][0-9]{0,18})$", nullable = false)]
    agent: Option<String>,
    /// Only where somebody gave the conversation to this team, or its visitor chose it.
    #[param(pattern = "^t(0|[1-9][0-9]{0,8})$", nullable = false)]
    team: Option<String>,
    /// Only where the session's conversation has this label.
    #[param(max_length = 64, nullable = false)]
    label: Option<String>,
    /// Only where the session's conversation is in this state.
    #[param(inline, nullable = false)]
    state: Option<SessionState>,
    /// Only where the visitor's last rating is that or better: 1 to 5.
    #[param(minimum = 1, maximum = 5, nullable = false)]
    rating_min: Option<u8>,
    /// Only where it is that or worse.
    #[param(minimum = 1, maximum = 5, nullable = false)]
    rating_max: Option<u8>,
    /// Only where the session's visitor writes by this way.
    #[param(inline, nullable = false)]
    channel: Option<ChannelName>,
    /// The `next` of the page before.
    #[param(max_length = 128, nullable = false)]
    after: Option<String>,
    #[param(minimum = 1, maximum = 100, nullable = false)]
    limit: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SearchView {
    /// The newest first.
    pub hits: Vec<HitView>,
    /// Ask again with this as `after`; null: there are no more. A page may be short, or empty, and yet not the last.
    pub next: Option<String>,
    /// Events that cannot be found yet; 0 a second or two after the last one, unless the node is loaded.
    pub behind: u64,
}

/// Something that was said.
#[derive(Debug, Serialize, ToSchema)]
pub struct HitView {
    #[schema(value_type = String)]
    pub session: SessionId,
    pub seq: u64,
    /// Milliseconds since 1970.
    pub ts: u64,
    #[schema(value_type = String)]
    pub visitor: VisitorId,
    pub by: By,
    /// The agent who said it.
    #[schema(value_type = Option<String>)]
    pub author: Option<AgentId>,
    /// Of the session's conversation, as it is now.
    pub state: SessionState,
    /// Whose it is, or was last.
    #[schema(value_type = Option<String>)]
    pub agent: Option<AgentId>,
    pub labels: Vec<String>,
    /// A piece of the text, in parts that follow each other.
    pub snippet: Vec<PartView>,
}

/// A part of a text. Plain text: what looks like HTML was written so.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartView {
    pub text: String,
    /// It is what was looked for.
    pub found: bool,
}

/// What is looked for, as people write it; the same in a search and in a view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Filters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 512, nullable = false)]
    pub q: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub by: Option<By>,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub from: Option<u64>,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub to: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "a17")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "t2")]
    pub team: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub state: Option<SessionState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 5, nullable = false)]
    pub rating_min: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 5, nullable = false)]
    pub rating_max: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub channel: Option<ChannelName>,
}

impl Filters {
    /// The lowest and the highest rating that is looked for; `None`: it does not matter, and need not be there.
    fn ratings(&self) -> Result<Option<(u8, u8)>, Problem> {
        let (low, high) = (self.rating_min.unwrap_or(1), self.rating_max.unwrap_or(SCORE_MAX));
        if low < 1 || high > SCORE_MAX || low > high {
            return Err(Problem::bad_request("rating_min and rating_max are 1 to 5, and the first is not the larger"));
        }
        Ok((self.rating_min.is_some() || self.rating_max.is_some()).then_some((low, high)))
    }

    /// What a shard is asked.
    /// # Errors
    /// 400: something is not what it must be.
    pub async fn ask(&self, app: &App, site: SiteId) -> Result<SearchAsk, Problem> {
        let text = self.q.clone().unwrap_or_default();
        let words = text.clone();
        // The dictionary may have to be read first.
        let read = app.on_raft(cluster::blocking(move || Wanted::read(&words).map(drop))).await;
        match read {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => return Err(Problem::bad_request(error.to_string())),
            Some(Err(_)) | None => return Err(Problem::unavailable("this node is stopping")),
        }
        if self.label.as_ref().is_some_and(|label| label.len() > chat::limits::LABEL_BYTES_MAX) {
            return Err(Problem::bad_request("no label is that long"));
        }
        Ok(SearchAsk {
            site,
            text,
            by: self.by.map(said_by),
            from_ms: self.from,
            to_ms: self.to,
            agent: id_of("agent", self.agent.as_deref())?,
            team: id_of("team", self.team.as_deref())?,
            label: self.label.clone(),
            standing: self.state.map(standing),
            rating: self.ratings()?,
            channel: self.channel.map(ChannelName::channel),
            after: None,
            limit: LIMIT_DEFAULT,
        })
    }
}

pub async fn search(app: Data<App>, Tenant(site): Tenant, query: Query<SearchQuery>) -> Answer<SearchView> {
    let SearchQuery { q, by, from, to, agent, team, label, state, rating_min, rating_max, channel, after, limit } =
        query.into_inner();
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_request("limit is 1 to 100"));
    }
    let after = match after {
        None => None,
        Some(text) => Some(place_of(&text).ok_or_else(|| Problem::bad_request("after is not the next of a page"))?),
    };
    let filters = Filters { q, by, from, to, agent, team, label, state, rating_min, rating_max, channel };
    let asked = filters.ask(&app, site).await?;
    let asked = SearchAsk { after, limit, ..asked };
    let pages = app.cluster.router.shards().into_iter().map(|shard| {
        let (app, call) = (app.clone(), ShardCall::Search(Box::new(asked.clone())));
        async move {
            match call_shard(&app, shard, call).await {
                ShardReply::Found(page) => Ok(page),
                ShardReply::Refused(_) => Err(Problem::refused("that cannot be looked for")),
                _ => Err(Problem::unavailable(format!("{shard} has no leader or no index just now, try again"))),
            }
        }
    });
    let pages: Result<Vec<SearchPage>, Problem> = futures_util::future::join_all(pages).await.into_iter().collect();
    let SearchPage { hits, next, behind } = merge(pages?, limit as usize);
    Ok(Json(SearchView { hits: hits.into_iter().map(view).collect(), next: next.map(text_of), behind }))
}

/// One page out of those of all shards.
fn merge(pages: Vec<SearchPage>, limit: usize) -> SearchPage {
    let behind = pages.iter().map(|page| page.behind).sum();
    // Behind the place where one shard stopped, the order of time would have holes.
    let mut next = pages.iter().filter_map(|page| page.next).max();
    let mut hits: Vec<SearchHit> = pages.into_iter().flat_map(|page| page.hits).collect();
    hits.retain(|hit| next.is_none_or(|next| hit.place >= next));
    hits.sort_by_key(|hit| std::cmp::Reverse(hit.place));
    if hits.len() > limit {
        hits.truncate(limit);
        next = hits.last().map(|hit| hit.place);
    }
    SearchPage { hits, next, behind }
}

fn text_of(SearchPlace { ts_ms, session, seq }: SearchPlace) -> String {
    format!("s1.{ts_ms}.{session}.{seq}")
}

fn place_of(text: &str) -> Option<SearchPlace> {
    let mut parts = text.strip_prefix("s1.")?.split('.');
    let (ts_ms, session, seq) = (parts.next()?, parts.next()?, parts.next()?);
    let place = SearchPlace { ts_ms: ts_ms.parse().ok()?, session: session.parse().ok()?, seq: seq.parse().ok()? };
    parts.next().is_none().then_some(place)
}

fn said_by(by: By) -> SaidBy {
    match by {
        By::Visitor => SaidBy::Visitor,
        By::Agent => SaidBy::Agent,
        By::System => SaidBy::System,
        By::Note => SaidBy::Note,
    }
}

fn standing(state: SessionState) -> Standing {
    match state {
        SessionState::Open => Standing::Open,
        SessionState::Waiting => Standing::Waiting,
        SessionState::Snoozed => Standing::Snoozed,
        SessionState::Closed => Standing::Closed,
    }
}

fn view(hit: SearchHit) -> HitView {
    let SearchPlace { ts_ms, session, seq } = hit.place;
    HitView {
        session,
        seq,
        ts: ts_ms,
        visitor: hit.visitor,
        by: match hit.by {
            SaidBy::Visitor => By::Visitor,
            SaidBy::Agent => By::Agent,
            SaidBy::System => By::System,
            SaidBy::Note => By::Note,
        },
        author: match hit.from {
            Party::Agent(agent) => Some(agent),
            Party::Visitor | Party::System => None,
        },
        state: hit.standing.into(),
        agent: hit.agent,
        labels: hit.labels,
        snippet: hit.snippet.into_iter().map(|(text, found)| PartView { text, found }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(ts_ms: u64, session: u128) -> SearchPlace {
        SearchPlace { ts_ms, session: SessionId(session), seq: 7 }
    }

    fn hit(ts_ms: u64, session: u128) -> SearchHit {
        SearchHit {
            place: place(ts_ms, session),
            visitor: VisitorId(1),
            from: Party::Visitor,
            by: SaidBy::Visitor,
            standing: Standing::Open,
            agent: None,
            labels: Vec::new(),
            snippet: Vec::new(),
        }
    }

    fn page(times: &[u64], session: u128, next: Option<u64>) -> SearchPage {
        let hits = times.iter().map(|ts_ms| hit(*ts_ms, session)).collect();
        SearchPage { hits, next: next.map(|ts_ms| place(ts_ms, session)), behind: 1 }
    }

    fn times(page: &SearchPage) -> Vec<u64> {
        page.hits.iter().map(|hit| hit.place.ts_ms).collect()
    }

    #[test]
    fn pages_of_shards_become_one_without_holes() {
        let all = merge(vec![page(&[9, 5], 1, None), page(&[8, 3], 2, None)], 10);
        assert_eq!((times(&all), all.next, all.behind), (vec![9, 8, 5, 3], None, 2));
        let cut = merge(vec![page(&[9, 5], 1, None), page(&[8, 3], 2, None)], 3);
        assert_eq!((times(&cut), cut.next), (vec![9, 8, 5], Some(place(5, 1))));
        // The second shard may have something between 5 and 8.
        let stopped = merge(vec![page(&[9, 5], 1, None), page(&[8], 2, Some(6))], 10);
        assert_eq!((times(&stopped), stopped.next), (vec![9, 8], Some(place(6, 2))));
        let empty = merge(vec![page(&[], 1, Some(4)), page(&[], 2, None)], 10);
        assert_eq!((times(&empty), empty.next), (vec![], Some(place(4, 1))));
    }

    #[test]
    fn a_place_reads_back_and_nothing_else_is_one() {
        assert_eq!(place_of(&text_of(place(3, 4))), Some(place(3, 4)));
        for wrong in [
            "",
            "s1",
            "s1.1.2.3",
            "s2.3.00000000000000000000000000000004.7",
            "s1.3.00000000000000000000000000000004.7.1",
        ] {
            assert_eq!(place_of(wrong), None, "{wrong}");
        }
    }
}
