//! Owns sites and agents as administrators see them. Does not store them: meta does.
//! Invariant: a list is given page by page, in the order of ids.

use super::problem::Problem;
use super::{Answer, propose, read_meta, unexpected};
use crate::auth;
use crate::run::App;
use actix_web::web::{self, Data, Json, Path, Query};
use cluster::meta::AgentRow;
use proto::command::{AgentRole, MetaCommand};
use proto::ids::{AgentId, SiteId};
use proto::peer::MetaReply;
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use utoipa::{IntoParams, ToSchema};

/// Entries of one page unless asked otherwise.
const LIMIT_DEFAULT: usize = 100;
/// Most entries of one page.
pub const LIMIT_MAX: usize = 1_000;

/// How many entries a page shall have.
/// # Errors
/// 400.
pub fn limit(asked: Option<u32>) -> Result<usize, Problem> {
    match asked.map(|limit| limit as usize) {
        None => Ok(LIMIT_DEFAULT),
        Some(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::bad_request("limit is 1 to 1000")),
    }
}

/// The id after which a page begins.
/// # Errors
/// 400.
pub fn id_of<T: std::str::FromStr>(name: &str, asked: Option<&str>) -> Result<Option<T>, Problem> {
    asked
        .map(|text| text.parse().map_err(|_| Problem::bad_request(format!("{name} is not an id of that kind"))))
        .transpose()
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SitesQuery {
    /// The last site of the page before.
    #[param(pattern = "^site(0|[1-9][0-9]{0,9})$", nullable = false)]
    after: Option<String>,
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SiteView {
    #[schema(value_type = String, example = "site1")]
    pub site: SiteId,
    pub name: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Sites {
    pub sites: Vec<SiteView>,
    /// Ask again with this as `after`; null: there are no more.
    #[schema(value_type = Option<String>)]
    pub next: Option<SiteId>,
}

pub async fn sites(app: Data<App>, query: Query<SitesQuery>) -> Answer<Sites> {
    let limit = limit(query.limit)?;
    let after = id_of::<SiteId>("after", query.after.as_deref())?;
    let mut sites: Vec<SiteView> = read_meta(&app, |state| {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = state.sites.range((from, Bound::Unbounded)).take(limit + 1);
        page.map(|(site, row)| SiteView { site: *site, name: row.name.clone() }).collect()
    })?;
    let next = cut(&mut sites, limit).then(|| sites.last().map(|site| site.site)).flatten();
    Ok(Json(Sites { sites, next }))
}

/// Takes off what was read to see whether there is more.
fn cut<T>(page: &mut Vec<T>, limit: usize) -> bool {
    let more = page.len() > limit;
    page.truncate(limit);
    more
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSite {
    /// 1 to 64 letters, digits or -_.@
    #[schema(min_length = 1, max_length = 64, example = "shop")]
    pub name: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MadeSite {
    #[schema(value_type = String, example = "site2")]
    pub site: SiteId,
}

pub async fn add_site(app: Data<App>, body: Json<NewSite>) -> Answer<MadeSite> {
    match propose(&app, MetaCommand::AddSite { name: body.into_inner().name }).await? {
        MetaReply::Site { site } => Ok(Json(MadeSite { site })),
        _ => Err(unexpected()),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AgentsQuery {
    /// Only those of this site, by its name.
    #[param(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.@-]+$", nullable = false)]
    site: Option<String>,
    /// The last agent of the page before.
    #[param(pattern = "^a(0|[1-9][0-9]{0,18})$", nullable = false)]
    after: Option<String>,
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AgentView {
    #[schema(value_type = String, example = "a1")]
    pub agent: AgentId,
    #[schema(value_type = String, example = "site1")]
    pub site: SiteId,
    pub name: String,
    pub role: Role,
}

/// What an agent of a site may do; each may do what the ones before may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AgentRole)]
pub enum Role {
    /// Reads the site's conversations, and has none.
    Viewer,
    /// Has conversations.
    Agent,
    /// Follows and takes over the conversations of others.
    Supervisor,
    /// Sets the rules of the site.
    Admin,
    /// Says who is admin.
    Owner,
}

impl From<AgentRole> for Role {
    fn from(role: AgentRole) -> Role {
        match role {
            AgentRole::Viewer => Role::Viewer,
            AgentRole::Agent => Role::Agent,
            AgentRole::Supervisor => Role::Supervisor,
            AgentRole::Admin => Role::Admin,
            AgentRole::Owner => Role::Owner,
        }
    }
}

impl From<Role> for AgentRole {
    fn from(role: Role) -> AgentRole {
        match role {
            Role::Viewer => AgentRole::Viewer,
            Role::Agent => AgentRole::Agent,
            Role::Supervisor => AgentRole::Supervisor,
            Role::Admin => AgentRole::Admin,
            Role::Owner => AgentRole::Owner,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Agents {
    pub agents: Vec<AgentView>,
    /// Ask again with this as `after`; null: there are no more.
    #[schema(value_type = Option<String>)]
    pub next: Option<AgentId>,
}

impl AgentView {
    pub fn of(agent: AgentId, row: &AgentRow) -> AgentView {
        AgentView { agent, site: row.site, name: row.name.clone(), role: row.role.into() }
    }
}

pub async fn agents(app: Data<App>, query: Query<AgentsQuery>) -> Answer<Agents> {
    let site = match &query.site {
        None => None,
        Some(name) => Some(super::desk::site_of(&app, name)?),
    };
    agents_of(&app, site, query.after.as_deref(), query.limit)
}

/// A page of the agents of a site, or of all.
/// # Errors
/// What is asked for is no page, or meta cannot be read.
pub fn agents_of(app: &App, site: Option<SiteId>, after: Option<&str>, asked: Option<u32>) -> Answer<Agents> {
    let limit = limit(asked)?;
    let after = id_of::<AgentId>("after", after)?;
    let mut agents: Vec<AgentView> = read_meta(app, |state| {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = state.agents.range((from, Bound::Unbounded));
        let rows = rows.filter(|(_, row)| site.is_none_or(|site| row.site == site)).take(limit + 1);
        rows.map(|(agent, row)| AgentView::of(*agent, row)).collect()
    })?;
    let next = cut(&mut agents, limit).then(|| agents.last().map(|agent| agent.agent)).flatten();
    Ok(Json(Agents { agents, next }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAgent {
    /// The site's name.
    #[schema(min_length = 1, max_length = 64, example = "demo")]
    pub site: String,
    /// 1 to 64 letters, digits or -_.@
    #[schema(min_length = 1, max_length = 64, example = "ann")]
    pub name: String,
    /// 8 to 1024 bytes.
    #[schema(max_length = 1024, format = "password", write_only)]
    pub password: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MadeAgent {
    #[schema(value_type = String, example = "a1")]
    pub agent: AgentId,
}

pub async fn add_agent(app: Data<App>, body: Json<NewAgent>) -> Answer<MadeAgent> {
    let NewAgent { site, name, password } = body.into_inner();
    make_agent(&app, site, name, password).await
}

/// Adds an agent, or sets a new password.
/// # Errors
/// Name or password do not do.
pub async fn make_agent(app: &App, site: String, name: String, password: String) -> Answer<MadeAgent> {
    if !(auth::PASSWORD_BYTES_MIN..=auth::PASSWORD_BYTES_MAX).contains(&password.len()) {
        return Err(Problem::refused("a password has 8 to 1024 bytes"));
    }
    let hashed = web::block(move || auth::hash_password(&password)).await;
    let Ok(Ok(password)) = hashed else { return Err(Problem::fault("the password could not be hashed")) };
    match propose(app, MetaCommand::AddAgent { site, name, password }).await? {
        MetaReply::Agent { agent } => Ok(Json(MadeAgent { agent })),
        _ => Err(unexpected()),
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleBody {
    pub role: Role,
}

pub async fn set_role(app: Data<App>, agent: Path<String>, body: Json<RoleBody>) -> Answer<RoleBody> {
    let agent = id_of("agent", Some(&agent))?.ok_or_else(|| Problem::not_found("no such agent"))?;
    if !read_meta(&app, |state| state.agents.contains_key(&agent))? {
        return Err(Problem::not_found("no such agent"));
    }
    let role = body.role;
    propose(&app, MetaCommand::SetAgentRole { agent, role: role.into() }).await?;
    Ok(Json(RoleBody { role }))
}
