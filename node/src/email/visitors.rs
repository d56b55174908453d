//! Owns what visitors ask for: the transcript of their session, to be kept or by e-mail, and no more e-mails. Does not write e-mails: the
//! postman does. Invariant: whoever asks has the visitor's token, or the
//! secret of an e-mail to this visitor.

use super::compose::{self, Site, address, page};
use super::texts;
use crate::admin::problem::Problem;
use crate::admin::read_meta;
use crate::admin::sessions::{call_shard, of};
use crate::api::conversations::{call_session, done};
use crate::api::transcript::{Format, answer, escaped, newest};
use crate::attachments::{bearer, look, only};
use crate::auth::{self, Bearer};
use crate::run::App;
use actix_web::http::{StatusCode, header};
use actix_web::web::{self, Data, Json, Path, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use chat::limits::EMAIL_SECRET_BYTES;
use cluster::shard::now_ms;
use parking_lot::Mutex;
use proto::command::{Command, SecretBytes, Target};
use proto::email::{EmailChange, EmailLanguage, EmailRules};
use proto::ids::{AttachmentId, SessionId, SiteId};
use proto::peer::{Refused, ShardCall, ShardReply};
use serde::Deserialize;
use std::collections::HashMap;
use std::time::Instant;
use tokio::sync::Semaphore;

/// Transcripts that a node writes for visitors at once.
static PLACES: Semaphore = Semaphore::const_new(2);

/// Transcripts that one visitor may read from one node in a minute.
const DOWNLOADS_PER_MINUTE: u32 = 10;
/// Visitors that are remembered for that; with more, nobody is let through until the minute is over.
const VISITORS_MAX: usize = 100_000;
const MINUTE_S: u64 = 60;

/// How often visitors have read their transcripts in this minute.
#[derive(Default)]
pub struct Downloads(Mutex<Option<(Instant, HashMap<SessionId, u32>)>>);

impl Downloads {
    fn may(&self, session: SessionId, now: Instant) -> bool {
        let mut held = self.0.lock();
        let (_, seen) = match &mut *held {
            Some(minute) if (now - minute.0).as_secs() < MINUTE_S => minute,
            stale => stale.insert((now, HashMap::new())),
        };
        if seen.len() >= VISITORS_MAX && !seen.contains_key(&session) {
            return false;
        }
        let count = seen.entry(session).or_default();
        *count += 1;
        *count <= DOWNLOADS_PER_MINUTE
    }
}

/// Puts the routes on the clients' listener.
pub fn configure(config: &mut ServiceConfig) {
    let refuse = |method: &'static str| move || async move { only(method) };
    let (json, payload, query, path) = crate::admin::limits();
    let get = web::resource("/v1/visitors/transcript").app_data(query.clone());
    config.service(get.route(web::get().to(transcript)).default_service(web::to(refuse("GET"))));
    let mail = web::resource("/v1/visitors/transcript/mail").app_data(json).app_data(payload);
    config.service(mail.route(web::post().to(mail_transcript)).default_service(web::to(refuse("POST"))));
    let unsubscribe = web::resource("/v1/unsubscribe/{session}").app_data(query).app_data(path);
    let unsubscribe = unsubscribe.route(web::get().to(ask_unsubscribe)).route(web::post().to(unsubscribed));
    config.service(unsubscribe.default_service(web::to(refuse("GET or POST"))));
}

/// Whose token it is.
async fn visitor(app: &App, request: &HttpRequest) -> Result<SessionId, Problem> {
    let unauthorized = || Problem::new(StatusCode::UNAUTHORIZED, "a visitor's bearer token is needed");
    let token = bearer(request.headers()).and_then(auth::parse_token);
    let Some((Bearer::Visitor { session }, hash)) = token else { return Err(unauthorized()) };
    // There is no such attachment; whose token it is, its leader says before that.
    look(app, session, AttachmentId(0), Some(hash)).await.map_err(|problem| {
        if problem.status == StatusCode::UNAUTHORIZED.as_u16() { unauthorized() } else { problem }
    })?;
    Ok(session)
}

fn limited() -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many transcripts were asked for; try again later")
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TranscriptQuery {
    format: Option<Format>,
}

/// `GET /v1/visitors/transcript`
async fn transcript(
    app: Data<App>,
    request: HttpRequest,
    query: Query<TranscriptQuery>,
) -> Result<HttpResponse, Problem> {
    let session = visitor(&app, &request).await?;
    if !app.downloads.may(session, Instant::now()) {
        return Err(limited());
    }
    let Ok(_place) = PLACES.try_acquire() else {
        return Err(Problem::unavailable("this node writes as many transcripts as it can, try again"));
    };
    let view = of(&app, session).await?;
    let (events, cut) = newest(&app, &view).await?;
    let (name, rules) = site_of(&app, view.site)?;
    let site = Site { id: view.site, name: &name, rules: &rules };
    Ok(answer(&compose::of_visitor(&site, session, &events, cut), query.format.unwrap_or(Format::Html)))
}

/// A site's name, and how it writes e-mails.
pub fn site_of(app: &App, site: SiteId) -> Result<(String, EmailRules), Problem> {
    read_meta(app, |state| {
        let name = state.sites.get(&site).map(|row| row.name.clone()).unwrap_or_default();
        (name, state.site_emails.get(&site).map(|row| row.rules.clone()).unwrap_or_default())
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MailBody {
    to: Option<String>,
}

/// `POST /v1/visitors/transcript/mail`
async fn mail_transcript(app: Data<App>, request: HttpRequest, body: Json<MailBody>) -> Result<HttpResponse, Problem> {
    let session = visitor(&app, &request).await?;
    if body.into_inner().to.is_some() {
        // Anybody may be a visitor: the site's server would write to whomever they like.
        return Err(Problem::bad_request("to: a visitor's transcript goes to the address that the site knows"));
    }
    let view = of(&app, session).await?;
    if view.blocked_until_ms.is_some_and(|until_ms| now_ms() < until_ms) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "nothing is taken from this visitor"));
    }
    // Not what the page says: nobody has looked at that.
    let known = view.attributes.visitor.get("email").and_then(|text| address(text));
    let to = known.ok_or_else(|| Problem::conflict("the site does not know the visitor's address"))?;
    order(&app, view.site, session, Some(to.to_string()), true).await?;
    Ok(HttpResponse::Accepted().finish())
}

/// Has a transcript sent: to that address, or to the visitor's. It waits in the shard then.
/// # Errors
/// The site writes no e-mails, it is no address, there is none, or too many were asked for.
pub async fn order(
    app: &App,
    site: SiteId,
    session: SessionId,
    to: Option<String>,
    limited_to_few: bool,
) -> Result<(), Problem> {
    let (_, rules) = site_of(app, site)?;
    if !rules.on {
        return Err(Problem::conflict("the site writes no e-mails"));
    }
    let to = match to {
        Some(to) => address(&to).ok_or_else(|| Problem::bad_request("to is no e-mail address"))?.to_string(),
        None => String::new(),
    };
    if to.is_empty() {
        let view = of(app, session).await?;
        let attribute = view.attributes.visitor.get("email").and_then(|text| address(text));
        let fact = view.facts.iter().find(|fact| fact.name == "email").and_then(|fact| address(&fact.value));
        if attribute.or(fact).is_none() {
            return Err(Problem::bad_request("nobody knows the visitor's address: say to"));
        }
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| Problem::fault("no randomness"))?;
    let change = EmailChange::Ask { session, id: u128::from_be_bytes(id), to, limited: limited_to_few };
    let shard = app.cluster.router.shard_of(Target::Session(session));
    match call_shard(app, shard, ShardCall::Propose(Command::Email { change })).await {
        ShardReply::Refused(Refused::LimitReached) => Err(limited()),
        ShardReply::Refused(Refused::TargetInvalid) => Err(Problem::conflict("nothing was said yet")),
        other => done(other).map(|_| ()),
    }
}

/// Of an address that stood in an e-mail.
#[derive(Debug, Deserialize)]
struct Keyed {
    key: String,
}

impl Keyed {
    fn secret(&self) -> Option<SecretBytes> {
        let digit = |at: usize| self.key.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let is_hex = self.key.len() == 2 * EMAIL_SECRET_BYTES && self.key.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| (0..EMAIL_SECRET_BYTES).filter_map(|at| digit(2 * at)).collect()).map(SecretBytes)
    }
}

