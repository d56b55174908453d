//! Owns the routes about what the nodes run: versions and certificates. Does not decide when either changes.
//! Invariant: a version is put in force only when every node speaks it.

use super::problem::Problem;
use super::{Answer, META_WITHIN};
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::web::{Data, Json};
use proto::ids::{NodeId, ShardId};
use proto::peer::MetaReply;
use serde::Serialize;
use utoipa::ToSchema;

/// Versions that the build of a node speaks; null: it has not said yet.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeVersions {
    #[schema(value_type = String, example = "n1")]
    pub node: NodeId,
    pub min: Option<u16>,
    pub max: Option<u16>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ShardVersion {
    #[schema(value_type = String, example = "g1")]
    pub shard: ShardId,
    pub version: Option<u16>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct UpgradeView {
    /// In force.
    pub version: Option<u16>,
    /// Could be put in force.
    pub next: Option<u16>,
    pub nodes: Vec<NodeVersions>,
    pub shards: Vec<ShardVersion>,
}

/// What is in force, what each node speaks, and what could be put in force.
pub async fn show(app: Data<App>) -> Answer<UpgradeView> {
    let node = app.cluster.clone();
    let status = app.on_raft(async move { node.upgrade_status() }).await;
    let status = status.ok_or_else(|| Problem::unavailable("this node is stopping"))?;
    let nodes = status.nodes.into_iter().map(|(node, versions)| NodeVersions {
        node,
        min: versions.map(|one| one.min),
        max: versions.map(|one| one.max),
    });
    let nodes = nodes.collect();
    let shards = status.shards.into_iter().map(|(shard, version)| ShardVersion { shard, version: version.into() });
    Ok(Json(UpgradeView { version: status.version.into(), next: status.next, nodes, shards: shards.collect() }))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Finalized {
    /// In force now.
    pub version: Option<u16>,
}

/// Puts the next version in force.
pub async fn finalize(app: Data<App>) -> Answer<Finalized> {
    let node = app.cluster.clone();
    done(app.on_raft(async move { node.finalize(META_WITHIN).await }).await)?;
    Ok(Json(Finalized { version: app.cluster.version().into() }))
}

/// A certificate authority of the cluster.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuthorityView {
    pub authority: u32,
    /// Hash of its key, as it stands in join tokens.
    pub pin: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Authorities {
    pub authorities: Vec<AuthorityView>,
}

/// Draws a new authority; every node gets a new certificate by itself.
pub async fn renew_certificates(app: Data<App>) -> Result<HttpResponse, Problem> {
    let node = app.cluster.clone();
    done(app.on_raft(async move { node.renew_certificates(META_WITHIN).await }).await)?;
    Ok(HttpResponse::Accepted().json(Authorities { authorities: authorities(&app) }))
}

/// Whose certificate a node has.
#[derive(Debug, Serialize, ToSchema)]
pub struct Certified {
    #[schema(value_type = String, example = "n1")]
    pub node: NodeId,
    /// The number of the authority; null: not known yet.
    pub authority: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Certificates {
    pub authorities: Vec<AuthorityView>,
    pub nodes: Vec<Certified>,
}

/// The authorities by number, and each node's certificate.
pub async fn certificates(app: Data<App>) -> Answer<Certificates> {
    let nodes = app.cluster.certificates().into_iter();
    let nodes = nodes.map(|(node, certified)| Certified { node, authority: certified }).collect();
    Ok(Json(Certificates { authorities: authorities(&app), nodes }))
}

fn authorities(app: &App) -> Vec<AuthorityView> {
    let known = app.cluster.authorities().into_iter();
    known.map(|(authority, pin)| AuthorityView { authority, pin: pin.to_string() }).collect()
}

fn done(reply: Option<MetaReply>) -> Result<(), Problem> {
    match reply {
        Some(MetaReply::Done) => Ok(()),
        Some(MetaReply::Refused { reason }) => Err(Problem::refused(reason)),
        _ => Err(Problem::unavailable("the meta group has no leader just now, try again")),
    }
}
