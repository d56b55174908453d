//! Owns the e-mails that wait in a shard: which there are, how far each has come, and who wants none. Does not write or send them: the
//! leader's postman does, and says so in the log. Invariant: an event of the feed is looked at once; what was found stays until it was
//! delivered, was not needed any more, or is dead; and what stands in an e-mail does not change once it is sealed.

use crate::apply::{Shard, Work};
use crate::cache::{Table, Weight};
use crate::journal::Note;
use crate::keys;
use crate::limits::{
    EMAIL_ADDRESS_BYTES_MAX, EMAIL_ASKS_PER_HOUR_MAX, EMAIL_ASKS_UNLIMITED_MAX, EMAIL_FOUND_MAX, EMAIL_SECRET_BYTES,
    EMAIL_WHY_BYTES_MAX, EMAILS_MAX, EMAILS_OF_SITE_MAX,
};
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::{self, Changes, EmailCourseRow, EmailRow, EmailStandRow, Rows, corrupt};
use proto::command::SecretBytes;
use proto::email::{Email, EmailChange, EmailFate, EmailFound, EmailKind, EmailStage, EmailStep, EmailTold};
use proto::ids::{SessionId, SiteId};
use std::collections::BTreeMap;

const HOUR_MS: u64 = 3_600_000;

/// Whose, which kind, which number.
pub(crate) type EmailKey = (SessionId, EmailKind, u64);

/// How far a shard has come with its feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmailCourse {
    /// `None`: it has not begun.
    pub stands: Option<(u64, u64)>,
    /// The last number of the feed.
    pub head: u64,
    pub missed: u64,
}

/// What is known of a visitor's wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EmailStand {
    pub unsubscribed: bool,
    /// Proves who clicks; `None`: no e-mail was sealed yet.
    pub secret: Option<SecretBytes>,
}

impl Weight for EmailRow {
    fn bytes(&self) -> usize {
        size_of::<EmailRow>() + self.email.to.len() + self.email.why.len()
    }
}

impl Weight for EmailStandRow {
    fn bytes(&self) -> usize {
        size_of::<EmailStandRow>() + self.secret.0.len() + self.asked.len() * 24
    }
}

impl Weight for EmailCourseRow {
    fn bytes(&self) -> usize {
        size_of::<EmailCourseRow>()
    }
}

/// Those that wait are all in memory once anybody asked; there are not many.
pub(crate) struct Emails {
    waiting: Table<EmailKey, Option<EmailRow>>,
    stands: Table<SessionId, Option<EmailStandRow>>,
    course: Table<(), EmailCourseRow>,
    is_loaded: bool,
    /// How many of each site.
    counts: BTreeMap<SiteId, usize>,
    /// How many in all: a full shard asks for each that is found.
    count: usize,
}

impl Emails {
    pub(crate) fn new() -> Emails {
        Emails {
            waiting: Table::new(),
            stands: Table::new(),
            course: Table::new(),
            is_loaded: false,
            counts: BTreeMap::new(),
            count: 0,
        }
    }

    fn load(&mut self, rows: &dyn Rows, tick: u64) -> Result<(), ApplyError> {
        if self.is_loaded {
            return Ok(());
        }
        let mut broken = None;
        rows.scan(keys::EMAILS, None, false, &mut |_, value| {
            match rows::decode::<EmailRow>("email", value) {
                Ok(row) => {
                    let key = (row.email.session, row.email.kind, row.email.number);
                    self.waiting.fill(key, tick, Some(row));
                }
                Err(error) => broken = Some(error),
            }
            broken.is_none()
        })?;
        let mut counts = BTreeMap::new();
        self.live().for_each(|email| *counts.entry(email.site).or_default() += 1);
        self.count = counts.values().sum();
        self.counts = counts;
        self.is_loaded = broken.is_none();
        broken.map_or(Ok(()), Err)
    }

    fn live(&self) -> impl Iterator<Item = &Email> {
        let from = (SessionId(0), EmailKind::Missed, 0);
        self.waiting.range(from).filter_map(|(_, row)| row.as_ref().map(|row| &row.email))
    }

    fn of_session(&self, session: SessionId) -> impl Iterator<Item = &Email> {
        let rows = self.waiting.range((session, EmailKind::Missed, 0)).take_while(move |(key, _)| key.0 == session);
        rows.filter_map(|(_, row)| row.as_ref().map(|row| &row.email))
    }

    fn put(&mut self, tick: u64, email: Email) {
        let key = (email.session, email.kind, email.number);
        if self.waiting.peek(&key).is_none_or(Option::is_none) {
            *self.counts.entry(email.site).or_default() += 1;
            self.count += 1;
        }
        self.waiting.put(key, tick, Some(EmailRow { email }));
    }

