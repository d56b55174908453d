//! Owns tokens for joining and for this API. Does not keep them: meta has their hashes. Invariant: a secret is told once.

use super::problem::Problem;
use super::{Answer, propose, read_meta, settings};
use crate::auth;
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path};
use cluster::shard::now_ms;
use proto::command::{MetaCommand, Role};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Longest life of a token that expires, in seconds: ten years.
const LIFE_S_MAX: u64 = 10 * 365 * 24 * 60 * 60;

/// A token with which one machine may join.
#[derive(Debug, Serialize, ToSchema)]
pub struct JoinToken {
    pub token: String,
    pub expires_in_s: u64,
}

pub async fn create_join(app: Data<App>) -> Answer<JoinToken> {
    let secret = auth::mint_plain_token("join").map_err(|_| Problem::fault("no randomness"))?;
    let token = auth::Secret::new(format!("{}.{}", secret.expose(), app.cluster.join_pins()));
    let expires_in_s = settings::number(&app.cluster, settings::JOIN_TOKEN_LIFE);
    let expires_ms = now_ms() + expires_in_s * 1_000;
    propose(&app, MetaCommand::CreateJoinToken { token: token.hash(), expires_ms }).await?;
    Ok(Json(JoinToken { token: token.expose().to_owned(), expires_in_s }))
}

/// What a token may do; each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// Reads.
    Viewer,
    /// Runs the cluster and its conversations.
    Operator,
    /// Everything, tokens included.
    Admin,
}

impl From<RoleName> for Role {
    fn from(role: RoleName) -> Role {
        match role {
            RoleName::Viewer => Role::Viewer,
            RoleName::Operator => Role::Operator,
            RoleName::Admin => Role::Admin,
        }
    }
}

impl From<Role> for RoleName {
    fn from(role: Role) -> RoleName {
        match role {
            Role::Viewer => RoleName::Viewer,
            Role::Operator => RoleName::Operator,
            Role::Admin => RoleName::Admin,
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// 1 to 64 letters, digits or -_.@
    #[schema(min_length = 1, max_length = 64, example = "ci")]
    pub name: String,
    pub role: RoleName,
    /// How long it is good; for ever unless given.
    #[schema(minimum = 1, maximum = 315_360_000)]
    #[serde(default)]
    pub expires_in_s: Option<u64>,
}

/// A token for this API, just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeToken {
    pub name: String,
    pub role: RoleName,
    /// Told only here.
    pub token: String,
}

/// When a token that is made now is good no longer, milliseconds since 1970.
/// # Errors
/// So long is none.
pub fn expires_ms(expires_in_s: Option<u64>) -> Result<Option<u64>, Problem> {
    if expires_in_s.is_some_and(|life| !(1..=LIFE_S_MAX).contains(&life)) {
        return Err(Problem::refused("expires_in_s is 1 to 315360000"));
    }
    Ok(expires_in_s.map(|life| now_ms() + life * 1_000))
}

pub async fn create(app: Data<App>, body: Json<NewToken>) -> Result<HttpResponse, Problem> {
    let NewToken { name, role, expires_in_s } = body.into_inner();
    let expires_ms = expires_ms(expires_in_s)?;
    let token = auth::mint_plain_token("admin").map_err(|_| Problem::fault("no randomness"))?;
    let command =
        MetaCommand::CreateApiToken { token: token.hash(), name: name.clone(), role: role.into(), expires_ms };
    propose(&app, command).await?;
    Ok(HttpResponse::Created().json(MadeToken { name, role, token: token.expose().to_owned() }))
}

/// A token without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenView {
    pub name: String,
    pub role: RoleName,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    pub expires_ms: Option<u64>,
    pub expired: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Tokens {
    pub tokens: Vec<TokenView>,
}

pub async fn list(app: Data<App>) -> Answer<Tokens> {
    let now_ms = now_ms();
    let mut tokens: Vec<TokenView> = read_meta(&app, |state| {
        let view = |row: &cluster::meta::ApiTokenRow| TokenView {
            name: row.name.clone(),
            role: row.role.into(),
            created_ms: row.created_ms,
            expires_ms: row.expires_ms,
            expired: row.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms),
        };
        state.api_tokens.values().map(view).collect()
    })?;
    tokens.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Json(Tokens { tokens }))
}

pub async fn revoke(app: Data<App>, name: Path<String>) -> Result<HttpResponse, Problem> {
    let name = name.into_inner();
    if !read_meta(&app, |state| state.api_tokens.values().any(|row| row.name == name))? {
        return Err(Problem::not_found("no such token"));
    }
    propose(&app, MetaCommand::RevokeApiToken { name }).await?;
    Ok(HttpResponse::NoContent().finish())
}
