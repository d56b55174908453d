//! Owns writing the audit log: before an administrative act is done, and after it. Does not keep it: the chains of `chat` do. Invariant: no
//! administrative act is begun before the log has it on the disks of a quorum.

mod refusals;
pub mod verify;

pub use refusals::Refusals;

use crate::admin::Route;
use crate::admin::once;
use crate::admin::problem::{Problem, too_large};
use crate::run::App;
use actix_web::ResponseError;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data};
use chat::limits::AUDIT_TARGET_BYTES_MAX;
use cluster::node::ClusterNode;
use proto::audit::{AuditAct, AuditPhase, OPERATORS, hex};
use proto::command::{Command, Target, TokenHash};
use proto::ids::SiteId;
use proto::peer::{ShardCall, ShardReply};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// So long does an answer wait for the log to hear what became of the act; the log is told also after that.
const END_WITHIN: Duration = Duration::from_secs(2);
/// So long is it tried to tell the log what became of an act.
const END_OVER: Duration = Duration::from_secs(60);
/// Between two tries.
const END_EVERY: Duration = Duration::from_millis(200);
/// Ends and refusals that wait to be told at one node; of those beyond, the log does not hear.
const WAITING_MAX: usize = 256;

/// What one node needs to write the log.
pub struct Audit {
    refusals: Refusals,
    waiting: Arc<Semaphore>,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit { refusals: Refusals::new(Instant::now()), waiting: Arc::new(Semaphore::new(WAITING_MAX)) }
    }
}

/// Who asks, as the log says it, and in which chain.
#[derive(Debug, Clone)]
pub struct Actor {
    /// `OPERATORS`: theirs.
    pub chain: SiteId,
    pub who: String,
    pub role: &'static str,
}

impl Actor {
    /// Somebody without a credential. Which site they mean nobody has shown.
    pub fn unknown() -> Actor {
        Actor { chain: OPERATORS, who: "unknown".into(), role: "" }
    }
}

/// A number for an act.
/// # Errors
/// The system gives no random bytes.
pub fn draw_act() -> Result<u128, getrandom::Error> {
    let mut act = [0; 16];
    getrandom::fill(&mut act).map(|()| u128::from_le_bytes(act))
}

/// Where a request came from, as far as this node can tell.
pub fn address_text(address: Option<IpAddr>) -> String {
    address.map_or_else(String::new, |address| address.to_canonical().to_string())
}

/// A path and query as it is kept: what is too long ends in its hash.
fn bounded(target: &str) -> String {
    if target.len() <= AUDIT_TARGET_BYTES_MAX {
        return target.to_owned();
    }
    let hash = format!("~sha256:{}", hex(&Sha256::digest(target.as_bytes())));
    let mut end = AUDIT_TARGET_BYTES_MAX - hash.len();
    while !target.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{hash}", &target[..end])
}

fn act_of<A>(app: &App, actor: &Actor, route: &Route<A>, request: &ServiceRequest) -> Result<AuditAct, Problem> {
    Ok(AuditAct {
        act: draw_act().map_err(|_| Problem::fault("no randomness"))?,
        phase: AuditPhase::Begun,
        who: actor.who.clone(),
        role: actor.role.to_owned(),
        address: address_text(request.peer_addr().map(|address| address.ip())),
        node: app.cluster.me.to_string(),
        method: route.method.name().to_owned(),
        route: route.path.to_owned(),
        target: bounded(request.uri().path_and_query().map_or("", |path| path.as_str())),
        body: None,
    })
}

/// Passes a request on to its route. What is an administrative act is logged before, and what became of it after.
/// # Errors
/// Those of the routes.
pub async fn pass_on<A, B: MessageBody + 'static>(
    app: &Data<App>,
    route: &Route<A>,
    actor: Actor,
    bearer: &TokenHash,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if !route.is_audited() {
        return once::pass_on(app, route, bearer, request, next).await;
    }
    let (act, begun) = match begin(app, route, &actor, &mut request).await {
        Ok(begun) => begun,
        Err(problem) => return Ok(request.into_response(problem.error_response())),
    };
    // Boxed: the compiler does not follow futures that deep.
    let answered = Box::pin(once::pass_on(app, route, bearer, request, next)).await;
    let status = match &answered {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    let ended = AuditAct { phase: AuditPhase::Done { begun, status: status.as_u16() }, ..act };
    if let Some(told) = tell(app, actor.chain, ended) {
        // Whoever reads the log after the answer mostly finds it there.
        let _ = tokio::time::timeout(END_WITHIN, told).await;
    }
    answered
}

