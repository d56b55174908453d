//! Owns what a node logs, as administrators see and change it. Does not write the log. Invariant: a change lasts until the next
//! one, of the setting or of this, or the node's end.

use super::Answer;
use super::ask::{Ask, ask};
use super::nodes::known;
use crate::run::App;
use actix_web::web::{Data, Json, Path};
use proto::ids::NodeId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Longest filter, in bytes.
pub const FILTER_BYTES_MAX: usize = 256;

#[derive(Debug, Serialize, ToSchema)]
pub struct LogView {
    #[schema(value_type = String, example = "n1")]
    pub node: NodeId,
    /// `level` or `target=level`, with commas between.
    pub filter: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogBody {
    /// As for `everdesk start --log`; null: as at the node's start.
    #[schema(max_length = 256, example = "debug,openraft=error")]
    pub filter: Option<String>,
}

pub async fn get(app: Data<App>, node: Path<String>) -> Answer<LogView> {
    let node = known(&app, &node)?;
    Ok(Json(LogView { node, filter: ask(&app, node, &Ask::LogFilter).await? }))
}

pub async fn set(app: Data<App>, node: Path<String>, body: Json<LogBody>) -> Answer<LogView> {
    let node = known(&app, &node)?;
    let filter = body.into_inner().filter;
    if filter.as_ref().is_some_and(|filter| filter.len() > FILTER_BYTES_MAX) {
        return Err(super::Problem::refused("a filter has at most 256 bytes"));
    }
    Ok(Json(LogView { node, filter: ask(&app, node, &Ask::SetLogFilter { filter }).await? }))
}
