//! Owns the admin API of one node. Does not own the state it shows. Invariant: nothing is answered without a bearer token.

mod backups;
mod upgrade;

use crate::auth;
use crate::gateway::retry_after;
use crate::run::App;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::JsonPayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::{self, Data, Json, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use base64ct::{Base64, Encoding};
use proto::command::{MetaCommand, NodeState};
use proto::ids::{NodeId, ReplicaId};
use proto::peer::MetaReply;
use serde_json::json;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a join token is good for.
const JOIN_TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);
/// Longest wait for the meta group.
const META_WITHIN: Duration = Duration::from_secs(10);
/// Longest body, in bytes.
const BODY_BYTES_MAX: usize = 4 << 10;
/// When to ask again after a 503, in milliseconds.
const RETRY_AFTER_MS: u64 = 500;

pub fn routes(config: &mut ServiceConfig) {
    let json = web::JsonConfig::default().limit(BODY_BYTES_MAX).error_handler(|error, _| {
        let response = body_problem(&error);
        actix_web::error::InternalError::from_response(error, response).into()
    });
    let routes = [
        ("/admin/v1/cluster", "GET", web::get().to(cluster)),
        ("/admin/v1/join-tokens", "POST", web::post().to(join_token)),
        ("/admin/v1/sites", "POST", web::post().to(add_site)),
        ("/admin/v1/agents", "POST", web::post().to(add_agent)),
        ("/admin/v1/nodes/{node}/state", "PUT", web::put().to(set_node_state)),
        ("/admin/v1/replicas/{replica}/move", "POST", web::post().to(move_replica)),
        ("/admin/v1/upgrade", "GET", web::get().to(upgrade::show)),
        ("/admin/v1/upgrade/finalize", "POST", web::post().to(upgrade::finalize)),
        ("/admin/v1/certificates", "GET", web::get().to(upgrade::certificates)),
        ("/admin/v1/certificates/renew", "POST", web::post().to(upgrade::renew_certificates)),
    ];
    let backups = web::resource("/admin/v1/backups").route(web::post().to(backups::create));
    config.service(backups.route(web::get().to(backups::last)).default_service(only("GET or POST")));
    for (path, method, route) in routes {
        config.service(web::resource(path).route(route).default_service(only(method)));
    }
    config.app_data(json).default_service(web::to(|| async { problem(StatusCode::NOT_FOUND, "no such path") }));
}

/// Stands before every route: who is not allowed does not even learn which paths there are.
/// # Errors
/// Those of the routes.
pub async fn guard<B: MessageBody>(
    app: Data<App>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    if !is_allowed(&app, request.request()) && !knows_password(&app, request.request()).await {
        return Ok(request.into_response(denied()).map_into_right_body());
    }
    next.call(request).await.map(ServiceResponse::map_into_left_body)
}

fn only(method: &'static str) -> actix_web::Route {
    web::to(move || async move {
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("use {method}"));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(method));
        response
    })
}

fn body_problem(error: &JsonPayloadError) -> HttpResponse {
    use JsonPayloadError as E;
    match error {
        E::ContentType => problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json"),
        E::Overflow { .. } | E::OverflowKnownLength { .. } => {
            problem(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body is larger than {BODY_BYTES_MAX} bytes"))
        }
        other => problem(StatusCode::BAD_REQUEST, &other.to_string()),
    }
}

fn problem(status: StatusCode, detail: &str) -> HttpResponse {
    let title = status.canonical_reason().unwrap_or("error");
    let mut body = json!({ "status": status.as_u16(), "title": title, "detail": detail });
    let mut response = HttpResponse::build(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        body["retry_after_ms"] = RETRY_AFTER_MS.into();
        response.insert_header(retry_after(RETRY_AFTER_MS));
    }
    response.content_type("application/problem+json").body(body.to_string())
}

fn is_allowed(app: &App, request: &HttpRequest) -> bool {
    let given = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let Some(token) = given.and_then(|value| value.strip_prefix("Bearer ")) else { return false };
    let hash = auth::hash_token(token);
    let of_cluster = app.cluster.with_meta(|state| state.cluster.as_ref().map(|row| row.admin_token)).flatten();
    auth::same_hash(&hash, &app.local_token) | of_cluster.is_some_and(|known| auth::same_hash(&hash, &known))
}

/// The password that the first start printed, as `Authorization: Basic` of the user `admin`: for browsers and curl.
async fn knows_password(app: &Data<App>, request: &HttpRequest) -> bool {
    let given = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let Some(encoded) = given.and_then(|value| value.strip_prefix("Basic ")) else { return false };
    let hash = auth::hash_token(encoded);
    if app.password_seen.lock().is_some_and(|seen| auth::same_hash(&seen, &hash)) {
        return true;
    }
    let Ok(text) = Base64::decode_vec(encoded).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) else {
        return false;
    };
    let Some(password) = text.strip_prefix("admin:").map(str::to_owned) else { return false };
    let Ok(attempt) = app.logins.admit("", "admin", Instant::now()) else { return false };
    let stored = app.cluster.with_meta(|state| state.cluster.as_ref().map(|row| row.admin_password.clone())).flatten();
    let verified = web::block(move || auth::verify_password(&password, stored.as_deref())).await;
    let is_right = matches!(verified, Ok(Ok(true)));
    if is_right {
        app.logins.clear(&attempt);
        *app.password_seen.lock() = Some(hash);
    }
    is_right
}

