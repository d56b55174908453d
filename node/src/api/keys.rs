//! Owns the keys of other systems as a site's administrators see them. Does not keep them: meta has their hashes. Invariant: a key is told
//! once.

use super::access::SCOPES;
use super::guard::KEY_PREFIX;
use crate::admin::problem::Problem;
use crate::admin::tokens::expires_ms;
use crate::admin::{Answer, Tenant, propose, read_meta};
use crate::auth;
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path};
use cluster::meta::ApiKeyRow;
use cluster::shard::now_ms;
use proto::command::MetaCommand;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// 1 to 64 letters, digits or -_.@
    #[schema(min_length = 1, max_length = 64, example = "crm")]
    pub name: String,
    /// What it is good for, e.g. conversations:read.
    #[schema(min_items = 1, max_items = 11)]
    pub scopes: Vec<String>,
    /// How long it is good; for ever unless given.
    #[schema(minimum = 1, maximum = 315_360_000)]
    #[serde(default)]
    pub expires_in_s: Option<u64>,
}

/// A key, just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeKey {
    pub name: String,
    /// Told only here.
    pub key: String,
}

/// A key without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyView {
    pub name: String,
    pub scopes: Vec<String>,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    pub expires_ms: Option<u64>,
    pub expired: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Keys {
    pub keys: Vec<KeyView>,
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfKey {
    name: String,
}

pub async fn create(app: Data<App>, Tenant(site): Tenant, body: Json<NewKey>) -> Result<HttpResponse, Problem> {
    let NewKey { name, mut scopes, expires_in_s } = body.into_inner();
    let expires_ms = expires_ms(expires_in_s)?;
    scopes.sort_unstable();
    scopes.dedup();
    let is_scope = |scope: &String| SCOPES.iter().any(|(_, known)| known == scope);
    if scopes.is_empty() || !scopes.iter().all(is_scope) {
        let known: Vec<&str> = SCOPES.iter().map(|(_, name)| *name).collect();
        return Err(Problem::refused(format!("scopes: some of {}", known.join(", "))));
    }
    let secret = auth::mint_plain_token("key").map_err(|_| Problem::fault("no randomness"))?;
    debug_assert!(secret.expose().starts_with(KEY_PREFIX));
    let command = MetaCommand::CreateApiKey { key: secret.hash(), site, name: name.clone(), scopes, expires_ms };
    propose(&app, command).await?;
    Ok(HttpResponse::Created().json(MadeKey { name, key: secret.expose().to_owned() }))
}

pub async fn list(app: Data<App>, Tenant(site): Tenant) -> Answer<Keys> {
    let now_ms = now_ms();
    let mut keys: Vec<KeyView> = read_meta(&app, |state| {
        let view = |row: &ApiKeyRow| KeyView {
            name: row.name.clone(),
            scopes: row.scopes.clone(),
            created_ms: row.created_ms,
            expires_ms: row.expires_ms,
            expired: row.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms),
        };
        state.api_keys.values().filter(|row| row.site == site).map(view).collect()
    })?;
    keys.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Json(Keys { keys }))
}

pub async fn revoke(app: Data<App>, Tenant(site): Tenant, of: Path<OfKey>) -> Result<HttpResponse, Problem> {
    if !read_meta(&app, |state| state.api_keys.values().any(|row| row.site == site && row.name == of.name))? {
        return Err(Problem::not_found("no such key"));
    }
    propose(&app, MetaCommand::RevokeApiKey { site, name: of.name.clone() }).await?;
    Ok(HttpResponse::NoContent().finish())
}
