//! Owns the routes about what the nodes run: versions and certificates. Does not decide when either changes.
//! Invariant: a version is put in force only when every node speaks it.

use super::{META_WITHIN, problem};
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use proto::peer::MetaReply;
use serde_json::json;

/// What is in force, what each node speaks, and what could be put in force.
pub async fn show(app: Data<App>) -> HttpResponse {
    let node = app.cluster.clone();
    let Some(status) = app.on_raft(async move { node.upgrade_status() }).await else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "this node is stopping");
    };
    let nodes = status.nodes.iter().map(|(node, versions)| {
        json!({ "node": node.to_string(), "min": versions.map(|one| one.min), "max": versions.map(|one| one.max) })
    });
    let shards = status.shards.iter().map(|(shard, version)| json!({ "shard": shard.to_string(), "version": version }));
    HttpResponse::Ok().json(json!({
        "version": status.version,
        "next": status.next,
        "nodes": nodes.collect::<Vec<_>>(),
        "shards": shards.collect::<Vec<_>>(),
    }))
}

/// Puts the next version in force.
pub async fn finalize(app: Data<App>) -> HttpResponse {
    let node = app.cluster.clone();
    let reply = app.on_raft(async move { node.finalize(META_WITHIN).await }).await;
    answer(reply, || HttpResponse::Ok().json(json!({ "version": app.cluster.version() })))
}

/// Draws a new authority; every node gets a new certificate by itself.
pub async fn renew_certificates(app: Data<App>) -> HttpResponse {
    let node = app.cluster.clone();
    let reply = app.on_raft(async move { node.renew_certificates(META_WITHIN).await }).await;
    answer(reply, || HttpResponse::Accepted().json(json!({ "authorities": authorities(&app) })))
}

/// The authorities by number, and each node's certificate.
pub async fn certificates(app: Data<App>) -> HttpResponse {
    let nodes: Vec<_> = app
        .cluster
        .certificates()
        .into_iter()
        .map(|(node, certified)| json!({ "node": node.to_string(), "authority": certified }))
        .collect();
    HttpResponse::Ok().json(json!({ "authorities": authorities(&app), "nodes": nodes }))
}

fn authorities(app: &App) -> Vec<serde_json::Value> {
    let known = app.cluster.authorities();
    known.into_iter().map(|(number, pin)| json!({ "authority": number, "pin": pin.to_string() })).collect()
}

fn answer(reply: Option<MetaReply>, done: impl FnOnce() -> HttpResponse) -> HttpResponse {
    match reply {
        Some(MetaReply::Done) => done(),
        Some(MetaReply::Refused { reason }) => problem(StatusCode::UNPROCESSABLE_ENTITY, &reason),
        _ => problem(StatusCode::SERVICE_UNAVAILABLE, "the meta group has no leader just now, try again"),
    }
}
