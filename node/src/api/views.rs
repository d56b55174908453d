//! Owns saved views: what people look for again and again, under a name. Does not look: whoever opens a view searches with it. Invariant: an
//! agent's own are seen and changed by nobody else.

use super::access::{Caller, Who};
use super::search::Filters;
use super::shelf;
use crate::admin::Answer;
use crate::admin::problem::Problem;
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Json, Path, Query, ReqData};
use proto::command::AgentRole;
use proto::ids::AgentId;
use proto::shelf::ItemKind;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// As it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    filters: Filters,
    agent: Option<AgentId>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ViewView {
    pub name: String,
    pub filters: Filters,
    /// The caller's own.
    pub mine: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Views {
    /// Ascending by name, the caller's own first.
    pub views: Vec<ViewView>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ViewBody {
    /// As `GET /v1/search` takes them.
    pub filters: Filters,
    /// For the caller only.
    #[serde(default)]
    pub mine: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct WhoseQuery {
    /// The caller's own.
    #[param(nullable = false)]
    mine: Option<bool>,
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfView {
    name: String,
}

fn agent_of(caller: &Caller) -> Option<AgentId> {
    match caller.who {
        Who::Agent { agent, .. } => Some(agent),
        Who::Key { .. } => None,
    }
}

/// The name under which it is kept, if the caller may change it.
fn name_for(caller: &Caller, name: &str, mine: bool) -> Result<String, Problem> {
    let name = shelf::checked_name(name)?;
    match (mine, agent_of(caller)) {
        (true, None) => Err(Problem::refused("a key has none of its own")),
        (true, Some(agent)) => Ok(format!("{agent}/{name}")),
        (false, _) if caller.role() < AgentRole::Supervisor => {
            let detail = "only supervisors change what others use, too: say mine";
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
        (false, _) => Ok(format!("/{name}")),
    }
}

pub async fn list(app: Data<App>, caller: ReqData<Caller>) -> Answer<Views> {
    let all: Vec<(String, Kept)> = shelf::all(&app, caller.site, ItemKind::View).await?;
    let me = agent_of(&caller);
    let may = |(_, kept): &(String, Kept)| kept.agent.is_none() || kept.agent == me;
    let view = |(name, Kept { filters, agent }): (String, Kept)| ViewView {
        name: name.rsplit('/').next().unwrap_or_default().to_owned(),
        filters,
        mine: agent.is_some(),
    };
    let mut views: Vec<ViewView> = all.into_iter().filter(may).map(view).collect();
    views.sort_by(|one, other| (!one.mine, &one.name).cmp(&(!other.mine, &other.name)));
    Ok(Json(Views { views }))
}

pub async fn set(app: Data<App>, caller: ReqData<Caller>, of: Path<OfView>, body: Json<ViewBody>) -> Answer<ViewView> {
    let ViewBody { filters, mine } = body.into_inner();
    let name = name_for(&caller, &of.name, mine)?;
    // What a search would refuse is refused now.
    let asked = filters.ask(&app, caller.site).await;
    asked.map_err(|problem| if problem.status == 400 { Problem::refused(problem.detail) } else { problem })?;
    let kept = Kept { filters, agent: agent_of(&caller).filter(|_| mine) };
    shelf::put(&app, caller.site, ItemKind::View, name, Some(&kept)).await?;
    Ok(Json(ViewView { name: of.name.clone(), filters: kept.filters, mine }))
}

/// Also right when there is none.
pub async fn remove(
    app: Data<App>,
    caller: ReqData<Caller>,
    of: Path<OfView>,
    query: Query<WhoseQuery>,
) -> Result<HttpResponse, Problem> {
    let name = name_for(&caller, &of.name, query.mine.unwrap_or(false))?;
    shelf::put::<Kept>(&app, caller.site, ItemKind::View, name, None).await?;
    Ok(HttpResponse::NoContent().finish())
}
