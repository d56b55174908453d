//! Owns what holds for a whole site, as its administrators set it: how long it keeps what was said, how visitors prove who they are. Does
//! not keep it: meta does. Invariant: a secret is told once.

use crate::admin::problem::Problem;
use crate::admin::{Answer, Tenant, catch_up, propose, read_meta};
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path};
use base64ct::{Base64UrlUnpadded, Encoding};
use proto::command::{IdentityMode, MetaCommand, SecretBytes, SiteChange};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// Bytes of a key that is drawn here.
const KEY_BYTES: usize = 32;

/// How visitors prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// If they like.
    Optional,
    /// Nothing is taken from those who do not.
    Required,
}

impl From<IdentityMode> for Identity {
    fn from(mode: IdentityMode) -> Identity {
        match mode {
            IdentityMode::Optional => Identity::Optional,
            IdentityMode::Required => Identity::Required,
        }
    }
}

impl From<Identity> for IdentityMode {
    fn from(identity: Identity) -> IdentityMode {
        match identity {
            Identity::Optional => IdentityMode::Optional,
            Identity::Required => IdentityMode::Required,
        }
    }
}

/// What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsBody {
    /// What happened in closed conversations is erased after so many days; 0: never.
    #[serde(default)]
    #[schema(maximum = 36500)]
    pub retention_days: Option<u32>,
    #[serde(default)]
    pub identity: Option<Identity>,
    /// What happened in closed conversations goes to the archive after so many days; 0: never.
    #[serde(default)]
    #[schema(maximum = 36500)]
    pub archive_after_days: Option<u32>,
    /// Files go to the archive so many hours after a message has named them; 0: at once; null: never.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<u32>, maximum = 876000)]
    pub archive_files_after_hours: Option<Option<u32>>,
}

/// Tells null from what was left out.
fn told<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(from).map(Some)
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SettingsView {
    pub retention_days: u32,
    pub archive_after_days: u32,
    /// `null`: files stay in the shards.
    pub archive_files_after_hours: Option<u32>,
    pub identity: Identity,
    /// Names of the keys that sign who a visitor is.
    pub identity_keys: Vec<String>,
}

pub async fn show(app: Data<App>, Tenant(site): Tenant) -> Answer<SettingsView> {
    let view = read_meta(&app, |state| {
        let config = state.site_configs.get(&site).copied().unwrap_or_default();
        let keys = state.identity_keys.get(&site).map(|row| row.keys.iter().map(|(name, _)| name.clone()).collect());
        SettingsView {
            retention_days: config.retention_days,
            archive_after_days: config.archive_days,
            archive_files_after_hours: config.archive_files_hours,
            identity: config.identity.into(),
            identity_keys: keys.unwrap_or_default(),
        }
    })?;
    Ok(Json(view))
}

pub async fn set(app: Data<App>, tenant: Tenant, body: Json<SettingsBody>) -> Answer<SettingsView> {
    let site = tenant.0;
    let SettingsBody { retention_days, identity, archive_after_days, archive_files_after_hours } = body.into_inner();
    let retention = retention_days.map(|days| SiteChange::Retention { days });
    let identity = identity.map(|identity| SiteChange::Identity { mode: identity.into() });
    let archive = archive_after_days.map(|days| SiteChange::Archive { days });
    let files = archive_files_after_hours.map(|hours| SiteChange::ArchiveFiles { hours });
    for change in [retention, identity, archive, files].into_iter().flatten() {
        propose(&app, MetaCommand::ConfigureSite { site, change }).await?;
    }
    catch_up(&app).await;
    show(app, tenant).await
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfKey {
    name: String,
}

/// A key, just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeIdentityKey {
    pub name: String,
    /// Base64url without padding; its bytes are the key of HMAC-SHA256. Told only here.
    pub secret: String,
}

pub async fn make_key(app: Data<App>, Tenant(site): Tenant, of: Path<OfKey>) -> Answer<MadeIdentityKey> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|_| Problem::fault("no randomness"))?;
    let name = of.name.clone();
    let change = SiteChange::IdentityKey { name: name.clone(), secret: Some(SecretBytes(key.to_vec())) };
    propose(&app, MetaCommand::ConfigureSite { site, change }).await?;
    catch_up(&app).await;
    Ok(Json(MadeIdentityKey { name, secret: Base64UrlUnpadded::encode_string(&key) }))
}

/// Also right when there is none.
pub async fn remove_key(app: Data<App>, Tenant(site): Tenant, of: Path<OfKey>) -> Result<HttpResponse, Problem> {
    let change = SiteChange::IdentityKey { name: of.name.clone(), secret: None };
    propose(&app, MetaCommand::ConfigureSite { site, change }).await?;
    Ok(HttpResponse::NoContent().finish())
}
