//! Owns answering a search at the leader of a shard. Does not feed the index. Invariant: what is shown was read from the shard itself, which
//! serves, and belongs to the site that asks; a text that was recalled is not shown, however late the index hears of it.

use super::collect::Candidate;
use super::follow::Shared;
use super::index::{IndexError, Search};
use super::query::Wanted;
use super::snippet::snippet;
use chat::{ApplyError, Rows, SessionView};
use cluster::shard::Shard;
use proto::act::Act;
use proto::command::{Event, EventBody, Party};
use proto::ids::SessionId;
use proto::peer::{Refused, ShardReply};
use proto::search::{SaidBy, SearchAsk, SearchHit, SearchPage};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Things found in one answer.
pub const HITS_MAX: u32 = 100;
/// Things found that are looked at when a search asks for facts of their conversations.
const LOOKED_AT_MAX: usize = 1_000;
/// More than asked for are looked up: some may be gone.
const SPARE: usize = 16;
/// Of them so many are read while the state is held.
const SLICE: usize = 32;
/// So long waits a search for others to end.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// When a search may be tried again.
const AGAIN_AFTER_MS: u32 = 1_000;

const BUSY: ShardReply = ShardReply::Overloaded { retry_after_ms: AGAIN_AFTER_MS };

/// What a shard has of what is looked for.
pub async fn answer(
    shard: &Arc<Shard>,
    shared: Option<Arc<Shared>>,
    permits: &Semaphore,
    ask: &SearchAsk,
) -> ShardReply {
    if shard.serving().is_none() {
        return shard.not_leader();
    }
    let Some(shared) = shared else { return BUSY };
    let Some((index, known)) = shared.index() else { return BUSY };
    let limit = ask.limit.clamp(1, HITS_MAX) as usize;
    let looked_at = if asks_for_facts(ask) { LOOKED_AT_MAX } else { limit + SPARE };
    let Ok(Ok(permit)) = tokio::time::timeout(WAIT_MAX, permits.acquire()).await else { return BUSY };
    let for_index = ask.clone();
    let found = cluster::blocking(move || {
        let SearchAsk { site, text, by, from_ms, to_ms, after, .. } = for_index;
        let Ok(wanted) = Wanted::read(&text) else { return Ok(None) };
        // One more shows that there are more.
        let limit = looked_at + 1;
        let search = Search { site, wanted: wanted.as_ref(), by, from_ms, to_ms, after, limit };
        index.search(&search).map(|found| Some((found, wanted)))
    });
    let (found, wanted) = match found.await {
        Ok(Ok(Some(found))) => found,
        Ok(Ok(None)) => return ShardReply::Refused(Refused::ActInvalid),
        Ok(Err(error)) => {
            if matches!(error, IndexError::Damaged(_)) {
                shared.harmed();
            }
            return failed(shard, &error);
        }
        Err(error) => {
            shared.harmed();
            return failed(shard, &error);
        }
    };
    drop(permit);
    let has_more = found.len() > looked_at;
    let mut page = Look { ask, limit, known: BTreeMap::new(), hits: Vec::new(), at: None, done: 0 };
    for (nth, slice) in found[..found.len().min(looked_at)].chunks(SLICE).enumerate() {
        // The first look proves that this node leads. The state only grows older than that by a moment.
        let read = match nth {
            0 => shard.read_whole(|state, rows| page.look(state, rows, slice)).await,
            _ => shard.peek_whole(|state, rows| page.look(state, rows, slice)).await,
        };
        match read {
            Err(reply) => return reply,
            Ok(()) if page.is_full() => break,
            Ok(()) => page.done = 0,
        }
    }
    let head = shard.peek(|state, _| state.feed_head());
    let is_cut = page.at.is_some_and(|at| found.last().is_some_and(|last| last.place != at));
    let next = page.at.filter(|_| has_more || is_cut);
    let hits = page.hits;
    let shown = cluster::blocking(move || {
        let show = |(hit, text): (SearchHit, String)| SearchHit { snippet: snippet(&text, wanted.as_ref()), ..hit };
        hits.into_iter().map(show).collect()
    });
    match shown.await {
        Ok(hits) => ShardReply::Found(SearchPage { hits, next, behind: head.saturating_sub(known) }),
        Err(error) => failed(shard, &error),
    }
}

