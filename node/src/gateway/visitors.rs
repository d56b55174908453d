//! Owns new visitors, and what their page asks before: whether anybody is there. Does not know their sessions' rules.
//! Invariant: the token is answered only once the session is durable.

use super::{read_body, refuse, refuse_with};
use crate::admin::sessions::{call_shard, of};
use crate::auth::{self, Bearer, Secret};
use crate::backup::chunk::hex;
use crate::connection::error_of;
use crate::identity::{self, Given, Proven};
use crate::run::App;
use actix_web::http::header;
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use chat::limits::MERGED_MAX;
use cluster::node::ClusterNode;
use cluster::router::Router;
use cluster::shard::now_ms;
use proto::act::{Act, Whose};
use proto::client::http::SiteState;
use proto::client::{ErrorCode, ErrorInfo};
use proto::command::{Command, IdentityMode, Party, Target};
use proto::ids::{SessionId, SiteId, VisitorId};
use proto::peer::{Refused, ShardCall, ShardReply};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for the meta group when the site is not known here.
const META_WITHIN: Duration = Duration::from_secs(3);

/// What a page may say of a new visitor.
#[derive(Debug, Default, Deserialize)]
struct NewVisitor {
    /// Proves who they are.
    identity: Option<Given>,
    /// The token that the page had before: what was said under it is theirs, too.
    was: Option<String>,
}

/// `POST /v1/sites/{site}/visitors`
pub async fn create(
    app: Data<App>,
    request: HttpRequest,
    site: Path<String>,
    body: Result<Bytes, actix_web::Error>,
) -> HttpResponse {
    let NewVisitor { identity: given, was } = match read_body(&request, body) {
        Ok(body) => body,
        Err(error) => return refuse_with(error),
    };
    if was.is_some() && given.is_none() {
        return refuse(ErrorCode::BadRequest, "was: only with identity");
    }
    let name = site.into_inner();
    let made = match admit(&app, &request, &name, given).await {
        Ok((site, Some(proven))) => known_visitor(&app, site, proven, was.as_deref()).await,
        Ok((_, None)) => {
            let cluster = app.cluster.clone();
            app.on_raft(async move { new_visitor(&cluster, &name).await }).await.unwrap_or_else(|| Err(fault()))
        }
        Err(error) => Err(error),
    };
    match made {
        Ok(body) => {
            metrics::counter!("chat_gateway_visitors_total").increment(1);
            HttpResponse::Ok().json(body)
        }
        Err(error) => refuse_with(error),
    }
}

fn fault() -> ErrorInfo<'static> {
    ErrorInfo::new(ErrorCode::Internal, "a fault of the node")
}

/// As `prove`, of those who come from where the site takes visitors from.
async fn admit(
    app: &Data<App>,
    request: &HttpRequest,
    name: &str,
    given: Option<Given>,
) -> Result<(SiteId, Option<Proven>), ErrorInfo<'static>> {
    let address = crate::client_address::of(request, &app.trusted_proxies);
    let (site, proven) = prove(app, name, given).await?;
    let (hub, router) = (app.hub.clone(), app.cluster.router.clone());
    let list = app.on_raft(async move { hub.blocklists.ensure(&router, site).await }).await.unwrap_or_default();
    if address.is_some_and(|address| list.has_address(address)) {
        return Err(ErrorInfo::new(ErrorCode::Forbidden, "nothing is taken from there"));
    }
    Ok((site, proven))
}

/// Who the visitor is, if the page says so; a site may want that of everybody.
async fn prove(
    app: &Data<App>,
    name: &str,
    given: Option<Given>,
) -> Result<(SiteId, Option<Proven>), ErrorInfo<'static>> {
    let (cluster, named) = (app.cluster.clone(), name.to_owned());
    let found = app.on_raft(async move { find_site(&cluster, &named).await });
    let site = found.await.unwrap_or_else(|| Err(fault()))?;
    let read = |state: &cluster::meta::MetaState| {
        let mode = state.site_configs.get(&site).map(|row| row.identity).unwrap_or_default();
        (mode, state.identity_keys.get(&site).cloned().unwrap_or_default())
    };
    let (mode, row) = app.cluster.with_meta(read).unwrap_or_default();
    let refused = |why: String| ErrorInfo::new(ErrorCode::Unauthorized, format!("identity: {why}"));
    match given {
        Some(given) => {
            let proven = identity::verify(&row.keys, name, &given, now_ms()).map_err(|why| refused(why.to_string()))?;
            Ok((site, Some(proven)))
        }
        None if mode == IdentityMode::Required => {
            Err(refused("this site wants a proof of who its visitors are".into()))
        }
        None => Ok((site, None)),
    }
}

