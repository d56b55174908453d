//! Owns the admin API of one node. Does not own the state it shows. Invariant: nothing is answered without a bearer token.

use crate::auth;
use crate::run::App;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use proto::command::MetaCommand;
use proto::peer::MetaReply;
use serde_json::json;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a join token is good for.
const JOIN_TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);
/// Longest wait for the meta group.
const META_WITHIN: Duration = Duration::from_secs(10);
/// Longest body, in bytes.
const BODY_BYTES_MAX: usize = 4 << 10;

pub fn routes(config: &mut ServiceConfig) {
    let json = web::JsonConfig::default().limit(BODY_BYTES_MAX).error_handler(|error, _| {
        let response = problem(StatusCode::BAD_REQUEST, &error.to_string());
        actix_web::error::InternalError::from_response(error, response).into()
    });
    config
        .app_data(json)
        .route("/admin/v1/cluster", web::get().to(cluster))
        .route("/admin/v1/join-tokens", web::post().to(join_token))
        .route("/admin/v1/sites", web::post().to(add_site))
        .route("/admin/v1/agents", web::post().to(add_agent))
        .default_service(web::to(|| async { problem(StatusCode::NOT_FOUND, "no such path") }));
}

fn problem(status: StatusCode, detail: &str) -> HttpResponse {
    let title = status.canonical_reason().unwrap_or("error");
    HttpResponse::build(status)
        .content_type("application/problem+json")
        .body(json!({ "status": status.as_u16(), "title": title, "detail": detail }).to_string())
}

fn is_allowed(app: &App, request: &HttpRequest) -> bool {
    let given = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let Some(token) = given.and_then(|value| value.strip_prefix("Bearer ")) else { return false };
    let hash = auth::hash_token(token);
    let of_cluster = app.cluster.with_meta(|state| state.cluster.as_ref().map(|row| row.admin_token)).flatten();
    auth::same_hash(&hash, &app.local_token) | of_cluster.is_some_and(|known| auth::same_hash(&hash, &known))
}

fn denied() -> HttpResponse {
    problem(StatusCode::UNAUTHORIZED, "a valid bearer token is needed")
}

async fn cluster(app: Data<App>, request: HttpRequest) -> HttpResponse {
    if !is_allowed(&app, &request) {
        return denied();
    }
    let node = app.cluster.clone();
    let Some(status) = app.on_raft(async move { node.status() }).await else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "this node is stopping");
    };
    let nodes: Vec<_> = status
        .nodes
        .iter()
        .map(|node| {
            let address = &node.address;
            json!({ "node": node.node.to_string(), "peer": address.peer, "client": address.client, "admin": address.admin, "up": node.up })
        })
        .collect();
    let shards: Vec<_> = status
        .shards
        .iter()
        .map(|shard| {
            let replicas: Vec<_> = shard
                .replicas
                .iter()
                .map(|replica| {
                    json!({ "replica": replica.replica.to_string(), "node": replica.node.to_string(), "voter": replica.voter, "lag": replica.lag })
                })
                .collect();
            json!({
                "shard": shard.shard.to_string(),
                "leader": shard.leader.map(|node| node.to_string()),
                "epoch": shard.epoch,
                "applied": shard.applied,
                // As text: a JavaScript number holds 53 bits.
                "state_hash": shard.state_hash.map(|hash| format!("{hash:016x}")),
                "serving": shard.serving,
                "replicas": replicas,
            })
        })
        .collect();
    let body =
        json!({ "node": status.node.to_string(), "ready": app.cluster.is_ready(), "nodes": nodes, "shards": shards });
    HttpResponse::Ok().json(body)
}

async fn propose(app: &App, command: MetaCommand) -> Result<MetaReply, HttpResponse> {
    let node = app.cluster.clone();
    match app.on_raft(async move { node.meta_propose(command, META_WITHIN).await }).await {
        Some(MetaReply::Refused { reason }) => Err(problem(StatusCode::UNPROCESSABLE_ENTITY, &reason)),
        Some(MetaReply::Unknown | MetaReply::NotLeader { .. }) | None => {
            Err(problem(StatusCode::SERVICE_UNAVAILABLE, "the meta group has no leader just now, try again"))
        }
        Some(reply) => Ok(reply),
    }
}

async fn join_token(app: Data<App>, request: HttpRequest) -> HttpResponse {
    if !is_allowed(&app, &request) {
        return denied();
    }
    let Ok(token) = auth::mint_plain_token("join") else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "no randomness");
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let expires_ms = (now + JOIN_TOKEN_LIFE).as_millis() as u64;
    match propose(&app, MetaCommand::CreateJoinToken { token: token.hash(), expires_ms }).await {
        Ok(_) => HttpResponse::Ok().json(json!({ "token": token.expose(), "expires_in_s": JOIN_TOKEN_LIFE.as_secs() })),
        Err(refused) => refused,
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSite {
    name: String,
}

async fn add_site(app: Data<App>, request: HttpRequest, site: Json<NewSite>) -> HttpResponse {
    if !is_allowed(&app, &request) {
        return denied();
    }
    match propose(&app, MetaCommand::AddSite { name: site.into_inner().name }).await {
        Ok(MetaReply::Site { site }) => HttpResponse::Ok().json(json!({ "site": site.to_string() })),
        Ok(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "unexpected answer"),
        Err(refused) => refused,
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAgent {
    site: String,
    name: String,
    password: String,
}

async fn add_agent(app: Data<App>, request: HttpRequest, agent: Json<NewAgent>) -> HttpResponse {
    if !is_allowed(&app, &request) {
        return denied();
    }
    let NewAgent { site, name, password } = agent.into_inner();
    if !(auth::PASSWORD_BYTES_MIN..=auth::PASSWORD_BYTES_MAX).contains(&password.len()) {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "a password has 8 to 1024 bytes");
    }
    let hashed = actix_web::web::block(move || auth::hash_password(&password)).await;
    let Ok(Ok(password)) = hashed else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "the password could not be hashed");
    };
    match propose(&app, MetaCommand::AddAgent { site, name, password }).await {
        Ok(MetaReply::Agent { agent }) => HttpResponse::Ok().json(json!({ "agent": agent.to_string() })),
        Ok(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "unexpected answer"),
        Err(refused) => refused,
    }
}