    fn remove(&mut self, tick: u64, key: EmailKey) {
        let known = self.waiting.peek(&key).and_then(Option::as_ref).map(|row| row.email.site);
        if let Some(site) = known {
            let count = self.counts.entry(site).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&site);
            }
            self.count = self.count.saturating_sub(1);
            self.waiting.put(key, tick, None);
        }
    }

    /// No site takes the places of all others.
    fn is_full(&self, site: SiteId) -> bool {
        let of_site = self.counts.get(&site).copied().unwrap_or(0);
        of_site >= EMAILS_OF_SITE_MAX || self.count >= EMAILS_MAX
    }

    fn course(&self, rows: &dyn Rows) -> Result<Option<EmailCourseRow>, ApplyError> {
        if let Some(known) = self.course.peek(&()) {
            return Ok(Some(*known));
        }
        let row: Option<EmailCourseRow> = rows::read(rows, "email course", keys::EMAIL_COURSE)?;
        let counted = row.map_or([0; 4], |row| [row.version, row.after, row.numbers, row.missed]);
        rows::counted("email course", &counted)?;
        Ok(row)
    }

    pub(crate) fn stand(&self, rows: &dyn Rows, session: SessionId) -> Result<EmailStandRow, ApplyError> {
        if let Some(known) = self.stands.peek(&session) {
            return Ok(known.clone().unwrap_or_default());
        }
        let row: Option<EmailStandRow> = rows::read(rows, "email stand", &keys::email_stand(session))?;
        let row = row.unwrap_or_default();
        if row.asked.len() > EMAIL_ASKS_UNLIMITED_MAX {
            return Err(corrupt("email stand", "somebody asked more often than anybody may"));
        }
        Ok(row)
    }

    /// Nothing of the visitor stays.
    pub(crate) fn forget(&mut self, rows: &dyn Rows, work: &mut Work, session: SessionId) -> Result<(), ApplyError> {
        self.load(rows, work.tick)?;
        let keys: Vec<EmailKey> = self.of_session(session).map(|email| (session, email.kind, email.number)).collect();
        for key in keys {
            work.journal.note_session(Note::Email, session, &[key.2]);
            self.remove(work.tick, key);
        }
        if self.stand(rows, session)? != EmailStandRow::default() {
            self.stands.put(session, work.tick, None);
        }
        Ok(())
    }

    pub(crate) fn save(&mut self, out: &mut Changes) {
        self.waiting.begin_checkpoint(|key, row| out.push((keys::email(key), row.as_ref().map(proto::codec::encode))));
        self.stands.begin_checkpoint(|session, row| {
            out.push((keys::email_stand(session), row.as_ref().map(proto::codec::encode)));
        });
        self.course.begin_checkpoint(|(), row| rows::save(out, keys::EMAIL_COURSE.to_vec(), row));
    }

    pub(crate) fn saved(&mut self, written: bool) {
        self.waiting.end_checkpoint(written, |_| ());
        self.stands.end_checkpoint(written, |_| ());
        self.course.end_checkpoint(written, |_| ());
    }

    pub(crate) fn droppable(&self, uses: &mut Vec<(u64, usize)>) {
        self.stands.droppable(uses);
    }

    pub(crate) fn drop_unused(&mut self, used: u64) {
        self.stands.drop_unused(used, |_| ());
    }

    pub(crate) fn bytes(&self) -> usize {
        self.waiting.bytes() + self.stands.bytes() + self.course.bytes()
    }

    pub(crate) fn dirty_bytes(&self) -> usize {
        self.waiting.dirty_bytes() + self.stands.dirty_bytes() + self.course.dirty_bytes()
    }

    #[cfg(test)]
    pub(crate) fn recount(&self) -> usize {
        self.waiting.recount() + self.stands.recount() + self.course.recount()
    }
}

impl Shard {
    pub(crate) fn email_change(&mut self, rows: &dyn Rows, change: EmailChange) -> Result<Reply, ApplyError> {
        let tick = self.work.tick;
        self.emails.load(rows, tick)?;
        match change {
            EmailChange::Step(step) => self.email_step(rows, *step),
            EmailChange::Told(told) => {
                for one in told {
                    self.email_told(rows, one)?;
                }
                Ok(Reply::Done)
            }
            EmailChange::Ask { session, id, to, limited } => self.email_asked(rows, session, id, to, limited),
            EmailChange::Unsubscribe { session, secret } => {
                let stand = self.emails.stand(rows, session)?;
                if !is_same(&stand.secret, &secret) {
                    return Ok(Reply::Rejected(Refusal::TargetInvalid));
                }
                self.put_stand(session, EmailStandRow { unsubscribed: true, ..stand });
                Ok(Reply::Done)
            }
            EmailChange::Again { session, number } => self.email_dead(session, number, true),
            EmailChange::Forget { session, number } => self.email_dead(session, number, false),
        }
    }