/// The session of a visitor who proved who they are: the same one on every device.
async fn known_visitor(
    app: &Data<App>,
    site: SiteId,
    proven: Proven,
    was: Option<&str>,
) -> Result<serde_json::Value, ErrorInfo<'static>> {
    let hash = auth::hash_token(&format!("{site} user {}", proven.user));
    let visitor = VisitorId(u128::from_be_bytes(hash[..16].try_into().expect("a hash is longer")));
    let session = session_of(site, visitor);
    let token = auth::mint_token(Bearer::Visitor { session }).map_err(|_| fault())?;
    let Proven { user, name, email, proof, until_ms } = proven;
    let command = Command::Identify { session, site, visitor, token: token.hash(), proof, until_ms };
    let shard = app.cluster.router.shard_of(Target::Session(session));
    match call_shard(app, shard, ShardCall::Propose(command)).await {
        ShardReply::Done => {}
        ShardReply::Refused(Refused::BadToken) => {
            return Err(ErrorInfo::new(ErrorCode::Unauthorized, "identity: the token was used before"));
        }
        refused => return Err(error_of(&refused)),
    }
    // What they are called is known to agents, and to routes. When it cannot be said just now, the next proof says it.
    let view = of(app, session).await.ok();
    let has_room = view.as_ref().is_some_and(|view| view.merged.len() < MERGED_MAX);
    let known = view.map(|view| view.attributes.visitor).unwrap_or_default();
    for (name, value) in [("user", Some(user)), ("name", name), ("email", email)] {
        if value.is_none() || known.get(name) == value.as_ref() {
            continue;
        }
        let (device, n, from) = ("identity".to_owned(), 0, Party::System);
        let cid = format!("{}{name}", hex(&proof[..16]));
        let act = Act::Attribute { whose: Whose::Visitor, name: name.to_owned(), value };
        call_shard(
            app,
            shard,
            ShardCall::Propose(Command::Act { session, site: Some(site), from, device, n, cid, act }),
        )
        .await;
    }
    let mut body = created(visitor, session, &token);
    if let Some(was) = was {
        body["merged"] = (has_room && merge(app, site, was, session).await?).into();
    }
    Ok(body)
}

/// Merges the session of that token into the visitor's own, if it is one of somebody who had not said who they are.
/// # Errors
/// It cannot be done just now.
async fn merge(app: &Data<App>, site: SiteId, was: &str, into: SessionId) -> Result<bool, ErrorInfo<'static>> {
    let Some((Bearer::Visitor { session }, token)) = auth::parse_token(was) else { return Ok(false) };
    match of(app, session).await {
        Ok(view) if view.site == site => {}
        Err(problem) if problem.status != 404 => return Err(error_of(&ShardReply::Unknown)),
        _ => return Ok(false),
    }
    let shard = app.cluster.router.shard_of(Target::Session(session));
    match call_shard(app, shard, ShardCall::Propose(Command::Merge { session, token, into })).await {
        ShardReply::Done => Ok(true),
        ShardReply::Refused(_) => Ok(false),
        other => Err(error_of(&other)),
    }
}

fn created(visitor: VisitorId, session: SessionId, token: &Secret) -> serde_json::Value {
    serde_json::json!({
        "visitor": visitor.to_string(),
        "session": session.to_string(),
        "token": token.expose(),
    })
}

/// `POST /v1/visitors/logout`: the visitor's token, in the header, is good no longer. Also right when it was not.
pub async fn logout(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).and_then(auth::parse_token);
    let Some((Bearer::Visitor { session }, hash)) = token else {
        return refuse(ErrorCode::Unauthorized, "the token is not a visitor's");
    };
    let shard = app.cluster.router.shard_of(Target::Session(session));
    match call_shard(&app, shard, ShardCall::Propose(Command::Logout { session, token: hash })).await {
        ShardReply::Done | ShardReply::Refused(Refused::UnknownSession) => HttpResponse::NoContent().finish(),
        other => refuse_with(error_of(&other)),
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
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| fault())?;
    let visitor = VisitorId(u128::from_be_bytes(bytes));
    let session = session_of(site, visitor);
    let token = auth::mint_token(Bearer::Visitor { session }).map_err(|_| fault())?;
    let command = Command::OpenSession { session, site, visitor, token: token.hash() };
    let shard = router.shard_of(Target::Session(session));
    match router.call(shard, ShardCall::Propose(command)).await {
        ShardReply::Done => Ok(created(visitor, session, &token)),
        refused => Err(error_of(&refused)),
    }
}

/// A visitor has one session for ever, named by site and visitor.
pub fn session_of(site: SiteId, visitor: VisitorId) -> SessionId {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&site.0.to_be_bytes());
    key[4..].copy_from_slice(&visitor.0.to_be_bytes());
    SessionId(xxhash_rust::xxh3::xxh3_128(&key))
}
