//! Owns the e-mails of one shard, for as long as this node leads it: finds in the feed what is to be e-mailed, and sends what is due.
//! Does not keep anything: the log does. Invariant: what was sent is what the log had sealed, and the log forgets it only once the server
//! has taken it.

use super::compose::{self, Facts, MESSAGES_MAX, Site};
use super::present;
use super::sender::{Mailer, NotSent};
use crate::breaker::State;
use crate::push::Hub;
use chat::{EmailCourse, SessionView};
use cluster::meta::MetaState;
use cluster::node::ClusterNode;
use cluster::router::ReplyTo;
use cluster::shard::{Shard, now_ms};
use proto::command::{Command, EventBody, Party, SecretBytes, Target};
use proto::email::{
    Email, EmailChange, EmailFate, EmailFound, EmailKind, EmailRules, EmailStage, EmailStep, EmailTold,
};
use proto::ids::{Epoch, SiteId};
use proto::peer::{ShardCall, ShardReply};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Between two looks while there is nothing to do.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Events are looked at when they are so old: most have been read by then, and cost no word in the log.
const LOOK_BEHIND_MS: u64 = 2_000;
/// Entries of the feed in one look.
const SCAN_MAX: usize = 1_000;
/// Entries of the feed that may pass without a word in the log.
const QUIET_MAX: u64 = 10_000;
/// So long they may while a site writes e-mails: the next leader looks at them again, and hours may have changed.
const QUIET_WITHIN: Duration = Duration::from_secs(30);
/// E-mails that are seen to at once.
const DUE_MAX: usize = 4;
/// While a page of the visitor is open, it is looked again after this: each look is a word in the log.
const PRESENT_AGAIN_MS: u64 = 30_000;
/// When the site has sent as many as it may.
const ROOM_AGAIN_MS: u64 = 60_000;
/// Before the second try; each further pause is twice as long.
const PAUSE_MS_MIN: u64 = 4_000;
/// The longest pause between two tries.
const PAUSE_MS_MAX: u64 = 3_600_000;
/// What nobody tried for so long after its time is sent no more: nobody sent anything then.
const STALE_MS: u64 = 2 * 86_400_000;
/// For so long an e-mail is tried.
const GIVE_UP_MS: u64 = 86_400_000;
/// For so long a dead one is kept.
const DEAD_KEPT_MS: u64 = 7 * 86_400_000;
/// Longest wait for the log.
const LOGGED_WITHIN: Duration = Duration::from_secs(10);
/// Longest wait for what the cluster knows of a site.
const META_WITHIN: Duration = Duration::from_secs(3);
/// Longest wait for a desk.
const DESK_WITHIN: Duration = Duration::from_secs(3);

/// What one postman works with.
struct Postman {
    shard: Arc<Shard>,
    hub: Arc<Hub>,
    node: Arc<ClusterNode>,
    mailer: Arc<Mailer>,
    /// Sites that write e-mails.
    sites: BTreeMap<SiteId, Writes>,
}

/// A site that writes e-mails: its name and rules.
type Writes = (String, EmailRules);

/// How far the feed was read; beyond what the log knows there was nothing.
struct Looked {
    /// Of the last step.
    version: u64,
    upto: u64,
    /// When this node heard of that step.
    since: Instant,
}

