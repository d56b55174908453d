//! Owns webhooks as administrators see and set them. Does not deliver. Invariant: a secret is told once, when it is drawn.

use super::problem::Problem;
use super::sessions::call_shard;
use super::tenant::Tenant;
use super::{Answer, catch_up, propose, read_meta, unexpected};
use crate::run::App;
use crate::webhooks::{SECRET_BYTES, secret_text};
use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path};
use cluster::meta::{MetaState, WebhookRow};
use cluster::shard::now_ms;
use proto::client::EVENT_KINDS;
use proto::command::{Command, MetaCommand, SecretBytes};
use proto::ids::{SessionId, ShardId, SiteId, WebhookId};
use proto::peer::{MetaReply, ShardCall, ShardReply};
use proto::webhook::{DeadLetter, Lag, WebhookChange, WebhookRules, WebhookState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// So long does the secret before sign, too.
const SECRET_BEFORE_MS: u64 = 86_400_000;
/// Sessions that lag which one answer names.
const LAGS_MAX: usize = 100;

/// Where events of a site go, and which.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Every event is posted here.
    #[schema(min_length = 1, max_length = 2048, example = "https://crm.example.com/everdesk")]
    pub url: String,
    /// Kinds of events, e.g. message, closed; without any, all.
    #[serde(default)]
    #[schema(max_items = 12)]
    pub kinds: Vec<String>,
    /// An event that could not be delivered for so long becomes a dead letter, in seconds.
    #[serde(default = "give_up_s")]
    #[schema(minimum = 1, maximum = 604800)]
    pub give_up_s: u32,
    /// While it is off, events wait.
    #[serde(default = "is_on")]
    pub on: bool,
}

/// Unless a webhook says otherwise: a day.
fn give_up_s() -> u32 {
    86_400
}

fn is_on() -> bool {
    true
}

