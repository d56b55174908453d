//! Owns canned replies: texts under a shortcut, of the site, of a team or of one agent. Does not send them. Invariant: an agent's own are
//! seen and changed by nobody else.

use super::access::{Caller, Who};
use super::conversations::own;
use super::{shelf, variables};
use crate::admin::problem::Problem;
use crate::admin::sessions::SessionView;
use crate::admin::{Answer, read_meta};
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query, ReqData};
use proto::command::AgentRole;
use proto::ids::{AgentId, TeamId};
use proto::shelf::ItemKind;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Longest text, in bytes.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// As it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    text: String,
    team: Option<TeamId>,
    agent: Option<AgentId>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct CannedView {
    /// What an agent types behind a slash.
    pub shortcut: String,
    pub text: String,
    /// For this team; null: for all, or the caller's own.
    #[schema(value_type = Option<String>)]
    pub team: Option<TeamId>,
    /// The caller's own.
    pub mine: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct CannedReplies {
    /// Ascending by shortcut; the caller's own first, then those of teams, then those for all.
    pub canned: Vec<CannedView>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CannedBody {
    /// With variables: `{{visitor.NAME}}` of what is known of the visitor, `{{agent.name}}`, `{{site}}`; `{{visitor.name|you}}` with what
    /// stands there when it is not known.
    #[schema(min_length = 1, max_length = 8192)]
    pub text: String,
    /// For this team only.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "t2")]
    pub team: Option<TeamId>,
    /// For the caller only.
    #[serde(default)]
    pub mine: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct WhoseQuery {
    /// That of this team.
    #[param(pattern = "^t[1-9][0-9]{0,8}$", nullable = false)]
    team: Option<String>,
    /// The caller's own.
    #[param(nullable = false)]
    mine: Option<bool>,
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfShortcut {
    shortcut: String,
}

fn agent_of(caller: &Caller) -> Option<AgentId> {
    match caller.who {
        Who::Agent { agent, .. } => Some(agent),
        Who::Key { .. } => None,
    }
}

/// The name under which it is kept, if the caller may change it.
fn name_for(caller: &Caller, shortcut: &str, team: Option<TeamId>, mine: bool) -> Result<String, Problem> {
    let shortcut = shelf::checked_name(shortcut)?;
    match (mine, team, agent_of(caller)) {
        (true, Some(_), _) => Err(Problem::bad_request("team or mine, not both")),
        (true, None, None) => Err(Problem::refused("a key has none of its own")),
        (true, None, Some(agent)) => Ok(format!("{agent}/{shortcut}")),
        _ if caller.role() < AgentRole::Supervisor => {
            let detail = "only supervisors change what others use, too: say mine";
            Err(Problem::new(actix_web::http::StatusCode::FORBIDDEN, detail))
        }
        (false, Some(team), _) => Ok(format!("{team}/{shortcut}")),
        (false, None, _) => Ok(format!("/{shortcut}")),
    }
}

/// Those that the caller may see: shortcut and what is kept, the caller's own first.
async fn seen(app: &App, caller: &Caller) -> Result<Vec<(String, Kept)>, Problem> {
    let all: Vec<(String, Kept)> = shelf::all(app, caller.site, ItemKind::Canned).await?;
    let me = agent_of(caller);
    let may = |kept: &Kept| kept.agent.is_none() || kept.agent == me;
    let shortcut = |name: String| name.rsplit('/').next().unwrap_or_default().to_owned();
    let mut seen: Vec<(String, Kept)> =
        all.into_iter().filter(|(_, kept)| may(kept)).map(|(name, kept)| (shortcut(name), kept)).collect();
    seen.sort_by_key(|(shortcut, kept)| (shortcut.clone(), kept.agent.is_none(), kept.team.is_none()));
    Ok(seen)
}

pub async fn list(app: Data<App>, caller: ReqData<Caller>) -> Answer<CannedReplies> {
    let view = |(shortcut, Kept { text, team, agent }): (String, Kept)| CannedView {
        shortcut,
        text,
        team,
        mine: agent.is_some(),
    };
    Ok(Json(CannedReplies { canned: seen(&app, &caller).await?.into_iter().map(view).collect() }))
}

pub async fn set(
    app: Data<App>,
    caller: ReqData<Caller>,
    of: Path<OfShortcut>,
    body: Json<CannedBody>,
) -> Answer<CannedView> {
    let CannedBody { text, team, mine } = body.into_inner();
    let name = name_for(&caller, &of.shortcut, team, mine)?;
    if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(Problem::refused("a text has 1 to 8192 bytes"));
    }
    let agent = agent_of(&caller).filter(|_| mine);
    let kept = Kept { text, team, agent };
    shelf::put(&app, caller.site, ItemKind::Canned, name, Some(&kept)).await?;
    Ok(Json(CannedView { shortcut: of.shortcut.clone(), text: kept.text, team, mine }))
}

/// Also right when there is none.
pub async fn remove(
    app: Data<App>,
    caller: ReqData<Caller>,
    of: Path<OfShortcut>,
    query: Query<WhoseQuery>,
) -> Result<HttpResponse, Problem> {
    let team = crate::admin::accounts::id_of::<TeamId>("team", query.team.as_deref())?;
    let name = name_for(&caller, &of.shortcut, team, query.mine.unwrap_or(false))?;
    shelf::put::<Kept>(&app, caller.site, ItemKind::Canned, name, None).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Filled {
    /// Ready to be sent.
    pub text: String,
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfCannedIn {
    session: String,
    shortcut: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TeamQuery {
    /// That of this team, if it has one.
    #[param(pattern = "^t[1-9][0-9]{0,8}$", nullable = false)]
    team: Option<String>,
}

/// The text of a shortcut for a session: the caller's own comes before the named team's, and that before the one for all.
pub async fn filled(
    app: Data<App>,
    caller: ReqData<Caller>,
    path: Path<OfCannedIn>,
    query: Query<TeamQuery>,
) -> Answer<Filled> {
    let team = crate::admin::accounts::id_of::<TeamId>("team", query.team.as_deref())?;
    let view = own(&app, caller.site, &path.session).await?;
    let is_it =
        |(shortcut, kept): &(String, Kept)| *shortcut == path.shortcut && (kept.team.is_none() || kept.team == team);
    let found = seen(&app, &caller).await?.into_iter().find(is_it);
    let (_, kept) = found.ok_or_else(|| Problem::not_found("no such canned reply"))?;
    Ok(Json(Filled { text: fill(&app, &caller, &view, &kept.text)? }))
}

/// Fills a text's variables with what is known of a session and its caller.
/// # Errors
/// Meta cannot be read.
pub fn fill(app: &App, caller: &Caller, view: &SessionView, text: &str) -> Result<String, Problem> {
    let (site, agent) = read_meta(app, |state| {
        let agent = agent_of(caller).and_then(|agent| state.agents.get(&agent));
        (state.sites.get(&caller.site).map(|row| row.name.clone()), agent.map(|row| row.name.clone()))
    })?;
    let value = |name: &str| match name {
        "site" => site.clone(),
        "agent.name" => agent.clone(),
        _ => {
            let fact = name.strip_prefix("visitor.")?;
            let known = view.facts.iter().find(|known| known.name == fact).map(|known| known.value.clone());
            view.attributes.visitor.get(fact).cloned().or(known)
        }
    };
    Ok(variables::fill(text, value))
}
