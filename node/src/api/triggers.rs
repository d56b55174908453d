//! Owns triggers as a site's people see and set them, and how often they spoke and were answered. Does not judge them: nodes do, where
//! visitors are (`crate::triggers`). Invariant: what a node could not read is not kept.

use super::shelf;
use crate::admin::problem::Problem;
use crate::admin::{Answer, Tenant};
use crate::run::App;
use crate::triggers::Rule;
use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path};
use chat::limits::TRIGGERS_MAX;
use proto::shelf::ItemKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct TriggerView {
    pub name: String,
    #[serde(flatten)]
    pub rule: Rule,
}

/// A trigger, and what came of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountedTrigger {
    #[serde(flatten)]
    pub trigger: TriggerView,
    /// To how many visitors it spoke, each time counted.
    pub spoken: u64,
    /// How many of them wrote within a day, and nothing else was said to them before.
    pub answered: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TriggersView {
    /// By name.
    pub triggers: Vec<CountedTrigger>,
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfTrigger {
    name: String,
}

pub async fn list(app: Data<App>, Tenant(site): Tenant) -> Answer<TriggersView> {
    let all: Vec<(String, Rule)> = shelf::all(&app, site, ItemKind::Trigger).await?;
    let counts: Vec<(String, (u64, u64))> = shelf::all(&app, site, ItemKind::TriggerCount).await?;
    let counts: BTreeMap<String, (u64, u64)> = counts.into_iter().collect();
    let view = |(name, rule): (String, Rule)| {
        let (spoken, answered) = counts.get(&name).copied().unwrap_or_default();
        CountedTrigger { trigger: TriggerView { name, rule }, spoken, answered }
    };
    Ok(Json(TriggersView { triggers: all.into_iter().map(view).collect() }))
}

pub async fn set(app: Data<App>, Tenant(site): Tenant, of: Path<OfTrigger>, body: Json<Rule>) -> Answer<TriggerView> {
    let (name, rule) = (shelf::checked_name(&of.name)?.to_owned(), body.into_inner());
    if let Some(fault) = rule.fault() {
        return Err(Problem::refused(fault));
    }
    // Two who add the last one at once may end up with one more: nothing breaks by it.
    let all: Vec<(String, Rule)> = shelf::all(&app, site, ItemKind::Trigger).await?;
    if all.iter().filter(|(known, _)| *known != name).count() >= TRIGGERS_MAX {
        return Err(Problem::refused("a site has at most 100 triggers"));
    }
    shelf::put(&app, site, ItemKind::Trigger, name.clone(), Some(&rule)).await?;
    Ok(Json(TriggerView { name, rule }))
}

/// Also right when there is none. Its counts go with it.
pub async fn remove(app: Data<App>, Tenant(site): Tenant, of: Path<OfTrigger>) -> Result<HttpResponse, Problem> {
    let name = shelf::checked_name(&of.name)?.to_owned();
    shelf::put::<Rule>(&app, site, ItemKind::Trigger, name.clone(), None).await?;
    shelf::put::<(u64, u64)>(&app, site, ItemKind::TriggerCount, name, None).await?;
    Ok(HttpResponse::NoContent().finish())
}