#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookView {
    #[schema(value_type = String, example = "w1")]
    pub webhook: WebhookId,
    pub name: String,
    #[serde(flatten)]
    pub rules: Webhook,
    /// Without one nothing is delivered: a cluster that was restored from a backup asks for new ones first.
    pub has_secret: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Webhooks {
    pub webhooks: Vec<WebhookView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MadeWebhook {
    #[schema(value_type = String, example = "w1")]
    pub webhook: WebhookId,
    /// Of a new one: what signs its deliveries. It is not told again.
    #[schema(example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    pub secret: Option<String>,
    /// Events from now on are delivered. False: a shard had no leader just now, and begins when it has.
    pub begun: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookSecret {
    /// Signs deliveries from now on; the one before does so, too, for a day. It is not told again.
    #[schema(example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    pub secret: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookStanding {
    #[serde(flatten)]
    pub view: WebhookView,
    /// Events of the cluster that were not looked at yet.
    pub behind: u64,
    /// Sessions whose events wait because one failed: the first 100.
    pub lags: Vec<LagView>,
    /// All of them.
    pub lags_total: usize,
    pub dead: usize,
    /// Dead letters that were dropped for newer ones.
    pub dropped: u64,
    /// Events that were not kept for as long as the receiver did not answer.
    pub missed: u64,
    /// Shards that could not be asked.
    #[schema(value_type = Vec<String>)]
    pub silent: Vec<ShardId>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LagView {
    #[schema(value_type = String)]
    pub session: SessionId,
    /// The first event that waits.
    pub seq: u64,
    /// How many.
    pub waiting: u64,
    pub tries: u32,
    /// When it failed first, milliseconds since 1970; null: it was not tried.
    pub since_ms: Option<u64>,
    pub why: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetters {
    /// Oldest first in each shard; those of shards without a leader are missing.
    pub letters: Vec<DeadLetterView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterView {
    #[schema(example = "g3-17")]
    pub letter: String,
    #[schema(value_type = String)]
    pub session: SessionId,
    pub seq: u64,
    /// When it was given up, milliseconds since 1970.
    pub at_ms: u64,
    pub why: String,
    /// It is being delivered after all.
    pub replays: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayBody {
    /// Without it, every one.
    #[serde(default)]
    #[schema(pattern = "^g[0-9]{1,10}-[0-9]{1,20}$", example = "g3-17", nullable = false)]
    pub letter: Option<String>,
}

impl WebhookView {
    fn of(state: &MetaState, webhook: WebhookId, row: &WebhookRow) -> WebhookView {
        let has_secret = state.webhook_secrets.contains_key(&webhook);
        let WebhookRules { url, kinds, give_up_s, on } = row.rules.clone();
        WebhookView { webhook, name: row.name.clone(), rules: Webhook { url, kinds, give_up_s, on }, has_secret }
    }
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfWebhook {
    name: String,
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfLetter {
    name: String,
    letter: String,
}

fn find(app: &App, site: SiteId, name: &str) -> Result<WebhookView, Problem> {
    let view = read_meta(app, |state| {
        let (id, row) = state.webhook_by_name(site, name)?;
        Some(WebhookView::of(state, id, row))
    })?;
    view.ok_or_else(|| Problem::not_found("no such webhook"))
}

pub async fn list(app: Data<App>, Tenant(site): Tenant) -> Answer<Webhooks> {
    let webhooks = read_meta(&app, |state| {
        let of_site = state.webhooks.iter().filter(|(_, row)| row.site == site);
        of_site.map(|(id, row)| WebhookView::of(state, *id, row)).collect()
    })?;
    Ok(Json(Webhooks { webhooks }))
}

fn draw() -> Result<SecretBytes, Problem> {
    let mut secret = vec![0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(|_| Problem::fault("no randomness"))?;
    Ok(SecretBytes(secret))
}

pub async fn set(
    app: Data<App>,
    Tenant(site): Tenant,
    of: Path<OfWebhook>,
    body: Json<Webhook>,
) -> Answer<MadeWebhook> {
    let Webhook { url, mut kinds, give_up_s, on } = body.into_inner();
    let parsed = url.parse().map_err(|_| Problem::refused("url: it is no URL"))?;
    app.admin.allowed.check(&parsed).map_err(|why| Problem::refused(format!("url: {why}")))?;
    kinds.sort_unstable();
    kinds.dedup();
    if let Some(unknown) = kinds.iter().find(|kind| !EVENT_KINDS.contains(&kind.as_str())) {
        return Err(Problem::refused(format!("kinds: {unknown:?} is none of {}", EVENT_KINDS.join(", "))));
    }
    let rules = WebhookRules { url, kinds, give_up_s, on };
    let secret = draw()?;
    let text = secret_text(&secret.0);
    let command = MetaCommand::PutWebhook { site, name: of.name.clone(), rules, secret };
    let MetaReply::Webhook { webhook, is_new } = propose(&app, command).await? else { return Err(unexpected()) };
    let begun = in_every_shard(&app, webhook, &WebhookChange::Begin).await;
    Ok(Json(MadeWebhook { webhook, secret: is_new.then_some(text), begun }))
}

/// Has every shard take a change; false when one could not be asked.
async fn in_every_shard(app: &Data<App>, webhook: WebhookId, change: &WebhookChange) -> bool {
    let shards = app.cluster.router.shards().into_iter();
    let asked = shards.map(|shard| self::change(app, webhook, shard, change.clone()));
    futures_util::future::join_all(asked).await.iter().all(Result::is_ok)
}

pub async fn remove(app: Data<App>, Tenant(site): Tenant, of: Path<OfWebhook>) -> Result<HttpResponse, Problem> {
    // Also right when there is none. Shards forget it by themselves.
    catch_up(&app).await;
    if let Some(webhook) = read_meta(&app, |state| state.webhook_by_name(site, &of.name).map(|(id, _)| id))? {
        propose(&app, MetaCommand::RemoveWebhook { webhook }).await?;
    }
    Ok(HttpResponse::NoContent().finish())
}

pub async fn rotate(app: Data<App>, Tenant(site): Tenant, of: Path<OfWebhook>) -> Answer<WebhookSecret> {
    let webhook = find(&app, site, &of.name)?.webhook;
    let secret = draw()?;
    let text = secret_text(&secret.0);
    let before_until_ms = now_ms() + SECRET_BEFORE_MS;
    propose(&app, MetaCommand::SetWebhookSecret { webhook, secret, before_until_ms }).await?;
    Ok(Json(WebhookSecret { secret: text }))
}

/// How far each shard has come; those without a leader are named.
async fn standing(app: &Data<App>, webhook: WebhookId) -> (Vec<(ShardId, WebhookState, u64)>, Vec<ShardId>) {
    let asked = app.cluster.router.shards().into_iter().map(|shard| async move {
        match call_shard(app, shard, ShardCall::Webhook { webhook }).await {
            ShardReply::Webhook { state, head } => Ok((shard, state.unwrap_or_default(), head)),
            _ => Err(shard),
        }
    });
    let (mut found, mut silent) = (Vec::new(), Vec::new());
    for answer in futures_util::future::join_all(asked).await {
        match answer {
            Ok(one) => found.push(one),
            Err(shard) => silent.push(shard),
        }
    }
    (found, silent)
}

pub async fn show(app: Data<App>, Tenant(site): Tenant, of: Path<OfWebhook>) -> Answer<WebhookStanding> {
    let view = find(&app, site, &of.name)?;
    let (found, silent) = standing(&app, view.webhook).await;
    let lag = |lag: &Lag| LagView {
        session: lag.session,
        seq: lag.next,
        waiting: (lag.upto + 1).saturating_sub(lag.next),
        tries: lag.tries,
        since_ms: (lag.since_ms > 0).then_some(lag.since_ms),
        why: lag.why.clone(),
    };
    let states = || found.iter().map(|(_, state, _)| state);
    Ok(Json(WebhookStanding {
        behind: found.iter().map(|(_, state, head)| head.saturating_sub(state.after)).sum(),
        lags: states().flat_map(|state| &state.lags).take(LAGS_MAX).map(lag).collect(),
        lags_total: states().map(|state| state.lags.len()).sum(),
        dead: states().map(|state| state.dead.len()).sum(),
        dropped: states().map(|state| state.dropped).sum(),
        missed: states().map(|state| state.missed).sum(),
        silent,
        view,
    }))
}

pub async fn dead(app: Data<App>, Tenant(site): Tenant, of: Path<OfWebhook>) -> Answer<DeadLetters> {
    let webhook = find(&app, site, &of.name)?.webhook;
    let (found, _) = standing(&app, webhook).await;
    let letters = found.into_iter().flat_map(|(shard, state, _)| {
        state.dead.into_iter().map(move |DeadLetter { number, session, seq, at_ms, why, again }| DeadLetterView {
            letter: format!("{shard}-{number}"),
            session,
            seq,
            at_ms,
            why,
            replays: again,
        })
    });
    Ok(Json(DeadLetters { letters: letters.collect() }))
}

/// Shard and number of a letter.
fn letter_of(app: &App, text: &str) -> Result<(ShardId, u64), Problem> {
    let read = text.split_once('-').and_then(|(shard, number)| Some((shard.parse().ok()?, number.parse().ok()?)));
    let known = read.filter(|(shard, _)| app.cluster.router.shards().contains(shard));
    known.ok_or_else(|| Problem::not_found("no such letter"))
}

async fn change(app: &Data<App>, webhook: WebhookId, shard: ShardId, change: WebhookChange) -> Result<(), Problem> {
    match call_shard(app, shard, ShardCall::Propose(Command::Webhook { webhook, change })).await {
        // A shard that does not know the webhook holds no letters of it either.
        ShardReply::Done | ShardReply::Refused(_) => Ok(()),
        _ => Err(Problem::unavailable(format!("{shard} has no leader just now, try again"))),
    }
}

pub async fn replay(
    app: Data<App>,
    Tenant(site): Tenant,
    of: Path<OfWebhook>,
    body: Json<ReplayBody>,
) -> Result<HttpResponse, Problem> {
    let webhook = find(&app, site, &of.name)?.webhook;
    match &body.letter {
        Some(letter) => {
            let (shard, number) = letter_of(&app, letter)?;
            change(&app, webhook, shard, WebhookChange::Replay { letter: Some(number) }).await?;
        }
        None => {
            if !in_every_shard(&app, webhook, &WebhookChange::Replay { letter: None }).await {
                return Err(Problem::unavailable("a shard has no leader just now, try again"));
            }
        }
    }
    Ok(HttpResponse::NoContent().finish())
}

pub async fn forget(app: Data<App>, Tenant(site): Tenant, of: Path<OfLetter>) -> Result<HttpResponse, Problem> {
    let webhook = find(&app, site, &of.name)?.webhook;
    let (shard, number) = letter_of(&app, &of.letter)?;
    change(&app, webhook, shard, WebhookChange::Forget { letter: number }).await?;
    Ok(HttpResponse::NoContent().finish())
}