    pub(crate) fn put_stand(&mut self, session: SessionId, stand: EmailStandRow) {
        let noted = proto::codec::encode_bare(&stand);
        self.work.journal.note_session(Note::Email, session, &[0]);
        self.work.journal.note_bytes(Note::Email, 0, &noted);
        self.emails.stands.put(session, self.work.tick, Some(stand));
    }

    fn put_email(&mut self, email: Email) {
        self.work.journal.note_bytes(Note::Email, email.number, &proto::codec::encode_bare(&email));
        self.emails.put(self.work.tick, email);
    }

    fn remove_email(&mut self, key: EmailKey) {
        self.work.journal.note_session(Note::Email, key.0, &[key.2]);
        self.emails.remove(self.work.tick, key);
    }

    fn put_course(&mut self, course: EmailCourseRow) {
        let EmailCourseRow { version, after, numbers, missed } = course;
        self.work.journal.note(Note::Email, &[version, after, numbers, missed]);
        self.emails.course.put((), self.work.tick, course);
    }

    fn email_step(&mut self, rows: &dyn Rows, step: EmailStep) -> Result<Reply, ApplyError> {
        let mut course = self.emails.course(rows)?.unwrap_or_default();
        let head = self.work.feed.head();
        if step.version != course.version {
            return Ok(Reply::Rejected(Refusal::Changed));
        }
        let is_sound = (course.after..=head).contains(&step.after)
            && step.missed <= head
            && step.found.len() <= EMAIL_FOUND_MAX
            && step.found.iter().all(|found| found.kind != EmailKind::Transcript && found.seq > 0);
        if !is_sound {
            return Ok(Reply::Rejected(Refusal::RulesInvalid("a step of e-mails")));
        }
        course.version += 1;
        course.after = step.after;
        course.missed += step.missed;
        for EmailFound { site, session, kind, seq, due_ms } in step.found {
            let gathers = |email: &&Email| email.kind == kind && email.stage == EmailStage::Gathers;
            let known = self.emails.of_session(session).find(gathers).cloned();
            if let Some(known) = known {
                self.put_email(Email { upto: known.upto.max(seq), ..known });
                continue;
            }
            if self.emails.is_full(site) {
                course.missed += 1;
                continue;
            }
            course.numbers += 1;
            let stage = EmailStage::Gathers;
            self.put_email(Email { stage, due_ms, ..new(site, session, kind, course.numbers, (seq, seq)) });
        }
        self.put_course(course);
        Ok(Reply::Done)
    }

    fn email_told(&mut self, rows: &dyn Rows, told: EmailTold) -> Result<(), ApplyError> {
        let key = (told.session, told.kind, told.number);
        let known = self.emails.waiting.peek(&key).cloned().flatten().map(|row| row.email);
        // Another leader, or somebody by hand, was faster.
        let Some(email) = known.filter(|email| email.tries == told.tries) else { return Ok(()) };
        let since_ms = if email.since_ms == 0 { self.work.clock_ms } else { email.since_ms };
        let (tries, why_of) = (email.tries.saturating_add(1), short);
        match told.fate {
            EmailFate::Over => self.remove_email(key),
            EmailFate::Later { due_ms } => self.put_email(Email { due_ms, ..email }),
            EmailFate::Failed { why, due_ms } => {
                self.put_email(Email { due_ms, since_ms, tries, why: why_of(why), ..email });
            }
            EmailFate::Dead { why, due_ms } => {
                let stage = EmailStage::Dead;
                self.put_email(Email { due_ms, since_ms, tries, why: why_of(why), stage, ..email });
            }
            EmailFate::Sealed { secret } => {
                let stand = self.emails.stand(rows, told.session)?;
                if stand.secret.0.is_empty() && secret.0.len() == EMAIL_SECRET_BYTES {
                    self.put_stand(told.session, EmailStandRow { secret, ..stand });
                }
                if email.stage == EmailStage::Gathers {
                    self.put_email(Email { stage: EmailStage::Sealed, ..email });
                }
            }
        }
        Ok(())
    }

