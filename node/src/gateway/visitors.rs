//! Owns new visitors, and what their page asks before: whether anybody is there. Does not know their sessions' rules.
//! Invariant: the token is answered only once the session is durable.

use super::{check_unused_body, refuse, refuse_with};
use crate::auth::{self, Bearer};
use crate::connection::error_of;
use crate::run::App;
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use cluster::node::ClusterNode;
use cluster::router::Router;
use proto::client::http::SiteState;
use proto::client::{ErrorCode, ErrorInfo};
use proto::command::{Command, Target};
use proto::ids::{SessionId, SiteId, VisitorId};
use proto::peer::{ShardCall, ShardReply};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for the meta group when the site is not known here.
const META_WITHIN: Duration = Duration::from_secs(3);

/// `POST /v1/sites/{site}/visitors`
pub async fn create(
    app: Data<App>,
    request: HttpRequest,
    site: Path<String>,
    body: Result<Bytes, actix_web::Error>,
) -> HttpResponse {
    if let Err(error) = check_unused_body(&request, body) {
        return refuse_with(error);
    }
    let cluster = app.cluster.clone();
    let name = site.into_inner();
    match app.on_raft(async move { new_visitor(&cluster, &name).await }).await {
        Some(Ok(body)) => {
            metrics::counter!("chat_gateway_visitors_total").increment(1);
            HttpResponse::Ok().json(body)
        }
        Some(Err(error)) => refuse_with(error),
        None => refuse(ErrorCode::Internal, "a fault of the node"),
    }
}

/// Makes a visitor of a site: ids and token.
/// # Errors
/// No such site, or the cluster cannot answer now.
pub async fn new_visitor(cluster: &ClusterNode, name: &str) -> Result<serde_json::Value, ErrorInfo<'static>> {
    open(&cluster.router, find_site(cluster, name).await?).await
}

/// `GET /v1/sites/{site}`
pub async fn site(app: Data<App>, site: Path<String>) -> HttpResponse {
    let (cluster, name) = (app.cluster.clone(), site.into_inner());
    let found = app.on_raft(async move {
        let site = find_site(&cluster, &name).await?;
        let shard = cluster.router.shard_of(Target::Desk(site));
        match cluster.router.call(shard, ShardCall::Hours { site }).await {
            ShardReply::Hours { closed } => {
                Ok(SiteState { open: closed.is_none(), opens: closed.filter(|opens| *opens > 0) })
            }
            other => Err(error_of(&other)),
        }
    });
    match found.await {
        Some(Ok(state)) => HttpResponse::Ok().json(state),
        Some(Err(error)) => refuse_with(error),
        None => refuse(ErrorCode::Internal, "a fault of the node"),
    }
}

async fn find_site(cluster: &ClusterNode, name: &str) -> Result<SiteId, ErrorInfo<'static>> {
    let find = |name: &str| cluster.with_meta(|state| state.site_by_name(name).map(|(id, _)| id)).flatten();
    let mut site = find(name);
    if site.is_none() {
        // It may be newer than this node's replica of meta.
        cluster.meta_catch_up(META_WITHIN).await;
        site = find(name);
    }
    site.ok_or_else(|| ErrorInfo::new(ErrorCode::NotFound, "no such site"))
}

async fn open(router: &Arc<Router>, site: SiteId) -> Result<serde_json::Value, ErrorInfo<'static>> {
    let fault = || ErrorInfo::new(ErrorCode::Internal, "a fault of the node");
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| fault())?;
    let visitor = VisitorId(u128::from_be_bytes(bytes));
    let session = session_of(site, visitor);
    let token = auth::mint_token(Bearer::Visitor { session }).map_err(|_| fault())?;
    let command = Command::OpenSession { session, site, visitor, token: token.hash() };
    let shard = router.shard_of(Target::Session(session));
    match router.call(shard, ShardCall::Propose(command)).await {
        ShardReply::Done => Ok(serde_json::json!({
            "visitor": visitor.to_string(),
            "session": session.to_string(),
            "token": token.expose(),
        })),
        refused => Err(error_of(&refused)),
    }
}

/// A visitor has one session for ever, named by site and visitor.
fn session_of(site: SiteId, visitor: VisitorId) -> SessionId {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&site.0.to_be_bytes());
    key[4..].copy_from_slice(&visitor.0.to_be_bytes());
    SessionId(xxhash_rust::xxh3::xxh3_128(&key))
}
