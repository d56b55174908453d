//! Owns what a shard's leader does next about a webhook: which events go out, what is tried again and when, what is given up. Does not
//! send anything. Invariant: events of a session go out in the order of their seqs; one that fails holds up its session and no other.

use crate::limits::{WEBHOOK_LAGS_MAX, WEBHOOK_WHY_BYTES_MAX};
use proto::command::Event;
use proto::feed::FeedPage;
use proto::ids::{SessionId, VisitorId};
use proto::webhook::{GivenUp, Lag, WebhookState, WebhookStep};
use std::collections::BTreeMap;

/// Before the second try, in milliseconds; each further pause is twice as long.
pub const PAUSE_MS_MIN: u64 = 1_000;
/// The longest pause between two tries, in milliseconds.
pub const PAUSE_MS_MAX: u64 = 600_000;
/// New events taken at once.
const EVENTS_MAX: usize = 100;
/// Entries of the feed that may pass without a word in the log, when none of them was for the webhook.
const QUIET_MAX: u64 = 10_000;

/// Consecutive events of a session, to be delivered one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    pub what: What,
    pub session: SessionId,
    pub visitor: VisitorId,
    /// Those that the webhook wants; the rest is passed over.
    pub events: Vec<Event>,
    /// The last seq that the parcel stands for.
    pub upto: u64,
}

/// Where a parcel comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The feed.
    New,
    /// A session that lags.
    Late,
    /// The dead letter of that number.
    Dead(u64),
}

/// What became of a parcel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub what: What,
    pub session: SessionId,
    /// Everything below was delivered.
    pub next: u64,
    pub upto: u64,
    /// How `next` failed. `None`: nothing failed; there was no time for the rest, if there is any.
    pub why: Option<String>,
    /// The receiver asks to be left alone for so long, in milliseconds.
    pub wait_ms: u64,
}

/// What the leader of a shard does about one webhook. It may be thrown away at any time: what the log does not know is done again.
#[derive(Debug)]
pub struct Courier {
    state: WebhookState,
    /// Those of `state`, with what has become of them since.
    lags: Vec<Lag>,
    give_up_ms: u64,
    /// How far the feed was read; beyond `state.after` there was nothing for this webhook.
    read: u64,
    missed: u64,
    /// When sessions that lag are tried next, milliseconds since 1970; those that are not here: at once.
    due: BTreeMap<SessionId, u64>,
}

impl Courier {
    /// `give_up_ms`: for so long an event is tried.
    pub fn new(state: WebhookState, give_up_ms: u64) -> Courier {
        let lags = state.lags.clone();
        Courier { read: state.after, state, lags, give_up_ms, missed: 0, due: BTreeMap::new() }
    }

    /// What the log says by now, after a step that it took or without one. When it took none, a new courier is needed.
    pub fn refresh(&mut self, state: WebhookState) {
        if state.version != self.state.version {
            self.read = state.after;
        }
        self.due.retain(|session, _| find(&state.lags, *session).is_ok());
        self.lags.clone_from(&state.lags);
        (self.state, self.missed) = (state, 0);
    }

    /// Behind which number of the feed to read on, and how many events; `None`: too much lags already.
    pub fn wants(&self) -> Option<(u64, usize)> {
        let room = WEBHOOK_LAGS_MAX.saturating_sub(self.lags.len());
        (room > 0).then_some((self.read, room.min(EVENTS_MAX)))
    }

    /// Parcels out of what the feed holds behind `wants`. `is_wanted`: the webhook asked for such events.
    pub fn take(&mut self, page: FeedPage, is_wanted: impl Fn(&Event) -> bool) -> Vec<Parcel> {
        self.missed = page.first.saturating_sub(self.read + 1);
        self.read = page.next;
        let mut parcels: BTreeMap<SessionId, Parcel> = BTreeMap::new();
        for item in page.items {
            let (session, visitor, seq) = (item.session, item.visitor, item.event.seq);
            if let Ok(at) = find(&self.lags, session) {
                let lag = &mut self.lags[at];
                lag.upto = lag.upto.max(seq);
                continue;
            }
            let new = || Parcel { what: What::New, session, visitor, events: Vec::new(), upto: seq };
            let parcel = parcels.entry(session).or_insert_with(new);
            parcel.upto = seq;
            parcel.events.extend(is_wanted(&item.event).then_some(item.event));
        }
        parcels.into_values().filter(|parcel| !parcel.events.is_empty()).collect()
    }

