//! Owns how far a shard has come with each webhook. Does not deliver: the leader's courier does, and says so in the log. Invariant: what
//! the feed holds up to `after` is delivered, waits in a lag, is a dead letter or was dropped and counted.

use crate::apply::Shard;
use crate::cache::Weight;
use crate::journal::Note;
use crate::keys;
use crate::limits::{WEBHOOK_DEAD_MAX, WEBHOOK_LAGS_MAX, WEBHOOK_WHY_BYTES_MAX};
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::{self, Rows, WebhookRow};
use proto::command::Event;
use proto::ids::{SessionId, VisitorId, WebhookId};
use proto::webhook::{DeadLetter, Lag, WebhookChange, WebhookState, WebhookStep};

impl Weight for WebhookRow {
    fn bytes(&self) -> usize {
        let of_lags: usize = self.state.lags.iter().map(|lag| size_of::<Lag>() + lag.why.len()).sum();
        let of_dead: usize = self.state.dead.iter().map(|letter| size_of::<DeadLetter>() + letter.why.len()).sum();
        size_of::<WebhookRow>() + of_lags + of_dead
    }
}

impl Shard {
    pub(crate) fn webhook_change(
        &mut self,
        rows: &dyn Rows,
        id: WebhookId,
        change: WebhookChange,
    ) -> Result<Reply, ApplyError> {
        let known = self.webhook_state(rows, id)?;
        let state = match (change, known) {
            (WebhookChange::Begin, None) => {
                Some(WebhookState { after: self.work.feed.head(), ..WebhookState::default() })
            }
            (WebhookChange::Begin, Some(_)) | (WebhookChange::End, None) => return Ok(Reply::Done),
            (WebhookChange::End, Some(_)) => None,
            (_, None) => return Ok(Reply::Rejected(Refusal::Changed)),
            (WebhookChange::Step(step), Some(mut state)) => {
                if let Some(refusal) = refusal_of(&step, &state, self.work.feed.head()) {
                    return Ok(Reply::Rejected(refusal));
                }
                carry_out(&mut state, *step, self.work.clock_ms);
                Some(state)
            }
            (WebhookChange::Replay { letter }, Some(mut state)) => {
                let wanted = |one: &&mut DeadLetter| letter.is_none_or(|number| one.number == number);
                state.dead.iter_mut().filter(wanted).for_each(|one| one.again = true);
                Some(state)
            }
            (WebhookChange::Forget { letter }, Some(mut state)) => {
                state.dead.retain(|one| one.number != letter);
                Some(state)
            }
        };
        let noted = state.as_ref().map(proto::codec::encode_bare).unwrap_or_default();
        self.work.journal.note_bytes(Note::Webhook, id.0, &noted);
        self.webhooks.put(id, self.work.tick, state.map(|state| WebhookRow { state }));
        Ok(Reply::Done)
    }

    fn webhook_state(&self, rows: &dyn Rows, id: WebhookId) -> Result<Option<WebhookState>, ApplyError> {
        if let Some(known) = self.webhooks.peek(&id) {
            return Ok(known.as_ref().map(|row| row.state.clone()));
        }
        let row: Option<WebhookRow> = rows::read(rows, "webhook", &keys::webhook(id))?;
        let Some(WebhookRow { state }) = row else { return Ok(None) };
        rows::counted("webhook", &[state.version, state.after, state.letters, state.dropped, state.missed])?;
        Ok(Some(state))
    }

    /// How far the shard has come with a webhook, and the last number of its feed. `None`: it has not begun.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn webhook(&self, rows: &dyn Rows, id: WebhookId) -> Result<(Option<WebhookState>, u64), ApplyError> {
        Ok((self.webhook_state(rows, id)?, self.work.feed.head()))
    }

    /// Every webhook that the shard knows of, ascending.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn webhooks(&self, rows: &dyn Rows) -> Result<Vec<WebhookId>, ApplyError> {
        let mut known = std::collections::BTreeSet::new();
        rows.scan(keys::WEBHOOKS, None, false, &mut |key, _| {
            known.extend(keys::last_number(key).map(WebhookId));
            true
        })?;
        for (id, row) in self.webhooks.range(WebhookId(0)) {
            if row.is_some() {
                known.insert(*id);
            } else {
                known.remove(id);
            }
        }
        Ok(known.into_iter().collect())
    }

    /// Up to `limit` events of a session from `next` to `upto`, oldest first, with whose they are. `None`: there is no such session.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn events_between(
        &self,
        rows: &dyn Rows,
        session: SessionId,
        (next, upto): (u64, u64),
        limit: usize,
    ) -> Result<Option<(VisitorId, Vec<Event>)>, ApplyError> {
        let Some(visitor) = self.with_session(rows, session, |session| session.visitor)? else { return Ok(None) };
        let range = crate::HistoryRange::After(next.saturating_sub(1));
        let page = self.history(rows, session, range, limit, crate::limits::BLOCK_BYTES_MAX * 16)?;
        let events = page.into_iter().flat_map(|page| page.events).filter(|event| event.seq <= upto);
        Ok(Some((visitor, events.map(|event| (*event).clone()).collect())))
    }
}

/// Only a leader that was deposed, or a hostile peer, sends such a step.
fn refusal_of(step: &WebhookStep, state: &WebhookState, head: u64) -> Option<Refusal> {
    if step.version != state.version {
        return Some(Refusal::Changed);
    }
    let is_text = |why: &str| why.len() <= WEBHOOK_WHY_BYTES_MAX && !why.chars().any(char::is_control);
    let ascends = step.lags.windows(2).all(|pair| pair[0].session < pair[1].session);
    let is_lag = |lag: &Lag| (1..=lag.upto).contains(&lag.next) && is_text(&lag.why);
    let is_sound = (state.after..=head).contains(&step.after)
        && ascends
        && step.lags.len() <= WEBHOOK_LAGS_MAX
        && step.lags.iter().all(is_lag)
        && step.given_up.len() <= WEBHOOK_LAGS_MAX
        && step.given_up.iter().all(|one| is_text(&one.why))
        && step.missed <= head
        && step.again.iter().flat_map(|(_, why)| why).all(|why| is_text(why));
    (!is_sound).then_some(Refusal::RulesInvalid("a step of a webhook"))
}

fn carry_out(state: &mut WebhookState, step: WebhookStep, now_ms: u64) {
    let WebhookStep { after, lags, given_up, again, missed, .. } = step;
    (state.after, state.lags) = (after, lags);
    state.version += 1;
    state.missed += missed;
    for (number, failed) in again {
        match failed {
            None => state.dead.retain(|letter| letter.number != number),
            Some(why) => {
                for letter in state.dead.iter_mut().filter(|letter| letter.number == number) {
                    (letter.again, letter.why) = (false, why.clone());
                }
            }
        }
    }
    for one in given_up {
        state.letters += 1;
        let (number, session, seq, why) = (state.letters, one.session, one.seq, one.why);
        state.dead.push(DeadLetter { number, session, seq, at_ms: now_ms, why, again: false });
    }
    let over = state.dead.len().saturating_sub(WEBHOOK_DEAD_MAX);
    state.dead.drain(..over);
    state.dropped += over as u64;
}
