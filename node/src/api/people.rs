//! Owns the people of a site as its administrators see them, and who somebody is. Does not store them: meta does. Invariant: nobody makes
//! anybody more than they are themselves.

use super::access::{Caller, Who};
use crate::admin::accounts::{AgentView, Agents, MadeAgent, Role, RoleBody, agents_of, id_of, make_agent};
use crate::admin::problem::Problem;
use crate::admin::{Answer, Tenant, catch_up, propose, read_meta};
use crate::run::App;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Json, Path, Query, ReqData};
use proto::command::{AgentRole, MetaCommand};
use proto::ids::AgentId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// The site's name.
    #[schema(example = "demo")]
    pub site: String,
    /// Null: it is a key.
    pub agent: Option<AgentView>,
    /// Null: it is an agent.
    pub key: Option<KeyOfMine>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct KeyOfMine {
    pub name: String,
    pub scopes: Vec<String>,
}

pub async fn me(app: Data<App>, caller: ReqData<Caller>) -> Answer<Me> {
    let Caller { site, who, .. } = caller.into_inner();
    let name = read_meta(&app, |state| state.sites.get(&site).map(|row| row.name.clone()))?.unwrap_or_default();
    let of = |agent: AgentId| read_meta(&app, |state| state.agents.get(&agent).map(|row| AgentView::of(agent, row)));
    Ok(Json(match who {
        Who::Agent { agent, .. } => Me { site: name, agent: of(agent)?, key: None },
        Who::Key { name: key, scopes } => Me { site: name, agent: None, key: Some(KeyOfMine { name: key, scopes }) },
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PeopleQuery {
    /// The last agent of the page before.
    #[param(pattern = "^a(0|[1-9][0-9]{0,18})$", nullable = false)]
    after: Option<String>,
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<u32>,
}

pub async fn agents(app: Data<App>, Tenant(site): Tenant, query: Query<PeopleQuery>) -> Answer<Agents> {
    agents_of(&app, Some(site), query.after.as_deref(), query.limit)
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPerson {
    /// 1 to 64 letters, digits or -_.@
    #[schema(min_length = 1, max_length = 64, example = "ann")]
    pub name: String,
    /// 8 to 1024 bytes.
    #[schema(max_length = 1024, format = "password", write_only)]
    pub password: String,
}

/// An agent of that name gets the password, if the caller is no less than that agent.
pub async fn add_agent(app: Data<App>, caller: ReqData<Caller>, body: Json<NewPerson>) -> Answer<MadeAgent> {
    let NewPerson { name, password } = body.into_inner();
    catch_up(&app).await;
    let known = read_meta(&app, |state| {
        let site = state.sites.get(&caller.site).map(|row| row.name.clone());
        (site, state.agent_by_name(caller.site, &name).map(|(_, row)| row.role))
    })?;
    let (Some(site), role) = known else { return Err(Problem::not_found("no such site")) };
    match (&caller.who, role) {
        (Who::Key { .. }, Some(_)) => {
            return Err(Problem::new(StatusCode::FORBIDDEN, "a key makes agents, and changes no password"));
        }
        (_, Some(role)) if role > caller.role() => return Err(above()),
        _ => {}
    }
    make_agent(&app, site, name, password).await
}

fn above() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "that agent has a higher role than yours")
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfAgent {
    agent: String,
}

/// Nobody gives or takes a role above their own.
pub async fn set_role(
    app: Data<App>,
    caller: ReqData<Caller>,
    of: Path<OfAgent>,
    body: Json<RoleBody>,
) -> Answer<RoleBody> {
    let no_agent = || Problem::not_found("no such agent");
    let agent: AgentId = id_of("agent", Some(&of.agent))?.ok_or_else(no_agent)?;
    catch_up(&app).await;
    let known = read_meta(&app, |state| state.agents.get(&agent).map(|row| (row.site, row.role)))?;
    let (_, before) = known.filter(|(site, _)| *site == caller.site).ok_or_else(no_agent)?;
    let role: Role = body.role;
    if before.max(AgentRole::from(role)) > caller.role() {
        return Err(above());
    }
    propose(&app, MetaCommand::SetAgentRole { agent, role: role.into() }).await?;
    Ok(Json(RoleBody { role }))
}