fn denied() -> HttpResponse {
    let mut response = problem(StatusCode::UNAUTHORIZED, "a valid bearer token is needed");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

async fn cluster(app: Data<App>) -> HttpResponse {
    let node = app.cluster.clone();
    let Some(status) = app.on_raft(async move { node.status() }).await else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "this node is stopping");
    };
    let nodes: Vec<_> = status
        .nodes
        .iter()
        .map(|node| {
            let address = &node.address;
            json!({ "node": node.node.to_string(), "peer": address.peer, "client": address.client, "admin": address.admin, "up": node.up, "state": state_name(node.state), "dead": node.dead, "zone": node.zone })
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
    let name = app.cluster.with_meta(|state| state.name()).flatten();
    let body = json!({ "node": status.node.to_string(), "name": name, "cluster": app.cluster.cluster, "ready": app.cluster.is_ready(), "nodes": nodes, "shards": shards });
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

async fn join_token(app: Data<App>) -> HttpResponse {
    let Ok(secret) = auth::mint_plain_token("join") else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "no randomness");
    };
    let token = auth::Secret::new(format!("{}.{}", secret.expose(), app.cluster.join_pins()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let expires_ms = (now + JOIN_TOKEN_LIFE).as_millis() as u64;
    match propose(&app, MetaCommand::CreateJoinToken { token: token.hash(), expires_ms }).await {
        Ok(_) => HttpResponse::Ok().json(json!({ "token": token.expose(), "expires_in_s": JOIN_TOKEN_LIFE.as_secs() })),
        Err(refused) => refused,
    }
}

fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Active => "active",
        NodeState::Draining => "draining",
        NodeState::Leaving => "leaving",
        NodeState::Removed => "removed",
    }
}

/// What an operator can want of a node; it is removed by itself once it has left.
#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    Active,
    Draining,
    Leaving,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeStateBody {
    state: Wanted,
}

async fn set_node_state(app: Data<App>, node: web::Path<String>, body: Json<NodeStateBody>) -> HttpResponse {
    let known = node.parse::<NodeId>().ok().filter(|node| app.cluster.wanted_of(*node).is_some());
    let Some(node) = known else { return problem(StatusCode::NOT_FOUND, "no such node") };
    let state = match body.state {
        Wanted::Active => NodeState::Active,
        Wanted::Draining => NodeState::Draining,
        Wanted::Leaving => NodeState::Leaving,
    };
    match propose(&app, MetaCommand::SetNodeState { node, state }).await {
        Ok(_) => HttpResponse::Ok().json(json!({ "node": node.to_string(), "state": state_name(state) })),
        Err(refused) => refused,
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    to: NodeId,
}

/// Answers with the id of the new replica; the old one goes once the new one votes.
async fn move_replica(app: Data<App>, replica: web::Path<String>, body: Json<Move>) -> HttpResponse {
    let Ok(replica) = replica.parse::<ReplicaId>() else {
        return problem(StatusCode::NOT_FOUND, "no such replica");
    };
    match propose(&app, MetaCommand::MoveReplica { replica, to: body.to }).await {
        Ok(MetaReply::Replica { replica }) => {
            HttpResponse::Accepted().json(json!({ "replica": replica.to_string(), "node": body.to.to_string() }))
        }
        Ok(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "unexpected answer"),
        Err(refused) => refused,
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSite {
    name: String,
}

async fn add_site(app: Data<App>, site: Json<NewSite>) -> HttpResponse {
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

async fn add_agent(app: Data<App>, agent: Json<NewAgent>) -> HttpResponse {
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