fn failed(shard: &Shard, error: &dyn std::fmt::Display) -> ShardReply {
    metrics::counter!("chat_search_errors_total").increment(1);
    tracing::warn!(shard = %shard.id, %error, "a search failed");
    BUSY
}

fn asks_for_facts(ask: &SearchAsk) -> bool {
    ask.agent.is_some()
        || ask.team.is_some()
        || ask.label.is_some()
        || ask.standing.is_some()
        || ask.rating.is_some()
        || ask.channel.is_some()
}

/// Goes through what was found, as the shard has it now.
struct Look<'a> {
    ask: &'a SearchAsk,
    limit: usize,
    /// Sessions that were met; `None`: nothing of it is wanted.
    known: BTreeMap<SessionId, Option<SessionView>>,
    /// Each with its text.
    hits: Vec<(SearchHit, String)>,
    /// The last that was looked at.
    at: Option<proto::search::SearchPlace>,
    /// So many of the slice were looked at: it is begun again when something was in the archive.
    done: usize,
}

impl Look<'_> {
    fn is_full(&self) -> bool {
        self.hits.len() >= self.limit
    }

    fn look(&mut self, state: &chat::Shard, rows: &dyn Rows, found: &[Candidate]) -> Result<(), ApplyError> {
        for candidate in found.iter().skip(self.done) {
            if self.is_full() {
                break;
            }
            if let Some(hit) = self.hit(state, rows, candidate)? {
                self.hits.push(hit);
            }
            self.at = Some(candidate.place);
            self.done += 1;
        }
        Ok(())
    }

    fn hit(
        &mut self,
        state: &chat::Shard,
        rows: &dyn Rows,
        found: &Candidate,
    ) -> Result<Option<(SearchHit, String)>, ApplyError> {
        let session = found.place.session;
        let view = match self.known.get(&session) {
            Some(view) => view,
            None => {
                let view = state.session(rows, session)?.filter(|view| self.is_wanted(view));
                self.known.entry(session).or_insert(view)
            }
        };
        let Some(view) = view else { return Ok(None) };
        let Some(event) = state.event(rows, session, found.text_seq)? else { return Ok(None) };
        let Some((from, by, text)) = said(&event, found) else { return Ok(None) };
        let hit = SearchHit {
            place: found.place,
            visitor: view.visitor,
            from,
            by,
            standing: view.standing,
            agent: view.open.map_or(view.last_agent, |open| open.agent),
            labels: view.labels.clone(),
            snippet: Vec::new(),
        };
        Ok(Some((hit, text.to_owned())))
    }

    fn is_wanted(&self, view: &SessionView) -> bool {
        let SearchAsk { site, agent, team, label, standing: wanted, rating, channel, .. } = self.ask;
        let had_by = view.open.map_or(view.last_agent, |open| open.agent);
        view.site == *site
            && agent.is_none_or(|agent| had_by == Some(agent))
            && team.is_none_or(|team| view.team == Some(team))
            && label.as_ref().is_none_or(|label| view.labels.contains(label))
            && wanted.is_none_or(|wanted| view.standing == wanted)
            && rating.is_none_or(|(low, high)| view.rating.is_some_and(|(_, score)| (low..=high).contains(&score)))
            && channel.is_none_or(|channel| view.channel == channel)
    }
}

/// Who said it and what, if that is still so.
fn said<'a>(event: &'a Event, found: &Candidate) -> Option<(Party, SaidBy, &'a str)> {
    let (from, text) = match &event.body {
        EventBody::Message { from, text, .. } => (*from, text),
        EventBody::Act { from, act: Act::Note { text, .. }, .. } => (*from, text),
        EventBody::Act { from, act: Act::Edit { seq, text }, .. } if *seq == found.place.seq => (*from, text),
        _ => return None,
    };
    (!text.is_empty()).then_some((from, found.by, text))
}
