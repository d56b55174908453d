//! Owns what a site does not let through, as its administrators see it. Does not enforce it: every node does. See `crate::blocklist`.

use super::shelf;
use crate::admin::problem::Problem;
use crate::admin::{Answer, Tenant};
use crate::blocklist::Blocked;
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path};
use proto::shelf::ItemKind;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct BlockedView {
    pub name: String,
    #[serde(flatten)]
    pub blocked: Blocked,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct BlocklistView {
    pub blocked: Vec<BlockedView>,
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfBlocked {
    name: String,
}

pub async fn list(app: Data<App>, Tenant(site): Tenant) -> Answer<BlocklistView> {
    let all: Vec<(String, Blocked)> = shelf::all(&app, site, ItemKind::Blocked).await?;
    let blocked = all.into_iter().map(|(name, blocked)| BlockedView { name, blocked }).collect();
    Ok(Json(BlocklistView { blocked }))
}

pub async fn set(
    app: Data<App>,
    Tenant(site): Tenant,
    of: Path<OfBlocked>,
    body: Json<Blocked>,
) -> Answer<BlockedView> {
    let (name, blocked) = (shelf::checked_name(&of.name)?.to_owned(), body.into_inner());
    if let Some(fault) = blocked.fault() {
        return Err(Problem::refused(fault));
    }
    shelf::put(&app, site, ItemKind::Blocked, name.clone(), Some(&blocked)).await?;
    Ok(Json(BlockedView { name, blocked }))
}

/// Also right when there is none.
pub async fn remove(app: Data<App>, Tenant(site): Tenant, of: Path<OfBlocked>) -> Result<HttpResponse, Problem> {
    let name = shelf::checked_name(&of.name)?.to_owned();
    shelf::put::<Blocked>(&app, site, ItemKind::Blocked, name, None).await?;
    Ok(HttpResponse::NoContent().finish())
}
