//! Owns reading and writing what a site keeps for its people, as the types of this API. Does not keep it: the desk's shard does.
//! Invariant: what this build cannot read is left alone, and left out.

use super::conversations::done;
use crate::admin::problem::Problem;
use crate::admin::sessions::call_shard;
use crate::run::App;
use proto::command::{Command, Target};
use proto::ids::SiteId;
use proto::peer::{ShardCall, ShardReply};
use proto::shelf::{Item, ItemKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Everything of a kind, by name.
/// # Errors
/// The desk's shard has no leader.
pub async fn all<T: DeserializeOwned>(app: &App, site: SiteId, kind: ItemKind) -> Result<Vec<(String, T)>, Problem> {
    let shard = app.cluster.router.shard_of(Target::Desk(site));
    let ShardReply::Shelf(items) = done(call_shard(app, shard, ShardCall::Shelf { site, kind }).await)? else {
        return Err(crate::admin::unexpected());
    };
    let read = |Item { name, text }: Item| serde_json::from_str(&text).ok().map(|value| (name, value));
    Ok(items.into_iter().filter_map(read).collect())
}

/// Puts something on the shelf; `None`: takes it off.
/// # Errors
/// The site keeps as much as it may.
pub async fn put<T: Serialize>(
    app: &App,
    site: SiteId,
    kind: ItemKind,
    name: String,
    value: Option<&T>,
) -> Result<(), Problem> {
    let fault = |_| Problem::fault("it cannot be written");
    let text = value.map(serde_json::to_string).transpose().map_err(fault)?;
    if text.as_ref().is_some_and(|text| text.len() > chat::limits::SHELF_ITEM_BYTES_MAX) {
        return Err(Problem::refused("it has more than 16384 bytes in all"));
    }
    let shard = app.cluster.router.shard_of(Target::Desk(site));
    let command = Command::Shelve { site, kind, name, text };
    done(call_shard(app, shard, ShardCall::Propose(command)).await).map(drop)
}

/// A name as it stands in a path. Not dots alone: they are a step up there, and clients leave them out.
/// # Errors
/// It is none.
pub fn checked_name(name: &str) -> Result<&str, Problem> {
    let is_name = (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !name.chars().all(|c| c == '.');
    if is_name {
        Ok(name)
    } else {
        Err(Problem::refused("a name has 1 to 64 bytes of letters, digits or -_., and is not dots alone"))
    }
}
