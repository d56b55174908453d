//! Owns a site's e-mails as its administrators see and set them. Does not write or send them: see `crate::email`. Invariant: what is set
//! holds for what is said from then on.

use super::conversations::{OfSession, call_session, own};
use crate::admin::problem::Problem;
use crate::admin::sessions::{call_shard, known};
use crate::admin::{Answer, Tenant, catch_up, propose};
use crate::email::{self, Site, address, site_of};
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Json, Path};
use chat::limits::EMAIL_ADDRESS_BYTES_MAX;
use cluster::shard::now_ms;
use proto::command::{Command, MetaCommand, SiteChange};
use proto::email::{Email, EmailChange, EmailKind, EmailLanguage, EmailRules, EmailStage};
use proto::ids::{SessionId, SiteId};
use proto::peer::{ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

/// A message counts as missed after this, unless the site says otherwise, in seconds.
const MISSED_AFTER_S: u32 = 600;
/// Messages that are left are gathered for so long, unless the site says otherwise, in seconds.
const FORM_AFTER_S: u32 = 60;
/// Shortest and longest such times, in seconds.
const AFTER_S: std::ops::RangeInclusive<u32> = 2..=604_800;
/// E-mails of one answer, of each shard.
const QUEUE_MAX: u32 = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Language {
    #[serde(rename = "en")]
    English,
    #[serde(rename = "zh")]
    Chinese,
}

/// What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MailBody {
    #[serde(default)]
    pub on: Option<bool>,
    /// A message of an agent that the visitor has not read for so many seconds is e-mailed while no page is open; 0: never.
    #[serde(default)]
    #[schema(maximum = 604800)]
    pub missed_after_s: Option<u32>,
    /// Where messages go that are left while the site is closed; empty: nowhere.
    #[serde(default)]
    #[schema(max_length = 254)]
    pub forms_to: Option<String>,
    /// They are gathered for so many seconds.
    #[serde(default)]
    #[schema(minimum = 2, maximum = 604800)]
    pub form_after_s: Option<u32>,
    /// Whose name e-mails bear; empty: the site's.
    #[serde(default)]
    #[schema(max_length = 254)]
    pub sender: Option<String>,
    /// Under which people reach this service from outside, e.g. `https://chat.example.com`. Missed messages need it.
    #[serde(default)]
    #[schema(max_length = 254)]
    pub base_url: Option<String>,
    /// Of what the program itself writes; a visitor's page that says `language` comes before it.
    #[serde(default)]
    pub language: Option<Language>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MailView {
    pub on: bool,
    pub missed_after_s: u32,
    pub forms_to: String,
    pub form_after_s: u32,
    pub sender: String,
    pub base_url: String,
    pub language: Language,
    /// This node has an SMTP server. Those that have none leave e-mails to others.
    pub can_send: bool,
}

fn rules_of(app: &App, site: SiteId) -> Result<EmailRules, Problem> {
    let (_, rules) = site_of(app, site)?;
    if rules == EmailRules::default() {
        return Ok(EmailRules { missed_after_s: MISSED_AFTER_S, form_after_s: FORM_AFTER_S, ..rules });
    }
    Ok(rules)
}

pub async fn show(app: Data<App>, Tenant(site): Tenant) -> Answer<MailView> {
    let EmailRules { on, missed_after_s, forms_to, form_after_s, sender, base_url, language, .. } =
        rules_of(&app, site)?;
    let language = match language {
        EmailLanguage::English => Language::English,
        EmailLanguage::Chinese => Language::Chinese,
    };
    let can_send = app.mailer.is_some();
    Ok(Json(MailView { on, missed_after_s, forms_to, form_after_s, sender, base_url, language, can_send }))
}

pub async fn set(app: Data<App>, tenant: Tenant, body: Json<MailBody>) -> Answer<MailView> {
    let (site, body) = (tenant.0, body.into_inner());
    let before = rules_of(&app, site)?;
    let mut rules = before.clone();
    rules.on = body.on.unwrap_or(rules.on);
    rules.missed_after_s = body.missed_after_s.unwrap_or(rules.missed_after_s);
    rules.form_after_s = body.form_after_s.unwrap_or(rules.form_after_s);
    rules.forms_to = body.forms_to.unwrap_or(rules.forms_to);
    rules.sender = body.sender.unwrap_or(rules.sender);
    rules.base_url = body.base_url.unwrap_or(rules.base_url);
    rules.language = match body.language {
        None => rules.language,
        Some(Language::English) => EmailLanguage::English,
        Some(Language::Chinese) => EmailLanguage::Chinese,
    };
    fault_of(&rules).map_or(Ok(()), |fault| Err(Problem::bad_request(fault)))?;
    let begins = |is: fn(&EmailRules) -> bool| is(&rules) && !is(&before);
    if begins(|rules| rules.on)
        || begins(|rules| rules.missed_after_s > 0)
        || begins(|rules| !rules.forms_to.is_empty())
    {
        rules.since_ms = now_ms();
    }
    propose(&app, MetaCommand::ConfigureSite { site, change: SiteChange::Email { rules } }).await?;
    catch_up(&app).await;
    show(app, tenant).await
}

/// What keeps rules from working.
fn fault_of(rules: &EmailRules) -> Option<&'static str> {
    let is_time = |after_s: u32| AFTER_S.contains(&after_s);
    let is_url = |text: &str| {
        let url = text.parse::<Url>().ok().filter(|_| text.is_ascii() && text.len() <= EMAIL_ADDRESS_BYTES_MAX);
        url.is_some_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
                && !text.contains(['<', '>', '"', '\'', ' '])
        })
    };
    if rules.missed_after_s != 0 && !is_time(rules.missed_after_s) {
        return Some("missed_after_s is 2 to 604800, or 0");
    }
    if !is_time(rules.form_after_s) {
        return Some("form_after_s is 2 to 604800");
    }
    if !rules.forms_to.is_empty() && address(&rules.forms_to).is_none() {
        return Some("forms_to is no e-mail address");
    }
    if rules.sender.len() > EMAIL_ADDRESS_BYTES_MAX || rules.sender.chars().any(char::is_control) {
        return Some("sender is longer than 254 bytes, or has control characters");
    }
    if !rules.base_url.is_empty() && !is_url(&rules.base_url) {
        return Some("base_url is no http or https URL without a query");
    }
    if rules.on && rules.missed_after_s > 0 && rules.base_url.is_empty() {
        return Some(
            "missed messages need base_url: an e-mail about them says where to stop them. Or set missed_after_s to 0",
        );
    }
    None
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestBody {
    pub to: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Tested {
    /// The server took it.
    pub sent: bool,
    /// What the server said instead, or why it was not asked.
    pub why: Option<String>,
}

pub async fn test(app: Data<App>, Tenant(site): Tenant, body: Json<TestBody>) -> Answer<Tested> {
    let to = address(&body.to).ok_or_else(|| Problem::bad_request("to is no e-mail address"))?;
    let Some(mailer) = app.mailer.clone() else {
        return Ok(Json(Tested { sent: false, why: Some("this node has no SMTP server (--smtp-url)".to_owned()) }));
    };
    if !mailer.has_room(site) {
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "the site has sent as many as it may in this hour"));
    }
    let (name, rules) = site_of(&app, site)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| Problem::fault("no randomness"))?;
    let site = Site { id: site, name: &name, rules: &rules };
    let message = email::test(mailer.from(), &site, to, u128::from_be_bytes(id)).map_err(Problem::fault)?;
    let sent = app.on_raft(async move { mailer.send(message, false).await }).await;
    let sent = sent.ok_or_else(|| Problem::fault("the e-mail was not tried"))?;
    Ok(Json(Tested { sent: sent.is_ok(), why: sent.err().map(|failed| failed.why) }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TranscriptBody {
    /// Left out: the visitor's address.
    #[serde(default)]
    pub to: Option<String>,
}

pub async fn transcript(
    app: Data<App>,
    Tenant(site): Tenant,
    path: Path<OfSession>,
    body: Json<TranscriptBody>,
) -> Result<HttpResponse, Problem> {
    let session = own(&app, site, &path.session).await?.session;
    email::order(&app, site, session, body.into_inner().to, false).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Queue {
    /// Oldest first, as far as each shard counts them.
    pub emails: Vec<Queued>,
    /// How many there are.
    pub total: u64,
    /// A shard did not answer: what is there is left out.
    pub partial: bool,
}

/// An e-mail that waits, or is dead.
#[derive(Debug, Serialize, ToSchema)]
pub struct Queued {
    #[schema(value_type = String)]
    pub session: SessionId,
    pub number: u64,
    /// `missed`, `form` or `transcript`.
    pub kind: &'static str,
    /// `gathers`, `waits` or `dead`.
    pub state: &'static str,
    /// When it is tried next, milliseconds since 1970; a dead one is kept until then.
    pub due_ms: u64,
    /// Tries that failed.
    pub tries: u32,
    /// How the last one failed.
    pub why: String,
}

impl From<Email> for Queued {
    fn from(email: Email) -> Queued {
        let kind = match email.kind {
            EmailKind::Missed => "missed",
            EmailKind::Form => "form",
            EmailKind::Transcript => "transcript",
        };
        let state = match email.stage {
            EmailStage::Gathers => "gathers",
            EmailStage::Sealed => "waits",
            EmailStage::Dead => "dead",
        };
        let Email { session, number, due_ms, tries, why, .. } = email;
        Queued { session, number, kind, state, due_ms, tries, why }
    }
}

pub async fn queue(app: Data<App>, Tenant(site): Tenant) -> Answer<Queue> {
    let asked = app.cluster.router.shards().into_iter().map(|shard| {
        let app = app.clone();
        async move { call_shard(&app, shard, ShardCall::Emails { site, limit: QUEUE_MAX }).await }
    });
    let mut queue = Queue { emails: Vec::new(), total: 0, partial: false };
    for told in futures_util::future::join_all(asked).await {
        match told {
            ShardReply::Emails { emails, total } => {
                queue.emails.extend(emails.into_iter().map(Queued::from));
                queue.total += total;
            }
            _ => queue.partial = true,
        }
    }
    Ok(Json(queue))
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfEmail {
    session: String,
    number: u64,
}

async fn decide(
    app: &App,
    site: SiteId,
    of: &OfEmail,
    change: impl Fn(SessionId, u64) -> EmailChange,
) -> Result<HttpResponse, Problem> {
    own(app, site, &of.session).await?;
    let session = known(&of.session)?;
    let change = change(session, of.number);
    call_session(app, session, ShardCall::Propose(Command::Email { change })).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Also right when there is no such dead one.
pub async fn retry(app: Data<App>, Tenant(site): Tenant, of: Path<OfEmail>) -> Result<HttpResponse, Problem> {
    decide(&app, site, &of, |session, number| EmailChange::Again { session, number }).await
}

/// Also right when there is none.
pub async fn forget(app: Data<App>, Tenant(site): Tenant, of: Path<OfEmail>) -> Result<HttpResponse, Problem> {
    decide(&app, site, &of, |session, number| EmailChange::Forget { session, number }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_cannot_work_are_refused_by_name() {
        let good = EmailRules {
            on: true,
            missed_after_s: 600,
            form_after_s: 60,
            base_url: "https://chat.example.com/desk".into(),
            ..EmailRules::default()
        };
        assert_eq!(fault_of(&good), None);
        let faulty: [(EmailRules, &str); 8] = [
            (EmailRules { missed_after_s: 1, ..good.clone() }, "missed_after_s"),
            (EmailRules { form_after_s: 0, ..good.clone() }, "form_after_s"),
            (EmailRules { forms_to: "desk".into(), ..good.clone() }, "forms_to"),
            (EmailRules { forms_to: "a@b.example\r\nBcc: c@d.example".into(), ..good.clone() }, "forms_to"),
            (EmailRules { sender: "a\nb".into(), ..good.clone() }, "sender"),
            (EmailRules { base_url: "ftp://chat.example.com".into(), ..good.clone() }, "base_url"),
            (EmailRules { base_url: "https://chat.example.com/?a=>".into(), ..good.clone() }, "base_url"),
            (EmailRules { base_url: String::new(), ..good }, "base_url"),
        ];
        for (rules, part) in faulty {
            assert!(fault_of(&rules).is_some_and(|fault| fault.contains(part)), "{rules:?}");
        }
    }
}