/// The act, and the seq of its first entry.
async fn begin<A>(
    app: &Data<App>,
    route: &Route<A>,
    actor: &Actor,
    request: &mut ServiceRequest,
) -> Result<(AuditAct, u64), Problem> {
    let mut act = act_of(app, actor, route, request)?;
    let Ok(body) = request.extract::<Bytes>().await else { return Err(too_large()) };
    // The hash of a body with a password would let whoever reads the log try passwords.
    act.body = (!body.is_empty() && !route.has_password).then(|| Sha256::digest(&body).into());
    let (_, mut payload) = actix_http::h1::Payload::create(true);
    payload.unread_data(body);
    request.set_payload(Payload::from(payload));
    let (cluster, chain, first) = (app.cluster.clone(), actor.chain, act.clone());
    match app.on_raft(async move { write(&cluster, chain, first).await }).await {
        Some(Ok(seq)) => Ok((act, seq)),
        Some(Err(Unwritten::Refused)) => Err(Problem::fault("the audit log does not take this")),
        Some(Err(Unwritten::Unavailable)) | None => {
            Err(Problem::unavailable("the audit log cannot be written just now, and nothing was done: try again"))
        }
    }
}

/// Why the log does not have an act. It may have it all the same, if it was `Unavailable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritten {
    Refused,
    Unavailable,
}

/// Writes an entry; its seq.
/// # Errors
/// The chain's shard cannot write now, or would never take it.
pub async fn write(cluster: &ClusterNode, chain: SiteId, act: AuditAct) -> Result<u64, Unwritten> {
    let shard = cluster.router.shard_of(Target::Desk(chain));
    let command = Command::Audit { site: chain, act: Box::new(act) };
    match cluster.router.call(shard, ShardCall::Propose(command)).await {
        ShardReply::Audited { seq } => Ok(seq),
        ShardReply::Refused(_) => Err(Unwritten::Refused),
        _ => Err(Unwritten::Unavailable),
    }
}

/// Writes an entry however often it takes, within bounds. `None`: too many wait.
fn tell(app: &Data<App>, chain: SiteId, act: AuditAct) -> Option<tokio::task::JoinHandle<()>> {
    let Ok(place) = app.audit.waiting.clone().try_acquire_owned() else {
        metrics::counter!("chat_audit_untold_total").increment(1);
        return None;
    };
    let cluster = app.cluster.clone();
    Some(app.runtime.spawn(async move {
        let until = Instant::now() + END_OVER;
        loop {
            match write(&cluster, chain, act.clone()).await {
                Ok(_) => break,
                Err(Unwritten::Unavailable) if Instant::now() < until => tokio::time::sleep(END_EVERY).await,
                Err(error) => {
                    tracing::warn!(%chain, ?error, "the audit log does not hear what became of an act");
                    metrics::counter!("chat_audit_untold_total").increment(1);
                    break;
                }
            }
        }
        drop(place);
    }))
}

/// Tells the log of a request that was refused for lack of rights, unless there were too many lately.
pub fn refused<A>(app: &Data<App>, route: &Route<A>, actor: &Actor, request: &ServiceRequest, status: u16) {
    if !app.audit.refusals.admit(actor.chain, Instant::now()) {
        metrics::counter!("chat_audit_refusals_passed_over_total").increment(1);
        return;
    }
    if let Ok(act) = act_of(app, actor, route, request) {
        // Nobody waits for it: the task ends by itself.
        drop(tell(app, actor.chain, AuditAct { phase: AuditPhase::Refused { status }, ..act }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_to_be_kept_is_still_told_apart() {
        assert_eq!(bounded("/v1/teams/t2?x=1"), "/v1/teams/t2?x=1");
        let long = |end: &str| format!("/v1/canned/{}{end}", "ü".repeat(AUDIT_TARGET_BYTES_MAX));
        let (one, other) = (bounded(&long("a")), bounded(&long("b")));
        assert!(one.len() <= AUDIT_TARGET_BYTES_MAX && one.len() > AUDIT_TARGET_BYTES_MAX - 2);
        assert!(one.starts_with("/v1/canned/üü") && one != other);
    }

    #[test]
    fn an_address_of_the_old_internet_is_written_in_one_way() {
        assert_eq!(address_text("::ffff:192.0.2.7".parse().ok()), "192.0.2.7");
        assert_eq!(address_text(None), "");
    }
}