/// What a browser shows: nothing but this page.
fn shown(status: StatusCode, body: &str) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
        ))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .body(body.to_owned())
}

/// Both languages: who reads it is not known.
fn in_both(tell: impl Fn(&texts::Texts) -> String) -> String {
    [EmailLanguage::English, EmailLanguage::Chinese].map(|language| tell(texts::of(language))).concat()
}

/// `GET /v1/unsubscribe/{session}`: a page with a button. What looks at addresses in e-mails before people do changes nothing.
async fn ask_unsubscribe() -> HttpResponse {
    let button = |texts: &texts::Texts| format!("<p><button>{}</button></p>", escaped(texts.unsubscribe_ask));
    shown(StatusCode::OK, &page("en", &format!("<form method=\"post\">{}</form>\n", in_both(button))))
}

/// `POST /v1/unsubscribe/{session}`: also by the button of a mail program. Source: RFC 8058.
async fn unsubscribed(app: Data<App>, path: Path<String>, keyed: Query<Keyed>) -> Result<HttpResponse, Problem> {
    let wrong = || Problem::not_found("no such address");
    let session: SessionId = path.parse().map_err(|_| wrong())?;
    let change = EmailChange::Unsubscribe { session, secret: keyed.secret().ok_or_else(wrong)? };
    match call_session(&app, session, ShardCall::Propose(Command::Email { change })).await {
        Ok(_) => {}
        Err(problem) if problem.status == StatusCode::SERVICE_UNAVAILABLE.as_u16() => return Err(problem),
        Err(_) => return Err(wrong()),
    }
    let told = |texts: &texts::Texts| format!("<p>{}</p>\n", escaped(texts.unsubscribed));
    Ok(shown(StatusCode::OK, &page("en", &in_both(told))))
}