    /// Sessions that lag and are to be tried now, with the seqs that wait.
    pub fn late(&self, now_ms: u64) -> Vec<(SessionId, u64, u64)> {
        let is_due = |lag: &&Lag| self.due.get(&lag.session).is_none_or(|due_ms| *due_ms <= now_ms);
        self.lags.iter().filter(is_due).map(|lag| (lag.session, lag.next, lag.upto)).collect()
    }

    /// Dead letters that somebody wants delivered: number, session and seq.
    pub fn again(&self) -> Vec<(u64, SessionId, u64)> {
        let wanted = self.state.dead.iter().filter(|letter| letter.again);
        wanted.map(|letter| (letter.number, letter.session, letter.seq)).collect()
    }

    /// When the next session is tried again, milliseconds since 1970; `None`: none is waiting.
    #[cfg(test)]
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.lags.iter().map(|lag| self.due.get(&lag.session).copied().unwrap_or(0)).min()
    }

    /// What became of everything that went out since the last step. `None`: nothing that the log must know.
    pub fn step(&mut self, told: Vec<Told>, now_ms: u64) -> Option<WebhookStep> {
        let mut is_quiet = told.is_empty() && self.missed == 0 && self.read - self.state.after < QUIET_MAX;
        let (mut given_up, mut again) = (Vec::new(), Vec::new());
        for one in told {
            match one.what {
                // There was no time for it: it is still to be delivered.
                What::Dead(_) if one.why.is_none() && one.next <= one.upto => {}
                What::Dead(number) => again.push((number, one.why.map(short))),
                What::New | What::Late => given_up.extend(self.went(one, now_ms)),
            }
        }
        is_quiet &= self.lags == self.state.lags;
        let step = WebhookStep {
            version: self.state.version,
            after: self.read,
            lags: self.lags.clone(),
            given_up,
            again,
            missed: self.missed,
        };
        (!is_quiet).then_some(step)
    }

    fn went(&mut self, told: Told, now_ms: u64) -> Option<GivenUp> {
        let Told { session, next, upto, why, wait_ms, .. } = told;
        let at = match find(&self.lags, session) {
            Ok(at) => at,
            Err(_) if next > upto => return None,
            Err(at) => {
                self.lags.insert(at, untried(session, next, upto));
                at
            }
        };
        let lag = &mut self.lags[at];
        if next > lag.next {
            *lag = untried(session, next, lag.upto);
        }
        let mut given_up = None;
        self.due.remove(&session);
        if let Some(why) = why.map(short) {
            lag.tries = lag.tries.saturating_add(1);
            lag.since_ms = if lag.since_ms == 0 { now_ms } else { lag.since_ms };
            if now_ms.saturating_sub(lag.since_ms) >= self.give_up_ms {
                given_up = Some(GivenUp { session, seq: lag.next, why });
                *lag = untried(session, lag.next + 1, lag.upto);
            } else {
                lag.why = why;
                self.due.insert(session, now_ms + wait_ms.max(pause_ms(lag)));
            }
        }
        if lag.next > lag.upto {
            self.lags.remove(at);
            self.due.remove(&session);
        }
        given_up
    }
}

fn untried(session: SessionId, next: u64, upto: u64) -> Lag {
    Lag { session, next, upto, tries: 0, since_ms: 0, why: String::new() }
}

fn find(lags: &[Lag], session: SessionId) -> Result<usize, usize> {
    lags.binary_search_by_key(&session, |lag| lag.session)
}

/// Twice as long each time, and up to a quarter more, so that sessions that failed together are not tried together.
fn pause_ms(lag: &Lag) -> u64 {
    let pause = PAUSE_MS_MIN.saturating_mul(1 << lag.tries.saturating_sub(1).min(20)).min(PAUSE_MS_MAX);
    pause + pause / 4 * (lag.session.0 % 16) as u64 / 16
}

fn short(mut why: String) -> String {
    why.retain(|c| !c.is_control());
    let mut end = why.len().min(WEBHOOK_WHY_BYTES_MAX);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why.truncate(end);
    why
}