    fn email_asked(
        &mut self,
        rows: &dyn Rows,
        session: SessionId,
        id: u128,
        to: String,
        limited: bool,
    ) -> Result<Reply, ApplyError> {
        let found = self.with_session(rows, session, |session| (session.site, session.log.head()))?;
        let Some((site, head)) = found else { return Ok(Reply::Rejected(Refusal::UnknownSession)) };
        if to.len() > EMAIL_ADDRESS_BYTES_MAX || to.chars().any(char::is_control) {
            return Ok(Reply::Rejected(Refusal::RulesInvalid("an e-mail address")));
        }
        let mut stand = self.emails.stand(rows, session)?;
        if stand.asked.iter().any(|(_, known)| *known == id) {
            return Ok(Reply::Done);
        }
        let now_ms = self.work.clock_ms;
        stand.asked.retain(|(at_ms, _)| now_ms.saturating_sub(*at_ms) < HOUR_MS);
        let max = if limited { EMAIL_ASKS_PER_HOUR_MAX } else { EMAIL_ASKS_UNLIMITED_MAX };
        if stand.asked.len() >= max || self.emails.is_full(site) {
            return Ok(Reply::Rejected(Refusal::LimitReached("transcripts by e-mail")));
        }
        if head == 0 {
            return Ok(Reply::Rejected(Refusal::TargetInvalid));
        }
        stand.asked.push((now_ms, id));
        self.put_stand(session, stand);
        let mut course = self.emails.course(rows)?.unwrap_or_default();
        course.numbers += 1;
        let kind = EmailKind::Transcript;
        self.put_email(Email { to, due_ms: now_ms, ..new(site, session, kind, course.numbers, (1, head)) });
        // The version stays: this is no step through the feed.
        self.put_course(course);
        Ok(Reply::Done)
    }

    fn email_dead(&mut self, session: SessionId, number: u64, again: bool) -> Result<Reply, ApplyError> {
        let is_it = |email: &&Email| email.number == number && email.stage == EmailStage::Dead;
        let Some(email) = self.emails.of_session(session).find(is_it).cloned() else { return Ok(Reply::Done) };
        if again {
            let due_ms = self.work.clock_ms;
            // The count goes on: what was told of earlier tries is not of these.
            self.put_email(Email { stage: EmailStage::Sealed, due_ms, since_ms: 0, ..email });
        } else {
            self.remove_email((session, email.kind, number));
        }
        Ok(Reply::Done)
    }

    /// Those about which something is to be done by then, at most `limit`, by when it was.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn emails_due(&mut self, rows: &dyn Rows, now_ms: u64, limit: usize) -> Result<Vec<Email>, ApplyError> {
        self.emails.load(rows, self.work.tick)?;
        let mut due: Vec<&Email> = self.emails.live().filter(|email| email.due_ms <= now_ms).collect();
        due.sort_by_key(|email| (email.due_ms, email.number));
        Ok(due.into_iter().take(limit).cloned().collect())
    }

    /// What waits of a site's e-mails, and what could not be delivered, oldest first, at most `limit`; and how many there are.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn emails(&mut self, rows: &dyn Rows, site: SiteId, limit: usize) -> Result<(Vec<Email>, u64), ApplyError> {
        self.emails.load(rows, self.work.tick)?;
        let mut all: Vec<&Email> = self.emails.live().filter(|email| email.site == site).collect();
        all.sort_by_key(|email| email.number);
        Ok((all.iter().take(limit).map(|email| (*email).clone()).collect(), all.len() as u64))
    }

    /// E-mails that wait, and dead ones.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn emails_count(&mut self, rows: &dyn Rows) -> Result<(usize, usize), ApplyError> {
        self.emails.load(rows, self.work.tick)?;
        let dead = self.emails.live().filter(|email| email.stage == EmailStage::Dead).count();
        Ok((self.emails.count - dead, dead))
    }

    /// How far the shard has come with its feed.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn email_course(&self, rows: &dyn Rows) -> Result<EmailCourse, ApplyError> {
        let row = self.emails.course(rows)?;
        let stands = row.filter(|row| row.version > 0).map(|row| (row.version, row.after));
        Ok(EmailCourse { stands, head: self.work.feed.head(), missed: row.map_or(0, |row| row.missed) })
    }

    /// What is known of a visitor's wishes.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn email_stand(&self, rows: &dyn Rows, session: SessionId) -> Result<EmailStand, ApplyError> {
        let EmailStandRow { unsubscribed, secret, .. } = self.emails.stand(rows, session)?;
        Ok(EmailStand { unsubscribed, secret: (!secret.0.is_empty()).then_some(secret) })
    }
}

fn new(site: SiteId, session: SessionId, kind: EmailKind, number: u64, (first, upto): (u64, u64)) -> Email {
    let (to, why, stage) = (String::new(), String::new(), EmailStage::Sealed);
    Email { site, session, kind, number, first, upto, to, due_ms: 0, since_ms: 0, tries: 0, why, stage }
}

/// In a time that does not depend on where they differ.
fn is_same(known: &SecretBytes, told: &SecretBytes) -> bool {
    let differing = known.0.iter().zip(&told.0).fold(0, |differing, (a, b)| differing | (a ^ b));
    std::hint::black_box(differing) == 0 && known.0.len() == EMAIL_SECRET_BYTES && told.0.len() == EMAIL_SECRET_BYTES
}

fn short(mut why: String) -> String {
    why.retain(|c| !c.is_control());
    let mut end = why.len().min(EMAIL_WHY_BYTES_MAX);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why.truncate(end);
    why
}
