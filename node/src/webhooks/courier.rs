//! Owns one webhook in one shard, for as long as this node leads it: takes events, sends them, and has the log say so. Does not choose
//! them. Invariant: the log says that an event was delivered only once the receiver has said so.

use super::Target;
use super::signature::sign;
use crate::breaker::State;
use crate::connection::client_event;
use chat::courier::{Courier, Parcel, Told, What};
use cluster::router::ReplyTo;
use cluster::shard::{Shard, now_ms};
use proto::client;
use proto::command::{Command, Event};
use proto::ids::{Epoch, SessionId, VisitorId};
use proto::peer::ShardReply;
use proto::webhook::WebhookChange;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Between two looks while there is nothing to do.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Behind this no further delivery is begun before the log knows of those that were.
const ROUND: Duration = Duration::from_secs(10);
/// Longest time that one delivery takes.
const DELIVERY_WITHIN: Duration = Duration::from_secs(15);
/// Before it is tried again what rows or log refused.
const AFTER_A_FAULT: Duration = Duration::from_secs(1);
/// Longest wait for the log.
const LOGGED_WITHIN: Duration = Duration::from_secs(10);
/// About so many bytes of events are taken at once.
const BYTES_MAX: usize = 1 << 20;
/// Events of one session that lags, and dead letters, taken at once.
const LATE_MAX: usize = 32;

/// Runs until it is dropped, or until this node leads the shard no longer.
pub async fn run(shard: Arc<Shard>, epoch: Epoch, target: Arc<Target>) {
    let mut courier = None;
    while shard.serving() == Some(epoch) {
        match round(&shard, &target, &mut courier).await {
            Ok(true) => {}
            Ok(false) => tokio::time::sleep(LOOK_EVERY).await,
            // Of the archive its readers are told; the feed waits for it.
            Err(error) => {
                shard.unreadable(&error);
                courier = None;
                tokio::time::sleep(AFTER_A_FAULT).await;
            }
        }
    }
}

/// One round; true when there may be more to do at once.
async fn round(
    shard: &Arc<Shard>,
    target: &Arc<Target>,
    courier: &mut Option<Courier>,
) -> Result<bool, chat::ApplyError> {
    let state = match shard.peek(|state, rows| state.webhook(rows, target.id))? {
        (Some(state), _) => state,
        (None, _) => {
            log(shard, target, WebhookChange::Begin).await;
            return Ok(false);
        }
    };
    // While the receiver is left alone, nothing is taken.
    let is_trial = match target.breaker.lock().state(Instant::now()) {
        State::Open(_) => return Ok(false),
        State::Trial => true,
        State::Closed => false,
    };
    if is_trial && !target.breaker.lock().try_once(Instant::now(), DELIVERY_WITHIN) {
        return Ok(false);
    }
    let mut active = match courier.take() {
        Some(mut known) => {
            known.refresh(state);
            known
        }
        None => Courier::new(state, u64::from(target.row.rules.give_up_s) * 1_000),
    };
    let (parcels, lost, is_behind) = match take(shard, target, &mut active, is_trial) {
        Ok(taken) => taken,
        Err(error) => {
            if is_trial {
                target.breaker.lock().give_back(Instant::now());
            }
            return Err(error);
        }
    };
    if is_trial && parcels.iter().all(|parcel| parcel.events.is_empty()) {
        target.breaker.lock().give_back(Instant::now());
    }
    let until = Instant::now() + ROUND;
    let sent = parcels.into_iter().map(|parcel| deliver(target, parcel, until, is_trial));
    let mut told = futures_util::future::join_all(sent).await;
    told.extend(lost);
    let goes_on = is_behind || !told.is_empty();
    if let Some(step) = active.step(told, now_ms()) {
        metrics::counter!("chat_webhook_given_up_total").increment(step.given_up.len() as u64);
        metrics::counter!("chat_webhook_missed_total").increment(step.missed);
        if !log(shard, target, WebhookChange::Step(Box::new(step))).await {
            // What the log does not know is done again, by a courier that begins where the log is.
            tokio::time::sleep(AFTER_A_FAULT).await;
            return Ok(false);
        }
    }
    *courier = Some(active);
    Ok(goes_on)
}

/// What is to be sent now, and whether the feed holds more. `is_trial`: one event.
fn take(
    shard: &Shard,
    target: &Target,
    courier: &mut Courier,
    is_trial: bool,
) -> Result<(Vec<Parcel>, Vec<Told>, bool), chat::ApplyError> {
    let wants = |event: &Event| target.wants(event);
    let few = |limit: usize| if is_trial { 1 } else { limit };
    // What waited comes first: while the receiver is slow, there may be no time for more.
    let (mut parcels, mut lost, mut is_behind) = (Vec::new(), Vec::new(), false);
    let is_full = |parcels: &[Parcel]| is_trial && !parcels.is_empty();
    for (session, next, upto) in courier.late(now_ms()) {
        if is_full(&parcels) {
            break;
        }
        let Some((mut parcel, _)) = late(shard, What::Late, session, (next, upto), few(LATE_MAX))? else { continue };
        parcel.events.retain(wants);
        parcels.push(parcel);
    }
    for (number, session, seq) in courier.again().into_iter().take(LATE_MAX) {
        if is_full(&parcels) {
            break;
        }
        match late(shard, What::Dead(number), session, (seq, seq), 1)? {
            Some((parcel, false)) => parcels.push(parcel),
            Some((_, true)) => lost.push(unreadable(number, session, seq)),
            None => {}
        }
    }
    if let Some((after, limit)) = courier.wants().filter(|_| !is_full(&parcels)) {
        let site = target.row.site;
        let page = shard.peek_in_place(|state, rows| state.feed(rows, site, after, few(limit), BYTES_MAX))?;
        is_behind = page.next < page.head;
        parcels.extend(courier.take(page, wants));
    }
    Ok((parcels, lost, is_behind))
}