/// Runs until it is dropped, or until this node leads the shard no longer.
pub async fn run(shard: Arc<Shard>, epoch: Epoch, hub: Weak<Hub>, mailer: Arc<Mailer>) {
    let mut read = Looked { version: 0, upto: 0, since: Instant::now() };
    let mut untaken = Vec::new();
    while shard.serving() == Some(epoch) {
        let Some(hub) = hub.upgrade() else { return };
        let Some(node) = hub.node() else { return };
        let sites = sites(&node);
        let postman = Postman { shard: shard.clone(), hub, node, mailer: mailer.clone(), sites };
        // What cannot be read of the feed just now keeps nothing from being sent.
        let (found, sent) = (postman.find(&mut read).await, postman.send_due(&mut untaken).await);
        let mut goes_on = false;
        for done in [found, sent] {
            match done {
                Ok(more) => goes_on |= more,
                Err(error) => shard.unreadable(&error),
            }
        }
        drop(postman);
        if !goes_on {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Sites that write e-mails.
fn sites(node: &ClusterNode) -> BTreeMap<SiteId, Writes> {
    let read = |state: &MetaState| {
        let all = state.site_emails.keys();
        all.filter_map(|site| Some((*site, writes(state, *site)?))).collect()
    };
    node.with_meta(read).unwrap_or_default()
}

/// A site's name and rules, if it writes e-mails.
fn writes(state: &MetaState, site: SiteId) -> Option<Writes> {
    let row = state.site_emails.get(&site).filter(|row| row.rules.on)?;
    Some((state.sites.get(&site)?.name.clone(), row.rules.clone()))
}

impl Postman {
    /// Looks through some of the feed; true when there may be more.
    async fn find(&self, read: &mut Looked) -> Result<bool, chat::ApplyError> {
        let EmailCourse { stands, head, .. } = self.shard.peek(|state, rows| state.email_course(rows))?;
        let Some((version, after)) = stands else {
            // From about here on: somebody may have switched e-mails on, and said something, before this first look. What a site said
            // before it did is left out by the time of that.
            let after = head.saturating_sub(SCAN_MAX as u64);
            let step = EmailStep { version: 0, after, missed: 0, found: Vec::new() };
            self.log(EmailChange::Step(Box::new(step))).await;
            return Ok(false);
        };
        if read.version != version {
            *read = Looked { version, upto: after, since: Instant::now() };
        }
        let (next, missed, found) = match self.sites.is_empty() {
            true => (head, 0, Vec::new()),
            false => self.look_through(read.upto).await?,
        };
        let next = next.max(read.upto);
        let is_behind = next >= read.upto + SCAN_MAX as u64 && next < head;
        let is_late = !self.sites.is_empty() && next > after && read.since.elapsed() > QUIET_WITHIN;
        if found.is_empty() && missed == 0 && next.saturating_sub(after) < QUIET_MAX && !is_late {
            read.upto = next;
            return Ok(is_behind);
        }
        metrics::counter!("chat_email_missed_total").increment(missed);
        let step = EmailStep { version, after: next, missed, found };
        Ok(self.log(EmailChange::Step(Box::new(step))).await && is_behind)
    }

    /// A page of the feed: how far it was looked through, how much of it was gone, and what was found.
    async fn look_through(&self, after: u64) -> Result<(u64, u64, Vec<EmailFound>), chat::ApplyError> {
        let is_on = |site: SiteId| self.sites.contains_key(&site);
        let page = self.shard.peek_in_place(|state, rows| state.feed_of(rows, after, SCAN_MAX, is_on))?;
        let (missed, mut found) = (page.first.saturating_sub(after + 1), Vec::new());
        for item in page.events {
            let Some(event) = item.event else { continue };
            if event.ts_ms + LOOK_BEHIND_MS > now_ms() {
                return Ok((item.number - 1, missed, found));
            }
            let Some((_, rules)) = self.sites.get(&item.site) else { continue };
            let EventBody::Message { from, .. } = &event.body else { continue };
            if event.ts_ms < rules.since_ms {
                continue;
            }
            let Some(view) = self.shard.peek(|state, rows| state.session(rows, item.session))? else { continue };
            let (kind, after_s) = match from {
                Party::Agent(_) if rules.missed_after_s > 0 && view.visitor_cursor.read < event.seq => {
                    (EmailKind::Missed, rules.missed_after_s)
                }
                Party::Visitor if !rules.forms_to.is_empty() && has_nobody(&view) => {
                    match self.is_closed(item.site).await {
                        Some(true) => (EmailKind::Form, rules.form_after_s),
                        Some(false) => continue,
                        // Nobody knows just now: it is looked at again.
                        None => return Ok((item.number - 1, missed, found)),
                    }
                }
                _ => continue,
            };
            let (site, session, seq) = (item.site, item.session, event.seq);
            found.push(EmailFound { site, session, kind, seq, due_ms: event.ts_ms + u64::from(after_s) * 1_000 });
        }
        Ok((page.next, missed, found))
    }

    /// Whether the site is outside of its hours; `None`: its desk cannot be asked.
    async fn is_closed(&self, site: SiteId) -> Option<bool> {
        let router = &self.node.router;
        let asked = router.call(router.shard_of(Target::Desk(site)), ShardCall::Hours { site });
        match tokio::time::timeout(DESK_WITHIN, asked).await {
            Ok(ShardReply::Hours { closed }) => Some(closed.is_some()),
            _ => None,
        }
    }

    /// Sees to what is due; true when something was done. `untaken`: what has become of e-mails and the log does not know yet: they are not
    /// seen to again before it does.
    async fn send_due(&self, untaken: &mut Vec<EmailTold>) -> Result<bool, chat::ApplyError> {
        if !untaken.is_empty() {
            let is_taken = self.log(EmailChange::Told(untaken.clone())).await;
            if is_taken {
                untaken.clear();
            }
            return Ok(is_taken);
        }
        let (is_trial, limit) = match self.mailer.state() {
            State::Open(_) => return Ok(false),
            State::Trial => (true, 1),
            State::Closed => (false, DUE_MAX),
        };
        let now = now_ms();
        let due = self.shard.peek(|state, rows| state.emails_due(rows, now, limit))?;
        let seen_to = due.iter().map(|email| self.see_to(email, is_trial));
        let told: Vec<EmailTold> = futures_util::future::join_all(seen_to)
            .await
            .into_iter()
            .zip(&due)
            .filter_map(|(fate, email)| Some((fate?, email)))
            .map(|(fate, email)| EmailTold {
                session: email.session,
                kind: email.kind,
                number: email.number,
                tries: email.tries,
                fate,
            })
            .collect();
        if told.is_empty() {
            return Ok(false);
        }
        let given_up = told.iter().filter(|told| matches!(told.fate, EmailFate::Dead { .. })).count();
        metrics::counter!("chat_email_given_up_total").increment(given_up as u64);
        let is_taken = self.log(EmailChange::Told(told.clone())).await;
        if !is_taken {
            *untaken = told;
        }
        Ok(is_taken)
    }

    /// A site's name and rules, if it writes e-mails; `None`: nobody can say now. What this node knows may be older than the e-mail.
    async fn site_of(&self, site: SiteId) -> Option<Option<Cow<'_, Writes>>> {
        if let Some(known) = self.sites.get(&site) {
            return Some(Some(Cow::Borrowed(known)));
        }
        let read = |state: &MetaState| writes(state, site).map(Cow::Owned);
        self.node.meta_catch_up(META_WITHIN).await.then(|| self.node.with_meta(read).flatten())
    }

    /// What becomes of an e-mail that is due; `None`: nothing yet.
    async fn see_to(&self, email: &Email, is_trial: bool) -> Option<EmailFate> {
        let mailer = &self.mailer;
        let session = email.session;
        let view = self.shard.peek(|state, rows| state.session(rows, session)).ok()?;
        let stand = self.shard.peek(|state, rows| state.email_stand(rows, session)).ok()?;
        let Some(view) = view else { return Some(EmailFate::Over) };
        let Some(writes) = self.site_of(email.site).await? else { return Some(EmailFate::Over) };
        let (name, rules) = writes.as_ref();
        let is_stale = email.tries == 0 && email.due_ms + STALE_MS < now_ms();
        if email.stage == EmailStage::Dead || is_stale {
            return Some(EmailFate::Over);
        }
        if email.kind != EmailKind::Transcript && view.merged_into.is_some() {
            // The visitor and the conversation are elsewhere.
            return Some(EmailFate::Over);
        }
        let is_missed = email.kind == EmailKind::Missed;
        if is_missed && (view.visitor_cursor.read >= email.upto || stand.unsubscribed) {
            return Some(EmailFate::Over);
        }
        if email.stage == EmailStage::Gathers {
            if email.kind == EmailKind::Form && !has_nobody(&view) {
                return Some(EmailFate::Over);
            }
            if is_missed && present::anywhere(&self.hub, &self.node, session).await {
                return Some(EmailFate::Later { due_ms: now_ms() + PRESENT_AGAIN_MS });
            }
            let mut secret = vec![0; chat::limits::EMAIL_SECRET_BYTES];
            getrandom::fill(&mut secret).ok()?;
            return Some(EmailFate::Sealed { secret: SecretBytes(secret) });
        }
        if !mailer.has_room(email.site) {
            return Some(EmailFate::Later { due_ms: now_ms() + ROOM_AGAIN_MS });
        }
        let site = Site { id: email.site, name, rules };
        let Ok(facts) = self.facts(email, &view, stand.secret) else {
            return Some(failed(email, "what was said cannot be read now".to_owned()));
        };
        let message = match compose::write(mailer.from(), &site, email, &facts) {
            None => return Some(EmailFate::Over),
            Some(Err(why)) => return Some(dead(why)),
            Some(Ok(message)) => message,
        };
        // Somebody else finds out whether the server is back.
        if is_trial && !mailer.try_once() {
            return None;
        }
        Some(match mailer.send(message, is_trial).await {
            Ok(()) => EmailFate::Over,
            Err(NotSent { why, is_final: true }) => dead(why),
            Err(NotSent { why, .. }) => failed(email, why),
        })
    }

    /// What the shard knows of what an e-mail is about.
    fn facts(&self, email: &Email, view: &SessionView, secret: Option<SecretBytes>) -> Result<Facts, chat::ApplyError> {
        // Edits come behind what they change; of a transcript, the newest.
        let upto = if email.kind == EmailKind::Transcript { email.upto } else { view.head };
        let first = email.first.max(upto.saturating_sub(MESSAGES_MAX as u64) + 1);
        let mut events = Vec::new();
        let mut next = first;
        while next <= upto {
            let page = self
                .shard
                .peek_in_place(|state, rows| state.events_between(rows, email.session, (next, upto), SCAN_MAX))?;
            let page = page.map(|(_, events)| events).unwrap_or_default();
            let Some(last) = page.last() else { break };
            next = last.seq + 1;
            events.extend(page);
        }
        let (attributes, facts) = (view.attributes.clone(), view.facts.clone());
        Ok(Facts { events, cut: first > email.first, read: view.visitor_cursor.read, attributes, facts, secret })
    }

    /// Has the log take a change; false when it did not, or nobody knows.
    async fn log(&self, change: EmailChange) -> bool {
        let (tell, told) = oneshot::channel();
        self.shard.propose(&Command::Email { change }, ReplyTo::Once(tell));
        matches!(tokio::time::timeout(LOGGED_WITHIN, told).await, Ok(Ok(ShardReply::Done)))
    }
}

/// No agent has the conversation.
fn has_nobody(view: &SessionView) -> bool {
    view.open.is_none_or(|open| open.agent.is_none())
}

fn dead(why: String) -> EmailFate {
    EmailFate::Dead { why, due_ms: now_ms() + DEAD_KEPT_MS }
}

fn failed(email: &Email, why: String) -> EmailFate {
    let now = now_ms();
    if email.since_ms > 0 && now.saturating_sub(email.since_ms) >= GIVE_UP_MS {
        return dead(why);
    }
    EmailFate::Failed { why, due_ms: now + pause_ms(email) }
}

/// Twice as long each time, and up to a quarter more, so that those that failed together are not tried together.
fn pause_ms(email: &Email) -> u64 {
    let pause = PAUSE_MS_MIN.saturating_mul(1 << email.tries.min(20)).min(PAUSE_MS_MAX);
    pause + pause / 4 * (email.number % 16) / 16
}