/// A dead letter that nobody can read any more stays dead.
fn unreadable(number: u64, session: SessionId, seq: u64) -> Told {
    let why = Some("the archive does not have the event any more".to_owned());
    Told { what: What::Dead(number), session, next: seq, upto: seq, why, wait_ms: 0 }
}

/// Events of a session that waited, and whether any of them is lost. Those of a session that is gone are nobody's any more. `None`: the archive
/// does not give them now, and others need not wait for that.
fn late(
    shard: &Shard,
    what: What,
    session: SessionId,
    (next, upto): (u64, u64),
    limit: usize,
) -> Result<Option<(Parcel, bool)>, chat::ApplyError> {
    let read =
        |state: &mut chat::Shard, rows: &dyn chat::Rows| state.events_between(rows, session, (next, upto), limit);
    let (found, is_lost) = match shard.peek_telling(read) {
        Err(chat::ApplyError::Archived(_)) => return Ok(None),
        found => found?,
    };
    let (visitor, events) = found.unwrap_or_default();
    let upto = events.last().map_or(upto, |event| event.seq);
    Ok(Some((Parcel { what, session, visitor, events, upto }, is_lost)))
}

/// Sends the events of a parcel one after the other, until one fails.
async fn deliver(target: &Target, parcel: Parcel, until: Instant, is_trial: bool) -> Told {
    let Parcel { what, session, visitor, events, upto } = parcel;
    let told = |next: u64, why: Option<String>, wait: Duration| {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(0);
        Told { what, session, next, upto, why, wait_ms }
    };
    for event in events {
        let _place = target.in_flight.acquire().await;
        let is_left_alone = !is_trial && target.breaker.lock().state(Instant::now()) != State::Closed;
        if is_left_alone || Instant::now() >= until {
            return told(event.seq, None, Duration::ZERO);
        }
        if let Err(failed) = target.send(session, visitor, &event, is_trial).await {
            return told(event.seq, Some(failed.why), failed.wait);
        }
    }
    told(upto + 1, None, Duration::ZERO)
}

/// Has the log take a change; false when it did not, or nobody knows.
async fn log(shard: &Arc<Shard>, target: &Target, change: WebhookChange) -> bool {
    let (tell, told) = oneshot::channel();
    shard.propose(&Command::Webhook { webhook: target.id, change }, ReplyTo::Once(tell));
    matches!(tokio::time::timeout(LOGGED_WITHIN, told).await, Ok(Ok(ShardReply::Done)))
}

/// The body of a delivery.
#[derive(Serialize)]
struct Body<'a> {
    /// The same for the same event, for ever.
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    /// When it happened, milliseconds since 1970.
    timestamp: u64,
    /// The site's name.
    site: &'a str,
    visitor: VisitorId,
    /// As agents get it: see the client protocol, `event`.
    event: client::Event<'a>,
}

impl Target {
    fn wants(&self, event: &Event) -> bool {
        let kinds = &self.row.rules.kinds;
        // Most want every kind, and telling it copies an act.
        if kinds.is_empty() {
            return true;
        }
        let kind = client_event(SessionId(0), VisitorId(0), event, true).kind.name();
        kinds.iter().any(|wanted| wanted == kind)
    }

    async fn send(
        &self,
        session: SessionId,
        visitor: VisitorId,
        event: &Event,
        is_trial: bool,
    ) -> Result<(), crate::egress::Failed> {
        let id = proto::feed::event_id(session, event.seq);
        let seen = client_event(session, visitor, event, true);
        let kind = seen.kind.name();
        let body = Body { id: &id, kind, timestamp: event.ts_ms, site: &self.site, visitor, event: seen };
        let body = serde_json::to_string(&body).expect("events are plain data");
        let at_ms = now_ms();
        let started = Instant::now();
        let failed = |why: &str| crate::egress::Failed { why: why.to_owned(), wait: Duration::ZERO };
        let known =
            self.node.upgrade().and_then(|node| node.with_meta(|state| state.webhook_secrets.get(&self.id).cloned()));
        let Some(secrets) = known.flatten() else { return Err(failed("there is no secret to sign it")) };
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (WEBHOOK_ID.clone(), plain(&id)),
            (WEBHOOK_TIMESTAMP.clone(), plain(&(at_ms / 1_000).to_string())),
            (WEBHOOK_SIGNATURE.clone(), plain(&sign(&secrets, &id, at_ms, &body))),
        ]);
        let url = self.row.rules.url.parse();
        let sent = match url {
            Ok(url) => self.egress.post(url, headers, body).await,
            Err(_) => Err(failed("the address is no URL")),
        };
        self.breaker.lock().tell(Instant::now(), sent.is_ok(), is_trial);
        let result = if sent.is_ok() { "delivered" } else { "failed" };
        metrics::counter!("chat_webhook_deliveries_total", "result" => result).increment(1);
        metrics::histogram!("chat_webhook_delivery_seconds").record(started.elapsed().as_secs_f64());
        sent
    }
}

static WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
static WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
static WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

fn plain(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("ids, numbers and signatures are plain text")
}
